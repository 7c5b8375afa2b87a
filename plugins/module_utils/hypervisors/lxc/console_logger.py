# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a container's console in a file, by a process for each container, as long as it runs.

libvirt logs the consoles of QEMU by virtlogd, and those of containers not at all; a console that nobody reads is
full after a few thousand characters, and then whoever writes to it waits for ever."""

from __future__ import annotations

import subprocess
import sys

from ...host import processes
from ...model import defaults

LIMIT, KEPT = defaults.CONSOLE_LOG_BYTES, defaults.KEPT_CONSOLE_LOGS
# All of it is standard library, and no word of a user is part of it: its arguments are terminal, file, limit, number.
PROGRAM = r"""
import os, sys, termios, tty
terminal, path, limit, kept = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
source = os.open(terminal, os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
tty.setraw(source, termios.TCSANOW)
file = os.open(path, flags, 0o600)
print("reading", flush=True)
os.dup2(os.open(os.devnull, os.O_RDWR), 1)
while True:
    try:
        data = os.read(source, 65536)
    except OSError:
        break
    if not data:
        break
    if os.fstat(file).st_size + len(data) > limit:
        for number in range(kept - 1, -1, -1):
            older = path + "." + str(number)
            newer = path + "." + str(number - 1) if number else path
            if os.path.lexists(newer):
                os.rename(newer, older)
        os.close(file)
        file = os.open(path, flags, 0o600)
    while data:
        data = data[os.write(file, data):]
"""


def begin(terminal: str, path: str) -> None:
    """Start the process that keeps what is written to the terminal, until its other end is gone. Return when it reads.
    terminal: the host's end of the console, as libvirt names it.
    path: the log file."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", PROGRAM, terminal, path, str(LIMIT), str(KEPT)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={"LC_ALL": "C.UTF-8"},
        start_new_session=True,
        close_fds=True,
    )
    if process.stdout is not None:
        with process.stdout:
            process.stdout.readline()
    # It outlives this process, and has nobody who would wait for it.
    process.returncode = 0


def is_read(terminal: str) -> bool:
    """Return whether a process that root of this host has started reads the terminal."""
    # Python's own options, the program, and its first argument.
    wanted = [b"-I", b"-S", b"-c", PROGRAM.encode(), terminal.encode()]
    return any(True for _each in processes.of_root(lambda words: words[1:6] == wanted))
