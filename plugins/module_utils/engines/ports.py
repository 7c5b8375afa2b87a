# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Defines the ports of an engine: for each kind of object the verbs that OpenNebula has for it, as
`engine.images.info("debian")`.

References are names or ids (`ref`): a string of digits is an id unless an object has it as its name. Every method
raises NebulaError subclasses: NotFound, Ambiguous, InUse, WrongState, Conflict, InvalidValue …"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, Callable, Union

from ..dataclass import dataclass
from ..errors import Unsupported
from ..model import defaults
from ..model.owner import Owner

if TYPE_CHECKING:
    from ..model.datastore import Datastore
    from ..model.device_matching import MachineDevice
    from ..model.host import Host
    from ..model.image import Image
    from ..model.lease import HeldLease
    from ..model.logical_network import LogicalNetworks
    from ..model.move import MeetingPlace
    from ..model.network import AddressRange, Network, SplitNetwork
    from ..model.nic_filter_rules import Guard
    from ..model.plan import GivenUp, Observed, Plan, VmOutcome
    from ..model.router import Router
    from ..model.security_group import SecurityGroup
    from ..model.template import StoredTemplate, Template
    from ..model.vm import Growth, Vm

Ref = Union[str, int]


@dataclass(frozen=True)
class VmRecord:
    """Describes a machine as the catalog remembers it.
    state: one word (model.states.vm_state_name).
    summary: for users, without context values and passwords.
    outdated: its networks say something else by now than its context does.
    awaits: it runs with other disks or NICs than it is to have, and gets these when it is off.
    waits: what it gets at its next start: part, found and wanted of each, without secrets.
    loses: some of these are disks or NICs that it is to have no more.
    recreates: it is to be made anew, which its host failed to do.
    settled: its host has said what became of the newest decision about it.
    moving: the host that it moves to, as long as it is not known where it is, and that it is as wanted there; nothing
    else is decided about it.
    away: the host that it is away from until that is out of maintenance.
    request: the merged template it was made from (Template as plain attributes). owner: of its context."""

    id: int | None
    name: str
    uuid: str
    state: str
    wanted: str
    host: str
    hypervisor: str
    generation: int
    cpu: float
    vcpu: int | None
    memory: int
    template: str = ""
    pattern: str = ""
    position: int | None = None
    error: str = ""
    outdated: bool = False
    awaits: bool = False
    waits: Sequence[Mapping[str, str]] = ()
    loses: bool = False
    recreates: bool = False
    stime: int = 0
    etime: int = 0
    # What the guest is told of itself. hostname: "" if it is told none. addresses: None if it has no context.
    hostname: str = ""
    addresses: Sequence[str] | None = None
    warnings: Sequence[str] = ()
    nics: Sequence[Mapping[str, Any]] = ()
    nic_aliases: Sequence[Mapping[str, Any]] = ()
    disks: Sequence[Mapping[str, Any]] = ()
    graphics: Mapping[str, Any] = field(default_factory=dict)
    request: Template | None = field(default=None, repr=False)
    owner: Owner = Owner()
    # Why it may not be started: another machine, which was given up and runs, has an address of it. "" if none has.
    doubled: str = ""
    # Why nothing is decided about it: a host from or to which it has moved runs it as well. "" if none does.
    runs_elsewhere: str = ""
    # The host name that its guest was told when it was last started; "" if it is told the same now.
    former: str = ""
    # Whether it has sockets, cores and threads of its own, or a socket for each processor.
    has_topology: bool = False
    # How far it may grow while it runs; None for one that has what it has.
    growth: Growth | None = None
    # What says how it starts (model.vm.Os.type_keys).
    os: Mapping[str, str] = field(default_factory=dict)
    # Which attributes of its template act on it (model/instantiate/hardware_version.py).
    hardware_version: int = 0
    moving: str = ""
    away: str = ""
    settled: bool = True


