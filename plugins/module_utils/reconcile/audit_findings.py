# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares catalog and nodes, and says what to do about each difference. No I/O."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from shlex import quote
from typing import Any

from ..dataclass import replace
from ..errors import NebulaError
from ..model import shared_datastores, vlan_trunks
from ..model.answers import admin_commands
from ..model.audit import Bridge, Domain, Inventory, Ledger, LedgerVm, SwitchBridge, VmDirectory, VmFile
from ..model.audit_finding import DIFFERENCE, UNFINISHED, Finding
from ..model.dataclass_json import to_plain
from ..model.datastore import SYSTEM
from ..model.disk import IMAGES, TAR, Disk
from ..model.image_operations import returning_host
from ..model.installation_marks import MARK, starts_with_host
from ..model.move import COMING, OVER
from ..model.network import Network
from ..model.network_drivers import OVSWITCH, WITH_BRIDGE
from ..model.object_ids import FIRST_CONTAINER
from ..model.plan import Observed
from ..model.states import FAILURES
from ..model.transfer import OWN_PREFIX, is_outdated, name_of
from ..model.uplink import uplink as uplink_of
from ..model.whole_numbers import id_in
from ..network import bridge_sysctls, nic_filter, router_advertisements
from ..network.desired_bridge import Wanted, merge_by_bridge
from ..network.openvswitch_state import SwitchPort, port_of

MIB = 1024 * 1024
SITE = "Run playbook nebula.provision.site again"
INSTALL = "Run nebula.provision.install_os again: it goes on from there, or says why it can't"
RESTART = "Power the machine off and start it again (state: poweroff, then running)"
REMAKE = f"Put it back from a backup; or give up what the guest has written: remove what is there of it. {RESTART}"
# What a machine's directory may hold beside its disks.
KEPT = ("vm.json", "vm.log", "console.log", "checkpoint")
_KEPT_PREFIXES = ("deployment.", "console.log.", "vm.log.")
_FAILED = {state.name for state in FAILURES}
_LIKE_ANOTHER = (
    f"Its name or UUID is that of another machine of the catalog: {admin_commands.INSTEAD}, and end nothing by its name"
)
# Patterns in a command: what removes something, and a machine that it names by id, UUID or container.
_ENDS = re.compile(r"\b(?:destroy|undefine|shutdown|stop|rm|delete|del-br|kill)\b")
_OF_MACHINE = re.compile(rf"\bone-(\d{{1,9}})\b|/datastores/{SYSTEM}/(\d{{1,9}})(?!\d)")
_UUID = re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b")
_OF_CONTAINER = re.compile(r"\bvzctl \S+ (\d{1,10})\b")


def compare(ledger: Ledger, observed: Sequence[Observed], unproved: Collection[str] = ()) -> list[Finding]:
    """Return all differences, first those of the catalog in itself. Of a machine that is not settled nothing else is
    said, as all about it may be on its way. unproved: hosts that name a plan without showing that they were given
    it."""
    found = list(ledger.findings)
    if ledger.damaged:
        return found
    found += _hosts(ledger, observed)
    found += _datastores(ledger, observed)
    users = _users_of_directories(ledger, observed)
    for node in observed:
        if not node.reached:
            why = node.facts.get("problem")
            remedy = "See why Ansible can't reach it, or why its task failed, then run the audit again"
            found_out = "it gave no answer" + (f" ({why})" if why else "")
            found.append(Finding("host-silent", node.host, "this host", found_out, remedy))
        elif node.inventory is None:
            remedy = "Give nebula_info what nebula_deploy with state: audited answered"
            found.append(Finding("host-unseen", node.host, "this host", "it was polled, and not audited", remedy))
        else:
            found += _node(ledger, node, node.inventory, users, node.host in unproved)
    return [_without_harm(ledger, finding) for finding in found]


def _remedy_elsewhere(vm: LedgerVm) -> str:
    """Return what to do about traces on a host of a machine that the catalog has under another host."""
    return (
        f"It is left alone: the catalog has {_vm_text(vm)} on host {vm.host or '(none)'}, and this may be that very "
        f"machine. If both names are of one host, take one of them out of the inventory. Else look at it on host "
        f"{vm.host or '(none)'} first, and end nothing here as long as it is not known which of both is in use"
    )


def _without_harm(ledger: Ledger, finding: Finding) -> Finding:
    """Return the finding without a command that could end a machine which the catalog has under another host: the
    names, paths and commands are those that the host of the finding tells."""
    if not finding.host or not _ENDS.search(finding.remedy):
        return finding
    numbers = {int(number) for found in _OF_MACHINE.findall(finding.remedy) for number in found if number}
    numbers |= {int(number) - FIRST_CONTAINER for number in _OF_CONTAINER.findall(finding.remedy)}
    uuids = set(_UUID.findall(finding.remedy.lower()))
    named = [*map(ledger.vm, sorted(numbers)), *map(ledger.by_uuid.get, sorted(uuids))]
    elsewhere = [vm for vm in named if vm is not None and vm.host != finding.host]
    return replace(finding, remedy=_remedy_elsewhere(elsewhere[0])) if elsewhere else finding


def doubts(ledger: Ledger, observed: Sequence[Observed]) -> list[str]:
    """Return what looks wrong and is no difference, as it is not for this collection to decide."""
    return [str(each) for each in ledger.held] + [
        f"host {node.host}: {text}"
        for node in observed
        for bridge in (node.inventory.others if node.inventory is not None else ())
        for network in ledger.networks
        if network.vn_mad not in WITH_BRIDGE and network.bridge == bridge.name
        for text in bridge_sysctls.doubts(network.name, bridge.name, bridge.settings)
    ]


