# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells which attributes of its template act on a machine: on one that is there, those that acted when it was made.

Version 0 is that of machines which were made before any was counted; 1 has what is listed here. A machine keeps its
version until one of these attributes becomes another one, or until it is made anew."""

from __future__ import annotations

from collections.abc import Sequence

from .. import hypervisor_rules
from ..template import Template
from ..template_changes import Normal, normal_values
from .former_machine import FormerMachine

# Attributes that act from version 1 on; and of others the keys whose meaning is another one from there on.
ATTRIBUTES = ("CPULIMIT", "VIDEO", "IOMMU", "HYPERV_OPTIONS", "HYPERV_TIMERS", "SPICE_OPTIONS")
_KEYS = (
    ("DISK", "ORDER"),
    ("NIC", "ORDER"),
    ("NIC", "LINK"),
    ("GRAPHICS", "TYPE"),
    ("OS", "FIRMWARE"),
    ("FEATURES", "HYPERV"),
)
# What each of them says by default.
_UNSAID = {("GRAPHICS", "TYPE"): "VNC", ("FEATURES", "HYPERV"): "NO", ("OS", "FIRMWARE"): "BIOS", ("NIC", "LINK"): "UP"}


def hardware_version_of(template: Template, hypervisor: str, former: FormerMachine | None) -> int:
    """Return the hardware version of a machine of the template. former: what a machine has that is there."""
    newest = hypervisor_rules.rules_of(hypervisor).hardware_version
    if former is not None and not hardware_differs(former.hardware_template, template):
        return min(former.hardware_version, newest)
    return newest


def hardware_differs(before: Template, after: Template) -> bool:
    """Return whether two templates say something else of what versions are about."""
    return any(_single(before, name) != _single(after, name) for name in ATTRIBUTES) or any(
        _stated(before, *key) != _stated(after, *key) for key in _KEYS
    )


def attributes_without_effect(template: Template, hypervisor: str, version: int) -> list[str]:
    """Return what a template says and what a machine of that version has nothing of."""
    if version >= hypervisor_rules.rules_of(hypervisor).hardware_version:
        return []
    return [name for name in ATTRIBUTES if _single(template, name)] + [
        f"{name}/{key}" for name, key in _KEYS if name in ("DISK", "NIC") and _stated(template, name, key)
    ]


def doubt_of_machine(hypervisor: str, version: int, template: Template) -> str | None:
    """Return a warning for a machine that was made before attributes of its template acted. version: its own."""
    names = attributes_without_effect(template, hypervisor, version)
    if not names:
        return None
    verb, them = ("do", "them") if len(names) > 1 else ("does", "it")
    return (
        f"{', '.join(names)} {verb} not act on it: it was made before that did. Leave {them} out for one run, and give "
        f"{them} again in the next: it has that from its next start"
    )


def _stated(template: Template, name: str, key: str) -> list[tuple[int, str]]:
    """Return the key of each vector that says something by it, with the place of that among those that do."""
    values = [dict(value) for value in normal_values(template, name) if not isinstance(value, str)]
    found = [value[key].upper() for value in values if value.get(key)]
    return [(place, text) for place, text in enumerate(found) if text != _UNSAID.get((name, key))]


def _single(template: Template, name: str) -> Sequence[Normal]:
    values = normal_values(template, name)
    return [] if name == "CPULIMIT" and values == ["0"] else values
