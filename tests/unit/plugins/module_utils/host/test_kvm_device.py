# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""/dev/kvm gets the group and the mode that udev would give it, once, and what it was before when a node is given back.

A terminal of the test's own stands in for it: that is a character device whose owner may change it without being root.
"""

from __future__ import annotations

import functools
import grp
import os
import pty
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.host import kvm_device
from ansible_collections.nebula.provision.plugins.module_utils.host.node_file import Changes, NodeFile

OWN = {"uid": os.geteuid(), "gid": os.getegid()}
ASKED, FOUND = {**OWN, "mode": 0o660}, {**OWN, "mode": 0o600}


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A device that only its owner may open, on a host without udev; the group is one that this process is in."""
    ends = pty.openpty()
    path = os.ttyname(ends[1])
    os.chown(path, OWN["uid"], OWN["gid"])
    os.chmod(path, 0o600)
    monkeypatch.setattr(kvm_device, "GROUP", grp.getgrgid(OWN["gid"]).gr_name)
    monkeypatch.setattr(kvm_device, "UDEV", str(tmp_path / "no udev"))
    yield path
    for end in ends:
        os.close(end)


# -- what it should have ----------------------------------------------------------------------------------------------
def test_the_device_gets_group_and_mode_once(device: str) -> None:
    assert kvm_device.current(device) == FOUND
    wanted = kvm_device.wanted(device)
    assert wanted == ASKED
    kvm_device.apply(wanted, device)
    assert kvm_device.current(device) == ASKED
    assert kvm_device.wanted(device) == {}
    kvm_device.apply(FOUND, device)
    assert kvm_device.current(device) == FOUND


@pytest.mark.parametrize("mode", [0o660, 0o670, 0o666, 0o606, 0o777])
def test_what_the_group_or_everybody_may_open_is_left(device: str, mode: int) -> None:
    os.chmod(device, mode)
    assert kvm_device.wanted(device) == {}


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o620, 0o604, 0o602, 0o000])
def test_to_read_or_to_write_alone_is_not_enough(device: str, mode: int) -> None:
    os.chmod(device, mode)
    assert kvm_device.wanted(device) == ASKED


def test_what_another_group_may_open_is_not_enough(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chmod(device, 0o660)
    other = next((group for group in grp.getgrall() if group.gr_gid != OWN["gid"]), None)
    if other is None:
        pytest.skip("there is one group here")
    monkeypatch.setattr(kvm_device, "GROUP", other.gr_name)
    assert kvm_device.wanted(device) == {"uid": OWN["uid"], "gid": other.gr_gid, "mode": 0o660}


def test_where_udev_runs_it_decides(device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm_device, "UDEV", str(tmp_path))
    assert kvm_device.wanted(device) == {}


def test_without_the_group_there_is_nothing_to_be_had(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm_device, "GROUP", "nebula-no-such-group")
    assert kvm_device.wanted(device) == {}


def test_what_is_no_device_is_left(device: str, tmp_path: Path) -> None:
    assert kvm_device.wanted(str(tmp_path / "none")) == {}
    (tmp_path / "file").touch(0o600)
    assert kvm_device.wanted(str(tmp_path / "file")) == {}


# -- a node is made and given back ------------------------------------------------------------------------------------
@pytest.fixture
def as_kvm(device: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What takes and gives back has no argument for the device: its parts get this one, and never touch /dev/kvm."""
    monkeypatch.setattr(kvm_device, "DEVICE", device)
    for name in ("wanted", "current", "apply"):
        monkeypatch.setattr(kvm_device, name, functools.partial(getattr(kvm_device, name), device=device))
    return device


class Memory:
    """What a node remembers."""

    def __init__(self, known: NodeFile | None = None) -> None:
        self.known = known or NodeFile()

    def __call__(self, change: Callable[[NodeFile], NodeFile]) -> NodeFile:
        self.known = change(self.known)
        return self.known


def shown(mode: str) -> str:
    return f"{mode} {OWN['uid']}:{OWN['gid']}"


def test_what_it_was_is_remembered_before_it_is_changed(as_kvm: str) -> None:
    changes, memory = Changes(check_mode=False), Memory()
    modes = []

    def remember(change: Callable[[NodeFile], NodeFile]) -> NodeFile:
        modes.append(stat.S_IMODE(os.stat(as_kvm).st_mode))
        return memory(change)

    kvm_device.take(changes, remember)
    assert modes == [0o600]
    assert memory.known.kvm_device == FOUND
    assert kvm_device.current() == ASKED
    assert (changes.before, changes.after) == ({as_kvm: shown("0600")}, {as_kvm: shown("0660")})
    (warning,) = changes.warnings
    assert f"{as_kvm} was {shown('0600')}" in warning and f"now it is {shown('0660')}" in warning


def test_check_mode_only_tells(as_kvm: str) -> None:
    changes, memory = Changes(check_mode=True), Memory()
    kvm_device.take(changes, memory)
    assert (memory.known, kvm_device.current()) == (NodeFile(), FOUND)
    assert changes.after == {as_kvm: shown("0660")}
    (warning,) = changes.warnings
    assert f"is {shown('0600')}" in warning and f"would become {shown('0660')}" in warning


def test_a_second_run_does_not_remember_its_own_work(as_kvm: str) -> None:
    memory = Memory(NodeFile(kvm_device={**OWN, "mode": 0o644}))
    kvm_device.take(Changes(check_mode=False), memory)
    assert memory.known.kvm_device == {**OWN, "mode": 0o644}


def test_what_is_well_is_not_spoken_of(as_kvm: str) -> None:
    os.chmod(as_kvm, 0o666)
    changes, memory = Changes(check_mode=False), Memory()
    kvm_device.take(changes, memory)
    assert (changes, memory.known) == (Changes(check_mode=False), NodeFile())


@pytest.mark.parametrize("check_mode", [False, True])
def test_it_becomes_what_it_was(as_kvm: str, check_mode: bool) -> None:
    memory = Memory()
    kvm_device.take(Changes(check_mode=False), memory)
    changes = Changes(check_mode)
    assert kvm_device.give_back(changes, memory.known)
    assert kvm_device.current() == (ASKED if check_mode else FOUND)
    assert (changes.before, changes.after) == ({as_kvm: shown("0660")}, {as_kvm: shown("0600")})


def test_there_is_nothing_to_give_back(as_kvm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = Changes(check_mode=False)
    assert not kvm_device.give_back(changes, NodeFile())
    monkeypatch.setattr(kvm_device, "DEVICE", str(tmp_path / "gone"))
    assert not kvm_device.give_back(changes, replace(NodeFile(), kvm_device=FOUND))
    assert changes == Changes(check_mode=False)