@dataclass(frozen=True)
class VmRequest:
    """Asks for one machine.
    template: merged with all that the request overrides.
    host: "" for any.
    hotplug_slots: reserved for disks and NICs that come while it runs, where its template says nothing of them."""

    name: str
    template: Template
    template_name: str = ""
    pattern: str = ""
    position: int | None = None
    host: str = ""
    wanted: str = "RUNNING"
    owner: Owner = Owner()
    hotplug_slots: int = defaults.HOTPLUG_SLOTS


@dataclass(frozen=True)
class VmOrders:
    """Says how a wanted state is to be reached. operation: "", reboot or reset; recreate is recreate()."""

    hard: bool = False
    shutdown_timeout: int = defaults.SHUTDOWN_SECONDS
    operation: str = ""


class ImagesPort(abc.ABC):
    """Keeps what is known of images. Their files are stored by the caller, where the engine leaves that to it."""

    @abc.abstractmethod
    def pool(self) -> list[Image]: ...

    @abc.abstractmethod
    def info(self, ref: Ref) -> Image: ...

    @abc.abstractmethod
    def allocate(self, image: Image) -> Image:
        """Register the image as LOCKED: the engine gives id, uuid and source path."""

    @abc.abstractmethod
    def update(self, ref: Ref, **changes: Any) -> Image:
        """Set fields of model.image.Image (state, size, format, sha256, error, persistent, type, name …), with the
        rules for each: chtype within its family, persistence refused while in use."""

    @abc.abstractmethod
    def clone(self, ref: Ref, image: Image) -> Image:
        """Register `image` as allocate() does, to be made from another's file: that is in state CLONE meanwhile."""

    @abc.abstractmethod
    def delete(self, ref: Ref) -> Image: ...

    def returned(self, ref: Ref, error: str = "", size: int = 0) -> Image:
        """Note that the file of an image that was on its way back from a host is here. Of engines with "plans".
        error: why it never will be: the image is ERROR then, with the file that it had before.
        size: MiB of its disk, 0 for what it was."""
        raise Unsupported(f"image {ref}: its file from a host", "this engine fetches files by its own drivers")


class DatastoresPort(abc.ABC):
    """Keeps datastores: where images and what machines write lie."""

    @abc.abstractmethod
    def pool(self) -> list[Datastore]: ...

    @abc.abstractmethod
    def info(self, ref: Ref) -> Datastore: ...

    @abc.abstractmethod
    def allocate(self, datastore: Datastore) -> Datastore: ...

    @abc.abstractmethod
    def update(self, ref: Ref, **changes: Any) -> Datastore: ...

    @abc.abstractmethod
    def delete(self, ref: Ref) -> Datastore:
        """Remove a datastore. Those of every catalog stay, and those in which images lie, or disks of machines."""

    @abc.abstractmethod
    def shared(self) -> list[Datastore]:
        """Return the system datastores that several hosts see."""


class NetworksPort(abc.ABC):
    """Keeps virtual networks, their address ranges, and what of them is leased."""

    @abc.abstractmethod
    def pool(self) -> list[Network]: ...

    @abc.abstractmethod
    def info(self, ref: Ref) -> Network: ...

    @abc.abstractmethod
    def allocate(self, network: Network) -> Network: ...

    @abc.abstractmethod
    def update(self, ref: Ref, **changes: Any) -> Network: ...

    @abc.abstractmethod
    def add_ar(self, ref: Ref, address_range: AddressRange) -> Network: ...

    @abc.abstractmethod
    def update_ar(self, ref: Ref, address_range: AddressRange) -> Network: ...

    @abc.abstractmethod
    def rm_ar(self, ref: Ref, ar_id: int) -> Network: ...

    @abc.abstractmethod
    def delete(self, ref: Ref) -> Network: ...

    @contextlib.contextmanager
    def together(self, coming: Sequence[Network]) -> Iterator[Callable[[], set[str]]]:
        """Let networks of one list exchange VLAN ids and the like. What is yielded returns the names of those that
        were to leave a place, and have not by then: another may have the place too now, so that the caller undoes all,
        and begins anew without these. coming: those of the list that say where they are to be, as they are to be."""
        yield set

    def logical(self, unused_groups: bool = False) -> LogicalNetworks:
        """Return what OVN is to have. unused_groups: with groups that no machine has. Of engines with "plans"."""
        raise Unsupported("networks of OVN", "this engine's own drivers make networks")

    def port_hosts(self) -> Mapping[str, str]:
        """Return by the UUIDs of ports of logical() the hosts that their machines are on."""
        return {}

    def guards(self) -> Mapping[str, Sequence[Guard]]:
        """Return by host what is filtered of machines' NICs on Linux bridges; nothing where drivers do that."""
        return {}

    def machines(self) -> Mapping[str, Sequence[int]]:
        """Return by host the ids of the machines that guards() is about, filtered or not."""
        return {}

    def spread_out(self) -> list[SplitNetwork]:
        """Return the networks whose machines are on nodes that do not reach each other by it; none where the engine's
        drivers connect them."""
        return []

    def held(self) -> list[HeldLease]:
        """Return the addresses that are leased to no NIC, and given to nobody. Of engines with "plans"."""
        return []


