# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads VCPU_MAX, MEMORY_MAX, MEMORY_RESIZE_MODE and MEMORY_SLOTS: how far a machine may grow while it runs."""

from __future__ import annotations

from collections.abc import Collection

from ...errors import InvalidValue
from .. import defaults, hypervisor_rules
from ..flags import FALSE
from ..template import Template
from ..template_changes import MAXIMA
from ..vm import Growth
from ..whole_numbers import whole
from .capacity import memory_of, vcpu_of
from .former_machine import FormerMachine
from .template_values import read_whole, read_word

BALLOON, MODULES = "ballooning", "hotplug"
# MiB: the kernels of guests take memory in blocks of that size, and QEMU's modules are of whole ones.
BLOCK = 128
# Modules that QEMU has on any board.
MOST_SLOTS = 256
_UNSAID = {"MEMORY_RESIZE_MODE": BALLOON, "MEMORY_SLOTS": str(defaults.MEMORY_SLOTS)}


def growth_of(template: Template, hypervisor: str, where: str, former: FormerMachine | None = None) -> Growth | None:
    """Return how far a machine of the template may grow, None for not at all.
    former: what a machine has that is there; it keeps that until the template says something else of its maxima."""
    if not hypervisor_rules.rules_of(hypervisor).grows:
        return None
    if former is not None and not maxima_differ(former.growth_template, template):
        if former.growth is not None:
            # It may be asked for more than the most that it was made with.
            read_growth(template, where)
        return former.growth
    return read_growth(template, where)


def read_growth(template: Template, where: str) -> Growth | None:
    """Return how far a new machine of the template may grow; raise InvalidValue for what no machine can have."""
    vcpu, memory = _vcpu_max(template, where), _memory_max(template, where)
    mode = read_word(template, "MEMORY_RESIZE_MODE", (BALLOON, MODULES), where)
    slots = _slots(template, where)
    if not (vcpu or memory):
        return None
    growth = Growth(memory=memory, vcpu=vcpu, slots=slots if mode == MODULES and memory else 0)
    _check_acpi(growth, template, where)
    if growth.slots and (memory - memory_of(template, where)) % BLOCK:
        raise InvalidValue(
            f"{where}: MEMORY = {template.get('MEMORY')}, MEMORY_MAX = {template.get('MEMORY_MAX')}",
            f"with MEMORY_RESIZE_MODE = HOTPLUG memory comes in modules of {BLOCK} MB, and they are not a multiple "
            "of that apart",
            f"Give numbers that are, such as MEMORY_MAX = {memory + -(memory - memory_of(template, where)) % BLOCK}; "
            "or set MEMORY_RESIZE_MODE = BALLOONING",
        )
    return growth


def most_of(memory: int, vcpu: int | None, growth: Growth | None) -> tuple[int, int | None]:
    """Return the MiB and virtual processors that a machine comes to at most: what its host has to have for it."""
    if growth is None:
        return memory, vcpu
    return max(memory, growth.memory), max(vcpu or 1, growth.vcpu) if growth.vcpu else vcpu


def refuse_in_template(template: Template, before: Template | None, where: str) -> None:
    """Raise InvalidValue for maxima that a template gets anew. before: the stored template, None if there is none."""
    names = (*MAXIMA, "MEMORY", "VCPU")
    if before is None or any(before.get(name) != template.get(name) for name in names):
        _check(template, where)


def warn_of_growth(template: Template, where: str) -> list[str]:
    """Return a warning for what a template says and no new machine can have."""
    try:
        _check(template, where)
    except InvalidValue as error:
        return [f"{error.asked[len(where) + 2 :]}: {error.found}. {error.remedy}"]
    return []


def maxima_differ(before: Template, after: Template) -> bool:
    """Return whether two templates say something else of how far a machine may grow."""
    return any(_stated(before, name) != _stated(after, name) for name in MAXIMA)


# What says how far each of both may grow, and how.
_MAXIMA_OF = {"MEMORY": ("MEMORY_MAX", "MEMORY_RESIZE_MODE", "MEMORY_SLOTS"), "VCPU": ("VCPU_MAX",)}


