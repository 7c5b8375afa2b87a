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

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.errors import LONGEST, InvalidValue
from ansible_collections.nebula.provision.plugins.plugin_utils.forged_facts import variable_of
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates
from ansible_collections.nebula.provision.plugins.test.gone_wrong import gone_wrong

MIB = 1 << 20
WORDLESS = "a task ended without a word: run it again with -vvv"


def backed_up(variables: Iterable[Mapping[str, Any]], chosen: Mapping[str, Any], frontend: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for each in variables:
        made[each["inventory_hostname"]] = variable_of(each, "__nebula_backup_made") or {}
    errors: dict[str, list[str]] = {}
    first = next(iter(made), "")

    def report(host: str, sentence: str) -> None:
        sentences = errors.setdefault(host if host in made else first, [])
        sentences += [sentence] if sentence not in sentences else []

    answers = {host: _outcomes(host, answer, report) for host, answer in made.items()}
    by_frontend = chosen.get("at") == "frontend"
    rows: list[dict[str, Any]] = []
    reported: list[tuple[str, str, str]] = []
    for machine in chosen.get("machines") or ():
        writer = frontend if by_frontend else machine["host"]
        found = [each for each in answers.get(writer, ()) if each.vm_id == machine["vm_id"] and not each.catalog]
        rows += [_row(machine, each) for each in found]
        # A machine whose backups are read may have none.
        if not found and not (
            chosen.get("purpose") == "verified" and made.get(writer) and not gone_wrong(made[writer])
        ):
            silent = [made.get(host) for host in dict.fromkeys((writer, machine["host"]))]
            rows.append({**_row(machine), "error": _why_silent(silent, writer)})
        for each in found:
            reported += [(writer, machine["name"], text) for text in each.warnings]
            reported += [(machine["name"], machine["name"], text) for text in _removals(each.removed)]
    if chosen.get("everything"):
        writers = {each["vm_id"]: frontend if by_frontend else each["host"] for each in chosen.get("machines") or ()}
        rows += _rows_of_others({frontend: answers.get(frontend, ())} if by_frontend else answers, writers)
    for machine in chosen.get("left_out") or ():
        rows.append({**_row(machine), "error": str(machine["reason"])})
    rows.sort(key=lambda row: (str(row["name"]), str(row["id"])))
    for row in rows:
        if row["error"]:
            if chosen.get("purpose") != "verified":
                row["kind"] = row["kind"] or "none"
            report(row["host"], f"VM {row['name']}: {row['error']}")
    for host, answer in made.items():
        if gone_wrong(answer) and host not in errors:
            report(host, _message(answer))
    return {"rows": rows, "notes": _notes(reported), "errors": errors}


def _notes(reported: Iterable[tuple[str, str, str]]) -> list[str]:
    """Return each warning once. One that several machines have is told of the host that wrote their backups.
    reported: whose it is then, the machine, and the warning"""
    machines: dict[tuple[str, str], list[str]] = {}
    for several, machine, text in reported:
        machines.setdefault((several, text), []).append(machine)
    return [f"{names[0] if len({*names}) == 1 else several}: {text}" for (several, text), names in machines.items()]


def _rows_of_others(answers: Mapping[str, tuple[Any, ...]], writers: Mapping[int, str]) -> Iterator[dict[str, Any]]:
    """Yield rows of the other backups that were read: of machines that are no more, that were on another host then, or
    that are of another catalog. What lies there is all that is known of these.
    writers: by machine of the catalog, the host of whose answer there are rows already"""

    def answer_of(each: Any) -> tuple[Any, ...]:
        return (each.vm_id, each.catalog, each.id, each.error)

    def has_rows(host: str, each: Any) -> bool:
        return not each.catalog and writers.get(each.vm_id) == host

    # Several nodes may have mounted the same directory.
    seen = {answer_of(each) for host, outcomes in answers.items() for each in outcomes if has_rows(host, each)}
    for host, outcomes in answers.items():
        for each in outcomes:
            if answer_of(each) not in seen:
                seen.add(answer_of(each))
                name = f"{each.vm_id}-{each.catalog}" if each.catalog else each.name
                yield _row({"vm_id": each.vm_id, "name": name, "host": host}, each)


def _outcomes(host: str, answer: Any, report: Callable[[str, str], None]) -> tuple[Any, ...]:
    # Here, since Ansible loads each filter of a collection to find one, in each of its processes.
    from ansible_collections.nebula.provision.plugins.module_utils.model.answers.backed_up_machines import read

    try:
        return read(host, answer) or ()
    except InvalidValue as error:
        report(host, str(error))
        return ()


def _row(machine: Mapping[str, Any], outcome: Any = None) -> dict[str, Any]:
    row: dict[str, Any] = {key: machine[key] for key in ("vm_id", "name", "host")}
    for key in ("id", "kind", "reason", "consistency", "error"):
        row[key] = getattr(outcome, key, "")
    for key in ("size", "stored"):
        row[key] = round(getattr(outcome, key, 0) / MIB, 1) or ""
    row["seconds"] = round(getattr(outcome, "seconds", 0.0), 1) or ""
    return row


def _removals(removed: Any) -> list[str]:
    if not removed:
        return []
    return [f"{f'{len(removed)} older backups were' if len(removed) > 1 else 'an older backup was'} removed"]


def _why_silent(answers: Iterable[Any], writer: str) -> str:
    wrong = [_message(answer) for answer in answers if answer and gone_wrong(answer)]
    return wrong[0] if wrong else f"host {writer} said nothing of it"


def _message(answer: Mapping[str, Any]) -> str:
    return str(answer.get("msg") or WORDLESS)[:LONGEST]


class FilterModule:
    def filters(self) -> Filters:
        return {"backed_up": returns_no_templates(backed_up)}
