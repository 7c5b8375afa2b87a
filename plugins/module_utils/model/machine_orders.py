# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes what a machine still owes: the orders that were decided about it and that its node has not carried out, how
the catalog keeps them, and which orders follow what event (docs/architecture.md draws that)."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Collection
from typing import Any, Optional

from ..dataclass import dataclass, replace
from ..errors import CatalogError, InvalidValue
from . import defaults
from .dataclass_json import from_plain, json_value, to_plain
from .plan import ADOPT, CREATE, DELETE, REVERT, SAVE_AS, SYSTEM, DiskTask
from .states import LcmState, VmState

REBOOT, RESET, RECREATE = "reboot", "reset", "recreate"
OPERATIONS = ("", REBOOT, RESET, RECREATE, ADOPT)
_TASKS = (SAVE_AS, CREATE, REVERT, DELETE, *SYSTEM)

# The column vms.orders of a machine that owes nothing. The table gives a new machine this text (DEFAULT), and views ask
# for it before they read. No SQL looks into the text of any other orders.
EMPTY = "{}"


@dataclass(frozen=True)
class HeldResources:
    """Holds what machines of a host have and are to have no more: MiB, with what their hypervisor takes, and CPU."""

    memory: int = 0
    cpu: float = 0.0


NOTHING = HeldResources()


@dataclass(frozen=True)
class LastingOrders:
    """Holds what stays in a machine's orders until its node has done it, whatever is decided and recorded meanwhile.
    detached: ids of the disks that the machine is to have no more.
    grown: ids of the disks that are to be larger.
    refitted: the machine has to be off, or changed while it runs, to have the disks and NICs that it is to have.
    loses: it has disks or NICs that it is to have no more.
    agreed: its user has agreed that it loses them while it runs."""

    detached: tuple[int, ...] = ()
    grown: tuple[int, ...] = ()
    refitted: bool = False
    loses: bool = False
    agreed: bool = False


DONE = LastingOrders()


@dataclass(frozen=True)
class Orders:
    """Holds the orders of one machine.
    operation: one of OPERATIONS.
    hard: the guest is not asked before it is ended.
    shutdown_timeout: seconds that the guest has to obey.
    previous: the state that the catalog showed before the decision.
    found: the state in which the machine was when it was last recorded; empty where nothing is under way.
    decided: the generation of the decision that the operation came with; 0 for the newest decision.
    detached, grown, refitted, loses, agreed: see LastingOrders.
    detached_nics: ids of NICs that a former release wrote beside detached disks; the next decision frees their leases.
    gives: what the machine holds of its host, and will not hold once this is done."""

    operation: str = ""
    hard: bool = False
    shutdown_timeout: int = defaults.SHUTDOWN_SECONDS
    previous: str = ""
    found: str = ""
    decided: int = 0
    tasks: tuple[DiskTask, ...] = ()
    detached: tuple[int, ...] = ()
    detached_nics: tuple[int, ...] = ()
    grown: tuple[int, ...] = ()
    refitted: bool = False
    gives: HeldResources = NOTHING
    loses: bool = False
    agreed: bool = False

    @property
    def lasting(self) -> LastingOrders:
        return LastingOrders(self.detached, self.grown, self.refitted, self.loses, self.agreed)

    @property
    def recreates(self) -> bool:
        """Return whether the machine is still to be made anew."""
        return self.operation == RECREATE

    def awaits(self, settled: bool) -> bool:
        """Return whether the machine may have other disks or NICs than it is to have, and no decided start changes
        it."""
        return self.lasting != DONE and (settled or self.found == "RUNNING")


NONE = Orders()


@dataclass(frozen=True)
class Decision:
    """Describes what is decided about a machine.
    wanted: the state that it is to reach.
    previous, found: the states that Orders keeps.
    operation, hard, shutdown_timeout: as in Orders.
    task: one more thing to be done with a disk.
    lasting: what is to be done about disks and NICs, None for what was decided before.
    gives: what the machine is to hold no more, besides what was decided."""

    wanted: str
    previous: str
    found: str
    operation: str = ""
    hard: bool = False
    shutdown_timeout: int = defaults.SHUTDOWN_SECONDS
    task: Optional[DiskTask] = None
    lasting: Optional[LastingOrders] = None
    gives: HeldResources = NOTHING


