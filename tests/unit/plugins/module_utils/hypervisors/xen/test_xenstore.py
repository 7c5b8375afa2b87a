# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Xenstore's protocol, spoken with a daemon of the test's own over a socket. A real one answers in test_xen.py."""

from __future__ import annotations

import os
import pty
import socket
import struct
import threading
from collections.abc import Iterator, Mapping

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import HypervisorError
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen import xenstore

BACKEND = "/local/domain/0/backend"
TREE = {
    "/local/domain/0/name": "Domain-0",
    "/local/domain/7/name": "one-1",
    "/local/domain/7/device/vbd/51712/state": "1",
    "/local/domain/7/device/vif/0/state": "4",
    "/local/domain/8/name": "a name with blänks",
    "/local/domain/8/device/vbd/51712/state": "1",
    f"{BACKEND}/vbd/7/51712/frontend-id": "7",
    f"{BACKEND}/vbd/7/51712/params": "/var/lib/nebula/datastores/0/1/disk.0",
    f"{BACKEND}/vbd/7/51712/mode": "w",
    f"{BACKEND}/vbd/8/51744/params": "/dev/sr0",
    f"{BACKEND}/vbd/8/51744/mode": "r",
    f"{BACKEND}/qdisk/9/51712/params": "qcow2:/var/lib/nebula/a b",
    f"{BACKEND}/qdisk/9/51728/params": "",
    f"{BACKEND}/vif/7/0/params": "/not/a/disk",
}


def answer(tree: Mapping[str, str], kind: int, path: str) -> tuple[int, bytes]:
    if path == "/forbidden":
        return 16, b"EACCES\0"
    if path == "/crowded":
        # What xenstored says of a directory whose names are more than the 4096 bytes of an answer.
        return 16, b"E2BIG\0"
    if kind == 2 and path in tree:
        return kind, tree[path].encode()
    below = {each[len(path) + 1 :].partition("/")[0] for each in tree if each.startswith(f"{path}/")}
    if kind == 1 and below:
        return kind, b"".join(name.encode() + b"\0" for name in sorted(below))
    return 16, b"ENOENT\0"


def serve(end: socket.socket, tree: Mapping[str, str]) -> None:
    with end:
        while head := end.recv(16, socket.MSG_WAITALL):
            kind, request, transaction, length = struct.unpack("=IIII", head)
            path = end.recv(length, socket.MSG_WAITALL).decode()
            assert path.endswith("\0")
            found, data = answer(tree, kind, path[:-1])
            said = struct.pack("=IIII", found, request, transaction, len(data)) + data
            # Not all at once: what is read is not what was written.
            for start in range(0, len(said), 7):
                end.sendall(said[start : start + 7])


@pytest.fixture
def tree(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """What is in it; each connection is to a daemon of its own."""
    found, threads = dict(TREE), []
    open_file = os.open

    def connected(path: str, flags: int, mode: int = 0o777, dir_fd: int | None = None) -> int:
        if path != __file__:
            return open_file(path, flags, mode, dir_fd=dir_fd)
        ours, its = socket.socketpair()
        threads.append(threading.Thread(target=serve, args=(its, found)))
        threads[-1].start()
        return ours.detach()

    monkeypatch.setattr(xenstore, "DEVICES", ("/nowhere", __file__))
    monkeypatch.setattr(xenstore.os, "open", connected)
    yield found
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive(), "a connection stayed open"


def test_what_is_there_and_what_is_not(tree: dict[str, str]) -> None:
    with xenstore.open_store() as store:
        assert store.read("/local/domain/7/name") == "one-1"
        assert store.read("/local/domain/99/name") is None
        assert store.names("/local/domain") == ["0", "7", "8"]
        assert store.names("/local/domain/99") == []
        with pytest.raises(HypervisorError, match=r"/forbidden in xenstore.*EACCES"):
            store.read("/forbidden")
        with pytest.raises(HypervisorError, match=r"/crowded in xenstore.*E2BIG"):
            store.names("/crowded")
    assert xenstore.read(f"{BACKEND}/vbd/8/51744/mode") == "r"


def test_names_of_domains(tree: dict[str, str]) -> None:
    assert xenstore.is_named("one-1") and xenstore.is_named("a name with blänks")
    assert not xenstore.is_named("one-11") and not xenstore.is_named("one")
    del tree["/local/domain/7/name"]
    assert not xenstore.is_named("one-1")


def test_disks_of_all_domains(tree: dict[str, str]) -> None:
    assert xenstore.disks_in_use() == [
        (9, "/var/lib/nebula/a b", True),
        (7, "/var/lib/nebula/datastores/0/1/disk.0", True),
        (8, "/dev/sr0", False),
    ]
    tree.clear()
    assert xenstore.disks_in_use() == []


def test_devices_of_one_domain(tree: dict[str, str]) -> None:
    tree.update({f"{BACKEND}/vif/7/1/vifname": "one-1-1", f"{BACKEND}/vif/7/1/mac": "02:00:C0:a8:46:96"})
    disks, nics = xenstore.devices_of(7)
    assert disks == {51712: "/var/lib/nebula/datastores/0/1/disk.0"}
    assert nics == {"": "", "02:00:c0:a8:46:96": "one-1-1"}
    assert xenstore.devices_of(9) == ({51712: "/var/lib/nebula/a b"}, {}) and xenstore.devices_of(99) == ({}, {})


def test_a_guest_with_drivers_has_connected_one(tree: dict[str, str]) -> None:
    assert xenstore.has_drivers(7) and not xenstore.has_drivers(8) and not xenstore.has_drivers(99)


def test_no_xenstore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xenstore, "DEVICES", ("/nowhere",))
    with pytest.raises(HypervisorError, match=r"in xenstore.*/nowhere.*xenstored"):
        xenstore.read("/a")


def test_one_that_does_not_answer_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    monkeypatch.setattr(xenstore, "SECONDS", 0.1)
    try:
        with pytest.raises(HypervisorError, match=r"no answer within 0.1 s"):
            xenstore.Store(slave).read("/a")
    finally:
        os.close(master)
        os.close(slave)


def test_one_that_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, its = socket.socketpair()
    its.shutdown(socket.SHUT_WR)
    with ours, its, pytest.raises(HypervisorError, match="the connection ended"):
        xenstore.Store(ours.fileno()).read("/a")
