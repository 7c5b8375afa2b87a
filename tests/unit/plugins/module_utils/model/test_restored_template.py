# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a backup's template a new machine gets: what it needs, and nothing that reaches a host."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import (
    FULL,
    OFF,
    BackedUpDisk,
    MachineBackup,
    StoredFile,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.restored_template import (
    OfSite,
    RestoredTemplate,
    Substitutes,
    is_wanted,
    restored,
    template_of,
)
from ansible_collections.nebula.provision.plugins.module_utils.text.variable_substitution import expressions

FILE = StoredFile("f", 1, "0" * 64)
DISKS = (
    (BackedUpDisk(0, "vda", "qcow2", 1 << 20, FILE, image="debian"), "new-disk-0"),
    (BackedUpDisk(3, "vdb", "raw", 1 << 20, FILE), "new-disk-3"),
)


def backup(template: dict[str, Any]) -> MachineBackup:
    return MachineBackup(
        *("20261130T040000Z-000000", "c", 7, "u", "web-7", "node", "kvm", 1, FULL, "POWEROFF", OFF, "by hand", ()),
        template=template,
    )


SITE = OfSite(frozenset(("Public", "Private")), frozenset(("cd",)), {0: "default", 100: "web"})


def made(template: dict[str, Any], site: OfSite = SITE, **substitutes: Any) -> RestoredTemplate:
    given = {"networks": {}, "groups": {}, "believed": True, **substitutes}
    return restored(template_of(backup(template)), DISKS, "web-7", site, Substitutes(**given), chosen_by)


def chosen_by(text: str) -> list[tuple[str, str]]:
    return [(each.key, each.value) for each in expressions(text) if each.name == "NETWORK" and each.is_vector]


def test_a_machine_is_what_it_was() -> None:
    found = made(
        {
            "CPU": "0.5",
            "MEMORY": "512",
            "OS": {"BOOT": "disk3,nic0,disk0", "FIRMWARE": "UEFI"},
            "DISK": [{"IMAGE": "debian", "CACHE": "none"}, {"TYPE": "FS", "SIZE": "1", "FORMAT": "raw"}],
            "NIC": {"NETWORK": "Public", "MODEL": "virtio"},
            "CONTEXT": {"SET_HOSTNAME": "web-7", "START_SCRIPT": "cat /etc/passwd"},
            "GRAPHICS": {"TYPE": "VNC", "PASSWD": "a/b"},
        }
    )
    assert found.left_out == () and found.missing == ()
    mapping = found.template.to_mapping()
    assert mapping["OS"] == {"BOOT": "disk1,nic0,disk0", "FIRMWARE": "UEFI"}
    assert mapping["DISK"] == [
        {"IMAGE": "new-disk-0", "TARGET": "vda", "CACHE": "none"},
        {"IMAGE": "new-disk-3", "TARGET": "vdb"},
    ]
    assert mapping["CONTEXT"] == {"SET_HOSTNAME": "$NAME", "START_SCRIPT": "cat /etc/passwd"}


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ({"RAW": {"TYPE": "kvm", "DATA": "<x/>"}}, "RAW"),
        ({"INJECT": {"PATH": "/etc/motd", "CONTENT": "x"}}, "INJECT"),
        ({"EMULATOR": "/tmp/qemu"}, "EMULATOR"),
        ({"HYPERV_OPTIONS": "<x/>"}, "HYPERV_OPTIONS"),
        ({"PCI": {"SHORT_ADDRESS": "00:1f.2"}}, "PCI"),
        ({"SCHED_REQUIREMENTS": "ID=1"}, "SCHED_REQUIREMENTS"),
        ({"OSTEMPLATE": "debian"}, "OSTEMPLATE"),
        ({"OS": {"KERNEL": "/etc/shadow"}}, "OS/KERNEL"),
        ({"OS": {"FIRMWARE": "/etc/shadow"}}, "OS/FIRMWARE"),
        ({"OS": {"MACHINE": "../x"}}, "OS/MACHINE"),
        ({"CONTEXT": {"FILES": "/etc/shadow"}}, "CONTEXT/FILES"),
        ({"CONTEXT": {"KEY": "$FILE[IMAGE=secret]"}}, "CONTEXT/KEY"),
        ({"CONTEXT": {"ETH0_IP": "192.0.2.1"}}, "CONTEXT/ETH0_IP"),
        ({"GRAPHICS": {"TYPE": "VNC", "LISTEN": "0.0.0.0"}}, "GRAPHICS/LISTEN"),
        ({"DISK": {"SOURCE": "/etc/shadow", "TYPE": "BLOCK"}}, "DISK BLOCK"),
        ({"DISK": {"TYPE": "FILESYSTEM", "SOURCE": "/root"}}, "DISK FILESYSTEM"),
        ({"NIC_ALIAS": {"PARENT": "NIC0"}}, "NIC_ALIAS"),
    ],
)
def test_what_reaches_a_host_is_left_out_and_named(template: dict[str, Any], name: str) -> None:
    whole = {"DISK": [{"IMAGE": "debian"}, {"TYPE": "FS", "SIZE": "1"}], **template}
    if "DISK" in template:
        whole["DISK"] = [{"IMAGE": "debian"}, {"TYPE": "FS", "SIZE": "1"}, template["DISK"]]
    found = made(whole)
    assert name in found.left_out
    assert "/" not in str(found.template.without("CONTEXT").to_mapping())


