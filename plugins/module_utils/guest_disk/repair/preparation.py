# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out steps of a preparation in a disk, in the same appliance that looked what there is to do."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from collections.abc import Sequence

from ...dataclass import dataclass
from ...errors import CommandFailed, Unsupported
from .. import file_injection
from ..checks import linux_files
from ..checks.image_facts import Facts
from ..customize import context_program
from ..file_injection import Entry
from ..inspect import inspection, root_file_system
from ..open import appliance_install, guestfish
from ..open.guestfish import Session
from . import repair_steps
from .repair_steps import Empty, Link, Remove, Step, Write

CONTEXT, FILES = "context", "files"
# In the order in which they are done: files last, so that nothing clears them away.
STEPS = (CONTEXT, *repair_steps.STEPS, FILES)


@dataclass(frozen=True)
class Spec:
    """Says what is to be done.
    steps: the names of the steps, all if there are none.
    program: text of the context program, "" to do without.
    timezone: "" leaves it as it is.
    via, trusted: of files alone, see inject.inject()."""

    steps: tuple[str, ...] = ()
    program: str = ""
    timezone: str = ""
    files: tuple[Entry, ...] = ()
    via: str = "auto"
    trusted: bool = False

    def asks(self, step: str) -> bool:
        return not self.steps or step in self.steps


@dataclass(frozen=True)
class Outcome:
    """Says what was done. os: "" where nobody looked. done: steps that had something to do."""

    os: str
    done: tuple[Step, ...]


def prepare(disk: str, format: str, directory: str, spec: Spec, what: str) -> Outcome:
    """Do what is to be done in this disk, an overlay that the caller commits or throws away."""
    if _needs_no_libguestfs(spec, what):
        path = os.path.join(directory, disk)
        _way, put = file_injection.inject_and_report(path, format, spec.files, what, spec.via, spec.trusted)
        return Outcome("", tuple(_steps_of(put)))
    with guestfish.session(disk, format, directory, what) as talk:
        root = root_file_system.mount(talk, what, writable=True)
        if root.os != root_file_system.LINUX:
            return Outcome("Windows", _only_files(talk, root, spec, what))
        zone = spec.timezone or "UTC"
        facts = inspection.facts(talk, root, directory, what, zone, drivers=False)
        done = []
        programs = linux_files.context_programs(facts)
        # Ours is looked at all the same: it may be an older one.
        if spec.program and spec.asks(CONTEXT) and (not programs or linux_files.OURS in programs):
            done += _install_program(talk, directory, spec.program, what)
            # What the next steps leave to it is there now.
            facts = inspection.facts(talk, root, directory, what, zone, drivers=False)
        names = [name for name in repair_steps.STEPS if spec.asks(name) and (name != "timezone" or spec.timezone)]
        # None of them is not all of them.
        for step in _plan(talk, facts, names, spec, root) if names else ():
            for edit in step.edits:
                _apply(talk, edit, root, what)
            done.append(step)
        if spec.asks(FILES):
            done += _write_files(talk, spec.files, root, what)
        return Outcome(facts.name, tuple(done))


def _needs_no_libguestfs(spec: Spec, what: str) -> bool:
    """Return whether the steps are done without libguestfs. Raise Unsupported for steps that it alone can do."""
    way = file_injection.choose(spec.via, spec.trusted, what) if spec.via != "auto" else "guestfs"
    if way == "guestfs":
        without = spec.via == "auto" and spec.trusted and spec.steps == (FILES,)
        return without and not context_program.present("guestfish")
    if spec.steps != (FILES,):
        raise Unsupported(
            f"{what}: via {way}",
            "all steps but files are done by libguestfs, which sees the whole guest and keeps it from this host",
            "Set steps: [files], or leave via out",
        )
    return True


def _install_program(talk: Session, directory: str, program: str, what: str) -> list[Step]:
    context_program.write(directory, program)
    try:
        outcome = appliance_install.run_program(talk, directory)
    except CommandFailed as error:
        raise appliance_install.error_of_program(error, what) from error
    if not outcome.changed:
        return []
    after = f"nebula-context, sha256 {hashlib.sha256(program.encode()).hexdigest()}"
    return [Step(CONTEXT, (), "not there, or not as it is now", after)]


