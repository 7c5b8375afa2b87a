# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says what the context program is asked inside an image, and reads its answer; the ways into an image are in open/.

The program is a script that needs sh and base utilities: `PROGRAM --root DIR install` enables it for the init
system below DIR. The last line that it prints is what came of it."""

from __future__ import annotations

from pathlib import Path

from ...dataclass import dataclass
from ...errors import CommandFailed, MissingDependency, NebulaError, harmless
from ...host import command
from ...host.files import explained

# The program's file in an image's directory.
PROGRAM = "program"
ANSWERS = {"changed": True, "unchanged": False}
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Outcome:
    """Says what came of the program.
    changed: the program, or what starts it, was not there as it is now.
    os: what the guest calls itself."""

    changed: bool
    os: str


def write(directory: str, text: str) -> None:
    """Write the context program into the directory of an image."""
    path = Path(directory, PROGRAM)
    with explained(str(path)):
        path.write_text(text, encoding="utf-8")
        path.chmod(0o700)


def outcome(printed: str, os_release: str) -> Outcome:
    """Return what came of the program. Raise CommandFailed if it does not say.
    printed: what the program printed.
    os_release: that file of the guest, which may say anything."""
    lines = printed.split()
    if not lines or lines[-1] not in ANSWERS:
        raise CommandFailed(
            "installing the context program",
            f"it ended without saying what came of it: {harmless(command.last_lines(printed))}",
            "See whether the image's file system is full or damaged",
        )
    return Outcome(ANSWERS[lines[-1]], os_name(os_release))


def os_name(os_release: str) -> str:
    for line in os_release.splitlines():
        name, _equals, value = line.partition("=")
        if name.strip() == "PRETTY_NAME":
            return harmless(value.strip().strip("\"'"), _LONGEST_NAME)
    return ""


def require(program: str, debian: str, fedora: str, asked: str) -> None:
    """Raise MissingDependency unless the host has the program."""
    if not present(program):
        packages = debian if debian == fedora else f"{debian} (Debian) or {fedora} (Fedora)"
        raise MissingDependency(asked, f"program {program} is not on this host", f"Install the package {packages}")


def present(program: str) -> bool:
    try:
        command.find(program)
    except NebulaError:
        return False
    return True
