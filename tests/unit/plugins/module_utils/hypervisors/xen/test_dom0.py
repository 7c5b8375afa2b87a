# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A dom0: what it has, what it lacks for a machine, and what is said of machines that are not ours. What `xl` prints
and xenstore holds is a stand-in (tests/tools/xl_stand_in.py); bridges, disks and kernels are files of the test's
own."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from xl_stand_in import Dom0, Running

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    HypervisorError,
    InUse,
    MissingDependency,
    NebulaError,
    NoCapacity,
    NotFound,
)
from ansible_collections.nebula.provision.plugins.module_utils.host.node_file import Changes
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Mark
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen import switch_ports, vif_script, xl
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen.config import Needs
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen.dom0 import XenNode
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen.xl import ListedDomain
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os, Vm

UUID = "5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d01"
MARK = Mark("0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10", 1, UUID, 3)
NOTHING = Needs(memory=64, vcpus=1, bridges=(), files=(), disks=(), emulator="")


@pytest.fixture
def dom0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dom0:
    return Dom0(tmp_path, monkeypatch)


# -- the node ----------------------------------------------------------------------------------------------------------
def test_a_host_that_is_no_dom0_is_refused_by_all_that_need_one(dom0: Dom0) -> None:
    dom0.capabilities.write_text("", encoding="ascii")
    for ask in (XenNode, XenNode.capacity, lambda: XenNode.choose_accelerator("auto", {})):
        with pytest.raises(HypervisorError, match=r"no dom0.*xen-system-amd64"):
            ask()
    dom0.capabilities.unlink()
    with pytest.raises(HypervisorError, match="its kernel was booted without Xen"):
        XenNode()
    assert XenNode.versions() == {"xen": ""}


def test_what_machines_run_on_depends_on_the_version(dom0: Dom0) -> None:
    chosen = XenNode.choose_accelerator("auto", {})
    assert chosen == {"accelerator": "xen", "reason": "this host runs Xen 4.17.3", "key": "4.17.3"}
    assert XenNode.versions() == {"xen": "4.17.3"}
    dom0.fails["info"] = "xl: it does not answer"
    assert XenNode.versions() == {"xen": ""}


def test_machines_could_have_all_that_dom0_has_not(dom0: Dom0) -> None:
    dom0.domains["web"] = Running(4, UUID, 1024)
    assert XenNode.capacity() == (8190 - 1536, 4.0)


@pytest.mark.parametrize(("memory", "vcpus", "takes"), [(64, 1, 10), (64, 4, 13), (4096, 1, 73), (0, 1, 9)])
def test_a_machine_takes_more_than_its_memory(memory: int, vcpus: int, takes: int) -> None:
    assert XenNode.overhead("").of(memory, vcpus) == takes


# -- what is seen ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("state", "memory"), [("RUNNING", 96), ("UNKNOWN", 96), ("POWEROFF", 0)])
def test_what_a_domain_has_is_what_its_machine_has(dom0: Dom0, state: str, memory: int) -> None:
    seen = XenNode()._observed(MARK, state, ListedDomain("one-1", 7, 96, 1, "-b----", 12.5, UUID), "")
    assert (seen.vm_id, seen.uuid, seen.generation, seen.state) == (1, UUID, 3, state)
    assert (seen.memory, seen.cpu_time) == (memory, 12.5)
    gone = XenNode()._observed(MARK, "POWEROFF", None, "guest")
    assert (gone.memory, gone.cpu_time, gone.ended) == (0, 0.0, "guest")


def test_a_survey_counts_what_others_take_and_whose_names_they_have(dom0: Dom0) -> None:
    others = [ListedDomain("one-5", 7, 64, 1, "-b----", 0.0), ListedDomain("web", 8, 128, 2, "-b----", 0.0)]
    ours = [XenNode()._observed(Mark(MARK.catalog, number), "RUNNING", None, "") for number in (2, 1)]
    found = XenNode()._make_survey(ours, {9}, others)
    assert [vm.vm_id for vm in found.vms] == [1, 2]
    assert found.foreign_memory == (64 + 8 + 1 + 1) + (128 + 8 + 2 + 2)
    assert found.foreign_ids == {5, 9}