def _plan(talk: Session, facts: Facts, names: Sequence[str], spec: Spec, root: root_file_system.Root) -> Sequence[Step]:
    """Return the steps. No step removes files that are to be there and are: each run would write them again."""
    steps = repair_steps.plan(facts, names)
    entries = {entry.path: entry for entry in spec.files if spec.asks(FILES)}
    kept = [path for path in repair_steps.paths_reached(steps, list(entries)) if _is_there(talk, entries[path], root)]
    return repair_steps.plan(facts, names, kept) if kept else steps


def _apply(talk: Session, edit: repair_steps.Edit, root: root_file_system.Root, what: str) -> None:
    try:
        if isinstance(edit, Remove):
            _remove(talk, edit)
        elif isinstance(edit, Empty):
            _empty(talk, edit)
        elif isinstance(edit, Link):
            file_injection.make_directories(talk, posixpath.dirname(edit.path))
            talk.ask("rm-f", edit.path)
            talk.ask("ln-s", edit.target, edit.path)
        else:
            _write(talk, edit, root, what)
    except CommandFailed as error:
        path = edit.pattern if isinstance(edit, Remove) else edit.path
        raise CommandFailed(
            f"{what}: changing {path}", error.found, "See whether its file system is full or damaged"
        ) from error


def _remove(talk: Session, edit: Remove) -> None:
    for path in talk.paths(edit.pattern) if edit.many else [edit.pattern]:
        if posixpath.basename(path) != "lost+found" and not edit.spares(path):
            talk.ask("rm-rf", path)


def _empty(talk: Session, edit: Empty) -> None:
    """Truncate a file, which keeps its owner and mode. What is no file is removed: a named pipe would be waited for,
    and a link leads to what is somebody else's."""
    is_file = talk.ask("is-file", edit.path).strip() == "true"
    talk.ask("truncate" if is_file else "rm-rf", edit.path)


def _write(talk: Session, edit: Write, root: root_file_system.Root, what: str) -> None:
    data = edit.text.encode("utf-8", "surrogateescape")
    if talk.ask("is-file", edit.path).strip() == "true":
        # Into the file that is there: its owner, mode and label stay.
        with file_injection.memory_file(data) as source:
            talk.ask("upload", source, edit.path)
    else:
        file_injection.write(talk, [Entry(edit.path, data, edit.mode)], root, what)


def _only_files(talk: Session, root: root_file_system.Root, spec: Spec, what: str) -> tuple[Step, ...]:
    asked = [step for step in spec.steps if step != FILES]
    if asked:
        raise Unsupported(
            f"{what}: steps {', '.join(asked)}",
            "it holds Windows, into which only files are put here",
            "Leave steps out; see docs/windows.md for what is done in a running Windows",
        )
    return tuple(_write_files(talk, spec.files, root, what))


def _write_files(talk: Session, entries: Sequence[Entry], root: root_file_system.Root, what: str) -> list[Step]:
    file_injection.check(entries, what)
    missing = [entry for entry in entries if not _is_there(talk, entry, root)]
    if not missing:
        return []
    file_injection.write(talk, missing, root, what)
    return _steps_of(missing)


def _steps_of(put: Sequence[Entry]) -> list[Step]:
    # Without their hashes: a short word can be found by that.
    texts = [f"{e.path}: mode {e.mode:04o}, owner {e.uid}:{e.gid}, {len(e.content)} bytes" for e in put]
    return [Step(FILES, (), "not as specified", "\n".join(texts))] if put else []


def _is_there(talk: Session, entry: Entry, root: root_file_system.Root) -> bool:
    if talk.ask("is-file", entry.path).strip() != "true" or int(talk.ask("filesize", entry.path)) != len(entry.content):
        return False
    if root.os == root_file_system.LINUX:
        observed = dict(re.findall(r"^st_(mode|uid|gid): (\d+)$", talk.ask("lstatns", entry.path), re.MULTILINE))
        mode, uid, gid = (int(observed[name]) for name in ("mode", "uid", "gid"))
        if (mode & 0o7777, uid, gid) != (entry.mode, entry.uid, entry.gid):
            return False
    return talk.read("download", entry.path, "-", limit=len(entry.content) + guestfish.LIMIT) == entry.content
