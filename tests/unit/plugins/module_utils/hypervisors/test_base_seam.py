# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A driver needs to be one file: what stands around it asks the driver, and knows nothing of KVM."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.nebula.provision.plugins.module_utils import deps
from ansible_collections.nebula.provision.plugins.module_utils.errors import InUse, MissingDependency, Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.host import (
    command,
    hypervisor_daemons,
    kvm_probe,
    node_file,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import console_access, registry
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import (
    Deployment,
    Driver,
    Mark,
    Site,
    Survey,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.batch import Batch
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.unsupported import check_supported
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.machine_record import RECORD
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.poll import poll
from ansible_collections.nebula.provision.plugins.module_utils.model.audit import Domain
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context, ContextFile
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import ObservedVm, Plan, PlannedVm
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.nodes import node_setup

ROOT = Path(__file__).resolve().parents[5]
CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
as_root = pytest.mark.root


class Shelf(Driver):
    """A hypervisor that keeps machines and runs none; written against base.py alone. It can't suspend or reboot."""

    name = "shelf"
    capabilities = frozenset(("shutdown",))
    programs = ("sh",)
    machines: dict[int, tuple[str, str]] = {}
    sites: list[Site] = []

    @classmethod
    def choose_accelerator(cls, wanted: str, cached: Any) -> dict[str, str]:
        return {"accelerator": "wood", "reason": "it is a shelf", "key": "shelf"}

    @classmethod
    def versions(cls) -> dict[str, str]:
        return {"shelf": "1"}

    def close(self) -> None:
        pass

    def render(self, vm: Vm, site: Site) -> Deployment:
        self.sites.append(site)
        return Deployment(f"name = {vm.name}\n", vm.name)

    def survey(self, catalog: str) -> Survey:
        return Survey(tuple(ObservedVm(vm_id, uuid, state) for vm_id, (uuid, state) in self.machines.items()))

    def inventory(self) -> tuple[tuple[Domain, ...], tuple[str, ...]]:
        return tuple(Domain(str(i), CATALOG, i, uuid, state) for i, (uuid, state) in self.machines.items()), ()

    def state(self, mark: Mark) -> str | None:
        return self.machines[mark.vm_id][1] if mark.vm_id in self.machines else None

    def define(self, vm: Vm, deployment: Deployment, mark: Mark) -> None:
        self.machines.setdefault(mark.vm_id, (mark.uuid, "POWEROFF"))

    def start(self, mark: Mark) -> None:
        self.machines[mark.vm_id] = (mark.uuid, "RUNNING")

    def shutdown(self, mark: Mark, timeout: int) -> None:
        self.machines[mark.vm_id] = (mark.uuid, "POWEROFF")

    def cancel(self, mark: Mark) -> None:
        self.shutdown(mark, 0)

    def change_medium(self, vm: Vm, mark: Mark, path: str) -> None:
        pass

    def remove(self, mark: Mark) -> bool:
        return self.machines.pop(mark.vm_id, None) is not None


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[Driver]:
    """The shelf is the only hypervisor, and nobody may look for KVM. The lock of the host is one of the test's own."""
    monkeypatch.setattr(node_file, "HOST_LOCK", str(tmp_path / "lock"))
    monkeypatch.setattr(Shelf, "machines", {})
    monkeypatch.setattr(Shelf, "sites", [])
    monkeypatch.setattr(registry, "DRIVERS", {"shelf": Shelf})
    monkeypatch.setattr(node_setup, "DRIVERS", {"shelf": Shelf})
    for module, name in ((kvm_probe, "choose"), (kvm_probe, "qemu_version"), (hypervisor_daemons, "libvirt_version")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("KVM was looked for"))
    return Shelf


def machine(vm_id: int, hypervisor: str = "shelf") -> Vm:
    return Vm(vm_id, f"uuid-{vm_id}", f"web-{vm_id}", hypervisor, 1.0, 64)


def plan(number: int, *vms: PlannedVm) -> Plan:
    return Plan(CATALOG, number, "node1", vms)


def node_params(root: Path) -> dict[str, Any]:
    options = {"accelerator": "auto", "manage_services": True, "catalog": None}
    return {"root": str(root), "hypervisor": "shelf", **options}


def ready(root: Path) -> str:
    """As by nebula_node, which needs root."""
    node_file.update(str(root), lambda before: before)
    return str(root)


@as_root
def test_a_node_is_made_ready_and_given_back_by_its_driver(shelf: type[Driver], tmp_path: Path) -> None:
    root = tmp_path / "nebula"
    made = node_setup.present(node_params(root), check_mode=False)
    shown = made.payload["node"]
    assert made.changed
    assert (shown["hypervisor"], shown["accelerator"], shown["versions"]) == ("shelf", "wood", {"shelf": "1"})
    assert made.warnings == shown["started"] == []
    assert node_file.read(str(root)).accelerator["key"] == "shelf"
    assert not node_setup.present(node_params(root), check_mode=False).changed
    assert node_setup.absent(node_params(root), check_mode=False).changed
    assert not root.exists()


@as_root
def test_a_node_with_machines_of_its_driver_is_kept(shelf: type[Driver], tmp_path: Path) -> None:
    root = tmp_path / "nebula"
    node_setup.present(node_params(root), check_mode=False)
    Batch(plan(1, PlannedVm(machine(7), 1, "RUNNING")), shelf(), str(root)).apply()
    # Only the hypervisor knows of it now.
    shutil.rmtree(root / "datastores" / "0" / "7")
    with pytest.raises(InUse, match="one-7"):
        node_setup.absent(node_params(root), check_mode=False)


def test_what_a_driver_needs_is_asked_for(shelf: type[Driver], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "programs", ("sh", "no-such-program"))
    with pytest.raises(MissingDependency, match="lacks no-such-program"):
        node_setup.present(node_params(tmp_path / "nebula"), check_mode=False)
    forecast = node_setup.present(node_params(tmp_path / "nebula"), check_mode=True)
    assert forecast.changed
    assert forecast.payload["node"]["accelerator"] == ""


def test_a_plan_is_carried_out_by_any_driver(shelf: type[Driver], tmp_path: Path) -> None:
    root, driver = ready(tmp_path), shelf()
    up = plan(1, *(PlannedVm(machine(i), 1, "RUNNING") for i in (0, 1)))
    assert [(o.state, o.changed, o.error) for o in Batch(up, driver, root).apply()] == [("RUNNING", True, None)] * 2
    assert [(o.state, o.changed) for o in Batch(up, driver, root).apply()] == [("RUNNING", False)] * 2
    assert {site.accelerator for site in Shelf.sites} == {"wood"}
    observed = poll(driver, root, "node1")
    assert (observed.hypervisor, [seen.state for seen in observed.vms]) == ("shelf", ["RUNNING"] * 2)
    end = plan(2, PlannedVm(machine(0), 2, "DONE"), PlannedVm(machine(1), 2, "POWEROFF"))
    assert [(o.state, o.error) for o in Batch(end, driver, root).apply()] == [("DONE", None), ("POWEROFF", None)]
    assert set(Shelf.machines) == {1}


def test_a_machine_is_not_made_anew_without_what_its_context_needs(shelf: type[Driver], tmp_path: Path) -> None:
    root, driver = ready(tmp_path), shelf()
    Batch(plan(1, PlannedVm(machine(0), 1, "RUNNING")), driver, root).apply()
    context = Context(0, "hda", files=(ContextFile("/gone", "gone"),))
    anew = PlannedVm(replace(machine(0), context=context), 2, "RUNNING", operation="recreate", hard=True)
    (outcome,) = Batch(plan(2, anew), driver, root).apply()
    assert outcome.error is not None and "the plan does not hold it" in outcome.error["found"]
    assert (outcome.state, Shelf.machines[0][1]) == ("RUNNING", "RUNNING")


def test_what_a_hypervisor_can_not_do_is_refused_by_name_and_nothing_touched(
    shelf: type[Driver], tmp_path: Path
) -> None:
    root, driver = ready(tmp_path), shelf()
    Batch(plan(1, *(PlannedVm(machine(i), 1, "RUNNING") for i in (0, 1))), driver, root).apply()
    record = tmp_path / "datastores" / "0" / "0" / RECORD
    before = record.read_bytes()
    asked = plan(
        2,
        PlannedVm(machine(0), 2, "SUSPENDED"),
        PlannedVm(machine(1), 2, "RUNNING", operation="reboot"),
        PlannedVm(machine(2), 1, "SUSPENDED"),
        PlannedVm(machine(3, "kvm"), 1, "RUNNING"),
        PlannedVm(machine(4), 1, "RUNNING"),
    )
    outcomes = Batch(asked, driver, root).apply()
    told = [(o.state, o.changed, o.error and o.error["kind"]) for o in outcomes]
    assert told[:2] == [("RUNNING", False, "Unsupported")] * 2
    assert told[2:4] == [("PROLOG_FAILURE", False, "Unsupported")] * 2
    assert told[4] == ("RUNNING", True, None)
    assert "web-0: " in outcomes[0].error["asked"] and "shelf can't resume" in outcomes[0].error["found"]
    assert "shelf can't reboot" in outcomes[1].error["found"]
    assert "kvm" in outcomes[3].error["asked"] and "this node runs shelf" in outcomes[3].error["found"]
    assert record.read_bytes() == before
    assert sorted(os.listdir(tmp_path / "datastores" / "0")) == ["0", "1", "4"]


@pytest.mark.parametrize(
    ("wanted", "orders", "needed"),
    [
        ("RUNNING", {}, set()),
        ("RUNNING", {"operation": "reboot"}, {"reboot"}),
        ("RUNNING", {"operation": "reset"}, {"reset"}),
        ("RUNNING", {"operation": "recreate"}, set()),
        ("SUSPENDED", {}, {"suspend", "resume"}),
        ("POWEROFF", {}, {"shutdown"}),
        ("POWEROFF", {"hard": True}, set()),
        ("DONE", {}, {"shutdown"}),
        ("DONE", {"hard": True}, set()),
    ],
)
def test_what_a_plan_needs(
    wanted: str, orders: dict[str, Any], needed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = PlannedVm(machine(1), 1, wanted, **orders)
    monkeypatch.setattr(Shelf, "capabilities", frozenset(needed))
    check_supported(planned, Shelf())
    for operation in needed:
        monkeypatch.setattr(Shelf, "capabilities", Driver.OPTIONAL - {operation})
        with pytest.raises(Unsupported, match=operation):
            check_supported(planned, Shelf())


@pytest.mark.parametrize("name", sorted(registry.DRIVERS))
def test_a_driver_has_what_it_says(name: str) -> None:
    driver = registry.DRIVERS[name]
    assert driver.name == name
    assert driver.capabilities <= Driver.OPTIONAL
    for operation in Driver.OPTIONAL:
        assert (getattr(driver, operation) is not getattr(Driver, operation)) == (operation in driver.capabilities)


@pytest.mark.parametrize("name", sorted(registry.DRIVERS))
def test_what_a_driver_needs_has_a_package(name: str) -> None:
    driver = registry.DRIVERS[name]
    assert {os.path.basename(name) for program in driver.programs for name in program.split("|")} <= set(
        command.PACKAGES
    )
    assert {service.program for service in driver.services} <= set(driver.programs)
    assert set(driver.libraries) <= set(deps.PACKAGES)


def test_an_operation_that_was_not_written_says_so() -> None:
    for operation, arguments in (("reboot", (1,)), ("reset", ()), ("suspend", ("x",)), ("resume", ("x",))):
        with pytest.raises(Unsupported, match=f"shelf can't {operation}"):
            getattr(Shelf(), operation)(Mark(CATALOG, 1), *arguments)


def test_every_hypervisor_is_offered_where_one_is_chosen() -> None:
    known = sorted(registry.DRIVERS)
    options = yaml.safe_load((ROOT / "roles/node/meta/argument_specs.yml").read_text(encoding="utf-8"))
    assert options["argument_specs"]["main"]["options"]["nebula_hypervisor"]["choices"] == known
    assert sorted(console_access.CONSOLES) == known
