# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Chooses which of the machines that wait for their next start are started anew, a round after the other."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ...dataclass import dataclass, replace
from ...engines.base import Engine
from ...engines.ports import VmRecord
from ...errors import InvalidValue, NebulaError
from ...model.device_matching import DEVICES
from ...model.object_ids import id_of
from ...model.waiting_changes import RESTARTED, PartChange
from .vm_item import ALL, NEVER, OPERATIONS, ROLLING, Spec, Templates, spec_of
from .vm_outcome import Outcome


@dataclass(frozen=True)
class Batch:
    """Says how many machines are started anew, or move, in one round. number: of machines, or a percentage of all of
    them."""

    number: int
    is_percentage: bool = False

    def of(self, machines: int) -> int:
        """Return the number of machines; machines: how many there are in all."""
        return max(1, machines * self.number // 100) if self.is_percentage else self.number


def batch_of(text: str, option: str = "restart_batch") -> Batch:
    """Read a batch as users write it: 5, or 10%. Raise InvalidValue. option: of nebula_vm."""
    found = re.fullmatch(r"([0-9]{1,9})(%?)", text.strip())
    batch = Batch(int(found[1]), bool(found[2])) if found else None
    if batch is None or batch.number < 1 or (batch.is_percentage and batch.number > 100):
        raise InvalidValue(
            f"nebula_{option} {text!r} ({option} of nebula_vm)",
            "it is neither a number of machines from 1 up nor a percentage from 1% to 100%",
            "Give one such as 5 or 10%",
        )
    return batch


@dataclass(frozen=True)
class Restarts:
    """Says how machines that wait for their next start are started anew, as far as their items say so."""

    batch: Batch

    def rounds(
        self,
        engine: Engine,
        items: Sequence[Mapping[str, Any]],
        outcomes: Sequence[Outcome],
        hosts: Collection[str] | None,
    ) -> int:
        """Return how many rounds it takes until no machine of the list waits any more that is to be started anew.
        hosts: names of those that take part; None for all."""
        words = [
            outcome.spec.restart_word
            for outcome in outcomes
            if outcome.spec is not None
            and outcome.after is not None
            and _takes_part(outcome.after, hosts)
            and is_to_start_anew(outcome.after)
        ]
        rolling = words.count(ROLLING)
        batch = self._batch_of(_readable(engine, items)) if rolling else 1
        return max(1 if ALL in words else 0, -(-rolling // batch))

    def foretell(self, outcomes: Sequence[Outcome], hosts: Collection[str] | None, check_mode: bool) -> None:
        """Add to each machine that this run starts anew what comes with that start and was decided before. The rounds
        show it themselves, but for machines whose items say rebooted; in check mode there are none."""
        for outcome in outcomes:
            spec, record = outcome.spec, outcome.after
            if spec is None or record is None or not (_takes_part(record, hosts) and is_to_start_anew(record)):
                continue
            if spec.state == "rebooted" or (check_mode and spec.restart_word != NEVER):
                before = {each["part"] for each in (outcome.before.waits if outcome.before is not None else ())}
                shown = {each.part for each in outcome.parts}
                outcome.parts += [
                    PartChange(each["part"], each["found"], each["wanted"], RESTARTED)
                    for each in record.waits
                    # Devices that this run decides are shown already, by their images and networks.
                    if each["part"] not in shown and (each["part"] in before or each["part"].split()[0] not in DEVICES)
                ]

    def _batch_of(self, specs: Sequence[Spec]) -> int:
        return self.batch.of(sum(len(spec.names) for spec in specs))

    def begin(
        self, engine: Engine, items: Sequence[Mapping[str, Any]], hosts: Collection[str] | None
    ) -> tuple[list[Outcome], list[str]]:
        """Order the restarts of one round: of all machines with the word ALL, and of a batch of the others, in their
        order. Return the machines that are started anew, and the warnings. An item that can't be read has no part in
        it: the decision of the list has told that."""
        warnings = list[str]()
        specs = _readable(engine, items, warnings)
        names = [name for spec in specs for name in spec.names if spec.restart_word != NEVER]
        known = {record.name: record for record in engine.vms.pool(names=names)}
        left = self._batch_of(specs)
        outcomes = []
        for spec in specs:
            word = spec.restart_word
            for record in (known[name] for name in spec.names if name in known and word != NEVER):
                if not (_takes_part(record, hosts) and is_to_start_anew(record)) or (word == ROLLING and not left):
                    continue
                left -= word == ROLLING
                orders = replace(spec.orders, operation=OPERATIONS["rebooted"])
                after = engine.vms.action(id_of(record), "RUNNING", orders)
                outcome = Outcome(record.name, record, after)
                outcome.parts = [
                    PartChange(each["part"], each["found"], each["wanted"], RESTARTED) for each in record.waits
                ]
                outcomes.append(outcome)
        return outcomes, warnings


def _readable(engine: Engine, items: Sequence[Mapping[str, Any]], warnings: list[str] | None = None) -> list[Spec]:
    """Return the items that can be read. warnings: gets those about them."""
    templates, specs = Templates(engine), list[Spec]()
    for item in items:
        with contextlib.suppress(NebulaError):
            specs.append(spec_of(item, templates, [] if warnings is None else warnings))
    return specs


def _takes_part(record: VmRecord, hosts: Collection[str] | None) -> bool:
    return hosts is None or record.host in hosts


def is_to_start_anew(record: VmRecord) -> bool:
    """Return whether the machine runs, and something of it comes with its next start. One about which something went
    wrong is for its user to see first."""
    return bool(record.waits) and record.state == record.wanted == "RUNNING" and not record.error