class SecurityGroupsPort(abc.ABC):
    """Keeps security groups. Group 0 is there, lets everything through, and stays."""

    @abc.abstractmethod
    def pool(self) -> list[SecurityGroup]: ...

    @abc.abstractmethod
    def info(self, ref: Ref) -> SecurityGroup: ...

    @abc.abstractmethod
    def allocate(self, group: SecurityGroup) -> SecurityGroup: ...

    @abc.abstractmethod
    def update(self, ref: Ref, **changes: Any) -> SecurityGroup: ...

    @abc.abstractmethod
    def delete(self, ref: Ref) -> SecurityGroup:
        """Remove a security group. One that a network or a machine has stays."""


class RoutersPort(abc.ABC):
    """Keeps routers between networks of OVN."""

    @abc.abstractmethod
    def pool(self) -> list[Router]: ...

    @abc.abstractmethod
    def info(self, ref: Ref) -> Router: ...

    @abc.abstractmethod
    def allocate(self, router: Router) -> Router:
        """Store the router. Where it says no address in an external network, it gets one."""

    @abc.abstractmethod
    def update(self, ref: Ref, **changes: Any) -> Router: ...

    @abc.abstractmethod
    def delete(self, ref: Ref) -> Router:
        """Remove a router. One with floating addresses stays."""


class TemplatesPort(abc.ABC):
    """Keeps templates as their users wrote them. Machines stay as they are when theirs is changed or deleted."""

    @abc.abstractmethod
    def pool(self) -> list[StoredTemplate]: ...

    @abc.abstractmethod
    def info(self, ref: Ref) -> StoredTemplate: ...

    @abc.abstractmethod
    def allocate(self, name: str, template: Template) -> StoredTemplate: ...

    @abc.abstractmethod
    def update(self, ref: Ref, template: Template) -> StoredTemplate: ...

    @abc.abstractmethod
    def delete(self, ref: Ref) -> StoredTemplate: ...