def changed_at_once(growth: Growth | None, before: Template, after: Template, waiting: Collection[str]) -> list[str]:
    """Return which of MEMORY and VCPU become what the new template says while the machine runs: those whose maxima
    neither change nor wait.
    growth: with which it was made.
    waiting: the attributes that it has otherwise until its next start."""
    if growth is None:
        return []
    most = {"MEMORY": growth.memory, "VCPU": growth.vcpu}
    return [
        name
        for name, number in most.items()
        if number
        # What waits already was too much for it.
        and name not in waiting
        and all(each not in waiting and _stated(before, each) == _stated(after, each) for each in _MAXIMA_OF[name])
        and all(0 < _number(each, name) <= number for each in (before, after))
    ]


def doubt_of_machine(hypervisor: str, growth: Growth | None, template: Template) -> str | None:
    """Return a warning for a machine that was made before its template's maxima acted. growth: with which it was
    made."""
    stated = [name for name in ("MEMORY_MAX", "VCPU_MAX") if template.get(name).strip()]
    if growth is not None or not stated or not hypervisor_rules.rules_of(hypervisor).grows:
        return None
    named = " and ".join(stated)
    return (
        f"{named} {'do' if len(stated) > 1 else 'does'} not act on it: it was made before that did. Leave "
        f"{'them' if len(stated) > 1 else 'it'} out for one run, and give {'them' if len(stated) > 1 else 'it'} again "
        "in the next: it has that from its next start"
    )


def _check(template: Template, where: str) -> None:
    # A template may leave MEMORY to its machines.
    if template.get("MEMORY").strip() or not template.get("MEMORY_MAX").strip():
        read_growth(template, where)


def _memory_max(template: Template, where: str) -> int:
    text = template.get("MEMORY_MAX").strip()
    if not text:
        return 0
    memory = memory_of(template, where)
    most = read_whole(text, f"{where}: MEMORY_MAX", "Give whole MB: MEMORY_MAX = 2048", lowest=1)
    if most < memory:
        raise InvalidValue(
            f"{where}: MEMORY = {memory}",
            f"MEMORY_MAX is {most}",
            f"Give at most {most}, or a larger MEMORY_MAX, which running machines have from their next start",
        )
    return most


def _vcpu_max(template: Template, where: str) -> int:
    text = template.get("VCPU_MAX").strip()
    if not text:
        return 0
    vcpu = vcpu_of(template, where) or 1
    most = read_whole(text, f"{where}: VCPU_MAX", "Give a whole number, at least 1", lowest=1)
    if most < vcpu:
        raise InvalidValue(
            f"{where}: VCPU = {vcpu}",
            f"VCPU_MAX is {most}",
            f"Give at most {most}, or a larger VCPU_MAX, which running machines have from their next start",
        )
    return most


def _slots(template: Template, where: str) -> int:
    text = template.get("MEMORY_SLOTS").strip()
    remedy = f"Give how many modules of memory a running machine can get, 1 to {MOST_SLOTS}"
    found = read_whole(text, f"{where}: MEMORY_SLOTS", remedy, lowest=1) if text else defaults.MEMORY_SLOTS
    if found > MOST_SLOTS:
        raise InvalidValue(f"{where}: MEMORY_SLOTS = {text}", f"a machine has {MOST_SLOTS} at most", remedy)
    return found


def _check_acpi(growth: Growth, template: Template, where: str) -> None:
    acpi = template.vector("FEATURES").get("ACPI", "").strip().upper()
    needs = "MEMORY_RESIZE_MODE = HOTPLUG" if growth.slots else "VCPU_MAX" if growth.vcpu else ""
    if acpi and acpi in FALSE and needs:
        raise InvalidValue(
            f"{where}: FEATURES: ACPI = {acpi}",
            f"{needs} needs it: by ACPI a guest is told what comes",
            "Leave ACPI out, or leave that out",
        )


def _number(template: Template, name: str) -> int:
    return whole(template.get(name).strip() or "1") or 0


def _stated(template: Template, name: str) -> str:
    text = template.get(name).strip() or _UNSAID.get(name, "")
    return str(whole(text)) if whole(text) is not None else text.lower()
