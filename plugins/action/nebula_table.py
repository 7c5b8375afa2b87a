# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints a table in the run's own output: in a terminal, and as an event of ansible-runner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.nebula.provision.plugins.module_utils.printable import ONE_LINE, printable
from ansible_collections.nebula.provision.plugins.plugin_utils import payloads

display = Display()
NOTHING = "-"


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _VALID_ARGS = frozenset(("title", "columns", "rows", "empty", "notes", "statistic", "statistic_keys", "statistics"))

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        rows = self._task.args.get("rows") or []
        columns = self._task.args.get("columns") or []
        for name, given in (("rows", rows), ("columns", columns)):
            if not isinstance(given, list):
                raise AnsibleActionFail(f"nebula_table: {name}: it is a {type(given).__name__}. Give a list")
        if not columns:
            raise AnsibleActionFail("nebula_table: columns: there are none. Give keys of the rows, as [id, name]")
        for index, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise AnsibleActionFail(f"nebula_table: rows[{index}]: it is a {type(row).__name__}. Give a dict")
        further = self._task.args.get("statistics") or {}
        if not isinstance(further, Mapping):
            raise AnsibleActionFail(f"nebula_table: statistics: it is a {type(further).__name__}. Give a dict")
        lines = table(rows, columns) if rows else [cell(self._task.args.get("empty") or "none")]
        title = self._task.args.get("title")
        text = [f"\n{cell(title)}"] if title else [""]
        # Notes are sentences about objects, whose names and errors may be anybody's.
        text += [*lines, *(printable(str(note)) for note in self._task.args.get("notes") or [])]
        for line in text:
            display.display(line)
        result.update(changed=False, lines=lines)
        name, keys = self._task.args.get("statistic"), self._task.args.get("statistic_keys") or []
        data = dict(further) | ({str(name): shown(rows, [*columns, *keys])} if name else {})
        if data:
            # The form in which ansible.builtin.set_stats hands them to Ansible.
            result["ansible_stats"] = {"data": data, "per_host": False, "aggregate": False}
        # The table is the last task of a run, so Ansible has packed every module that the run needed.
        payloads.keep_payloads()
        return result


def shown(rows: list[dict[str, Any]], columns: list[str]) -> list[dict[str, Any]]:
    """Return the rows with only those of their keys that are columns."""
    keys = [str(name).split("=", 1)[0] for name in columns]
    return [{key: row[key] for key in keys if key in row} for row in rows]


def table(rows: list[dict[str, Any]], columns: list[str]) -> list[str]:
    """Return rows as aligned text. columns: keys of the rows, or KEY=HEADING. Numbers are aligned right."""
    pairs = [(name.split("=", 1) + [name.replace("_", " ").upper()])[:2] for name in map(str, columns)]
    cells = [[heading for _key, heading in pairs]]
    cells += [[cell(row.get(key)) for key, _heading in pairs] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(pairs))]
    right = [all(_is_number(row.get(key)) for row in rows) for key, _heading in pairs]
    return [
        "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right)).rstrip() for line in cells
    ]


def cell(value: Any) -> str:
    """Return the value as one printable line, since names and errors may be anybody's."""
    if value is None or value in ("", []):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ",".join(cell(item) for item in value)
    return printable(str(value), ONE_LINE)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
