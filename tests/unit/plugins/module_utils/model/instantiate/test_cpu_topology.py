# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In how many sockets, cores and threads a guest sees its processors."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate import cpu_topology
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.cpu_topology import topology_of
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.former_machine import FormerMachine
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.validate import validate
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Growth, Topology
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

HYPERV = 'FEATURES = [ HYPERV = "YES" ]'
DEBIAN = 'DISK = [ IMAGE = "debian" ]'


def template(vcpu, said=""):
    text = f"MEMORY = 1 {DEBIAN}" + (f" VCPU = {vcpu}" if vcpu else "")
    return parse(text + (f" TOPOLOGY = [ {said} ]" if said else ""))


def shape(found):
    return None if found is None else (found.sockets, found.cores, found.threads)


@pytest.mark.parametrize(
    ("text", "attributes", "wanted"),
    [
        ("VCPU = 4", {}, None),
        ("VCPU = 4", {"GUEST_OS": "debian"}, None),
        ("VCPU = 4", {"GUEST_OS": "windows"}, (1, 4, 1)),
        ("VCPU = 4", {"OS": "Windows 11"}, (1, 4, 1)),
        ("VCPU = 4", {"OS_FAMILY": "windows"}, (1, 4, 1)),
        (f"VCPU = 4 {HYPERV}", {}, (1, 4, 1)),
        # What it has is kept when VCPU grows.
        ("", {"GUEST_OS": "windows"}, (1, 1, 1)),
        ("VCPU = 4 TOPOLOGY = [ SOCKETS = 2 ]", {}, (2, 2, 1)),
        ("VCPU = 4 TOPOLOGY = [ SOCKETS = 2 ]", {"GUEST_OS": "windows"}, (2, 2, 1)),
        ('VCPU = 4 TOPOLOGY = [ PIN_POLICY = "NONE" ]', {"GUEST_OS": "windows"}, (1, 4, 1)),
        ('VCPU = 4 TOPOLOGY = [ PIN_POLICY = "NONE" ]', {}, None),
    ],
)
def test_what_a_new_machine_has(machine, images, text, attributes, wanted):
    images["debian"] = replace(images["debian"], attributes=attributes)
    assert shape(machine(f"MEMORY = 1 {DEBIAN} {text}").topology) == wanted


def test_a_machine_that_is_still_to_be_installed_is_what_its_iso_is(machine, images):
    """Nothing is on its disk that could be booted."""
    text = 'MEMORY = 1 VCPU = 4 DISK = [ IMAGE = "blank" ] DISK = [ IMAGE = "iso" ]'
    iso = next(name for name, image in images.items() if image.type.name == "CDROM")
    images[iso] = replace(images[iso], attributes={"GUEST_OS": "windows"})
    assert shape(machine(text.replace('"iso"', f'"{iso}"')).topology) == (1, 4, 1)


@pytest.mark.parametrize("name", ["xen", "lxc", "openvz"])
def test_hypervisors_without_a_word_for_it(name):
    for said in ("", "SOCKETS = 2", "SOCKETS = 3"):
        assert topology_of(template(4, said), name, True, "VM w") is None
        assert cpu_topology.doubt_of_machine(name, 4, False, template(4, said), True) is None


@pytest.mark.parametrize(
    ("vcpu", "said", "wanted"),
    [
        (8, "SOCKETS = 2, CORES = 2, THREADS = 2", (2, 2, 2)),
        (8, "SOCKETS = 2", (2, 4, 1)),
        (8, "CORES = 4", (2, 4, 1)),
        (8, "THREADS = 2", (1, 4, 2)),
        (8, "CORES = 2, THREADS = 2", (2, 2, 2)),
        (8, "SOCKETS = 8", (8, 1, 1)),
        (None, "SOCKETS = 1", (1, 1, 1)),
        (8, 'SOCKETS = 2, PIN_POLICY = "NONE"', (2, 4, 1)),
    ],
)
def test_what_topology_says_and_what_follows_from_it(vcpu, said, wanted):
    assert shape(topology_of(template(vcpu, said), "kvm", False, "VM w")) == wanted
    assert not validate(template(vcpu, said.replace(', PIN_POLICY = "NONE"', "")))