def finding_view(finding: Finding) -> dict[str, Any]:
    return {**to_plain(finding), "sentence": str(finding)}


def _hosts(ledger: Ledger, observed: Sequence[Observed]) -> Iterator[Finding]:
    asked = {node.host for node in observed}
    for name in ledger.hosts:
        if name not in asked:
            machines = [vm.vm.name for vm in ledger.vms_on(name)]
            holds = f"; it has {', '.join(machines[:5])}{' …' if len(machines) > 5 else ''}" if machines else ""
            remedy = (
                "Put it into group nebula_nodes, or into --limit; if it has another name by now, set "
                "nebula_renamed_from there; if it is gone for good, nebula.provision.forget_host"
            )
            yield Finding("host-unknown", name, "this host", f"it was not asked{holds}", remedy)
    for name in sorted(asked - set(ledger.hosts)) if ledger.begun else ():
        yield Finding("host-unknown", name, "this host", "the catalog does not have it", SITE)


def _datastores(ledger: Ledger, observed: Sequence[Observed]) -> Iterator[Finding]:
    shown = {node.host: node.datastore for node in observed if node.reached}
    for host, found in shared_datastores.faults(ledger.datastores, ledger.catalog, shown).items():
        remedy = shared_datastores.remedy_for(ledger.datastores, host)
        yield Finding("datastore-mark", host, "this host", f"it {found}", remedy)
    for host, name in shared_datastores.strangers(ledger.datastores, shown).items():
        found = f"it is shared datastore {name}, and this host is none of its hosts"
        remedy = f"Add it to the hosts of {name} (nebula_datastores), or unmount that datastore here"
        yield Finding("datastore-mark", host, "its system datastore", found, remedy)


def _users_of_directories(ledger: Ledger, observed: Sequence[Observed]) -> dict[int, list[str]]:
    """Return the hosts that have a domain of a machine of this catalog, by the machine's id. What one host has for left
    over may be what another one runs, where both see the same directory."""
    found: dict[int, list[str]] = {}
    for node in observed:
        for domain in node.inventory.domains if node.reached and node.inventory is not None else ():
            if domain.catalog == ledger.catalog:
                found.setdefault(domain.vm_id, []).append(node.host)
    return found


def _node(
    ledger: Ledger, node: Observed, seen: Inventory, users: Mapping[int, Sequence[str]], unproved: bool
) -> Iterator[Finding]:
    host = node.host
    for path in seen.left:
        remedy = f"If no run is at it, remove it: rm {quote(path)}"
        yield Finding("file-left", host, f"file {path}", "a run that was killed had not given it its name", remedy)
    for text in seen.unseen:
        yield Finding("host-unseen", host, "what is on this host", text, "Mend that, then run the audit again")
    if node.catalog and node.catalog != ledger.catalog:
        found = f"it follows catalog {node.catalog}, and this is catalog {ledger.catalog}"
        remedy = "Use that catalog's front-end, or tear its machines down there first"
        yield Finding("host-catalog", host, "nebula.node", found, remedy)
    elif unproved:
        found = f"it names plan {node.plan_number}, which it was not given: the catalog's newest is {ledger.plan}"
        remedy = "See who has changed this file, or what answers on this host. The catalog is no older copy for that"
        yield Finding("host-catalog", host, "nebula.node", found, remedy)
    elif node.plan_number > ledger.plan:
        found = f"it has followed plan {node.plan_number}, and the catalog's newest is {ledger.plan}: an older copy"
        remedy = "Restore the newest copy of nebula.db: nebula.provision.restore"
        yield Finding("host-catalog", host, "nebula.node", found, remedy)
    seen, left = _without_moves(ledger, node, seen)
    for vm in left:
        found = f"what was here of it is still there, and it is on host {vm.host or '(none)'} by now"
        yield Finding("machine-unfinished", host, _vm_text(vm), found, f"{SITE}: it is cleared away", UNFINISHED)
    here: dict[int, Domain] = {}
    yield from _domains(ledger, host, seen, here)
    yield from _directories(ledger, node, seen, users, here)
    yield from _detached_nics(ledger, host, seen)
    yield from _filters(ledger, host, seen)
    yield from _networks(ledger, host, seen)
    yield from _image_files(ledger, node)


def _without_moves(ledger: Ledger, node: Observed, seen: Inventory) -> tuple[Inventory, list[LedgerVm]]:
    """Return what is on the node without what moves of machines bring there or have left there, and the machines that
    have left something."""
    coming = ledger.coming_to(node.host)
    # Of a move that has come to its end the host has nothing but the note.
    kept = {each.vm_id: each.stage for each in node.moves if each.stage not in OVER and each.vm_id not in coming}
    # What still runs here is cleared away by nobody, and may be in use on both hosts.
    for domain in seen.domains:
        still = ("POWEROFF", "UNKNOWN", "SUSPENDED") if kept.get(domain.vm_id) == COMING else ("POWEROFF",)
        if domain.catalog == ledger.catalog and domain.state not in still:
            kept.pop(domain.vm_id, None)
    known = {vm_id: ledger.vm(vm_id) for vm_id in kept}
    elsewhere = {vm_id: vm for vm_id, vm in known.items() if vm is not None and vm.host != node.host}
    if not coming and not elsewhere:
        return seen, []
    passed = {*coming, *elsewhere}

    # A directory is there before its mark is.
    unmarked = {str(vm_id) for vm_id in coming}

    def is_passed(found: Domain | VmDirectory) -> bool:
        if isinstance(found, VmDirectory) and not found.catalog:
            return found.name in unmarked
        return found.catalog == ledger.catalog and found.vm_id in passed

    there = {each.vm_id for each in filter(is_passed, seen.domains)}
    there |= {each.vm_id for each in filter(is_passed, seen.directories)}
    domains = tuple(each for each in seen.domains if not is_passed(each))
    directories = tuple(each for each in seen.directories if not is_passed(each))
    left = [vm for vm_id, vm in elsewhere.items() if vm_id in there]
    return replace(seen, domains=domains, directories=directories), left


