# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from libvirt_stand_in import Connection, Domain, LibvirtError, install, libvirt, metadata

from ansible_collections.nebula.provision.plugins.module_utils.dataclass import replace
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    ForeignObject,
    HypervisorError,
    NotFound,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import (
    Adjustment,
    Deployment,
    Mark,
    Site,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import kvm, qemu_logs
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.domains import error_of_libvirt
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.kvm import (
    REMEDIES,
    SAVED,
    TRAY_CLOSED,
    TRAY_TRIES,
    KvmDriver,
    lost_the_race_for_cgroups,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm

CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
UUID = "5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d01"
MARK = Mark(CATALOG, 1, UUID, 1)
CLOSED = "unable to execute QEMU command 'blockdev-remove-medium': Tray of the device is not open"


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> Domain:
    """A machine of ours, which a driver finds."""
    made = Domain("one-1", UUID, metadata(CATALOG, 1, 1, "/var/lib/nebula/datastores/0/1"), state=1)
    library = libvirt(lambda _uri: Connection(made))
    for number, name in enumerate(("UNDEFINE_SNAPSHOTS_METADATA", "UNDEFINE_NVRAM", "DEVICE_MODIFY_FORCE"), start=1):
        setattr(library, f"VIR_DOMAIN_{name}", 1 << number)
    install(monkeypatch, library)
    return made


@pytest.mark.parametrize(
    ("message", "lost"),
    [
        # As libvirt 9.0 said it.
        ("Unable to write to '/sys/fs/cgroup/cpuset/machine/cpuset.memory_migrate': No such file or directory", True),
        (
            "Unable to write to '/sys/fs/cgroup/cpuset/machine/qemu-3-one-0/emulator/tasks': No space left on device",
            True,
        ),
        ("Unable to write to '/var/lib/libvirt/qemu/save/one-0.save': No space left on device", False),
        ("Cannot access storage file '/var/lib/nebula/datastores/0/0/disk.0': No such file or directory", False),
        ("Unable to write to '/sys/fs/cgroup/cpuset/machine/cpuset.mems': Permission denied", False),
    ],
)
def test_only_the_race_for_the_common_group_is_tried_twice(message, lost):
    assert lost_the_race_for_cgroups(message) is lost


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        # As libvirt 9.0 said it where swtpm was not installed, and where a secret was not there.
        ("unsupported configuration: TPM version '2.0' is not supported", "swtpm-tools"),
        (
            "Secret not found: no secret with matching uuid '9a3f5d0e-6a2f-4a57-8f2e-0d5d6f3f8a11'",
            "nebula_luks_secrets",
        ),
        # Where ovmf was not installed: the one of a machine whose firmware libvirt chooses, the other of an older one.
        ("operation failed: Unable to find any firmware to satisfy 'efi'", "ovmf"),
        ("operation failed: Unable to find 'efi' firmware that is compatible with the current configuration", "ovmf"),
    ],
)
def test_what_is_missing_is_named(message, remedy):
    assert remedy in error_of_libvirt("starting it", message, REMEDIES).remedy


@pytest.mark.parametrize(
    ("message", "closed"),
    [
        # As QEMU 7.2 said it, of a device that it knows by a name and of one that it does not.
        ("unable to execute QEMU command 'blockdev-remove-medium': Tray of device 'ide0-0-0' is not open", True),
        ("unable to execute QEMU command 'blockdev-remove-medium': Tray of the device is not open", True),
        ("unable to execute QEMU command 'blockdev-open-tray': Device 'ide0-0-0' is locked", False),
    ],
)
def test_a_tray_that_the_guest_has_drawn_in_is_opened_again(message, closed):
    assert bool(TRAY_CLOSED.search(message)) is closed


# The context's, as a running machine has it.
DRIVE = "<disk device='cdrom'><source file='/d/1/disk.1'/><target dev='sda'/></disk>"


