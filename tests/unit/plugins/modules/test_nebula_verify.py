# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.host.console import guest_wait
from ansible_collections.nebula.provision.plugins.module_utils.host.console.expected_guest import KINDS
from ansible_collections.nebula.provision.plugins.modules import nebula_verify

UP = """nebula-guest: booting
nebula-guest: context=00
nebula-guest: hostname=web-0
nebula-guest: eth0 mac=02:00:0a:42:00:0a ip=10.66.0.10/24
nebula-guest: ready
"""


@pytest.fixture
def vms(tmp_path: Path) -> list[dict[str, Any]]:
    """Two machines: the first is up, the second says something else."""
    machines = []
    for number, text in enumerate((UP, "GRUB {{ x }}\n")):
        log = tmp_path / f"{number}.log"
        log.write_text(text)
        address = {"hostname": f"web-{number}", "addresses": [f"10.66.0.1{number}"]}
        machines.append({"id": number, "name": f"web-{number}", "console": str(log), **address})
    return machines


def run(vms: list[dict[str, Any]], check_mode: bool = False, **options: Any) -> Any:
    given = {"vms": json.dumps(vms), "timeout": 0, "pattern": "", "patterns": {}, "_progress_file": None}
    given |= {"by": list(KINDS), **options}
    return nebula_verify.call.run(given, check_mode)


def test_each_machine_is_judged_and_those_that_failed_are_named(vms: list[dict[str, Any]]) -> None:
    result = run(vms)
    assert not result.changed
    assert result.diff() == []
    assert result.payload["vms"][0] == {
        "vm_id": 0,
        "name": "web-0",
        "verified": True,
        "seconds": 0.0,
        "evidence": "console",
        "said": "nebula-guest: web-0, 10.66.0.10/24",
        "missing": [],
        "tried": {},
        "last_lines": [],
    }
    failed = result.payload["vms"][1]
    assert not failed["verified"]
    assert failed["tried"] == {
        "console": "missing hostname web-1 (none said); address 10.66.0.11 (none said)",
        "login": "no prompt web-1 login:",
        "agent": "none can be asked here",
        "address": "no address that could be asked for on a bridge of this node",
    }
    assert failed["last_lines"] == ["GRUB {{ x }}"]
    assert [item.name for item in result.errors] == ["web-1"]
    assert "GRUB" in str(result.errors[0].error)


def test_all_that_failed_are_named(vms: list[dict[str, Any]]) -> None:
    for vm in vms:
        vm["hostname"] = "other"
    assert [item.name for item in run(vms).errors] == ["web-0", "web-1"]


def test_check_mode_looks_once_and_never_fails(vms: list[dict[str, Any]]) -> None:
    result = run([*vms, {"id": None, "name": "new", "console": "", "addresses": []}], check_mode=True, timeout=600)
    assert result.errors == []
    assert [vm["verified"] for vm in result.payload["vms"]] == [True, False]


def test_patterns_reach_their_machines(vms: list[dict[str, Any]]) -> None:
    assert run(vms, patterns={"web-1": "^GRUB"}).errors == []
    assert [item.name for item in run(vms, pattern="^GRUB").errors] == ["web-0"]


def test_what_counts_can_be_chosen(vms: list[dict[str, Any]]) -> None:
    Path(vms[1]["console"]).write_text("web-1 login: ")
    assert [vm["evidence"] for vm in run(vms).payload["vms"]] == ["console", "login"]
    assert [item.name for item in run(vms, by=["console"]).errors] == ["web-1"]
    result = run(vms, by=["login"])
    assert [item.name for item in result.errors] == ["web-0"]
    assert result.payload["vms"][0]["missing"] == ["no prompt web-0 login:"]


def test_how_far_it_is_reaches_the_progress_file(vms: list[dict[str, Any]], tmp_path: Path) -> None:
    run(vms, _progress_file=str(tmp_path / "progress"))
    assert (tmp_path / "progress").read_text() == "1 of 2 verified, 1 failed\n"


def test_nothing_to_hear_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_wait, "POLL_INTERVAL", 600)
    assert run([], timeout=600).payload == {"vms": []}
