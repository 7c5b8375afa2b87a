# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A migration with a stand-in for libvirt, whose sockets are real ones; what libvirt and QEMU do is shown in
tests/integration/test_fleet.py. The flags are those of libvirt-domain.h."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from libvirt_stand_in import LibvirtError
from move_pairs import PATIENCE, TOKEN, Beside, bare_pair, caller, door, free_port, key_pair

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    ForeignObject,
    HypervisorError,
    MissingDependency,
    NebulaError,
    OtherHostFailed,
    TimedOut,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Departure
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import migration
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.migration import (
    MigrationReceiver,
    depart,
    explain,
    flags_of,
    path_of,
    user_of_qemu,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.moves.passage import (
    CONTROL,
    DISKS,
    MEMORY,
    Caller,
    Channel,
    Meeting,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm

pytestmark = pytest.mark.root
ASKED = "moving one-1"
OWN = os.geteuid()
CHANNELS = (CONTROL, MEMORY, DISKS)
DEFINITION = "<domain><name>one-1</name></domain>"
LV = SimpleNamespace(
    VIR_MIGRATE_LIVE=1,
    VIR_MIGRATE_PEER2PEER=2,
    VIR_MIGRATE_UNDEFINE_SOURCE=16,
    VIR_MIGRATE_PAUSED=32,
    VIR_MIGRATE_NON_SHARED_INC=128,
    VIR_MIGRATE_UNSAFE=512,
    VIR_MIGRATE_PARAM_URI="migrate_uri",
    VIR_MIGRATE_PARAM_DISKS_URI="disks_uri",
    VIR_MIGRATE_PARAM_DEST_XML="destination_xml",
    VIR_MIGRATE_PARAM_MIGRATE_DISKS="migrate_disks",
    libvirtError=LibvirtError,
)
VM = Vm(1, "uuid-1", "web", "kvm", 1.0, 64, disks=(Disk(0, "vda"), Disk(1, "vdb"), Disk(2, "vdc")))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """The directory of sockets; its name is short, as a socket's has 107 bytes."""
    made = Path(f"/run/nebula-test-{os.getpid()}")
    request.addfinalizer(lambda: shutil.rmtree(made, ignore_errors=True))
    monkeypatch.setattr(migration, "PLACE", str(made))
    monkeypatch.setattr(migration, "SOCKETS", (str(tmp_path / "virtqemud"), str(tmp_path / "libvirt")))
    return made


class Domain:
    """One that migrates as a test says. at: called by migrateToURI3 with the sockets of the channels."""

    def __init__(self, at: Callable[[dict[str, str]], None] = lambda _places: None) -> None:
        self.at = at
        self.calls: list[tuple[str, dict[str, Any], int]] = []
        self.aborted = threading.Event()

    def name(self) -> str:
        return "one-1"

    def migrateToURI3(self, uri: str, parameters: dict[str, Any], flags: int) -> None:
        self.calls.append((uri, parameters, flags))
        self.at({channel: path_of(TOKEN, channel, "one-1") for channel in CHANNELS})

    def abortJob(self) -> None:
        self.aborted.set()


def departure(calling: Caller, copied: tuple[int, ...] = (0, 1), limit: int = 60, **more: Any) -> Departure:
    return Departure(TOKEN, DEFINITION, copied, calling, limit, more.get("lost", lambda: False))


@pytest.fixture
def nowhere() -> Caller:
    return caller(free_port())


def connected(path: str) -> socket.socket:
    local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    local.settimeout(PATIENCE)
    local.connect(path)
    return local


def is_over(connection: socket.socket) -> bool:
    connection.settimeout(PATIENCE)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


# -- at the source ----------------------------------------------------------------------------------------------------
def test_what_libvirt_is_asked_for(nowhere: Caller, place: Path) -> None:
    seen: list[Any] = []

    def look(places: dict[str, str]) -> None:
        directory = place / TOKEN
        seen.extend(oct(each.stat().st_mode & 0o7777) for each in (place, directory))
        seen.extend(os.path.exists(path) for path in places.values())

    domain = Domain(look)
    depart(LV, domain, VM, departure(nowhere), OWN, ASKED)
    ((uri, parameters, flags),) = domain.calls
    assert uri == f"qemu+unix:///system?socket={place}/{TOKEN}/control.tunnelmigrate.dest.one-1"
    assert parameters == {
        "migrate_uri": f"unix://{place}/{TOKEN}/memory.tunnelmigrate.dest.one-1",
        "disks_uri": f"unix://{place}/{TOKEN}/disks.tunnelmigrate.dest.one-1",
        "destination_xml": DEFINITION,
        "migrate_disks": ["vda", "vdb"],
    }
    assert flags == 1 | 2 | 16 | 32 | 128 | 512
    # Nobody but QEMU gets there.
    assert seen == ["0o711", "0o700", True, True, True]
    assert list(place.iterdir()) == [] and not domain.aborted.is_set()


def test_without_disks_of_its_own_none_are_copied(nowhere: Caller) -> None:
    domain = Domain()
    depart(LV, domain, VM, departure(nowhere, copied=()), OWN, ASKED)
    ((_uri, parameters, flags),) = domain.calls
    assert set(parameters) == {"migrate_uri", "destination_xml"}
    assert flags == flags_of(LV, copies=False) == 1 | 2 | 16 | 32 | 512


def test_a_machine_always_comes_to_a_stop() -> None:
    for copies in (False, True):
        assert flags_of(LV, copies) & LV.VIR_MIGRATE_PAUSED


def test_the_sockets_lead_to_the_other_host() -> None:
    meeting = Meeting(key_pair("source")[0])
    came: list[str] = []

    def answer(name: str) -> Callable[[Channel], None]:
        def carry(channel: Channel) -> None:
            came.append(name)
            channel.stream.sendall(name.encode())
            channel.close()

        return carry

    meeting.tunnels = {name: answer(name) for name in CHANNELS}

    def migrate(places: dict[str, str]) -> None:
        for name, path in places.items():
            with connected(path) as local:
                assert local.recv(64).decode() == name

    with door({TOKEN: meeting}) as port:
        depart(LV, Domain(migrate), VM, departure(caller(port)), OWN, ASKED)
    assert came == list(CHANNELS)


@pytest.mark.parametrize("error", [LibvirtError("no cpu"), TypeError("no such argument")])
def test_an_error_of_libvirt_is_one_of_the_move(nowhere: Caller, place: Path, error: BaseException) -> None:
    """Whatever it is: a machine that has not gone must not count as gone."""

    def fail(_places: dict[str, str]) -> None:
        raise error

    with pytest.raises(type(error)):
        depart(LV, Domain(fail), VM, departure(nowhere), OWN, ASKED)
    assert list(place.iterdir()) == []


def until_aborted(domain: Domain) -> Callable[[dict[str, str]], None]:
    def wait(_places: dict[str, str]) -> None:
        assert domain.aborted.wait(PATIENCE)
        raise LibvirtError("operation aborted: migration job: canceled by client")

    return wait


def test_one_that_takes_too_long_is_given_up(nowhere: Caller, place: Path) -> None:
    domain = Domain()
    domain.at = until_aborted(domain)
    with pytest.raises(TimedOut, match=r"not done within 0 s; it was given up.*nebula_move_timeout"):
        depart(LV, domain, VM, departure(nowhere, limit=0), OWN, ASKED)
    assert list(place.iterdir()) == []


def test_one_whose_other_host_is_gone_is_given_up(nowhere: Caller) -> None:
    domain, gone = Domain(), threading.Event()

    def at(places: dict[str, str]) -> None:
        gone.set()
        until_aborted(domain)(places)

    domain.at = at
    with pytest.raises(OtherHostFailed, match="other host is not there any more"):
        depart(LV, domain, VM, departure(nowhere, lost=gone.is_set), OWN, ASKED)


def test_one_that_ends_in_the_last_moment_has_moved(nowhere: Caller) -> None:
    domain = Domain()

    def end(_places: dict[str, str]) -> None:
        assert domain.aborted.wait(PATIENCE)

    domain.at = end
    depart(LV, domain, VM, departure(nowhere, limit=0), OWN, ASKED)


def test_one_that_libvirt_does_not_end_is_named(nowhere: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr(migration, "ENDING_SECONDS", 0.2)
    monkeypatch.setattr(migration, "_AGAIN", 0.01)

    def last(_places: dict[str, str]) -> None:
        assert ended.wait(PATIENCE)

    with pytest.raises(TimedOut, match="libvirt does not end it"):
        depart(LV, Domain(last), VM, departure(nowhere, limit=0), OWN, ASKED)
    ended.set()


def test_what_an_earlier_run_left_in_its_place_is_gone(nowhere: Caller, place: Path) -> None:
    left = place / TOKEN / "control.tunnelmigrate.dest.one-1"
    left.mkdir(parents=True)
    depart(LV, Domain(), VM, departure(nowhere), OWN, ASKED)
    assert list(place.iterdir()) == []


def test_moves_beside_each_other_have_places_of_their_own(nowhere: Caller, place: Path) -> None:
    with migration._place("other", OWN, ASKED):
        depart(LV, Domain(), VM, departure(nowhere), OWN, ASKED)
        assert [each.name for each in place.iterdir()] == ["other"]
    assert list(place.iterdir()) == []


def test_sockets_have_names_that_the_kernel_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert max(len(path_of("f" * 32, channel, "one-9999999")) for channel in CHANNELS) < 108
    assert path_of(TOKEN, MEMORY, "one-1").startswith("/run/libvirt/nebula-moves/")


# -- at the target ----------------------------------------------------------------------------------------------------
class Receiving:
    """A receiver at work, and the source's ends of its channels."""

    def __init__(self, definition: str = DEFINITION, disks: tuple[str, ...] = ("vda", "vdb")) -> None:
        self.receiver = MigrationReceiver(LV, TOKEN, "one-1", definition, disks, OWN, ASKED)
        self.working: list[Beside] = []

    def connect(self, name: str) -> socket.socket:
        ours, theirs = bare_pair()
        ours.settimeout(PATIENCE)
        self.working.append(Beside(lambda: self.receiver.tunnels()[name](Channel(theirs, ASKED))))
        return ours


@pytest.fixture
def receiving() -> Iterator[Receiving]:
    made = Receiving()
    yield made
    made.receiver.close()
    for each in made.working:
        each.result()


@contextlib.contextmanager
def listening(path: str) -> Iterator[socket.socket]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.settimeout(PATIENCE)
    listener.bind(path)
    listener.listen()
    with listener:
        yield listener


def accepted(listener: socket.socket) -> socket.socket:
    connection, _address = listener.accept()
    connection.settimeout(PATIENCE)
    return connection


def call(procedure: int, payload: bytes = b"") -> bytes:
    head = [28 + len(payload), 0x20008086, 1, procedure, 0, 1, 0]
    return b"".join(value.to_bytes(4, "big") for value in head) + payload


@pytest.mark.parametrize("name", [MEMORY, DISKS])
def test_what_qemu_sends_comes_to_qemu(receiving: Receiving, name: str) -> None:
    with listening(path_of(TOKEN, name, "one-1")) as listener:
        ours = receiving.connect(name)
        qemu = accepted(listener)
        ours.sendall(b"QEVM")
        assert qemu.recv(4) == b"QEVM"
        qemu.sendall(b"back")
        assert ours.recv(4) == b"back"
        qemu.close()
        assert is_over(ours)


@pytest.mark.parametrize("which", [0, 1])
def test_calls_of_a_migration_come_to_libvirtd(receiving: Receiving, which: int) -> None:
    """To the daemon that is there."""
    with listening(migration.SOCKETS[which]) as listener:
        ours = receiving.connect(CONTROL)
        daemon = accepted(listener)
        ours.sendall(call(66)[:10])
        ours.sendall(call(66)[10:])
        assert daemon.recv(100) == call(66)
        daemon.sendall(b"anything")
        assert ours.recv(100) == b"anything"


def test_other_calls_do_not(receiving: Receiving) -> None:
    with listening(migration.SOCKETS[0]) as listener:
        ours = receiving.connect(CONTROL)
        daemon = accepted(listener)
        # remoteDomainCreateXML
        ours.sendall(call(10, bytes(64)))
        assert is_over(daemon) and is_over(ours)
    error = receiving.receiver.close()
    assert isinstance(error, ForeignObject) and "call 10" in error.found


def test_there_are_no_more_connections_than_a_migration_has(receiving: Receiving) -> None:
    """One for the calls, one for the memory, and one for each disk."""
    with contextlib.ExitStack() as held:
        listeners = {
            CONTROL: held.enter_context(listening(migration.SOCKETS[0])),
            MEMORY: held.enter_context(listening(path_of(TOKEN, MEMORY, "one-1"))),
            DISKS: held.enter_context(listening(path_of(TOKEN, DISKS, "one-1"))),
        }
        for name, count in ((CONTROL, 1), (MEMORY, 1), (DISKS, 2)):
            for _each in range(count):
                receiving.connect(name)
                held.enter_context(accepted(listeners[name]))
            assert is_over(receiving.connect(name))
            assert not select.select([listeners[name]], [], [], 0)[0]


def test_the_daemon_that_does_not_answer_is_not_the_one(receiving: Receiving) -> None:
    """A socket is left where another kind of daemon ran before."""
    with listening(migration.SOCKETS[0]):
        pass
    assert os.path.exists(migration.SOCKETS[0])
    with listening(migration.SOCKETS[1]) as listener:
        ours = receiving.connect(CONTROL)
        daemon = accepted(listener)
        ours.sendall(call(66))
        assert daemon.recv(100) == call(66)


@pytest.mark.parametrize("owner", [OWN, OWN + 4711])
def test_what_is_no_socket_of_qemus_is_not_connected_to(place: Path, tmp_path: Path, owner: int) -> None:
    receiver = MigrationReceiver(LV, TOKEN, "one-1", DEFINITION, (), owner, ASKED)
    path = Path(path_of(TOKEN, MEMORY, "one-1"))
    elsewhere = str(tmp_path / "elsewhere")
    with listening(elsewhere) as listener:
        # A link, by whoever runs QEMU.
        path.symlink_to(elsewhere)
        ours, theirs = bare_pair()
        receiver.tunnels()[MEMORY](Channel(theirs, ASKED))
        assert is_over(ours)
        assert not select.select([listener], [], [], 0)[0]
    assert receiver.close() is None


@pytest.mark.parametrize("name", CHANNELS)
def test_where_nobody_listens_a_connection_ends(receiving: Receiving, name: str) -> None:
    assert is_over(receiving.connect(name))
    for each in receiving.working:
        each.result()
    assert receiving.receiver.close() is None


def test_nothing_is_carried_once_it_is_closed(receiving: Receiving, place: Path) -> None:
    with listening(path_of(TOKEN, MEMORY, "one-1")) as listener:
        ours = receiving.connect(MEMORY)
        qemu = accepted(listener)
        ours.sendall(b"a")
        assert qemu.recv(1) == b"a"
        assert receiving.receiver.close() is None
        assert is_over(qemu) and is_over(ours)
        # One that was let in a moment before.
        assert is_over(receiving.connect(DISKS))
    assert list(place.iterdir()) == []


def test_a_receiver_has_a_place_for_qemu(receiving: Receiving, place: Path) -> None:
    assert (place / TOKEN).stat().st_mode & 0o7777 == 0o700
    assert set(receiving.receiver.tunnels()) == {*CHANNELS}


CAPABILITIES = """<capabilities><host>
 <secmodel><model>apparmor</model><doi>0</doi></secmodel>
 <secmodel><model>dac</model><doi>0</doi>
  <baselabel type='kvm'>{label}</baselabel><baselabel type='qemu'>{label}</baselabel></secmodel>
</host></capabilities>"""


@pytest.mark.parametrize(
    ("text", "owner"),
    [
        (CAPABILITIES.format(label="+64055:+64055"), 64055),
        (CAPABILITIES.format(label="+0:+0"), 0),
        (CAPABILITIES.format(label="qemu:qemu"), 0),
        ("<capabilities><host/></capabilities>", 0),
        ("<capabilities><host><secmodel><model>dac</model></secmodel></host></capabilities>", 0),
    ],
)
def test_as_whom_qemu_runs(text: str, owner: int) -> None:
    assert user_of_qemu(text) == owner


def test_an_old_libvirt_is_named(nowhere: Caller) -> None:
    old = SimpleNamespace(**{key: value for key, value in vars(LV).items() if "DISKS_URI" not in key})
    with pytest.raises(MissingDependency, match="older than 6"):
        depart(old, Domain(), VM, departure(nowhere), OWN, ASKED)


# -- what its errors mean ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (HypervisorError(ASKED, "guest CPU doesn't match specification: missing features: avx"), "CPU_MODEL"),
        (HypervisorError(ASKED, "operation failed: host doesn't provide CPU feature x"), "CPU_MODEL"),
        (HypervisorError(ASKED, "operation failed: disks"), "move: cold"),
        (HypervisorError(ASKED, "operation failed: disks", "its own"), "its own"),
        (TimedOut(ASKED, "too long", "its own"), "its own"),
    ],
)
def test_an_error_says_what_to_do(error: NebulaError, remedy: str) -> None:
    assert remedy in explain(error).remedy
