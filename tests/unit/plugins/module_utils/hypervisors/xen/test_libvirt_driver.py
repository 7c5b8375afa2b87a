# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines of Xen by libvirt: where libvirt is asked, where Xen's own tool is, and what is somebody's that libvirt does
not know. Both are stand-ins by their documentation (tests/tools/libvirt_stand_in.py, xl_stand_in.py), and the modules'
clocks are the test's own; a real dom0 is asked in tests/integration/test_xen_libvirt.py."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from libvirt_stand_in import Clock, Connection, Domain, LibvirtError, install, libvirt, metadata
from xl_stand_in import Dom0, Running

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    ForeignObject,
    HypervisorError,
    NoCapacity,
    NotFound,
    TimedOut,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Adjustment, Mark, Site
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import domains
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen import libvirt_driver as xen_libvirt
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen import xl
from ansible_collections.nebula.provision.plugins.module_utils.model.answers.admin_commands import is_ours
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk, DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os, Vm

CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
OTHER = "77777777-8c55-4b0e-9d6a-2f1f3c7d9a10"
UUID = "5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d01"
STRANGER = UUID[:-1] + "9"
MARK = Mark(CATALOG, 1, UUID, 3)
MAC = "02:00:c0:a8:46:96"
RUNNING, PAUSED, SHUTOFF = 1, 3, 5


class Host:
    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dom0 = Dom0(root, monkeypatch)
        self.directory = root / "0" / "1"
        self.directory.mkdir(parents=True)
        self.kernel = root / "vmlinuz"
        self.kernel.touch()
        self.log = root / "libxl-driver.log"
        self.clock = Clock()
        for module in (xen_libvirt, domains):
            monkeypatch.setattr(module, "time", self.clock)
        monkeypatch.setattr(xen_libvirt, "LOG", self.log)
        self.domain = Domain("one-1", UUID, metadata(CATALOG, 1, 3, str(self.directory)))
        self.domain.domid = -1
        self.connection = Connection(self.domain)
        install(monkeypatch, libvirt(lambda _uri: self.connection))
        self.driver = xen_libvirt.XenLibvirtDriver()
        self.define()
        self.connection.defined.clear()

    def vm(self, **values: Any) -> Vm:
        os_ = Os(kernel=str(self.kernel))
        return Vm(1, UUID, "web", "xen_libvirt", 0.5, **{"memory": 128, "os": os_, **values})

    def site(self, vm: Vm) -> Site:
        files = {disk.disk_id: DiskFiles(str(self.directory / f"disk.{disk.disk_id}"), "raw") for disk in vm.disks}
        return Site(str(self.directory), CATALOG, 3, files, "xen")

    def define(self, vm: Vm | None = None) -> None:
        vm = vm or self.vm()
        deployment = self.driver.render(vm, self.site(vm))
        self.driver.define(vm, deployment, MARK)
        self.domain.xml = deployment.text

    def run(self, uuid: str = UUID, **values: Any) -> None:
        """Both know of it, where it is ours."""
        self.dom0.domains["one-1"] = Running(**{"domid": 7, "uuid": uuid, **values})
        if uuid == UUID:
            self.domain.become(RUNNING)
            self.domain.domid = 7

    def end(self) -> None:
        self.dom0.domains.pop("one-1", None)
        self.domain.become(SHUTOFF, 1)
        self.domain.domid = -1


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


# -- what is there -----------------------------------------------------------------------------------------------------
def test_a_survey_joins_what_libvirt_and_xen_know(host: Host) -> None:
    host.run(memory=130, seconds=12.5)
    off = Domain("one-2", "u2", metadata(CATALOG, 2), SHUTOFF, 1)
    host.connection.domains += [off, Domain("one-3", "u3", metadata(OTHER, 3)), Domain("web", "u4", "")]
    host.dom0.domains["one-9"] = Running(9, STRANGER, 64)
    found = host.driver.survey(CATALOG)
    assert [(vm.vm_id, vm.state, vm.memory, vm.cpu_time) for vm in found.vms] == [
        (1, "RUNNING", 130, 12.5),
        (2, "POWEROFF", 0, 0.0),
    ]
    assert [(vm.uuid, vm.generation) for vm in found.vms] == [(UUID, 3), ("u2", 1)]
    assert found.foreign_memory == 64 + 8 + 1 + 1
    assert found.foreign_ids == {3, 9}


