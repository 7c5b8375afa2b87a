# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.hotplug_slots import (
    Slots,
    free_slots,
    slot_of,
)


def domain(*controllers: str, addresses: tuple[tuple[int, int], ...] = ()) -> ET.Element:
    """controllers: models, by index; addresses: bus and slot of each device."""
    made = [f"<controller type='pci' index='{index}' model='{model}'/>" for index, model in enumerate(controllers)]
    made += [f"<interface><address type='pci' bus='{bus:#x}' slot='{slot:#x}'/></interface>" for bus, slot in addresses]
    return ET.fromstring(f"<domain><devices>{''.join(made)}</devices></domain>")


Q35 = ("pcie-root", "pcie-root-port", "pcie-root-port", "pcie-to-pci-bridge")


@pytest.mark.parametrize(
    ("addresses", "free"),
    [((), Slots(2, 31)), (((1, 0),), Slots(1, 31)), (((1, 0), (2, 0), (3, 4), (0, 1)), Slots(0, 30))],
)
def test_a_root_port_takes_one_device_and_a_bridge_thirty_one(
    addresses: tuple[tuple[int, int], ...], free: Slots
) -> None:
    assert free_slots(domain(*Q35, addresses=addresses)) == free


def test_bus_0_of_a_board_without_express_takes_devices_itself() -> None:
    # Functions of one device are in one slot.
    assert free_slots(domain("pci-root", addresses=((0, 1), (0, 1), (0, 3)))) == Slots(0, 29)
    assert free_slots(domain("pci-root", "pci-bridge", addresses=((0, 1),))) == Slots(0, 61)


@pytest.mark.parametrize(
    ("device", "q35", "pc"),
    [
        ("<disk><target bus='virtio'/></disk>", "express", "pci"),
        ("<disk><target bus='scsi'/></disk>", "", ""),
        ("<interface><model type='virtio'/></interface>", "express", "pci"),
        ("<interface><model type='e1000e'/></interface>", "express", "pci"),
        ("<interface><model type='rtl8139'/></interface>", "pci", "pci"),
        ("<interface/>", "pci", "pci"),
    ],
)
def test_which_slot_a_device_takes(device: str, q35: str, pc: str) -> None:
    found = [slot_of(domain(*board), ET.fromstring(device)) for board in (Q35, ("pci-root",))]
    assert found == [q35, pc]


def test_what_is_too_little_is_told_in_figures() -> None:
    assert Slots(1, 0).lacking(["express", "", ""]) == ""
    assert Slots(1, 0).lacking(["express"] * 2) == "free slots of PCI Express: 1 in this machine, 2 needed"
    assert Slots(1, 0).lacking(["pci"]) == "free slots of PCI: 0 in this machine, 1 needed"