@pytest.mark.parametrize(
    ("vcpu", "said", "why"),
    [
        (4, "SOCKETS = 2, CORES = 2, THREADS = 2", "are 8 processors, and VCPU, or VCPU_MAX where it is given, is 4"),
        (4, "SOCKETS = 3", "are 3 processors, and VCPU, or VCPU_MAX where it is given, is 4"),
        (4, "CORES = 8", "are 0 processors, and VCPU, or VCPU_MAX where it is given, is 4"),
        (None, "CORES = 4", "is 1"),
        (4, "SOCKETS = 0", "not a whole number of at least 1"),
        (4, "CORES = x", "not a whole number of at least 1"),
    ],
)
def test_what_does_not_come_to_vcpu(vcpu, said, why):
    wrong = template(vcpu, said)
    with pytest.raises(InvalidValue, match=f"VM w: TOPOLOGY.*{why}"):
        topology_of(wrong, "kvm", False, "VM w")
    # Refused in a template that says it anew; told where it is stored.
    for before in (None, template(vcpu), template(9, said)):
        with pytest.raises(InvalidValue, match="template web: TOPOLOGY"):
            cpu_topology.refuse_in_template(wrong, before, "template web")
    cpu_topology.refuse_in_template(wrong.merged(parse("MEMORY = 2")), wrong, "template web")
    (doubt,) = validate(wrong, where="template web")
    assert doubt.startswith("TOPOLOGY") and why in doubt
    # A machine that is there and has it goes on.
    assert topology_of(wrong, "kvm", True, "VM w", FormerMachine(wrong, wrong, wrong, wrong)) is None


@pytest.mark.parametrize(
    ("before", "had", "after", "windows", "wanted"),
    [
        # One that was made before: nothing of it changes but what its list changes.
        ((4, ""), None, (4, ""), True, None),
        ((4, ""), None, (6, ""), True, None),
        ((4, "SOCKETS = 1"), None, (4, "SOCKETS = 1"), True, None),
        ((4, ""), None, (4, "SOCKETS = 1"), True, (1, 4, 1)),
        ((4, "SOCKETS = 1"), None, (6, "SOCKETS = 1"), True, (1, 6, 1)),
        ((4, "SOCKETS = 1"), None, (4, "SOCKETS = 2"), False, (2, 2, 1)),
        # One with a default goes on with it, whatever its image is said to be by now.
        ((4, ""), (1, 4, 1), (4, ""), False, (1, 4, 1)),
        ((4, ""), (1, 4, 1), (6, ""), False, (1, 6, 1)),
        ((4, ""), (1, 4, 1), (4, "SOCKETS = 4"), True, (4, 1, 1)),
        # What is not said any more.
        ((4, "SOCKETS = 2"), (2, 2, 1), (4, ""), False, None),
        ((4, "SOCKETS = 2"), (2, 2, 1), (4, ""), True, (1, 4, 1)),
    ],
)
def test_what_a_machine_that_is_there_has(before, had, after, windows, wanted):
    there = FormerMachine(*[template(*before)] * 4, None if had is None else Topology(*had))
    assert shape(topology_of(template(*after), "kvm", windows, "VM w", there)) == wanted


@pytest.mark.parametrize(
    ("vcpu", "has", "said", "windows", "told"),
    [
        (4, False, "", True, "4 processors are 4 sockets, of which Windows' desktop editions use 2"),
        (3, False, 'PIN_POLICY = "NONE"', True, "CORES = 3"),
        (2, False, "", True, None),
        (None, False, "", True, None),
        (4, True, "", True, None),
        (4, False, "", False, None),
        (4, False, "SOCKETS = 1", False, "TOPOLOGY does not act on it"),
        (4, True, "SOCKETS = 1", True, None),
    ],
)
def test_what_is_told_of_a_machine_that_is_there(vcpu, has, said, windows, told):
    found = cpu_topology.doubt_of_machine("kvm", vcpu, has, template(vcpu, said), windows)
    assert (found is None) if told is None else (told in found)


@pytest.mark.parametrize(("said", "windows", "wanted"), [("CORES = 4", False, (2, 4, 1)), ("", True, (1, 8, 1))])
def test_it_has_room_for_all_processors_that_may_come(said, windows, wanted):
    growing = template(2, said).merged(parse("VCPU_MAX = 8"))
    assert shape(topology_of(growing, "kvm", windows, "VM w", growth=Growth(vcpu=8))) == wanted
    cpu_topology.check_topology(growing, "VM w")
    # It stays as it is when they come, and is another where there may be more.
    more = growing.merged(parse("VCPU = 3"))
    assert not cpu_topology.topology_differs(growing, more, Growth(vcpu=8))
    assert cpu_topology.topology_differs(growing, more, None)
    there = FormerMachine(growing, growing, growing, growing, Topology(*wanted), Growth(vcpu=8))
    assert shape(topology_of(more, "kvm", windows, "VM w", there, Growth(vcpu=8))) == wanted
    assert topology_of(growing, "kvm", windows, "VM w", there, Growth(vcpu=16)) != Topology(*wanted)
