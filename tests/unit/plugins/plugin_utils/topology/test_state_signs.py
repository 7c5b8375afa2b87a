# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each state has the sign by which a reader takes it."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.plugin_utils.topology.state_signs import (
    BAD,
    GOOD,
    MOVING,
    OFF,
    sign_of_state,
)


@pytest.mark.parametrize(
    ("state", "mood"),
    [
        ("RUNNING", GOOD),
        ("MONITORED", GOOD),
        ("POWEROFF", OFF),
        ("DISABLED", OFF),
        ("PROLOG", MOVING),
        ("BOOT_MIGRATE_FAILURE", BAD),
        ("UNKNOWN", BAD),
        ("ERROR", BAD),
        ("", BAD),
    ],
)
def test_each_state_is_taken_for_something(state, mood):
    assert sign_of_state(state) == mood
