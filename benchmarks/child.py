#!/usr/bin/python3
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a program, and tells what it took. The peak of a process's memory begins with that of its parent, so that the
parent of what is measured has to be as small as this.

usage: child.py FD PROGRAM [ARGUMENT…]

Writes {"status": of wait, "seconds": by the clock, "processor": seconds, "memory": KiB} to the file descriptor.
"""

import json
import os
import sys
import time

start = time.perf_counter()
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_pid, status, usage = os.wait4(pid, 0)
seconds = time.perf_counter() - start
told = {
    "status": status,
    "seconds": seconds,
    "processor": usage.ru_utime + usage.ru_stime,
    "memory": usage.ru_maxrss,
}
os.write(int(sys.argv[1]), json.dumps(told).encode())
