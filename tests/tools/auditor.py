# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ends every scenario: nothing is lost, left over, or not what the catalog says.

    assert_consistent(site)                      # site.run("playbooks/audit.yml") → (exit status, output)
    assert_consistent_here(root)                 # within this process: the catalog below root, and this very host
    assert_consistent_here(frontend, {"node1": root, …}, driver=…)

With unfinished=True, what the next site.yml would do by itself is allowed: machines that failed, or that wait for a
host. findings() and findings_here() return what was found: kind, severity, host, object, found, remedy, sentence."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from ansible_collections.nebula.provision.plugins.module_utils.engines.registry import open_engine
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Driver
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.node_inventory import observe_all
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.registry import open_driver
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.gather import consistency
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.nodes_answers import polls_of

PLAYBOOK = "playbooks/audit.yml"


class Site(Protocol):
    def run(self, playbook: str, *arguments: str) -> tuple[int, str]: ...


def findings_here(
    root: str, nodes: Mapping[str, str] | None = None, driver: Driver | None = None, deep: bool = True
) -> list[dict[str, Any]]:
    """Without Ansible. root: nebula_root of the front-end. nodes: name → nebula_root, all of them reached by the
    driver on this host; without them the catalog's hosts, all with the same root."""
    with contextlib.ExitStack() as stack:
        if driver is None:
            driver = stack.enter_context(contextlib.closing(open_driver("kvm")))
        engine = stack.enter_context(contextlib.closing(open_engine({"root": str(root)}, check_mode=True)))
        ledger = engine.ledger()
        if nodes is None:
            nodes = {host: str(root) for host in ledger.hosts}
        # As they travel: through JSON.
        answers = [
            json.loads(json.dumps(to_plain(observe_all(driver, str(place), host, ledger.catalog))))
            for host, place in nodes.items()
        ]
        return consistency(engine, polls_of(answers), {"root": str(root), "deep": deep})


def findings(site: Site, *arguments: str) -> list[dict[str, Any]]:
    """By the playbook."""
    code, output = site.run(PLAYBOOK, "-e", "nebula_audit_deep=true", "-v", *arguments)
    answers = re.findall(r'^(?:ok|changed): \[[^\]]*\] => (\{.*"consistency".*\})$', output, re.MULTILINE)
    if not answers:
        raise AssertionError(f"the audit did not come to an end:\n{output}")
    found: list[dict[str, Any]] = json.loads(answers[-1])["consistency"]
    if (code == 0) != (not found):
        raise AssertionError(f"the audit found {len(found)}, and ended with {code}:\n{output}")
    return found


def assert_consistent(site: Site, *arguments: str, unfinished: bool = False) -> None:
    refuse(findings(site, *arguments), unfinished)


def assert_consistent_here(
    root: str, nodes: Mapping[str, str] | None = None, driver: Driver | None = None, unfinished: bool = False
) -> None:
    refuse(findings_here(root, nodes, driver), unfinished)


def refuse(found: Sequence[Mapping[str, Any]], unfinished: bool = False, allowed: Collection[str] = ()) -> None:
    """allowed: kinds that the scenario is about."""
    wrong = [
        f"[{each['kind']}] {each['sentence']}"
        for each in found
        if each["kind"] not in allowed and not (unfinished and each["severity"] == "unfinished")
    ]
    if wrong:
        raise AssertionError("the audit found:\n" + "\n".join(wrong))
