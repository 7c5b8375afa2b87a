# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A further address on a NIC, from the lists of a site to a real guest that answers by it, with the filters on."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest
from in_world import in_bare_world

from ansible_collections.nebula.provision.tests.integration.site_runs import NETWORK, Site, host_state, recap, torn_down

PUBLIC = {"NETWORK": "Public"}
NICS = [{**PUBLIC, "NAME": "outside"}]
OWN, ALIAS, MAC = "10.66.0.10", "10.66.0.11", "02:00:0a:42:00:0a"


def answers(address: str) -> bool:
    """Whether the guest does, asked from its node, which has forgotten where the address was."""
    subprocess.run(["ip", "neigh", "flush", "dev", NETWORK["bridge"]], check=True, capture_output=True)
    return subprocess.run(["ping", "-c1", "-W3", address], check=False, capture_output=True).returncode == 0


def neighbour(address: str) -> str:
    """The MAC address by which the node knows it."""
    argv = ["ip", "-json", "neigh", "show", address, "dev", NETWORK["bridge"]]
    (found,) = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    return str(found["lladdr"])


def guests() -> list[str]:
    return subprocess.run(["pgrep", "qemu-system"], capture_output=True, text=True).stdout.split()


def leased(site: Site) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(site.root / "nebula.db")) as catalog:
        return catalog.execute("SELECT offset, nic_id FROM leases ORDER BY offset").fetchall()


def done(site: Site) -> str:
    code, output = site.run("site.yml")
    assert code == 0, output
    return output


@pytest.mark.timeout(900)
@in_bare_world
def test_a_guest_answers_by_the_further_addresses_that_its_list_says(image: str) -> None:
    before = host_state()
    with torn_down(Site(image)) as site:
        wanted: dict[str, Any] = {"name": "web", "template": "web", "nics": NICS}
        site.variables |= {
            "nebula_accelerator": "qemu",
            "nebula_manage_packages": False,
            "nebula_vms": [{**wanted, "nic_aliases": [{**PUBLIC, "PARENT": "inside"}]}],
        }
        code, output = site.run("site.yml")
        assert code != 0 and guests() == [], output
        assert "VM web: NIC_ALIAS 0: PARENT = inside: no NIC has that name: its NICs are outside" in output

        site.variables["nebula_vms"] = [{**wanted, "nic_aliases": [{**PUBLIC, "PARENT": "outside"}]}]
        done(site)
        console = Path(site.root / "datastores/0/0/console.log").read_text(errors="replace")
        assert f"mac={MAC} ip={OWN}/24 ip={ALIAS}/24" in console
        assert leased(site) == [(0, 0), (1, 1)]
        assert answers(OWN) and answers(ALIAS) and neighbour(ALIAS) == MAC
        assert recap(done(site))["changed"] == 0
        code, output = site.run("playbooks/audit.yml")
        assert code == 0, output

        # Taken from it while it runs: the guest still has it, and its node lets nothing of it out.
        running = guests()
        site.variables["nebula_vms"] = [wanted]
        done(site)
        assert guests() == running and leased(site) == [(0, 0)]
        assert answers(OWN) and not answers(ALIAS)

        # Given to it while it runs, with one that the guest has not heard of yet.
        site.variables["nebula_vms"] = [{**wanted, "nic_aliases": [PUBLIC, PUBLIC]}]
        assert recap(done(site))["changed"] > 0
        assert guests() == running and leased(site) == [(0, 0), (1, 2), (2, 3)]
        assert answers(OWN) and answers(ALIAS) and not answers("10.66.0.12")
        assert recap(done(site))["changed"] == 0
        site.variables["nebula_vms"][0]["state"] = "rebooted"
        done(site)
        assert answers(ALIAS) and answers("10.66.0.12")
        site.variables["nebula_vms"] = [{"name": "web", "state": "absent", "hard": True}]
        done(site)
        assert leased(site) == []
    assert host_state() == before
