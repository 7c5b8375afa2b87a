# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists the engines that there are. A new one is a file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .base import Engine
from .embedded.engine import EmbeddedEngine

ENGINES: dict[str, type[Engine]] = {"embedded": EmbeddedEngine}


def engine_of(params: Mapping[str, Any]) -> type[Engine]:
    """Return the engine that the module's options name, not opened."""
    return ENGINES[params.get("engine") or "embedded"]


def open_engine(params: Mapping[str, Any], check_mode: bool, create: bool = False) -> Engine:
    """Return the engine that the module's options name, opened. create: begin a new catalog where there is none."""
    return engine_of(params).from_params(params, check_mode, create)
