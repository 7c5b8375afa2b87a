# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In what two templates differ, and what of it can be changed."""

from __future__ import annotations

from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.model.device_matching import MachineDevice
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.model.template_changes import (
    CHANGEABLE,
    Change,
    changes,
    live_while,
    pair_devices,
)
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

WEB = parse("""
NAME = web
CPU = 0.5
MEMORY = 128
DISK = [ IMAGE = debian, TARGET = vda ]
NIC = [ NETWORK = Public, MODEL = virtio ]
FEATURES = [ ACPI = yes, PAE = no ]
GRAPHICS = [ TYPE = vnc, LISTEN = 127.0.0.1, PASSWD = hunter2 ]
CONTEXT = [ NETWORK = YES, HOSTNAME = web, PASSWORD = hunter2 ]
OWNER = alice
""")


def put(text: str) -> Template:
    """WEB with the attributes of the text in the place of its own."""
    new = parse(text)
    return Template(WEB.without(*new.names()).attributes + new.attributes)


SAME = {
    "itself": "",
    "another name": "NAME = other",
    "another order of attributes": "CPU = 0.5",
    "another order of keys": "DISK = [ TARGET = vda, IMAGE = debian ]",
    "case of words": "FEATURES = [ PAE = NO, ACPI = YES ]",
    "true for yes": "FEATURES = [ PAE = false, ACPI = on ]",
    "case of kinds": "NIC = [ NETWORK = Public, MODEL = VIRTIO ]",
    "a number written otherwise": "CPU = 0.50",
    "blanks around a value": 'MEMORY = " 128 "',
    "an empty value": 'DISK = [ IMAGE = debian, TARGET = vda, CACHE = "" ]',
    "an empty attribute": "VCPU =",
    "an empty vector": "RAW = []",
}


@pytest.mark.parametrize("case", SAME)
def test_no_difference(case: str) -> None:
    assert changes(WEB, put(SAME[case])) == []
    assert changes(put(SAME[case]), WEB) == []


def test_a_whole_processor_is_the_default() -> None:
    assert changes(WEB.without("CPU"), WEB.merged(Template.from_mapping({"CPU": "1"}))) == []
    assert changes(WEB, WEB.without("CPU")) == [Change("CPU", "0.5", "1", "live")]


DIFFERENT = {
    "CPU = 2": Change("CPU", "0.5", "2", "live"),
    "MEMORY = 256": Change("MEMORY", "128", "256", "poweroff"),
    "VCPU = 2": Change("VCPU", "nothing", "2", "poweroff"),
    "OWNER = bob": Change("OWNER", "alice", "bob", "catalog"),
    "TIER = gold": Change("TIER", "nothing", "gold", "catalog"),
    "DESCRIPTION = x": Change("DESCRIPTION", "nothing", "x", "catalog"),
    "API_TOKEN = abc": Change("API_TOKEN", "nothing", "(secret)", "catalog"),
    "FEATURES = [ ACPI = no, PAE = no ]": Change("FEATURES", "[ ACPI = YES ]", "[ ACPI = NO ]", "poweroff"),
    "DISK = [ IMAGE = Debian, TARGET = vda ]": Change("DISK", "[ IMAGE = debian ]", "[ IMAGE = Debian ]", "poweroff"),
    "DISK = [ IMAGE = debian, TARGET = vda ] DISK = [ TYPE = swap, SIZE = 5 ]": Change(
        "DISK", "nothing of it", "[ SIZE = 5, TYPE = swap ]", "poweroff"
    ),
    "NIC = [ NETWORK = Public ]": Change("NIC", "[ MODEL = virtio ]", "nothing of it", "poweroff"),
    "GRAPHICS = [ TYPE = vnc, LISTEN = 127.0.0.1, PASSWD = Hunter2 ]": Change(
        "GRAPHICS", "[ PASSWD = (secret) ]", "[ PASSWD = (another secret) ]", "poweroff"
    ),
    "CONTEXT = [ NETWORK = YES, HOSTNAME = Web, PASSWORD = hunter2 ]": Change(
        "CONTEXT", "[ HOSTNAME = (secret) ]", "[ HOSTNAME = (another secret) ]", "live"
    ),
    "CONTEXT = [ NETWORK = yes, HOSTNAME = web, PASSWORD = hunter2 ]": Change(
        "CONTEXT", "[ NETWORK = (secret) ]", "[ NETWORK = (another secret) ]", "live"
    ),
    "CONTEXT = [ NETWORK = YES, HOSTNAME = web, PASSWORD = hunter2, TARGET = sdz ]": Change(
        "CONTEXT", "nothing of it", "[ TARGET = (secret) ]", "poweroff"
    ),
    "CONTEXT_FORMAT = nocloud": Change("CONTEXT_FORMAT", "opennebula", "nocloud", "live"),
    "CONTEXT_DEVICE = disk": Change("CONTEXT_DEVICE", "cdrom", "disk", "poweroff"),
    "OS = [ MACHINE = pc ]": Change("OS", "nothing", "[ MACHINE = pc ]", "poweroff"),
    'OS = [ UUID = "01234567-89ab-4cde-8f01-23456789abcd" ]': Change(
        "OS", "nothing", "[ UUID = 01234567-89ab-4cde-8f01-23456789abcd ]", "recreate"
    ),
    "RAW = [ TYPE = kvm, DATA = abcd ]": Change("RAW", "nothing", "[ DATA = (4 characters), TYPE = kvm ]", "poweroff"),
    "TOPOLOGY = [ CORES = 2 ]": Change("TOPOLOGY", "nothing", "[ CORES = 2 ]", "poweroff"),
    "HYPERVISOR = xen": Change("HYPERVISOR", "nothing", "xen", "recreate"),
}


