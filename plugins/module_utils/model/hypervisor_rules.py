# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks up what differs between hypervisors while a machine is decided: each declares it itself."""

from __future__ import annotations

from ..hypervisors.declarations import DECLARED, hypervisors_by_word
from . import defaults
from .hypervisor import Hypervisor

RULES = hypervisors_by_word(DECLARED.values())
DEFAULT = defaults.HYPERVISOR
_ANY = Hypervisor()
# All that is understood in DISK/DRIVER, by any of them.
DRIVERS = tuple(dict.fromkeys(("raw", "qcow2", *(word for each in DECLARED.values() for word in each.words))))


def rules_of(hypervisor: str) -> Hypervisor:
    """Return what is declared of the hypervisor; what any hypervisor has, for a name that is not known."""
    return RULES.get(hypervisor, _ANY)


def makes_same_machines(wanted: str, hypervisor: str) -> bool:
    """Return whether machines for one of them (HYPERVISOR in a template) are those of the other: what differs is by
    whose hand they are made."""
    return _machines_of(wanted) == _machines_of(hypervisor)


def _machines_of(hypervisor: str) -> str:
    rule = rules_of(hypervisor)
    return rule.machines or rule.name or hypervisor
