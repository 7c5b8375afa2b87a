# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts a machine together from its template and all that was allocated to it, with the context that its guest reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ....context import cloud_init_warnings, nocloud_and_configdrive, variables
from ....context.files_on_frontend import Sources
from ....dataclass import dataclass, replace
from ....errors import Conflict, InvalidValue, NebulaError, NotFound
from ....model import boot_image, context_firewall, defaults, security_group
from ....model.context import Context, ContextFile
from ....model.disk import SHARED_DIRECTORY, Disk
from ....model.image import Image
from ....model.instantiate import aliases, truncated_host_names, truncated_values
from ....model.instantiate import build as instantiate
from ....model.instantiate.build import KeptDevices
from ....model.instantiate.former_machine import FormerMachine
from ....model.instantiate.host_placement import HostPlace
from ....model.instantiate.nic_vectors import own_name
from ....model.network import filters_on_node
from ....model.network_drivers import OVN, OVSWITCH
from ....model.nic import Alias, Nic
from ....model.owner import Owner
from ....model.states import ImageType
from ....model.template import Template
from ....model.vm import Graphics, Vm
from ..store import Store, compact
from . import generated_passwords
from .template_references import References
from .vm_rows import vm_of


@dataclass(frozen=True)
class Blueprint:
    """Says what a machine is made of.
    port: of its graphics; None without graphics.
    fetched: SHA-256 of the files from URLs that a machine has and keeps, by source; None if all its files are read.
    kept: disks and context that the machine has. graphics: those that it has.
    before: the machine that it is until then; None for a new one.
    adopted: it runs already as it is made here. exact: of an adopted machine, whether its context is filled in as
    those of new machines.
    former: what a machine that is there was made with.
    hotplug_slots: of a machine that is made, where its template says nothing of them.
    place: what it has of its host to itself, None for nothing."""

    vm_id: int
    uuid: str
    name: str
    hypervisor: str
    template: Template
    images: Mapping[int, Image]
    nics: Sequence[Nic]
    aliases: Sequence[Alias]
    port: int | None
    owner: Owner
    fetched: Mapping[str, str] | None = None
    kept: KeptDevices | None = None
    graphics: Graphics | None = None
    before: Vm | None = None
    adopted: bool = False
    exact: bool = True
    former: FormerMachine | None = None
    hotplug_slots: int = defaults.HOTPLUG_SLOTS
    place: HostPlace | None = None


