# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists the drivers of virtual networks (VN_MAD of OpenNebula), and what each of them means on a node."""

from __future__ import annotations

BRIDGE, DUMMY, VLAN, VXLAN, OVN, OVSWITCH = "bridge", "dummy", "802.1Q", "vxlan", "ovn", "ovswitch"
DRIVERS = (BRIDGE, DUMMY, VLAN, VXLAN, OVN, OVSWITCH)
DEFAULT = BRIDGE
# This collection makes a Linux bridge on each node for such a network.
WITH_BRIDGE = (BRIDGE, VLAN, VXLAN)
# Machines of these networks are attached to a Linux bridge, where their node filters by nftables what passes.
ON_LINUX_BRIDGE = (BRIDGE, DUMMY, VLAN, VXLAN)
# It makes a bridge on each node, of Linux or of Open vSwitch.
ON_NODES = (*WITH_BRIDGE, OVSWITCH)
# Machines are attached to a bridge of Open vSwitch.
SWITCHED = (OVN, OVSWITCH)
# OVN's integration bridge on each node, to which the machines of all its networks are attached (ovn-bridge of a host).
INTEGRATION_BRIDGE = "br-int"
# The machines' frames travel between nodes with a number: a VLAN id, or the VNI of VXLAN. First and last.
NUMBERS = {VLAN: (1, 4094), VXLAN: (1, 0xFFFFFF), OVSWITCH: (1, 4094)}
# Where none is given, it is chosen from these. OpenNebula begins with 2: many switches have 1 for frames without tag.
CHOSEN = {VLAN: (2, 4094), VXLAN: (2, 0xFFFFFF), OVSWITCH: (2, 4094)}


def driver_of(text: str) -> str:
    """Return the driver by its exact name, whatever case it is written in; text itself if there is none."""
    return next((driver for driver in DRIVERS if driver.lower() == text.strip().lower()), text)
