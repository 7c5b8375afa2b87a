# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.live_devices import (
    Step,
    another_name,
    plan_steps,
    usual_name,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm

PLACE = "/var/lib/nebula/datastores/0/7"
MAC = "02:00:0a:42:00:01"
PORTS = "".join(
    f"<controller type='pci' index='{index}' model='{'pcie-root-port' if index else 'pcie-root'}'/>"
    for index in range(3)
)


def definition(*devices: str) -> str:
    return f"<domain><devices>{PORTS}{''.join(devices)}</devices></domain>"


def disk(number: int, bus: str = "virtio", more: str = "", place: str = PLACE) -> str:
    return (
        f"<disk device='disk'><source file='{place}/disk.{number}'/><target dev='d{number}' bus='{bus}'/>"
        f"{more}<alias name='of-disk-{number}'/></disk>"
    )


def nic(mac: str, port: str) -> str:
    return (
        f"<interface><mac address='{mac}'/><target dev='{port}'/><model type='virtio'/>"
        f"<alias name='of-{port}'/></interface>"
    )


def machine() -> Vm:
    return Vm(
        7, "u", "web", "kvm", 1, 64,
        disks=(Disk(0, "d0"), Disk(2, "d2")),
        nics=(Nic(0, 0, "net", "br0", mac=MAC),),
        context=Context(1, "sda"),
    )  # fmt: skip


# An image's own file, wherever it is.
LINKS = {"/srv/images/disk.4": 4, **{f"/srv/images/{name}": 5 for name in ("one", "two")}}


def steps(live: str, wanted: str, removes: bool = True) -> list[Step]:
    return plan_steps(live, wanted, PLACE, machine(), removes, LINKS)


def test_what_a_machine_has_is_left_alone() -> None:
    text = definition(disk(0), disk(1), nic(MAC.upper(), "one-7-0"))
    assert steps(text, definition(disk(0), disk(1), nic(MAC, "one-7-0"))) == []


def test_what_goes_comes_before_what_comes() -> None:
    live = definition(disk(0), disk(3), nic("02:00:0a:42:00:09", "one-7-4"))
    found = steps(live, definition(disk(0), disk(2), nic(MAC, "one-7-0")))
    assert [(step.name, step.alias) for step in found] == [
        ("DISK 3, detached", "of-disk-3"),
        ("NIC 4, detached", "of-one-7-4"),
        ("DISK 2 (d2), attached", ""),
        ("NIC 0, attached", ""),
    ]


def test_a_disk_whose_target_another_one_has_until_the_next_start_is_not_attached() -> None:
    moved = disk(0).replace("dev='d0'", "dev='d9'")
    (step,) = steps(definition(disk(0)), definition(moved, disk(2).replace("dev='d2'", "dev='d0'")))
    assert step.held and not step.alias
    # So is one that goes, unless it is taken from the machine now.
    for removes in (True, False):
        found = steps(definition(disk(3)), definition(disk(2).replace("dev='d2'", "dev='d3'")), removes)
        assert [each.held for each in found] == [False, not removes]


def test_what_others_have_attached_and_the_context_stay() -> None:
    live = definition(disk(0), disk(1), disk(5, place="/srv"), nic("52:54:00:00:00:01", "vnet3"))
    assert steps(live, definition(disk(0))) == []
    # Nor does the context come.
    assert steps(definition(disk(0)), definition(disk(0), disk(1))) == []


def test_a_place_in_the_order_of_boot_is_for_the_next_start() -> None:
    (step,) = steps(definition(disk(0)), definition(disk(0), disk(2, more="<boot order='2'/>")))
    assert "boot" not in step.text and "disk.2" in step.text


@pytest.mark.parametrize("bus", ["sata", "ide", "fdc"])
def test_a_bus_that_takes_nothing_from_a_running_machine_is_named(bus: str) -> None:
    with pytest.raises(Unsupported, match=rf"DISK 2 \(d2\), attached while it runs: no disk on bus {bus}"):
        steps(definition(disk(0)), definition(disk(0), disk(2, bus)))
    with pytest.raises(Unsupported, match=f"DISK 3, detached while it runs: no disk on bus {bus}"):
        steps(definition(disk(0), disk(3, bus)), definition(disk(0)))
    # Of a disk that stays nothing has to be said.
    assert len(steps(definition(disk(0), disk(3, bus)), definition(disk(0)), removes=False)) == 1