@dataclass(frozen=True)
class Assembler:
    """Puts machines together. store: the catalog; sources: the files that contexts name, read on this host."""

    store: Store
    sources: Sources

    def assemble(self, blueprint: Blueprint, references: References) -> tuple[Vm, list[str]]:
        """Return the machine, and the warnings for the user."""
        vm = instantiate.build(
            blueprint.template,
            vm_id=blueprint.vm_id,
            uuid=blueprint.uuid,
            name=blueprint.name,
            hypervisor=blueprint.hypervisor,
            images=blueprint.images,
            nics=blueprint.nics,
            aliases=blueprint.aliases,
            vnc_port=blueprint.port,
            kept=blueprint.kept,
            former=blueprint.former,
            hotplug_slots=blueprint.hotplug_slots,
            place=blueprint.place,
            owner=blueprint.owner,
        )
        if vm.context is not None and not blueprint.exact:
            vm = replace(vm, context=replace(vm.context, exact=False))
        networks = {nic.network_id for nic in vm.nics if nic.network_id is not None}
        filtered = {n for n in networks if filters_on_node(references.network(f"network {n}", n))}
        warnings = instantiate.warnings_of_machine(blueprint.template, vm, blueprint.images, filtered)
        warnings += _refuse_cut(vm, blueprint)
        self._refuse_taken_names(vm, blueprint)
        self._refuse_nested_directories(vm)
        self._refuse_unknown_groups(vm, filtered)
        _refuse_weaker(vm, references)
        vm = generated_passwords.with_console_password(vm, blueprint.graphics)
        if blueprint.fetched is None and any(disk.inject for disk in vm.disks):
            vm = replace(vm, disks=self._with_sources(vm))
        if vm.context is None:
            return vm, warnings
        vm, more = self._with_context(vm, blueprint, references)
        more += _refuse_cut_name(vm, blueprint)
        return vm, [*warnings, *more, *_check_firewall(vm, filtered)]

    def _refuse_unknown_groups(self, vm: Vm, filtered: Collection[int]) -> None:
        """Raise NotFound for a security group that the catalog does not have: without it more would come through.
        filtered: ids of the networks whose nodes act on them, besides those of OVN."""
        for nic in vm.nics:
            text = nic.options.get(security_group.ATTRIBUTE, "")
            where = f"VM {vm.name}, NIC {nic.nic_id}"
            acts = nic.network_values.get("VN_MAD") == OVN or nic.network_id in filtered
            for number in security_group.read_group_ids(text, where) if text and acts else ():
                if self.store.row("SELECT id FROM security_groups WHERE id = ?", number) is None:
                    raise NotFound(
                        f"{where}: {security_group.ATTRIBUTE} = {text}",
                        f"there is no security group {number}",
                        "Make it first (nebula_security_groups), or name another",
                    )

    def _with_context(self, vm: Vm, blueprint: Blueprint, references: References) -> tuple[Vm, list[str]]:
        """Return the machine with the context that its guest is to read, and the warnings."""
        template, fetched = blueprint.template, blueprint.fetched or {}
        named_networks, named_images = references.of_context(template)
        context, warnings = variables.build_context(vm, template, networks=named_networks, images=named_images)
        if context is not None:
            context = replace(context, variables=_as_read(context, blueprint))
            warnings += cloud_init_warnings.warnings(context.format, context.variables)
        if context is not None and (context.files or context.format != nocloud_and_configdrive.DEFAULT):
            # Images that only $IMAGE names are left out: a disk may hold what no other machine is to read.
            names = {image.source: image.name for image in named_images if image.type == ImageType.CONTEXT}
            files = [replace(file, image=names.get(file.source, "")) for file in context.files]
            try:
                context = replace(context, files=self.sources.found(files, fetched))
                # A file that its node would refuse is refused before the machine has anything.
                nocloud_and_configdrive.documents_of_iso(
                    context.format, context.variables, vm.uuid, [file.target for file in files]
                )
            except NebulaError as error:
                error.asked = f"VM {vm.name}: {error.asked}"
                raise
            warnings += [
                f"In check mode, taken as about to come: FILES: {file.source!r} is not here yet"
                for file in files
                if file.source in self.sources.absent
            ]
        return replace(vm, context=context), warnings

    def _with_sources(self, vm: Vm) -> tuple[Disk, ...]:
        """Return the disks with the files that are to be put into them: looked at, and fetched by their URLs."""
        disks = []
        for disk in vm.disks:
            entries = []
            for entry in disk.inject:
                try:
                    file = self.sources.found([entry.file], {})[0] if entry.file is not None else None
                except NebulaError as error:
                    error.asked = f"VM {vm.name}: INJECT {entry.path}: {error.asked}"
                    raise
                entries.append(replace(entry, file=file))
            disks.append(replace(disk, inject=tuple(entries)))
        return tuple(disks)

    def _refuse_taken_names(self, vm: Vm, blueprint: Blueprint) -> None:
        """Raise Conflict for an interface that a NIC gets by name, and that another machine of its node has by that
        name. What the machine has already is left as it is."""
        before = vm if blueprint.adopted else blueprint.before
        had = {nic.target for nic in before.nics} if before is not None else set()
        for nic in vm.nics:
            if nic.target in had or nic.target == own_name(vm.vm_id, nic.nic_id):
                continue
            # Disks have targets too, so that what is found is looked at.
            for row in self.store.rows(
                "SELECT * FROM vms WHERE id != ? AND state != 6 AND instr(body, ?) "
                "AND host_id = (SELECT host_id FROM vms WHERE id = ?)",
                vm.vm_id,
                f'"target":{compact(nic.target)}',
                vm.vm_id,
            ):
                if any(each.target == nic.target for each in vm_of(row).nics):
                    raise Conflict(
                        f"VM {vm.name}: NIC {nic.nic_id}: TARGET = {nic.target}",
                        f"VM {row['name']} has an interface of that name on the same host, which has one of a name",
                        "Give each machine another TARGET, or none, which is a name by its id",
                    )

    def _refuse_nested_directories(self, vm: Vm) -> None:
        """Raise Conflict for a directory of the host that is in another guest's, which could lead it elsewhere; or that
        has one in it."""
        own = {disk.source: disk.disk_id for disk in vm.disks if disk.type == SHARED_DIRECTORY}
        if not own:
            return
        others = {path: f"its DISK {number}" for path, number in own.items()}
        for row in self.store.rows(
            "SELECT * FROM vms WHERE id != ? AND state != 6 AND instr(body, ?)"
            " AND host_id = (SELECT host_id FROM vms WHERE id = ?)",
            vm.vm_id,
            f'"type":{compact(SHARED_DIRECTORY)}',
            vm.vm_id,
        ):
            disks = vm_of(row).disks
            others.update((disk.source, f"VM {row['name']}") for disk in disks if disk.type == SHARED_DIRECTORY)
        for path, number in own.items():
            for other, whose in others.items():
                if path.startswith(f"{other}/") or other.startswith(f"{path}/"):
                    raise Conflict(
                        f"VM {vm.name}: DISK {number}: SOURCE = {path}",
                        f"{whose} has {other}, and one of both guests could lead the other elsewhere",
                        "Give both the same directory, or such that neither is in the other",
                    )

    def fetched(self) -> set[str]:
        """Return the SHA-256 of the files from URLs that machines have."""
        return {
            file.sha256
            for row in self.store.rows("SELECT body FROM vms WHERE state != 6 AND body LIKE '%\"sha256\"%'")
            for file in files_of(vm_of(row), disks=True)
            if file.sha256
        }