# -- domains -------------------------------------------------------------------------------------------------------
def _domains(ledger: Ledger, host: str, seen: Inventory, here: dict[int, Domain]) -> Iterator[Finding]:
    """Yield what is wrong with domains. here: gets the domain of each machine that is to be on this host."""
    own = _own_domains(ledger, host, seen)
    for domain in seen.domains:
        what = f"domain {domain.name}"
        if domain.catalog != ledger.catalog:
            # Another front-end may have its machines on the same host, below a root of its own.
            if not domain.directory.startswith(f"{seen.place}/"):
                continue
            found = f"it belongs to machine {domain.vm_id} of catalog {domain.catalog}"
            remedy = "It is left alone; use that catalog's front-end, or undefine it if nobody needs it"
            yield Finding("domain-foreign", host, what, found, remedy)
            continue
        vm = ledger.vm(domain.vm_id)
        original = own.get(domain.vm_id)
        if vm is not None and original is not None and domain is not original:
            yield _copied_domain(ledger, vm, domain, original)
        elif vm is None or vm.host != host or (vm.vm.uuid != domain.uuid and vm.settled):
            remedy = f"See that nothing of it is needed, then: {domain.forget}"
            if vm is not None and vm.host != host:
                remedy = _remedy_elsewhere(vm)
            elif (another := _machine_hit_too(ledger, domain)) is not None:
                remedy = _remedy_elsewhere(another) if another.host != host else _LIKE_ANOTHER
            elif vm is None and domain.vm_id not in ledger.ended:
                remedy = f"nebula_adopt_unknown takes it over as a machine of the list. Or s{remedy[1:]}"
            yield Finding("domain-left", host, what, _why_left(ledger, domain, vm, host), remedy)
        else:
            here[domain.vm_id] = domain
    for vm in _settled_machines(ledger, host):
        found_here = here.get(vm.vm.vm_id)
        if found_here is not None:
            yield from _domain(vm, found_here)
        elif vm.state not in _FAILED:
            found = f"it is {vm.state} in the catalog, and its hypervisor has no domain of it"
            remedy = _remedy_of_run(vm, "it is defined and started again from its disks")
            yield Finding("domain-missing", host, _vm_text(vm), found, remedy)


def _own_domains(ledger: Ledger, host: str, seen: Inventory) -> dict[int, Domain]:
    """Return by id the own domain of each machine that the catalog has on this host, if several domains carry its
    mark: the domain with its UUID and name, else with one of both."""
    found: dict[int, Domain] = {}
    with_mark: dict[int, list[Domain]] = {}
    for domain in seen.domains:
        if domain.catalog == ledger.catalog:
            with_mark.setdefault(domain.vm_id, []).append(domain)
    for vm in ledger.vms_on(host):
        number = vm.vm.vm_id
        marked = with_mark.get(number, [])
        if len(marked) < 2:
            continue
        is_its = {id(each): (each.uuid == vm.vm.uuid, each.name == f"one-{number}") for each in marked}
        best = max(marked, key=lambda each: is_its[id(each)])
        if any(is_its[id(best)]):
            found[number] = best
    return found


def _copied_domain(ledger: Ledger, vm: LedgerVm, domain: Domain, original: Domain) -> Finding:
    """Return the finding for a domain that somebody copied from a machine's own, with its mark in it."""
    shared = sorted({*domain.disks} & {*original.disks})
    found = (
        f"it carries the mark of {_vm_text(vm)}, and is {domain.state}: it is a copy, as the machine's own domain is "
        f"{original.name} ({original.uuid})"
    )
    if shared:
        found += f"; it uses {shared[0]} as well" + (f", and {len(shared) - 1} more" if len(shared) > 1 else "")
    removal = f"remove it, which leaves its disks: {domain.undefine or admin_commands.INSTEAD}"
    if _machine_hit_too(ledger, domain) is not None or (domain.uuid, domain.name) == (original.uuid, original.name):
        removal = f"remove it: {admin_commands.INSTEAD}, and end nothing by its name"
    unmark = f" ({domain.unmark})" if domain.unmark and domain.unmark != admin_commands.INSTEAD else ""
    remedy = (
        "Nothing was changed, and the machine is managed as before. To keep the copy as a machine of your own, take "
        f"the mark of nebula.provision out of its definition{unmark}. Else {removal}"
    )
    return Finding("domain-copied", vm.host, f"domain {domain.name}", found, remedy)


def _machine_hit_too(ledger: Ledger, domain: Domain) -> LedgerVm | None:
    """Return another machine of the catalog than that of the domain's mark, which a command could hit as well."""
    named = re.fullmatch(r"one-(0|[1-9][0-9]{0,17})", domain.name)
    found = (ledger.vm(int(named[1])) if named else None, ledger.by_uuid.get(domain.uuid.lower()))
    return next((vm for vm in found if vm is not None and vm.vm.vm_id != domain.vm_id), None)


