# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_vm_round takes, and does what role vm does by four modules on a host that is both its
front-end and its only node. Each module is called as the role calls it, with what those before it have answered."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..arguments import PROGRESS
from ..looking import OPTIONS, Asked, Look, answer_to
from ..model.answers.observed import as_option
from ..runner import Call
from ..sync import Item, Result
from . import deploy, vm, vm_record

ARGUMENTS: dict[str, Any] = {"argument_spec": {**OPTIONS, **PROGRESS}}
# In the order in which they are called.
MODULES: dict[str, Call] = {"nebula_deploy": deploy, "nebula_vm": vm, "nebula_vm_record": vm_record}


def call_of(module: str) -> Call:
    """Return the file of calls/ of a module."""
    return MODULES[module]


class Round(Look):
    """Observes, decides, acts and records. What does not come off, or has other tasks to wait for, ends the round; what
    was answered until then is returned, and the role goes on from there."""

    def run(self, asked: Sequence[Asked], params: Mapping[str, Any], check_mode: bool, diff: bool) -> Result:
        observing, deciding, acting, recording = asked
        answers: dict[str, Any] = {}
        result = Result(payload={"answers": answers, "differs": ""})

        def call(each: Asked, **given: Any) -> dict[str, Any]:
            known = Asked(each.name, each.module, each.call, {**each.params, **given})
            answer, _renews = answer_to(known, check_mode, diff)
            # What was decided is reported by a task of its own.
            if each is not deciding:
                result.warnings += answer["warnings"]
                result.items += [Item(each.name, changed=True)] if answer["changed"] else []
            return answer

        host = observing.params["host"]
        seen = call(observing)
        if "observed" not in seen:
            # Its own task says it, too.
            result.payload["differs"] = f"{observing.name}: {seen.get('msg') or 'it saw nothing'}"
            return result
        decided = call(deciding, observed=json.dumps([as_option(host, seen["observed"])]))
        answers |= {observing.name: seen, deciding.name: decided}
        plan = (decided.get("plans") or {}).get(host)
        if plan is None or decided.get("transfers"):
            result.payload["differs"] = f"{deciding.name}: nothing is to be done here, or files are to be sent before"
            return result
        done = call(acting, plan=plan, _progress_file=params["_progress_file"])
        ids = [each["id"] for each in decided.get("vms") or () if isinstance(each.get("id"), int)]
        recorded = call(recording, outcomes=json.dumps({host: done}), ids=ids)
        answers |= {acting.name: done, recording.name: recorded}
        # They hold contexts and passwords, and nobody needs them any more.
        decided["plans"] = {}
        return result


LOOK = Round(call_of)