@pytest.mark.parametrize("name", ["a copy", "--domain", "7", "one-9", "it's"])
def test_a_copy_of_a_machines_domain_is_another_machine(host: Host, name: str) -> None:
    """Its memory is a stranger's, and a command about it names it so that it can mean nothing else."""
    copy = Domain(name, STRANGER, metadata(CATALOG, 1), SHUTOFF, 1)
    for both in ([copy, host.domain], [host.domain, copy]):
        host.connection.domains = both
        found = host.driver.survey(CATALOG)
        assert [(vm.vm_id, vm.uuid) for vm in found.vms] == [(1, UUID)]
        assert found.foreign_ids == ({9} if name == "one-9" else set())
        (told,) = [each for each in host.driver.inventory()[0] if each.uuid == STRANGER]
        for command in (told.turn, told.undefine, told.forget, told.unmark):
            assert STRANGER in command and name not in command.split()
            assert is_ours(command, told)


@pytest.mark.parametrize(("reason", "ended"), [(1, "guest"), (0, "unknown"), (2, "")])
def test_who_ended_a_machine(host: Host, reason: int, ended: str) -> None:
    host.domain.become(SHUTOFF, reason)
    assert [vm.ended for vm in host.driver.survey(CATALOG).vms] == [ended]
    host.run()
    assert [vm.ended for vm in host.driver.survey(CATALOG).vms] == [""]


def test_an_inventory_names_what_xen_runs_and_libvirt_does_not_know(host: Host) -> None:
    host.run()
    host.dom0.domains["web"] = Running(8, STRANGER)
    (found,), foreign = host.driver.inventory()
    assert (found.name, found.state, found.directory) == ("one-1", "RUNNING", str(host.directory))
    assert found.undefine == "virsh -c xen:///system destroy one-1; virsh -c xen:///system undefine one-1"
    assert foreign == ("web",)


@pytest.mark.parametrize(
    ("known", "uuid", "foreign"),
    [(True, None, False), (True, STRANGER, False), (False, None, False), (False, STRANGER, True), (False, UUID, False)],
)
def test_a_domain_that_libvirt_did_not_make_has_its_name(
    host: Host, known: bool, uuid: str | None, foreign: bool
) -> None:
    if not known:
        host.connection.domains.clear()
    if uuid is not None:
        host.dom0.domains["one-1"] = Running(7, uuid)
    assert host.driver.is_foreign(MARK, str(host.directory)) is foreign


def test_a_machine_is_off_when_xen_has_taken_all_of_it_away(host: Host) -> None:
    host.run()
    host.domain.become(SHUTOFF)
    host.clock.then = lambda since: host.dom0.domains.pop("one-1", None) if since > 4 else None
    assert host.driver.state(MARK) == "POWEROFF"
    assert 4 < host.clock.now - 1000 < 5


# -- definition --------------------------------------------------------------------------------------------------------
def test_only_a_running_machine_has_its_new_weight_at_once(host: Host) -> None:
    host.define()
    assert host.dom0.did() == [] and len(host.connection.defined) == 1
    host.run()
    host.define(host.vm(cpu_limit=50))
    assert host.dom0.did() == ["sched-credit2 -d one-1 -w 128 -c 50"]
    assert (host.dom0.consoles / "guest-one-1.log").readlink() == host.directory / "console.log"