def _why_left(ledger: Ledger, domain: Domain, vm: LedgerVm | None, host: str) -> str:
    if vm is not None and vm.host != host:
        found = f"it is of machine {domain.vm_id} ({vm.vm.name}), which the catalog has on host {vm.host or '(none)'}"
        return found + (", and it runs here" if domain.state == "RUNNING" else "")
    if vm is not None:
        return f"it has the UUID {domain.uuid}, and machine {domain.vm_id} ({vm.vm.name}) has {vm.vm.uuid}"
    if domain.vm_id in ledger.ended:
        return f"it is of machine {domain.vm_id}, which has ended (DONE)"
    return f"it is of machine {domain.vm_id}, of which the catalog has never heard"


def _settled_machines(ledger: Ledger, host: str) -> Iterator[LedgerVm]:
    return (vm for vm in ledger.vms_on(host) if vm.settled)


def _domain(vm: LedgerVm, domain: Domain) -> Iterator[Finding]:
    state = domain.state
    # To its hypervisor a saved machine has ended; a frozen machine has not.
    wanted = "POWEROFF" if vm.wanted == "SUSPENDED" and state != "SUSPENDED" else vm.wanted
    if state != wanted and vm.state not in _FAILED:
        found = f"it is {state}, and was left {vm.wanted}"
        remedy = _remedy_of_run(vm, "it is brought to the state that your list wants")
        yield Finding("machine-state", vm.host, _vm_text(vm), found, remedy, UNFINISHED)
    yield from (
        Finding("domain-differs", vm.host, f"{_vm_text(vm)}, domain {domain.name}", found, remedy)
        for found, remedy in _domain_differences(vm, domain)
    )


def _remedy_of_run(vm: LedgerVm, then: str) -> str:
    """Return which run mends it: no list of machines has a machine that is being installed."""
    return INSTALL if MARK in vm.vm.attributes else f"{SITE}: {then}"


def _redefine(domain: Domain) -> str:
    if not domain.undefine:
        return (
            "Its definition can't be removed without the state of its TPM, as this host's libvirt is older than 8.9. "
            "Bring a newer libvirt, then run playbook nebula.provision.audit again"
        )
    return f"{domain.undefine}; then run playbook nebula.provision.site: it is defined and started again from its disks"


def _domain_differences(vm: LedgerVm, domain: Domain) -> Iterator[tuple[str, str]]:
    redefine = _redefine(domain)
    if not domain.persistent:
        yield "it is not defined: it would vanish with its end", RESTART
    elif domain.autostart != starts_with_host(vm.vm, vm.wanted):
        found = "starts with its host" if domain.autostart else "does not start with its host"
        yield f"it {found}, and was left {vm.wanted}", domain.turn
    graphics = vm.vm.graphics
    if graphics is not None and graphics.port and domain.port != graphics.port:
        yield f"its graphics are on port {domain.port or '(none)'}, and its own is {graphics.port}", redefine
    for nic in vm.vm.nics:
        if nic.mac not in [mac.lower() for mac in domain.macs]:
            yield f"it has no interface with the MAC address {nic.mac} of NIC {nic.nic_id}", redefine


# -- directories and disks -----------------------------------------------------------------------------------------
def _directories(
    ledger: Ledger, node: Observed, seen: Inventory, users: Mapping[int, Sequence[str]], here: Mapping[int, Domain]
) -> Iterator[Finding]:
    host = node.host
    by_name = {directory.name: directory for directory in seen.directories}
    expected = {str(vm.vm.vm_id): vm for vm in ledger.vms_on(host)}
    for name, directory in by_name.items():
        vm = expected.get(name)
        if vm is None and _is_of_sharer(ledger, host, directory):
            continue
        if vm is None:
            yield from _stray(ledger, node, directory, users)
        elif vm.settled:
            yield from _directory(vm, directory, here.get(vm.vm.vm_id))
    for name, vm in expected.items():
        if name not in by_name and vm.settled and vm.state not in _FAILED:
            found = "its directory is not there, and none of its disks"
            yield Finding("directory-missing", host, _vm_text(vm), found, REMAKE)


def _is_of_sharer(ledger: Ledger, host: str, directory: VmDirectory) -> bool:
    """Return whether a directory is of a machine that another host has, with which this one shares the datastore."""
    vm = ledger.vm(directory.vm_id) if directory.catalog == ledger.catalog else None
    if vm is None or directory.name != str(directory.vm_id) or directory.uuid != vm.vm.uuid:
        return False
    return shared_datastores.is_common(ledger.datastores, host, vm.host)


def _stray(
    ledger: Ledger, node: Observed, directory: VmDirectory, users: Mapping[int, Sequence[str]]
) -> Iterator[Finding]:
    host, what = node.host, f"directory {directory.path}"
    remedy = _removal_of(ledger, node, directory, users)
    number = id_in(directory.name)
    # Under another name, too, it may hold the machine's disks.
    marked = ledger.vm(directory.vm_id) if directory.catalog == ledger.catalog else None
    if not directory.catalog and directory.files:
        found = "it holds files, and no mark (vm.json) of this collection that can be read"
        remedy = "It is left alone; move it away if a machine is to be made with that id"
    elif directory.catalog and directory.catalog != ledger.catalog:
        found = f"it belongs to machine {directory.vm_id} of catalog {directory.catalog}"
        remedy = "It is left alone; use that catalog's front-end, or move it away"
    elif marked is not None and marked.host != host and directory.name != str(directory.vm_id):
        found = f"its mark is of {_vm_text(marked)}, which the catalog has on host {marked.host or '(none)'}"
        remedy = _remedy_elsewhere(marked)
    elif number is None:
        found = "no machine's directory has such a name"
    elif number in ledger.ended:
        found = f"machine {directory.name} has ended (DONE)"
    else:
        vm = ledger.vm(number)
        where = f"is on host {vm.host}" if vm is not None else "is not in the catalog"
        remedy = _remedy_elsewhere(vm) if vm is not None else remedy
        found = f"machine {directory.name} {where}"
    yield Finding("directory-left", host, what, found, remedy)


