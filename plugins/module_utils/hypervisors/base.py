# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Defines the one interface of all that runs machines. Rendering is pure, acting is thin. docs/adding_a_hypervisor.md
says what else a new hypervisor needs."""

from __future__ import annotations

import abc
import os
import re
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import field
from typing import TYPE_CHECKING, BinaryIO, ClassVar

from ..dataclass import dataclass
from ..errors import Conflict, ForeignObject, NebulaError, NotFound, Unsupported
from ..host import node_file
from ..host.hypervisor_daemons import Service
from ..host.node_file import Changes, NodeFile, Remember
from ..model import defaults
from ..model.audit import Domain
from ..model.disk import Disk, DiskFiles
from ..model.host import HostHardware, Overhead
from ..model.plan import ObservedVm
from ..model.vm import Vm
from . import standing_still
from .standing_still import Pausing

if TYPE_CHECKING:
    from ..storage.backup_files import NbdSource

    # Of TLS, which most modules never speak.
    from .moves.passage import Caller, Channel


@dataclass(frozen=True)
class Mark:
    """Says whose a machine is; the hypervisor keeps it with the machine itself (domain metadata). uuid: "" if the
    caller does not know it. run: what Driver.name_run() gave, if the hypervisor tells it with the rest."""

    catalog: str
    vm_id: int
    uuid: str = ""
    generation: int = 0
    run: str = ""


def domain_name(vm_id: int) -> str:
    """Return the name of a machine at its hypervisor."""
    return f"one-{vm_id}"


def nic_in_name(name: str, vm_id: int) -> int | None:
    """Return the number of the machine's NIC whose end on the host has this name; None where it is called
    otherwise."""
    found = re.fullmatch(rf"{re.escape(domain_name(vm_id))}-(\d{{1,9}})", name, re.ASCII)
    return int(found[1]) if found else None


def id_in_name(name: str) -> set[int]:
    """Return the id of the machine with this name, as a set; an empty set if the name is no machine's."""
    named = re.fullmatch(r"one-(0|[1-9]\d{0,17})", name)
    return {int(named[1])} if named else set()


def copied_domains(marked: Iterable[tuple[str, int]]) -> set[str]:
    """Return the names of domains that carry the mark of a machine whose own domain is there besides: somebody has
    copied it. marked: the domains with the mark of one catalog, each by its name and the id in the mark."""
    found = list(marked)
    own = {vm_id for name, vm_id in found if name == domain_name(vm_id)}
    return {name for name, vm_id in found if name != domain_name(vm_id) and vm_id in own}


def label_of(mark: Mark) -> str:
    """Return the name of a machine for messages to a person."""
    return f"virtual machine {mark.vm_id}"


def refuse_other(mark: Mark, found: Mark | None, asked: str, path: object, leave: str, drop: str) -> None:
    """Raise ForeignObject if the definition at `path` is not the machine's, Conflict if it has another UUID.
    found: the mark in it.
    leave, drop: what may be done with a definition of somebody else, and with one that is not needed."""
    if found is None or (found.catalog, found.vm_id) != (mark.catalog, mark.vm_id):
        whose = "has no mark of ours" if found is None else f"belongs to catalog {found.catalog}"
        raise ForeignObject(asked, f"{path} {whose}", f"{leave}: it will not be touched")
    if mark.uuid and found.uuid and found.uuid != mark.uuid:
        raise Conflict(
            asked,
            f"{path} has the UUID {found.uuid}, this machine's is {mark.uuid}",
            f"The catalog was replaced by another copy of itself? Remove the {drop} if it is not needed",
        )


@dataclass(frozen=True)
class Site:
    """Holds what rendering needs to know of the node and the machine's directory.
    disks: the files by disk id, the context's included.
    accelerator: as the driver chose it, for KVM "kvm" or "qemu" (emulation).
    emulator: the path of QEMU, where machines have one.
    cpu_shares: what one whole CPU weighs in the node's cgroups: 1024 in version 1, 100 in version 2, 0 if they
    can't weigh CPU here.
    swap_alone: a cgroup counts swap by itself here, and not together with memory.
    confinement: what confines containers here ("apparmor"), "" where nothing does.
    userspace_switch: Open vSwitch forwards frames here, and not the kernel.
    defaults: what the node says of its machines where their templates say nothing, by the names of its hypervisor."""

    directory: str
    catalog: str
    generation: int
    disks: Mapping[int, DiskFiles]
    accelerator: str = "qemu"
    emulator: str = "/usr/bin/qemu-system-x86_64"
    cpu_shares: int = 1024
    swap_alone: bool = False
    confinement: str = ""
    userspace_switch: bool = False
    defaults: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Deployment:
    """Holds a rendered deployment file. digest: the same for all files that differ in nothing but the generation. It
    covers passwords, so it is kept like them and is not part of the hypervisor's own, readable records."""

    text: str = field(repr=False)
    digest: str


