# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remembers the warnings about templates within a run: ten thousand machines of one template differ in values of their
CONTEXT, of which most are the guest's alone."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable

from . import attributes, hypervisor_rules
from .template import Template, Value

# Judgements that are kept: of all templates of a large site, and of what its lists put over them.
MOST = 4096
# Variables of CONTEXT whose values are judged: host names, and what the table of attributes and disks know by name.
_JUDGED = frozenset(("HOSTNAME", "SET_HOSTNAME", "TARGET", "DEV_PREFIX", "BUS", *attributes.named_in("CONTEXT")))
# Values that no rule about characters could mind, and that refer to nothing.
_PLAIN = re.compile(r"[A-Za-z0-9 ._,:;/@+=-]{1,512}", re.ASCII)
_PLACEHOLDER = "x"
_kept: dict[Hashable, tuple[str, ...]] = {}


def hypervisor_of(template: Template) -> str:
    """Return the hypervisor that the template says, "" if none."""
    return template.get("HYPERVISOR").lower()


def judged_alike(template: Template, hypervisors: Iterable[str]) -> tuple[tuple[str, Value], ...]:
    """Return what two templates have in common that are judged alike on these hypervisors."""
    rules = hypervisor_rules.RULES
    if any(name not in rules or rules[name].judges_context for name in hypervisors):
        return template.attributes
    return tuple(
        (name, tuple((key, _alike(key, text)) for key, text in value))
        if name == "CONTEXT" and not isinstance(value, str)
        else (name, value)
        for name, value in template.attributes
    )


def _alike(key: str, text: str) -> str:
    return _PLACEHOLDER if key not in _JUDGED and _PLAIN.fullmatch(text) else text


def known(judged: Hashable) -> list[str] | None:
    """Return the warnings that were kept, None if there is no such judgement."""
    found = _kept.get(judged)
    return None if found is None else list(found)


def keep(judged: Hashable, where: str, warnings: list[str]) -> list[str]:
    """Return the warnings, kept for the next template that is judged alike, unless they name this one (where)."""
    if not any(where in text for text in warnings):
        if len(_kept) >= MOST:
            _kept.clear()
        _kept[judged] = tuple(warnings)
    return warnings
