# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What KVM declares of itself: the rules of QEMU's machines, which model/libvirt_values.py has."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.kvm_declaration import KVM
from ansible_collections.nebula.provision.plugins.module_utils.model import attributes
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template


def test_its_rules_are_those_of_qemu() -> None:
    assert (KVM.machine, KVM.driver, KVM.column, KVM.checks_bus) == ("q35", "qcow2", attributes.KVM, True)
    assert KVM.format_of("file:") == ""
    with pytest.raises(InvalidValue, match="UEFI"):
        KVM.check_firmware("UEFI", Template().with_vector("FEATURES", {"ACPI": "NO"}), "VM a")
    with pytest.raises(InvalidValue, match="SHAREABLE"):
        KVM.check_disk({"SHAREABLE": "YES"}, "qcow2", "DISK 0")
