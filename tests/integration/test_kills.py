# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""site.yml and teardown, killed anywhere and run again at once: a sample of what `make torture` does, chosen by a seed
that TORTURE_SEED replaces."""

from __future__ import annotations

import os

import pytest

from ansible_collections.nebula.provision.tests.torture.torture import table, torture

# Each takes half a minute.
KILLS = 2


@pytest.mark.timeout(1800)
def test_a_sample_of_kills():
    if os.geteuid() != 0:
        pytest.skip("a world needs root")
    cycles = torture(KILLS, seed=int(os.environ.get("TORTURE_SEED", "1")), jobs=2)
    print(table(cycles))
    assert [cycle for cycle in cycles if cycle["problems"]] == []
    assert len([cycle for cycle in cycles if cycle["victim"] != "nothing"]) == KILLS
