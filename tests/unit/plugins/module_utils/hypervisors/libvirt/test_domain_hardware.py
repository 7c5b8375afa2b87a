# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hardware of a machine in its definition. Whole definitions are goldens of test_domain_xml.py."""

from __future__ import annotations

import dataclasses
from xml.etree import ElementTree as ET

import deployment_files
import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import domain_xml
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.domain_hardware import (
    host_devices_of,
    scheduler_parameters,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import (
    Graphics,
    HostDevice,
    Iommu,
    MemoryEncryption,
    Os,
    Video,
)


def defined(**changes: object) -> ET.Element:
    vm, site = deployment_files.load("kvm", "minimal_without_disks")
    return ET.fromstring(domain_xml.render(dataclasses.replace(vm, **changes), site).text)


def test_a_machine_that_was_made_before_has_nothing_of_it() -> None:
    nic = Nic(0, 0, "net", "br0", "02:00:00:00:00:01", options={"LINK": "down"})
    older = defined(cpu_limit=50, features={"HYPERV": "YES"}, graphics=Graphics("spice"), nics=(nic,))
    newer = ("pm", "clock", "devices/sound", "devices/video", "devices/iommu", "devices/interface/link")
    assert [path for path in (*newer, "cputune/global_quota") if older.find(path) is not None] == []
    mark = older.find(domain_xml.MARK_PATH)
    assert mark is not None and "hardware_version" not in mark.attrib


def test_a_limit_needs_cgroups() -> None:
    vm, site = deployment_files.load("kvm", "no_cgroups")
    text = domain_xml.render(dataclasses.replace(vm, cpu_limit=50, hardware_version=1), site).text
    assert ET.fromstring(text).find("cputune") is None


@pytest.mark.parametrize(("limit", "quota"), [(1, "1000"), (100, "100000"), (333, "333000")])
def test_a_limit_is_of_the_whole_machine(limit: int, quota: str) -> None:
    domain = defined(cpu_limit=limit, hardware_version=1)
    assert domain.findtext("cputune/global_quota", "devices/interface/link") == quota
    assert domain.findtext("cputune/global_period") == "100000"


@pytest.mark.parametrize(
    ("limit", "had", "wanted"),
    [
        (50, 0, {"global_period": 100_000, "global_quota": 50_000}),
        (50, 10, {"global_period": 100_000, "global_quota": 50_000}),
        (0, 10, {"global_quota": -1}),
        (0, 0, {}),
    ],
)
@pytest.mark.parametrize("had_none", [0, -1, 17592186044415])
def test_what_a_running_machine_is_told(limit: int, had: int, wanted: dict[str, int], had_none: int) -> None:
    vm, site = deployment_files.load("kvm", "minimal_without_disks")
    after = domain_xml.render(dataclasses.replace(vm, cpu_limit=limit, hardware_version=1), site).text
    running = {"cpu_shares": 512, "global_quota": had * 1000 if had else had_none}
    assert scheduler_parameters(after, running) == {"cpu_shares": 512, **wanted}


@pytest.mark.parametrize("machine", ["pc", "q35"])
@pytest.mark.parametrize("slots", [0, 40])
def test_slots_that_are_read_back_of_a_machine_with_spice(machine: str, slots: int) -> None:
    domain = defined(
        os=Os(machine=machine), graphics=Graphics("spice", companions=True), hardware_version=1, hotplug_slots=slots
    )
    assert domain_xml.hotplug_slots_of(domain) >= slots


BROUGHT = """<devices><video><model type='vga'/></video><sound model='ich9'/><redirdev bus='usb' type='spicevmc'/>
<channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel><iommu model='intel'/></devices>
<clock offset='utc'><timer name='rtc' tickpolicy='catchup'/></clock>"""


def test_what_raw_brings_stands_in_place_of_ours() -> None:
    """Templates brought it so before any of it acted: QEMU starts no machine that has it twice."""
    domain = defined(
        hardware_version=1,
        graphics=Graphics("spice", companions=True),
        video=Video("qxl"),
        iommu=Iommu("virtio"),
        features={"HYPERV": "YES"},
        raw={"kvm": BROUGHT},
    )
    for path in ("video", "sound", "redirdev", "iommu", "channel[@type='spicevmc']"):
        assert len(domain.findall(f"devices/{path}")) == 1, path
    model = domain.find("devices/video/model")
    assert model is not None and model.get("type") == "vga"
    assert len(domain.findall("clock/timer")) == 1


def test_a_console_of_spice_without_usb() -> None:
    raw = {"kvm": "<devices><controller type='usb' model='none'/></devices>"}
    domain = defined(hardware_version=1, graphics=Graphics("spice", companions=True), raw=raw)
    assert domain.findall("devices/redirdev") == [] and domain.find("devices/sound") is not None


def test_a_period_of_raw_is_kept() -> None:
    tuned = "<domain><cputune><global_period>50000</global_period><global_quota>25000</global_quota></cputune></domain>"
    assert scheduler_parameters(tuned, {}) == {"global_period": 50_000, "global_quota": 25_000}


@pytest.mark.parametrize("state", ["down", " DOWN "])
def test_a_cable_that_is_pulled_out(state: str) -> None:
    nic = Nic(0, 0, "net", "br0", "02:00:00:00:00:01", options={"LINK": state})
    link = defined(hardware_version=1, nics=(nic,)).find("devices/interface/link")
    assert link is not None and link.get("state") == "down"


def test_the_version_is_read_back() -> None:
    assert [domain_xml.hardware_version_of(defined(hardware_version=number)) for number in (0, 1)] == [0, 1]


def test_devices_of_the_host() -> None:
    addresses = ("0000:3b:00.1", "0001:00:1f.7")
    domain = defined(host_devices=tuple(HostDevice(address, "10de") for address in addresses))
    found = domain.findall("devices/hostdev")
    assert [dict(each.attrib) for each in found] == [{"mode": "subsystem", "type": "pci", "managed": "yes"}] * 2
    address = found[0].find("source/address")
    assert address is not None
    assert dict(address.attrib) == {"domain": "0x0000", "bus": "0x3b", "slot": "0x00", "function": "0x1"}
    assert host_devices_of(domain) == addresses
    with pytest.raises(InvalidValue, match=r"'01:00\.0' is no address"):
        defined(host_devices=(HostDevice("01:00.0"),))


@pytest.mark.parametrize(("kind", "policy"), [("SEV", "0x00000003"), ("SEV-ES", "0x00000007")])
def test_encrypted_memory(kind: str, policy: str) -> None:
    domain = defined(encryption=MemoryEncryption(kind, 512), memory=1024)
    assert domain.findtext("launchSecurity/policy") == policy
    limit = domain.find("memtune/hard_limit")
    assert limit is not None and (limit.get("unit"), limit.text) == ("MiB", "1536")