# -- which orders follow what event ------------------------------------------------------------------------------------


def after_decision(before: Orders, generation: int, decision: Decision) -> Orders:
    """Return the orders once `decision` is taken. What of `before` is lost by it is told by lost_tasks().
    before: the orders in force (`of`).
    generation: the machine's generation before the decision raises it."""
    ends = decision.wanted == "DONE"
    # A recreation with a task is one that was decided before: it keeps its number, and its other tasks.
    anew = decision.operation == RECREATE and decision.task is None
    operation, hard, decided = decision.operation, decision.hard, 0
    if before.recreates and not anew:
        # A machine that is still to be made anew stays so, whatever else is decided about it. The recreation is kept
        # even if the machine is to end, as it lives on where its node fails to end it.
        operation, decided = RECREATE, before.decided or generation
        hard = decision.hard if ends else True
    lasting = before.lasting if decision.lasting is None else decision.lasting
    # What is about the whole machine goes with none of its disks.
    stay = (each for each in before.tasks if each.kind in SYSTEM or each.disk_id not in lasting.detached)
    tasks = () if ends or anew else tuple(stay)
    if anew:
        # A new machine has nothing that it is to lose. One that is to end keeps this: where it lives on, it has it.
        lasting = DONE
    return Orders(
        operation,
        hard,
        decision.shutdown_timeout,
        decision.previous,
        decision.found,
        decided,
        tasks if decision.task is None else (*tasks, decision.task),
        lasting.detached,
        (),
        lasting.grown,
        lasting.refitted,
        HeldResources(before.gives.memory + decision.gives.memory, before.gives.cpu + decision.gives.cpu),
        lasting.loses,
        lasting.agreed,
    )


def lost_tasks(before: Orders, after: Orders) -> tuple[DiskTask, ...]:
    """Return the tasks that a decision has dropped, because their machine or their disk goes."""
    return tuple(task for task in before.tasks if task not in after.tasks)


def is_done(before: Orders, failed: bool, fitted: bool | None) -> bool:
    """Return whether the machine has the disks and NICs that it is to have, after its node has reported. fitted: as in
    VmOutcome. After a recreation that failed, the domain may be the old one, with all that it had."""
    if failed and before.recreates:
        return False
    return not failed if fitted is None else fitted


def after_outcome(
    before: Orders, generation: int, failed: bool, done: bool, lasting: LastingOrders | None = None
) -> Orders:
    """Return the orders of a machine whose node has reported. A recreation that failed is still to be carried out.
    done: as is_done() has it.
    lasting: what is left of them where the machine keeps what it was to lose; None where it does not."""
    lasting = DONE if done else lasting or before.lasting
    left = replace(NONE, **_fields(lasting))
    if failed and before.recreates:
        left = replace(left, operation=RECREATE, hard=True, decided=before.decided or generation)
    return left


def after_restore(before: Orders) -> Orders:
    """Return the orders of a machine whose catalog was restored from a copy. Nobody knows whether a recreation was
    carried out since; if not, the machine has what it was to lose until it is off."""
    lasting = before.lasting
    return replace(NONE, **{**_fields(lasting), "refitted": lasting.refitted or before.recreates})


def _fields(lasting: LastingOrders) -> dict[str, Any]:
    return {field.name: getattr(lasting, field.name) for field in dataclasses.fields(lasting)}


def after_adoption(found: str, compared: bool) -> Orders:
    """Return the orders of a machine that the catalog has just taken over in the state `found`: to be compared with
    what is there, unless it was compared."""
    return NONE if compared else Orders(operation=ADOPT, found=found)


