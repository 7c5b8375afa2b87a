# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""site.yml, status and teardown as a person runs them, on a bare host without systemd: real libvirtd, real guests. The
life in short; test_site_life.py has the rest of it."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import subprocess
from pathlib import Path

import pytest
from canaries import ways
from in_world import in_bare_world

from ansible_collections.nebula.provision.tests.integration.site_runs import (
    ONLY_REAL,
    SECRET,
    Site,
    changed_tasks,
    host_state,
    recap,
)


def drawn(site: Site) -> None:
    """The picture has what runs, and a later run that finds the same leaves it as it is."""
    page = site.directory / "pictures/topology.html"
    code, output = site.run("playbooks/topology.yml", nebula_topology_file=str(page))
    assert code == 0 and recap(output)["changed"] == 2 and str(page) in output, output
    text = page.read_text(encoding="utf-8")
    for shown in ("Public", "node1", "web-1", "10.66.0.11", "RUNNING", "02:00:0a:42:00:0b", "As found on"):
        assert shown in text, shown
    code, output = site.run("playbooks/topology.yml", nebula_topology_file=str(page))
    assert code == 0 and recap(output)["changed"] == 0, output
    assert page.read_text(encoding="utf-8") == text and page.stat().st_mode & 0o777 == 0o600


def mixed(site: Site) -> None:
    """Bad entries are refused by name, the good one among them is done, and its secret is not shown. What differs and
    stays as it is fails the run, too: by itself it does so at the end (test_site_life.py)."""
    vms = [
        {"name": "web-%i", "count": 2, "template": "web", "cpu": 0.2, "nics": []},
        {"name": "nosuch", "template": "wbe"},
        {"name": "greedy", "template": "web", "memory": 99999999},
        {"name": "twin", "template": "web", "nics": [{"NETWORK": "Public", "IP": "10.66.0.10"}]},
        {"name": "good", "template": "web", "context": {"PASSWORD": SECRET, "WHO": "$UNAME:$UID $USER[MAIL]"}},
    ]
    owner = {"name": "ann", "uid": 104, "attributes": {"MAIL": f"{SECRET}@example.org"}}
    code, output = site.run("site.yml", "-vvvv", "--diff", nebula_vms=vms, nebula_owner=owner)
    assert code != 0
    failure = output[output.rindex("Report the errors of the front-end and of the node") :]
    assert "VM web-1 (id 1) differs in NIC: it has [ NETWORK = Public ], the list says nothing" in failure, failure
    for text in ("VM nosuch", "'wbe'", "web", "VM greedy", "MiB left", "VM twin", "10.66.0.10", "web-0"):
        assert text in failure, f"{text} in\n{failure}"
    assert re.search(r"good +node1 +RUNNING", output), "the others of the batch go on, and the table shows it"
    assert not ways(SECRET, output)
    with contextlib.closing(sqlite3.connect(site.root / "nebula.db")) as catalog:
        ((body,),) = catalog.execute("SELECT body FROM vms WHERE name = 'good'")
    assert json.loads(body)["context"]["variables"]["WHO"] == f"ann:104 {SECRET}@example.org"


@pytest.mark.timeout(900)
@in_bare_world
def test_the_whole_flow(image: str) -> None:
    site = Site(image)
    before = host_state()

    code, checked = site.run("site.yml", "--check", "--diff")
    assert code == 0, checked
    assert not site.root.exists(), f"check mode made {sorted(site.root.rglob('*'))}"
    assert host_state() == before

    code, output = site.run("site.yml")
    assert code == 0, output
    assert set(changed_tasks(output)) - ONLY_REAL == set(changed_tasks(checked)), "check mode predicted something else"
    table = [line.split() for line in output.splitlines() if re.match(r" *\d+  web-", line)]
    assert [row[:6] for row in table] == [
        ["0", "web-0", "node1", "RUNNING", "10.66.0.10", "02:00:0a:42:00:0a"],
        ["1", "web-1", "node1", "RUNNING", "10.66.0.11", "02:00:0a:42:00:0b"],
    ]
    console = Path(table[1][6]).read_text(errors="replace")
    assert "hostname=web-1" in console and "10.66.0.11/24" in console

    # What changes although it should not is shown.
    code, output = site.run("site.yml", "--diff")
    assert code == 0 and recap(output)["changed"] == 0, output

    # Machines send with their own addresses only, also if somebody takes the rules away.
    filters = [line for line in host_state()["nft"] if 'iifname vmap { "one-0-0"' in line]
    assert filters
    for table in re.findall(r"table (bridge nebula_[0-9a-f]{8}) {", "\n".join(host_state()["nft"])):
        subprocess.run(["nft", "delete", "table", *table.split()], check=True)
    mixed(site)
    assert [line for line in host_state()["nft"] if 'iifname vmap { "one-0-0"' in line]

    code, output = site.run("playbooks/status.yml")
    assert code == 0 and recap(output)["changed"] == 0, output
    for line in ("web-1", "good", "10.66.0.11", "demo", "Public", "MONITORED"):
        assert line in output

    drawn(site)

    code, output = site.run("playbooks/teardown.yml")
    assert code == 0, output
    assert not site.root.exists(), sorted(site.root.rglob("*"))
    assert host_state() == before
