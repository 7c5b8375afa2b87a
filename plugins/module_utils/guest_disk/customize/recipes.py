# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is added to an image to make another of it: packages, files, commands. All of it is done within an appliance, by
the system in the image; its kernel mounts the file systems, and not this host's."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import posixpath
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import field

from ...dataclass import dataclass
from ...errors import CommandFailed, NebulaError, TimedOut
from ...host import command, files
from ...model.disk import DiskFiles
from ...storage import image_files, qcow2_header
from ..open import guestfish
from . import outward

# Seconds for all of it; packages may come from afar, and an appliance may be emulated.
TIMEOUT = 3600.0
_BLOCK = 1 << 20
_PLACE = "/.nebula-recipe"
# What apk is told of given files. It would take unsigned packages of everything that the call brings, so this call has
# no repositories.
UNSIGNED = "--allow-untrusted --no-network --repositories-file /dev/null"
# In which way packages are installed, by what there is; "names" is 1 where some have to come from their repositories.
_INSTALL = """
set -e
cd {place}
export DEBIAN_FRONTEND=noninteractive
# Nothing is started: there is no running system.
policy=/usr/sbin/policy-rc.d
if [ -d /usr/sbin ] && [ ! -e $policy ]; then
    printf '#!/bin/sh\\nexit 101\\n' > $policy; chmod 0755 $policy; trap 'rm -f $policy' EXIT
fi
if command -v apt-get >/dev/null 2>&1; then
    [ {names} = 0 ] || apt-get -q -y update
    apt-get -q -y --no-install-recommends -o Dpkg::Options::=--force-confold install {packages}
elif command -v dpkg >/dev/null 2>&1 && [ {names} = 0 ]; then
    dpkg --force-confold -i {packages}
elif command -v dnf >/dev/null 2>&1; then
    dnf -q -y install {packages}
elif command -v yum >/dev/null 2>&1; then
    yum -q -y install {packages}
elif command -v zypper >/dev/null 2>&1; then
    zypper -q -n install --allow-unsigned-rpm {packages}
elif command -v apk >/dev/null 2>&1; then
    [ {names} = 0 ] || apk add {named}
    [ {given} = 0 ] || apk add {unsigned} {sent}
elif command -v rpm >/dev/null 2>&1 && [ {names} = 0 ]; then
    rpm -U {packages}
else
    echo 'it has no package manager that is known here (apt-get, dpkg, dnf, yum, zypper, apk, rpm)' >&2; exit 1
fi
"""


@dataclass(frozen=True)
class Addition:
    """A file for the image. path: in it. content, or that of the file src of this host. owner: user or user:group."""

    path: str
    content: bytes = b""
    src: str = ""
    mode: int = 0o644
    owner: str = "0:0"