@dataclass(frozen=True)
class AgentAnswer:
    """Holds what a guest's agent says: hostname ("" if it does not tell) and addresses (None if it does not)."""

    hostname: str = ""
    addresses: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Survey:
    """Describes what runs on this node.
    vms: the catalog's machines, whatever their state; other machines are never listed.
    foreign_memory: MiB that running machines hold which are not this catalog's, with what they take besides.
    foreign_ids: ids of machines whose names are somebody else's here, running or not.
    runs: by id, what name_run() gave to the runs of machines that were not started anew since; None where that is not
    kept."""

    vms: tuple[ObservedVm, ...] = ()
    foreign_memory: int = 0
    foreign_ids: frozenset[int] = frozenset()
    runs: Mapping[int, str] | None = None


@dataclass(frozen=True)
class Adjustment:
    """Says how a running machine is to be changed.
    grown: ids of the disks that are to be larger.
    removes: it may lose what it is to have no more.
    detach_timeout: seconds that a guest has to let go of a device.
    waiting: what is entered while the guest is waited for, so that other machines are changed meanwhile."""

    grown: tuple[int, ...] = ()
    removes: bool = False
    detach_timeout: int = defaults.DETACH_SECONDS
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext


@dataclass(frozen=True)
class Adjusted:
    """Says what became of a running machine.
    changed: something differed, and was changed.
    left: it still has what it is to have no more.
    notes: what is still to be done in it, a sentence each."""

    changed: bool = False
    left: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Departure:
    """Says how a running machine goes to another host.
    token: of the move.
    definition: with which it comes there, as that host has given it.
    copied: ids of the disks whose files do not come by themselves.
    limit: seconds after which it is given up.
    lost: returns whether the other host is not there any more.
    send_roots: brings the roots of a container that stands still to the other host (`holds_departing_roots`)."""

    token: str
    definition: str = field(repr=False)
    copied: Collection[int]
    caller: Caller
    limit: int
    lost: Callable[[], bool]
    send_roots: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class BackUp:
    """Says how the disks of a running machine are shown to who backs them up.
    checkpoint: the name by which the hypervisor is to know what is written from now on.
    since: that of the backup before, which stays until the new one is whole; "" for none.
    prefix: with which the names of all checkpoints of this place begin; those that are neither of the two are left of
    killed runs.
    consistency: AGENT, CRASH or "", as model/plan.py has them.
    directory: of the machine, where what its guest writes over meanwhile is kept aside.
    datastores: where images are made of its disks.
    full: what was written since is not asked for.
    stand_still: it may stand still meanwhile, where nothing else shows its disks as they are at one moment."""

    checkpoint: str
    since: str
    prefix: str
    consistency: str
    directory: str
    datastores: str
    full: bool = False
    stand_still: bool = False


class RunningBackup(abc.ABC):
    """Shows the disks of a running machine as they were at one moment."""

    @property
    @abc.abstractmethod
    def sources(self) -> Mapping[int, NbdSource]:
        """Return where the disks can be read, by disk id."""

    @property
    def roots(self) -> Mapping[int, str]:
        """Return the directories where roots of containers can be read, by disk id."""
        return {}

    @property
    def way(self) -> str:
        """Return how the disks are read, a sentence's part; "" for the usual one."""
        return ""

    @property
    @abc.abstractmethod
    def incremental(self) -> bool:
        """Return whether it is known what was written since the backup before."""

    @property
    @abc.abstractmethod
    def reason(self) -> str:
        """Return why that is not known where it was asked for, or will not be the next time; a sentence's end."""

    @property
    @abc.abstractmethod
    def consistency(self) -> str:
        """Return FROZEN, CRASH_CONSISTENT or STOOD_STILL, as model/machine_backup.py has them."""

    @property
    @abc.abstractmethod
    def checkpoint(self) -> str:
        """Return the name of the checkpoint that was made; "" for none."""

    def end_reading(self) -> None:  # noqa: B027 (most show what is of one moment, whatever happens meanwhile)
        """Take note that all was read. Raise InUse or TimedOut where it is not of one moment."""

    @abc.abstractmethod
    def keep(self) -> None:
        """Have the new checkpoint stay at the end, instead of the older ones: the backup is whole."""

    def leave_open(self) -> None:  # noqa: B027 (most have no checkpoints)
        """Have the new checkpoint stay beside the older ones: whether the backup became whole is not known. The next
        one removes what no backup goes on from."""


