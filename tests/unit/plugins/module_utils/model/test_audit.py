# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit compares, as it travels, and the sentence that a finding is."""

from __future__ import annotations

import re

import pytest
from carried import carried, unset

from ansible_collections.nebula.provision.plugins.module_utils.model.audit import (
    Bridge,
    Domain,
    Inventory,
    Ledger,
    LedgerVm,
    SwitchBridge,
    UplinkDevice,
    VmDirectory,
    VmFile,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.audit_finding import (
    DIFFERENCE,
    KINDS,
    UNFINISHED,
    Finding,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Topology, Vm

DOMAIN = Domain(
    name="one-0",
    catalog="c",
    vm_id=0,
    uuid="u",
    state="RUNNING",
    generation=3,
    directory="/srv/0",
    persistent=False,
    autostart=True,
    port=5900,
    topology=Topology(1, 4, 1),
    macs=("02:00:0a:00:00:05",),
    disks=("/srv/0/disk.0",),
    turn="virsh autostart --disable one-0",
    undefine="virsh undefine one-0",
    forget="virsh undefine --nvram one-0",
    unmark="virsh metadata one-0 --remove",
)
FILE = VmFile("disk.0", "link", 5, "/srv/base", 64, "/srv/older", True)
DIRECTORY = VmDirectory("/srv/0", "0", "c", 0, "u", 3, (FILE, VmFile("deployment.0")), exact=True)
BRIDGE = Bridge(
    "onebr0", "c", "lan", "10.0.0.1/24", False, ("10.0.0.1/24", "10.0.0.2/24"), ("one-0-0",), {"a": "1"}, 9000
)
DEVICE = UplinkDevice("eth1.100", "c", "lan", "VLAN 100 on eth1", "onebr0", False)
SWITCH = SwitchBridge("ovsbr0", "c", ("lan",), "eth1", False, True, {"eth1": "all VLANs"}, False)
INVENTORY = Inventory(
    place="/srv",
    domains=(DOMAIN,),
    foreign=("other",),
    directories=(DIRECTORY,),
    bridges=(BRIDGE,),
    others=(BRIDGE,),
    devices=(DEVICE,),
    interfaces=("lo", "onebr0"),
    table="nebula",
    rules={"lan": 2},
    forwarding=True,
    filters={"one-3-0": "0123456789ab"},
    left=("/srv/x.tmp",),
    unseen=("the firewall: nft is not there",),
    switches=(SWITCH,),
)


@pytest.mark.parametrize(
    "value", [INVENTORY, DOMAIN, DIRECTORY, FILE, BRIDGE, DEVICE, SWITCH], ids=lambda value: type(value).__name__
)
def test_what_is_on_a_node_arrives_with_all_it_has(value: object) -> None:
    assert unset(value) == set()
    assert carried(value) == value


def test_a_directory_without_a_mark_is_of_no_machine_and_not_of_the_one_with_id_0() -> None:
    assert VmDirectory("/srv/x", "x").vm_id == -1
    assert carried(Inventory()) == Inventory()


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("node1", "host node1: machine 3: its domain is not there. Run site.yml again"),
        ("", "machine 3: its domain is not there. Run site.yml again"),
    ],
)
def test_a_finding_is_a_sentence_that_names_its_host(host: str, text: str) -> None:
    assert str(Finding("domain-missing", host, "machine 3", "its domain is not there", "Run site.yml again")) == text


def test_a_finding_is_a_difference_unless_it_is_said_to_be_unfinished() -> None:
    assert Finding("x", "", "a", "b", "c").severity == DIFFERENCE
    assert DIFFERENCE != UNFINISHED


def test_every_kind_is_a_word_and_every_meaning_a_clause_of_its_own() -> None:
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", kind) for kind in KINDS)
    assert len(set(KINDS.values())) == len(KINDS)
    assert not any(meaning.endswith(".") or meaning[0].isupper() for meaning in KINDS.values())


def test_a_machine_is_found_in_the_ledger_by_its_id_also_by_0() -> None:
    machines = tuple(
        LedgerVm(Vm(number, "", f"web-{number}", "kvm", 1.0, 64), "node1", "RUNNING", "RUNNING", True, 1)
        for number in (4, 0, 2)
    )
    ledger = Ledger(vms=machines, ended=frozenset((1,)))
    assert ledger.vm(0) is machines[1] and ledger.vm(2) is machines[2]
    # One that is DONE is no machine of the ledger any more.
    assert ledger.vm(1) is None
    assert Ledger().vm(0) is None


def test_a_sentence_has_no_line_of_ansible() -> None:
    finding = Finding("domain-left", "kvm1", "domain a\x9b", "it is\nok: [kvm1]", "Remove it")
    assert str(finding) == "host kvm1: domain a\\x9b: it is\n    ok: [kvm1]. Remove it"
