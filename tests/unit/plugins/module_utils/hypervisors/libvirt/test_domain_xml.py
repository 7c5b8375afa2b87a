# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deployment files of KVM: goldens, written anew on purpose by REGENERATE=1, and each valid to libvirt's schema.

That libvirt itself takes them is tested in tests/integration/test_kvm_deployment_files.py."""

from __future__ import annotations

import dataclasses
import shutil
from functools import partial
from xml.etree import ElementTree as ET

import deployment_files
import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Site
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import domain_xml
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Graphics, Growth, Os, Vm

FIXTURES = deployment_files.FIXTURES / "kvm"
CASES = deployment_files.cases("kvm")
load = partial(deployment_files.load, "kvm")


def machine(**changes: object) -> tuple[Vm, Site]:
    vm, site = load("minimal_without_disks")
    return dataclasses.replace(vm, **changes), site


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    deployment_files.compare(FIXTURES / f"{case}.xml", domain_xml.render(*load(case)).text)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.skipif(shutil.which("virt-xml-validate") is None, reason="needs libvirt-clients")
def test_golden_is_valid_to_the_schema(case: str) -> None:
    deployment_files.validate(FIXTURES / f"{case}.xml")


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("processors_")])
def test_what_a_definition_says_of_its_processors_is_read_back(case: str) -> None:
    vm, site = load(case)
    domain = ET.fromstring(domain_xml.render(vm, site).text)
    assert vm.topology is not None and domain_xml.topology_of(domain.find("cpu")) == vm.topology


@pytest.mark.parametrize("case", CASES)
def test_how_far_a_machine_may_grow_is_read_back(case: str) -> None:
    vm, site = load(case)
    assert domain_xml.growth_of(ET.fromstring(domain_xml.render(vm, site).text)) == vm.growth


def test_one_that_has_all_it_may_come_to_is_defined_as_one_that_stays_so() -> None:
    plain, growing = machine(memory=512, vcpu=2), machine(memory=512, vcpu=2, growth=Growth(memory=512, vcpu=2))
    assert domain_xml.render(*growing) == domain_xml.render(*plain)


def test_one_with_slots_for_modules_has_room_for_one() -> None:
    """QEMU starts no other."""
    domain = bare(*machine(memory=512, growth=Growth(memory=512, slots=4)))
    assert domain.findtext("maxMemory") == str(640 * 1024)


def test_a_machine_of_many_devices_that_asks_for_no_slots_is_as_it_was() -> None:
    nics = tuple(Nic(number, 0, "net", "br0", f"02:00:00:00:00:{number:02x}") for number in range(20))
    domain = bare(*machine(nics=nics))
    models = [each.get("model") for each in domain.iterfind("devices/controller")]
    assert models.count("pcie-root-port") == domain_xml.ROOT_PORTS
    more = ET.fromstring(
        ET.tostring(domain).replace(b"</devices>", b"<controller type='pci' model='pcie-root-port'/></devices>")
    )
    assert domain_xml.hotplug_slots_of(more) == 0


def bare(vm: Vm, site: Site) -> ET.Element:
    return ET.fromstring(domain_xml.render(vm, site).text)


@pytest.mark.parametrize(
    ("board", "slots", "ports", "bridges"),
    [
        ("q35", 0, 16, 0),
        # It has so many by itself.
        ("q35", 11, 16, 0),
        ("q35", 24, 29, 0),
        ("pc", 0, 0, 0),
        ("pc", 26, 0, 0),
        ("pc", 27, 0, 1),
        ("pc", 57, 0, 2),
    ],
)
def test_slots_are_reserved_on_each_board(board: str, slots: int, ports: int, bridges: int) -> None:
    vm, site = machine(os=Os(machine=board), hotplug_slots=slots)
    domain = bare(vm, site)
    models = [each.get("model") for each in domain.iterfind("devices/controller")]
    assert (models.count("pcie-root-port"), models.count("pci-bridge")) == (ports, bridges)
    # What is read back makes the same definition.
    again = dataclasses.replace(vm, hotplug_slots=domain_xml.hotplug_slots_of(domain))
    assert domain_xml.render(again, site) == domain_xml.render(vm, site)


@pytest.mark.parametrize("case", CASES)
def test_a_machine_that_asks_for_none_has_none(case: str) -> None:
    assert domain_xml.hotplug_slots_of(bare(*load(case))) == 0


@pytest.mark.parametrize("cpu", ["<cpu/>", "<cpu><topology sockets='x' cores='1' threads='1'/></cpu>", ""])
def test_a_definition_that_says_nothing_of_them(cpu: str) -> None:
    assert domain_xml.topology_of(ET.fromstring(cpu) if cpu else None) is None


def test_every_golden_has_its_case() -> None:
    assert sorted(path.stem for path in FIXTURES.glob("*.xml")) == CASES
    assert len(CASES) > 20


def test_the_digest_is_of_everything_but_the_generation() -> None:
    vm, site = machine()
    first = domain_xml.render(vm, site)
    later = domain_xml.render(vm, dataclasses.replace(site, generation=7))
    assert first.digest == later.digest
    assert first.text != later.text
    assert domain_xml.render(dataclasses.replace(vm, memory=129), site).digest != first.digest
    with_password = Graphics(port=5900, password="a")
    a = domain_xml.render(dataclasses.replace(vm, graphics=with_password), site).digest
    b = domain_xml.render(
        dataclasses.replace(vm, graphics=dataclasses.replace(with_password, password="b")), site
    ).digest
    assert a != b


@pytest.mark.parametrize(
    ("cpu", "whole", "shares"),
    [
        (0.5, 1024, 512), (1.5, 1024, 1536), (0.07, 100, 7), (0.071, 100, 8), (1, 100, 100), (0.0001, 1024, 2),
        (0.0001, 100, 1), (1000, 1024, 262144), (1000, 100, 10000),
    ],
)  # fmt: skip
def test_shares(cpu: float, whole: int, shares: int) -> None:
    assert domain_xml.cpu_shares(cpu, whole) == shares


@pytest.mark.parametrize(
    ("target", "bus", "sd_disk_bus", "of_machine", "expected"),
    [
        ("vda", "", "", "q35", "virtio"),
        ("sda", "", "", "q35", "scsi"),
        ("sda", "", "SATA", "q35", "sata"),
        ("hda", "", "", "q35", "sata"),
        ("hda", "", "", "pc", "ide"),
        ("hda", "", "", "pc-i440fx-7.2", "ide"),
        ("hda", "", "", "pc-q35-7.2", "sata"),
        ("sda", "usb", "", "pc", "usb"),
    ],
)
def test_buses(target: str, bus: str, sd_disk_bus: str, of_machine: str, expected: str) -> None:
    vm, _site = machine()
    vm = dataclasses.replace(vm, os=dataclasses.replace(vm.os, sd_disk_bus=sd_disk_bus, machine=of_machine))
    assert domain_xml.bus_of(Disk(disk_id=0, target=target, bus=bus), vm) == expected


def test_a_target_without_a_bus_is_refused() -> None:
    vm, _site = machine()
    with pytest.raises(InvalidValue, match="zda"):
        domain_xml.bus_of(Disk(disk_id=0, target="zda"), vm)


@pytest.mark.parametrize("data", ["<devices>", "<a></b>", "a & b", "</domain><domain>", "<!DOCTYPE x><a/>", "<q:a/>"])
def test_raw_data_that_is_no_fragment_is_refused(data: str) -> None:
    vm, site = machine(raw={"kvm": data})
    with pytest.raises(InvalidValue) as caught:
        domain_xml.render(vm, site)
    assert "RAW" in str(caught.value)
    assert vm.name in str(caught.value)


def test_raw_data_of_other_hypervisors_is_not_read() -> None:
    vm, site = machine(raw={"xen": "on_crash = 'destroy'"})
    assert "on_crash" not in domain_xml.render(vm, site).text


def test_there_is_one_of_each_section() -> None:
    root = ET.fromstring(domain_xml.render(*load("raw_joins_sections")).text)
    for section in ("devices", "features", "metadata", "os", "on_crash"):
        assert len(root.findall(section)) == 1
    assert len(root.findall("./features/acpi")) == 1


@pytest.mark.parametrize(("kind", "length"), [("vnc", 8), ("spice", 59)])
def test_passwords_are_cut_to_what_the_protocol_carries(kind: str, length: int) -> None:
    vm, site = machine(graphics=Graphics(type=kind, port=5900, password="'<&\"" * 20))
    root = ET.fromstring(domain_xml.render(vm, site).text)
    assert root.find("./devices/graphics").get("passwd") == ("'<&\"" * 20)[:length]


def test_a_base_is_named_and_keeps_its_owner() -> None:
    root = ET.fromstring(domain_xml.render(*load("chain_of_two_bases")).text)
    stores = list(root.iter("backingStore"))
    assert [store.find("source").get("file") for store in stores[:-1]] == [
        "/var/lib/nebula/cache/u-1",
        "/var/lib/nebula/cache/v-0",
    ]
    for store in stores[:-1]:
        assert store.find("./source/seclabel").attrib == {"model": "dac", "relabel": "no"}
    # The end of the chain is said, so that nothing below is probed.
    assert len(stores[-1]) == 0


def test_the_mark() -> None:
    vm, site = load("emulated")
    root = ET.fromstring(domain_xml.render(vm, site).text)
    mark = root.find(f"./metadata/{{{domain_xml.NAMESPACE}}}vm")
    assert mark.get("catalog") == site.catalog
    assert mark.get("id") == str(vm.vm_id)
    assert mark.get("generation") == "1"


@pytest.mark.parametrize("name", ['<nebula:vm generation="0">', ' generation="0"', "]]> <metadata> &lt;nebula:vm "])
def test_a_name_like_the_mark_is_a_name(name: str) -> None:
    """The generation is written into the finished text."""
    vm, site = load("emulated")
    vm = dataclasses.replace(vm, name=name, raw={"kvm": "<description generation='0'>generation='0'</description>"})
    found = domain_xml.render(vm, dataclasses.replace(site, generation=12345))
    root = ET.fromstring(found.text)
    assert root.findtext("title") == name
    assert root.find(domain_xml.MARK_PATH).get("generation") == "12345"
    assert found.text.count("12345") == 1
    assert root.find("description").get("generation") == root.findtext("description")[12:-1] == "0"


def test_the_medium_of_a_context_goes_out_and_in() -> None:
    vm, site = load("emulated")
    whole = ET.fromstring(domain_xml.render(vm, site).text).findall("./devices/disk")[1]
    empty = ET.fromstring(domain_xml.context_medium(vm, None))
    full = ET.fromstring(domain_xml.context_medium(vm, site.disks[1].path))
    assert empty.find("source") is None
    assert full.find("source").get("file") == whole.find("source").get("file")
    assert full.find("target").attrib == empty.find("target").attrib == whole.find("target").attrib
