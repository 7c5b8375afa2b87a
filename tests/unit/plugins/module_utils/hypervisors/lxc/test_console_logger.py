# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A terminal's output is kept in a file until its other end is gone, from its first byte on and within bounds."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
import tty
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc import console_logger

NOBODY = 65534


def wait_for(condition: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit, what
        time.sleep(0.02)


def test_all_of_it_is_there_and_nothing_goes_back(tmp_path: Path) -> None:
    master, slave = os.openpty()
    # As libvirt opens it.
    tty.setraw(slave)
    terminal, log = os.ttyname(slave), tmp_path / "console.log"
    log.write_bytes(b"before\n")
    # What was written before anybody read.
    os.write(master, b"first line\n")
    assert not console_logger.is_read(terminal)
    console_logger.begin(terminal, str(log))
    assert console_logger.is_read(terminal)
    os.write(master, b"\x1b[1msecond\xff")
    wait_for(lambda: log.read_bytes() == b"before\nfirst line\n\x1b[1msecond\xff", "all of it")
    # An echo would be what a person had typed.
    os.set_blocking(master, False)
    with contextlib.suppress(BlockingIOError):
        assert os.read(master, 100) == b""
    os.close(slave)
    os.close(master)
    wait_for(lambda: not console_logger.is_read(terminal), "it ends with the terminal")


def test_it_begins_anew_where_it_is_long_and_follows_no_link(tmp_path: Path) -> None:
    master, slave = os.openpty()
    terminal, log, other = os.ttyname(slave), tmp_path / "console.log", tmp_path / "other"
    log.write_bytes(b"x" * (console_logger.LIMIT - 1))
    console_logger.begin(terminal, str(log))
    os.write(master, b"more")
    wait_for(lambda: log.read_bytes() == b"more", "a log of its own")
    assert (tmp_path / "console.log.0").stat().st_size == console_logger.LIMIT - 1
    os.close(slave)
    os.close(master)
    wait_for(lambda: not console_logger.is_read(terminal), "it ends with the terminal")
    master, slave = os.openpty()
    other.write_bytes(b"kept")
    log.unlink()
    log.symlink_to(other)
    console_logger.begin(os.ttyname(slave), str(log))
    assert not console_logger.is_read(os.ttyname(slave)) and other.read_bytes() == b"kept"
    os.close(slave)
    os.close(master)


@pytest.mark.root
def test_a_process_of_somebody_else_with_its_arguments_is_not_it() -> None:
    """Else the container would be without a reader, and its programs would wait once the terminal is full."""
    master, slave = os.openpty()
    terminal = os.ttyname(slave)
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        os.chown(place, NOBODY, NOBODY)
        os.chown(terminal, NOBODY, NOBODY)
        argv = ["/usr/bin/python3", "-I", "-S", "-c", console_logger.PROGRAM, terminal, f"{place}/log", "1024", "1"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, user=NOBODY, group=NOBODY, cwd="/") as process:
            try:
                assert process.stdout is not None and process.stdout.readline() == b"reading\n"
                assert not console_logger.is_read(terminal)
                console_logger.begin(terminal, f"{place}/ours")
                assert console_logger.is_read(terminal)
            finally:
                process.kill()
            os.close(slave)
            os.close(master)
    wait_for(lambda: not console_logger.is_read(terminal), "it ends with the terminal")