def with_devices(
    before: LastingOrders,
    gone: Collection[int],
    grown: Collection[int],
    refitted: bool,
    loses: bool = False,
    agreed: bool = False,
) -> LastingOrders:
    """Return the same once other devices are decided, too.
    gone, grown: ids of disks.
    refitted: the devices are not all that the machine had.
    loses, agreed: see LastingOrders."""
    return LastingOrders(
        tuple(sorted({*before.detached, *gone})),
        # A disk that goes need not grow.
        tuple(sorted({*before.grown, *grown} - {*gone})),
        refitted or before.refitted,
        loses or before.loses or bool(gone),
        agreed or before.agreed,
    )


# -- as the catalog keeps them -----------------------------------------------------------------------------------------


def write(orders: Orders) -> str:
    """Return the orders as the catalog keeps them: canonical JSON without defaults, so that no orders are EMPTY."""
    plain = {
        field.name: to_plain(value)
        for field in dataclasses.fields(Orders)
        if (value := getattr(orders, field.name)) != field.default
    }
    if "detached_nics" in plain:
        plain["detached"] = {"disks": plain.get("detached", []), "nics": plain.pop("detached_nics")}
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def orders_in_force(text: str, settled: bool) -> Orders:
    """Return the orders in force of a machine, by the columns orders and settled of its row. Of a settled machine these
    are what lasts, and a recreation that failed. Raise CatalogError for a text that no release wrote."""
    if text == EMPTY:
        return NONE
    orders = read(text)
    if not settled:
        return orders
    # A former release left in the text what its node had done.
    return replace(
        NONE,
        operation=RECREATE if orders.recreates else "",
        hard=orders.recreates,
        decided=orders.decided if orders.recreates else 0,
        detached=orders.detached,
        detached_nics=orders.detached_nics,
        grown=orders.grown,
        refitted=orders.refitted,
        loses=orders.loses,
        agreed=orders.agreed,
    )


@functools.lru_cache(maxsize=256)
def read(text: str) -> Orders:
    """Return the orders that the catalog keeps as this text; raise CatalogError for a text that no release wrote. One
    run reads the same text several times, and those of many machines are equal."""
    try:
        plain: Any = json_value(text)
        if isinstance(plain, dict) and isinstance(plain.get("detached"), dict):
            plain.update(_from_former_detached(plain.pop("detached")))
        orders = from_plain(Orders, plain)
        _check(orders)
    except InvalidValue as error:
        raise _unreadable(f"{error.asked}: {error.found}") from error
    except ValueError as error:
        raise _unreadable(str(error)) from error
    return orders


def _from_former_detached(detached: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of Orders for `detached` as it was kept before disks and NICs of machines that are off came and
    went."""
    unknown = sorted(str(key)[:80] for key in detached if key not in ("disks", "nics"))
    if unknown:
        raise ValueError(f"detached: {unknown[0]!r} is not known")
    return {"detached": detached.get("disks", []), "detached_nics": detached.get("nics", [])}


def _check(orders: Orders) -> None:
    """Raise ValueError for values of the right types that no release wrote."""
    if orders.operation not in OPERATIONS:
        raise ValueError(f"operation {orders.operation[:80]!r} is not known")
    for name in ("previous", "found"):
        state = getattr(orders, name)
        # A state that a newer OpenNebula brought is kept as its number.
        if state and state not in VmState.__members__ and state not in LcmState.__members__ and not state.isdigit():
            raise ValueError(f"{name}: state {state[:80]!r} is not known")
    for task in orders.tasks:
        if task.kind not in _TASKS:
            raise ValueError(f"tasks: {task.kind[:80]!r} is not known")
    numbers = (orders.shutdown_timeout, orders.decided, orders.gives.memory, orders.gives.cpu)
    ids = (*orders.detached, *orders.detached_nics, *orders.grown, *(task.disk_id for task in orders.tasks))
    if min((*numbers, *ids)) < 0:
        raise ValueError("it holds a number below 0")


def _unreadable(found: str) -> CatalogError:
    return CatalogError(
        "the catalog's orders of a machine",
        f"orders of a machine that this version of the collection does not know ({found})",
        "Use the newer nebula.provision that wrote them, or restore the catalog from a backup",
    )
