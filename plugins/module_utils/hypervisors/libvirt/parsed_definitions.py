# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parses a definition once for all who compare it with another one."""

from __future__ import annotations

import functools
from xml.etree import ElementTree as ET


# Two of each machine that is changed at the same time as others.
@functools.lru_cache(maxsize=32)
def parsed(definition: str) -> ET.Element:
    """Return the definition's root. Others have the same one: nobody changes it."""
    return ET.fromstring(definition)
