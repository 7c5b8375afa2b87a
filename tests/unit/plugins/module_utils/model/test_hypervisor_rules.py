# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between hypervisors while a machine is decided, by what the entries of the table do."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen import xen_declaration as xen
from ansible_collections.nebula.provision.plugins.module_utils.model import attributes, hypervisor_rules
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.model.template_changes import (
    DISK_SIZE,
    FILTERS_OF_NICS,
    GROWTH,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os

KVM, XEN = ("kvm", "qemu"), ("xen", "xen_libvirt")
UEFI = {0: Image(1, "debian", firmware="UEFI")}


def test_the_default_has_rules_and_an_unknown_hypervisor_refuses_nothing() -> None:
    assert hypervisor_rules.DEFAULT in hypervisor_rules.RULES
    unknown = hypervisor_rules.rules_of("nosuch")
    unknown.check(Template().with_vector("OS", {"MACHINE": "any"}), "VM a")
    os = Os(machine="any")
    assert unknown.fit(os, Template(), UEFI, "VM a") is os
    assert unknown.firmware({"KERNEL": "/k"})
    assert unknown.format_of("file:") == ""


@pytest.mark.parametrize(
    ("wanted", "hypervisor", "same"),
    [
        ("kvm", "kvm", True),
        ("kvm", "qemu", True),
        ("xen", "xen_libvirt", True),
        ("xen_libvirt", "xen", True),
        ("kvm", "xen", False),
        ("lxc", "lxc", True),
        # Of neither of them is anything known.
        ("lxc", "openvz", False),
        ("", "kvm", False),
    ],
)
def test_machines_of_two_drivers_of_one_hypervisor_are_alike(wanted: str, hypervisor: str, same: bool) -> None:
    assert hypervisor_rules.makes_same_machines(wanted, hypervisor) is same


@pytest.mark.parametrize("name", KVM)
def test_a_machine_of_kvm_is_a_q35_with_overlays_and_always_a_firmware(name: str) -> None:
    found = hypervisor_rules.rules_of(name)
    assert (found.machine, found.driver) == ("q35", "qcow2")
    assert found.firmware({"KERNEL": "/k"})
    assert found.fit(Os(), Template(), UEFI, "VM a").firmware == "UEFI"
    assert found.column == attributes.KVM
    whole = ("DISK", "NIC", DISK_SIZE, GROWTH, "GRAPHICS/PASSWD", "DISK/TOTAL_IOPS_SEC", "NIC/INBOUND_AVG_BW")
    assert set(whole) <= set(found.live) and "NIC/MODEL" not in found.live


@pytest.mark.parametrize("name", XEN)
def test_a_machine_of_xen_has_raw_disks_and_a_firmware_only_without_a_kernel(name: str) -> None:
    found = hypervisor_rules.rules_of(name)
    assert (found.machine, found.driver) == ("", "raw")
    assert found.firmware({}) and not found.firmware({"KERNEL": "/k"})
    assert found.fit(Os(), Template(), UEFI, "VM a").firmware == "UEFI"
    assert found.column == attributes.XEN
    acting = set(found.live) - set(attributes.silent(attributes.XEN))
    assert acting == {"DISK", "NIC", "MEMORY", *FILTERS_OF_NICS}
    assert found.format_of("tap:aio:") == "raw"


@pytest.mark.parametrize(
    ("name", "template"),
    [("kvm", {"BOOTLOADER": "pygrub"}), ("xen", {"MACHINE": "q35"}), ("xen_libvirt", {"FIRMWARE_SECURE": "YES"})],
)
def test_what_a_hypervisor_can_t_have_is_refused_by_its_own_rule(name: str, template: dict[str, str]) -> None:
    with pytest.raises(InvalidValue, match="VM a: OS"):
        hypervisor_rules.rules_of(name).check(Template().with_vector("OS", template), "VM a")


def test_prefixes_and_buses_of_others_become_its_own() -> None:
    kvm, of_xen = hypervisor_rules.rules_of("kvm").devices, hypervisor_rules.rules_of("xen").devices
    assert kvm.renamed["xvd"] == "vd" and of_xen.renamed["vd"] == "xvd"
    assert kvm.buses["xen"] == "virtio" and of_xen.buses["virtio"] == "xen"
    for devices in (kvm, of_xen):
        assert not set(devices.buses.values()) & set(devices.lacks)
        assert not set(devices.renamed.values()) & set(devices.renamed)
    # An HVM machine's firmware sees the first four, and no more.
    assert (kvm.emulated, of_xen.emulated) == (0, xen.IDE_DEVICES)


@pytest.mark.parametrize("name", [*KVM, *XEN])
def test_a_reboot_ends_a_machine_by_a_word_of_its_own_file(name: str) -> None:
    wanted = "<on_reboot>destroy</on_reboot>" if name in KVM else "on_reboot = 'destroy'"
    assert hypervisor_rules.rules_of(name).ends_at_reboot == wanted


def test_every_word_of_a_driver_is_known_once() -> None:
    assert len(set(hypervisor_rules.DRIVERS)) == len(hypervisor_rules.DRIVERS)
    assert set(hypervisor_rules.DRIVERS) == {"raw", "qcow2", "tar", *xen.DRIVERS}
    assert hypervisor_rules.DRIVERS[:2] == ("raw", "qcow2")
