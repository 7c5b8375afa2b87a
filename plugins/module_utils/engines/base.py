# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What decides and remembers. One interface in OpenNebula's verbs: the catalog here, a real oned later.

References are names or ids (`ref`): a string of digits is an id unless an object has it as its name.
Every method raises NebulaError subclasses: NotFound, Ambiguous, InUse, WrongState, Conflict, InvalidValue …
Within session(check_mode=True) everything may be called as usual, and nothing stays.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Callable, TypeVar, Union

from ..errors import Unsupported
from ..model import rules
from ..model.audit import Ledger
from ..model.backup import Copy, Restored
from ..model.datastore import Datastore
from ..model.devices import Has
from ..model.host import Host
from ..model.image import Image
from ..model.lease import HeldLease
from ..model.network import AddressRange, Network, Spread
from ..model.owner import Owner
from ..model.plan import GivenUp, Observed, Plan, VmOutcome
from ..model.template import StoredTemplate, Template

Ref = Union[str, int]
T = TypeVar("T")


@dataclass(frozen=True)
class VmRecord:
    """A machine as the catalog remembers it. state: one word (model.states.vm_state_name). summary for users:
    no context values, no passwords. outdated: its networks say something else by now than its context does. awaits: it
    runs with other disks or NICs than it is to have, and gets these when it is off. recreates: it is to be made
    anew, which its host failed to do.
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
    recreates: bool = False
    stime: int = 0
    etime: int = 0
    # What the guest is told of itself: hostname is "" if it is told none, addresses is None if it has no context.
    hostname: str = ""
    addresses: Sequence[str] | None = None
    warnings: Sequence[str] = ()
    nics: Sequence[Mapping[str, Any]] = ()
    disks: Sequence[Mapping[str, Any]] = ()
    graphics: Mapping[str, Any] = field(default_factory=dict)
    request: Template | None = field(default=None, repr=False)
    owner: Owner = Owner()
    # Why it may not be started: another machine, which was given up and runs, has an address of it. "" if none has.
    doubled: str = ""
    # What its guest was told to be called when it was last started, "" if that is what it is told now.
    former: str = ""


@dataclass(frozen=True)
class VmRequest:
    """One machine to instantiate. template: merged with all that the request overrides. host: "" for any."""

    name: str
    template: Template
    template_name: str = ""
    pattern: str = ""
    position: int | None = None
    host: str = ""
    wanted: str = "RUNNING"
    owner: Owner = Owner()


@dataclass(frozen=True)
class VmOrders:
    """How a wanted state is to be reached. operation: "", reboot or reset; recreate is vm_recreate()."""

    hard: bool = False
    shutdown_timeout: int = 120
    operation: str = ""


class Engine(abc.ABC):
    """capabilities: what this engine leaves to its callers. They ask these, never its name.

    "plans": it deploys nothing itself. vm_plans() has what nebula_deploy is to do, and vm_observe() and vm_record()
    hear what came of it. An engine without it deploys by drivers of its own: it has no plans, and what these two are
    told changes nothing.
    "stores_images": the caller stores an image's file at the source that image_allocate() gave, and tells by
    image_update() what became of it. An engine without it stores the file itself, and the caller waits for READY.
    """

    capabilities: frozenset[str] = frozenset()

    @classmethod
    @abc.abstractmethod
    def from_params(cls, params: Mapping[str, Any], check_mode: bool, create: bool) -> Engine:
        """Open it by a module's options. create: begin a catalog where there is none. In check mode a catalog that is
        not there is an empty one that nobody keeps."""

    @classmethod
    @abc.abstractmethod
    def begun(cls, params: Mapping[str, Any]) -> bool:
        """Whether there is a catalog to open."""

    @abc.abstractmethod
    def end(self, last: Callable[[], None]) -> None:
        """Remove the catalog, if it is this collection's to remove. last: called when no other run can decide anything
        any more; when it raises, nothing is removed."""

    @classmethod
    def is_left(cls, params: Mapping[str, Any]) -> bool:
        """Whether forget() has something to do."""
        return False

    @classmethod  # noqa: B027 (most leave nothing)
    def forget(cls, params: Mapping[str, Any]) -> None:
        """Remove what end() leaves, or a run that was killed after it."""

    @abc.abstractmethod
    def session(self) -> AbstractContextManager[None]:
        """All verbs inside stay together, or none does: when it raises, or at its end in check mode, everything is as
        it was before. Verbs see what those before them did, in check mode too. An engine that can't roll back does not
        send in check mode, but answers from what it would have sent; when it raises, it takes back what it sent."""

    def decide(self, work: Callable[[], T]) -> T:
        """What `work` answers, done in a session. Files that machines want from the net are fetched meanwhile, outside
        of any session: then `work` is undone and done again."""
        with self.session():
            return work()

    @abc.abstractmethod
    def attempt(self) -> AbstractContextManager[None]:
        """A part of a session that is undone alone when it raises, by the same rule; what was done in the session
        before it stays. An attempt that raises undoes those within it as well."""

    @abc.abstractmethod
    def declare(self, declared: Mapping[str, Any]) -> None:
        """Check mode: take as given what earlier tasks of this run would have created, as their results show it
        (keys images, networks, templates, hosts)."""

    @abc.abstractmethod
    def catalog(self) -> str:
        """The catalog's UUID."""

    @abc.abstractmethod
    def close(self) -> None: ...

    # -- audit ----------------------------------------------------------------------------------------------------
    @abc.abstractmethod
    def ledger(self) -> Ledger:
        """For an audit: what has to be the case, and what is wrong with the catalog in itself. Never raises for a
        damaged catalog: it says so. Not within a session."""

    @abc.abstractmethod
    def repair(self) -> list[str]:
        """Derive anew what follows from the machines (leases, ports, uses of images, counters); a sentence for each
        thing that was not so. Within a session."""

    # -- copies ---------------------------------------------------------------------------------------------------
    def copy(self, path: str) -> Copy:
        """Write a sound copy of the catalog to the new file `path`, whoever works on it meanwhile."""
        raise _no_copies()

    @classmethod
    def look_at(cls, path: str) -> Copy:
        """CatalogError if the file is not a copy that this engine can restore."""
        raise _no_copies()

    @classmethod
    def restore(
        cls, params: Mapping[str, Any], check_mode: bool, path: str, observed: Sequence[Observed], force: bool
    ) -> tuple[Restored, bool, str]:
        """Make the copy at `path` the catalog; "" for an empty one under the UUID that the nodes carry. Raised above
        all that the nodes have seen, so that they follow it. What became of it, whether anything is different now, and
        where what was in its place was put ("" if nothing was). force: also over a newer or another catalog, and
        without the answer of nodes."""
        raise _no_copies()

    # -- images ---------------------------------------------------------------------------------------------------
    @abc.abstractmethod
    def image_pool(self) -> list[Image]: ...

    @abc.abstractmethod
    def image_info(self, ref: Ref) -> Image: ...

    @abc.abstractmethod
    def image_allocate(self, image: Image) -> Image:
        """Register it as LOCKED: id, uuid and source path are given by the engine."""

    @abc.abstractmethod
    def image_update(self, ref: Ref, **changes: Any) -> Image:
        """Set fields of model.image.Image (state, size, format, sha256, error, persistent, type, name …), with the
        rules for each: chtype within its family, persistence refused while in use."""

    @abc.abstractmethod
    def image_clone(self, ref: Ref, image: Image) -> Image:
        """Register `image` as image_allocate() does, to be made from the file of another, which is in state CLONE until
        this one is no longer LOCKED."""

    @abc.abstractmethod
    def image_delete(self, ref: Ref) -> Image: ...

    def image_returned(self, ref: Ref, error: str = "") -> Image:
        """Note that the file of an image that was on its way back from a host is here. error: why it never will be: the
        image is ERROR then, with the file that it had before. Of engines with "plans"."""
        raise Unsupported(f"image {ref}: its file from a host", "this engine fetches files by its own drivers")

    # -- datastores -----------------------------------------------------------------------------------------------
    @abc.abstractmethod
    def datastore_pool(self) -> list[Datastore]: ...

    @abc.abstractmethod
    def datastore_info(self, ref: Ref) -> Datastore: ...

    @abc.abstractmethod
    def datastore_allocate(self, datastore: Datastore) -> Datastore: ...

    @abc.abstractmethod
    def datastore_update(self, ref: Ref, **changes: Any) -> Datastore: ...

    @abc.abstractmethod
    def datastore_delete(self, ref: Ref) -> Datastore:
        """Those of every catalog stay, and those in which images lie."""

    # -- virtual networks -----------------------------------------------------------------------------------------
    @abc.abstractmethod
    def vn_pool(self) -> list[Network]: ...

    @abc.abstractmethod
    def vn_info(self, ref: Ref) -> Network: ...

    @abc.abstractmethod
    def vn_allocate(self, network: Network) -> Network: ...

    @abc.abstractmethod
    def vn_update(self, ref: Ref, **changes: Any) -> Network: ...

    @abc.abstractmethod
    def vn_add_ar(self, ref: Ref, address_range: AddressRange) -> Network: ...

    @abc.abstractmethod
    def vn_update_ar(self, ref: Ref, address_range: AddressRange) -> Network: ...

    @abc.abstractmethod
    def vn_rm_ar(self, ref: Ref, ar_id: int) -> Network: ...

    @abc.abstractmethod
    def vn_delete(self, ref: Ref) -> Network: ...

    def vn_spread(self) -> list[Spread]:
        """The networks whose machines are on nodes that do not reach each other by it. None of an engine whose drivers
        connect them."""
        return []

    def vn_held(self) -> list[HeldLease]:
        """The addresses that are leased to no NIC, and given to nobody. Of engines with "plans"."""
        return []

    # -- templates ------------------------------------------------------------------------------------------------
    @abc.abstractmethod
    def template_pool(self) -> list[StoredTemplate]: ...

    @abc.abstractmethod
    def template_info(self, ref: Ref) -> StoredTemplate: ...

    @abc.abstractmethod
    def template_allocate(self, name: str, template: Template) -> StoredTemplate: ...

    @abc.abstractmethod
    def template_update(self, ref: Ref, template: Template) -> StoredTemplate: ...

    @abc.abstractmethod
    def template_delete(self, ref: Ref) -> StoredTemplate: ...

    # -- hosts ----------------------------------------------------------------------------------------------------
    @abc.abstractmethod
    def host_pool(self) -> list[Host]: ...

    def hypervisors(self) -> tuple[str, ...]:
        """What its hosts run; before there is any, all that they might."""
        return tuple(dict.fromkeys(host.hypervisor for host in self.host_pool())) or tuple(rules.RULES)

    @abc.abstractmethod
    def host_info(self, ref: Ref) -> Host: ...

    @abc.abstractmethod
    def host_allocate(self, host: Host) -> Host: ...

    @abc.abstractmethod
    def host_update(self, ref: Ref, **changes: Any) -> Host: ...

    @abc.abstractmethod
    def host_delete(self, ref: Ref) -> Host: ...

    @abc.abstractmethod
    def host_forget(self, ref: Ref, gone: bool = False) -> Host:
        """Delete a host that is given up: its machines are DONE without anybody having ended them, and their addresses
        are held until that host was seen without them. gone: it is gone for good, and they are free."""

    def host_gone(self, name: str) -> list[str]:
        """A host that was forgotten is gone for good: what is held for its machines is free. The addresses. Of engines
        with "plans"."""
        return []

    @abc.abstractmethod
    def host_check(self, observed: Sequence[Observed]) -> None:
        """Raise ForeignObject or CatalogError if a node follows another catalog, or newer plans than this one has made:
        then this one was lost, or is an older copy, and must not decide anything."""

    # -- virtual machines, always many at a time ------------------------------------------------------------------
    @abc.abstractmethod
    def vm_pool(
        self,
        names: Iterable[str] | None = None,
        patterns: Iterable[str] | None = None,
        ids: Iterable[int] | None = None,
        done: bool = False,
    ) -> list[VmRecord]:
        """The machines that any of the selectors names; all with none. Those in state DONE only if asked."""

    @abc.abstractmethod
    def vm_instantiate(self, requests: Sequence[VmRequest], hosts: Sequence[str] | None = None) -> list[VmRecord]:
        """Ids, leases, images and capacity for the whole batch, or an error and nothing. hosts: only on these."""

    @abc.abstractmethod
    def vm_action(self, vm_id: int, wanted: str, orders: VmOrders) -> VmRecord: ...

    @abc.abstractmethod
    def vm_devices(self, vm_id: int) -> Mapping[str, Sequence[Has]]:
        """What the machine has, or is to have, of each DISK and NIC of its request."""

    @abc.abstractmethod
    def vm_update(self, vm_id: int, template: Template, owner: Owner | None = None) -> VmRecord:
        """Give the machine what `template` says and can be changed on it (see model.changes.CHANGEABLE). owner:
        None for the one that it has."""

    @abc.abstractmethod
    def vm_rename(self, vm_id: int, name: str) -> VmRecord:
        """Call the machine otherwise, in whatever state it is. It belongs to no pattern from then on. Its guest is told
        by its context, and takes it from there when it is started anew."""

    def vm_adopt(
        self, vm_id: int, request: VmRequest, hosts: Sequence[str] | None = None, foreseen: bool = False
    ) -> VmRecord:
        """Take over a machine that a node was seen to have in this session, with the catalog's mark, and that the
        catalog does not know: under its own id, with its leases, where it is, in the state in which it is. It has to be
        what the request says. foreseen: it may not have been compared yet; its plan is for that. Of engines with
        "plans"."""
        raise Unsupported(f"VM {request.name}: adopting machine {vm_id}", "this engine knows all of its machines")

    @abc.abstractmethod
    def vm_recreate(self, vm_id: int, template: Template, owner: Owner | None = None) -> VmRecord:
        """Make it anew from `template` under its own id: new disks, and new leases where its NICs differ."""

    @abc.abstractmethod
    def vm_disk_save_as(self, vm_id: int, disk_id: int, image: Image, consistency: str) -> VmRecord:
        """Have a disk saved as a new image of that name, type and description. An image that an earlier save of this
        disk made stays as it is; one that failed is made again. consistency: see model.plan.DiskTask."""

    @abc.abstractmethod
    def vm_disk_snapshot(self, vm_id: int, disk_id: int, name: str, wanted: str) -> VmRecord:
        """Have a snapshot of a disk made (present) or deleted (absent), or the disk made what it was then (reverted);
        what is so already, or on its way, is left alone. reverted is done whenever it is asked for."""

    @abc.abstractmethod
    def vm_history(self, vm_id: int) -> list[Mapping[str, Any]]:
        """What happened to it, oldest first: time (s since the epoch), host, state, action, reason."""

    @abc.abstractmethod
    def vm_observe(self, observed: Sequence[Observed]) -> list[VmRecord]:
        """Take over what the nodes say is the case; the machines whose state differs from what was remembered."""

    def vm_given_up(self) -> list[GivenUp]:
        """Machines that were given up with their host, and that a node was seen to have in this session: what they
        lease is held, and a machine that has an address of theirs is not started. Of engines with "plans"."""
        return []

    @abc.abstractmethod
    def vm_plans(self, hosts: Sequence[str] | None = None, end_given_up: bool = False) -> dict[str, Plan]:
        """A plan for each host that has unfinished machines; numbered, so that older ones are refused from now on.
        end_given_up: those of vm_given_up() are powered off, and their disks stay."""

    @abc.abstractmethod
    def vm_record(self, host: str, outcomes: Sequence[VmOutcome] | None, done_number: int = 0) -> list[VmRecord]:
        """Take over what a node did; outcomes None: it did not answer. done_number: as it observed afterwards; polls
        that know less are passed over from now on. The machines that moved."""


def _no_copies() -> Unsupported:
    return Unsupported("a backup of the catalog", "another program keeps it", "Use the backup of that program")