class Receiver(abc.ABC):
    """Takes in one running machine that comes from another host, until it is closed."""

    @abc.abstractmethod
    def tunnels(self) -> Mapping[str, Callable[[Channel], None]]:
        """Return what carries the connections that the old host makes, by channel."""

    @abc.abstractmethod
    def close(self) -> NebulaError | None:
        """End all connections; nothing is carried when this returns. Return why the first one was ended that was, if
        any."""


class StateElsewhere(abc.ABC):
    """Reads and writes what the guest of a machine has changed, and its host keeps in a place of its own: neither with
    its disks nor in its directory.
    name: by which it goes to another host.
    most: bytes that it has at most."""

    name: str
    most: int

    @abc.abstractmethod
    def reading(self) -> AbstractContextManager[int | None]:
        """Open it for a block of code, by its descriptor; None if the machine has none, since it never ran."""

    @abc.abstractmethod
    def writing(self) -> AbstractContextManager[int]:
        """Make it anew for a block of code, by its descriptor. It is on the disk at the end of the block. Raise
        Conflict if it is there."""

    @abc.abstractmethod
    def settle(self) -> None:
        """Have the kernel write it to the disk, whoever wrote it."""

    @abc.abstractmethod
    def forget(self) -> None:
        """Remove it, so that it can be made anew. The machine is off."""


class Secrets(abc.ABC):
    """Keeps the secrets of one owner's encrypted disks with the hypervisor of this node, by UUID."""

    @abc.abstractmethod
    def ours(self) -> set[str]: ...

    @abc.abstractmethod
    def check(self, uuid: str) -> bool:
        """Return whether the secret is there. Raise ForeignObject if it is somebody else's."""

    @abc.abstractmethod
    def keep(self, uuid: str, passphrase: str) -> None:
        """Make the secret, or give it this passphrase."""

    @abc.abstractmethod
    def remove(self, uuid: str) -> None:
        """Remove the secret. Raise InUse if any machine needs it, whoever owns that machine."""


# The mode of a machine's directory where what runs machines has users of its own.
OPEN = 0o711