def _as_read(context: Context, blueprint: Blueprint) -> dict[str, str]:
    """Return the variables of a context as each reader takes them. Variables that an older release wrote, and that are
    not changed, stay as they were written."""
    if context.exact:
        return cloud_init_warnings.written_for_readers(context.format, context.variables)
    before = blueprint.before.context if blueprint.before is not None else None
    known = context.variables if blueprint.adopted else before.variables if before is not None else {}
    return cloud_init_warnings.changed_for_readers(context.format, context.variables, known)


def _refuse_cut(vm: Vm, blueprint: Blueprint) -> list[str]:
    """Return warnings of values that are cut off on a machine that has them. Raise InvalidValue for a new one."""
    found = truncated_values.cuts_of_machine(vm)
    before = vm if blueprint.adopted else blueprint.before
    return truncated_values.refuse_new(
        found, truncated_values.cuts_of_machine(before) if before is not None else [], f"VM {vm.name}"
    )


def _refuse_cut_name(vm: Vm, blueprint: Blueprint) -> list[str]:
    """Return warnings of a host name that its guest does not have in full. Raise InvalidValue for a new name."""
    before = vm if blueprint.adopted else blueprint.before
    variables, known = (each.context.variables if each and each.context else {} for each in (vm, before))
    found, had = truncated_host_names.cuts_of_host_name(variables), truncated_host_names.cuts_of_host_name(known)
    disks = {index: image for index, image in blueprint.images.items() if index < len(vm.disks)}
    if boot_image.boots_windows(vm.os, blueprint.template, disks):
        found, had = (
            found + truncated_host_names.cuts_of_windows_name(variables),
            had + truncated_host_names.cuts_of_windows_name(known),
        )
    return truncated_values.refuse_new(found, had, f"VM {vm.name}")


def _refuse_weaker(vm: Vm, references: References) -> None:
    """Raise InvalidValue for an alias whose network is filtered otherwise than that of its NIC."""
    nics = {nic.nic_id: nic for nic in vm.nics}
    for alias in vm.aliases:
        own, parents = alias.network_id, nics[alias.parent_id].network_id
        if own is None or parents is None or own == parents:
            continue
        networks = [references.network(f"network {number}", number) for number in (own, parents)]
        try:
            aliases.refuse_other_filters(alias, *networks)
        except InvalidValue as error:
            error.asked = f"VM {vm.name}: {error.asked}"
            raise


def _check_firewall(vm: Vm, filtered: Collection[int]) -> list[str]:
    """Return warnings about the firewall in the machine's context. Raise InvalidValue for a firewall that says nothing
    that can be meant, or on which nothing acts in a network of Open vSwitch. filtered: ids of the networks whose nodes
    act on it."""
    text = vm.context.variables.get(context_firewall.VARIABLE, "") if vm.context is not None else ""
    if not context_firewall.is_firewall(text):
        return []
    where = f"VM {vm.name}"
    context_firewall.read(text, where)
    for nic in vm.nics:
        if nic.network_values.get("VN_MAD") == OVSWITCH:
            raise InvalidValue(
                f"{where}: CONTEXT/{context_firewall.VARIABLE}",
                f"its NIC {nic.nic_id} is in network {nic.network} of Open vSwitch, where nothing acts on it",
                "Use a network of OVN (vn_mad: ovn) or on a Linux bridge",
            )
    return [
        f"{where}: CONTEXT/{context_firewall.VARIABLE} does not act on NIC {nic.nic_id}: network {nic.network} is "
        "older than filters on nodes. Set filter_mac_spoofing and filter_ip_spoofing of the network"
        for nic in vm.nics
        if nic.network_values.get("VN_MAD") != OVN and nic.network_id not in filtered
    ]


def fetched_by(vm: Vm) -> dict[str, str]:
    """Return the SHA-256 of the files from URLs that the machine's context has, by source."""
    return {file.source: file.sha256 for file in vm.context.files if file.sha256} if vm.context else {}


def files_of(vm: Vm, disks: bool) -> list[ContextFile]:
    """Return what is read on the front-end for the machine's context and, if these are to be made, its disks."""
    files = list(vm.context.files) if vm.context is not None else []
    if disks:
        files += [entry.file for disk in vm.disks for entry in disk.inject if entry.file is not None]
    return files
