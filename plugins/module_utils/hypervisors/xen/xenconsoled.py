# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configures xenconsoled, which reads the consoles of machines without a serial port: it keeps what they say only if
it was told to when it was started."""

from __future__ import annotations

import os
import re

from ...errors import HypervisorError
from ...host import processes, systemd_units
from ...host.command import run
from ...host.files import read_limited, write_atomically
from ...host.node_file import Changes

NAME = "xenconsoled"
# Debian's, and those of Xen's own installation.
SETTINGS = ("/etc/default/xen", "/etc/default/xencommons", "/etc/sysconfig/xencommons")
UNITS = ("xenconsoled.service", "xen.service")
SCRIPTS = ("/etc/init.d/xen", "/etc/init.d/xencommons")
HEADING = "# nebula.provision: what machines say on their consoles is kept."
LARGEST = 1 << 20
RESTART_SECONDS = 120.0
# What the file says of it already, last line last; a shell or systemd reads it.
_ARGUMENTS = re.compile(r"^XENCONSOLED_ARGS=[\"']?([^\"'\n]*)[\"']?\s*$", re.MULTILINE)
_KEEPS = re.compile(r"--log[= ](?:guest|all)\b")


def prepare(changes: Changes) -> None:
    """Have xenconsoled keep what machines say, now and after its next start."""
    path = next((path for path in SETTINGS if os.path.isfile(path)), "")
    if path:
        before = _read(path)
        if not _says_to_keep(before):
            changes.did(path, "without --log=guest", "with it")
            if not changes.check_mode:
                _write(path, _without_our_lines(before) + _our_lines(_arguments(before)))
    if not _keeps_now():
        changes.did(NAME, "keeps nothing", "keeps what machines say")
        if not changes.check_mode:
            _restart()
            if not _keeps_now():
                raise HypervisorError(
                    f"having {NAME} keep what machines say",
                    "it runs without --log=guest" if _running_arguments() else "it does not run",
                    f"Start it with XENCONSOLED_ARGS=--log=guest, in {SETTINGS[0]} or where this distribution has it",
                )


def give_back(changes: Changes) -> bool:
    """Undo what prepare() did to its settings. Return whether there was something to undo."""
    marked = [path for path in SETTINGS if os.path.isfile(path) and HEADING in _read(path)]
    for path in marked:
        changes.did(path, "with --log=guest", "as it was")
        if not changes.check_mode:
            _write(path, _without_our_lines(_read(path)))
    if marked and not changes.check_mode:
        _restart()
    return bool(marked)


def _read(path: str) -> str:
    return read_limited(path, LARGEST, follow=True).decode("utf-8", "surrogateescape")


def _write(path: str, text: str) -> None:
    write_atomically(path, text.encode("utf-8", "surrogateescape"), mode=os.stat(path).st_mode & 0o7777)


def _arguments(text: str) -> str:
    found = _ARGUMENTS.findall(text)
    return found[-1].strip() if found else ""


def _says_to_keep(text: str) -> bool:
    return bool(_KEEPS.search(_arguments(text))) or bool(re.search(r"^XENCONSOLED_TRACE=[\"']?(guest|all)", text, re.M))


def _our_lines(arguments: str) -> str:
    """Return our lines: Debian's script knows the first variable, the units of Xen's own installation the second."""
    given = f"{arguments} --log=guest".strip()
    return f"{HEADING}\nXENCONSOLED_ARGS='{given}'\nXENCONSOLED_TRACE=guest\n"


def _without_our_lines(text: str) -> str:
    """Return the text as it was before our lines."""
    before = re.sub(rf"{re.escape(HEADING)}\n(?:XENCONSOLED_\w+=.*\n)*", "", text)
    return before if before.endswith("\n") or not before else before + "\n"


def _running_arguments() -> list[list[str]]:
    """Return the arguments of each xenconsoled that root of this host has started."""
    found = processes.of_root(lambda words: os.path.basename(words[0]) == NAME.encode())
    return [[word.decode("utf-8", "replace") for word in words[1:]] for _pid, words in found]


def _keeps_now() -> bool:
    return any(_KEEPS.search(" ".join(words)) for words in _running_arguments())


def _restart() -> None:
    """Restart xenconsoled. Machines run on; what they say meanwhile waits for it."""
    loaded: list[str] = []
    if systemd_units.has_systemd():
        done = run(["systemctl", "list-units", "--all", "--plain", "--no-legend", *UNITS], timeout=RESTART_SECONDS)
        loaded = [line.split()[0] for line in done.stdout.splitlines() if line.split()]
    unit = next((unit for unit in UNITS if unit in loaded), "")
    script = next((path for path in SCRIPTS if os.access(path, os.X_OK)), "")
    if unit:
        run(["systemctl", "restart", unit], timeout=RESTART_SECONDS)
    elif script:
        run([script, "restart"], timeout=RESTART_SECONDS)
