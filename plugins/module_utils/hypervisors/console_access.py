# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells how to reach a machine's console, as its hypervisor declares it, for the front-end, which has no drivers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..model import defaults
from ..model.endpoint import endpoint
from .declarations import DECLARED

CONSOLES = {name: each.console for name, each in DECLARED.items() if each.console}


def console_instructions(hypervisor: str, domain: str, graphics: Mapping[str, Any]) -> str:
    """Return what to type on the machine's host and, if it has graphics, where to point a viewer."""
    ways = [CONSOLES[hypervisor].format(domain=domain)] if hypervisor in CONSOLES and domain else []
    if graphics.get("port"):
        listens = endpoint(str(graphics.get("listen") or defaults.GRAPHICS_LISTEN), graphics["port"])
        ways.append(f"{str(graphics.get('type', 'vnc')).upper()} {listens}")
    return ", ".join(ways)
