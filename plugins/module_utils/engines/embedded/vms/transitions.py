# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records machines that their nodes found in another state than the catalog has."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ..store import compact
from .parts import Parts
from .vm_rows import numbers_of


def write_states(parts: Parts, moved: Sequence[tuple[int, str, str]], action: str) -> None:
    """Write states that machines are in. moved: id, state and reason of each. action: the word in their histories."""
    for vm_id, name, reason in moved:
        state, lcm = numbers_of(name)
        parts.store.db.execute(
            "UPDATE vms SET state = ?, lcm_state = ?, error = ? WHERE id = ?", (state, lcm, reason, vm_id)
        )
        if name == "POWEROFF":
            drop_former(parts, vm_id)
            parts.port_rows.drop_held(vm_id)
    hosts = parts.rows.host_names([vm_id for vm_id, _n, _r in moved])
    parts.rows.remember([(v, hosts.get(v, ""), name, action, reason) for v, name, reason in moved], parts.now())


def drop_former(parts: Parts, vm_id: int) -> None:
    """Forget the name that the guest had before a change of its context, and which aliases it was not started with:
    it was started with the new ones, or is off."""
    row = parts.store.row(
        'SELECT body FROM vms WHERE id = ? AND (body NOT LIKE \'%"former":""%\' OR body LIKE \'%"late":true%\')', vm_id
    )
    body = json.loads(row["body"]) if row is not None else {}
    late = [alias for alias in body.get("aliases", ()) if alias.get("late")]
    if body.get("former") or late:
        body["former"] = ""
        for alias in late:
            alias["late"] = False
        parts.store.db.execute("UPDATE vms SET body = ? WHERE id = ?", (compact(body), vm_id))
