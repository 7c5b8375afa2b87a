# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine that a catalog decides about and a real node makes: what becomes of a change of it is what docs/changes.md
says."""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree as ET

from changes_of_machines import BASE, NONE, OPERATIONS, REFUSED, Operation, Site

from ansible_collections.nebula.provision.plugins.module_utils.model.network import Network
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.waiting_changes import AT_ONCE, NEXT_START
from ansible_collections.nebula.provision.tests.integration.kvm_node import Node
from ansible_collections.nebula.provision.tests.integration.node_namespaces import Namespace, network


class Tried:
    """item: what every machine has besides. sees: what the hypervisor says of the machine as it runs."""

    def __init__(self, node: Node, site: Site, item: Mapping[str, Any], sees: Callable[[], str]) -> None:
        self.node, self.site, self.item, self.sees = node, site, {**BASE, **item}, sees
        node.catalog = site.engine.catalog()

    def bring(self, **keys: Any) -> VmOutcome | None:
        """What the node did for this item, None where there was nothing to do; and the catalog takes it over."""
        decided = self.site.decide({**self.item, **keys})
        assert decided.error is None, decided.error
        plan = self.site.plans.get("node1")
        if plan is None or not plan.vms:
            return None
        self.node.number = plan.number
        (outcome,) = self.node.apply(plan)
        with self.site.engine.session():
            self.site.engine.vms.record("node1", [outcome], plan.number)
        assert outcome.error is None, outcome.error
        return outcome

    def change_at_rest(self, operation: Operation, state: str) -> None:
        """Bring a machine that is off, or saved, from what the operation has before to what it has after, and let it
        run: then nothing waits."""
        self.bring(state=state.lower(), hard=True, **operation.before)
        word, after = self._word(operation, state), {"state": state.lower(), **operation.after}
        if word in (REFUSED, NONE):
            decided = self.site.decide({**self.item, **after})
            assert decided.error is not None or decided.differs
            after = {"state": state.lower(), **operation.before}
        outcome = self.bring(**after)
        assert outcome is None or (outcome.state, outcome.waits) == (state, False), outcome
        again = self.bring(**after)
        assert again is None or not again.changed
        started = self.bring(**{**after, "state": "running"})
        assert started is not None and started.changed and not started.waits
        assert not self.site.engine.vms.pool()[0].waits

    def _word(self, operation: Operation, state: str) -> str:
        with tempfile.TemporaryDirectory() as place:
            said = Site(place, self.site.hypervisor)
            try:
                return said.becomes(operation, state)
            finally:
                said.engine.close()

    def change(self, operation: Operation, seen: bool) -> None:
        """Bring the machine from what the operation has before to what it has after. seen: the hypervisor shows it."""
        word = self._word(operation, "RUNNING")
        has, after = self.sees(), {"state": "running", **operation.after}
        if word in (REFUSED, NONE):
            decided = self.site.decide({**self.item, **after})
            assert decided.error is not None or decided.differs
            return
        outcome = self.bring(**after)
        if word == AT_ONCE:
            assert outcome is not None and outcome.changed and not outcome.waits and outcome.fitted is not False
        differs = list(difflib.unified_diff(has.splitlines(), self.sees().splitlines(), n=0))
        assert bool(differs) if word == AT_ONCE and seen else word == AT_ONCE or not differs, differs
        (machine,) = self.site.engine.vms.pool()
        assert bool(machine.waits) is (word == NEXT_START)
        again = self.bring(**after)
        assert again is None or not again.changed
        if word == NEXT_START:
            assert outcome is not None and outcome.waits, outcome
            outcome = self.bring(**{**after, "state": "rebooted", "hard": True})
            assert outcome is not None and outcome.changed and not outcome.waits
            assert not seen or self.sees() != has
            assert not self.site.engine.vms.pool()[0].waits


@contextmanager
def a_site(node: Node, switch: Namespace, hypervisor: str, files: Mapping[str, str], size: int) -> Iterator[Site]:
    """A catalog whose networks are on this node. files: of its images. size: MB of the one that machines boot from."""
    site = Site(tempfile.mkdtemp(dir=os.environ["NEBULA_WORLD"]), hypervisor, files)
    with site.engine.session():
        site.engine.images.update(site.engine.images.info("os").id, size=size)
    networks = [_on_node(site.engine.networks.info(name)) for name in ("net", "filtered")]
    switch.ok(*networks, catalog=site.engine.catalog())
    try:
        yield site
        switch.ok(state="absent", catalog=site.engine.catalog())
    finally:
        site.engine.close()


def _on_node(net: Network) -> dict[str, Any]:
    """A network of the catalog as its nodes are told of it."""
    values = {"vn_mad": net.vn_mad, "uuid": net.uuid, "attributes": dict(net.attributes)}
    return network(net.name, net.id, net.bridge, **values)


def text_of(domain: ET.Element) -> str:
    """A running definition without the marks that are ours, a line for each element."""
    for each in domain.findall("metadata"):
        domain.remove(each)
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode")


def named(what: str) -> Operation:
    return next(each for each in OPERATIONS if each.what == what)