def _removal_of(ledger: Ledger, node: Observed, directory: VmDirectory, users: Mapping[int, Sequence[str]]) -> str:
    """Return what to do about a directory of no machine of this host. It may be another host's as well."""
    numbers = {directory.vm_id} if directory.catalog == ledger.catalog else set()
    named = id_in(directory.name)
    numbers |= {named} if named is not None else set()
    others = sorted({host for number in numbers for host in users.get(number, ())} - {node.host})
    if others:
        return (
            f"It is left alone: host {', '.join(others)} has a domain of it, and may run it from this very directory. "
            "Mend what the audit finds there first"
        )
    # Its own host shows by itself whether it runs it.
    given_up = sorted({ledger.given_up[number] for number in numbers & ledger.given_up.keys()} - {node.host})
    if given_up:
        return (
            f"It is left alone: it was given up with host {', '.join(given_up)}, which may run it from this very "
            "directory. Once that host is gone for good, say so (nebula.provision.forget_host, nebula_lost_host_gone: "
            "true); then run the audit again"
        )
    shared = next((each for each in ledger.datastores if each.mark and each.mark == node.datastore), None)
    if shared is None:
        return f"See that nothing in it is needed, then: rm -r {quote(directory.path)}"
    return (
        f"Other hosts see it as well (shared datastore {shared.name}; hosts {', '.join(shared.hosts)}, and whoever has "
        "it mounted besides). See that none of them runs a machine from it (virsh list --all, xl list), and that "
        f"nothing in it is needed, then: rm -r {quote(directory.path)}"
    )


def _directory(vm: LedgerVm, directory: VmDirectory, domain: Domain | None) -> Iterator[Finding]:
    what = f"{_vm_text(vm)}, directory {directory.path}"
    if not directory.catalog:
        remedy = f"Put vm.json back from a backup; or, without its disks: move the directory away. {RESTART}"
        yield Finding("directory-mark", vm.host, what, "it has no mark (vm.json) that can be read", remedy)
    elif (directory.vm_id, directory.uuid) != (vm.vm.vm_id, vm.vm.uuid):
        found = f"its mark is of machine {directory.vm_id} ({directory.uuid}) of catalog {directory.catalog}"
        remedy = f"Put the right directory there; or, without its disks: move this one away. {RESTART}"
        yield Finding("directory-mark", vm.host, what, found, remedy)
        return
    files = {file.name: file for file in directory.files}
    if vm.state not in _FAILED:
        if not vm.awaits:
            yield from _disks(vm, directory, files, domain)
        yield from _checkpoint(vm, directory, files, domain)
    disks = {f"disk.{disk_id}" for disk_id in (*(disk.disk_id for disk in vm.vm.disks), *vm.detached)}
    # What a container has changed of its image.
    disks |= {f"disk.{disk.disk_id}.layers" for disk in vm.vm.disks if disk.format == TAR}
    if vm.vm.context is not None:
        disks.add(f"disk.{vm.vm.context.disk_id}")
    if any(disk.by_hypervisor for disk in vm.vm.disks):
        disks.add(IMAGES)
    for name in sorted(set(files) - disks - set(KEPT)):
        if name.startswith(_KEPT_PREFIXES) or name.endswith("_VARS.fd"):
            continue
        yield Finding(
            "file-left",
            vm.host,
            f"{_vm_text(vm)}, file {directory.path}/{name}",
            "what a run that was killed had made of it" if name.startswith(".") else "it is none of the machine's",
            f"See that it is not needed, then: rm -r {quote(f'{directory.path}/{name}')}",
        )


def _disks(
    vm: LedgerVm, directory: VmDirectory, files: Mapping[str, VmFile], domain: Domain | None
) -> Iterator[Finding]:
    for disk in vm.vm.disks:
        what = f"{_vm_text(vm)}, disk {disk.disk_id}"
        path = f"{directory.path}/disk.{disk.disk_id}"
        file = files.get(f"disk.{disk.disk_id}")
        if disk.by_hypervisor:
            # The hypervisor keeps it in no file that is looked at.
            continue
        if file is None:
            yield Finding("disk-missing", vm.host, what, f"its file {path} is not there", REMAKE)
            continue
        differences = list(_disk(disk, file))
        for found in differences:
            yield Finding("disk-differs", vm.host, what, f"its file {path} {found}", REMAKE)
        used = file.target if file.kind == "link" else path
        if domain is not None and not differences and used not in domain.disks:
            yield Finding("domain-differs", vm.host, what, f"its domain does not use {used}", _redefine(domain))
    if vm.vm.context is not None and f"disk.{vm.vm.context.disk_id}" not in files:
        found = f"its context ISO {directory.path}/disk.{vm.vm.context.disk_id} is not there"
        yield Finding("disk-missing", vm.host, _vm_text(vm), found, f"{RESTART}: it is made anew")


