# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: backed_up
short_description: What became of machines that were to be backed up
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Puts together what M(nebula.provision.nebula_machine_backup) has chosen on the front-end, and what hosts answered.
  - What a machine is called, and where it is, the front-end says. Of a machine only the host is believed that writes
    its backup.
options:
  _input:
    description: The variables of the hosts of the run.
    type: list
    elements: dict
    required: true
  chosen:
    description: What was chosen.
    type: dict
    required: true
  frontend:
    description: Name of the front-end.
    type: str
    required: true
positional: chosen, frontend
"""

EXAMPLES = r"""
- name: Show what became of the machines
  nebula.provision.nebula_table:
    columns: [name, host, kind, id, error]
    rows: >-
      {{ (ansible_play_hosts_all | map('extract', hostvars)
          | nebula.provision.backed_up(__nebula_backup_chosen, groups['nebula_frontend'][0])).rows }}
"""

RETURN = r"""
_value:
  description:
    - C(rows) of a table, C(notes) below it, and C(errors), lists of sentences by the host that is to report them.
  type: dict
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.errors import LONGEST
from ansible_collections.nebula.provision.plugins.plugin_utils.forged_facts import variable_of
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates
from ansible_collections.nebula.provision.plugins.test.gone_wrong import gone_wrong

MIB = 1 << 20
WORDLESS = "a task ended without a word: run it again with -vvv"
TEXTS = ("id", "kind", "reason", "consistency")


def backed_up(variables: Iterable[Mapping[str, Any]], chosen: Mapping[str, Any], frontend: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    pruned: dict[str, Any] = {}
    for each in variables:
        made[each["inventory_hostname"]] = variable_of(each, "__nebula_backup_made") or {}
        pruned[each["inventory_hostname"]] = variable_of(each, "__nebula_backup_pruned") or {}
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    errors: dict[str, list[str]] = {}
    first = next(iter(made), "")

    def report(host: str, sentence: str) -> None:
        errors.setdefault(host if host in made else first, []).append(sentence)

    by_frontend = chosen.get("at") == "frontend"
    known = set()
    for machine in chosen.get("machines") or ():
        known.add(machine["vm_id"])
        writer = frontend if by_frontend else machine["host"]
        found = _outcome(made.get(writer), machine["vm_id"])
        if found is None:
            silent = [made.get(host) for host in dict.fromkeys((writer, machine["host"]))]
            rows.append(_row(machine, {}, _why_silent(silent, writer)))
        else:
            rows += [_row(machine, each, str(each.get("error") or "")[:LONGEST]) for each in found]
        notes += _warnings(machine, found or ())
        notes += _removed(machine, _outcome(pruned.get(writer), machine["vm_id"]) or (), report)
    for host, answer in made.items():
        # What lies there of machines that are no more, or of all where none was chosen.
        for each in _outcomes(answer) if chosen.get("everything") and (host == frontend or not by_frontend) else ():
            if each.get("vm_id") not in known:
                machine = {"vm_id": each.get("vm_id"), "name": str(each.get("name", ""))[:LONGEST], "host": host}
                rows.append(_row(machine, each, str(each.get("error") or "")[:LONGEST]))
        if gone_wrong(answer) and not any(row["error"] and row["host"] == host for row in rows):
            report(host, str(answer.get("msg") or WORDLESS)[:LONGEST])
        if gone_wrong(pruned[host]):
            report(host, str(pruned[host].get("msg") or WORDLESS)[:LONGEST])
    for machine in chosen.get("left_out") or ():
        rows.append(_row(machine, {"kind": "none"}, str(machine["reason"])))
    rows.sort(key=lambda row: (str(row["name"]), str(row["id"])))
    for row in rows:
        if row["error"]:
            report(row["host"], f"VM {row['name']}: {row['error']}")
    return {"rows": rows, "notes": notes, "errors": errors}


def _outcomes(answer: Any) -> list[Mapping[str, Any]]:
    found = answer.get("backups") if hasattr(answer, "get") else None
    return [each for each in found if hasattr(each, "get")] if isinstance(found, (list, tuple)) else []


def _outcome(answer: Any, vm_id: int) -> list[Mapping[str, Any]] | None:
    return [each for each in _outcomes(answer) if each.get("vm_id") == vm_id] or None


def _row(machine: Mapping[str, Any], outcome: Mapping[str, Any], error: str) -> dict[str, Any]:
    row: dict[str, Any] = {key: machine[key] for key in ("vm_id", "name", "host")}
    row.update({key: str(outcome.get(key) or "")[:LONGEST] for key in TEXTS})
    row.update(size=_mib(outcome.get("size")), stored=_mib(outcome.get("stored")), seconds=_seconds(outcome))
    return {**row, "error": error}


def _mib(value: Any) -> Any:
    return round(value / MIB, 1) if isinstance(value, (int, float)) and value else ""


def _seconds(outcome: Mapping[str, Any]) -> Any:
    value = outcome.get("seconds")
    return round(value, 1) if isinstance(value, (int, float)) and value else ""


def _why_silent(answers: Iterable[Any], writer: str) -> str:
    for answer in answers:
        if answer and gone_wrong(answer):
            return str(answer.get("msg") or WORDLESS)[:LONGEST]
    return f"host {writer} said nothing of it"


def _warnings(machine: Mapping[str, Any], found: Iterable[Mapping[str, Any]]) -> list[str]:
    return [
        f"{machine['name']}: {str(text)[:LONGEST]}"
        for each in found
        for text in (each.get("warnings") if isinstance(each.get("warnings"), (list, tuple)) else ())
    ]


def _removed(machine: Mapping[str, Any], found: Iterable[Mapping[str, Any]], report: Any) -> list[str]:
    notes = []
    for each in found:
        removed = each.get("removed")
        if isinstance(removed, (list, tuple)) and removed:
            many = f"{len(removed)} older backups were" if len(removed) > 1 else "an older backup was"
            notes.append(f"{machine['name']}: {many} removed")
        if each.get("error"):
            report(machine["host"], f"VM {machine['name']}: {str(each['error'])[:LONGEST]}")
    return notes


class FilterModule:
    def filters(self) -> Filters:
        return {"backed_up": returns_no_templates(backed_up)}
