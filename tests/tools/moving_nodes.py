# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two nodes with machines in memory, between which machines move: both carry out their plans at the same time, in one
process, and speak over the loopback as two hosts do."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memory_hypervisor import Machine, MemoryDriver
from memory_node import CATALOG, Node, machine
from move_pairs import PATIENCE, Beside, free_port, key_pair

from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, HypervisorError, NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import (
    Departure,
    Mark,
    Receiver,
    Site,
    StateElsewhere,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.moves import node_moves
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.moves.node_moves import NodeMove
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.moves.passage import DISKS, MEMORY, Channel
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk, DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.model.move import (
    LIVE,
    SOURCE,
    TARGET,
    Leftover,
    PlannedMove,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import PlannedVm, VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm

DATA = b"what its guest wrote " * 5000


class MemoryState(StateElsewhere):
    """As of a TPM, in one file."""

    name, most = "tpm", 16

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextlib.contextmanager
    def reading(self) -> Iterator[int | None]:
        if not self._path.exists():
            yield None
            return
        with self._path.open("rb") as file:
            yield file.fileno()

    @contextlib.contextmanager
    def writing(self) -> Iterator[int]:
        if self._path.exists():
            raise Conflict("state of a TPM", "it is there")
        with self._path.open("wb") as file:
            yield file.fileno()

    def settle(self) -> None:
        pass

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)


@dataclass
class MovingDriver(MemoryDriver):
    """Its machines move: their disks and memory go through the tunnels. paths: of a machine's disks, once it comes.
    beside: files beside its disks that its guest changes. elsewhere: one of the host's own.
    stays: why it is not removed. hardware: what it was
    asked for. disowned: ids of machines.
    during, after: called in the midst of a departure, and
    when the machine is gone. arrives_as: its state then at the target."""

    copies_departing_disks: bool = True
    holds_departing_roots: bool = False
    # The directory that it makes as a machine's root, with one file in it.
    own_root: str = ""
    paths: dict[int, Mapping[int, DiskFiles]] = field(default_factory=dict)
    during: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None
    arrives_as: str = "UNKNOWN"
    beside: dict[str, int] = field(default_factory=dict)
    hardware: list[tuple[str, str]] = field(default_factory=list)
    disowned: list[int] = field(default_factory=list)
    elsewhere: Path | None = None
    stays: str = ""

    def offer(self, mark: Mark) -> str:
        self.did("offer", mark)
        return f"definition of {mark.vm_id}"

    def processor_offered(self, offered: str) -> str:
        return f"processor of {offered}"

    def require_hardware(self, vm: Vm, site: Site, offered: str = "", processor: str = "") -> None:
        self.hardware.append((offered, processor))
        if "require_hardware" in self.fails:
            raise self.fails["require_hardware"]

    def state_files(self, vm: Vm) -> Mapping[str, int]:
        return self.beside

    def own_roots(self, vm: Vm, directory: str) -> Mapping[int, str]:
        return {0: f"{directory}/{self.own_root}"} if self.own_root else {}

    def root_size(self, path: str, what: str) -> int:
        return 0

    def pack_root(self, mark: Mark, path: str, fd: int, what: str, timeout: float) -> int:
        self.did("pack_root", mark)
        os.write(fd, Path(path, "file").read_bytes())
        return 0

    def take_root(self, path: str, blocks: Generator[bytes, None, None], what: str, timeout: float) -> list[str]:
        if "take_root" in self.fails:
            raise self.fails["take_root"]
        content = b"".join(blocks)
        Path(path).mkdir()
        Path(path, "file").write_bytes(content)
        return []

    def state_elsewhere(self, vm: Vm) -> StateElsewhere | None:
        if "state_elsewhere" in self.fails:
            raise self.fails["state_elsewhere"]
        return None if self.elsewhere is None else MemoryState(self.elsewhere)

    def has_state_elsewhere(self, mark: Mark) -> bool:
        return self.elsewhere is not None and self.elsewhere.exists()

    def remove_state_elsewhere(self, mark: Mark) -> str:
        if self.elsewhere is not None and not self.stays:
            self.elsewhere.unlink(missing_ok=True)
        return self.stays

    def disown(self, mark: Mark) -> bool:
        self.disowned.append(mark.vm_id)
        if "disown" in self.fails:
            raise self.fails["disown"]
        return super().disown(mark)

    def accept(self, vm: Vm, site: Site, offered: str) -> str:
        self.did("accept", Mark(CATALOG, vm.vm_id, vm.uuid))
        self.paths[vm.vm_id] = dict(site.disks)
        return f"accepted {offered}"

    def depart(self, vm: Vm, mark: Mark, departure: Departure) -> None:
        assert departure.definition == f"accepted definition of {vm.vm_id}"
        self.did("depart", mark)
        for number in departure.copied:
            content = self.paths[vm.vm_id][number].path
            self._carry(departure, DISKS, disk=number, content=Path(content).read_bytes().hex())
        if self.holds_departing_roots:
            departure.send_roots()
        self.during()
        self._carry(departure, MEMORY, uuid=vm.uuid)
        del self.machines[mark.vm_id]
        self.after()

    @staticmethod
    def _carry(departure: Departure, name: str, **message: Any) -> None:
        try:
            channel = departure.caller.connect(name)
        except OSError as error:
            raise HypervisorError("migration", f"connection lost: {error}") from error
        with contextlib.closing(channel):
            channel.send(**message)
            channel.receive(PATIENCE)

    def receive(self, mark: Mark, token: str, definition: str, disks: Collection[str]) -> Receiver:
        self.did("receive", mark)
        return MemoryReceiver(self, mark)

    def has_arrived(self, mark: Mark) -> bool:
        return mark.vm_id in self.machines and self.machines[mark.vm_id].state == "UNKNOWN"


class MemoryReceiver(Receiver):
    def __init__(self, driver: MovingDriver, mark: Mark) -> None:
        self._driver = driver
        self._mark = mark
        self.error: NebulaError | None = None

    def tunnels(self) -> Mapping[str, Callable[[Channel], None]]:
        return {DISKS: self._take_disk, MEMORY: self._take_memory}

    def _take_disk(self, channel: Channel) -> None:
        message = channel.receive(PATIENCE)
        path = Path(self._driver.paths[self._mark.vm_id][message["disk"]].path)
        with path.open("r+b") as file:
            file.write(bytes.fromhex(message["content"]))
        channel.send(done=True)
        channel.close()

    def _take_memory(self, channel: Channel) -> None:
        message = channel.receive(PATIENCE)
        self._driver.machines[self._mark.vm_id] = Machine(message["uuid"], CATALOG, self._driver.arrives_as)
        channel.send(done=True)
        channel.close()

    def close(self) -> NebulaError | None:
        return self.error


class MovingNode(Node):
    driver: MovingDriver

    def __init__(self, root: Path, name: str) -> None:
        root.mkdir()
        super().__init__(root)
        self.driver = MovingDriver()
        self.name = name

    def ledger(self, vm_id: int = 1) -> str:
        """The stage of a machine, "" for none."""
        entry = node_moves.read(str(self.root), vm_id)
        return entry.stage if entry is not None else ""

    def note(self, stage: str, way: str = LIVE, token: str = "", shared: bool = False, boot: str = "") -> None:
        """As a run that was killed has left it."""
        token = token or token_of(1)
        entry = NodeMove(1, "uuid-1", token, stage, CATALOG, way, shared, boot or node_file.boot_id())
        node_moves.write(str(self.root), entry)

    def clear(self, *vm_ids: int, token: str = "") -> list[VmOutcome]:
        """Carry out a plan by which what is left of these moves goes."""
        left = (Leftover(each, f"uuid-{each}", token or token_of(each)) for each in vm_ids or (1,))
        return self.apply(leftovers=tuple(left))


def token_of(vm_id: int) -> str:
    return f"token-of-{vm_id}"


def moved(outcome: VmOutcome) -> tuple[str, str, str]:
    """What became of the move, the state, and the kind of the error."""
    return outcome.moved, outcome.state, str(outcome.error["kind"]) if outcome.error else ""


class Pair:
    """The source and the target, and one machine with a disk of its own."""

    def __init__(self, place: Path) -> None:
        self.source = MovingNode(place / "source", "source")
        self.target = MovingNode(place / "target", "target")
        self.vm = machine(1, disks=(Disk(0, "vda", type="FS", size=1, driver="raw", format="raw"),))
        self.generation = 1
        self.port = free_port()
        self.token = token_of(1)

    @staticmethod
    def port_beside(port: int) -> int:
        """Another one."""
        found = port
        while found == port:
            found = free_port()
        return found

    @property
    def nodes(self) -> dict[str, MovingNode]:
        return {SOURCE: self.source, TARGET: self.target}

    def begin(self, state: str = "RUNNING") -> None:
        """Have the machine on the source, with what its guest wrote."""
        outcome = self.source.one(state, self.generation, self.vm)
        assert outcome.error is None, outcome
        (self.source.directory(1) / "disk.0").write_bytes(DATA.ljust(1 << 20, b"\0"))
        self.source.driver.paths[1] = {0: DiskFiles(str(self.source.directory(1) / "disk.0"), "raw")}
        self.source.driver.names()

    def planned(self, role: str, way: str, wanted: str, orders: Mapping[str, Any], **values: Any) -> PlannedVm:
        peer = TARGET if role == SOURCE else SOURCE
        move = PlannedMove(
            self.token,
            role,
            way,
            peer,
            address="127.0.0.1" if role == SOURCE else "",
            port=self.port,
            certificate=key_pair(peer)[0],
            **{"limit": 60, "meeting": int(PATIENCE), **values},
        )
        return PlannedVm(self.vm, self.generation, wanted, previous=wanted, move=move, **orders)

    def move(
        self,
        way: str = LIVE,
        wanted: str = "RUNNING",
        roles: tuple[str, ...] = (SOURCE, TARGET),
        orders: Mapping[str, Any] | None = None,
        plans: Mapping[str, Any] | None = None,
        **values: Any,
    ) -> dict[str, VmOutcome]:
        """Carry the move out. Return the outcomes by role. values: of PlannedMove. orders: of PlannedVm. plans: of the
        Plan of each role."""
        self.generation += 1
        number = max(each.number for each in self.nodes.values())
        found: dict[str, VmOutcome] = {}

        def act(role: str) -> None:
            node, (certificate, key) = self.nodes[role], key_pair(role)
            node.number = number
            planned = self.planned(role, way, wanted, orders or {}, **values)
            more = (plans or {}).get(role, {})
            (found[role],) = node.apply(planned, certificate=certificate, key=key, moving=(self.token,), **more)

        for each in [Beside(functools.partial(act, role)) for role in roles]:
            each.result()
        return found

    def ask(self, *roles: str, way: str = LIVE) -> dict[str, VmOutcome]:
        return self.move(way, roles=roles or (SOURCE, TARGET), asks=True)

    def content(self, node: MovingNode) -> bytes:
        return (node.directory(1) / "disk.0").read_bytes().rstrip(b"\0")

    def on(self) -> dict[str, str]:
        """In which state the machine is, where it is."""
        found = {role: each.driver.machines.get(1) for role, each in self.nodes.items()}
        return {role: each.state for role, each in found.items() if each is not None}

    def directories(self) -> list[str]:
        return [role for role, each in self.nodes.items() if each.directory(1).exists()]


def once(event: threading.Event) -> Callable[[], None]:
    """Wait for the event in the midst of a move."""

    def wait() -> None:
        assert event.wait(PATIENCE)

    return wait
