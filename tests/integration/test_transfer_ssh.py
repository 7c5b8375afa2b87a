# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of images to a node and back, by rsync over a real sshd on loopback, whose key may do nothing else."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from file_facts import facts

from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file, rsync
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan
from ansible_collections.nebula.provision.plugins.module_utils.model.transfer import BASE, OWN, SSH, PlannedImage
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import transfer_key, transfers
from ansible_collections.nebula.provision.plugins.module_utils.storage import node_image_files

MIB = 1024 * 1024
UUID = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
CONTENT = random.Random(7).randbytes(3 * MIB) + bytes(5 * MIB) + b"end"

needs = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("sshd", path="/usr/sbin") is None, reason="needs openssh-server"),
    pytest.mark.skipif(shutil.which("rrsync") is None, reason="needs rsync"),
]
pytestmark = needs


@dataclass
class Site:
    """root: the front-end's; there: the node's."""

    root: Path
    there: Path
    host: dict

    @property
    def hosts(self):
        return {"node1": self.host}

    def plan(self, *images, **more):
        return Plan("c", 1, "node1", transfer=SSH, images=images, **more)

    def send(self, *images, room=1000):
        wanted = {"node1": {"images": to_plain(images), "room": room}}
        return transfers.send(str(self.root), wanted, self.hosts, False)

    def image(self, name="demo", kind=BASE, content=CONTENT, sha256=None, number=0):
        path = self.root / name
        path.write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest() if sha256 is None else sha256
        return PlannedImage(kind, f"{UUID}-{number}", name, str(path), sha256)


@dataclass
class Server:
    host: dict


@contextlib.contextmanager
def sshd_for(server, there, key):
    """A server of a node whose root is `there`, which lets that key do what nebula_node says. server: its directory."""
    server.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", server / "host"], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (server / "keys").write_text(f'restrict,command="rrsync {there}/transfer" {key}\n')
    # Below another shell: bash reads the .bashrc of a login over ssh, and root's may hold anything.
    (server / "config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {server}/host\nAuthorizedKeysFile {server}/keys\n"
        f"StrictModes no\nUsePAM no\nSetEnv SHLVL=2\nPidFile none\nPermitRootLogin forced-commands-only\n"
    )
    made_run = not os.path.exists("/run/sshd")
    os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", server / "config"], stderr=subprocess.DEVNULL)
    try:
        limit = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None and time.monotonic() < limit
            time.sleep(0.05)
        keys = [" ".join((server / "host.pub").read_text().split()[:2])]
        told = {"address": "127.0.0.1", "port": port, "keys": keys}
        yield Server({**told, "pid": process.pid, "directory": str(server)})
    finally:
        process.terminate()
        process.wait()
        if made_run:
            with contextlib.suppress(OSError):
                os.rmdir("/run/sshd")


@pytest.fixture
def site(tmp_path, monkeypatch):
    root, there = tmp_path / "front", tmp_path / "node"
    for path in (root, there):
        path.mkdir()
    monkeypatch.setattr(rsync, "USER", "root")
    node_file.update(str(there), lambda before: replace(before, catalog="c", plan=1))
    node_image_files.make_places(str(there))
    with sshd_for(tmp_path / "sshd", there, transfer_key.public_key(str(root), False)) as server:
        yield Site(root, there, server.host)


def failed(result):
    return [str(item.error) for item in result.items if item.error is not None]


def test_sent_checked_and_kept(site):
    base, own = site.image(), site.image("data", OWN, b"x" * MIB, "", 3)
    assert failed(site.send(base, own)) == []
    plan = site.plan(base, own)
    arrived = node_image_files.check_and_keep(str(site.there), plan)
    assert (arrived.faults, arrived.new) == ({}, {base.local, own.local})
    kept = Path(node_image_files.path_of(str(site.there), base))
    assert kept.read_bytes() == CONTENT and kept.stat().st_mode & 0o222 == 0
    # Zeros are a hole on the other side too.
    assert kept.stat().st_blocks * 512 < 4 * MIB
    assert Path(node_image_files.path_of(str(site.there), own)).stat().st_mode & 0o200
    assert os.listdir(site.there / "transfer/in") == []
    assert node_image_files.kept_files(str(site.there)) == tuple(sorted((base.local, own.local)))
    before = facts(kept)
    assert node_image_files.check_and_keep(str(site.there), plan).new == set() and facts(kept) == before


def test_what_is_not_what_was_sent_is_not_taken(site):
    image = site.image(sha256="ab" * 32)
    site.send(image)
    (fault,) = node_image_files.check_and_keep(str(site.there), site.plan(image)).faults.values()
    assert "sent anew" in str(fault) and node_image_files.kept_files(str(site.there)) == ()
    assert os.listdir(site.there / "transfer/in") == []
    absent = site.image("other", number=1)
    (fault,) = node_image_files.check_and_keep(str(site.there), site.plan(absent)).faults.values()
    assert "did not come" in str(fault)


def test_it_goes_on_where_it_was_broken_off(site):
    image = site.image()
    part = site.there / "transfer/in" / image.name
    part.write_bytes(CONTENT[: 2 * MIB])
    # Half a file alone is none.
    assert node_image_files.check_and_keep(str(site.there), site.plan(image)).faults
    assert failed(site.send(image)) == []
    assert node_image_files.check_and_keep(str(site.there), site.plan(image)).new == {image.local}


