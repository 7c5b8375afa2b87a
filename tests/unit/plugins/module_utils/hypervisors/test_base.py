# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How machines are called, and what a driver has that says no more than it must: the node as it is, and a refusal of
all that it can't do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_hypervisor import MemoryDriver

from ansible_collections.nebula.provision.plugins.module_utils.errors import Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import (
    Adjustment,
    BackUp,
    Deployment,
    Driver,
    Mark,
    Secrets,
    Site,
    copied_domains,
    domain_name,
    id_in_name,
    label_of,
    nic_in_name,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Overhead
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm

MARK = Mark("0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10", 7)
SITE = Site("/x", MARK.catalog, 1, {})


class Least(MemoryDriver):
    """Without any of what need not be written."""

    name = "least"
    capabilities = frozenset()


for _name in (*Driver.OPTIONAL, "starts_with_host", "set_starts_with_host", "is_foreign", "checkpoint_complete"):
    setattr(Least, _name, getattr(Driver, _name))
for _name in ("overhead", "capacity"):
    setattr(Least, _name, classmethod(getattr(Driver, _name).__func__))


# -- names -------------------------------------------------------------------------------------------------------------
@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**18 - 1))
def test_a_name_says_whose_it_is(vm_id: int) -> None:
    assert id_in_name(domain_name(vm_id)) == {vm_id}


@pytest.mark.parametrize(
    "name",
    ["", "one", "one-", "one-01", "one--1", "one-1 ", " one-1", "one-1\n", "one-1.5", "One-1", "one-²", "two-1",
     "one-1-2", f"one-{10**18}"],
)  # fmt: skip
def test_other_names_are_nobodys(name: str) -> None:
    assert id_in_name(name) == set()


@settings(max_examples=50, deadline=None)
@given(st.text("one-0123456789\u00b2 \n", max_size=8))
def test_any_name_is_that_of_one_machine_at_most(name: str) -> None:
    assert all(domain_name(vm_id) == name for vm_id in id_in_name(name))


def test_a_person_calls_a_machine_by_its_number() -> None:
    assert label_of(MARK) == "virtual machine 7" and domain_name(0) == "one-0"


# -- what is not shown -------------------------------------------------------------------------------------------------
def test_a_deployment_file_is_not_shown_where_it_is_logged() -> None:
    assert "geheim" not in repr(Deployment("<graphics passwd='geheim'/>", "abc"))


# -- a driver that has no more than it must ----------------------------------------------------------------------------
OPERATIONS: dict[str, tuple[Any, ...]] = {
    "shutdown": (MARK, 1),
    "reboot": (MARK, 1),
    "reset": (MARK,),
    "suspend": (MARK, "/x"),
    "resume": (MARK, "/x"),
    "adjust": (Vm(7, "u", "web", "least", 1.0, 64), SITE, MARK, Adjustment()),
    "depart": (Vm(7, "u", "web", "least", 1.0, 64), MARK, None),
    "copy_disk": (MARK, Disk(0, "vda"), "/x", "raw", ""),
    "snapshot_disk": (MARK, Disk(0, "vda"), "tag", ""),
    "delete_disk_snapshot": (MARK, Disk(0, "vda"), "tag"),
    "ask_agent": (MARK,),
    "back_up": (MARK, (), BackUp("new", "", "nebula-", "", "/x", "/")),
}


def test_every_operation_that_not_all_have_is_shown_here() -> None:
    assert set(OPERATIONS) == Driver.OPTIONAL


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_what_was_not_written_is_refused_by_the_hypervisors_name(operation: str) -> None:
    with pytest.raises(Unsupported, match="hypervisor least can't ") as caught:
        getattr(Least(), operation)(*OPERATIONS[operation])
    assert caught.value.remedy == ""


def test_a_refusal_tells_what_was_asked_and_what_it_can() -> None:
    driver = MemoryDriver()
    driver.capabilities = frozenset(("reset", "reboot"))
    error = driver.lacks("fly", "virtual machine web: fly")
    assert str(error) == "virtual machine web: fly: hypervisor memory can't fly. It can reboot, reset"
    assert driver.lacks("fly").asked == "fly"


def test_a_driver_that_makes_no_roots_is_asked_for_none() -> None:
    driver = Least()
    assert driver.own_roots(Vm(7, "u", "web", "least", 1.0, 64), "/x") == {}
    for act in (
        lambda: driver.root_size("/x", "disk 0"),
        lambda: driver.pack_root(MARK, "/x", 1, "disk 0", 1.0),
        lambda: driver.take_root("/x", (each for each in (b"",)), "disk 0", 1.0),
    ):
        with pytest.raises(Unsupported, match="hypervisor least can't move a container"):
            act()


def test_a_driver_needs_not_know_more_of_its_node_than_it_does() -> None:
    driver = Least()
    assert driver.capacity() == (node_file.memory(), float(node_file.processors()))
    assert driver.overhead("") == Overhead() and driver.overhead("").of(4096, 4) == 0
    assert driver.site(SITE) is SITE
    assert driver.secrets("owner") is None and driver.versions() == {}
    assert not driver.give_back(node_file.Changes(False), node_file.NodeFile())
    changes = node_file.Changes(False)
    driver.prepare(changes, lambda change: pytest.fail("there is nothing to remember"))
    assert changes.after == {}


def test_what_nothing_here_tells_is_not_known() -> None:
    driver = Least()
    assert driver.starts_with_host(MARK) is None and driver.written(MARK) is None
    assert not driver.is_foreign(MARK, "/x") and not driver.checkpoint_complete("/x")
    driver.press_key(MARK)
    with pytest.raises(Unsupported, match="hypervisor least can't start with its host"):
        driver.set_starts_with_host(MARK, True)


@pytest.mark.parametrize("interface", [Driver, Secrets])
def test_an_interface_is_none_of_its_own_drivers(interface: Any) -> None:
    with pytest.raises(TypeError, match="abstract"):
        interface()


@pytest.mark.parametrize(
    ("marked", "copies"),
    [
        ([("one-1", 1), ("one-2", 2)], set()),
        ([("one-1", 1), ("web copy", 1), ("one-9", 1)], {"web copy", "one-9"}),
        # Renamed by hand: it is the machine's only one.
        ([("web", 1)], set()),
        ([("one-2", 1)], set()),
    ],
)
def test_copies_are_those_beside_a_machines_own_domain(marked, copies):
    assert copied_domains(marked) == copies


@pytest.mark.parametrize(
    ("host", "number"),
    [
        ("one-7-0", 0),
        ("one-7-12", 12),
        ("one-71-0", None),
        ("vnet0", None),
        ("", None),
        ("one-7-", None),
        ("web", None),
        ("one-7-1234567890", None),
    ],
)
def test_which_nic_of_its_machine_an_end_is_of(host: str, number: int | None) -> None:
    assert nic_in_name(host, 7) == number
