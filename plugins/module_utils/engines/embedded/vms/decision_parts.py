# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes what decisions about machines share."""

from __future__ import annotations

from .assemble import Assembler
from .capacity import Capacity
from .graphics_ports import GraphicsPorts
from .host_places import HostPlaces
from .nics import Nics
from .parts import Parts


class DecisionParts(Parts):
    """Has the parts that decisions need beside the others; Parts makes them."""

    nics: Nics
    assembler: Assembler
    ports: GraphicsPorts
    capacity: Capacity
    host_places: HostPlaces