@pytest.mark.parametrize(
    ("store", "asked"),
    [
        ({}, 77),
        ({"target": str(256 << 10)}, 256),
        # The memory of an emulated screen is no part of the target.
        ({"target": str(248 << 10), "videoram": str(8 << 10)}, 256),
        ({"target": str(256 << 10), "videoram": "-1"}, 256),
    ],
)
def test_what_a_guest_has_been_asked_to_have(dom0: Dom0, store: dict[str, str], asked: int) -> None:
    dom0.store.update({f"/local/domain/7/memory/{name}": value for name, value in store.items()})
    assert XenNode()._is_asked(7, 77) == asked


def test_a_guest_that_took_no_word_out_of_xenstore_is_deaf(dom0: Dom0) -> None:
    assert not XenNode()._is_deaf(7)
    dom0.store["/local/domain/7/control/shutdown"] = ""
    assert not XenNode()._is_deaf(7)
    dom0.store["/local/domain/7/control/shutdown"] = "poweroff"
    assert XenNode()._is_deaf(7)


def test_only_the_last_words_of_the_hypervisor_about_a_domain_are_shown(dom0: Dom0) -> None:
    said = "libxl: error: libxl_dom.c:1:f: Domain 9:it failed"
    dom0.answers["dmesg"] = "".join(f"(XEN) d9v0 line {number}\n(XEN) d8v0 other\n" for number in range(9))
    assert XenNode()._words_of_hypervisor(said) == [f"(XEN) d9v0 line {number}" for number in range(4, 9)]
    assert XenNode()._words_of_hypervisor("nothing of a domain") == []
    dom0.fails["dmesg"] = "xl: no permission"
    assert XenNode()._words_of_hypervisor(said) == []


# -- what is done ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("scheduler", "did"),
    [
        ("credit", ["sched-credit -d one-1 -w 256 -c 50"]),
        ("credit2", ["sched-credit2 -d one-1 -w 256 -c 50"]),
        # It has no weights of this kind.
        ("rtds", []),
        ("null", []),
    ],
)
def test_a_weight_is_given_by_the_scheduler_that_runs(dom0: Dom0, scheduler: str, did: list[str]) -> None:
    dom0.info["xen_scheduler"] = scheduler
    XenNode()._weigh("one-1", 256, 50)
    assert dom0.did() == did


def vm(**os_: Any) -> Vm:
    return Vm(1, UUID, "web", "xen", 1.0, 64, os=Os(**os_))


def test_what_a_machine_says_is_written_to_its_own_directory(dom0: Dom0, tmp_path: Path) -> None:
    node, link = XenNode(), dom0.consoles / "guest-one-1.log"
    # What xenconsoled wrote before anybody had told it where.
    link.write_text("old", encoding="ascii")
    for directory in ("/a/1", "/a/1", "/b/1"):
        node._link_console(vm(kernel="/boot/vmlinuz"), "one-1", directory)
        assert os.readlink(link) == f"{directory}/console.log"
    before = link.lstat().st_mtime_ns
    node._link_console(vm(kernel="/boot/vmlinuz"), "one-1", "/b/1")
    assert link.lstat().st_mtime_ns == before


def test_only_root_has_links_made_where_consoles_are(dom0: Dom0) -> None:
    dom0.consoles.rmdir()
    XenNode()._link_console(vm(kernel="/boot/vmlinuz"), "one-1", "/a/1")
    assert stat.S_IMODE(dom0.consoles.stat().st_mode) == 0o755


def test_a_machine_with_a_serial_port_has_a_link_that_xenconsoled_does_not_know(dom0: Dom0) -> None:
    XenNode()._link_console(vm(), "one-1", "/a/1")
    assert {path.name: os.readlink(path) for path in dom0.consoles.iterdir()} == {
        "serial-one-1.log": "/a/1/console.log"
    }
    XenNode._unlink_console("one-1")
    assert list(dom0.consoles.iterdir()) == []


