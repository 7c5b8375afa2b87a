# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes the ports of machines' NICs in networks of Open vSwitch and of OVN. Xen's own script for these,
vif-openvswitch, knows neither interface ids nor native VLANs, and xenstore has no room for a long trunk. So what
each port is to be stands in a file of the machine, which our script (vif_script.py) reads whenever Xen's tools make
the NIC: at a start, at a reboot that the guest makes, at the start of the host, and on the host to which a machine
is migrated."""

from __future__ import annotations

from pathlib import Path

from ...errors import InvalidValue
from ...host.files import make_directory, remove_file, write_atomically
from ...model import vlan_trunks
from ...model.network_drivers import OVN, OVSWITCH, SWITCHED
from ...model.nic import Nic, interface_id
from ...model.vm import Vm
from ..base import Site

# Below it a file for each machine, by its UUID: that is in xenstore, whatever the domain is called meanwhile.
PORTS = Path("/etc/xen/nebula-ports")
# As Xen's tools look for it, in their own directory.
SCRIPT = "vif-nebula"


def is_switched(nic: Nic) -> bool:
    return _driver(nic) in SWITCHED


def is_ovn_nic(nic: Nic) -> bool:
    return _driver(nic) == OVN


def _driver(nic: Nic) -> str:
    return nic.network_values.get("VN_MAD", "")


def records(vm: Vm) -> list[str]:
    """Return the lines of the machine's file: MAC, bridge, interface id, and what a port of Open vSwitch has beside
    its defaults. A machine without such NICs has none."""
    return [_record(vm, nic) for nic in vm.nics if is_switched(nic)]


def _record(vm: Vm, nic: Nic) -> str:
    words = [nic.mac.lower(), nic.bridge, interface_id(vm.uuid, nic.nic_id)]
    if _driver(nic) == OVSWITCH:
        words += _columns(vlan_trunks.port_of(nic.network_values, nic.options))
    return " ".join(words)


def _columns(port: vlan_trunks.Port) -> list[str]:
    """Return the same as libvirt makes of a NIC of KVM. A port without any column would be in all VLANs."""
    found = [f"tag={port.tag}"] if port.tag else []
    if port.trunks or not port.tag:
        found.append(f"trunks={','.join(map(str, port.carried))}")
    if port.mode:
        found.append(f"vlan_mode={port.mode}")
    return found


def refuse(nic: Nic, site: Site, emulated: bool, where: str) -> None:
    """Raise InvalidValue for what a NIC in such a network can't be. emulated: QEMU's model of a NIC is asked for, or
    the machine is to boot from this NIC."""
    if not is_switched(nic):
        return
    asked, network = f"{where}: NIC {nic.nic_id}", f"network {nic.network} is one of Open vSwitch"
    if nic.options.get("SCRIPT"):
        raise InvalidValue(
            f"{asked}: SCRIPT = {nic.options['SCRIPT']}",
            f"{network}, to which a script of this collection attaches it",
            "Leave SCRIPT out",
        )
    if site.userspace_switch:
        raise InvalidValue(
            asked,
            f"{network}, which forwards frames itself on this host: those of Xen's NICs come without their checksums, "
            "and TCP would hang",
            "Use a kernel with the module openvswitch",
        )
    if emulated and is_ovn_nic(nic):
        raise InvalidValue(
            asked,
            f"network {nic.network} is one of OVN, where a machine of Xen has Xen's own NIC only: an emulated one "
            "would be a second port with the same addresses",
            "Leave MODEL out, and do not boot from this NIC; or use a host with KVM",
        )


def write_ports_file(vm: Vm) -> None:
    """Write the machine's file, or remove it where it needs none."""
    lines = records(vm)
    if lines:
        make_directory(str(PORTS), 0o700)
        write_atomically(str(PORTS / vm.uuid), "".join(f"{line}\n" for line in lines), mode=0o600)
    else:
        remove_ports_file(vm.uuid)


def remove_ports_file(uuid: str) -> None:
    """Remove the file of the machine that has this UUID."""
    if uuid:
        remove_file(str(PORTS / uuid))