def test_room_is_looked_for_before(site):
    large, small = site.image("large"), site.image("small", content=b"x", number=1)
    result = site.send(large, small, room=1)
    (told,) = failed(result)
    assert "image large to host node1" in told and "1.0 MiB are left" in told
    assert os.listdir(site.there / "transfer/in") == sorted([small.name, small.name + node_image_files.CHECK])


def test_another_host_is_not_spoken_to(site):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", site.root / "another"], check=True)
    site.host["keys"] = [" ".join((site.root / "another.pub").read_text().split()[:2])]
    (told,) = failed(site.send(site.image()))
    assert "has other host keys than host node1 told" in told
    site.host.update(port=1, keys=[])
    (told,) = failed(site.send(site.image()))
    assert "port 1" in told and "nebula_transfer_port" in told


def test_the_key_can_do_nothing_else(site):
    (site.there / "secret").write_text("s")
    exchange = rsync.Exchange(transfer_key.place(str(site.root)), rsync.Peer("node1", "127.0.0.1", **{
        key: site.host[key] for key in ("port", "keys")
    }, user="root"))  # fmt: skip
    for name in ("../secret", str(site.there / "secret"), "/etc/hostname"):
        with pytest.raises(NebulaError):
            exchange.pull(name, str(site.root / "taken"))
        assert not (site.root / "taken").exists()


def test_another_exchange_is_waited_for(site, monkeypatch):
    """What a killed run left at work on the node, or another run: there is one at a time."""
    image = site.image()
    held = os.open(site.there / "transfer", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    monkeypatch.setattr(rsync, "TAKEN_SECONDS", 1)
    (told,) = failed(site.send(image))
    assert "another exchange with it has been at work" in told and "run again" in told
    monkeypatch.setattr(rsync, "TAKEN_SECONDS", 60)
    release = threading.Timer(1, os.close, [held])
    release.start()
    assert failed(site.send(image)) == []
    release.join()


def test_what_a_machine_wrote_is_handed_over(site):
    """A link in its directory says what it had."""
    own = site.image("data", OWN, b"old" * MIB, "")
    site.send(own)
    node_image_files.check_and_keep(str(site.there), site.plan(own))
    here = Path(node_image_files.path_of(str(site.there), own))
    here.write_bytes(b"new" * MIB)
    directory = site.there / "datastores/0/1"
    directory.mkdir(parents=True)
    (directory / "disk.0").symlink_to(here)
    assert not node_image_files.return_files(str(site.there), str(directory), {own.local})
    assert node_image_files.return_files(str(site.there), str(directory), set())
    assert (
        node_image_files.returning_sizes(str(site.there)) == {own.name: 3 * MIB}
        and node_image_files.kept_files(str(site.there)) == ()
    )
    # Again, as by a run that goes on where a killed one was.
    node_image_files.return_files(str(site.there), str(directory), set())
    assert node_image_files.returning_sizes(str(site.there)) == {own.name: 3 * MIB}
    # What has not come back is not put in the place of what comes.
    (fault,) = node_image_files.check_and_keep(str(site.there), site.plan(own)).faults.values()
    assert "has not come back" in str(fault)


def test_images_of_one_size(site):
    """Zeros take nothing, so that these do not differ in what they take."""
    images = [site.image(f"empty{number}", content=bytes(MIB), number=number) for number in range(3)]
    for image in images:
        os.truncate(image.path, 0)
        os.truncate(image.path, MIB)
    assert failed(site.send(*images)) == []
    assert len(node_image_files.check_and_keep(str(site.there), site.plan(*images)).new) == 3


def test_what_is_no_file_is_not_read(site):
    image = site.image()
    site.send(image)
    came = site.there / "transfer/in" / image.name
    for make in (lambda: came.symlink_to("/etc/passwd"), lambda: os.mkfifo(came), came.mkdir):
        came.unlink()
        make()
        assert len(node_image_files.check_and_keep(str(site.there), site.plan(image)).faults) == 1
        assert node_image_files.kept_files(str(site.there)) == ()


def test_what_kills_left_is_removed_once_the_image_is_there(site):
    image = site.image()
    site.send(image)
    incoming = site.there / "transfer/in"
    for name in (f".{image.name}.a1B2c3", f"{UUID}-7", f".{UUID}-7.xyz"):
        (incoming / name).write_bytes(b"half")
    (site.there / "cache" / f".coming-{image.local}").write_bytes(b"half")
    (site.there / "datastores/0").mkdir(parents=True)
    plan = site.plan(image, current=(image.name,))
    node_image_files.check_and_keep(str(site.there), plan)
    node_image_files.prune(str(site.there), plan, set)
    assert os.listdir(incoming) == [] and os.listdir(site.there / "cache") == [image.local]


def test_directories_on_two_file_systems_are_refused(site, monkeypatch):
    real = os.stat
    other = str(site.there / "cache")

    def stat(path, **options):
        found = real(path, **options)
        if str(path) != other:
            return found
        return os.stat_result((*found[:2], found.st_dev + 1, *found[3:10]))

    monkeypatch.setattr(node_image_files.os, "stat", stat)
    with pytest.raises(NebulaError, match="different file systems"):
        node_image_files.make_places(str(site.there))
