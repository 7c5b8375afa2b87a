# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a person gets at a machine's console, by hypervisor and screen. That every hypervisor is in the table is shown in
test_base_seam.py."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.console_access import console_instructions


@pytest.mark.parametrize(
    ("hypervisor", "domain", "graphics", "ways"),
    [
        ("kvm", "one-1", {}, "virsh console one-1"),
        ("xen", "one-1", {}, "xl console one-1"),
        ("xen_libvirt", "one-1", {}, "xl console one-1"),
        ("kvm", "one-1", {"type": "vnc", "listen": "127.0.0.1", "port": 5901},
         "virsh console one-1, VNC 127.0.0.1:5901"),
        ("kvm", "one-1", {"type": "spice", "listen": "0.0.0.0", "port": 5902},
         "virsh console one-1, SPICE 0.0.0.0:5902"),
        ("xen", "one-1", {"listen": "127.0.0.1", "port": 5901}, "xl console one-1, VNC 127.0.0.1:5901"),
        # A port that is not given out yet is nothing to point a viewer at.
        ("kvm", "one-1", {"type": "vnc", "listen": "127.0.0.1", "port": 0}, "virsh console one-1"),
        ("kvm", "one-1", {"type": "vnc", "listen": "127.0.0.1"}, "virsh console one-1"),
        ("kvm", "", {}, ""),
        ("vmware", "one-1", {}, ""),
        ("vmware", "one-1", {"type": "vnc", "listen": "::1", "port": 5901}, "VNC [::1]:5901"),
    ],
)  # fmt: skip
def test_ways_in(hypervisor: str, domain: str, graphics: dict[str, Any], ways: str) -> None:
    assert console_instructions(hypervisor, domain, graphics) == ways
