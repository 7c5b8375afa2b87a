# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds what a machine that is there was made with and keeps until its template says something else of it."""

from __future__ import annotations

from typing import Optional

from ...dataclass import dataclass
from ..template import Template
from ..vm import Growth, Topology


@dataclass(frozen=True)
class FormerMachine:
    """Holds what a machine has.
    topology_template, growth_template, slots_template, hardware_template: the template by which it got these."""

    topology_template: Template
    growth_template: Template
    slots_template: Template
    hardware_template: Template
    topology: Optional[Topology] = None
    growth: Optional[Growth] = None
    hotplug_slots: int = 0
    hardware_version: int = 0