def test_further_disks_stay_where_they_can() -> None:
    disks = [{"IMAGE": "debian"}, {"TYPE": "FS", "SIZE": "1"}, {"IMAGE": "cd"}, {"TYPE": "SWAP", "SIZE": "64"}]
    found = made({"DISK": [*disks, {"TYPE": "SWAP", "SIZE": "a lot"}, {"IMAGE": "payroll"}]})
    assert found.template.vectors("DISK")[2:] == [{"IMAGE": "cd"}, {"TYPE": "SWAP", "SIZE": "64"}]
    assert found.left_out == ("DISK SWAP", "DISK payroll")


def test_networks_are_mapped_or_missing() -> None:
    template = {"NIC": [{"NETWORK": "Old", "MAC": "02:00:00:00:00:01"}, {"NETWORK": "Public"}, {"NETWORK_ID": "3"}]}
    found = made(template)
    assert found.missing == ("Old", "")
    found = made({"NIC": [{"NETWORK": "Old"}]}, networks={"Old": "Public"}, believed=False)
    assert (found.missing, found.unnamed) == ((), ()) and found.template.vectors("NIC") == [{"NETWORK": "Public"}]


def test_where_no_key_sealed_it_each_network_is_to_be_named() -> None:
    template = {"NIC": [{"NETWORK": "Public"}, {"NETWORK": "Private"}]}
    found = made(template, believed=False, networks={"Private": "Private"})
    assert (found.missing, found.unnamed) == ((), ("Public",))
    assert made(template).unnamed == ()


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ('$NETWORK[DNS, NETWORK="Public"]', True),
        ("$NETWORK[DNS]", True),
        ('x $network[ VLAN_ID , name = "Private" ]', False),
        ('$NETWORK[VLAN_ID, NETWORK_ID="3"]', False),
        ('$NETWORK[NETWORK="Private"]', False),
        ("$NETWORK is a word", True),
    ],
)
def test_a_context_says_nothing_of_other_networks(text: str, stays: bool) -> None:
    found = made({"NIC": {"NETWORK": "Public"}, "CONTEXT": {"A": text, "B": "b"}})
    assert found.template.vector("CONTEXT") == ({"A": text, "B": "b"} if stays else {"B": "b"})
    assert found.left_out == (() if stays else ("CONTEXT/A",))


def test_a_context_without_a_nic_says_nothing_of_networks() -> None:
    assert made({"CONTEXT": {"A": "$NETWORK[DNS]"}}).left_out == ("CONTEXT/A",)


def test_what_guards_a_nic_stays() -> None:
    nic = {"NETWORK": "Public", "SECURITY_GROUPS": "100, 0", "FILTER_IP_SPOOFING": "yes", "FILTER_MAC_SPOOFING": "NO"}
    found = made({"NIC": nic}, own=True)
    assert found.template.vectors("NIC") == [
        {"NETWORK": "Public", "FILTER_IP_SPOOFING": "YES", "SECURITY_GROUPS": "100,0"}
    ]
    assert (found.left_out, found.groups) == (("NIC/FILTER_MAC_SPOOFING",), ())


def test_what_guards_all_nics_is_each_ones() -> None:
    usual = {"MODEL": "virtio", "SECURITY_GROUPS": "100", "FILTER_MAC_SPOOFING": "YES"}
    nics = [{"NETWORK": "Public"}, {"NETWORK": "Public", "SECURITY_GROUPS": "0"}]
    found = made({"NIC_DEFAULT": usual, "NIC": nics}, own=True)
    assert [each["SECURITY_GROUPS"] for each in found.template.vectors("NIC")] == ["100", "0"]
    assert {each["FILTER_MAC_SPOOFING"] for each in found.template.vectors("NIC")} == {"YES"}
    assert found.template.vector("NIC_DEFAULT") == {"MODEL": "virtio"} and found.left_out == ()


def test_a_security_group_is_never_left_out() -> None:
    template = {"NIC": {"NETWORK": "Public", "SECURITY_GROUPS": "100,7,x,0"}}
    # Ids of another catalog mean nothing here, but that of the group that each has.
    assert made(template).groups == ("100", "7", "x")
    assert made(template, own=True).groups == ("7", "x")
    assert made(template, own=True, believed=False).groups == ("100", "7", "x", "0")
    assert made(template, groups={"7": "gone", "x": "web"}).groups == ("100", "7")
    found = made(template, groups={"100": "web", "7": "web", "x": "web"})
    assert found.groups == () and found.template.vectors("NIC")[0]["SECURITY_GROUPS"] == "100,0"


def test_a_template_that_no_machine_has_is_refused() -> None:
    for template in ({"A-B": "1"}, {"DISK": {"A": {"B": "C"}}}, {"A": "x" * 70000}, {str(n): "" for n in range(600)}):
        with pytest.raises(InvalidValue):
            template_of(backup(template))


def test_secrets_of_what_is_left_out_are_not_asked_for() -> None:
    assert is_wanted("CONTEXT/PASSWORD") and is_wanted("GRAPHICS/PASSWD")
    assert not is_wanted("RAW/DATA") and not is_wanted("INJECT 1/CONTENT") and not is_wanted("DISK 0/LUKS_SECRET")
