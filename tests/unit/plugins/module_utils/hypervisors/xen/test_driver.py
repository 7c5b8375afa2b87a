# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines of Xen by its own tools: what stands in /etc/xen, what `xl` is asked, and what is somebody else's. The dom0
is a stand-in (tests/tools/xl_stand_in.py), the directories and the clock are the test's own; a real dom0 is asked in
tests/integration/test_xen.py. What the older `xm` is asked is in test_xm.py."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from libvirt_stand_in import Clock
from xl_stand_in import Dom0, Running

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    Conflict,
    ForeignObject,
    HypervisorError,
    NebulaError,
    NoCapacity,
    NotFound,
    TimedOut,
)
from ansible_collections.nebula.provision.plugins.module_utils.host.node_file import Changes, NodeFile
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Adjustment, Departure, Mark, Site
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen import driver as xen
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen import xl
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen.dom0 import XenNode
from ansible_collections.nebula.provision.plugins.module_utils.model.answers.admin_commands import is_ours
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk, DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Graphics, Os, Vm

CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
OTHER = "77777777-8c55-4b0e-9d6a-2f1f3c7d9a10"
UUID = "5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d01"
STRANGER = UUID[:-1] + "9"
MARK = Mark(CATALOG, 1, UUID, 3)
MAC = "02:00:c0:a8:46:96"
SWITCHED = Nic(0, 0, "net", mac=MAC, bridge="br-int", network_values={"VN_MAD": "ovn"})