def test_a_running_machine_gets_and_loses_disks_nics_and_memory(host: Host) -> None:
    host.define(host.vm(disks=(Disk(0, "xvda"),), nics=(Nic(0, 0, "net", mac=MAC, bridge="br0"),)))
    host.run()
    host.dom0.did()
    host.domain.memory = 128 << 10
    new = "02:00:c0:a8:46:97"
    host.dom0.answers["block-list"] = "Vdev  BE  handle state evt-ch ring-ref BE-path\n51712 0 7 4 -1 8 /local/...\n"
    vm = host.vm(disks=(Disk(1, "xvdb"),), nics=(Nic(0, 0, "net", mac=new, bridge="br0"),), memory=256)
    assert host.driver.adjust(vm, host.site(vm), MARK, Adjustment(removes=True)).changed
    # Its guest is asked for the disk first.
    assert host.dom0.did() == ["block-detach one-1 51712"]
    told = [(name, ET.fromstring(text), flags) for name, text, flags in host.domain.did[:-1]]
    assert [(name, element.tag, flags) for name, element, flags in told] == [
        ("detachDeviceFlags", "disk", 1),
        ("attachDeviceFlags", "disk", 1),
        ("detachDeviceFlags", "interface", 1),
        ("attachDeviceFlags", "interface", 1),
    ]
    places = [element.find(path) for (_n, element, _f), path in zip(told, ("target", "target", "mac", "mac"))]
    assert [each.attrib for each in places if each is not None] == [
        {"dev": "xvda", "bus": "xen"},
        {"dev": "xvdb", "bus": "xen"},
        {"address": MAC},
        {"address": new},
    ]
    assert host.domain.did[-1] == ("setMemoryFlags", 256 << 10, 1)


def test_a_disk_that_the_guest_keeps_is_not_taken_by_force(host: Host) -> None:
    host.define(host.vm(disks=(Disk(0, "xvda"),)))
    host.run()
    host.dom0.answers["block-list"] = "Vdev  BE  handle state evt-ch ring-ref BE-path\n51712 0 7 4 -1 8 /local/...\n"
    host.dom0.fails["block-detach"] = "libxl: error: libxl_device.c:1:f: unable to remove device with path /local/..."
    vm = host.vm(disks=())
    with pytest.raises(TimedOut, match=r"disk xvda.*unable to remove device.*umount"):
        host.driver.adjust(vm, host.site(vm), MARK, Adjustment(removes=True))
    assert not any(each[0] == "detachDeviceFlags" for each in host.domain.did)


def test_what_a_running_machine_has_and_is_to_have_no_more(host: Host) -> None:
    host.run()
    host.dom0.served[7] = ({number: f"{host.directory}/disk.{number}" for number in (0, 1)}, {MAC: "one-1-0"})
    vm = host.vm(disks=(Disk(0, "xvda"),))
    assert host.driver.devices_left(vm, str(host.directory), MARK) == ("DISK 1", "NIC 0")


def test_a_machine_that_has_what_it_is_to_have_is_left_alone(host: Host) -> None:
    vm = host.vm(disks=(Disk(0, "xvda"),))
    host.define(vm)
    host.run()
    host.domain.memory = 128 << 10
    assert not host.driver.adjust(vm, host.site(vm), MARK, Adjustment(removes=True)).changed
    # Its guest was asked to have it, and takes its time.
    host.dom0.store["/local/domain/7/memory/target"] = str(256 << 10)
    bigger = replace(vm, memory=256)
    assert not host.driver.adjust(bigger, host.site(bigger), MARK, Adjustment(removes=True)).changed
    assert host.domain.did == []


@pytest.mark.parametrize(
    ("os_", "device", "runs_with", "changed"),
    [
        (Os(), "cdrom", "cdrom", True),
        (Os(), "disk", "disk", False),
        (Os(), "cdrom", "disk", False),
        # It is at another place as yet.
        (Os(), "cdrom", "", False),
        (Os(bootloader="pygrub"), "cdrom", "cdrom", False),
    ],
)
def test_only_an_emulated_drive_has_a_medium_that_changes(
    host: Host, os_: Os, device: str, runs_with: str, changed: bool
) -> None:
    vm = host.vm(os=os_, context=Context(1, "hdc:cdrom", device=device))
    host.run()
    host.dom0.store["/local/domain/7/device/vbd/5632/device-type"] = runs_with
    assert host.driver.change_medium(vm, MARK, "/a/disk.1") is changed
    assert host.dom0.did() == (["cd-insert one-1 hdc /a/disk.1"] if changed else [])


