# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines by their names; tests/unit/plugins/plugin_utils/test_chosen_machines.py has more of what users write."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.module_utils.reconcile.named_machines import named

NAMES = ["web-0", "web-1", "db", "a, b"]


def test_names_patterns_and_several() -> None:
    assert named(NAMES, "web-*, db") == (["web-0", "web-1", "db"], "")
    assert named(NAMES, ["db", "db"]) == (["db"], "")
    assert named(NAMES, "a, b") == (["a, b"], "")


def test_what_names_nothing_is_told() -> None:
    assert named(NAMES, "")[1].startswith("No machine is named")
    found, problem = named(NAMES, "web-0, dbs")
    assert found == [] and "no machine of that name. Did you mean 'db'?" in problem


def test_further_names_are_found_and_not_proposed() -> None:
    assert named(NAMES, "7-x, db", ["7-x"]) == (["7-x", "db"], "")
    problem = named(NAMES, "7-y", ["7-x"], "there are none")[1]
    assert problem == "vm 7-y: there are none. There are: web-0, web-1, db, a, b. Nothing was changed"