class Host:
    """A dom0 with a machine's directory and its driver."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dom0 = Dom0(root, monkeypatch)
        self.clock = Clock()
        monkeypatch.setattr(xen, "time", self.clock)
        self.directory = root / "0" / "1"
        self.directory.mkdir(parents=True)
        self.kernel = root / "vmlinuz"
        self.kernel.touch()
        self.path = self.dom0.etc / "one-1.cfg"
        self.driver = xen.XenDriver()

    def vm(self, **values: Any) -> Vm:
        os_ = Os(kernel=str(self.kernel), kernel_cmd="console=hvc0")
        return Vm(1, UUID, "web", "xen", 0.5, **{"memory": 128, "os": os_, **values})

    def site(self, vm: Vm, catalog: str = CATALOG) -> Site:
        ids = [disk.disk_id for disk in vm.disks] + ([vm.context.disk_id] if vm.context else [])
        files = {number: DiskFiles(str(self.directory / f"disk.{number}"), "raw") for number in ids}
        return Site(str(self.directory), catalog, 3, files, "xen")

    def define(self, vm: Vm | None = None, catalog: str = CATALOG) -> None:
        vm = vm or self.vm()
        self.driver.define(vm, self.driver.render(vm, self.site(vm, catalog)), replace(MARK, catalog=catalog))

    def run(self, uuid: str = UUID, **values: Any) -> Running:
        self.dom0.domains["one-1"] = Running(**{"domid": 7, "uuid": uuid, **values})
        return self.dom0.domains["one-1"]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


# -- what is there -----------------------------------------------------------------------------------------------------
def test_a_machine_is_what_stands_in_its_file_and_is_off_until_it_runs(host: Host) -> None:
    assert host.driver.state(MARK) is None and host.driver.starts_with_host(MARK) is None
    host.define()
    assert host.path.stat().st_mode & 0o777 == 0o600
    assert f"catalog={CATALOG} id=1 generation=3" in host.path.read_text(encoding="utf-8").splitlines()[0]
    assert host.driver.state(MARK) == "POWEROFF"
    assert host.dom0.did() == []


@pytest.mark.parametrize(
    ("flags", "state"),
    [
        ("r-----", "RUNNING"),
        ("-b----", "RUNNING"),
        ("------", "RUNNING"),
        ("--p---", "UNKNOWN"),
        ("----c-", "UNKNOWN"),
        # Shut down, and its tool is not there to take it away.
        ("---s--", "POWEROFF"),
        ("---sc-", "UNKNOWN"),
        # It does not go on for ever.
        ("-----d", "POWEROFF"),
        ("--ps-d", "POWEROFF"),
    ],
)
def test_states(host: Host, flags: str, state: str) -> None:
    host.define()
    host.run(flags=flags)
    assert host.driver.state(MARK) == state


def test_a_domain_that_is_ending_is_waited_for(host: Host) -> None:
    host.define()
    host.run(flags="-----d")
    host.clock.then = lambda since: host.dom0.domains.pop("one-1", None) if since > 5 else None
    assert host.driver.state(MARK) == "POWEROFF"
    assert 5 < host.clock.now - 1000 < 6


def test_a_domain_without_its_file_is_still_the_machine(host: Host) -> None:
    host.run()
    assert host.driver.state(MARK) == "RUNNING"
    assert host.driver.remove(MARK)
    assert host.dom0.did() == ["destroy one-1"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = 'one-1'\n", "has no mark of ours"),
        (f"# nebula catalog={CATALOG} id=1 generation=3 directory=/x\n", "has no mark of ours"),
        (f"# nebula catalog={OTHER} id=1 generation=3 directory=/x\nuuid = '{UUID}'\n", f"belongs to catalog {OTHER}"),
        (f"# nebula catalog={CATALOG} id=2 generation=3 directory=/x\nuuid = '{UUID}'\n", "belongs to catalog"),
    ],
)
def test_a_file_of_the_name_that_does_not_carry_the_mark_is_not_touched(host: Host, text: str, words: str) -> None:
    host.path.write_text(text, encoding="utf-8")
    driver = host.driver
    for act in (driver.state, driver.start, driver.cancel, driver.remove, driver.starts_with_host):
        with pytest.raises(ForeignObject, match=f"domain one-1: {host.path} {words}.*it will not be touched"):
            act(MARK)
    with pytest.raises(ForeignObject):
        host.define()
    assert host.path.read_text(encoding="utf-8") == text and host.dom0.did() == []


def test_a_link_in_the_files_place_is_somebodys(host: Host, tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    host.path.symlink_to(tmp_path / "other")
    with pytest.raises(ForeignObject, match="has no mark of ours"):
        host.driver.state(MARK)


def test_a_file_of_another_copy_of_the_catalog_is_not_touched(host: Host) -> None:
    host.define()
    with pytest.raises(Conflict, match=f"has the UUID {UUID}, this machine's is {STRANGER}.*another copy"):
        host.driver.remove(replace(MARK, uuid=STRANGER))
    assert host.path.exists()
    assert host.driver.state(replace(MARK, uuid="")) == "POWEROFF"


def test_a_domain_of_the_name_with_another_uuid_is_not_touched(host: Host) -> None:
    host.define()
    host.run(STRANGER)
    for act in (host.driver.state, host.driver.start, host.driver.cancel, host.driver.remove):
        with pytest.raises(ForeignObject, match=f"with another UUID, {STRANGER}.*xl rename"):
            act(MARK)
    assert host.dom0.did() == [] and host.path.exists()


@pytest.mark.parametrize(
    ("catalog", "uuid", "foreign"),
    [
        (None, None, False),
        (None, UUID, False),
        (None, STRANGER, True),
        (CATALOG, None, False),
        # It uses the machine's files, whosever it is.
        (OTHER, None, False),
    ],
)
def test_whose_a_name_is(host: Host, catalog: str | None, uuid: str | None, foreign: bool) -> None:
    if catalog is not None:
        host.define(host.vm(disks=(Disk(0, "xvda"),)), catalog)
    if uuid is not None:
        host.run(uuid)
    assert host.driver.is_foreign(MARK, str(host.directory)) is foreign
    assert host.driver.is_foreign(MARK, "/elsewhere") is (foreign or catalog == OTHER)


def test_a_survey_tells_ours_apart_from_others(host: Host) -> None:
    host.define()
    host.run(memory=130, seconds=12.5)
    (host.dom0.etc / "one-2.cfg").write_text(
        f"# nebula catalog={OTHER} id=2 generation=1 directory=/x\nuuid = '{STRANGER}'\n", encoding="utf-8"
    )
    (host.dom0.etc / "one-02.cfg").touch()
    host.dom0.domains["one-2"] = Running(8, STRANGER, 256)
    host.dom0.domains["one-9"] = Running(9, STRANGER, 512, 2)
    host.dom0.domains["web"] = Running(10, STRANGER, 64)
    found = host.driver.survey(CATALOG)
    (vm,) = found.vms
    assert (vm.vm_id, vm.uuid, vm.state, vm.generation) == (1, UUID, "RUNNING", 3)
    assert (vm.cpu_time, vm.memory, vm.ended) == (12.5, 130, "")
    # Each takes 8 MiB, 1 for each processor and a 64th besides.
    assert found.foreign_memory == (256 + 8 + 1 + 4) + (512 + 8 + 2 + 8) + (64 + 8 + 1 + 1)
    assert found.foreign_ids == {2, 9}


def test_a_copy_of_a_machines_definition_is_another_machine(host: Host) -> None:
    """It has the UUID and the id of the machine in its mark."""
    host.define()
    host.run()
    text = (host.dom0.etc / "one-1.cfg").read_text(encoding="utf-8")
    (host.dom0.etc / "one-12.cfg").write_text(text.replace("one-1'", "one-12'"), encoding="utf-8")
    assert [vm.vm_id for vm in host.driver.survey(CATALOG).vms] == [1]
    host.dom0.domains["one-12"] = Running(9, STRANGER, 64)
    found = host.driver.survey(CATALOG)
    assert [(vm.vm_id, vm.state) for vm in found.vms] == [(1, "RUNNING")]
    assert found.foreign_ids == {12} and found.foreign_memory == 64 + 8 + 1 + 1
    own, copy = host.driver.inventory()[0]
    assert (own.name, copy.name, own.uuid) == ("one-1", "one-12", copy.uuid)
    assert all(is_ours(command, copy) for command in (copy.turn, copy.undefine, copy.forget))
    assert copy.uuid not in copy.forget, "the file of that name is the machine's"


def test_a_machine_whose_name_xenstore_has_lost_runs_all_the_same(host: Host) -> None:
    """As after xenstored was started anew: by its UUID, which Xen itself has, it is known. Taken for off, it would be
    started a second time, and two would write to its disks."""
    host.define()
    host.dom0.domains["(null)"] = Running(7, UUID)
    (vm,) = host.driver.survey(CATALOG).vms
    assert (vm.state, vm.memory) == ("RUNNING", 128)
    with pytest.raises(HypervisorError, match=r"it runs as domain 7, and xenstore has no name of that.*xl destroy 7"):
        host.driver.start(MARK)
    assert host.dom0.did() == []
    # What is at its end has no name either, and nothing else has one of another's.
    host.dom0.domains["(null)"] = Running(7, UUID, flags="-----d")
    assert host.driver.survey(CATALOG).vms[0].state == "POWEROFF"
    host.driver.start(MARK)
    host.dom0.domains["(null)"] = Running(7, STRANGER)
    found = host.driver.survey(CATALOG)
    assert found.vms[0].state == "POWEROFF" and found.foreign_memory > 128


def test_where_xenstored_has_ended_nothing_is_taken_for_off(host: Host) -> None:
    host.define()
    host.dom0.domains["(null)"] = host.dom0.domains.pop("Domain-0")
    for ask in (lambda: host.driver.survey(CATALOG), host.driver.inventory, host.driver.capacity):
        with pytest.raises(HypervisorError, match=r"not even dom0's: xenstored was ended, or started anew"):
            ask()


@pytest.mark.parametrize(
    "said", ["xencall: error: Could not obtain handle on privileged command interface", "cannot init xl context"]
)
def test_tools_that_fail_are_an_error_with_their_own_words(host: Host, said: str) -> None:
    host.define()
    host.dom0.fails["list"] = said
    with pytest.raises(HypervisorError, match=said):
        host.driver.survey(CATALOG)


def test_a_machine_that_is_off_takes_no_memory_and_tells_who_ended_it(host: Host) -> None:
    host.define()
    (vm,) = host.driver.survey(CATALOG).vms
    assert (vm.state, vm.memory, vm.ended) == ("POWEROFF", 0, "unknown")


def test_a_domain_that_took_our_machines_name_makes_its_id_foreign(host: Host) -> None:
    host.define()
    host.run(STRANGER, memory=64)
    found = host.driver.survey(CATALOG)
    assert (found.vms, found.foreign_ids) == ((), {1}) and found.foreign_memory > 64


def test_an_inventory_tells_what_a_machine_has_and_what_would_end_it(host: Host) -> None:
    vm = host.vm(
        disks=(Disk(0, "xvda"), Disk(1, "xvdb")),
        nics=(Nic(0, 0, "net", mac=MAC, bridge="br0"),),
        graphics=Graphics(port=5901),
    )
    host.define(vm)
    host.run()
    host.dom0.domains["web"] = Running(8, STRANGER)
    (host.dom0.etc / "one-4.cfg").write_text("name = 'one-4'\n", encoding="ascii")
    (found,), foreign = host.driver.inventory()
    assert foreign == ("web",)
    assert (found.name, found.catalog, found.vm_id, found.uuid, found.state) == ("one-1", CATALOG, 1, UUID, "RUNNING")
    assert (found.generation, found.directory, found.port, found.macs) == (3, str(host.directory), 5901, (MAC,))
    assert found.disks == tuple(str(host.directory / f"disk.{number}") for number in (0, 1))
    link = host.dom0.etc / "auto" / "one-1.cfg"
    assert (found.autostart, found.turn) == (False, f"ln -s {host.path} {link}")
    assert found.undefine == f"xl destroy one-1; rm -f {host.path} {link}"
    assert found.forget == f"{found.undefine} {host.dom0.consoles}/guest-one-1.log"
    host.dom0.domains.pop("one-1")
    host.driver.set_starts_with_host(MARK, True)
    (found,), _foreign = host.driver.inventory()
    assert (found.state, found.autostart, found.turn) == ("POWEROFF", True, f"rm {link}")
    assert found.undefine == f"rm -f {host.path} {link}"
    host.define(host.vm(nics=(SWITCHED,)))
    (found,), _foreign = host.driver.inventory()
    assert found.forget == f"{found.undefine} {host.dom0.consoles}/guest-one-1.log {host.dom0.etc}/nebula-ports/{UUID}"


def test_whether_a_machine_starts_with_its_host_is_a_link(host: Host) -> None:
    host.define()
    assert host.driver.starts_with_host(MARK) is False
    for _ in range(2):
        host.driver.set_starts_with_host(MARK, True)
        assert os.readlink(host.dom0.etc / "auto" / "one-1.cfg") == str(host.path)
    assert host.driver.starts_with_host(MARK) is True
    for _ in range(2):
        host.driver.set_starts_with_host(MARK, False)
    assert host.driver.starts_with_host(MARK) is False and os.listdir(host.dom0.etc / "auto") == []


@pytest.mark.parametrize(
    ("undone", "check", "others", "stays"),
    [(True, False, False, False), (True, False, True, True), (True, True, False, True), (False, False, False, True)],
)
def test_a_node_that_is_given_back_has_no_directory_of_links(
    host: Host, monkeypatch: pytest.MonkeyPatch, undone: bool, check: bool, others: bool, stays: bool
) -> None:
    monkeypatch.setattr(XenNode, "give_back", classmethod(lambda *_arguments: undone))
    auto = host.dom0.etc / "auto"
    host.define()
    host.driver.set_starts_with_host(MARK, True)
    host.driver.remove(MARK)
    if others:
        (auto / "theirs.cfg").touch()
    assert host.driver.give_back(Changes(check), NodeFile()) is undone and auto.exists() is stays


# -- definition --------------------------------------------------------------------------------------------------------
def test_a_running_machine_has_its_new_weight_at_once(host: Host) -> None:
    host.define()
    assert host.dom0.did() == []
    host.run()
    host.define(host.vm(cpu_limit=50))
    assert host.dom0.did() == ["sched-credit2 -d one-1 -w 128 -c 50"]


BLOCKS = "Vdev  BE  handle state evt-ch ring-ref BE-path\n51712 0   7      4     -1     8        /local/...\n"
NICS = f"Idx BE Mac Addr.         handle state evt-ch   tx-/rx-ring-ref BE-path\n0   0  {MAC} 0 4 -1 -1/-1 /local/...\n"


def test_a_running_machine_gets_and_loses_disks_nics_and_memory(host: Host) -> None:
    new = "02:00:c0:a8:46:97"
    host.dom0.answers.update({"block-list": BLOCKS, "network-list": NICS})
    host.run(memory=128)
    vm = host.vm(disks=(Disk(1, "xvdb"),), nics=(Nic(0, 0, "net", mac=new, bridge="br0"),), memory=256)
    host.dom0.served[7] = ({51712: f"{host.directory}/disk.0"}, {})
    host.dom0.fails["block-detach"] = "libxl: error: libxl_device.c:1:f: unable to remove device with path /local/..."
    with pytest.raises(TimedOut, match=r"while it runs: DISK 0: unable to remove device.*umount.*state: poweroff"):
        host.driver.adjust(vm, host.site(vm), MARK, Adjustment(removes=True))
    host.dom0.fails.clear()
    host.dom0.did()
    assert host.driver.adjust(vm, host.site(vm), MARK, Adjustment(removes=True)).changed
    assert host.dom0.did() == [
        "block-detach one-1 51712",
        f"network-detach one-1 {MAC}",
        f"block-attach one-1 file:{host.directory}/disk.1,xvdb,w",
        f"network-attach one-1 mac={new} bridge=br0",
        "mem-set one-1 256m",
    ]


def test_what_a_running_machine_has_and_is_to_have_no_more(host: Host) -> None:
    """By what dom0 serves it: disks by their files, NICs by their names. What somebody else attached is not told."""
    image = host.directory.parent / "image"
    (host.directory / "disk.4").symlink_to(image)
    host.run()
    files = [f"{host.directory}/disk.{number}" for number in (0, 1, 2)]
    files += [str(image), "/somebody/disk.3", f"{host.directory}/other/disk.5"]
    nics = dict(enumerate(["one-1-0", "one-1-3", "one-11-1", "vif7.3", ""]))
    host.dom0.served[7] = (dict(enumerate(files)), {f"02:{number}": name for number, name in nics.items()})
    own = (Nic(0, 0, "net", mac=MAC, bridge="br0"),)
    vm = host.vm(disks=(Disk(0, "xvda"),), nics=own, context=Context(1, "hdc:cdrom"))
    assert host.driver.devices_left(vm, str(host.directory), MARK) == ("DISK 2", "DISK 4", "NIC 3")


def test_a_machine_that_has_what_it_is_to_have_is_left_alone(host: Host) -> None:
    host.dom0.answers.update({"block-list": BLOCKS, "network-list": NICS})
    host.run(memory=128)
    vm = host.vm(disks=(Disk(0, "xvda"),), nics=(Nic(0, 0, "net", mac=MAC.upper(), bridge="br0"),))
    assert not host.driver.adjust(vm, host.site(vm), MARK, Adjustment(removes=True)).changed
    # Its guest was asked to have it, and takes its time.
    host.dom0.store["/local/domain/7/memory/target"] = str(256 << 10)
    bigger = replace(vm, memory=256)
    assert not host.driver.adjust(bigger, host.site(bigger), MARK, Adjustment(removes=True)).changed
    assert host.dom0.did() == []


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
    host.define(host.vm(nics=(SWITCHED,)))
    ports = host.dom0.etc / "nebula-ports"
    assert [path.name for path in ports.iterdir()] == [UUID]
    host.run()
    host.driver.set_starts_with_host(MARK, True)
    log = host.dom0.logs / "xl-one-1.log"
    log.touch()
    assert (host.dom0.consoles / "guest-one-1.log").is_symlink()
    assert host.driver.remove(MARK)
    assert host.dom0.did() == ["destroy one-1"]
    left = [
        path for path in (*host.dom0.etc.rglob("*.cfg"), *host.dom0.consoles.iterdir(), log) if os.path.lexists(path)
    ]
    assert left == [] and list(ports.iterdir()) == []
    assert not host.driver.remove(MARK)


# -- state -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("flags", "did"),
    [
        (None, ["create -q {path}"]),
        ("--p---", ["unpause one-1"]),
        # What is left of a crash is in the way of a new start.
        ("----c-", ["destroy one-1", "create -q {path}"]),
    ],
)
def test_what_a_start_takes(host: Host, flags: str | None, did: list[str]) -> None:
    host.define()
    if flags is not None:
        host.run(flags=flags)
    host.driver.start(MARK)
    assert host.dom0.did() == [words.format(path=host.path) for words in did]


def test_a_machine_without_its_file_can_not_be_started(host: Host) -> None:
    with pytest.raises(NotFound, match=r"there is no .*/one-1\.cfg.*defined anew"):
        host.driver.start(MARK)


def test_what_the_host_lacks_is_said_before_anything_is_done(host: Host) -> None:
    host.define()
    host.kernel.unlink()
    host.run(flags="----c-")
    with pytest.raises(NotFound, match=f"{host.kernel} is not on this host. Check OS KERNEL and INITRD"):
        host.driver.start(MARK)
    assert host.dom0.did() == []


def test_a_tool_that_hangs_is_waited_for_and_named(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.define()
    monkeypatch.setattr(xl, "time", host.clock)
    monkeypatch.setattr(xl, "lock_holder", lambda: 4242)
    for act in (host.driver.start, lambda mark: host.driver.resume(mark, "/a/checkpoint")):
        with pytest.raises(TimedOut, match=r"virtual machine 1: process 4242 .*has held the lock.*kill 4242"):
            act(MARK)
    assert host.dom0.did() == []


def test_a_start_that_fails_is_told_in_all_words_there_are_and_cleared_away(host: Host) -> None:
    host.define()
    said = "libxl: error: libxl_create.c:722:libxl__domain_make: Domain 9:Cannot allocate memory"
    host.dom0.fails["create"] = said
    host.dom0.then["create"] = lambda: host.run(domid=9, flags="--p---")
    host.dom0.answers["dmesg"] = "(XEN) d9v0 Over-allocation\n(XEN) d8v0 nothing\n"
    (host.dom0.logs / "qemu-dm-one-1.log").write_text("qemu: it has no room\n", encoding="ascii")
    with pytest.raises(NoCapacity) as caught:
        host.driver.start(MARK)
    assert caught.value.asked == "starting virtual machine 1" and caught.value.remedy == xl.LESS_MEMORY
    found = caught.value.found.splitlines()
    assert found[0].endswith("Cannot allocate memory") and "(XEN) d9v0 Over-allocation" in found
    assert "qemu: it has no room" in found and found[-1] == "Xen has 6012 MiB to give"
    assert "d8v0" not in caught.value.found
    assert host.dom0.did()[-1] == "destroy one-1" and "one-1" not in host.dom0.domains


def test_a_domain_that_was_there_first_is_not_cleared_away(host: Host) -> None:
    host.define()
    host.dom0.fails["create"] = 'libxl: error: Domain with name "one-1" already exists.'
    host.dom0.then["create"] = lambda: host.run(STRANGER)
    with pytest.raises(HypervisorError, match=r"already exists. End or rename the one that is there"):
        host.driver.start(MARK)
    assert host.dom0.domains["one-1"].uuid == STRANGER
    assert not [words for words in host.dom0.did() if words.startswith("destroy")]


def test_a_domain_that_does_not_go_is_named(host: Host) -> None:
    host.define()
    host.run(flags="r-----")
    host.dom0.fails["destroy"] = "libxl: error: it is still mapped"
    with pytest.raises(TimedOut, match=r"ending virtual machine 1: domain 7 is still there, r-----.*xl dmesg"):
        host.driver.cancel(MARK)


def test_a_guest_is_asked_again_until_it_obeys(host: Host) -> None:
    host.define()
    host.run()
    host.clock.then = lambda since: host.dom0.domains.pop("one-1", None) if since > 15 else None
    host.driver.shutdown(MARK, 60)
    assert host.dom0.did() == ["shutdown -F one-1"] * 2


def test_a_domain_that_has_shut_down_and_is_left_is_taken_away(host: Host) -> None:
    host.define()
    host.run()
    host.dom0.then["shutdown"] = lambda: host.run(flags="---s--")
    host.driver.shutdown(MARK, 60)
    assert host.dom0.did() == ["shutdown -F one-1", "destroy one-1"]


@pytest.mark.parametrize(("left", "words"), [("poweroff", "no handler for it"), ("", "It has heard of it")])
def test_a_guest_that_does_not_obey_runs_on(host: Host, left: str, words: str) -> None:
    host.define()
    host.run()
    host.dom0.store["/local/domain/7/control/shutdown"] = left
    for act, asked in ((host.driver.shutdown, "shutting virtual machine 1 down"), (host.driver.reboot, "rebooting")):
        with pytest.raises(TimedOut, match=rf"{asked}.*within 5 s; it runs on. .*{words}.*hard: true"):
            act(MARK, 5)
    assert "one-1" in host.dom0.domains


@pytest.mark.parametrize("holder", [0, 4711])
def test_a_tool_that_waits_for_the_guests_word_is_no_fault_of_the_host(host: Host, monkeypatch, holder: int) -> None:
    host.define()
    host.run()

    def hangs() -> None:
        raise TimedOut("command xl shutdown", "not done after 60 s")

    host.dom0.then["shutdown"] = hangs
    monkeypatch.setattr(xl, "lock_holder", lambda: holder)
    monkeypatch.setattr(xen, "lock_holder", lambda: holder)
    with pytest.raises(TimedOut) as caught:
        host.driver.shutdown(MARK, 90)
    words = "process 4711" if holder else "the guest did not obey within 90 s; it runs on"
    assert words in str(caught.value) and ("set hard: true" in str(caught.value)) is not bool(holder)


def test_a_machine_that_came_back_from_a_reboot_has_its_weight_again(host: Host) -> None:
    host.define(host.vm(cpu_limit=50))
    host.run()
    host.clock.then = lambda since: host.run(domid=8) if since > 3 else None
    host.driver.reboot(MARK, 60)
    assert host.dom0.did() == ["reboot -F one-1", "sched-credit2 -d one-1 -w 128 -c 50"]


def test_what_only_a_running_machine_can_do_is_refused_to_others(host: Host) -> None:
    host.define()
    driver = host.driver
    for act in (lambda: driver.reboot(MARK, 1), lambda: driver.reset(MARK), lambda: driver.suspend(MARK, "/x")):
        with pytest.raises(NotFound, match=r"virtual machine 1: Xen has no domain of it\. Start it first"):
            act()
    assert host.dom0.did() == []


def test_a_machine_is_reset_saved_and_restored(host: Host) -> None:
    host.define()
    host.run()
    host.driver.reset(MARK)
    assert host.dom0.did() == ["destroy one-1", f"create -q {host.path}"]
    host.run()
    host.driver.suspend(MARK, "/a/checkpoint.partial")
    host.driver.resume(MARK, "/a/checkpoint")
    assert host.dom0.did() == ["save one-1 /a/checkpoint.partial", f"restore {host.path} /a/checkpoint"]


def test_a_checkpoint_that_is_not_there_or_of_something_else_is_not_complete(host: Host, tmp_path: Path) -> None:
    saved = tmp_path / "checkpoint"
    assert not host.driver.checkpoint_complete(str(saved))
    saved.write_bytes(b"libvirt-xml")
    assert not host.driver.checkpoint_complete(str(saved))
    saved.write_bytes(xl.SAVED + bytes(16))
    assert host.driver.checkpoint_complete(str(saved))


# -- to another host ---------------------------------------------------------------------------------------------------
def moving(host: Host) -> Path:
    vm = host.vm(disks=(Disk(0, "xvda"),), nics=(SWITCHED,))
    disk = host.directory / "disk.0"
    disk.touch()
    host.define(vm)
    host.run()
    return disk


class Moving:
    """In place of the two xl: what the old host's does. ends: the state of the machine's domain then, "" without one;
    gives: it has said that the machine is the other host's."""

    def __init__(self, host: Host, gives: bool, ends: str, error: NebulaError | None = None) -> None:
        self.host, self.gives, self.ends, self.error = host, gives, ends, error

    def depart(self, tool: str, name: str, departure: Departure, given: Callable[[], None], asked: str) -> None:
        assert (tool, name) == ("xl", "one-1")
        if self.gives:
            given()
            assert not self.host.path.exists(), "the machine is this host's still"
        del self.host.dom0.domains["one-1"]
        if self.ends:
            self.host.dom0.domains[self.ends] = Running(7, UUID)
        if self.error is not None:
            raise self.error


