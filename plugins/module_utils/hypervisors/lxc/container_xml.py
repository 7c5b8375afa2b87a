# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders a machine as libvirt's domain XML for its LXC driver. Pure."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from ...model.container_user_ids import IdRange, id_range
from ...model.disk import TAR
from ...model.libvirt_values import raw_fragment
from ...model.nic import Nic
from ...model.vm import Vm
from ...storage import mounted_disks
from ..base import Deployment, Site
from ..libvirt import domain_xml
from ..libvirt.domain_xml import add_text_element

INIT = "/sbin/init"
CONTEXT = "/context"
EMULATOR = "/usr/lib/libvirt/libvirt_lxc"
# Microseconds in which a container has the share of a processor that CPULIMIT gives it.
PERIOD = 100000
# libvirt's word for a container without CPULIMIT.
UNLIMITED = -1


def render(vm: Vm, site: Site) -> Deployment:
    """Return the deployment file of a container on this site. Raise InvalidValue for RAW data that is no XML."""
    raw = raw_fragment(vm.raw.get("lxc", ""), f"virtual machine {vm.name}: RAW", "lxc")
    domain, _mark = domain_xml.begin_domain("lxc", vm, site)
    swap = vm.container.get("LXC_SWAP", "")
    if swap:
        # libvirt hands the number on to the cgroup, whatever that counts by it.
        limit = int(swap) + (0 if site.swap_alone else vm.memory)
        add_text_element(ET.SubElement(domain, "memtune"), "swap_hard_limit", str(limit * 1024), unit="KiB")
    add_text_element(domain, "vcpu", str(vm.vcpu or 1))
    _cpu(domain, vm, site)
    add_text_element(ET.SubElement(domain, "os"), "type", "exe", arch=vm.os.arch)
    add_text_element(domain[-1], "init", INIT)
    _id_map(domain, id_range(vm.vm_id))
    # Without a NIC it would have its host's.
    ET.SubElement(ET.SubElement(domain, "features"), "privnet")
    add_text_element(domain, "on_poweroff", "destroy")
    add_text_element(domain, "on_reboot", "restart")
    add_text_element(domain, "on_crash", "destroy")
    devices = ET.SubElement(domain, "devices")
    add_text_element(devices, "emulator", site.emulator)
    _file_systems(devices, vm, site)
    for nic in vm.nics:
        _interface(devices, nic, vm)
    # Not logged by libvirt, which has no log of a container's console: console_logger.py reads it.
    ET.SubElement(ET.SubElement(devices, "console", {"type": "pty"}), "target", {"type": "lxc", "port": "0"})
    if site.confinement:
        # libvirt confines no container that does not say so.
        ET.SubElement(domain, "seclabel", {"type": "dynamic", "model": site.confinement, "relabel": "yes"})
    if raw is not None:
        domain_xml.merge(domain, raw)
    return domain_xml.deployment_of(domain, vm, site)


def _cpu(domain: ET.Element, vm: Vm, site: Site) -> None:
    tuned = ET.Element("cputune")
    if site.cpu_shares:
        add_text_element(tuned, "shares", str(domain_xml.cpu_shares(vm.cpu, site.cpu_shares)))
    if vm.cpu_limit:
        add_text_element(tuned, "period", str(PERIOD))
        add_text_element(tuned, "quota", str(PERIOD * vm.cpu_limit // 100))
    if len(tuned):
        domain.append(tuned)


def scheduler_parameters(text: str) -> dict[str, int]:
    """Return what a definition says about processors, in libvirt's words for a running container."""
    tuned = ET.fromstring(text).find("cputune")
    shares, quota = ("", "") if tuned is None else (tuned.findtext("shares", ""), tuned.findtext("quota", ""))
    limited = {"vcpu_period": PERIOD, "vcpu_quota": int(quota) if quota else UNLIMITED}
    return {**({"cpu_shares": int(shares)} if shares else {}), **limited}


def memory_limits(text: str) -> tuple[int, int | None]:
    """Return KiB of memory, and the cgroup's limit of swap (None for none), of a definition as libvirt has it."""
    domain = ET.fromstring(text)
    memory, swap = (domain.findtext(f"memtune/{name}_limit") for name in ("hard", "swap_hard"))
    return int(memory or domain.findtext("memory") or 0), None if swap is None else int(swap)


def _id_map(domain: ET.Element, ids: IdRange) -> None:
    mapped = ET.SubElement(domain, "idmap")
    for kind in ("uid", "gid"):
        ET.SubElement(mapped, kind, {"start": "0", "target": str(ids.start), "count": str(ids.count)})


def _file_systems(devices: ET.Element, vm: Vm, site: Site) -> None:
    # The context's number is among the site's disks too.
    for disk in vm.disks:
        if disk.format == TAR:
            _directory(devices, site.disks[disk.disk_id].path, "/")
    # A disk that is mounted below another comes after it.
    for disk in sorted(vm.disks, key=lambda each: each.target):
        if disk.format != TAR:
            _directory(devices, mounted_disks.mount_point(vm.uuid, disk.disk_id), disk.target, disk.readonly)
    if vm.context is not None:
        _directory(devices, site.disks[vm.context.disk_id].path, CONTEXT, readonly=True)


def _directory(devices: ET.Element, source: str, target: str, readonly: bool = False) -> None:
    element = ET.SubElement(devices, "filesystem", {"type": "mount", "accessmode": "passthrough"})
    ET.SubElement(element, "source", {"dir": source})
    ET.SubElement(element, "target", {"dir": target})
    if readonly:
        ET.SubElement(element, "readonly")


def _interface(devices: ET.Element, nic: Nic, vm: Vm) -> None:
    element = domain_xml.add_interface(devices, nic, vm)
    ET.SubElement(element, "target", {"dev": nic.target or f"one-{vm.vm_id}-{nic.nic_id}"})
    ET.SubElement(element, "guest", {"dev": f"eth{nic.nic_id}"})
    domain_xml.add_mtu(element, nic)
    domain_xml.add_bandwidth(element, {**nic.network_values, **nic.options})