@pytest.mark.parametrize(
    ("message", "times", "opened", "error"),
    [
        (CLOSED, 0, 0, ""),
        (CLOSED, 2, 2, ""),
        (CLOSED, TRAY_TRIES - 1, TRAY_TRIES - 1, ""),
        (CLOSED, TRAY_TRIES, TRAY_TRIES - 1, "changing the context of .*Tray of the device is not open"),
        ("Device is locked", 1, 0, "changing the context of .*Device is locked"),
    ],
)
def test_a_context_is_put_in_again_where_the_guest_draws_the_tray_in(
    domain: Domain, monkeypatch: pytest.MonkeyPatch, message: str, times: int, opened: int, error: str
) -> None:
    # One for the change in one go, which is tried first.
    failures, trays = [message] * (times + 1 if times else 0), []

    def update(_text: str, _flags: int) -> None:
        if failures:
            raise LibvirtError(failures.pop())

    domain.updateDeviceFlags = update
    domain.XMLDesc = lambda _flags: f"<domain><devices>{DRIVE}</devices></domain>"
    monkeypatch.setattr(kvm, "RunningDisks", lambda *_arguments: SimpleNamespace(open_tray=trays.append))
    vm = Vm(1, UUID, "web", "kvm", 1.0, 64, context=Context(1, "sda"))
    if error:
        with pytest.raises(HypervisorError, match=error):
            KvmDriver().change_medium(vm, MARK, "/d/1/disk.1")
    else:
        assert KvmDriver().change_medium(vm, MARK, "/d/1/disk.1")
    assert trays == ["sda"] * opened


@pytest.mark.parametrize(
    ("runs_with", "changed"),
    [
        ("<disk device='cdrom'><target dev='sda'/></disk>", True),
        ("<disk device='disk'><target dev='sda'/></disk>", False),
        ("<disk device='cdrom'><target dev='sdb'/></disk>", False),
    ],
)
def test_a_context_that_is_to_be_in_a_drive_is_not_put_into_a_disk(
    domain: Domain, runs_with: str, changed: bool
) -> None:
    given: list[str] = []
    domain.updateDeviceFlags = lambda text, _flags: given.append(text)
    domain.XMLDesc = lambda _flags: f"<domain><devices>{runs_with}</devices></domain>"
    vm = Vm(1, UUID, "web", "kvm", 1.0, 64, context=Context(1, "sda"))
    assert KvmDriver().change_medium(vm, MARK, "/d/1/disk.1") is changed
    assert len(given) == changed


def test_a_new_context_has_another_name_each_time(domain: Domain) -> None:
    """A file of the name that libvirt knows already is no change to it."""
    given: list[str] = []
    vm = Vm(1, UUID, "web", "kvm", 1.0, 64, context=Context(1, "sda"))

    def update(text: str, _flags: int) -> None:
        given.append(re.search('file="([^"]*)"', text)[1])
        domain.XMLDesc = lambda _flags: f"<domain><devices>{text}</devices></domain>"

    domain.updateDeviceFlags = update
    domain.XMLDesc = lambda _flags: f"<domain><devices>{DRIVE}</devices></domain>"
    for _time in range(3):
        assert KvmDriver().change_medium(vm, MARK, "/d/1/disk.1")
    assert given == ["/d/1//disk.1", "/d/1/disk.1", "/d/1//disk.1"]


