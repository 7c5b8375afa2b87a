# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes our units of systemd, and keeps what was switched on of others' units for us."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import ForeignObject, InvalidValue
from .command import run
from .files import explained, make_directory, remove_file, sync_directory, write_atomically

RUNS = "/run/systemd/system"
PLACE = "/etc/systemd/system"
# Reading all units anew takes a busy host long.
TIMEOUT = 600.0
# States of `systemctl is-enabled` in which a unit starts with its host.
ENABLED = ("enabled", "alias", "static", "indirect", "generated")


def has_systemd() -> bool:
    return os.path.isdir(RUNS)


def quoted(word: str) -> str:
    """Return one word of a unit's setting, whatever it holds: no specifier or end of line comes of it."""
    if any(ord(character) < 32 or ord(character) == 127 for character in word):
        raise InvalidValue(f"path {word!r}", "it holds a control character", "Name a path that a unit can hold")
    for character, kept in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%")):
        word = word.replace(character, kept)
    return f'"{word}"'


def quoted_argument(word: str) -> str:
    """Return a word of a command as quoted() does; in commands, variables would be put in, too."""
    return quoted(word).replace("$", "$$")


def installed(name: str, text: str) -> bool:
    """Return whether our unit is there with this text, and starts with the host."""
    try:
        return Path(PLACE, name).read_text(encoding="utf-8") == text and os.path.lexists(_link(name))
    except (OSError, UnicodeDecodeError):
        return False


def install(name: str, text: str, mark: str) -> None:
    """Write the unit, and have it start with the host (it is not started now). Raise ForeignObject if there is another
    of that name.
    mark: its first line, which says whose it is."""
    path = os.path.join(PLACE, name)
    _refuse_foreign(path, mark)
    make_directory(PLACE, 0o755)
    write_atomically(path, text, mode=0o644)
    # Which has systemd read all units anew, too.
    run(["systemctl", "enable", name], timeout=TIMEOUT)
    sync_directory(os.path.dirname(_link(name)))


def remove(name: str, mark: str) -> None:
    path = os.path.join(PLACE, name)
    _refuse_foreign(path, mark)
    # Stopped, since a unit that has run stays "active" without its file.
    run(["systemctl", "disable", "--now", name], timeout=TIMEOUT, check=False)
    remove_file(_link(name))
    remove_file(path)
    _reload()
    # Else one that failed is listed for ever.
    run(["systemctl", "reset-failed", name], timeout=TIMEOUT, check=False)


def units_named(prefix: str) -> list[str]:
    """Return the units below PLACE whose names begin with the prefix."""
    try:
        return sorted(name for name in os.listdir(PLACE) if name.startswith(prefix) and name.endswith(".service"))
    except FileNotFoundError:
        return []


def start_with_host(names: Sequence[str]) -> bool:
    """Return whether any of these units starts with the host."""
    states = run(["systemctl", "is-enabled", *names], timeout=TIMEOUT, check=False).stdout.split()
    return any(state in ENABLED for state in states)


def enabled_links() -> set[str]:
    """Return the links that `systemctl enable` makes, and all that others made alike."""
    return {
        os.path.join(directory, name)
        for directory, directories, names in os.walk(PLACE)
        for name in (*directories, *names)
        if os.path.islink(os.path.join(directory, name))
    }


def unlink(paths: Sequence[str]) -> bool:
    gone = [path for path in paths if os.path.islink(path) and remove_file(path)]
    for directory in {os.path.dirname(path) for path in gone}:
        # systemctl makes the directory for its link, and so takes it away.
        if directory != PLACE and not os.listdir(directory):
            with explained(directory):
                os.rmdir(directory)
    if gone:
        _reload()
    return bool(gone)


def active_units(patterns: Sequence[str]) -> set[str]:
    """Return the names of the units that run now, of those that match."""
    argv = ["systemctl", "list-units", "--state=active", "--plain", "--no-legend", "--no-pager", *patterns]
    return {line.split()[0] for line in run(argv, timeout=TIMEOUT).stdout.splitlines() if line.strip()}


def stop(names: Sequence[str]) -> None:
    """Stop all units at once: a socket that is left would start its service again."""
    if names:
        run(["systemctl", "stop", *names], timeout=TIMEOUT)


def _refuse_foreign(path: str, mark: str) -> None:
    try:
        found = Path(path).read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return
    if not found.startswith(mark + "\n"):
        raise ForeignObject(
            f"unit {path}", "there is one of that name that this collection did not write", "Move it away"
        )


def _link(name: str) -> str:
    return os.path.join(PLACE, "multi-user.target.wants", name)


def _reload() -> None:
    run(["systemctl", "daemon-reload"], timeout=TIMEOUT)