def test_a_machine_is_forgotten_with_all_that_it_had_here(host: Host) -> None:
    host.define(host.vm(nics=(Nic(0, 0, "net", "br-int", MAC, network_values={"VN_MAD": "ovn"}),)))
    ports = host.dom0.etc / "nebula-ports"
    assert [path.name for path in ports.iterdir()] == [UUID]
    host.run()
    log = host.dom0.logs / "xl-one-1.log"
    log.touch()
    assert host.driver.remove(MARK)
    assert host.domain.did == [("destroy",), ("undefineFlags", 1)]
    assert not log.exists() and list(host.dom0.consoles.iterdir()) == [] == list(ports.iterdir())
    host.connection.domains.clear()
    assert not host.driver.remove(MARK)


# -- state -------------------------------------------------------------------------------------------------------------
def test_a_machine_has_its_weight_when_it_has_started(host: Host) -> None:
    host.define(host.vm(cpu_limit=50))
    host.driver.start(MARK)
    assert host.domain.names() == ["create"]
    assert host.dom0.did() == ["sched-credit2 -d one-1 -w 128 -c 50"]


def test_a_name_that_xen_has_and_libvirt_did_not_give_is_not_started_over(host: Host) -> None:
    host.run(STRANGER)
    with pytest.raises(ForeignObject, match=f"that libvirt did not make, with UUID {STRANGER}.*xl rename"):
        host.driver.start(MARK)
    assert host.domain.did == []


def test_what_the_host_lacks_is_said_before_a_start(host: Host) -> None:
    host.kernel.unlink()
    with pytest.raises(NotFound, match=f"starting virtual machine 1: {host.kernel} is not on this host"):
        host.driver.start(MARK)
    assert host.domain.did == []


def test_a_tool_that_hangs_is_waited_for_and_named(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xl, "time", host.clock)
    monkeypatch.setattr(xl, "lock_holder", lambda: 4242)
    for act in (host.driver.start, lambda mark: host.driver.resume(mark, "/a/checkpoint")):
        with pytest.raises(TimedOut, match=r"virtual machine 1: process 4242 .*has held the lock.*kill 4242"):
            act(MARK)
    assert host.domain.did == []


def test_a_start_that_fails_is_told_by_what_libxl_said_since(host: Host) -> None:
    when = "2026-03-01 10:00:00.123+0000: "
    host.log.write_text(f"{when}libxl: Domain 3:Out of memory of another one\n", encoding="ascii")

    def fail() -> None:
        said = f"{when}libxl: libxl_create.c:722:libxl__domain_make: Domain 9:Cannot allocate memory\n"
        with host.log.open("a", encoding="ascii") as file:
            file.write(said)

    host.domain.then["create"] = fail
    host.domain.fails["create"] = LibvirtError("internal error: libxenlight failed to create new domain 'one-1'")
    host.dom0.answers["dmesg"] = "(XEN) d9v0 Over-allocation\n(XEN) d3v0 another\n"
    (host.dom0.logs / "qemu-dm-one-1.log").write_text("qemu: no room\n", encoding="ascii")
    with pytest.raises(NoCapacity) as caught:
        host.driver.start(MARK)
    assert caught.value.found.splitlines() == [
        "internal error: libxenlight failed to create new domain 'one-1'",
        "Cannot allocate memory",
        "(XEN) d9v0 Over-allocation",
        "qemu: no room",
    ]
    assert "Ask for less MEMORY" in caught.value.remedy


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("Cannot get interface MTU on 'br9': No such device", "run role nebula.provision.network first"),
        ("domain 'one-1' is already active", "End the other domain"),
        # What libvirt has no remedy for may be Xen's own.
        ("Too many VCPUs for this domain", "Ask for fewer VCPU"),
    ],
)
def test_a_start_of_which_libxl_says_nothing_is_told_by_libvirt(host: Host, said: str, remedy: str) -> None:
    host.domain.fails["create"] = LibvirtError(said)
    with pytest.raises(HypervisorError, match=said) as caught:
        host.driver.start(MARK)
    assert remedy in caught.value.remedy


