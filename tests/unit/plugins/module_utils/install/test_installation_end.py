# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When an installation is over, by what its machine and its console show."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.install import installation_end
from ansible_collections.nebula.provision.plugins.module_utils.install.installation_end import Seen

GUEST = Seen("POWEROFF", "guest", quiet=9)


@pytest.mark.parametrize(
    ("seen", "end", "marker", "installed"),
    [
        (Seen("RUNNING"), "poweroff", False, None),
        (GUEST, "poweroff", False, True),
        (GUEST, "reboot", False, True),
        (GUEST, "manual", False, True),
        (replace(GUEST, marker=True), "poweroff", True, True),
        (GUEST, "poweroff", True, False),
        # Its last words may still be on their way into the log.
        (replace(GUEST, quiet=0.5), "poweroff", True, None),
        (Seen("RUNNING", marker=True, quiet=99), "poweroff", True, None),
        (Seen("POWEROFF", "", marker=True), "poweroff", True, False),
        (Seen("POWEROFF", "unknown", marker=True), "poweroff", True, True),
        (Seen("POWEROFF", "unknown", quiet=0.5), "poweroff", True, None),
        (Seen("POWEROFF", "unknown", quiet=9), "poweroff", True, False),
        (Seen("POWEROFF", "unknown", marker=True), "poweroff", False, False),
        (Seen("POWEROFF", "unknown"), "manual", False, False),
        (Seen(""), "poweroff", False, False),
        (Seen("UNKNOWN"), "poweroff", False, None),
        (Seen("RUNNING", matched="done", quiet=1), "pattern", False, None),
        # A guest has not yet written what it has in memory.
        (Seen("RUNNING", matched="done", quiet=30), "pattern", False, None),
        (Seen("RUNNING", matched="done", quiet=36), "pattern", False, True),
        (Seen("RUNNING", matched="done", quiet=36), "poweroff", False, None),
        (Seen("RUNNING", failure="No space left", quiet=3), "poweroff", False, None),
        (Seen("RUNNING", failure="No space left", quiet=20), "poweroff", False, False),
        (Seen("RUNNING", failure="No space left", marker=True, quiet=20), "poweroff", True, None),
        # A kernel that panics ends its machine too.
        (GUEST, "pattern", False, False),
        (replace(GUEST, quiet=0.5), "pattern", False, None),
        (replace(GUEST, matched="done"), "pattern", False, True),
        (Seen("POWEROFF", "unknown", matched="done", quiet=9), "pattern", False, True),
        (Seen("POWEROFF", "unknown", quiet=0.5), "pattern", False, None),
        (Seen("POWEROFF", "unknown", quiet=9), "pattern", False, False),
        (replace(GUEST, failure="No space left"), "poweroff", False, False),
        (replace(GUEST, failure="No space left", marker=True), "poweroff", True, True),
    ],
)
def test_the_end_of_an_installation(seen, end, marker, installed):
    found = installation_end.verdict(seen, end, marker)
    assert (found.installed if found else None) is installed
    assert found is None or found.installed or (found.problem and found.remedy)


def test_who_knows_nothing_asks():
    for seen, end in (
        (Seen("POWEROFF", "unknown", quiet=9), "poweroff"),
        (Seen("POWEROFF"), "manual"),
        (Seen(), "manual"),
    ):
        found = installation_end.verdict(seen, end, False)
        assert "state: installed" in found.remedy and "state: absent" in found.remedy
    assert "installed anew" in installation_end.verdict(Seen("POWEROFF"), "poweroff", False).remedy


def test_a_machine_that_is_paused_is_told_of():
    assert "is its host's disk full?" in installation_end.too_late(Seen("UNKNOWN"), 60).problem
    assert "within 60 s" in installation_end.too_late(Seen("RUNNING"), 60).problem
