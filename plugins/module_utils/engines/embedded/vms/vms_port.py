# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names the function that carries out each verb about machines, in the file that is named after the verb."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....model.plan import GivenUp
from ...ports import VmsPort
from . import actions, adopt, ended_vms, instantiate, observe, plans, record, recreate, vm_records
from . import update as updates
from .parts import Parts


class Vms(Parts, VmsPort):
    """Carries out the verbs of VmsPort, which documents them. All are called within a transaction of the store."""

    pool = vm_records.pool
    instantiate = instantiate.instantiate
    adopt = adopt.adopt
    action = actions.action
    disk_save_as = actions.disk_save_as
    disk_snapshot = actions.disk_snapshot
    devices = updates.devices
    rename = updates.rename
    update = updates.update
    recreate = recreate.recreate
    observe = observe.observe
    plans = plans.plans
    record = record.record
    forget = ended_vms.forget

    def names(self) -> dict[int, str]:
        return self.rows.names()

    def history(self, vm_id: int) -> list[Mapping[str, Any]]:
        return self.rows.history(vm_id)

    def given_up(self) -> list[GivenUp]:
        return list(self.given_ups.seen)

    def gone_for_good(self, name: str) -> list[str]:
        """Free what is held for machines of a forgotten host. Return the addresses."""
        return self.given_ups.gone(name)

    def fetched(self) -> set[str]:
        """Return the SHA-256 of the files from URLs that machines have."""
        return self.assembler.fetched()