def test_a_guest_is_asked_by_its_own_way_to_end(host: Host) -> None:
    host.run()
    host.clock.then = lambda since: host.end() if since > 15 else None
    host.driver.shutdown(MARK, 60)
    assert host.domain.did == [("shutdownFlags", 0)] * 2


@pytest.mark.parametrize(("left", "words"), [("poweroff", "no handler for it"), ("", "It has heard of it")])
def test_a_guest_that_does_not_obey_runs_on(host: Host, left: str, words: str) -> None:
    host.run()
    host.dom0.store["/local/domain/7/control/shutdown"] = left
    with pytest.raises(TimedOut, match=rf"shutting virtual machine 1 down.*within 5 s.*{words}.*hard: true"):
        host.driver.shutdown(MARK, 5)
    with pytest.raises(TimedOut, match=rf"rebooting virtual machine 1: .*within 5 s.*{words}.*state: reset"):
        host.driver.reboot(MARK, 5)
    assert set(host.domain.names()) == {"shutdownFlags", "reboot"}


def test_a_machine_that_came_back_from_a_reboot_has_its_weight_again(host: Host) -> None:
    host.run()

    def anew(since: float) -> None:
        if since > 3:
            host.domain.domid = 8

    host.clock.then = anew
    # A guest that ends at once is told as an error of the button.
    host.domain.fails["reboot"] = LibvirtError("domain is not running", 55)
    host.driver.reboot(MARK, 60)
    assert host.domain.did == [("reboot", 0)]
    assert host.dom0.did() == ["sched-credit2 -d one-1 -w 128 -c 0"]


def test_a_machine_that_is_off_is_not_rebooted(host: Host) -> None:
    with pytest.raises(NotFound, match=r"rebooting virtual machine 1: it does not run\. Start it first"):
        host.driver.reboot(MARK, 60)


def test_a_reset_ends_the_machine_and_starts_it(host: Host) -> None:
    host.run()
    host.domain.then["destroy"] = host.end
    host.driver.reset(MARK)
    assert host.domain.names() == ["destroy", "create"]


def test_a_machine_that_goes_on_from_its_memory_has_its_weight_again(host: Host) -> None:
    host.define(host.vm(cpu_limit=50))
    host.driver.resume(MARK, "/a/checkpoint")
    assert host.connection.restored == [("/a/checkpoint", None, 0)]
    assert host.dom0.did() == ["sched-credit2 -d one-1 -w 128 -c 50"]


def test_a_checkpoint_is_complete_with_its_last_record(host: Host, tmp_path: Path) -> None:
    saved = tmp_path / "checkpoint"
    assert not host.driver.checkpoint_complete(str(saved))
    for content, complete in (
        (xen_libvirt.SAVED + b"<domain/>" + bytes(8), True),
        (xen_libvirt.SAVED + b"<domain/>", False),
        (b"LibvirtQemudSave" + bytes(32), False),
    ):
        saved.write_bytes(content)
        assert host.driver.checkpoint_complete(str(saved)) is complete
    saved.unlink()
    # Nobody writes to it.
    os.mkfifo(saved)
    assert not host.driver.checkpoint_complete(str(saved))


def test_a_paused_machine_goes_on_where_it_stands(host: Host) -> None:
    host.run()
    host.domain.become(PAUSED, 1)
    host.driver.start(MARK)
    assert host.domain.names() == ["resume"]