@dataclass(frozen=True)
class Recipe:
    """packages: names, or paths of package files on this host. sent: package files as they came, path being a name."""

    packages: tuple[str, ...] = ()
    sent: tuple[Addition, ...] = ()
    files: tuple[Addition, ...] = ()
    commands: tuple[str, ...] = field(default=(), repr=False)

    def digest(self) -> str:
        """What tells it from other recipes: what it says, and what is in the files that it names."""
        identity = {
            "packages": [(name, _digest(name) if name.startswith("/") else "") for name in self.packages],
            "sent": [(each.path, _digest_of(each)) for each in self.sent],
            "files": [(each.path, _digest_of(each), each.mode, each.owner) for each in self.files],
            "commands": self.commands,
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _digest_of(addition: Addition) -> str:
    return _digest(addition.src) if addition.src else hashlib.sha256(addition.content).hexdigest()


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    with files.explained(path), qcow2_header.open_binary(path) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def add(recipe: Recipe, disk: str, format: str, what: str) -> None:
    """Do what the recipe says to the disk, which nobody else has open."""
    guestfish.require(what)
    # Of this disk QEMU reads the header, and the image may be one that a guest has written to.
    qcow2_header.refuse_strange(DiskFiles(disk, format), what)
    image_files.clear(disk)
    directory = disk + image_files.BESIDE
    with files.explained(directory):
        os.mkdir(directory, 0o700)
    try:
        lines = list(_script(recipe, directory))
        with outward.only(what) if fetches(recipe) else contextlib.nullcontext() as before:
            _run("\n".join(lines) + "\n", disk, format, directory, before)
    except CommandFailed as error:
        raise _explained(error, what) from error
    finally:
        image_files.clear(disk)


def fetches(recipe: Recipe) -> bool:
    """Whether the recipe needs a network, because a package comes from repositories that the image's system knows."""
    return any(not name.startswith("/") for name in recipe.packages)


def _script(recipe: Recipe, directory: str) -> Iterator[str]:
    """The words for guestfish; what is to be uploaded is put into the directory."""
    yield _line("-rm-rf", _PLACE)
    yield _line("mkdir", _PLACE)
    packages: list[str] = []
    there = [(name, name) for name in recipe.packages if name.startswith("/")]
    there += [(each.path, _put(directory, f"package{i}", each.content)) for i, each in enumerate(recipe.sent)]
    for number, (given, path) in enumerate(there):
        # Two of them may have the same name.
        name = f"{number}-{posixpath.basename(given)}"
        yield _line("upload", path, f"{_PLACE}/{name}")
        packages.append(f"./{name}")
    packages += [name for name in recipe.packages if not name.startswith("/")]
    if packages:
        yield from _program_of(directory, "install", _install(packages))
    for number, file in enumerate(recipe.files):
        local = file.src or _put(directory, f"file{number}", file.content)
        # What a link of the image leads to stays within the image.
        yield _line("mkdir-p", posixpath.dirname(file.path))
        yield _line("upload", local, file.path)
        user, _colon, group = file.owner.partition(":")
        if user.isdigit() and (group or user).isdigit():
            yield _line("chown", user, group or user, file.path)
        else:
            yield from _program_of(directory, f"owner{number}", f"chown {file.owner} {shlex.quote(file.path)}")
        # After its owner, as a change of that takes the bits for other users away.
        yield _line("chmod", f"0{file.mode:o}", file.path)
    for number, text in enumerate(recipe.commands):
        yield from _program_of(directory, f"command{number}", text)
    yield _line("rm-rf", _PLACE)
    yield "umount-all"
    yield "shutdown"


def _install(packages: Sequence[str]) -> str:
    """The script that installs them; those that begin with ./ are files."""
    sent = [package for package in packages if package.startswith("./")]
    named = [package for package in packages if package not in sent]
    return _INSTALL.format(
        place=_PLACE,
        names=int(bool(named)),
        given=int(bool(sent)),
        packages=" ".join(map(shlex.quote, packages)),
        named=" ".join(map(shlex.quote, named)),
        unsigned=UNSIGNED,
        sent=" ".join(map(shlex.quote, sent)),
    )


def _program_of(directory: str, name: str, text: str) -> Iterator[str]:
    """Words that run a script in the image: as a file, so that neither its length nor its quotes matter."""
    yield _line("upload", _put(directory, name, text.encode() + b"\n"), f"{_PLACE}/{name}")
    yield _line("sh", f"/bin/sh -e {_PLACE}/{name} </dev/null")


def _put(directory: str, name: str, content: bytes) -> str:
    path = os.path.join(directory, name)
    files.write_atomically(path, content, mode=0o600, sync=False)
    return path


def _line(*words: str) -> str:
    return " ".join([words[0], *(guestfish.quoted(word).decode() for word in words[1:])])


def _run(script: str, disk: str, format: str, directory: str, before: list[str] | None) -> None:
    if guestfish.may_have_kvm():
        try:
            # Alone, so that an appliance that does not come up is seen before anything is written.
            _session("run\n", disk, format, directory, guestfish.KVM_TIMEOUT, before)
        except (CommandFailed, TimedOut) as error:
            if not guestfish.is_broken(error):
                raise
            guestfish.emulate()
    network = [] if before is None else ["--network"]
    _session(script, disk, format, directory, TIMEOUT, before, *network, "-i")


def _session(
    script: str, disk: str, format: str, directory: str, timeout: float, before: list[str] | None, *options: str
) -> None:
    """before: the words that start it where it has a network; None: it has none."""
    with guestfish.started_by(disk, format, directory, before) as (words, env):
        done = command.run([*words, *options], timeout=timeout, input=script, cwd=directory, env=env, check=False)
    if done.returncode != 0:
        fault = guestfish.essence(done.stderr)
        raise CommandFailed("guestfish", fault or f"it ended with code {done.returncode}")


def _explained(error: CommandFailed, what: str) -> NebulaError:
    asked = f"{what}: adding packages and files"
    known = guestfish.explained(error, what)
    if "no operating system was found" in error.found:
        known = CommandFailed(asked, "no operating system was found in it", "Name an image of one")
    known.asked = asked
    return known


def local_files(recipe: Recipe) -> Sequence[str]:
    """The files of this host that the recipe names."""
    return [*(p for p in recipe.packages if p.startswith("/")), *(f.src for f in recipe.files if f.src)]
