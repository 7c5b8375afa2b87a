# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a template asks of images and networks."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.demands import Demands, demands
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.nic_vectors import NicDemand
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse


def test_demands_name_images_and_networks() -> None:
    wanted = demands(
        parse("""MEMORY = 5 VCPU = 2 CPU = 1.5
        DISK = [ IMAGE = debian ] DISK = [ TYPE = swap, SIZE = 1 ] DISK = [ IMAGE_ID = 0 ]
        NIC = [ NETWORK = Public, IP = 10.0.0.3, MAC = "02:00:0A:00:00:03" ] NIC = [ NETWORK_ID = 0 ]
        GRAPHICS = [ TYPE = vnc, PORT = 5999 ]""")
    )
    assert wanted == Demands(
        cpu=1.5,
        vcpu=2,
        memory=5,
        images=("debian", None, 0),
        nics=(NicDemand("Public", "10.0.0.3", "", "02:00:0a:00:00:03"), NicDemand(0)),
        graphics=True,
        graphics_port=5999,
    )
