# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads TOPOLOGY: in how many sockets, cores and threads a guest sees its virtual processors."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import InvalidValue
from .. import hypervisor_rules
from ..template import Template
from ..vm import Growth, Topology
from ..whole_numbers import whole
from .capacity import vcpu_of
from .former_machine import FormerMachine
from .template_values import read_whole

ATTRIBUTE = "TOPOLOGY"
_KEYS = ("SOCKETS", "CORES", "THREADS")
# Sockets that each desktop edition of Windows but Home uses, whatever the machine has.
WINDOWS_SOCKETS = 2


def topology_of(
    template: Template,
    hypervisor: str,
    windows: bool,
    where: str,
    former: FormerMachine | None = None,
    growth: Growth | None = None,
) -> Topology | None:
    """Return the machine's topology, None where each of its processors is a socket.
    windows: whether its guest is a Windows.
    former: what a machine has that is there; it keeps that until its TOPOLOGY or number of processors changes.
    growth: how far it may grow: its topology has room for all processors that it may come to.

    Windows' desktop editions use two sockets at most, with any number of cores: theirs are cores of one socket."""
    if not hypervisor_rules.rules_of(hypervisor).topology:
        return None
    if former is not None and _numbers(former.topology_template, former.growth) == _numbers(template, growth):
        return former.topology
    vcpu = max(vcpu_of(template, where) or 1, growth.vcpu if growth else 0)
    if _is_stated(template):
        return _read_topology(template.vector(ATTRIBUTE), vcpu, f"{where}: {ATTRIBUTE}")
    if former is None:
        return Topology(1, vcpu, 1) if windows else None
    if former.topology is None:
        return None
    # One that it was given by default goes with it; one that its list said is not said any more.
    return Topology(1, vcpu, 1) if windows or not _is_stated(former.topology_template) else None


def check_topology(template: Template, where: str) -> None:
    """Raise InvalidValue for a TOPOLOGY that does not come to VCPU, or to VCPU_MAX where that is given."""
    if _is_stated(template):
        most = max(vcpu_of(template, where) or 1, whole(template.get("VCPU_MAX").strip()) or 0)
        _read_topology(template.vector(ATTRIBUTE), most, f"{where}: {ATTRIBUTE}")


def refuse_in_template(template: Template, before: Template | None, where: str) -> None:
    """Raise InvalidValue for a template that says so anew. before: the stored template, None if there is none."""
    if before is None or _stated_numbers(before) != _stated_numbers(template):
        check_topology(template, where)


def warn_of_topology(template: Template, where: str) -> list[str]:
    """Return a warning for what a template says and no new machine can have."""
    try:
        check_topology(template, where)
    except InvalidValue as error:
        return [f"{error.asked[len(where) + 2 :]}: {error.found}. {error.remedy}"]
    return []


def doubt_of_machine(hypervisor: str, vcpu: int | None, has: bool, template: Template, windows: bool) -> str | None:
    """Return a warning for a machine that has another TOPOLOGY than a new one would. has: whether it has any."""
    if not hypervisor_rules.rules_of(hypervisor).topology or has:
        return None
    if _is_stated(template):
        return (
            f"{ATTRIBUTE} does not act on it: it was made before that did. Power it off, leave {ATTRIBUTE} out for one "
            "run, and give it again in the next; or set recreate: true"
        )
    number = vcpu or 1
    if not windows or number <= WINDOWS_SOCKETS:
        return None
    return (
        f"its {number} processors are {number} sockets, of which Windows' desktop editions use {WINDOWS_SOCKETS}. "
        f"{ATTRIBUTE} = [ SOCKETS = 1, CORES = {number}, THREADS = 1 ] in its template makes them cores of one when "
        "it is powered off; new machines have that by themselves"
    )


def topology_differs(before: Template, after: Template, growth: Growth | None) -> bool:
    """Return whether two templates say another number of processors, or another TOPOLOGY, of a machine that may grow so
    far."""
    return _numbers(before, growth) != _numbers(after, growth)


def _is_stated(template: Template) -> bool:
    return any(template.vector(ATTRIBUTE).get(key, "").strip() for key in _KEYS)


def _stated_numbers(template: Template) -> tuple[str, ...]:
    vector, most = template.vector(ATTRIBUTE), template.get("VCPU_MAX").strip()
    return (most, template.get("VCPU").strip() or "1", *(vector.get(key, "").strip() for key in _KEYS))


def _numbers(template: Template, growth: Growth | None) -> tuple[str, ...]:
    """Return the number of processors that topologies are made of, and what the template says of them."""
    _most, vcpu, *stated = _stated_numbers(template)
    return (str(growth.vcpu) if growth and growth.vcpu else vcpu, *stated)


def _read_topology(vector: Mapping[str, str], vcpu: int, where: str) -> Topology:
    """Return what the vector says, or VCPU where it is silent; raise InvalidValue if they contradict each other."""
    given = {
        key: read_whole(vector[key], f"{where}/{key}", "Give a whole number, at least 1", lowest=1)
        for key in _KEYS
        if vector.get(key, "").strip()
    }
    threads = given.get("THREADS", 1)
    sockets = given.get("SOCKETS", 0 if "CORES" in given else 1)
    cores = given.get("CORES", vcpu // (sockets * threads) if sockets else 1)
    sockets = sockets or vcpu // (cores * threads)
    if sockets * cores * threads != vcpu:
        shown = ", ".join(f"{key} = {value}" for key, value in given.items())
        raise InvalidValue(
            f"{where} = [ {shown} ]",
            f"{sockets} sockets with {cores} cores of {threads} threads are {sockets * cores * threads} processors, "
            f"and VCPU, or VCPU_MAX where it is given, is {vcpu}",
            "Make SOCKETS * CORES * THREADS equal to it, or leave one of them out",
        )
    return Topology(sockets, cores, threads)