def test_one_look_is_enough_for_steps_that_follow_each_other(domain: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look takes milliseconds, and a run changes many machines."""
    domain.xml = f"<domain><devices>{DRIVE}</devices></domain>"
    looks: list[str] = []
    look = domain.XMLDesc
    domain.XMLDesc = lambda flags: looks.append(flags) or look(flags)
    domain.updateDeviceFlags = lambda _text, _flags: None
    vm = Vm(1, UUID, "web", "kvm", 1.0, 64, context=Context(1, "sda"))
    site = Site("/d/1", CATALOG, 1, {}, "qemu", 1024)
    driver = KvmDriver()
    monkeypatch.setattr(driver, "render", lambda _vm, _site: Deployment(domain.xml, ""))

    def check(mark: Mark = MARK) -> None:
        driver.check_adjustment(vm, site, mark, Adjustment())

    def adjust(mark: Mark = MARK) -> None:
        driver.adjust(vm, site, mark, Adjustment())

    def change(mark: Mark = MARK) -> None:
        assert driver.change_medium(vm, mark, "/d/1/disk.1")

    for steps, count in (
        ((check, adjust, change), 1),
        ((adjust, change), 1),
        # What is done twice may have been changed by the first time.
        ((change, change), 2),
        ((adjust, adjust, change), 2),
        ((check, check, adjust, adjust), 3),
        ((check, change, adjust), 3),
    ):
        driver._looked.last = None
        looks.clear()
        for step in steps:
            step()
        assert len(looks) == count, steps
    # To find out its state is to look for it, but not at its definition.
    looks.clear()
    connection = driver._connection()
    assert driver.state(MARK) == "RUNNING"
    connection.fails["lookupByName"] = LibvirtError("nobody is to be asked")
    check()
    assert len(looks) == 1
    connection.fails.clear()
    # What was found some time ago may be otherwise by now.
    looks.clear()
    later = time.monotonic() + kvm.MOMENT + 1
    with monkeypatch.context() as changed:
        changed.setattr(kvm.time, "monotonic", lambda: later)
        adjust()
    assert len(looks) == 1
    # Another plan's look, and another thread's, say nothing.
    check()
    looks.clear()
    adjust(replace(MARK, generation=2))
    check()
    thread = threading.Thread(target=adjust)
    thread.start()
    thread.join()
    assert len(looks) == 3


TUNED = "<domain><cputune><shares>{}</shares></cputune><devices/></domain>"


@pytest.mark.parametrize(("adjusted", "shares", "asked"), [(True, 512, 0), (True, 1024, 1), (False, 512, 1)])
def test_a_machine_is_asked_what_it_weighs_where_that_is_not_known(
    domain: Domain, monkeypatch: pytest.MonkeyPatch, adjusted: bool, shares: int, asked: int
) -> None:
    domain.xml = TUNED.format(512)
    questions: list[str] = []
    domain.schedulerParameters = lambda: questions.append("weight") or {"cpu_shares": 512}
    domain.setSchedulerParametersFlags = lambda parameters, _flags: questions.append(parameters["cpu_shares"])
    vm, site = Vm(1, UUID, "web", "kvm", 1.0, 64), Site("/d/1", CATALOG, 1, {}, "qemu", 1024)
    driver, wanted = KvmDriver(), Deployment(TUNED.format(shares), "")
    monkeypatch.setattr(driver, "render", lambda _vm, _site: wanted)
    if adjusted:
        driver.adjust(vm, site, MARK, Adjustment())
    driver.define(vm, wanted, MARK)
    assert questions == (["weight"] if shares == 512 else ["weight", shares])[: 2 * asked]


def test_a_machine_that_goes_after_it_was_found_is_told_as_one_that_is_not_there(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = KvmDriver()
    monkeypatch.setattr(driver, "render", lambda _vm, _site: Deployment(domain.xml, ""))
    vm, site = Vm(1, UUID, "web", "kvm", 1.0, 64), Site("/d/1", CATALOG, 1, {}, "qemu", 1024)
    gone = LibvirtError("Domain not found: no domain with matching uuid", 42)
    assert driver.state(MARK) == "RUNNING"
    domain.fails["XMLDesc"] = gone
    driver._connection().domains.clear()
    with pytest.raises(NotFound, match="Run again"):
        driver.check_adjustment(vm, site, MARK, Adjustment())
    driver._connection().domains.append(domain)
    domain.fails.clear()
    driver.adjust(vm, site, MARK, Adjustment())
    domain.fails["autostart"] = gone
    driver._connection().domains.clear()
    assert driver.starts_with_host(MARK) is None


def test_whether_an_adjusted_machine_starts_with_its_host_needs_no_other_look(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, wanted = KvmDriver(), Deployment(domain.xml, "")
    monkeypatch.setattr(driver, "render", lambda _vm, _site: wanted)
    driver.adjust(Vm(1, UUID, "web", "kvm", 1.0, 64), Site("/d/1", CATALOG, 1, {}, "qemu", 1024), MARK, Adjustment())
    domain.starts, domain.mark = 1, ""
    assert driver.starts_with_host(MARK) is True
    # Of any other machine, and in another plan, it is found out whose it is.
    with pytest.raises(ForeignObject):
        driver.starts_with_host(replace(MARK, generation=2))


def test_a_machine_goes_with_its_profiles(domain: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm, "PROFILES", tmp_path)
    monkeypatch.setattr(qemu_logs, "LOGS", tmp_path)
    for name in (f"libvirt-{UUID}", f"libvirt-{UUID}.files", "libvirt-another", "TEMPLATE.qemu"):
        (tmp_path / name).write_text("", encoding="ascii")
    assert KvmDriver().remove(MARK)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["TEMPLATE.qemu", "libvirt-another"]
    assert domain.names() == ["destroy", "undefineFlags"]


@pytest.mark.parametrize(
    ("content", "complete"),
    [
        (SAVED, True),
        (SAVED + b"and all the rest", True),
        (b"LibvirtQemudPart", False),
        (SAVED[:-1], False),
        (None, False),
    ],
)
def test_memory_is_saved_when_its_file_says_so(
    domain: Domain, tmp_path: Path, content: bytes | None, complete: bool
) -> None:
    if content is not None:
        (tmp_path / "checkpoint").write_bytes(content)
    assert KvmDriver().checkpoint_complete(str(tmp_path / "checkpoint")) is complete


@pytest.mark.parametrize("first", [True, False])
def test_a_copy_of_a_machines_domain_is_another_machine(monkeypatch: pytest.MonkeyPatch, first: bool) -> None:
    """Its state and UUID are not the machine's, whichever libvirt names first; its memory is a stranger's."""
    own = Domain("one-1", UUID, metadata(CATALOG, 1), state=1)
    copy = Domain("one-12", UUID.replace("5", "6"), metadata(CATALOG, 1), state=1)
    connection = Connection(*((own, copy) if first else (copy, own)))
    own.memory = copy.memory = 256 * 1024
    install(monkeypatch, libvirt(lambda _uri: connection))
    found = KvmDriver().survey(CATALOG)
    assert [(vm.vm_id, vm.uuid) for vm in found.vms] == [(1, UUID)]
    assert found.foreign_memory >= 256 and found.foreign_ids == {12}


def test_a_domain_that_ends_while_all_are_looked_at_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    gone, own = (Domain(f"one-{number}", UUID, metadata(CATALOG, number), state=1) for number in (1, 2))
    gone.fails["info"] = LibvirtError("Domain not found", 42)
    install(monkeypatch, libvirt(lambda _uri: Connection(gone, own)))
    assert [vm.vm_id for vm in KvmDriver().survey(CATALOG).vms] == [2]
    gone.fails["info"] = LibvirtError("internal error", 1)
    with pytest.raises(HypervisorError, match="listing the machines of this node"):
        KvmDriver().survey(CATALOG)


@pytest.mark.parametrize(("snapshots", "persistent", "asked"), [(0, True, False), (1, True, True), (1, False, False)])
def test_a_machine_that_libvirt_may_have_go_back_is_not_taken_for_off(
    domain, monkeypatch, snapshots, persistent, asked
):
    """A change of the definition waits in libvirt for what a killed run has begun; the machine runs after that."""
    written = []
    domain.become(5)
    domain.persistent = persistent
    monkeypatch.setattr(domain, "snapshotNum", lambda _flags: snapshots)

    def set_metadata(*arguments):
        written.append(arguments)
        domain.become(1)

    monkeypatch.setattr(domain, "setMetadata", set_metadata, raising=False)
    text = domain.mark
    monkeypatch.setattr(domain, "metadata", lambda *_arguments: text)
    monkeypatch.setitem(vars(sys.modules["libvirt"]), "VIR_DOMAIN_AFFECT_CONFIG", 2)
    assert KvmDriver().state(MARK) == ("RUNNING" if asked else "POWEROFF")
    assert [each[1] for each in written] == ([text] if asked else [])
