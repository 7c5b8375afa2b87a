# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides which sign the picture shows for a state of a machine or a node. Pure."""

from __future__ import annotations

# How a reader has to take a state: as it should be, switched off, on its way, or in need of somebody.
GOOD, OFF, MOVING, BAD = "good", "off", "moving", "bad"
_SWITCHED_OFF = {"POWEROFF", "SUSPENDED", "STOPPED", "UNDEPLOYED", "HOLD", "DONE", "DISABLED", "OFFLINE"}
_AS_IT_SHOULD_BE = {"RUNNING", "MONITORED"}


def sign_of_state(state: str) -> str:
    """Return the sign by which the picture and its tables show a state of a machine or a node."""
    if state in _AS_IT_SHOULD_BE:
        return GOOD
    if state in _SWITCHED_OFF:
        return OFF
    return BAD if "FAILURE" in state or state in ("UNKNOWN", "ERROR", "") else MOVING
