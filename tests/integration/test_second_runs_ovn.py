# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A site with OVN looks before its roles, too: where nothing differs next to nothing is asked, however many networks
and routers there are, and whatever differs is found and mended."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from in_world import in_nodes
from nodes import Node

from ansible_collections.nebula.provision.tests.integration.sent_site import IMAGE, hosts, root_of
from ansible_collections.nebula.provision.tests.integration.site_runs import changed_tasks
from ansible_collections.nebula.provision.tests.integration.tenants_site import EXTERNAL, Tenants, router, tenant

SIGN, START, SET_UP = "Sign their certificates on the front-end", "Start the databases", "Set each host up"
LIST, TELL = "Keep the networks in the catalog", "Tell OVN what the catalog has"
# The roles alone have some hundred.
MOST_TASKS = 25
# With the process that would start it again.
KILL = """pid=$(cat /run/ovn/$1.pid); parent=$(ps -o ppid= -p $pid)
[ $parent -le 1 ] || kill -9 $parent; kill -9 $pid; while [ -e /proc/$pid ]; do sleep 0.05; done"""


def told(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Site(Tenants):
    def __init__(self, image: str) -> None:
        super().__init__(image)
        self.third = self.nodes.pop()
        self.variables["nebula_security_groups"] = [{"name": "pings", "rules": [{"rule_type": "outbound"}]}]

    @property
    def first(self) -> Node:
        return self.by_name["node1"]

    @property
    def second(self) -> Node:
        return self.by_name["node2"]

    def many(self, networks: int, routers: int) -> None:
        """The external network, so many others, and routers between it and as many of these."""
        names = [f"net{number}" for number in range(networks)]
        self.variables["nebula_networks"] = [EXTERNAL, *(tenant(name, security_groups=["pings"]) for name in names)]
        self.variables["nebula_routers"] = [router(name) for name in names[:routers]]

    def end_certificate(self, host: str) -> None:
        """As if it were a year later for it."""
        path = self.root / "ovn/authority/issued.json"
        issued = json.loads(path.read_text())
        for entry in issued["certificates"][host].values():
            entry["until"] = entry["since"] + 1
        path.write_text(json.dumps(issued))


def rows(table: str) -> list[str]:
    """Of the northbound database, those with this catalog's mark."""
    words = ("--bare", "--columns=_uuid,external_ids", "--format=csv", "list", table)
    listed = told("ovn-nbctl", *words).splitlines()
    return sorted(line.partition(",")[0] for line in listed if "nebula-catalog" in line)


# What happens, and which tasks then change something, of the role alone.
def drifts(site: Site) -> dict[str, tuple[Callable[[], Any], dict[str, Any], list[str]]]:
    first, second = site.first, site.second
    address = f"10.78.0.{second.number}/24"
    certificate = root_of(first) / "ovn/host/southbound.pem"
    key = ("set", "Open_vSwitch", ".", "external_ids:ovn-encap-type=vxlan")
    return {
        "ovn-controller is gone": (lambda: first.run("sh", "-c", KILL, "sh", "ovn-controller"), {}, [SET_UP]),
        "a bridge has no address": (lambda: second.run("ip", "address", "del", address, "dev", "br-phy"), {}, [SET_UP]),
        "a bridge is down": (lambda: second.run("ip", "link", "set", "br-ex", "down"), {}, [SET_UP]),
        "tunnels are of another kind": (lambda: first.run("ovs-vsctl", *key), {}, [SET_UP]),
        "a node has no certificate": (certificate.unlink, {}, [SET_UP]),
        "a certificate is due": (lambda: site.end_certificate("host:node2"), {}, [SIGN, SET_UP]),
        "that of the databases is due": (lambda: site.end_certificate("central:front"), {}, [SIGN, START]),
        "northd is gone": (lambda: told("sh", "-c", KILL, "sh", "ovn-northd"), {}, [START]),
        "a switch is gone": (lambda: told("ovn-nbctl", "ls-del", rows("Logical_Switch")[0]), {}, [TELL]),
        "a rule has another priority": (
            lambda: told("ovn-nbctl", "set", "ACL", rows("ACL")[0], "priority=7"),
            {},
            [TELL],
        ),
        "the tunnels are to be of another kind": (
            lambda: None,
            {"nebula_ovn_encap_type": "vxlan"},
            [SET_UP],
        ),
    }


@in_nodes(3)
def flow(*, image: str) -> None:
    site = Site(image)
    with hosts(site):
        site.many(1, 1)
        site.done("site.yml")
        few = idle(site)
        assert idle(site, "--check") == few <= MOST_TASKS
        assert idle(site, "--limit", "node2") <= few
        # What others have beside ours is no difference.
        told("ovn-nbctl", "ls-add", "theirs")
        assert idle(site) == few
        for name, (happens, asked, expected) in drifts(site).items():
            happens()
            site.variables |= asked
            changed = changed_tasks(site.done("site.yml"))
            assert sorted(set(changed)) == sorted(expected), f"{name}: {changed}"
            assert idle(site) == few, name
        # In check mode the same is found, with nothing done.
        certificate = root_of(site.first) / "ovn/host/southbound.pem"
        certificate.unlink()
        site.many(12, 4)
        # Of networks that the catalog would have OVN is not told yet.
        assert set(changed_tasks(site.done("site.yml", "--check"))) == {SET_UP, LIST}
        assert not certificate.exists()
        assert set(changed_tasks(site.done("site.yml"))) == {SET_UP, LIST, TELL}
        assert idle(site) == few
        site.nodes.append(site.third)
        output = site.done("site.yml")
        assert "changed: [node3]" in output and set(changed_tasks(output)) >= {SIGN, SET_UP}
        assert idle(site) == few
        told("ovn-nbctl", "ls-del", "theirs")
        site.done("playbooks/teardown.yml")


def idle(site: Site, *arguments: str) -> int:
    """How many tasks a run with nothing to do has."""
    output = site.done("site.yml", *arguments)
    assert changed_tasks(output) == [] and SET_UP not in output and LIST not in output, output
    return output.count("TASK [")


@pytest.mark.timeout(1800)
def test_with_ovn_what_differs_is_found_and_what_does_not_is_not_asked(tmp_path):
    image = tmp_path / "image.raw"
    image.write_bytes(IMAGE)
    flow(image=str(image))
