# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad entries among good ones, in the variables of site.yml: each is refused by its name, nothing is kept of it, the
others are done, and the next run with it corrected needs nobody's hand."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
from auditor import findings, refuse
from in_world import in_bare_world

from ansible_collections.nebula.provision.tests.integration.site_runs import (
    BOOT_FAILURE,
    HALTS,
    NETWORK,
    NUMBER,
    RUNNING,
    UNTOLD,
    Case,
    changed_tasks,
    program,
)


def networks(case: Case) -> None:
    bad = [
        {"name": "slip", "bridg": "x"},
        {"name": "edge", "bridge": "nbr1", "network_address": "10.67.0.0/24", "gateway": "10.67.0.255"},
        {"name": "route", "bridge": "nbr2", "network_address": "10.66.0.0/16", "gateway": "10.66.1.1", "nat": True},
        {"name": "kernel", "bridge": "lo"},
        {"name": "much", "guest_mtu": "big"},
        "no dict",
        {"name": 7},
    ]
    # Somebody's, and of no machine that needs none of these networks.
    subprocess.run(["ip", "link", "add", "nbrtaken", "type", "bridge"], check=True)
    taken = {"name": "taken", "bridge": "nbrtaken", "address_ranges": [{"type": "IP4", "ip": "10.68.0.10", "size": 4}]}
    machine = {"template": "web", "hard": True}
    lists = {
        "nebula_networks": [NETWORK, *bad, taken],
        "nebula_vms": [
            {**machine, "name": "well", "nics": [{"NETWORK": "Public"}]},
            {**machine, "name": "cut", "nics": [{"NETWORK": "taken"}]},
        ],
    }
    told = (
        "network slip: key 'bridg': no such key. Did you mean 'bridge'?",
        "network edge: GATEWAY = 10.67.0.255",
        "network route: 10.66.0.0/16",
        "network kernel: BRIDGE = 'lo'",
        "network much: guest_mtu 'big': it is not a whole number",
        "networks[6]: it is a str",
        "network 7: the name is a int",
        "network taken: bridge nbrtaken: there is a bridge interface of that name",
        "network taken: no node of this run can have it as the list says: it is not kept in the catalog",
        "VM cut, NIC 0: network 'taken'",
    )
    case.refused(*told, arguments=("--check",), **lists)
    case.refused(*told, **lists)
    assert case.machines() == {"well": RUNNING}
    links = {link["ifname"] for link in json.loads(subprocess.check_output(["ip", "-json", "link"]))}
    assert "nbr0" in links and not links & {"nbr1", "nbr2"}, "the good one's bridge is made, those of the others not"
    assert case.rows("SELECT name FROM networks") == [("Public",)]
    subprocess.run(["ip", "link", "delete", "nbrtaken"], check=True)
    case.done(nebula_networks=[NETWORK, taken], nebula_vms=[{**machine, "name": "well", "state": "absent"}])
    assert case.rows("SELECT name FROM networks") == [("Public",), ("taken",)]


def images(case: Case) -> None:
    halt = case.variables["nebula_images"][0]
    bad = [
        {"name": "lost", "path": "/nowhere/x.raw"},
        {"name": "other", "path": halt["path"], "checksum": "sha256:" + "0" * 64},
        {"name": "ftp", "path": "ftp://127.0.0.1/x.raw"},
        {"name": "much", "path": halt["path"], "clone_of": "x"},
        {"name": "word", "path": halt["path"], "attributes": {"A B": "x"}},
        None,
    ]
    told = (
        "image lost: path /nowhere/x.raw: it is not on the control node",
        "image ftp: path ftp://127.0.0.1/x.raw: only http and https",
        "image much: path and clone_of",
        "image word: attribute name 'A B'",
        "images[6]: it is a NoneType",
    )
    case.refused(*told, arguments=("--check",), nebula_images=[halt, *bad])
    assert case.rows("SELECT name FROM images") == [("halt",)]
    case.refused(*told, "image other: checksum sha256:00000", nebula_images=[halt, *bad])
    assert case.rows("SELECT name, state FROM images ORDER BY id") == [("halt", 1), ("other", 5)]
    others = ("uploads", ".nebula-catalog")
    files = [path for path in (case.root / "datastores/1").iterdir() if path.name not in others]
    assert len(files) == 1, files


def templates(case: Case) -> None:
    web = {"name": "web", "template": HALTS}
    bad = [
        {"name": "pair", "template": HALTS.replace("DEV_PREFIX", "CACHE = writeback, IO = native, DEV_PREFIX")},
        {"name": "raw", "template": HALTS + 'RAW = [ TYPE = kvm, DATA = "<devices>" ]'},
        {"name": "pin", "template": {"MEMORY": 32, "DISK": {"IMAGE": "halt"}, "CONTEXT": {"PIN": NUMBER}}},
        {"name": "file", "template_file": "/"},
        {"name": "slip", "tmplate": HALTS},
    ]
    case.refused(
        "template pair: DISK 0: IO = native, CACHE = writeback",
        "template raw: RAW of type kvm",
        "template pin: CONTEXT/PIN",
        "template file: template_file /: it is not a regular file",
        "template slip: key 'tmplate'",
        nebula_templates=[web, *bad],
    )
    assert case.rows("SELECT name FROM templates") == [("web",)]


