# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that are cut off: refused where they are new, told where they are there."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model import hypervisor, hypervisor_rules
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate import (
    truncated_values,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.validate import validate
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

LONG, TOO_LONG = "s" * 20, "s" * 21
LONGEST, TOO_LONG_FOR_ALL = "s" * 36, "s" * 37


def template(disk="", nic="", os="", more=""):
    text = f'MEMORY = 32\nDISK = [ IMAGE = "debian"{disk} ]\n{more}'
    text += f'NIC = [ NETWORK = "Public"{nic} ]\n' if nic else ""
    return parse(text + (f"OS = [ {os} ]\n" if os else ""))


@pytest.mark.parametrize(
    ("disk", "os", "most"),
    [
        (', DEV_PREFIX = "vd"', "", 20),
        (', TARGET = "vdc"', "", 20),
        (', DEV_PREFIX = "xvd"', "", 20),
        (', TARGET = "hda"', "", 20),
        (', TARGET = "hda"', 'MACHINE = "pc"', 20),
        (', TARGET = "sda", BUS = "sata"', "", 20),
        (', TARGET = "sda"', 'SD_DISK_BUS = "sata"', 20),
        (', TARGET = "sda"', "", 36),
        (', DEV_PREFIX = "sd"', "", 36),
        # Its image may say where it is: only what no disk has is known to be cut.
        ("", "", 36),
    ],
)
def test_how_much_of_a_serial_number_a_guest_sees(disk, os, most):
    for length, cut in ((1, False), (most, False), (most + 1, True), (most + 40, True)):
        found = truncated_values.cuts_of_template(template(f'{disk}, SERIAL = "{"a" * length}"', os=os), "kvm")
        assert bool(found) == cut, (length, found)
        if cut:
            with pytest.raises(InvalidValue, match=rf"DISK 0: SERIAL = 'a+': it has {length} characters.* {most}:"):
                truncated_values.refuse_new(found, [], "template web")
            # What is there goes on.
            assert truncated_values.refuse_new(found, found, "template web") == [str(found[0])]


def test_the_disks_of_a_machine_are_judged_by_their_buses(machine):
    text = 'MEMORY = 32 DISK = [ IMAGE = "debian" ] DISK = [ TYPE = "fs", SIZE = 1, DEV_PREFIX = "{}", SERIAL = "{}" ]'
    for prefix, serial, cut in (("vd", LONG, False), ("vd", TOO_LONG, True), ("sd", TOO_LONG, False)):
        found = truncated_values.cuts_of_machine(machine(text.format(prefix, serial)))
        assert [each.asked for each in found] == [f"DISK 1: SERIAL = {serial!r}"] * cut


def test_what_its_image_says_of_its_place_counts(machine, images):
    """The template alone does not say it."""
    text = f'MEMORY = 32\nDISK = [ IMAGE = "debian", SERIAL = "{TOO_LONG}" ]'
    images["debian"] = replace(images["debian"], dev_prefix="vd")
    assert truncated_values.cuts_of_template(parse(text), "kvm") == []
    vm = machine(text)
    assert vm.disks[0].bus == "virtio" and len(truncated_values.cuts_of_machine(vm)) == 1


@pytest.mark.parametrize("serial", [TOO_LONG_FOR_ALL, "x" * 200])
@pytest.mark.parametrize("name", ["xen", "lxc", "openvz"])
def test_other_hypervisors_have_no_such_devices(name, serial):
    assert truncated_values.cuts_of_template(template(f', SERIAL = "{serial}"'), name) == []


@pytest.mark.parametrize(
    ("target", "cut"),
    [("vnet5", True), ("vnet", True), ("macvtap0", True), ("macvlan1", True), ("one-1-0", False), ("web-vnet", False)],
)
def test_names_that_libvirt_drops(target, cut):
    found = truncated_values.cuts_of_template(template(nic=f', TARGET = "{target}"'), "kvm")
    assert [each.asked for each in found] == [f"NIC 0: TARGET = {target}"] * cut
    assert len(truncated_values.cuts_of_template(template(nic=f', TARGET = "{target}"'), "lxc")) == cut
    if cut:
        with pytest.raises(InvalidValue, match="would drop this one"):
            truncated_values.refuse_in_template(parse(f'NIC_DEFAULT = [ TARGET = "{target}" ] NIC = [ ]'), None, "x")


def test_names_that_libvirt_drops_of_a_machine_of_xen():
    for name, cut in (("vif7.0", True), ("vnet7", True), ("one-7-0", False)):
        said = template(nic=f', TARGET = "{name}"')
        assert len(truncated_values.cuts_of_template(said, "xen_libvirt")) == cut
        assert truncated_values.cuts_of_template(said, "xen") == []


def test_libvirt_drops_these_names_and_no_other():
    if shutil.which("virsh") is None:
        pytest.skip("virsh is libvirt's")
    names = [*(f"{prefix}7" for prefix in hypervisor.DROPPED_BY_LIBVIRT), "one-4-1", "tap7", "web-vnet"]
    domain = ET.Element("domain", {"type": "test"})
    for tag, text in (("name", "x"), ("memory", "8192")):
        ET.SubElement(domain, tag).text = text
    ET.SubElement(ET.SubElement(domain, "os"), "type").text = "hvm"
    devices = ET.SubElement(domain, "devices")
    for name in names:
        ET.SubElement(ET.SubElement(devices, "interface", {"type": "ethernet"}), "target", {"dev": name})
    done = subprocess.run(
        ["virsh", "-q", "-c", "test:///default", "define /dev/stdin; dumpxml --inactive x"],
        input=ET.tostring(domain, encoding="unicode"),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    kept = [each.get("dev") for each in ET.fromstring(done.stdout[done.stdout.index("<domain") :]).iter("target")]
    assert [name for name in kept if name in names] == ["one-4-1", "tap7", "web-vnet"]


@pytest.mark.parametrize(
    ("os", "cut"),
    [
        (f'KERNEL = "/k", KERNEL_CMD = "{"a" * 2047}"', False),
        (f'KERNEL = "/k", KERNEL_CMD = "{"a" * 2048}"', True),
        (f'KERNEL = "/k", ROOT = "vda", KERNEL_CMD = "{"a" * 2033}"', False),
        (f'KERNEL = "/k", ROOT = "vda", KERNEL_CMD = "{"a" * 2034}"', True),
        # Nothing reads it.
        (f'KERNEL_CMD = "{"a" * 3000}"', False),
    ],
)
def test_command_lines(os, cut, machine):
    found = truncated_values.cuts_of_template(template(os=os), "kvm")
    assert bool(found) == cut and all("a" * 100 not in str(each) for each in found)
    assert bool(truncated_values.cuts_of_machine(machine(template(os=os)))) == cut


def test_disks_of_one_machine_with_the_same_serial_number_are_told():
    text = 'MEMORY = 32\nDISK = [ IMAGE = "debian", SERIAL = "a" ]\nDISK = [ TYPE = "fs", SIZE = 1, SERIAL = "{}" ]\n'
    said = validate(parse(text.format("a")))
    assert len(said) == 1 and "DISK 1: SERIAL = 'a' is that of DISK 0 too" in said[0]
    assert validate(parse(text.format("b"))) == []
    assert not any("is that of" in each for each in validate(parse('HYPERVISOR = "xen"\n' + text.format("a"))))


def test_each_hypervisor_that_its_machines_may_come_to_counts():
    long = template(f', DEV_PREFIX = "vd", SERIAL = "{TOO_LONG}"')
    for hypervisors in ((), ["kvm"], ["xen", "kvm"]):
        with pytest.raises(InvalidValue):
            truncated_values.refuse_in_template(long, None, "template web", hypervisors)
    truncated_values.refuse_in_template(long, None, "template web", ["xen", "lxc"])
    truncated_values.refuse_in_template(parse('HYPERVISOR = "xen"').merged(long), None, "template web", ["kvm"])
    # Storing it warns.
    assert any("it has 21 characters" in each for each in validate(long))


def test_what_a_template_has_is_told_and_what_it_gets_is_refused():
    old = template(f', DEV_PREFIX = "vd", SERIAL = "{TOO_LONG}"')
    truncated_values.refuse_in_template(old.merged(parse("MEMORY = 64")), old, "template web")
    for serial in (f"{TOO_LONG}x", f"{LONG}y"):
        with pytest.raises(InvalidValue):
            truncated_values.refuse_in_template(
                template(f', DEV_PREFIX = "vd", SERIAL = "{serial}"'), old, "template web"
            )
    # On a bus that shows all of it, it was whole.
    whole = template(f', DEV_PREFIX = "sd", SERIAL = "{TOO_LONG}"')
    with pytest.raises(InvalidValue):
        truncated_values.refuse_in_template(old, whole, "template web")


def test_all_buses_of_a_machine_are_known():
    assert set(hypervisor_rules.rules_of("kvm").serials) >= {"virtio", "scsi", "sata", "ide"}
    assert LONGEST not in str(
        truncated_values.cuts_of_template(template(f', TARGET = "sda", SERIAL = "{LONGEST}"'), "kvm")
    )


@pytest.mark.parametrize(
    "target", ["a:b", "web%d", "%", ".", "..", "all", "default", "lo", "bonding_masters", "web:vnet"]
)
@pytest.mark.parametrize("hypervisor", ["kvm", "lxc", "xen"])
def test_names_that_no_interface_has(target, hypervisor, machine):
    said = template(nic=f', TARGET = "{target}"')
    found = truncated_values.cuts_of_template(said, hypervisor)
    assert [each.asked for each in found] == [f"NIC 0: TARGET = {target}"]
    if hypervisor == "kvm":
        assert truncated_values.cuts_of_machine(machine(said)) == found
    with pytest.raises(InvalidValue, match="Give the NIC another TARGET"):
        truncated_values.refuse_new(found, [], "template web")
    assert truncated_values.refuse_new(found, found, "template web") == [str(found[0])]


def test_two_nics_of_one_name(machine):
    said = parse(
        'MEMORY = 32\nDISK = [ IMAGE = "debian" ]\n'
        + "".join(f'NIC = [ NETWORK = "a", TARGET = "{name}" ]\n' for name in ("web0", "web1", "web0"))
    )
    found = truncated_values.cuts_of_template(said, "kvm")
    assert [each.asked for each in found] == ["NIC 2: TARGET = web0"] and "NIC 0 is called so too" in found[0].found
    assert truncated_values.cuts_of_machine(machine(said)) == found
    # NIC_DEFAULT makes all of them the same.
    with pytest.raises(InvalidValue, match="NIC 1: TARGET = web"):
        truncated_values.refuse_in_template(parse('NIC_DEFAULT = [ TARGET = "web" ] NIC = [ ] NIC = [ ]'), None, "x")


@pytest.mark.parametrize(
    ("mac", "hypervisor", "cut"),
    [
        ("00:00:00:00:00:00", "kvm", True),
        ("00:00:00:00:00:00", "lxc", True),
        ("00:00:00:00:00:00", "xen", True),
        ("fe:54:00:12:34:56", "kvm", False),
        ("00:00:00:00:00:01", "kvm", False),
        ("02:00:0a:00:00:01", "kvm", False),
    ],
)
def test_addresses_that_no_nic_can_have(mac, hypervisor, cut, machine):
    said = template(nic=f', MAC = "{mac}"')
    found = truncated_values.cuts_of_template(said, hypervisor)
    assert [each.asked for each in found] == [f"NIC 0: MAC = {mac.lower()}"] * cut
    if hypervisor == "kvm":
        assert truncated_values.cuts_of_machine(machine(said)) == found
    if cut:
        with pytest.raises(InvalidValue, match="02:00:0a:00:00:01"):
            truncated_values.refuse_in_template(said, None, "template web", [hypervisor])
        truncated_values.refuse_in_template(said, said, "template web", [hypervisor])


@pytest.mark.parametrize(
    ("type_", "password", "cut"),
    [
        ("vnc", "12345678", False),
        ("vnc", "123456789", True),
        ("VNC", "123456789", True),
        ("vnc", "ü2345678", True),
        ("spice", "s" * 59, False),
        ("spice", "s" * 60, True),
    ],
)
def test_passwords_of_consoles(type_, password, cut, machine):
    said = template(more=f'GRAPHICS = [ TYPE = "{type_}", PASSWD = "{password}" ]\n')
    found = truncated_values.cuts_of_template(said, "kvm")
    assert len(found) == cut and truncated_values.cuts_of_machine(machine(said)) == found
    # It is shown nowhere.
    assert all(password not in str(each) + repr(each) for each in found)
    if cut:
        with pytest.raises(InvalidValue, match=r"GRAPHICS/PASSWD: it is longer than (8|59) bytes"):
            truncated_values.refuse_in_template(said, None, "template web")
        assert truncated_values.refuse_new(found, found, "template web") == [str(found[0])]


@pytest.mark.parametrize(
    ("os", "most"),
    [
        ('KERNEL = "/k"', 1023),
        ('KERNEL = "/k", MACHINE = "xenpv"', 1023),
        ('KERNEL = "/k", MACHINE = "xenpvh"', 2047),
        ('KERNEL = "/k", MACHINE = "xenfv"', 2047),
    ],
)
@pytest.mark.parametrize("hypervisor", ["xen", "xen_libvirt"])
def test_command_lines_of_xen(os, most, hypervisor):
    for length, cut in ((most, False), (most + 1, True)):
        said = template(os=f'{os}, KERNEL_CMD = "{"a" * length}"')
        assert bool(truncated_values.cuts_of_template(said, hypervisor)) == cut


def test_blanks_around_a_serial_number_tell_no_disks_apart():
    text = 'MEMORY = 32\nDISK = [ IMAGE = "debian", SERIAL = "a" ]\nDISK = [ TYPE = "fs", SIZE = 1, SERIAL = "{}" ]\n'
    for serial in ("a ", " a"):
        assert any("is that of DISK 0 too" in each for each in validate(parse(text.format(serial))))


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("VCPU = 255\n", False),
        ("VCPU = 256\n", True),
        ('VCPU = 256\nRAW = [ TYPE = "kvm", DATA = "<devices><iommu /></devices>" ]\n', False),
        ('NIC = [ NETWORK = "a", VIRTIO_QUEUES = "256" ]\n', False),
        ('NIC = [ NETWORK = "a", VIRTIO_QUEUES = "auto" ]\n', False),
        ('NIC = [ NETWORK = "a", VIRTIO_QUEUES = "257" ]\n', True),
    ],
)
def test_numbers_with_which_libvirt_starts_no_machine(text, cut, machine):
    said = template(more=text)
    found = truncated_values.cuts_of_template(said, "kvm")
    assert len(found) == cut and truncated_values.cuts_of_machine(machine(said)) == found
    assert truncated_values.cuts_of_template(said, "xen") == truncated_values.cuts_of_template(said, "lxc") == []
    if cut:
        with pytest.raises(InvalidValue, match="would not start"):
            truncated_values.refuse_in_template(said, None, "template web")
        truncated_values.refuse_in_template(said, said, "template web")