@pytest.mark.parametrize("text", DIFFERENT)
def test_difference(text: str) -> None:
    [change] = changes(WEB, put(text))
    assert change == DIFFERENT[text]
    assert "hunter" not in f"{change}".lower()


COMES = "DISK = [ IMAGE = debian, TARGET = vda ] DISK = [ TYPE = swap, SIZE = 5 ]"
NIC_COMES = "NIC = [ NETWORK = Public, MODEL = virtio ] NIC = [ NETWORK = Other ]"


@pytest.mark.parametrize(
    ("text", "live", "how"),
    [
        (COMES, ("DISK", "NIC"), "hotplug"),
        (COMES, ("NIC",), "poweroff"),
        (COMES, (), "poweroff"),
        (NIC_COMES, ("DISK", "NIC"), "hotplug"),
        (NIC_COMES, (), "poweroff"),
        # What stays and changes does so while the machine is off, whatever the hypervisor.
        ("NIC = [ NETWORK = Public ]", ("DISK", "NIC"), "poweroff"),
        ("VCPU = 2", ("DISK", "NIC", "MEMORY"), "poweroff"),
    ],
)
def test_devices_come_go_and_change(text: str, live: tuple[str, ...], how: str) -> None:
    assert [change.how for change in changes(WEB, put(text), live)] == [how]
    assert [change.how for change in changes(put(text), WEB, live)] == [how]


HAS = {
    "DISK": (MachineDevice({"IMAGE": "debian", "TARGET": "vda", "SIZE": "2048"}, own=True, boots=True),),
    "NIC": (MachineDevice({"NETWORK": "Public", "MAC": "02:00:c0:a8:00:01", "IP": "192.168.0.1"}),),
}


@pytest.mark.parametrize(
    ("text", "how"),
    [
        # What the machine has by now need not be asked for, and may be.
        ("NIC = [ NETWORK = Public, MODEL = virtio, IP = 192.168.0.1 ]", "catalog"),
        ("NIC = [ NETWORK = Public, MODEL = virtio, MAC = 02:00:C0:A8:00:01 ]", "catalog"),
        ("NIC = [ NETWORK = Public, MODEL = virtio, IP = 192.168.0.2 ]", "poweroff"),
        ("DISK = [ IMAGE = debian, TARGET = vda, SIZE = 2048 ]", "catalog"),
        ("DISK = [ IMAGE = debian, TARGET = vda, SIZE = 4096 ]", "poweroff"),
        ("DISK = [ IMAGE = debian ]", "catalog"),
        # The operating system is not taken away.
        ("DISK = [ IMAGE = Debian, TARGET = vda ]", "recreate"),
        ("DISK = [ IMAGE = debian, TARGET = vda, DRIVER = raw ]", "recreate"),
    ],
)
def test_devices_are_compared_with_what_the_machine_has(text: str, how: str) -> None:
    assert [change.how for change in changes(WEB, put(text), ("DISK", "NIC"), HAS)] == [
        "hotplug" if how == "poweroff" and "192.168.0.2" in text else how
    ]


