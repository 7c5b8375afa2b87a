# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A site that the release before has made, with what is refused or made otherwise by now: nothing of it is changed.
What is wrong is told with its remedy, and each machine keeps its definition and context, also where the list changes
something else of it. tests/tools/older_site.py has the site."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import older_site
import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound import bridge_mappings, route_checks
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile

WINDOWS = ("windows", "hyperv")
NAMES = {name: f"machine & <{number}>" for number, name in enumerate(older_site.TEMPLATES)}


@pytest.fixture
def engine(tmp_path) -> Iterator[EmbeddedEngine]:
    older_site.make(str(tmp_path))
    with contextlib.closing(EmbeddedEngine(str(tmp_path))) as opened:
        yield opened


def test_nothing_is_changed_and_what_is_wrong_is_told_each_time(engine):
    for _run in range(2):
        with engine.session():
            done, outcomes, planned, warnings = older_site.apply(engine)
            logical = engine.networks.logical()
        assert [str(each.error) for each in (*done, *outcomes) if each.error] == []
        assert [each.name for each in done if each.is_changed] == [] and planned == []
        assert [each.name for each in outcomes if each.before != each.after or each.changes or each.differences] == []
        told = [*warnings, *route_checks.warnings(logical), *bridge_mappings.warnings(logical, {"node1": {}}, {})]
        for text in (
            *(f"VM {NAMES[name]}: its 4 processors are 4 sockets" for name in WINDOWS),
            *(f"VM {NAMES[name]}: TOPOLOGY does not act on it" for name in ("topology", "no topology")),
            "template no topology: TOPOLOGY = [ SOCKETS = 1, CORES = 3 ]: ",
            "template boot: OS/BOOT = hd,network has words of older templates",
            *(f"template boot: {key}/FOOBAR is not a known attribute" for key in ("NIC", "FEATURES")),
            *(f"template serials: DISK {number}: SERIAL = " for number in range(3)),
            "template host name: CONTEXT/SET_HOSTNAME = ",
            f"VM {older_site.LONG}: CONTEXT/SET_HOSTNAME = ",
            "template target: NIC 0: TARGET = vnet7: ",
            "route to 2001:db8:9::/48 by 10.66.4.20: the destination is of IPv6",
            "route to 10.9.0.0/16 by 10.66.4.1: the next hop is an address of the router itself",
            "route to 0.0.0.0/0 by 10.66.4.30: its gateway has the default route",
            "network Outside: physical_network nowhere: none of the hosts",
        ):
            assert len([each for each in told if text in each]) == 1, (text, told)
        assert not [each for each in told if "10.8.0.0/16" in each]


def test_a_host_name_that_is_too_long_is_told_once(engine):
    with engine.session():
        outcomes, warnings = reconcile(engine, [{**each, "memory": 80, "state": "poweroff"} for each in older_site.VMS])
    assert [str(outcome.error) for outcome in outcomes if outcome.error] == []
    told = [each.partition(": CONTEXT")[0] for each in warnings if "SET_HOSTNAME" in each]
    assert sorted(told) == sorted([f"VM {NAMES['host name']}", f"VM {older_site.LONG}"])


def machines(engine, **changes) -> dict[str, Vm]:
    with engine.session():
        outcomes, _warnings = reconcile(engine, [{**each, **changes} for each in older_site.VMS])
        planned = [each for plan in engine.vms.plans().values() for each in plan.vms]
    assert [str(outcome.error) for outcome in outcomes if outcome.error] == []
    assert len(planned) == len(older_site.VMS)
    return {str(each.vm.vm_id): each.vm for each in planned}


@pytest.mark.parametrize("changes", [{"state": "poweroff"}, {"cpu": 0.25, "state": "poweroff"}], ids=["off", "changed"])
def test_machines_keep_what_that_release_made_of_them(engine, tmp_path, changes):
    found = machines(engine, **changes)
    differing = {}
    for number, (definition, context) in older_site.stored()["digests"].items():
        # Xen's definitions have what the list changes.
        vm = replace(found[number], cpu=0.5)
        now = older_site.digests(vm, str(tmp_path))
        assert now[1] == context, vm.name
        if now[0] != definition:
            differing[vm.name] = older_site.definition(vm)
    # Its interface on the host gets what its network has told its guest all the time.
    assert list(differing) == [NAMES["jumbo"]] and "<mtu size='9000'" in differing[NAMES["jumbo"]].replace('"', "'")


def test_a_site_that_carries_differences_loses_nothing_by_its_first_runs(engine):
    """Whose lists have fewer NICs and less memory than the machines, which that release has told and left
    (nebula_on_difference: warn)."""

    def has() -> dict[str, tuple[list[int], list[int]]]:
        return {
            each.name: ([disk["disk_id"] for disk in each.disks], [nic["nic_id"] for nic in each.nics])
            for each in engine.vms.pool()
        }

    before = has()
    with_nics = {name for name, (_disks, nics) in before.items() if nics}
    assert len(with_nics) > 3
    for _run in range(2):
        with engine.session():
            outcomes, _warnings = reconcile(engine, [{**each, "nics": [], "memory": 16} for each in older_site.VMS])
            planned = [each for plan in engine.vms.plans().values() for each in plan.vms]
            older_site.carried_out(engine, planned)
        assert [str(outcome.error) for outcome in outcomes if outcome.error] == [] and has() == before
        assert not any(each.agreed or each.detached or each.operation for each in planned)
        left = {outcome.name for outcome in outcomes for each in outcome.differences if each.attribute == "NIC"}
        assert left == with_nics
    # The same machines get a disk while they run.
    with engine.session():
        more = [
            {
                **each,
                "disks": [
                    *engine.vms.pool(names=[each["name"]])[0].request.vectors("DISK"),
                    {"TYPE": "fs", "SIZE": "8"},
                ],
            }
            for each in older_site.VMS
            if each["host"] == "node1"
        ]
        outcomes, _warnings = reconcile(engine, more)
    assert [str(outcome.error) for outcome in outcomes if outcome.error] == []
    assert all(len(has()[name][0]) == len(before[name][0]) + 1 for name in (each["name"] for each in more))
    parts = [part for outcome in outcomes for part in outcome.parts if part.part.startswith("DISK")]
    assert len(parts) == len(more) and {part.when for part in parts} == {"at once"}


def test_new_machines_are_made_otherwise(engine, tmp_path):
    with engine.session():
        new = [
            {**each, "name": f"new {each['name']}"[:60], "context": {"SET_HOSTNAME": "new"}} for each in older_site.VMS
        ]
        _outcomes, _warnings = reconcile(engine, new[:8])
        planned = {each.vm.name: each.vm for plan in engine.vms.plans().values() for each in plan.vms}
    for name in WINDOWS:
        assert "<topology" in older_site.definition(planned[f"new {NAMES[name]}"])
    told = planned[f"new {NAMES['expressions']}"].context.variables
    assert (told["A"], told["B"], told["C"], told["SEARCH_DOMAIN"]) == ("", "", "", "a.example b.example")
    assert told["VMID"] and told["ETH0_DNS"] == "9.9.9.9 8.8.8.8"