class HostsPort(abc.ABC):
    """Keeps the hosts that machines are placed on."""

    @abc.abstractmethod
    def pool(self) -> list[Host]: ...

    @abc.abstractmethod
    def info(self, ref: Ref) -> Host: ...

    @abc.abstractmethod
    def allocate(self, host: Host) -> Host: ...

    @abc.abstractmethod
    def update(self, ref: Ref, **changes: Any) -> Host: ...

    @abc.abstractmethod
    def delete(self, ref: Ref) -> Host: ...

    @abc.abstractmethod
    def forget(self, ref: Ref, gone: bool = False) -> Host:
        """Delete a host that is given up: its machines are DONE without anybody having ended them, and their addresses
        are held until that host was seen without them. gone: it is gone for good, and the addresses are free."""

    def gone(self, name: str) -> list[str]:
        """Free what is held for machines of a host that is gone for good, and return the addresses. For "plans"."""
        return []

    @abc.abstractmethod
    def check(self, observed: Sequence[Observed]) -> list[Observed]:
        """Return what nodes are believed to report; nodes that are refused count as not answering in it. Raise
        CatalogError if a node has followed a newer plan than this catalog has made, and ForeignObject if most nodes
        follow another catalog: then this one is an older copy, or was lost, and must not decide anything. A node that
        was not given the plan which it names, or one of few that name another catalog, is refused alone."""

    def names_a_plan_not_given(self, node: Observed) -> bool:
        """Return whether the node names a plan newer than this catalog's newest, and was not given it."""
        return False

    def rename(self, ref: Ref, name: str) -> Host:
        """Give a host another name, with its machines, their history and what is awaited from it. A host of that name
        goes, as by delete(). Of engines with "plans", as all that follows."""
        raise Unsupported(f"host {ref}: rename", "this engine does not", "Use engine: embedded")

    def offer_marks(self, names: Sequence[str]) -> dict[str, str]:
        """Return the mark of each name, made where it has none yet. It is called outside of a session."""
        return {}

    def owner_of_mark(self, mark: str) -> str:
        """Return the name to which a mark was given; "" if there is none."""
        return ""

    def has_shown_mark(self, name: str) -> bool:
        """Return whether the host of this name has ever shown the name's own mark."""
        return False

    def keep_mark(self, name: str, mark: str) -> None:
        """Note that the host of this name shows this mark, which is the name's own from now on."""
        raise Unsupported(f"host {name}: mark", "this engine does not keep it", "Use engine: embedded")

    def machine_ids(self) -> dict[str, str]:
        """Return the machine ids that hosts have told, by name."""
        return {}

    def keep_machine_id(self, name: str, machine_id: str) -> None:
        """Note the machine id that the host of this name has told."""
        raise Unsupported(f"host {name}: machine id", "this engine does not keep it", "Use engine: embedded")