def test_slots_are_counted_with_those_that_become_free() -> None:
    used = "<hostdev><address type='pci' bus='0x01' slot='0x00'/></hostdev>"
    old = disk(3, more="<address type='pci' bus='0x02' slot='0x00'/>")
    wanted = definition(disk(0, "scsi"), disk(2))
    assert len(steps(definition(disk(0, "scsi"), used, old), wanted)) == 2
    with pytest.raises(
        Unsupported, match=r"free slots of PCI Express: 0 in this machine, 1 needed.*nebula_hotplug_slots"
    ):
        steps(definition(disk(0, "scsi"), used, old), wanted, removes=False)


def cdrom(source: str, target: str = "sdb") -> str:
    held = f"<source file='{source}'/>" if source else ""
    return (
        f"<disk type='file' device='cdrom'>{held}<target dev='{target}' bus='sata'/><alias name='of-{target}'/></disk>"
    )


IMAGES = "/srv/images"


def test_an_images_own_file_goes_too() -> None:
    """Of a persistent image: whoever gets it next would write it together with this machine."""
    (step,) = steps(definition(disk(0), disk(4, place=IMAGES)), definition(disk(0)))
    assert (step.name, step.alias) == ("DISK 4, detached", "of-disk-4")
    # One that somebody else has attached, of another machine.
    assert steps(definition(disk(0), disk(4, place="/var/lib/nebula/datastores/0/8")), definition(disk(0))) == []


def test_the_medium_of_a_cd_rom_is_changed_and_ejected() -> None:
    one, two = cdrom(f"{IMAGES}/one"), cdrom(f"{IMAGES}/two")
    (changed,) = steps(definition(one), definition(two))
    assert changed.medium and not changed.alias and f"{IMAGES}/two" in changed.text and "of-sdb" in changed.text
    (ejected,) = steps(definition(one), definition())
    assert (ejected.name, ejected.medium, ejected.alias) == ("DISK 5, ejected", True, "of-sdb")
    assert "source" not in ejected.text
    # The empty drive takes another one, and no second.
    (inserted,) = steps(definition(cdrom("")), definition(two))
    assert inserted.medium and not inserted.alias
    assert steps(definition(cdrom("")), definition()) == []
    with pytest.raises(Unsupported, match="no drive on bus sata"):
        steps(definition(cdrom("")), definition(two, cdrom(f"{IMAGES}/three", "sdc")))


def test_a_medium_that_is_not_to_be_taken_stays() -> None:
    found = steps(definition(cdrom(f"{IMAGES}/one")), definition(cdrom(f"{IMAGES}/two")), removes=False)
    # What goes is left out by who carries the steps out.
    assert [(bool(step.alias), step.held) for step in found] == [(True, False), (False, True)]


@pytest.mark.parametrize(
    ("path", "usual"),
    [
        ("/srv//nebula/datastores/0/1/disk.1", "/srv//nebula/datastores/0/1/disk.1"),
        ("/srv//nebula/datastores/0/1//disk.1", "/srv//nebula/datastores/0/1/disk.1"),
        ("/srv/nebula/./1//disk.1", "/srv/nebula/./1/disk.1"),
        ("/disk.1", "/disk.1"),
        ("", ""),
    ],
)
def test_only_our_own_second_slash_is_left_out(path: str, usual: str) -> None:
    """The root of a node is written as its administrator writes it."""
    assert usual_name(path) == usual


def test_a_file_has_two_names_at_most() -> None:
    live = "<domain><devices><disk><source file='{}'/></disk></devices></domain>"
    names = ["/srv//n/disk.1", "/srv//n//disk.1"]
    assert [another_name(live.format(each), names[0]) for each in names] == names[::-1]
    assert another_name("<domain/>", names[0]) == names[0]
