# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The devices of PCI of a host, as its kernel tells them."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.nebula.provision.plugins.module_utils.host import pci_devices
from ansible_collections.nebula.provision.plugins.module_utils.model.host import PciDevice


def add(system: Path, address: str, device_class: str, driver: str = "", group: str = "1") -> None:
    place = system / "bus/pci/devices" / address
    place.mkdir(parents=True)
    for name, text in (("vendor", "0x10de"), ("device", "0x1eb8"), ("class", device_class)):
        (place / name).write_text(f"{text}\n", encoding="ascii")
    if group:
        (system / "kernel/iommu_groups" / group).mkdir(parents=True, exist_ok=True)
        (place / "iommu_group").symlink_to(f"../../../../kernel/iommu_groups/{group}")
    if driver:
        (place / "driver").symlink_to(f"../../drivers/{driver}")


def test_devices_behind_the_iommu(tmp_path: Path) -> None:
    add(tmp_path, "0000:02:00.1", "0x020000", "ice", "7")
    add(tmp_path, "0000:01:00.0", "0x030200")
    add(tmp_path, "0000:00:1c.0", "0x060400", "pcieport")
    add(tmp_path, "0000:03:00.0", "0x010802", "nvme", "")
    # Kept for machines, or bound while one has it.
    add(tmp_path, "0000:04:00.0", "0x030200", "vfio-pci", "9")
    # Taken out meanwhile.
    add(tmp_path, "0000:05:00.0", "0x030200", "", "9")
    (tmp_path / "bus/pci/devices/0000:05:00.0/vendor").unlink()
    assert pci_devices.has_iommu(str(tmp_path))
    assert pci_devices.devices(str(tmp_path)) == (
        PciDevice("0000:01:00.0", "10de", "1eb8", "0302", "", "1"),
        PciDevice("0000:02:00.1", "10de", "1eb8", "0200", "ice", "7"),
        PciDevice("0000:04:00.0", "10de", "1eb8", "0302", "", "9"),
    )


def test_a_host_without_one(tmp_path: Path) -> None:
    assert not pci_devices.has_iommu(str(tmp_path))
    assert pci_devices.devices(str(tmp_path)) == ()
    (tmp_path / "kernel/iommu_groups").mkdir(parents=True)
    add(tmp_path, "0000:01:00.0", "0x030200", "", "")
    assert not pci_devices.has_iommu(str(tmp_path))
    assert pci_devices.devices(str(tmp_path)) == ()


def test_this_host() -> None:
    assert bool(pci_devices.devices()) <= pci_devices.has_iommu()
