# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what a node answers to a poll, an audit or a comparison (nebula_deploy's `observed`), before it is believed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...dataclass import replace
from ...errors import InvalidValue
from ..audit import Domain, Inventory
from ..dataclass_json import from_plain, to_plain
from ..move import STAGES
from ..plan import Observed, ObservedVm
from ..transfer import OWN_PREFIX, is_name
from . import admin_commands, answer_bounds
from .host_hardware import ADDRESS, MOST_CPUS, MOST_DEVICES, MOST_NODES

# The states in which nodes see machines.
STATES = frozenset(("RUNNING", "POWEROFF", "SUSPENDED", "UNKNOWN"))
ENDED = frozenset(("", "guest", "unknown"))
# Machines of one host, ours or others'. Ids that a host says are others' are used for none on any host.
MOST_VMS = 10_000
MOST_ID = (1 << 31) - 1
# The most MiB and processors of one host.
MOST_MEMORY = 1 << 32
MOST_CPU = 1 << 20
# Seconds: of all processors of one host, for a century.
MOST_CPU_TIME = 1 << 52
MOST_BYTES = 1 << 53
MOST_PORT = 65535
# As the machine's counters in the catalog.
MOST_NUMBER = (1 << 31) - 1
# An interface may have none yet.
_MAC = re.compile(r"(?:[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5})?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
# In characters, of a file on any file system.
_LONGEST_NAME = 255
_WORD = re.compile(r"[A-Za-z0-9_.-]{0,128}")


def read(host: str, answer: Any) -> Observed:
    """Return the answer of the host that was asked; raise InvalidValue if no node of this version gives it. host: as
    the request has it, whatever the answer says."""
    what = f"host {host}: what it answered when it was looked at"
    answer_bounds.check_size(answer, what)
    if not isinstance(answer, Mapping):
        raise answer_bounds.refusal(what, f"it is a {type(answer).__name__}, and not a dict")
    try:
        found = from_plain(Observed, {**answer, "host": host})
    except InvalidValue as error:
        raise answer_bounds.refusal(what, f"{error.asked}: {error.found}") from None
    _check(found, what)
    return _with_commands_of_ours(found)


def as_unreached(host: str, error: InvalidValue) -> Observed:
    """Return what counts in place of an answer that was refused: the host did not answer, and the error says why."""
    return Observed(host, reached=False, facts={"problem": str(error), "refused": str(error)})


def why_refused(node: Observed) -> str:
    """Return why the node's answer was refused, "" if it was not."""
    return str(node.facts.get("refused") or "") if not node.reached else ""


def as_option(host: str, answer: Any) -> dict[str, Any]:
    """Return the answer under the name by which the host was asked, as modules of the front-end take and read it: of
    any size and form that Ansible can hand on."""
    what = f"host {host}: what it answered when it was looked at"
    try:
        answer_bounds.check_size(answer, what)
        if not isinstance(answer, Mapping):
            raise answer_bounds.refusal(what, f"it is a {type(answer).__name__}, and not a dict")
    except InvalidValue as error:
        return {"host": host, "reached": False, "facts": {"problem": str(error), "refused": str(error)}}
    return {**answer, "host": host}


def _check(node: Observed, what: str) -> None:
    for name, most in (
        ("plan_number", MOST_NUMBER),
        ("done_number", MOST_NUMBER),
        ("memory", MOST_MEMORY),
        ("foreign_memory", MOST_MEMORY),
        ("room", MOST_MEMORY),
        ("disk_room", MOST_MEMORY),
        ("as_of", answer_bounds.LATEST),
        ("cpu", MOST_CPU),
    ):
        answer_bounds.check_number(getattr(node, name) or 0, 0, most, what, name)
    for number in node.ports:
        answer_bounds.check_number(number, 0, MOST_PORT, what, "a port")
    answer_bounds.check_count(node.foreign_ids, MOST_VMS, what, "it has {} machines of others")
    for number in node.foreign_ids:
        answer_bounds.check_number(number, 0, MOST_BYTES, what, "an id")
    _check_texts(node, what)
    _check_machines(node, what)
    if node.inventory is not None:
        _check_inventory(node.inventory, what)
    for name, size in (*node.returns.items(), *node.lengths.items()):
        if not is_name(name):
            raise answer_bounds.refusal(what, "it keeps a file for the front-end under a name that none has")
        answer_bounds.check_number(size, 0, MOST_BYTES, what, "the size of a file")


def _with_commands_of_ours(node: Observed) -> Observed:
    """Return the node's answer, in which an administrator is told no other command than those that end a machine: a
    domain of another name than ours may be in the way of a machine, and is a finding all the same."""
    if node.inventory is None:
        return node
    domains = []
    for domain in node.inventory.domains:
        known: dict[str, Any] = {
            name: text if admin_commands.is_ours(text, domain) else admin_commands.INSTEAD
            for name, text in ((name, getattr(domain, name)) for name in ("turn", "undefine", "forget", "unmark"))
        }
        domains.append(replace(domain, **known))
    return replace(node, inventory=replace(node.inventory, domains=tuple(domains)))


def _check_texts(node: Observed, what: str) -> None:
    words = (node.hypervisor, node.catalog, node.mark, node.plan_proof, node.datastore)
    if not all(map(_WORD.fullmatch, words)):
        raise answer_bounds.refusal(what, "hypervisor, catalog, mark, plan_proof or datastore is not the name of one")
    if not all(_DIGEST.fullmatch(each) for each in node.contents):
        raise answer_bounds.refusal(what, "contents has something that is no SHA-256")
    if not all(is_name(each[len(OWN_PREFIX) :] if each.startswith(OWN_PREFIX) else each) for each in node.images):
        raise answer_bounds.refusal(what, "images has a name that no file of an image has")
    if not all(_WORD.fullmatch(each) for each in node.networks or ()):
        raise answer_bounds.refusal(what, "networks has something that is no UUID")


def _is_plausible(vm: ObservedVm) -> bool:
    """Return whether a node can say so. A site has ten thousand machines, and what is wrong is told apart later."""
    return (
        0 <= vm.vm_id <= MOST_ID
        and 0 <= vm.generation <= MOST_NUMBER
        and 0 <= vm.memory <= MOST_MEMORY
        and 0 <= vm.cpu_time <= MOST_CPU_TIME
        and vm.state in STATES
        and vm.ended in ENDED
        and _WORD.fullmatch(vm.uuid) is not None
    )


def _check_machines(node: Observed, what: str) -> None:
    answer_bounds.check_count(node.vms, MOST_VMS, what, "it has {} machines")
    for vm in node.vms:
        if _is_plausible(vm):
            continue
        answer_bounds.check_number(vm.vm_id, 0, MOST_ID, what, "the id of a machine")
        answer_bounds.check_number(vm.generation, 0, MOST_NUMBER, what, f"the generation of machine {vm.vm_id}")
        answer_bounds.check_number(vm.memory, 0, MOST_MEMORY, what, f"the memory of machine {vm.vm_id}")
        answer_bounds.check_number(vm.cpu_time, 0, MOST_CPU_TIME, what, f"the processor time of machine {vm.vm_id}")
        if vm.state not in STATES:
            raise answer_bounds.refusal(
                what, f"machine {vm.vm_id} is {vm.state[:40]!r}, which is no state of a machine"
            )
        raise answer_bounds.refusal(what, f"what it says of machine {vm.vm_id} is not what a node says")
    answer_bounds.check_count(node.moves, MOST_VMS, what, "it has {} moves of machines")
    for move in node.moves:
        answer_bounds.check_number(move.vm_id, 0, MOST_ID, what, "the id of a machine that moves")
        if move.stage not in STAGES or not _WORD.fullmatch(move.token):
            raise answer_bounds.refusal(what, f"what it says of the move of machine {move.vm_id} is nothing of one")
    for compared in node.compared:
        answer_bounds.check_number(compared.vm_id, 0, MOST_ID, what, "the id of a compared machine")
        answer_bounds.check_number(compared.generation, 0, MOST_NUMBER, what, "the generation of a compared machine")


def _check_own_hardware(domain: Domain, what: str) -> None:
    answer_bounds.check_count(domain.numa_nodes, MOST_NODES, what, "a domain has {} nodes of memory")
    answer_bounds.check_count(domain.host_devices, MOST_DEVICES, what, "a domain has {} devices of its host")
    if not all(ADDRESS.fullmatch(each) for each in domain.host_devices):
        raise answer_bounds.refusal(what, "a domain has a device of its host at no address")
    for node in domain.numa_nodes:
        answer_bounds.check_count(node.cpus, MOST_CPUS, what, "a domain is pinned to {} processors")
        answer_bounds.check_number(node.vcpus, 0, MOST_CPUS, what, "the processors of a domain's node")
        answer_bounds.check_number(node.memory, 0, MOST_MEMORY, what, "the memory of a domain's node")
        answer_bounds.check_number(node.memory_node, -1, MOST_NODES, what, "the node that a domain's memory is of")
        for cpu in node.cpus:
            answer_bounds.check_number(cpu, 0, MOST_CPUS, what, "a processor that a domain is pinned to")
        if node.distances:
            raise answer_bounds.refusal(what, "it tells the distances of a domain's node")


def _check_inventory(inventory: Inventory, what: str) -> None:
    for domain in inventory.domains:
        answer_bounds.check_number(domain.vm_id, 0, MOST_ID, what, "the id in the mark of a domain")
        answer_bounds.check_number(domain.generation, 0, MOST_NUMBER, what, "the generation of a domain")
        answer_bounds.check_number(domain.port, 0, MOST_PORT, what, "the port of a domain's graphics")
        answer_bounds.check_number(domain.hotplug_slots, 0, MOST_NUMBER, what, "the slots of a domain")
        answer_bounds.check_number(domain.hardware_version, 0, MOST_NUMBER, what, "the hardware version of a domain")
        _check_own_hardware(domain, what)
        for number in to_plain(domain.topology).values() if domain.topology is not None else ():
            answer_bounds.check_number(
                number, 1, MOST_NUMBER, what, "a number of a domain's sockets, cores and threads"
            )
        for number in to_plain(domain.growth).values() if domain.growth is not None else ():
            answer_bounds.check_number(number, 0, MOST_MEMORY, what, "how far a domain may grow")
        if domain.state not in STATES or not _WORD.fullmatch(domain.uuid):
            raise answer_bounds.refusal(
                what, f"what it says of a domain of machine {domain.vm_id} is not what a node says"
            )
        if not all(_MAC.fullmatch(mac) for mac in domain.macs):
            raise answer_bounds.refusal(what, f"a domain of machine {domain.vm_id} has a MAC address that is none")
    for directory in inventory.directories:
        # One without a mark has the id -1.
        answer_bounds.check_number(directory.vm_id, -1, MOST_ID, what, "the id in the mark of a directory")
        answer_bounds.check_number(directory.generation, 0, MOST_NUMBER, what, "the generation of a directory")
        if not 0 < len(directory.name) <= _LONGEST_NAME or "/" in directory.name:
            raise answer_bounds.refusal(what, "a directory of a machine has a name that none has")
        if not _WORD.fullmatch(directory.uuid):
            raise answer_bounds.refusal(what, "the mark of a directory has a UUID that is none")
        for file in directory.files:
            answer_bounds.check_number(file.size, 0, MOST_BYTES, what, "the size of a file")
            answer_bounds.check_number(file.virtual_size, 0, MOST_BYTES, what, "the size of a disk")
    for count in inventory.rules.values():
        answer_bounds.check_number(count, 0, MOST_BYTES, what, "a number of rules")


def as_silent(node: Observed, why: str) -> Observed:
    """Return the node as a host that did not answer, whose machines' ids nobody else gets all the same."""
    ids = tuple(sorted({*node.foreign_ids, *(vm.vm_id for vm in node.vms)}))
    return replace(as_unreached(node.host, InvalidValue(f"host {node.host}", why)), foreign_ids=ids)