def _disk(disk: Disk, file: VmFile) -> Iterator[str]:
    if disk.source and not disk.clone:
        if file.kind != "link":
            yield f"is a {file.kind}, not a link to image {disk.image}"
        elif file.lost:
            yield f"leads to {file.target}, which is not there"
        elif not _is_image(file.target, disk):
            yield f"leads to {file.target}, and image {disk.image} is {disk.source}"
        return
    if disk.format == TAR:
        if file.kind != "directory":
            yield f"is a {file.kind}, and is to be the directory of a root file system"
        return
    if file.kind != "file":
        yield f"is a {file.kind}"
        return
    size = disk.size * MIB
    if disk.driver != "qcow2":
        if file.size < size or (file.size != size and not disk.source):
            yield f"has {file.size} bytes, and is to have {size}"
        return
    if not file.virtual_size:
        yield "is no qcow2 file"
    elif file.virtual_size < size:
        yield f"has {file.virtual_size} bytes, and is to have {size}"
    elif (not disk.source or disk.luks_secret) and file.backing:
        yield f"rests on {file.backing}, and is to rest on nothing"
    elif disk.source and not disk.luks_secret and not _is_image(file.backing, disk):
        yield f"rests on {file.backing or 'nothing'}, and image {disk.image} is {disk.source}"
    elif file.lost:
        yield f"rests on {file.backing}, which is not there"


def _is_image(path: str, disk: Disk) -> bool:
    """Return whether the path is the file of the disk's image: the front-end's own, or the node's copy of it."""
    name = path.rpartition("/")[2]
    copy = name_of(disk.image_uuid, disk.generation)
    return name in (disk.source.rpartition("/")[2], copy, OWN_PREFIX + copy)


# -- what machines wrote, where the front-end has to fetch it --------------------------------------------------------
def _image_files(ledger: Ledger, node: Observed) -> Iterator[Finding]:
    """Yield files of persistent images that machines wrote, and that are in no machine's directory by now."""
    images = {image.uuid: image for image in ledger.images}
    generations = {uuid: image.generation for uuid, image in images.items()}
    busy = not all(vm.settled for vm in ledger.vms_on(node.host))
    for local in (*node.returns, *(name for name in node.images if name.startswith(OWN_PREFIX))):
        name = local.removeprefix(OWN_PREFIX)
        image = images.get(name.rpartition("-")[0])
        what = f"file {'cache' if local != name else 'transfer/out'}/{local} below nebula_root"
        user = ledger.writers.get(name) if local != name else None
        if busy or (user is not None and user.host == node.host):
            continue
        awaited = returning_host(image.operation) if image is not None else ""
        if user is not None:
            found = f"{_vm_text(user)} writes to it, which the catalog has on host {user.host or '(none)'}"
            yield Finding("file-left", node.host, what, found, _remedy_elsewhere(user))
            continue
        if image is None:
            remedy = "See that nobody needs what is in it, then remove it there"
            yield Finding("file-left", node.host, what, "it is of an image that the catalog does not have", remedy)
        elif is_outdated(name, generations):
            found = f"it is an old state of image {image.name}, which is on the front-end again"
            remedy = f"{SITE}: it is removed; if it stays, remove it there"
            yield Finding("file-left", node.host, what, found, remedy, UNFINISHED)
        elif awaited and awaited != node.host:
            found = f"what a machine wrote to image {image.name}, which is awaited from host {awaited}"
            remedy = f"It is left alone: see whether host {awaited} is this host under another name"
            yield Finding("file-left", node.host, what, found, remedy)
        elif awaited != node.host:
            found = f"what a machine wrote to image {image.name}, and nothing waits for it"
            remedy = "See that nobody needs what is in it, then remove it there"
            yield Finding("file-left", node.host, what, found, remedy)


def _checkpoint(
    vm: LedgerVm, directory: VmDirectory, files: Mapping[str, VmFile], domain: Domain | None
) -> Iterator[Finding]:
    there, frozen = "checkpoint" in files, domain is not None and domain.state == "SUSPENDED"
    if vm.state == "SUSPENDED" and not there and not frozen:
        found = f"it is SUSPENDED, and its memory {directory.path}/checkpoint is not there"
        remedy = (
            "Run playbook nebula.provision.site with state: poweroff and hard: true for it, which gives its memory up, "
            "then start it"
        )
        yield Finding("checkpoint", vm.host, _vm_text(vm), found, remedy)
    # If its host was not heard since it was suspended, nothing is known about it.
    elif there and vm.wanted != "SUSPENDED" and vm.state not in ("SUSPENDED", "UNKNOWN"):
        found = f"it is {vm.state}, and there is saved memory of it in {directory.path}/checkpoint"
        remedy = f"It is older than the disks: rm {quote(f'{directory.path}/checkpoint')}"
        yield Finding("checkpoint", vm.host, _vm_text(vm), found, remedy)


