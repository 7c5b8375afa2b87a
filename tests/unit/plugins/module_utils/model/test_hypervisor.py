# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hypervisor that declares nothing but its name refuses nothing and changes nothing."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.module_utils.model.hypervisor import Hypervisor
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os


def test_what_is_not_declared_is_what_any_hypervisor_has() -> None:
    plain = Hypervisor(name="toy", words={"file:": "raw"})
    template, os = Template(), Os()
    plain.check(template, "VM a")
    plain.check_disk({"SHAREABLE": "YES"}, "qcow2", "DISK 0")
    plain.check_firmware("UEFI", template, "VM a")
    assert plain.doubts(template) == [] and plain.firmware({}) and plain.fit(os, template, {}, "VM a") is os
    assert (plain.format_of(" FILE: "), plain.format_of("phy:")) == ("raw", "")