class Driver(abc.ABC):
    """Works with one hypervisor on this node.
    capabilities: the operations that it has beyond the abstract methods, by the methods' names (OPTIONAL). A plan
    that asks for another operation is refused for that machine, by name, before anything of the machine is touched.
    programs, libraries: what it needs on a node, beside what every node needs; "xl|xm": one of them, the first if
    both are missing.
    services: its daemons, in the order of their start.

    States are given as model.states names: RUNNING, POWEROFF, UNKNOWN (there, and neither of the two: paused,
    crashed); SUSPENDED only where `suspends_in_memory`. All methods are called from several threads at once, for
    different machines. Class methods are for a node that is being made ready: there is nothing to connect to yet."""

    OPTIONAL = frozenset((
        "shutdown", "reboot", "reset", "suspend", "resume", "copy_disk", "snapshot_disk", "delete_disk_snapshot",
        "adjust", "ask_agent", "depart", "back_up", "snapshot_machine", "revert_machine", "delete_machine_snapshot",
    ))  # fmt: skip
    name: str = ""
    capabilities: frozenset[str] = frozenset()
    # Drivers of networks (VN_MAD) whose NICs are attached to another switch than a bridge of Linux.
    switches: frozenset[str] = frozenset()
    # Its machines have directories where others have disks and drives: their root, and their context.
    has_directories: bool = False
    # All that its machines have is in files, which may lie where other hosts have theirs.
    shares_datastores: bool = True
    # A machine that moves while it runs may have disks that the other host does not see: they are copied.
    copies_departing_disks: bool = False
    # A container that moves while it runs stands still as long as its roots are copied, and depart() says when.
    holds_departing_roots: bool = False
    # Disks of a machine that runs are made larger at once, by adjust().
    grows_running_disks: bool = False
    # name_run() and run_name() work; elsewhere nothing tells whether somebody else has started a machine anew.
    names_runs: ClassVar[bool] = False
    # What nothing but the hypervisor could read while a machine runs, can be read while the machine stands still.
    stands_still: ClassVar[bool] = False
    # A suspended machine stands still and keeps its memory on its host, with which it ends: nothing of it is saved.
    suspends_in_memory: bool = False
    programs: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    services: tuple[Service, ...] = ()

    # -- the node -------------------------------------------------------------------------------------------------
    @classmethod
    def access(cls, vm_id: int) -> tuple[int, int]:
        """Return mode and group of a machine's directory: 0711 and any group (-1) where what runs machines has users
        of its own, who have to get through; closed to all others where the directory holds a container's own files."""
        return OPEN, -1

    @classmethod
    @abc.abstractmethod
    def choose_accelerator(cls, wanted: str, cached: Mapping[str, str]) -> dict[str, str]:
        """Return {accelerator, reason, key}: what machines run on here, how that is known, and what the finding
        depends on.

        It is called for each plan: what takes long to find out is taken from `cached` while its key holds.
        wanted: the option `accelerator`; "" repeats the option with which `cached` was found.
        cached: an earlier answer."""

    @classmethod  # noqa: B027 (most need nothing)
    def prepare(cls, changes: Changes, remember: Remember) -> None:
        """Prepare what the node needs before the services start. What give_back() has to know is remembered before the
        change: this run may be killed in between."""

    @classmethod
    def give_back(cls, changes: Changes, known: NodeFile) -> bool:
        """Undo what prepare() did. Return whether there was something to undo."""
        return False

    @classmethod
    def versions(cls) -> dict[str, str]:
        """Return the versions of what runs machines here, by name; "" for what is not installed."""
        return {}

    @classmethod
    def overhead(cls, accelerator: str) -> Overhead:
        """Return what a machine takes of this node beside its memory, at most. accelerator: "" if not known yet."""
        return Overhead()

    @classmethod
    def capacity(cls) -> tuple[int, float]:
        """Return the MiB and the processors of this node that machines could have."""
        return node_file.memory(), float(node_file.processors())

    @classmethod
    def hardware(cls) -> HostHardware:
        """Return what machines can have of this node to themselves."""
        return HostHardware()

    def site(self, common: Site) -> Site:
        """Return what all machines of the node have in common, with what this hypervisor adds."""
        return common

    def secrets(self, owner: str) -> Secrets | None:
        """Return the keeper of the secrets of `owner`'s encrypted disks; None if nothing here keeps them."""
        return None

    # -- machines -------------------------------------------------------------------------------------------------
    @abc.abstractmethod
    def close(self) -> None: ...

    @abc.abstractmethod
    def render(self, vm: Vm, site: Site) -> Deployment:
        """Return the deployment file of a machine. Pure."""

    def running(self) -> tuple[str, ...]:
        """Return the names of all machines that run here, whoever made them, as far as they need its services."""
        return ()

    @abc.abstractmethod
    def survey(self, catalog: str) -> Survey: ...

    @abc.abstractmethod
    def inventory(self) -> tuple[tuple[Domain, ...], tuple[str, ...]]:
        """Return all machines with a mark of any catalog, and the names of those without a mark, for an audit."""

    @abc.abstractmethod
    def state(self, mark: Mark) -> str | None:
        """Return the machine's state; None if there is none. Raise ForeignObject if its name is somebody else's."""

    def is_foreign(self, mark: Mark, directory: str) -> bool:
        """Return whether the machine's name belongs to somebody else here, who uses nothing from its directory."""
        return False

    @abc.abstractmethod
    def define(self, vm: Vm, deployment: Deployment, mark: Mark) -> None:
        """Define the machine as the deployment says. A running machine gets at once what it can be given (CPU shares),
        and the rest when it starts anew."""

    @abc.abstractmethod
    def start(self, mark: Mark) -> None:
        """Boot the machine; a machine that was only paused goes on."""

    def attend(self, mark: Mark) -> None:  # noqa: B027 (most machines need nothing)
        """Start what should run beside the running machine and does not: its run may have been killed before."""

    @abc.abstractmethod
    def change_medium(self, vm: Vm, mark: Mark, path: str) -> bool:
        """Make a running machine read its context from `path`. Return False if it does so only at its next start."""

    def let_go(self, mark: Mark) -> None:  # noqa: B027 (most leave its disks to what runs it)
        """Close what this node itself has open of the disks of a machine that is off: their files are needed."""

    @abc.abstractmethod
    def cancel(self, mark: Mark) -> None:
        """Stop the machine at once, without asking its guest."""

    @abc.abstractmethod
    def remove(self, mark: Mark) -> bool:
        """Stop the machine at once and remove its definition with saved state, NVRAM and snapshots. Return whether
        there was something to remove."""

    def starts_with_host(self, mark: Mark) -> bool | None:
        """Return whether the machine starts when its host boots; None if there is none, or nothing starts it."""
        return None

    def set_starts_with_host(self, mark: Mark, wanted: bool) -> None:
        """Set whether the machine starts with its host. Only called where starts_with_host() says the opposite."""
        raise self.lacks("start with its host")

    def has_open_console(self, mark: Mark) -> bool:
        """Return whether the graphics of the running machine accept anybody without a password. It is only asked of
        machines that an earlier version has started, which gave a password only to those whose template has one."""
        return True

    def password_in(self, text: str) -> str:
        """Return the password of the console that a deployment file names, "" if it names none."""
        return ""

    def name_run(self, mark: Mark, name: str) -> None:  # noqa: B027 (most keep no such name)
        """Give the run of the machine a name that goes when it ends, and is kept where it is saved and resumed."""

    def run_name(self, mark: Mark) -> str:
        """Return the name that the run of the machine was given, "" if none."""
        return ""

    def press_key(self, mark: Mark) -> None:  # noqa: B027 (most have no keyboard)
        """Press the space bar of the machine's keyboard: an installer's loader may ask for any key."""

    def written(self, mark: Mark) -> int | None:
        """Return the bytes that the running machine has written to its disks since its start; None if unknown."""
        return None

    def check_saved(self, image: str, asked: str) -> None:  # noqa: B027 (most take any name)
        """Raise InvalidValue if what is saved of a machine here could not be used under this name of an image."""

    def check_consistency(self, mark: Mark, disk: Disk, consistency: str) -> None:  # noqa: B027 (most ask no guest)
        """Raise what copy_disk() and snapshot_disk() would raise now because of the running machine's guest."""

    # -- operations that not every hypervisor has -----------------------------------------------------------------
    def shutdown(self, mark: Mark, timeout: int) -> None:
        """Press the power button and wait. Raise TimedOut if the guest does not obey within `timeout` s; it runs on."""
        raise self.lacks("shutdown")

    def reboot(self, mark: Mark, timeout: int) -> None:
        raise self.lacks("reboot")

    def reset(self, mark: Mark) -> None:
        raise self.lacks("reset")

    def suspend(self, mark: Mark, checkpoint: str) -> None:
        """Save the running machine to the checkpoint file and end it; without a file where `suspends_in_memory`."""
        raise self.lacks("suspend")

    def resume(self, mark: Mark, checkpoint: str) -> None:
        """Go on from the checkpoint file, which the caller removes, or from memory."""
        raise self.lacks("resume")

    def adjust(self, vm: Vm, site: Site, mark: Mark, order: Adjustment) -> Adjusted:
        """Give the running machine the disks, NICs, memory and processors that it is to have, as far as that is
        possible while it runs. Raise Unsupported, before anything is done, for what can't be done while it runs, and
        TimedOut or InUse for what its guest keeps."""
        raise self.lacks("change a running machine's disks, NICs or memory")

    def check_adjustment(  # noqa: B027 (most find out by trying)
        self, vm: Vm, site: Site, mark: Mark, order: Adjustment
    ) -> None:
        """Raise what adjust() would raise now because of what the running machine is, before its new disks are made."""

    def on_huge_pages(self, catalog: str) -> frozenset[int]:
        """Return the ids of the catalog's machines whose memory is of pages that were set aside before."""
        return frozenset()

    def devices_left(self, vm: Vm, directory: str, mark: Mark) -> tuple[str, ...]:
        """Return which disks and NICs of its own the running machine has that it is to have no more: DISK or NIC, with
        the id. Nothing where that is not told. directory: of its files."""
        return ()

    def has_begun(self, vm: Vm, directory: str, mark: Mark) -> bool:
        """Return whether the running machine has other disks, files of disks or NICs than its definition, of what it is
        to get or to lose, as after a run that was broken off. True where that is not told. directory: of its files."""
        return True

    def depart(self, vm: Vm, mark: Mark, departure: Departure) -> None:
        """Move the running machine, live, to the host that the departure leads to. When this returns, it stands still
        there and is not here any more; after an error it is here, unless state() says otherwise. It goes with offer(),
        and at the other host accept(), receive() and has_arrived()."""
        raise self.lacks("move a running machine")

    def settle_departure(self, mark: Mark, token: str) -> str | None:
        """Return the machine's state once nothing moves it any more that depart() of a killed run has begun."""
        return self.state(mark)

    def settle_definitions(self) -> None:  # noqa: B027 (most keep none)
        """Bring to the disk which machines are defined here, and which of them start with the host."""

    def offer(self, mark: Mark) -> str:
        """Return what the other host has to know of the running machine."""
        raise self.lacks("move a running machine")

    def state_files(self, vm: Vm) -> Mapping[str, int]:
        """Return the files beside its disks, in the machine's directory, that hold what its guest has changed, each
        with the bytes that it has at most. A machine that never ran may lack them."""
        return {}

    def own_roots(self, vm: Vm, directory: str) -> Mapping[int, str]:
        """Return the roots of containers that it makes itself, each with its directory, by disk id. When a machine
        moves, root_size(), pack_root() and take_root() are asked for them. directory: of the machine."""
        return {}

    def root_size(self, path: str, what: str) -> int:
        """Return the bytes that a root takes, 0 for one that was never made. what: the words that errors begin with."""
        raise self.lacks("move a container")

    def pack_root(self, mark: Mark, path: str, fd: int, what: str, timeout: float) -> int:
        """Write the root of a machine that is off to a pipe, as an archive. Return of how much it has no place for.
        what: the words that errors begin with. timeout: seconds, after which it is given up."""
        raise self.lacks("move a container")

    def take_root(self, path: str, blocks: Generator[bytes, None, None], what: str, timeout: float) -> list[str]:
        """Make the root of such an archive, whole or not at all, and have it on the disk. Return warnings.
        what: the words that errors begin with. timeout: seconds, after which it is given up."""
        raise self.lacks("move a container")

    def state_elsewhere(self, vm: Vm) -> StateElsewhere | None:
        """Return what of the machine's state this host keeps in a place of its own; None for nothing. Raise
        MissingDependency where a machine with such a state can't move."""
        return None

    def has_state_elsewhere(self, mark: Mark) -> bool:
        """Return whether this host has such a state of the machine, whether or not it has the machine."""
        return False

    def remove_state_elsewhere(self, mark: Mark) -> str:
        """Remove such a state of a machine that is another host's. Return why it stays, "" if it does not."""
        return ""

    def disown(self, mark: Mark) -> bool:
        """Remove the definition of a machine that is another host's, as remove() does, but none of its state."""
        return self.remove(mark)

    def processor_offered(self, offered: str) -> str:
        """Return the processor of this host, if the running machine that is offered so has all of it; "" otherwise."""
        return ""

    def require_hardware(  # noqa: B027 (most have none to choose)
        self, vm: Vm, site: Site, offered: str = "", processor: str = ""
    ) -> None:
        """Raise Unsupported, by name, where this host lacks the hardware with which a machine of another host is to go
        on. Nothing of it is here yet.
        site: of this node, without any machine.
        offered, processor: what the other host says of a machine that runs; "" for one that is off."""

    def accept(self, vm: Vm, site: Site, offered: str) -> str:
        """Return the definition with which a machine of another host comes here, once its files are here. Raise
        Unsupported, by name, for what can't come."""
        raise self.lacks("take in a running machine")

    def receive(self, mark: Mark, token: str, definition: str, disks: Collection[str]) -> Receiver:
        """Be ready for the machine of this definition, and for nothing else. disks: targets of those that are
        copied."""
        raise self.lacks("take in a running machine")

    def has_arrived(self, mark: Mark) -> bool:
        """Return whether the machine is here as a whole, and stands still."""
        return False

    def announce(self, mark: Mark) -> None:  # noqa: B027 (others announce nothing)
        """Have what runs a machine that has come tell its network for some seconds where it is; return at once."""

    def copy_disk(self, mark: Mark, disk: Disk, path: str, format: str, consistency: str) -> None:
        """Write what a disk of the running machine holds at one moment to the file `path`, an empty disk of that
        format and size. consistency: see model.plan.DiskTask."""
        raise self.lacks("copy the disk of a running machine")

    def snapshot_disk(self, mark: Mark, disk: Disk, tag: str, consistency: str) -> None:
        """Keep what a disk of the running machine holds now, within its file, unless it has this snapshot."""
        raise self.lacks("make a snapshot of a running machine's disk")

    def pausing(self, mark: Mark) -> Pausing | None:
        """Return how the machine stands still while its disks are read; None for one that does not run."""
        raise self.lacks("have a machine stand still")

    def settle_standing_still(self, mark: Mark, directory: str) -> None:
        """Have a machine go on that stands still for a killed run of ours, and remove what that has left. directory: of
        the machine, whose lock is held."""
        if self.stands_still:
            standing_still.remove_copies(directory)
        if not self.stands_still or not standing_still.is_left(directory):
            return
        try:
            pausing = self.pausing(mark)
        except (NotFound, ForeignObject, Conflict):
            # It is not here any more.
            pausing = None
        standing_still.settle(pausing, directory, f"letting {label_of(mark)} go on")

    def delete_disk_snapshot(self, mark: Mark, disk: Disk, tag: str) -> None:
        raise self.lacks("delete a snapshot of a running machine's disk")

    def snapshot_machine(self, mark: Mark, disks: Sequence[Disk], tag: str) -> None:
        """Keep what the memory and all these disks of the running machine hold at one moment, within the files of the
        disks, unless it has this snapshot as a whole."""
        raise self.lacks("make a snapshot of a machine with its memory")

    def revert_machine(self, mark: Mark, tag: str) -> None:
        """Have the machine run on from what it was then, whether it runs or is off. It is defined as it was then, too.
        Raise NotFound, before anything is done, if there is no such snapshot."""
        raise self.lacks("go back to a snapshot of a machine")

    def delete_machine_snapshot(self, mark: Mark, disks: Sequence[Disk], tag: str) -> None:
        """Delete a snapshot from these disks of the running machine, and what the hypervisor knows of it."""
        raise self.lacks("delete a snapshot of a running machine")

    def forget_machine_snapshot(self, mark: Mark, tag: str) -> None:  # noqa: B027 (most know of none)
        """Forget what the hypervisor knows of a snapshot of a machine that is off; the files of its disks stay."""

    def check_machine_snapshot(  # noqa: B027 (most know of none)
        self, mark: Mark, tag: str = "", disks: Sequence[Disk] = ()
    ) -> None:
        """Raise what keeps a snapshot from being made, deleted or gone back to: a backup that runs. With a tag, raise
        also what keeps the machine from going back to that one. disks: that it holds."""

    def back_up(
        self, mark: Mark, disks: Sequence[tuple[Disk, DiskFiles]], order: BackUp
    ) -> AbstractContextManager[RunningBackup]:
        """Show disks of the running machine, all as they are at one moment, for a block of code. What a killed run left
        of an earlier backup is removed first. Raise InUse while somebody else backs the machine up."""
        raise self.lacks("back up a running machine")

    def end_left_backup(self, mark: Mark, datastores: str) -> None:  # noqa: B027 (most leave none)
        """End what a killed run left of a backup, which stands against changes of the machine. The caller holds the
        lock of the machine's directory."""

    def forget_checkpoints(  # noqa: B027 (most keep none)
        self, mark: Mark, files: Mapping[int, DiskFiles], prefix: str = ""
    ) -> None:
        """Forget the checkpoints of backups that begin so, all for "": the next backup is a full one. Raise Conflict,
        before anything is done, if all are to go and one is somebody else's.
        files: of the disks, where the machine is off."""

    def ask_agent(self, mark: Mark) -> AgentAnswer:
        """Return what the agent in the running machine says. Raise HypervisorError, with why, if none answers."""
        raise self.lacks("ask a guest's agent")

    def checkpoint_complete(self, checkpoint: str) -> bool:
        """Return whether a machine could go on from this file, which it can't from a half written one."""
        try:
            # A pipe that nobody writes to is not waited for.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(checkpoint, flags), "rb") as file:
                return self.is_saved(file)
        except OSError:
            return False

    def is_saved(self, file: BinaryIO) -> bool:
        """Return whether the file holds all of a saved machine."""
        return False

    def lacks(self, operation: str, asked: str = "") -> Unsupported:
        return Unsupported(
            asked or operation,
            f"hypervisor {self.name} can't {operation}",
            f"It can {', '.join(sorted(self.capabilities))}" if self.capabilities else "",
        )