# -- networks ------------------------------------------------------------------------------------------------------
def _networks(ledger: Ledger, host: str, seen: Inventory) -> Iterator[Finding]:
    wanted: list[tuple[Network, Wanted]] = []
    for network in ledger.networks:
        if network.vn_mad in WITH_BRIDGE:
            try:
                wanted.append((network, _wanted_on_host(Wanted.of(network), seen)))
            except NebulaError as error:
                yield Finding("catalog-books", "", f"network {network.name}", error.found, error.remedy)
    wanted = [
        (network, each) for (network, _alone), each in zip(wanted, merge_by_bridge([each for _network, each in wanted]))
    ]
    ours = {bridge.name: bridge for bridge in seen.bridges if bridge.catalog == ledger.catalog}
    for network, each in wanted:
        yield from _bridge(host, network, each, ours.get(each.bridge), seen)
    names = {each.bridge for _network, each in wanted}
    for bridge in ours.values():
        if bridge.name not in names:
            known = next((n.name for n in ledger.networks if n.uuid == bridge.network), "")
            found = f"it was made for network {known}, which has another bridge" if known else "no network has it"
            remedy = f"{SITE}; if it stays: ip link delete {bridge.name}"
            yield Finding("bridge-left", host, f"bridge {bridge.name}", found, remedy)
    yield from _switch_bridges(ledger, host, seen)
    yield from _left_devices(ledger, host, seen, [each for _network, each in wanted])
    comments = {each.rules.comment: len(each.rules.rules) for _network, each in wanted}
    for network, each in wanted:
        if seen.rules.get(each.rules.comment) != comments[each.rules.comment]:
            found = "its nftables rules are not there, or not all of them"
            yield Finding("rules-missing", host, f"network {network.name}", found, f"{SITE}: they are made anew")
    if any(each.rules.whole is not None for _network, each in wanted) and not seen.forwarding:
        found = "net.ipv4.ip_forward is 0: machines of networks with NAT reach nothing outside"
        yield Finding("rules-missing", host, "IPv4 forwarding", found, f"{SITE}: it is set again")
    for comment in sorted(set(seen.rules) - set(comments)):
        found = f"rules {comment} belong to no network as it is now"
        remedy = f"{SITE}; if they stay: nft delete table inet {seen.table}, and the next run makes the others anew"
        yield Finding("rules-left", host, f"nftables table inet {seen.table}", found, remedy)


def _filters(ledger: Ledger, host: str, seen: Inventory) -> Iterator[Finding]:
    """Yield what differs in the rules by which the node filters machines' NICs."""
    of_host = ledger.guards.get(host, ())
    settled = {vm.vm.vm_id: vm for vm in _settled_machines(ledger, host)}
    there = [guard for guard in of_host if guard.vm_id in settled]
    silent = router_advertisements.digests(router_advertisements.desired_chains(there, ledger.catalog))
    wanted = {**nic_filter.desired_digests(there), **silent}
    for guard in of_host:
        if guard.port in wanted and seen.filters.get(guard.port) != wanted[guard.port]:
            found = "the nftables rules that filter what it sends and gets are not there, or not as the catalog says"
            if nic_filter.is_last_releases(guard, seen.filters.get(guard.port, "")):
                found = "the nftables rules that filter what it sends and gets are those of an earlier release"
            what = f"{_vm_text(settled[guard.vm_id])}, NIC {guard.nic_id}"
            yield Finding("rules-missing", host, what, found, f"{SITE}: they are made anew")
    for port in sorted(set(seen.filters) - {guard.port for guard in of_host}):
        found = (
            "nftables rules filter what it sends and gets, and it is of no machine that is to be filtered on this host"
        )
        remedy = f"{SITE}: they are removed; those of a machine that the catalog does not know stay while it runs"
        yield Finding("rules-left", host, f"interface {port}", found, remedy)


def _wanted_on_host(wanted: Wanted, seen: Inventory) -> Wanted:
    """Return what is wanted of this host: it has its own addresses on the bridge only if its phydev had any."""
    if wanted.uplink is None or not wanted.uplink.forced:
        return wanted
    moved = wanted.with_addresses_of_host()
    return moved if moved.rules.comment in seen.rules else wanted


def _switch_bridges(ledger: Ledger, host: str, seen: Inventory) -> Iterator[Finding]:
    """Yield what differs in bridges of Open vSwitch."""
    ours = {bridge.name: bridge for bridge in seen.switches if bridge.catalog == ledger.catalog}
    wanted = [network for network in ledger.networks if network.vn_mad == OVSWITCH]
    for network in wanted:
        what = f"network {network.name}, bridge {network.bridge}"
        bridge = ours.get(network.bridge)
        if bridge is None and network.bridge in seen.interfaces:
            found = "there is an interface of that name that is no bridge of Open vSwitch with this catalog's mark"
            remedy = "It is left alone: rename it, or choose another bridge for the network"
            yield Finding("bridge-differs", host, what, found, remedy)
        elif bridge is None:
            yield Finding("bridge-missing", host, what, "Open vSwitch has none", f"{SITE}: it is made anew")
        else:
            for found in _switch_differences(network, bridge):
                yield Finding("bridge-differs", host, what, found, f"{SITE}: it is made so again")
    known = {(network.bridge, network.uuid) for network in wanted}
    for name, bridge in ours.items():
        if not any((name, uuid) in known for uuid in bridge.networks):
            remedy = f"{SITE}; if it stays: ovs-vsctl del-br {name}"
            yield Finding("bridge-left", host, f"bridge {name}", "no network has it", remedy)
    yield from _switch_ports(ledger, host, seen, ours)


def _switch_differences(network: Network, bridge: SwitchBridge) -> Iterator[str]:
    if not bridge.running:
        yield "Open vSwitch does not run"
    if network.uuid not in bridge.networks:
        yield "it does not carry the mark of this network"
    if bridge.up:
        yield "the host's own port of it is up, so that the host is a member of the network"
    joined = uplink_of(network)
    if joined is None:
        return
    if joined.phydev not in bridge.ports or bridge.port != joined.phydev:
        yield f"{joined.phydev} is not attached to it, which joins it with the bridges of other hosts"
    elif not bridge.port_up:
        yield f"{joined.phydev} is down"
    elif bridge.ports[joined.phydev] != str(SwitchPort()):
        yield f"{joined.phydev} carries {bridge.ports[joined.phydev]}, and is to carry {SwitchPort()}"