@pytest.mark.parametrize(
    ("old", "new", "numbers"),
    [
        ("ab", "ab", [0, 1]),
        ("b", "ab", [None, 0]),
        # One that came is like one that was there behind it.
        ("ba", "aba", [None, 0, 1]),
        ("ba", "abcab", [None, 0, None, 1, None]),
        ("aba", "ba", [1, 2]),
        # The first ones of several alike stay.
        ("a", "aa", [0, None]),
        ("aa", "a", [0]),
        ("", "ab", [None, None]),
        ("ab", "", []),
        ("", "", []),
        ("ab", "ba", [1, 0]),
        ("ab", "ac", [0, None]),
        ("abc", "bd", [1, None]),
    ],
)
def test_devices_are_found_among_others(old: str, new: str, numbers: list[Optional[int]]) -> None:
    templates = [WEB.with_vectors("NIC", [{"NETWORK": letter} for letter in letters]) for letters in (old, new)]
    assert list(pair_devices("NIC", *templates).stays) == numbers


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=8))
def test_whatever_came_or_went_the_others_are_found(devices: list[tuple[str, bool]]) -> None:
    """The second of each says whether it stays."""
    every, staying = ([{"NETWORK": letter} for letter, stays in devices if stays or all_] for all_ in (True, False))
    more, fewer = WEB.with_vectors("NIC", every), WEB.with_vectors("NIC", staying)
    came, went = pair_devices("NIC", fewer, more), pair_devices("NIC", more, fewer)
    assert sorted(index for index in came.stays if index is not None) == list(range(len(staying)))
    assert (came.gone, None in went.stays) == ((), False)
    assert [every[index] for index in went.stays if index is not None] == staying
    assert len(went.gone) == len(every) - len(staying)


def test_the_context_of_a_disk_changes_while_the_machine_is_off() -> None:
    disk = Template((*WEB.attributes, ("CONTEXT_DEVICE", "DISK")))
    for other in (disk.merge_context({"A": "b"}), Template((*disk.attributes, ("CONTEXT_FORMAT", "nocloud")))):
        assert [change.how for change in changes(disk, other)] == ["poweroff"]
    # Nor does one that becomes a disk, or a drive.
    for old, new in ((WEB, disk), (disk, WEB)):
        found = [(c.attribute, c.how) for c in changes(old, new.merge_context({"A": "b"}))]
        assert found == [("CONTEXT", "poweroff"), ("CONTEXT_DEVICE", "poweroff")]


@pytest.mark.parametrize("part", ["CONTEXT", "CONTEXT_DEVICE"])
def test_a_context_that_is_to_be_elsewhere_waits_with_what_changes_of_it(part: str) -> None:
    assert live_while(("CONTEXT", "NIC"), [part]) == ("NIC",)
    assert live_while(("CONTEXT", "NIC"), ["MEMORY"]) == ("CONTEXT", "NIC")
    # Containers have no drives: theirs is a directory, whatever it is called.
    assert live_while(("CONTEXT", "CONTEXT_DEVICE"), [part]) == ("CONTEXT", "CONTEXT_DEVICE")


def test_a_default_that_is_written_out_is_no_difference() -> None:
    assert changes(WEB, Template((*WEB.attributes, ("CONTEXT_FORMAT", "OpenNebula")))) == []


def test_no_context_any_more() -> None:
    assert [c.how for c in changes(WEB, WEB.without("CONTEXT"))] == ["recreate"]
    assert [c.how for c in changes(WEB.without("CONTEXT"), WEB.without("CONTEXT").merge_context({}))] == ["recreate"]


def test_zeros_in_front_are_part_of_a_name() -> None:
    assert changes(Template((("ROOM", "007"),)), Template((("ROOM", "7"),))) != []


def test_passwords_differ_by_case_and_blanks() -> None:
    old, new = (Template((("GRAPHICS", (("PASSWD", value),)),)) for value in ("yes", "YES"))
    assert changes(old, new) != []


def test_order_of_disks_counts() -> None:
    disks = [{"IMAGE": "a"}, {"IMAGE": "b"}]
    assert changes(WEB.with_vectors("DISK", disks), WEB.with_vectors("DISK", disks[::-1])) != []


def test_ways_of_changing() -> None:
    assert set(CHANGEABLE.values()) == {"live", "poweroff", "catalog"}
    assert not {"DISK", "NIC"} & set(CHANGEABLE)


def test_of_a_context_it_is_told_which_names_came_went_and_changed_and_no_value():
    old = parse('CONTEXT = [ KEPT = "v1", WENT = "v2", CHANGED = "v3" ]')
    new = parse('CONTEXT = [ KEPT = "v1", CAME = "v4", CHANGED = "v5" ]')
    (change,) = changes(old, new)
    assert change.old == "[ CHANGED = (secret), WENT = (secret) ]"
    assert change.new == "[ CAME = (secret), CHANGED = (another secret) ]"
