# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each change on each hypervisor in each state has one word, and docs/changes.md says the words of those that run."""

from __future__ import annotations

import pytest
from changes_of_machines import HYPERVISORS, NO_EFFECT, NONE, OFF, OPERATIONS, PAGE, REFUSED, page, table

from ansible_collections.nebula.provision.plugins.module_utils.model import hypervisor_rules
from ansible_collections.nebula.provision.plugins.module_utils.model.waiting_changes import AT_ONCE, NEXT_START


def test_the_page_is_what_is_decided() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make changes`"


def test_every_hypervisor_is_there() -> None:
    assert set(HYPERVISORS) == {rule.name for rule in hypervisor_rules.RULES.values()}


@pytest.mark.parametrize("hypervisor", HYPERVISORS)
def test_words(hypervisor: str) -> None:
    found = table()
    for operation in OPERATIONS:
        if (operation.what, hypervisor, "RUNNING") not in found:
            continue
        running, off, saved = (found[operation.what, hypervisor, s] for s in ("RUNNING", "POWEROFF", "SUSPENDED"))
        where = f"{operation.what} on {hypervisor}"
        assert running in (AT_ONCE, NEXT_START, NO_EFFECT, REFUSED, NONE), where
        # What can't be had by a machine that is off can't be had at all, and nothing waits for ever.
        assert off in (OFF, running), where
        assert running != NEXT_START or off == OFF, where
        assert saved in (OFF, NO_EFFECT, REFUSED, NONE), where
        # What comes with a start is not put into what is started from memory.
        assert not (running == NEXT_START and saved == OFF), where