def departing(host: Host, monkeypatch: pytest.MonkeyPatch, **how: Any) -> None:
    moving(host)
    monkeypatch.setattr(xen.xl_migration, "depart", Moving(host, **how).depart)
    monkeypatch.setattr(xen.xl_migration, "wait_for_tool", lambda name, asked: None)
    departure = Departure("token", "", (), None, 60, lambda: False)  # type: ignore[arg-type]
    host.driver.depart(host.vm(), MARK, departure)


def test_a_machine_that_has_moved_is_not_defined_here_any_more(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    departing(host, monkeypatch, gives=True, ends="")
    assert list(host.dom0.etc.glob("one-1*")) == []
    assert list((host.dom0.etc / "nebula-ports").iterdir()) == []
    assert host.driver.settle_departure(MARK, "token") is None


@pytest.mark.parametrize(("gives", "ends", "state"), [
    (False, "one-1", "RUNNING"),
    # Its own, since the other host could not start it.
    (True, "one-1", "RUNNING"),
    (True, "one-1--migratedaway", None),
    (False, "one-1--migratedaway", "POWEROFF"),
    # xl was ended, and its domain with it; it was not the other host's by then.
    (False, "", "POWEROFF"),
    (True, "", None),
])  # fmt: skip
def test_a_departure_that_fails_is_settled_by_what_xl_said(
    host: Host, monkeypatch: pytest.MonkeyPatch, gives: bool, ends: str, state: str | None
) -> None:
    with pytest.raises(HypervisorError, match="lost"):
        departing(host, monkeypatch, gives=gives, ends=ends, error=HypervisorError("moving", "the link is lost"))
    assert host.driver.settle_departure(MARK, "token") == state
    assert host.driver.state(MARK) == state
    assert host.path.exists() == (state is not None)
    left = [each.name for each in host.dom0.etc.glob("one-1.left")]
    assert left == [] and "one-1--migratedaway" not in host.dom0.domains


def test_what_comes_is_what_runs_there(host: Host) -> None:
    vm = host.vm(disks=(Disk(0, "xvda"),), nics=(Nic(0, 0, "net", mac=MAC, bridge="br0"),))
    (host.dom0.network / "br0" / "bridge").mkdir(parents=True)
    (host.directory / "disk.0").touch()
    host.define(vm)
    host.run()
    host.dom0.answers["block-list"] = (
        "Vdev  BE  handle state evt-ch ring-ref BE-path\n51712 0   1      4     9      8        /b\n"
    )
    host.dom0.answers["network-list"] = (
        "Idx BE Mac Addr.         handle state evt-ch   tx-/rx-ring-ref BE-path\n"
        f"0   0  {MAC}     0     4     11      768/769   /local/domain/0/backend/vif/1/0\n"
    )
    offered = host.driver.offer(MARK)
    assert json.loads(offered) == {"vcpus": 1, "disks": [51712], "nics": [MAC]}
    site = host.site(vm)
    host.driver.remove(MARK)
    text = host.driver.accept(vm, site, offered)
    assert text == host.path.read_text() and not host.driver.has_arrived(MARK)
    assert not (host.dom0.etc / "auto" / "one-1.cfg").exists()
    host.run(flags="--p---")
    assert host.driver.has_arrived(MARK)
    for other in ({"vcpus": 2}, {"disks": []}, {"nics": [MAC, "02:00:00:00:00:01"]}):
        with pytest.raises(Conflict, match=r"it runs with .* by its plan it has 1 processors, disks 51712 and NICs"):
            host.driver.accept(vm, site, json.dumps({**json.loads(offered), **other}))
    for nonsense in ("", "[]", "{}", '{"vcpus": "x", "disks": [], "nics": []}', '{"vcpus": 1, "disks": 1, "nics": []}'):
        with pytest.raises(ForeignObject, match="does not say what runs there"):
            host.driver.accept(vm, site, nonsense)


@pytest.mark.parametrize("suffix", ["--incoming", "--migratedaway"])
def test_what_xl_leaves_of_a_machine_on_its_way_goes_with_it(host: Host, suffix: str) -> None:
    moving(host)
    del host.dom0.domains["one-1"]
    host.dom0.domains[f"one-1{suffix}"] = Running(8, UUID)
    host.dom0.domains[f"one-2{suffix}"] = Running(9, STRANGER)
    host.driver.remove(MARK)
    assert set(host.dom0.domains) == {"Domain-0", f"one-2{suffix}"}
    host.dom0.domains[f"one-1{suffix}"] = Running(8, STRANGER)
    host.driver.remove(MARK)
    assert f"one-1{suffix}" in host.dom0.domains


@pytest.mark.parametrize("suffix", ["--incoming", "--migratedaway"])
def test_what_xl_left_half_does_not_keep_a_machine_from_starting(host: Host, suffix: str) -> None:
    host.define()
    host.dom0.domains[f"one-1{suffix}"] = Running(8, UUID)
    host.driver.start(MARK)
    assert host.dom0.did() == [f"destroy one-1{suffix}", f"create -q {host.path}"]


def test_a_machine_that_xenstore_has_forgotten_does_not_move_as_if_it_were_off(host: Host) -> None:
    host.define()
    host.driver.let_go(MARK)
    host.dom0.domains["(null)"] = Running(7, UUID)
    with pytest.raises(HypervisorError, match=r"moving virtual machine 1: it runs as domain 7"):
        host.driver.let_go(MARK)
