# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls of the kernel: what they do in namespaces of a process of their own, and how they fail."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.host import kernel_calls

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
ROOT = Path(__file__).resolve().parents[5]
IMPORTS = (
    "import os, signal, sys, time; sys.path.insert(0, sys.argv[1])\n"
    "from ansible_collections.nebula.provision.plugins.module_utils.host import kernel_calls as k\n"
)


def apart(program: str, *arguments: str) -> str:
    words = [sys.executable, "-c", IMPORTS + program, str(ROOT / "collections"), *arguments]
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout


@needs_root
def test_a_mount_of_its_own_and_its_end(tmp_path):
    program = (
        "k.unshare(k.NEW_MOUNTS); k.mount(None, '/', flags=k.RECURSIVE | k.PRIVATE)\n"
        "k.mount('here', sys.argv[2], 'tmpfs', k.NO_DEVICES, 'size=1m'); open(sys.argv[2] + '/a', 'w').close()\n"
        "k.mount(sys.argv[2], sys.argv[2], flags=k.BIND); print(os.listdir(sys.argv[2]))\n"
        "k.unmount(sys.argv[2]); k.unmount(sys.argv[2], k.DETACH); print(os.listdir(sys.argv[2]))\n"
    )
    assert apart(program, str(tmp_path)) == "['a']\n[]\n" and os.listdir(tmp_path) == []


@needs_root
def test_another_root(tmp_path):
    (tmp_path / "only").touch()
    program = (
        "k.unshare(k.NEW_MOUNTS); k.mount(None, '/', flags=k.RECURSIVE | k.PRIVATE)\n"
        "k.mount(sys.argv[2], sys.argv[2], flags=k.BIND); os.chdir(sys.argv[2]); k.pivot_root('.', '.')\n"
        "k.unmount('.', k.DETACH); print(os.listdir('/'))\n"
    )
    assert apart(program, str(tmp_path)) == "['only']\n"


@needs_root
def test_owners_are_shown_as_others(tmp_path):
    """The map says which owner there is shown as which; what it does not say belongs to nobody."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    for name, uid in (("a", 1000), ("b", 5)):
        (source / name).touch()
        os.chown(source / name, uid, uid)
    program = (
        "ready, go = os.pipe(), os.pipe()\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    k.unshare(k.NEW_USER); os.write(ready[1], b'x'); os.read(go[0], 1); os._exit(0)\n"
        "os.read(ready[0], 1)\n"
        "for kind in ('uid', 'gid'):\n"
        "    open(f'/proc/{pid}/{kind}_map', 'w').write('1000 7000000 10')\n"
        "namespace = os.open(f'/proc/{pid}/ns/user', os.O_RDONLY)\n"
        "k.unshare(k.NEW_MOUNTS); k.mount(None, '/', flags=k.RECURSIVE | k.PRIVATE)\n"
        "k.mount_id_mapped(sys.argv[2], sys.argv[3], namespace)\n"
        "print(*(os.stat(sys.argv[3] + '/' + name).st_uid for name in ('a', 'b')))\n"
        "try:\n    open(sys.argv[3] + '/c', 'w')\n"
        "except OSError as error:\n    print(error.strerror)\n"
        "os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)\n"
    )
    assert apart(program, str(source), str(target)) == "7000000 65534\nRead-only file system\n"
    assert os.listdir(target) == []


def test_a_process_that_ends_with_its_parent():
    program = (
        "ready = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    if os.fork() == 0:\n"
        "        k.die_with_parent(signal.SIGKILL); k.gain_no_privileges(); os.write(ready[1], b'x'); time.sleep(600)\n"
        "    os.read(ready[0], 1); os._exit(0)\n"
        "os.wait(); os.close(ready[1]); print(os.read(ready[0], 1))\n"
    )
    # The last that had the pipe open is gone.
    assert apart(program) == "b''\n"


def test_errors_have_a_number_and_a_path(tmp_path):
    missing = str(tmp_path / "missing")
    for call in (
        lambda: kernel_calls.mount("x", missing, "tmpfs"),
        lambda: kernel_calls.unmount(missing),
        lambda: kernel_calls.mount_id_mapped(missing, missing, 0),
    ):
        with pytest.raises(OSError, match="missing") as caught:
            call()
        assert caught.value.errno in (errno.ENOENT, errno.EPERM)
    with pytest.raises(OSError, match="Bad file descriptor"):
        kernel_calls.sync_file_system(-1)


def test_a_file_system_is_written(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        kernel_calls.sync_file_system(fd)
    finally:
        os.close(fd)
