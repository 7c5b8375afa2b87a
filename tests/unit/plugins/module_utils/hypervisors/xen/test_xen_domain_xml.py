# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines of Xen in libvirt's words: goldens, beside those in xl's, written anew on purpose by REGENERATE=1. libvirt
itself reads them in tests/integration/test_kvm_deployment_files.py and, in a dom0, in test_xen_libvirt.py."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as ET

import deployment_files
import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Site
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen import config, xen_domain_xml
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os, Vm

FIXTURES = deployment_files.FIXTURES / "xen"
# Without what libvirt has no words for, each of which is refused: see below.
WITHOUT = {"hvm_everything": {"raw": {}, "firmware": ""}}
CASES = deployment_files.cases("xen")


def load(case: str) -> tuple[Vm, Site]:
    (vm, site), without = deployment_files.load("xen", case), WITHOUT.get(case, {})
    if without:
        vm = replace(vm, raw=without["raw"], os=replace(vm.os, firmware=without["firmware"]))
    return vm, site


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    deployment_files.compare(FIXTURES / f"{case}.xml", xen_domain_xml.render(*load(case)).text)


@pytest.mark.parametrize("case", CASES)
def test_it_needs_what_the_file_of_xl_needs(case: str) -> None:
    vm, site = load(case)
    ours = xen_domain_xml.needs_of(xen_domain_xml.render(vm, site).text)
    theirs = config.needs_of(config.render(vm, site).text)
    assert (ours.memory, ours.vcpus, ours.bridges, ours.files) == (
        theirs.memory, theirs.vcpus, theirs.bridges, theirs.files,
    )  # fmt: skip
    assert set(ours.disks) == set(theirs.disks)
    assert bool(ours.emulator) == bool(theirs.emulator)


@pytest.mark.parametrize("case", CASES)
def test_what_is_attached_and_detached_is_found_in_it(case: str) -> None:
    vm, site = load(case)
    found = xen_domain_xml.devices_of(xen_domain_xml.render(vm, site).text)
    assert list(found.nics) == [nic.mac.lower() for nic in vm.nics]
    targets = [disk.target.partition(":")[0] for disk in [*vm.disks, *filter(None, [vm.context])]]
    assert sorted(found.disks) == sorted(targets)
    for element in (*found.disks.values(), *found.nics.values()):
        ET.fromstring(ET.tostring(element))


def machine(**values: object) -> tuple[Vm, Site]:
    vm = Vm(7, "5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d01", "web", "xen_libvirt", 0.5, 128, **values)  # type: ignore[arg-type]
    return vm, Site("/var/lib/nebula/datastores/0/7", "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10", 3, {}, "xen")


def test_weight_and_cap_are_kept_for_when_it_runs() -> None:
    assert xen_domain_xml.weights_of(xen_domain_xml.render(*machine(cpu_limit=80)).text) == (128, 80)
    assert xen_domain_xml.weights_of(xen_domain_xml.render(*machine()).text) == (128, 0)


def test_only_the_generation_leaves_the_digest_as_it_is() -> None:
    vm, site = machine()
    first = xen_domain_xml.render(vm, site)
    again, other = (
        xen_domain_xml.render(vm, replace(site, generation=4)),
        xen_domain_xml.render(replace(vm, cpu_limit=5), site),
    )
    assert first.digest == again.digest != other.digest and first.text != again.text


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"os": Os(firmware="UEFI")}, "has no UEFI"),
        ({"raw": {"xen": "hdtype = 'ahci'"}}, "in the words of xl"),
        (
            {"os": Os(bootloader="pygrub"), "disks": (Disk(0, "xvda"), Disk(1, "xvdb", boot_order=1))},
            "OS/BOOT names xvdb",
        ),
        ({"name": "a\u0001b"}, "which no deployment file can"),
    ],
)
def test_what_libvirt_has_no_words_for_is_refused(values: dict[str, object], words: str) -> None:
    vm, site = machine(**{key: value for key, value in values.items() if key != "name"})
    vm = replace(vm, name=str(values.get("name", "web")))
    with pytest.raises(InvalidValue, match=words):
        xen_domain_xml.render(vm, site)


def test_how_a_machine_ends_is_the_same_word_in_both() -> None:
    domain = ET.fromstring(xen_domain_xml.render(*machine(raw={"xen": "on_reboot = 'destroy'\n"})).text)
    assert domain.findtext("on_reboot") == "destroy"


def test_a_context_of_a_pvh_machine_is_a_disk_that_can_only_be_read() -> None:
    vm, site = load("pvh")
    found = xen_domain_xml.devices_of(xen_domain_xml.render(vm, site).text).disks
    assert {disk.get("device") for disk in found.values()} == {"disk"}
    assert vm.context is not None and found[vm.context.target.partition(":")[0]].find("readonly") is not None


def test_a_machine_that_says_no_processors_needs_one() -> None:
    assert xen_domain_xml.needs_of("<domain><memory>1048576</memory></domain>").vcpus == 1
