# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells which attributes of its template act on a machine: on one that is there, those that acted when it was made.

Version 0 is that of machines which were made before any was counted. A machine keeps its version until one of the
attributes that are listed here becomes another one, or until it is made anew; then it has the newest."""

from __future__ import annotations

from collections.abc import Sequence

from .. import hypervisor_rules
from ..template import Template
from ..template_changes import Normal, normal_values
from .former_machine import FormerMachine

# Attributes, each with the version from which on it acts, and keys of others that mean something else from there on.
ATTRIBUTES = {
    **dict.fromkeys(("CPULIMIT", "VIDEO", "IOMMU", "HYPERV_OPTIONS", "HYPERV_TIMERS", "SPICE_OPTIONS"), 1),
    **dict.fromkeys(("NUMA_NODE", "PCI", "MEMORY_ENCRYPTION", "MEMORY_TUNE_OFFSET"), 2),
}
_KEYS = {
    ("DISK", "ORDER"): 1,
    ("NIC", "ORDER"): 1,
    ("NIC", "LINK"): 1,
    ("GRAPHICS", "TYPE"): 1,
    ("OS", "FIRMWARE"): 1,
    ("FEATURES", "HYPERV"): 1,
    **{("TOPOLOGY", key): 2 for key in ("PIN_POLICY", "NODE_AFFINITY", "HUGEPAGE_SIZE", "MEMORY_ACCESS")},
}
# Vectors whose keys do nothing before: each of the others means something in any version.
_MUTE = ("DISK", "NIC", "TOPOLOGY")
# What each of them says by default.
_UNSAID = {
    ("GRAPHICS", "TYPE"): "VNC",
    ("FEATURES", "HYPERV"): "NO",
    ("OS", "FIRMWARE"): "BIOS",
    ("NIC", "LINK"): "UP",
    ("TOPOLOGY", "PIN_POLICY"): "NONE",
}


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
    return [name for name, since in ATTRIBUTES.items() if since > version and _single(template, name)] + [
        f"{name}/{key}"
        for (name, key), since in _KEYS.items()
        if since > version and name in _MUTE and _stated(template, name, key)
    ]


def acts(name: str, version: int) -> bool:
    """Return whether the attribute, which is one of those above, acts on a machine of that version."""
    return ATTRIBUTES[name] <= version


def coming_attributes(template: Template, version: int) -> list[str]:
    """Return which attributes of a template begin to act on a machine of that version once it has the newest: those
    of the machine itself, and vectors of which it has one."""
    found = [name for name, since in ATTRIBUTES.items() if since > version and template.has(name)]
    keys = [key for key, since in _KEYS.items() if since > version and key[0] == "TOPOLOGY" and _stated(template, *key)]
    return [*found, *dict.fromkeys(name for name, _key in keys)]


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