def _switch_ports(ledger: Ledger, host: str, seen: Inventory, ours: Mapping[str, SwitchBridge]) -> Iterator[Finding]:
    """Yield each NIC of a running machine that is not attached to its bridge, or not in the VLANs of its network."""
    running = {each.vm_id for each in seen.domains if each.catalog == ledger.catalog and each.state == "RUNNING"}
    for vm in _settled_machines(ledger, host):
        for nic in vm.vm.nics if vm.vm.vm_id in running else ():
            if nic.network_values.get("VN_MAD") != OVSWITCH or nic.bridge not in ours:
                continue
            what = f"{_vm_text(vm)}, NIC {nic.nic_id}"
            wanted = str(port_of(vlan_trunks.port_of(nic.network_values, nic.options)))
            there = ours[nic.bridge].ports.get(nic.target)
            if there is None and nic.target in seen.interfaces:
                found = f"its interface {nic.target} is not attached to bridge {nic.bridge}"
                yield Finding("bridge-differs", host, what, found, RESTART)
            elif there is not None and there != wanted:
                found = f"its interface {nic.target} carries {there}, and is to carry {wanted}"
                yield Finding("bridge-differs", host, what, found, RESTART)


def _detached_nics(ledger: Ledger, host: str, seen: Inventory) -> Iterator[Finding]:
    """Yield each NIC of a running machine that is not attached to its bridge: one that was made anew has lost them."""
    attached = {port for bridge in seen.bridges for port in bridge.ports}
    bridges = {bridge.name for bridge in seen.bridges}
    running = {each.vm_id for each in seen.domains if each.catalog == ledger.catalog and each.state == "RUNNING"}
    for vm in _settled_machines(ledger, host):
        for nic in vm.vm.nics if vm.vm.vm_id in running else ():
            if nic.target in seen.interfaces and nic.bridge in bridges and nic.target not in attached:
                found = f"its interface {nic.target} is not attached to bridge {nic.bridge}"
                remedy = f"ip link set {nic.target} master {nic.bridge}"
                yield Finding("bridge-differs", host, f"{_vm_text(vm)}, NIC {nic.nic_id}", found, remedy)


def _bridge(host: str, network: Network, wanted: Wanted, bridge: Bridge | None, seen: Inventory) -> Iterator[Finding]:
    what = f"network {network.name}, bridge {wanted.bridge}"
    if bridge is None:
        if wanted.bridge in seen.interfaces:
            found = "there is an interface of that name without this catalog's mark"
            remedy = "It is left alone: rename it, or choose another bridge for the network"
            yield Finding("bridge-differs", host, what, found, remedy)
        else:
            yield Finding("bridge-missing", host, what, "it is not there", f"{SITE}: it is made anew")
        return
    differences = []
    if bridge.network not in (wanted.uuid, *wanted.beside):
        differences.append(f"it carries the mark of network {bridge.network}")
    if not bridge.up:
        differences.append("it is down")
    if wanted.address and wanted.address not in bridge.addresses:
        differences.append(f"it lacks the address {wanted.address}")
    if 0 < bridge.mtu < wanted.mtu:
        differences.append(f"its MTU is {bridge.mtu}, and its machines are told {wanted.mtu}")
    differences += _uplink(wanted, bridge, seen)
    wrong = {} if wanted.rules.forced else bridge_sysctls.differing(bridge.settings, wanted.carries_gateway)
    for name, value in wrong.items():
        differences.append(f"{bridge_sysctls.key(bridge.name, name)} is {bridge.settings[name]}, and is to be {value}")
    for found in differences:
        yield Finding("bridge-differs", host, what, found, f"{SITE}: it is made so again")


def _uplink(wanted: Wanted, bridge: Bridge, seen: Inventory) -> Iterator[str]:
    """Yield what is wrong with the device that joins the bridge with those of other nodes."""
    uplink = wanted.uplink
    if uplink is None:
        return
    if uplink.device not in bridge.ports:
        yield f"{uplink.device} is not attached to it, which joins it with the bridges of other hosts"
    device = next((each for each in seen.devices if each.name == uplink.device), None)
    if uplink.made and uplink.device in seen.interfaces:
        if device is None or device.network != wanted.uuid:
            yield f"{uplink.device} does not carry the mark of this network"
        elif device.what != str(uplink):
            yield f"{uplink.device} is {device.what}, and is to be {uplink}"
        elif not device.up:
            yield f"{uplink.device} is down"


def _left_devices(ledger: Ledger, host: str, seen: Inventory, wanted: Sequence[Wanted]) -> Iterator[Finding]:
    named = {(each.uuid, each.uplink.device) for each in wanted if each.uplink is not None}
    for device in seen.devices:
        if device.catalog == ledger.catalog and (device.network, device.name) not in named:
            remedy = f"{SITE}; if it stays: ip link delete {device.name}"
            yield Finding("bridge-left", host, f"interface {device.name}", f"no network has {device.what}", remedy)


def _vm_text(vm: LedgerVm) -> str:
    return f"VM {vm.vm.name} (id {vm.vm.vm_id})"


def by_severity(found: Sequence[Finding]) -> list[Finding]:
    """Return first what is wrong, then what is only unfinished; otherwise in the order given."""
    return sorted(found, key=lambda finding: finding.severity != DIFFERENCE)
