# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host and a front-end in one process, with TLS over the loopback: what each learns, and what is left."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from move_pairs import PATIENCE, Beside, free_port, key_pair, wait_until

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    HypervisorError,
    InUse,
    InvalidValue,
    NebulaError,
    NoSpace,
    OtherHostFailed,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.backups import taking as taking_module
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.backups.giving import Giving
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.backups.taking import Activity, Taking
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.given_backup import (
    GivenBackup,
    GivenDisk,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import (
    BackupPassage,
    BackupRequest,
    MachineToBackUp,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import root_backups
from ansible_collections.nebula.provision.plugins.module_utils.storage.backup_files import NbdSource
from ansible_collections.nebula.provision.plugins.module_utils.storage.root_backups import ReadableRoot

TOKEN = "7d0c0000000000000000000000000001"
FIRST, ORDER = ("new", ""), ("new", "old")
GIVEN = GivenBackup("RUNNING", "frozen", "by libvirt", (GivenDisk(0, "vda", "qcow2", 1 << 20, "vda", "b"),), True)


def machine(vm_id: int) -> MachineToBackUp:
    vm = Vm(vm_id, f"uuid-{vm_id}", f"web-{vm_id}", "kvm", cpu=1.0, memory=64, disks=(Disk(0, "vda", size=1),))
    return MachineToBackUp(vm, 1, "node1")


@dataclass
class Host:
    """What a host does, and what became of it. error: in place of a machine's disks."""

    place: Path
    given: GivenBackup = GIVEN
    error: NebulaError | None = None
    begun: list[tuple[str, str, str]] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    left_open: list[str] = field(default_factory=list)
    root: bytes = b""
    root_error: NebulaError | None = None
    end_error: NebulaError | None = None
    went_on: NebulaError | None = None

    def pack(self, fd: int, _seconds: float) -> int:
        view = memoryview(self.root)
        while view:
            view = view[os.write(fd, view) :]
        if self.root_error is not None:
            raise self.root_error
        return 7

    @contextlib.contextmanager
    def begin(self, asked: MachineToBackUp, checkpoint: str, since: str) -> Iterator[object]:
        self.begun.append((asked.vm.name, checkpoint, since))
        try:
            if self.error is not None:
                raise self.error
            with echoing(str(self.place / f"{asked.vm.vm_id}.sock")) as path:
                try:
                    yield Shown(self, asked.vm.name, path)
                except NebulaError as error:
                    if self.end_error is None:
                        raise
                    raise self.end_error from error
        finally:
            self.ended.append(asked.vm.name)


@dataclass
class Shown:
    host: Host
    name: str
    path: str

    @property
    def given(self) -> GivenBackup:
        return self.host.given

    @property
    def sources(self) -> dict[int, NbdSource]:
        return {0: NbdSource(self.path, "vda", 1 << 20, "b")}

    @property
    def roots(self) -> dict[int, ReadableRoot]:
        return {0: ReadableRoot(3 << 20, self.host.pack)}

    @property
    def files(self) -> dict[str, str]:
        return {"nvram": str(self.host.place / "nvram")}

    def end_reading(self) -> None:
        if self.host.went_on is not None:
            raise self.host.went_on

    def keep(self) -> None:
        self.host.kept.append(self.name)

    def leave_open(self) -> None:
        self.host.left_open.append(self.name)


@contextlib.contextmanager
def echoing(path: str) -> Iterator[str]:
    """A socket that stands for an export, and says everything back."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _address = listener.accept()
                    while block := connection.recv(1 << 16):
                        connection.sendall(block)
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield path
        listener.shutdown(socket.SHUT_RDWR)
    os.unlink(path)


@contextlib.contextmanager
def together(host: Host, *machines: MachineToBackUp, meeting: int = 20) -> Iterator[tuple[Taking, Beside]]:
    """A run of both. Yield the front-end's side, and what the host returns."""
    (own, own_key), (theirs, their_key) = key_pair("source"), key_pair("target")
    gives = BackupPassage(TOKEN, True, "control", "", free_port(), own, theirs, their_key, meeting)
    takes = replace(
        gives, gives=False, peer="node1", address="127.0.0.1", certificate=theirs, own_certificate=own, key=own_key
    )
    beside = Beside(Giving(BackupRequest("c", "", "frontend", machines), gives, host.begin).serve)
    taking = Taking(takes, Activity())
    taking.meet()
    try:
        yield taking, beside
    finally:
        taking.close()


def said_back(path: str, text: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.settimeout(PATIENCE)
        connection.sendall(text)
        found = b""
        while len(found) < len(text):
            block = connection.recv(1 << 16)
            assert block
            found += block
        return found


def test_disks_are_read_as_if_they_were_here(tmp_path: Path) -> None:
    host = Host(tmp_path)
    with together(host, machine(1), machine(2)) as (taking, beside):
        for number in (2, 1):
            with taking.begin(machine(number), *ORDER) as taken:
                assert taken.given == GIVEN
                source = taken.sources[0]
                assert (source.export, source.size, source.bitmap) == ("vda", 1 << 20, "b")
                text = os.urandom(3 << 20)
                assert said_back(source.path, text) == text
                taken.keep()
        taking.close()
        assert beside.result() == {}
    assert host.begun == [("web-2", "new", "old"), ("web-1", "new", "old")]
    assert host.kept == ["web-2", "web-1"] == host.ended


def test_of_a_full_backup_no_bitmap_is_read(tmp_path: Path) -> None:
    host = Host(tmp_path, replace(GIVEN, incremental=False, reason="its bitmap is gone"))
    with together(host, machine(1)) as (taking, _beside), taking.begin(machine(1), *ORDER) as taken:
        assert taken.sources[0].bitmap == ""
        assert taken.given.reason == "its bitmap is gone"


def test_other_files_come_too(tmp_path: Path) -> None:
    (tmp_path / "nvram").write_bytes(b"variables" * 999)
    host = Host(tmp_path, replace(GIVEN, files={"nvram": 1 << 20}))
    with together(host, machine(1)) as (taking, _beside), taking.begin(machine(1), *FIRST) as taken:
        with (tmp_path / "fetched").open("wb") as file:
            taken.fetch("nvram", file.fileno())
        assert (tmp_path / "fetched").read_bytes() == b"variables" * 999


def container(vm_id: int) -> MachineToBackUp:
    found = machine(vm_id)
    return replace(found, vm=replace(found.vm, disks=(replace(found.vm.disks[0], format="tar"),)))


ROOT = replace(GIVEN, disks=(GivenDisk(0, "", "tar", 0, holds=3 << 20),), incremental=False)


def test_the_root_of_a_container_comes_as_an_archive(tmp_path: Path) -> None:
    host = Host(tmp_path, ROOT, root=os.urandom(3 << 20) + b"end")
    with together(host, machine(1)) as (taking, beside):
        with taking.begin(container(1), *FIRST) as taken:
            assert taken.sources == {}
            place = tmp_path / "place"
            place.mkdir()
            root = taken.roots[0]
            stored = root_backups.store_root(str(place), "b.root.0.tar", root.pack, root.size, "x", compress=False)
            assert (place / "b.root.0.tar").read_bytes() == host.root and stored.left_out == 7
            taken.keep()
        taking.close()
        assert beside.result() == {}
    assert host.kept == ["web-1"]


def test_a_root_that_can_not_be_packed(tmp_path: Path) -> None:
    error = WrongState("the root", "a file changed while it was read", "Run again")
    host = Host(tmp_path, ROOT, root=bytes(2 << 20), root_error=error)
    with together(host, machine(1)) as (taking, beside):
        with (
            pytest.raises(HypervisorError, match=r"the root \(host node1\): a file changed while it was read"),
            taking.begin(container(1), *FIRST) as taken,
        ):
            root = taken.roots[0]
            root_backups.store_root(str(tmp_path), "b.root.0.tar", root.pack, root.size, "x", compress=False)
        taking.close()
        assert list(beside.result()) == [1]
    assert host.kept == [] and not (tmp_path / "b.root.0.tar").exists()


def test_what_is_not_kept_is_ended(tmp_path: Path) -> None:
    host = Host(tmp_path)
    with together(host, machine(1)) as (taking, beside):
        with contextlib.suppress(WrongState), taking.begin(machine(1), *ORDER):
            raise WrongState("storing it", "the disk is full")
        wait_until(lambda: host.ended == ["web-1"])
        taking.close()
        assert list(beside.result()) == [1]
    assert host.kept == []


def test_a_machine_that_did_not_stand_still_is_not_kept(tmp_path: Path) -> None:
    host = Host(tmp_path)
    with together(host, machine(1), machine(2)) as (taking, beside):
        with taking.begin(machine(1), *FIRST) as taken:
            taken.end_reading()
            taken.keep()
        host.went_on = InUse("backup of web-2", "somebody else has let it go on", "Run again")
        with (
            pytest.raises(HypervisorError, match=r"web-2 \(host node1\): somebody else has let it go on. Run again"),
            taking.begin(machine(2), *FIRST) as taken,
        ):
            taken.end_reading()
        taking.close()
        assert list(beside.result()) == [2]
    assert host.kept == ["web-1"]


def test_a_host_that_refuses_says_why_and_gives_the_others(tmp_path: Path) -> None:
    host = Host(tmp_path, error=WrongState("backup of web-1", "it is being saved", "Run again"))
    with together(host, machine(1), machine(2)) as (taking, beside):
        with (
            pytest.raises(HypervisorError, match=r"backup of web-1 \(host node1\): it is being saved. Run again"),
            taking.begin(machine(1), *FIRST),
        ):
            raise AssertionError("there is nothing")
        host.error = None
        with taking.begin(machine(2), *FIRST) as taken:
            taken.keep()
        taking.close()
        assert list(beside.result()) == [1]


def test_a_front_end_that_is_gone_leaves_nothing_begun(tmp_path: Path) -> None:
    host = Host(tmp_path)
    with together(host, machine(1)) as (taking, beside), taking.begin(machine(1), *ORDER):
        taking._talk.end()
        with pytest.raises(OtherHostFailed, match="the connection to the other host is lost"):
            beside.result()
        assert (host.kept, host.ended, host.left_open) == ([], ["web-1"], ["web-1"])


def test_one_that_does_not_come_is_told_on_both_sides(tmp_path: Path) -> None:
    certificate, key = key_pair("target")
    passage = BackupPassage(TOKEN, True, "control", "127.0.0.1", free_port(), certificate, certificate, key, meeting=0)
    with pytest.raises(OtherHostFailed, match=r"the front-end did not come within 0 s. Front-end and host work in the"):
        Giving(BackupRequest("c", "", "frontend", ()), passage, Host(tmp_path).begin).serve()
    with pytest.raises(OtherHostFailed, match=r"host control: the host of the machine was not met at 127.0.0.1, port"):
        Taking(replace(passage, gives=False), Activity()).meet()


def test_a_machine_that_was_not_asked_for_is_not_there(tmp_path: Path) -> None:
    host = Host(tmp_path)
    with (
        together(host, machine(1), meeting=2) as (taking, _beside),
        pytest.raises(OtherHostFailed, match=r"it does not know of this machine|lost|closed"),
        taking.begin(machine(7), *FIRST),
    ):
        raise AssertionError("there is nothing")
    assert host.begun == []


def test_what_a_host_says_is_checked(tmp_path: Path) -> None:
    host = Host(tmp_path, replace(GIVEN, disks=(replace(GIVEN.disks[0], size=512),)))
    with together(host, machine(1)) as (taking, _beside):
        with (
            pytest.raises(InvalidValue, match="web-1: what its host says of it: its disk 0 has 512 bytes"),
            taking.begin(machine(1), *FIRST),
        ):
            raise AssertionError("it was believed")
        wait_until(lambda: host.ended == ["web-1"])


def test_a_disk_of_which_nothing_comes_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking_module, "STANDSTILL_SECONDS", 0.3)
    host = Host(tmp_path)
    with (
        together(host, machine(1)) as (taking, _beside),
        taking.begin(machine(1), *FIRST) as taken,
        socket.socket(socket.AF_UNIX) as connection,
    ):
        connection.settimeout(PATIENCE)
        connection.connect(taken.sources[0].path)
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
        assert connection.recv(1) == b""


def test_the_host_knows_why_it_could_not_be_read(tmp_path: Path) -> None:
    host = Host(tmp_path, end_error=NoSpace("backup of web-1", "the guest writes faster than it is stored"))
    with together(host, machine(1), machine(2)) as (taking, _beside):
        with (
            pytest.raises(HypervisorError, match=r"backup of web-1 \(host node1\): the guest writes faster than"),
            taking.begin(machine(1), *FIRST),
        ):
            raise WrongState("storing it", "reading failed")
        host.end_error = None
        with pytest.raises(WrongState, match="reading failed"), taking.begin(machine(2), *FIRST):
            raise WrongState("storing it", "reading failed")
    # What was not stored is known not to be.
    assert host.left_open == []
