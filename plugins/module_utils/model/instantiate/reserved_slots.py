# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads HOTPLUG_SLOTS: how many disks and NICs have room in a machine to come while it runs."""

from __future__ import annotations

from ...errors import InvalidValue
from .. import defaults, hypervisor_rules
from ..template import Template
from ..template_changes import HOTPLUG_SLOTS
from .former_machine import FormerMachine
from .template_values import read_whole

# Each is a port of QEMU with memory of its own, and firmware looks at all of them at each start.
MOST = 64


def slots_of(template: Template, hypervisor: str, where: str, former: FormerMachine | None, unsaid: int) -> int:
    """Return the slots that are reserved in a machine of the template; 0 leaves it to the hypervisor.
    former: what a machine has that is there; it keeps that until the template says something else.
    unsaid: of a machine that is made, where its template says nothing."""
    if not hypervisor_rules.rules_of(hypervisor).grows:
        return 0
    if former is not None and _stated(former.slots_template) == _stated(template):
        return former.hotplug_slots
    if _stated(template):
        return read_slots(_stated(template), f"{where}: {HOTPLUG_SLOTS}")
    return unsaid if former is None else defaults.HOTPLUG_SLOTS


def read_slots(text: str, where: str) -> int:
    """Return the number of slots; raise InvalidValue, which names it as `where` does."""
    remedy = f"Give how many disks and NICs have to have room, 0 to {MOST}"
    found = read_whole(text, where, remedy)
    if found > MOST:
        raise InvalidValue(f"{where} = {found}", f"a machine has {MOST} at most", remedy)
    return found


def refuse_in_template(template: Template, before: Template | None, where: str) -> None:
    """Raise InvalidValue for slots that a template gets anew. before: the stored template, None if there is none."""
    if _stated(template) and (before is None or _stated(before) != _stated(template)):
        read_slots(_stated(template), f"{where}: {HOTPLUG_SLOTS}")


def _stated(template: Template) -> str:
    return template.get(HOTPLUG_SLOTS).strip()