def a_machine_beside_bad_images_and_templates(case: Case) -> None:
    """It needs none of them, and is there when they are told."""
    halt, web = case.variables["nebula_images"][0], {"name": "web", "template": HALTS}
    case.refused(
        "image lost: path /nowhere/x.raw",
        "template slip: key 'tmplate'",
        "VM none, DISK 0: image 'lost'",
        nebula_images=[halt, {"name": "lost", "path": "/nowhere/x.raw"}],
        nebula_templates=[web, {"name": "slip", "tmplate": HALTS}],
        nebula_vms=[
            {"name": "well", "template": "web", "hard": True},
            {"name": "none", "template": "web", "disks": [{"IMAGE": "lost"}]},
        ],
    )
    assert case.machines() == {"well": RUNNING}
    case.done(nebula_vms=[{"name": "well", "state": "absent", "hard": True}])


def machines(case: Case) -> None:
    good = {"name": "web-%i", "count": 2, "template": "web", "hard": True}
    wrong = {"name": "cpu", "template": "web", "attributes": {"CPU_MODEL": {"MODEL": "nosuchcpu"}}}
    bad = [
        {"name": "slip", "template": "web", "stat": "running"},
        {"name": "state", "template": "web", "state": "runing"},
        {"name": "size", "template": "web", "memory": "lots"},
        {"name": "list", "template": ["web"]},
        {"name": "pin", "template": "web", "context": {"PIN": NUMBER}},
        {"name": "many-%i", "count": 50, "template": "web", "cpu": 0.001},
        {"name": "diskless", "template": "web", "disks": [{"TYPE": "swap", "SIZE": 1}]},
        {"name": "../up", "template": "web"},
        "no dict",
    ]
    told = (
        "VM slip: key 'stat': no such key. Did you mean 'state'?",
        "VM state: state 'runing': there is no such state. Did you mean 'running'?",
        "VM size: MEMORY = 'lots': it is not a whole number",
        "VM list: template: it is a list",
        "VM pin: CONTEXT/PIN",
        "50 wanted",
        "VM diskless: it has nothing to boot from",
        "VM '../up': the name holds a /",
        "vms[10]: it is a str",
    )
    case.refused(*told, arguments=("--check",), nebula_vms=[good, wrong, *bad])
    assert case.machines() == {}
    case.refused(*told, "VM cpu (id 4)", "CPU model nosuchcpu. Check CPU_MODEL", nebula_vms=[good, wrong, *bad])
    assert case.machines() == {"web-0": RUNNING, "web-1": RUNNING, "cpu": BOOT_FAILURE}
    corrected = {"name": "cpu", "template": "web", "nics": [], "hard": True}
    case.done(nebula_vms=[good, corrected])
    assert case.machines() == {"web-0": RUNNING, "web-1": RUNNING, "cpu": RUNNING}
    assert changed_tasks(case.done(nebula_vms=[good, corrected])) == []


def a_node_that_is_lost(case: Case) -> None:
    """One that fails before the machines' turn is told, and the others go on."""
    inventory = case.inventory(
        nebula_vms=[{"name": "late", "template": "web"}, {"name": "far", "host": "node2", "template": "web"}]
    )
    hosts = json.loads(inventory.read_text())
    unreachable = {**case.variables, "ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    hosts["nebula_nodes"]["hosts"]["node2"] = unreachable
    inventory.write_text(json.dumps(hosts))
    code, output = case.execute([program("ansible-playbook"), "-i", str(inventory), "site.yml"])
    assert code != 0 and "VM far: host" in output and "node2" in output, output
    for text in UNTOLD:
        assert text not in output, f"{text} in\n{output}"
    assert case.machines()["late"] == RUNNING


def teardown_of_a_part(case: Case) -> None:
    """Refused while machines are on a host that is not part of the run, and before anything is done."""
    inventory = case.inventory()
    hosts = json.loads(inventory.read_text())
    hosts["nebula_nodes"]["hosts"] = {"node9": dict(case.variables)}
    inventory.write_text(json.dumps(hosts))
    before = case.machines()
    code, output = case.execute([program("ansible-playbook"), "-i", str(inventory), "playbooks/teardown.yml"])
    assert code != 0, output
    told = " ".join(output.split())
    assert re.search(r"Teardown: \d+ machines \([^)]*late[^)]*\) are on node1, which is not part of this run", told), (
        output
    )
    assert "Nothing was changed" in told
    assert case.machines() == before
    # What is bad was never made, and stays to be said.
    refuse(findings(case), allowed=("bridge-missing", "rules-missing", "image-failed"))


@pytest.mark.timeout(1200)
@in_bare_world
def test_bad_entries_among_good_ones() -> None:
    case = Case()
    # Nothing of a service manager here, and nobody has started the daemons.
    case.refused("libvirtd", "nebula_manage_services", nebula_manage_services=False)
    networks(case)
    images(case)
    templates(case)
    a_machine_beside_bad_images_and_templates(case)
    machines(case)
    a_node_that_is_lost(case)
    teardown_of_a_part(case)
    code, output = case.run("playbooks/teardown.yml")
    assert code == 0 and not case.root.exists(), output
