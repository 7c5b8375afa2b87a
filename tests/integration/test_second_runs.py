# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that looks before its roles does what the roles alone would do: whatever was changed, by people or by the host,
is found, and where nothing was, next to nothing is asked."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from auditor import assert_consistent_here
from in_world import in_bare_world

from ansible_collections.nebula.provision.plugins.module_utils.storage import datastore_mark
from ansible_collections.nebula.provision.tests.integration.site_runs import (
    NETWORK,
    ONLY_REAL,
    Case,
    changed_tasks,
    recap,
)

# No task has it. A run that skips some tags does not look.
ROLES_ALONE = ("--skip-tags", "none_of_them")
VIRSH = ("virsh", "-c", "qemu:///system")
MACHINES = [{"name": "web-%i", "count": 2, "template": "web"}]


def told(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def without_table(family: str) -> None:
    tables = [entry["table"] for entry in json.loads(told("nft", "-j", "list", "tables", family))["nftables"][1:]]
    (ours,) = [table["name"] for table in tables if table["name"].startswith("nebula_")]
    told("nft", "delete", "table", family, ours)


def without_machine() -> None:
    told(*VIRSH, "destroy", "one-0")
    told(*VIRSH, "undefine", "--nvram", "one-0")


# What happens to the host, and what is asked otherwise from then on.
DRIFTS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "a bridge has no address": (lambda: told("ip", "address", "flush", "dev", "nbr0"), {}),
    "rules are gone": (lambda: without_table("inet"), {}),
    "what machines send is not filtered any more": (lambda: without_table("bridge"), {}),
    "a machine was ended": (lambda: told(*VIRSH, "destroy", "one-1"), {}),
    "a machine is gone": (without_machine, {}),
    "the host keeps memory for itself": (lambda: None, {"nebula_reserved_memory": 64}),
    "the network has a DNS server": (lambda: None, {"nebula_networks": [{**NETWORK, "dns": ["10.66.0.1"]}]}),
    "the template has more memory": (
        lambda: None,
        {"nebula_templates": [{"name": "other", "template": {"MEMORY": 64, "CPU": 0.1, "DISK": {"IMAGE": "halt"}}}]},
    ),
    "there is one machine more": (lambda: None, {"nebula_vms": [{**MACHINES[0], "count": 3}]}),
    "a machine is to be off": (
        lambda: None,
        {"nebula_vms": [{**MACHINES[0], "count": 3, "state": "poweroff", "hard": True}]},
    ),
}


def silently_mended(site: Case) -> None:
    """What a run sets right without a word is set right by one with nothing to do, too."""
    mark = Path(datastore_mark.path(str(site.root)))
    before = mark.read_bytes()
    mark.unlink()
    assert recap(site.done())["changed"] == 0
    assert mark.read_bytes() == before


def wrong(site: Case) -> None:
    """What can't be is refused by the role that it belongs to, with its own words, and the others are done."""
    output = site.refused("nebula_verify_timeout: it is text. Give a whole number", nebula_verify_timeout="soon")
    assert "Check that the variables can be filled in" in output
    lost = [*site.variables["nebula_images"], {"name": "lost", "path": "/nowhere/x.raw"}]
    output = site.refused("image lost", "/nowhere/x.raw", nebula_images=lost)
    assert output.index("Keep the images in the catalog") < output.index("Report the errors of the front-end")
    assert site.machines().keys() == {"web-0", "web-1", "web-2"}


@pytest.mark.timeout(900)
@in_bare_world
def test_what_differs_is_found_as_by_the_roles_alone() -> None:
    site = Case()
    site.variables["nebula_vms"] = MACHINES
    assert recap(site.done())["changed"] > 0
    idle = site.done()
    assert recap(idle)["changed"] == 0
    for name, (happens, asked) in DRIFTS.items():
        happens()
        site.variables |= asked
        code, alone = site.run("site.yml", "--check", *ROLES_ALONE)
        assert code == 0 and recap(alone)["changed"] > 0, f"{name}: {alone}"
        code, checked = site.run("site.yml", "--check")
        assert code == 0, f"{name}: {checked}"
        done = site.done()
        changed = [set(changed_tasks(output)) - ONLY_REAL for output in (alone, checked, done)]
        assert changed[0] == changed[1] == changed[2], f"{name}: {changed}"
        again = site.done()
        assert recap(again)["changed"] == 0 and again.count("TASK [") == idle.count("TASK ["), f"{name}: {again}"
        assert_consistent_here(str(site.root))
    silently_mended(site)
    wrong(site)
    code, output = site.run("playbooks/teardown.yml")
    assert code == 0 and not site.root.exists(), output