# -- what is lacking ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("needs", "error", "words"),
    [
        ({"files": ("/nowhere/vmlinuz",)}, NotFound, "/nowhere/vmlinuz is not on this host. Check OS KERNEL"),
        ({"bridges": ("br9",)}, NotFound, "no bridge br9. Run role nebula.provision.network"),
        ({"bridges": ("eth0",)}, NotFound, "no bridge eth0, but another interface of that name. Run role"),
        (
            {"switches": ("br-int",)},
            NotFound,
            "no bridge br-int of Open vSwitch. Run role nebula.provision.network first, for a network of OVN nebula",
        ),
        (
            {"switches": ("eth0",)},
            NotFound,
            f"/{switch_ports.SCRIPT}, which attaches its NICs. Run role nebula.provision",
        ),
        ({"vcpus": 5}, NoCapacity, "it has 5 VCPU, and this host 4 processors. Ask for fewer"),
        (
            {"emulator": "a machine of type HVM"},
            MissingDependency,
            "a machine of type HVM needs Xen's QEMU, and this host has none. Install package qemu-system-xen",
        ),
    ],
)
def test_what_the_host_lacks_is_said_in_our_words(
    dom0: Dom0, monkeypatch: pytest.MonkeyPatch, needs: dict[str, Any], error: type[NebulaError], words: str
) -> None:
    monkeypatch.setattr(xl.Tool, "emulators", ())
    (dom0.network / "eth0").mkdir()
    with pytest.raises(error) as caught:
        XenNode()._refuse("starting it", Needs(**{**vars(NOTHING), **needs}))
    assert str(caught.value).startswith("starting it: ") and words in str(caught.value)


def test_a_host_that_has_all_that_is_needed_refuses_nothing(
    dom0: Dom0, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (dom0.network / "br0" / "bridge").mkdir(parents=True)
    kernel, emulator, disk = tmp_path / "vmlinuz", tmp_path / "qemu-system-i386", tmp_path / "disk.0"
    for path in (kernel, emulator, disk):
        path.touch()
    emulator.chmod(0o755)
    monkeypatch.setattr(xl.Tool, "emulators", (str(tmp_path / "qemu-*"),))
    # The host's own port of such a bridge.
    (dom0.network / "br-int").mkdir()
    vif_script.prepare(Changes(False))
    needs = Needs(64, 4, ("br0",), (str(kernel),), ((str(disk), True),), "a machine of type HVM", ("br-int",))
    dom0.disks = [(7, "/another/disk", True), (8, str(tmp_path / "gone"), True)]
    XenNode()._refuse("starting it", needs)


@pytest.mark.parametrize(
    ("writes", "written", "refused"),
    [(True, True, True), (True, False, True), (False, True, True), (False, False, False)],
)
@pytest.mark.parametrize("name", ["disk.0", "link"])
def test_a_disk_that_somebody_writes_has_one_machine_only(
    dom0: Dom0, tmp_path: Path, writes: bool, written: bool, refused: bool, name: str
) -> None:
    """Whatever it is called there."""
    disk = tmp_path / "disk.0"
    disk.touch()
    (tmp_path / "link").symlink_to(disk)
    dom0.domains["web"] = Running(7, UUID)
    dom0.disks = [(7, str(tmp_path / name), written)]
    needs = Needs(**{**vars(NOTHING), "disks": ((str(disk), writes),)})
    if not refused:
        XenNode()._refuse("starting it", needs)
        return
    with pytest.raises(InUse, match=rf"{disk} is a disk of domain web, and what both write.*xl list shows it"):
        XenNode()._refuse("starting it", needs)
    dom0.domains.pop("web")
    with pytest.raises(InUse, match="a disk of domain 7, "):
        XenNode()._refuse("starting it", needs)
