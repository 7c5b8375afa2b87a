# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.filter.installer_problems import installer_problems

WEB = {"name": "web", "due": "wait", "step": "installing", "error": ""}


def test_what_nobody_named_is_told():
    found = installer_problems([], [WEB, {**WEB, "name": "db", "error": "install db: taken"}])
    assert found[0].startswith("install web: it is not at its end: installing.") and found[1] == "install db: taken"


@pytest.mark.parametrize(
    "said", ["install web: it has failed", "x\nVM install-web (id 3): no", "machine verify-web: silent", "install web."]
)
def test_what_was_said_is_not_said_again(said):
    assert installer_problems([said], [WEB]) == [said]


@pytest.mark.parametrize("said", ["install web2: no", "install web-2: no", "install web.example: no", "host web: no"])
def test_another_of_a_like_name(said):
    assert len(installer_problems([said], [WEB])) == 2


@pytest.mark.parametrize("changes", [{"due": "done"}, {"step": "given up"}, {"step": "ready, and left as it is"}])
def test_what_is_at_its_end(changes):
    assert installer_problems([], [{**WEB, **changes}]) == []


@pytest.mark.parametrize(
    ("until", "due"),
    [("installed", {"convert", "verify", "done"}), ("converted", {"verify", "done"}), ("verified", {"done"})],
)
def test_a_run_that_goes_up_to_a_step_is_at_its_end_there(until, due):
    found = {
        step
        for step in ("wait", "finish", "convert", "verify", "done")
        if not installer_problems([], [{**WEB, "due": step}], until)
    }
    assert found == due
