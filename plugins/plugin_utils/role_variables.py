# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what plugins know of the collection's roles: role_variables.json, which `make specifications` makes of them."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import as_template


@functools.cache
def _roles() -> dict[str, dict[str, dict[str, Any]]]:
    return dict(json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8")))


def options_of(role: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the options that a role takes, by name, as its argument_specs.yml has them."""
    return _roles()[role]["options"]


@functools.cache
def defaults() -> Mapping[str, Any]:
    """Return the defaults of all roles that have calls, as templates."""
    return _all_of("defaults")


@functools.cache
def variables() -> Mapping[str, Any]:
    """Return the variables of all roles that have calls, as templates."""
    return _all_of("vars")


def _all_of(part: str) -> dict[str, Any]:
    found = (role.get(part) or {} for role in _roles().values())
    return {name: _templates(value) for each in found for name, value in each.items()}


def _templates(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _templates(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_templates(each) for each in value]
    return as_template(value) if isinstance(value, str) else value
