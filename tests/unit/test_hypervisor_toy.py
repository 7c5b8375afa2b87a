# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hypervisor of the test's own, which nothing of the collection has heard of, goes through the whole flow: what it
declares is one object, what acts is one driver, and each is named once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from memory_hypervisor import MemoryDriver

from ansible_collections.nebula.provision.plugins.module_utils.context.context_downloads import download_context_file
from ansible_collections.nebula.provision.plugins.module_utils.engines.registry import open_engine
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import console_access, registry
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.batch import Batch
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.forecast import predict
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.poll import poll
from ansible_collections.nebula.provision.plugins.module_utils.model import hypervisor_rules
from ansible_collections.nebula.provision.plugins.module_utils.model.attributes import NO_EFFECT, REFUSED, OwnEffect
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.hypervisor import Hypervisor
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.validate import validate
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_results import vm_view
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.conftest import OPTIONS

TOY = Hypervisor(
    name="toy",
    console="toy attach {domain}",
    machine="plastic",
    own={"OS/TPM": OwnEffect(REFUSED, "toys have none"), "EMULATOR": OwnEffect(NO_EFFECT, "toys are not emulated")},
)


class ToyDriver(MemoryDriver):
    name = "toy"


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Hypervisor:
    """As a line in declarations.py makes it known, with the text that is written from there."""
    monkeypatch.setitem(hypervisor_rules.RULES, TOY.name, TOY)
    monkeypatch.setitem(console_access.CONSOLES, TOY.name, TOY.console)
    monkeypatch.setattr(registry, "DRIVERS", {TOY.name: ToyDriver})
    return TOY


def test_what_it_declares_of_its_own_is_refused_or_warned_of(toy: Hypervisor) -> None:
    with pytest.raises(InvalidValue, match="VM a: OS/TPM: toys have none"):
        validate(parse('MEMORY = 64 OS = [ TPM = "yes" ]'), where="VM a", hypervisors=["toy"])
    warnings = validate(parse('MEMORY = 64 EMULATOR = "/usr/bin/toy" OS = [ BOOT = "" ]'), hypervisors=["toy"])
    assert any("EMULATOR is kept" in warning and "toys are not emulated" in warning for warning in warnings)


def test_a_machine_of_it_goes_the_whole_way(toy: Hypervisor, tmp_path: Path) -> None:
    root, place = tmp_path / "node", tmp_path / "front-end"
    root.mkdir()
    place.mkdir()
    node_file.update(str(root), lambda before: before)
    driver = registry.open_driver("toy")
    engine = open_engine(OPTIONS["embedded"](place), check_mode=False, create=True)
    try:
        with engine.session():
            engine.hosts.allocate(Host(None, "node1", "toy", HostState.MONITORED, memory=4096, cpu=8.0))
            engine.templates.allocate("web", parse("CPU = 1 MEMORY = 64"))

        def decided(**item: Any) -> Any:
            def work() -> Any:
                engine.vms.observe([poll(driver, str(root), "node1")])
                outcomes, _warnings = reconcile(engine, [{"name": "web", "template": "web", **item}])
                return outcomes, engine.vms.plans()

            return engine.decide(work, download_context_file)

        for wanted in ("running", "poweroff"):
            (outcome,), plans = decided(state=wanted)
            assert outcome.error is None
            plan = plans["node1"]
            assert [planned.vm.hypervisor for planned in plan.vms] == ["toy"]
            assert [planned.vm.os.machine for planned in plan.vms] == ["plastic"]
            (foretold,) = predict(plan, poll(driver, str(root), "node1"), driver, str(root))
            (done,) = Batch(plan, driver, str(root)).apply()
            assert (done.state, done.changed, done.error) == (foretold.state, foretold.changed, None)
            with engine.session():
                engine.vms.record("node1", [done])
        (record,) = engine.vms.pool(names=["web"])
        assert (record.state, vm_view(record, str(root))["access"]) == ("POWEROFF", "toy attach one-0")
        (outcome,), plans = decided(state="absent")
        assert [each.state for each in Batch(plans["node1"], driver, str(root)).apply()] == ["DONE"]
    finally:
        engine.close()