class VmsPort(abc.ABC):
    """Keeps virtual machines; its verbs take many at a time."""

    @abc.abstractmethod
    def pool(
        self,
        names: Iterable[str] | None = None,
        patterns: Iterable[str] | None = None,
        ids: Iterable[int] | None = None,
        done: bool = False,
    ) -> list[VmRecord]:
        """Return the machines that any of the selectors names; all with none. Those in state DONE only if asked."""

    def names(self) -> dict[int, str]:
        """Return the names of all machines that are not DONE, by id."""
        return {record.id: record.name for record in self.pool() if record.id is not None}

    def described(self, ids: Iterable[int]) -> dict[int, Vm]:
        """Return by id what machines that are not DONE are to be, as plans say it. Of engines with "plans"."""
        raise Unsupported("machines as plans describe them", "this engine has no plans")

    @abc.abstractmethod
    def instantiate(self, requests: Sequence[VmRequest], hosts: Sequence[str] | None = None) -> list[VmRecord]:
        """Make all machines of the batch, with ids, leases, images and capacity, or raise an error and make none."""

    @abc.abstractmethod
    def action(self, vm_id: int, wanted: str, orders: VmOrders) -> VmRecord: ...

    @abc.abstractmethod
    def devices(self, vm_id: int) -> Mapping[str, Sequence[MachineDevice]]:
        """Return what the machine has, or is to have, of each DISK and NIC of its request."""

    @abc.abstractmethod
    def disk_room(self, host: str, images: bool = False) -> int | None:
        """Return the MiB that may still be written where the disks of the host's machines lie; None if it has not told
        in this run. images: where the files of persistent images lie that it keeps itself."""

    @abc.abstractmethod
    def take_disk_room(self, vm_id: int, place: str, size: int, free: int | None) -> int | None:
        """Note that the machine's disks at a place may take so many MiB more from this run on; what is free there is
        None if nobody knows. Return None, or the MiB that other machines of this run may take there, if that is too
        much."""

    @abc.abstractmethod
    def update(self, vm_id: int, template: Template, owner: Owner | None = None, agreed: bool = False) -> VmRecord:
        """Give the machine what `template` says and can be changed on it (see template_changes.CHANGEABLE). owner: None
        to keep the one that it has. agreed: while it runs it may lose the disks and NICs that it is to have no more."""

    @abc.abstractmethod
    def rename(self, vm_id: int, name: str) -> VmRecord:
        """Give the machine another name, in whatever state it is. It belongs to no pattern from then on. Its guest is
        told by its context, and takes the name from there when it is started anew."""

    def adopt(
        self, vm_id: int, request: VmRequest, hosts: Sequence[str] | None = None, foreseen: bool = False
    ) -> VmRecord:
        """Take over a machine that a node was seen to have in this session, with the catalog's mark, and that the
        catalog does not know: as it is, under its own id, with its leases. It has to be what the request says. Of
        engines with "plans". foreseen: it may not have been compared yet; its plan is for that."""
        raise Unsupported(f"VM {request.name}: adopting machine {vm_id}", "this engine knows all of its machines")

    def move(
        self,
        vm_id: int,
        target: str = "",
        way: str = "",
        away: str = "",
        hosts: Sequence[str] | None = None,
        peers: Collection[str] | None = None,
        orders: VmOrders | None = None,
    ) -> VmRecord:
        """Decide that the machine moves to another host, where it is to be in the state in which it is. Raise an error,
        and change nothing, where it can't, or is not to have any further decision yet. Of engines with "plans".
        target: "" for the scheduler's choice of those where it can be.
        way: LIVE or COLD (model/move.py); "" for LIVE if it runs, else COLD.
        away: the host to which it is to return after maintenance, "" if it moves for good.
        hosts: of this run; None for all. peers: those at which others arrive to bring machines; None for all.
        orders: how it is powered off where that is part of the way; None for the usual ones."""
        raise Unsupported(f"machine {vm_id}: move to another host", "this engine moves no machines")

    def stay(self, vm_id: int) -> VmRecord:
        """Note that the machine is to return to no host: it is where it is for good. Of engines with "plans"."""
        raise Unsupported(f"machine {vm_id}: stay where it is", "this engine moves no machines")

    @abc.abstractmethod
    def recreate(self, vm_id: int, template: Template, owner: Owner | None = None) -> VmRecord:
        """Make the machine anew from `template` under its own id: new disks, and new leases where its NICs differ."""

    @abc.abstractmethod
    def disk_save_as(self, vm_id: int, disk_id: int, image: Image, consistency: str) -> VmRecord:
        """Have a disk saved as a new image of that name, type and description. An image that an earlier save of this
        disk made stays as it is; one that failed is made again. consistency: see model.plan.DiskTask."""

    @abc.abstractmethod
    def disk_snapshot(self, vm_id: int, disk_id: int, name: str, wanted: str) -> VmRecord:
        """Have a snapshot of a disk made (present) or deleted (absent), or the disk made what it was then (reverted);
        what is so already, or on its way, is left alone. reverted is done whenever it is asked for."""

    @abc.abstractmethod
    def history(self, vm_id: int) -> list[Mapping[str, Any]]:
        """Return what happened to it, oldest first: time (s since the epoch), host, state, action, reason."""

    @abc.abstractmethod
    def observe(self, observed: Sequence[Observed]) -> list[VmRecord]:
        """Take over what the nodes say is the case, and return the machines whose state is another than remembered."""

    def given_up(self) -> list[GivenUp]:
        """Return machines that were given up with their host, and that a node was seen to have in this session: what
        they lease is held, and a machine that has an address of theirs is not started. Of engines with "plans"."""
        return []

    @abc.abstractmethod
    def plans(
        self,
        hosts: Sequence[str] | None = None,
        end_given_up: bool = False,
        places: Mapping[str, MeetingPlace] | None = None,
        move_seconds: int = defaults.MOVE_SECONDS,
    ) -> dict[str, Plan]:
        """Return a plan for each host that has unfinished machines; numbered, so that older ones are refused from now
        on. A machine that moves is in the plans of both hosts. The first plans in which both are begin the move; in all
        others, each host only says what became of it.
        end_given_up: those of given_up() are powered off, and their disks stay.
        places: by name, where hosts are met that machines move to: to others none begins to move.
        move_seconds: after which a move is given up that has not ended."""

    @abc.abstractmethod
    def record(self, host: str, outcomes: Sequence[VmOutcome] | None, done_number: int = 0) -> list[VmRecord]:
        """Take over what a node did, and return the machines that moved.
        outcomes: None if it did not answer.
        done_number: as it observed afterwards; polls that know less are passed over from now on."""
