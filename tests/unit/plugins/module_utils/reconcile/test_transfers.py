# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of images sent to a node and fetched from it by a real rsync, whose ssh is a script that starts the other side
in the node's directory on this host."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NoSpace, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.host.rsync import Peer
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.disk_snapshots import Snapshot, text_of
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.image_operations import Return, write
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState
from ansible_collections.nebula.provision.plugins.module_utils.model.transfer import (
    BASE,
    OWN_PREFIX,
    PlannedImage,
    name_of,
)
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import transfers

UUID = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
HOSTS = {"node1": {"address": "192.0.2.1", "port": 22, "keys": ["ssh-ed25519 AAAA"]}}
MIB = 1024 * 1024
TREE = text_of((Snapshot(0, "first"),))

needs_rsync = pytest.mark.skipif(shutil.which("rsync") is None, reason="needs rsync")


@pytest.fixture
def root(tmp_path):
    place = tmp_path / "front"
    (place / "ssh").mkdir(parents=True)
    return place


@pytest.fixture
def there(tmp_path, monkeypatch):
    """What the node has below transfer, and the ssh that leads there."""
    place = tmp_path / "node"
    for name in ("in", "out"):
        (place / name).mkdir(parents=True)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "ssh").write_text(
        f'#!/bin/sh\nwhile [ "$1" != rsync ]; do shift; done\nshift\ncd {place} && exec {shutil.which("rsync")} "$@"\n'
    )
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return place


@pytest.fixture
def planned(root):
    def one(name="demo", content=b"hello", number=0, **changes):
        path = root / name
        path.write_bytes(content)
        image = PlannedImage(BASE, f"{UUID}-{number}", name, str(path), hashlib.sha256(content).hexdigest())
        return dataclasses.replace(image, **changes)

    return one


def send(root, *images, room=100, check=False, hosts=None):
    wanted = {"node1": {"images": to_plain(images), "room": room}}
    return transfers.send(str(root), wanted, HOSTS if hosts is None else hosts, check)


# -- hosts as they are told -------------------------------------------------------------------------------------------
def test_hosts_are_reached_as_they_are_told():
    told = {
        "a": {"address": "192.0.2.1", "port": "2222", "keys": ["k1", "k2"]},
        "b": {"address": "fd00::1"},
        "c": {"address": "c.example.org", "port": None, "keys": None},
    }
    assert transfers.peers(told) == {
        "a": Peer("a", "192.0.2.1", 2222, keys=("k1", "k2")),
        "b": Peer("b", "fd00::1", 22),
        "c": Peer("c", "c.example.org", 22),
    }


@pytest.mark.parametrize("told", [None, {}, {"port": 22}, {"address": ""}, "192.0.2.1"])
def test_a_host_without_an_address_is_named(told):
    with pytest.raises(InvalidValue, match=r"host node1: its address is not given\. Give address, port and keys"):
        transfers.peers({"node1": told})


@pytest.mark.parametrize("port", ["ssh", "-1", 65536, "22 ", "2.5"])
def test_a_port_that_is_none_is_named(port):
    with pytest.raises(InvalidValue) as caught:
        transfers.peers({"node1": {"address": "192.0.2.1", "port": port}})
    assert f"host node1: port {str(port)!r}: it is no port. Set nebula_transfer_port" in str(caught.value)


# -- what is sent -----------------------------------------------------------------------------------------------------
@needs_rsync
def test_a_file_is_sent_with_what_it_has_to_be(root, there, planned):
    known, unknown = planned(), planned("data", b"x" * 5000, 3, sha256="")
    result = send(root, known, unknown)
    assert not result.errors
    assert result.payload == {"hosts": ["node1"]}
    assert {(item.name, item.after["state"]) for item in result.items} == {
        ("image demo to host node1", "sent"),
        ("image data to host node1", "sent"),
    }
    for image, content in ((known, b"hello"), (unknown, b"x" * 5000)):
        assert (there / "in" / image.name).read_bytes() == content
        assert json.loads((there / "in" / f"{image.name}.json").read_text()) == {
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    assert [path.name for path in (root / "ssh").iterdir()] == ["known_hosts.node1"]
    assert (root / "ssh" / "known_hosts.node1").read_text() == "node1 ssh-ed25519 AAAA\n"


def test_check_mode_foresees_it_and_speaks_to_nobody(root, planned):
    result = send(root, planned(), check=True)
    assert result.changed
    assert not result.errors
    assert list((root / "ssh").iterdir()) == []


def test_what_does_not_fit_keeps_no_smaller_one_from_being_sent(root, planned):
    large, small = planned("large", os.urandom(2 * MIB)), planned("small", b"x", 1)
    first, second = send(root, large, small, room=1, check=True).items
    assert (first.name, first.error) == ("image small to host node1", None)
    assert isinstance(second.error, NoSpace)
    text = str(second.error)
    assert "image large to host node1: 2.0 MiB: 1.0 MiB are left below its nebula_root" in text
    assert not second.is_changed


def test_room_is_counted_over_all_that_is_sent(root, planned):
    images = [planned(f"image{number}", os.urandom(MIB), number) for number in range(3)]
    assert [bool(item.error) for item in send(root, *images, room=2, check=True).items] == [False, False, True]


def test_holes_take_no_room(root, planned):
    image = planned("sparse")
    os.truncate(image.path, 500 * MIB)
    assert not send(root, image, room=1, check=True).errors


@needs_rsync
def test_a_file_that_is_not_there_is_told_by_its_image(root, there, planned):
    image = planned("gone")
    Path(image.path).unlink()
    (item,) = send(root, image, planned("data", number=1)).errors
    assert isinstance(item.error, NotFound)
    assert str(item.error).startswith("image gone: ")
    assert image.path in str(item.error)
    assert (there / "in" / f"{UUID}-1").exists()


@needs_rsync
def test_a_node_that_refuses_is_told_by_its_image_and_nothing_is_left_here(root, there, planned):
    shutil.rmtree(there)
    (item,) = send(root, planned()).errors
    assert "image demo: " in str(item.error)
    assert "host node1" in str(item.error)
    assert [path.name for path in (root / "ssh").iterdir()] == ["known_hosts.node1"]


def test_a_host_that_was_not_told_of_stops_it(root, planned):
    with pytest.raises(InvalidValue, match="host node1"):
        send(root, planned(), hosts={})


# -- what comes back --------------------------------------------------------------------------------------------------
@pytest.fixture
def engine(root):
    """A catalog with an image whose last machine wrote to it on node1."""
    with contextlib.closing(EmbeddedEngine(str(root), create=True)) as opened:
        with opened.session():
            image = opened.images.allocate(Image(None, "data", persistent=True, format="raw", size=1))
            opened.store.db.execute(
                "UPDATE images SET state = ?, operation = ?", (int(ImageState.LOCKED_USED_PERS), write(Return("node1")))
            )
        Path(image.source).parent.mkdir(parents=True)
        Path(image.source).write_bytes(b"before")
        yield opened


@pytest.fixture
def fetch(engine, root):
    def some(*nodes, check=False):
        return transfers.fetch(engine, str(root), nodes, HOSTS, check)

    return some


def image_of(engine):
    with engine.session():
        return engine.images.info("data")


def test_check_mode_names_what_would_come(engine, fetch, root):
    before = image_of(engine)
    result = fetch(Observed("node1"), check=True)
    assert result.changed
    assert result.payload == {"images": ["data"]}
    (item,) = result.items
    assert (item.before["state"], item.after) == ("LOCKED_USED_PERS", {"state": "READY"})
    assert fetch(Observed("node2"), check=True).payload == {"images": []}
    assert image_of(engine) == before
    assert list((root / "ssh").iterdir()) == []


def test_nothing_is_done_where_nothing_is_to_come(engine, fetch, root):
    with engine.session():
        engine.store.db.execute("UPDATE images SET operation = ''")
    result = fetch(Observed("node1"))
    assert (result.items, result.payload, result.changed) == ([], {"images": []}, False)


def test_a_host_that_is_silent_keeps_the_image_waiting(engine, fetch):
    result = fetch(Observed("node1", reached=False))
    (item,) = result.errors
    for part in ("image data", "on host node1, which did not answer", "nebula.provision.forget_host"):
        assert part in str(item.error)
    assert not result.changed
    assert result.payload == {"images": []}
    assert image_of(engine).state == ImageState.LOCKED_USED_PERS


@needs_rsync
def test_a_machine_that_is_not_at_its_end_there_keeps_it_waiting(engine, fetch, there):
    image = image_of(engine)
    node = Observed("node1", images=(OWN_PREFIX + name_of(image.uuid, image.generation),))
    (item,) = fetch(node).errors
    assert "image data from host node1: its machine is not at its end there. Run again" in str(item.error)
    assert image_of(engine) == image


@needs_rsync
@pytest.mark.parametrize("sparse", [False, True])
def test_a_host_that_sends_more_than_the_disk_has_is_ended_at_that(engine, fetch, there, sparse):
    image = image_of(engine)
    name = name_of(image.uuid, image.generation)
    with (there / "out" / name).open("wb") as file:
        if sparse:
            file.seek(200 * MIB)
        for _each in range(1 if sparse else 200):
            file.write(os.urandom(1 << 16) * 16)
    length = (there / "out" / name).stat().st_size
    result = fetch(Observed("node1", returns={name: 1}, lengths={name: 65 * MIB}))
    assert length > 65 * MIB
    (item,) = result.errors
    for part in ("image data", "host node1", f"more than {65 * MIB} bytes came"):
        assert part in str(item.error)
    assert image_of(engine) == image
    place = Path(image.source).parent
    assert [path.name for path in place.iterdir()] == [Path(image.source).name]
    assert Path(image.source).read_bytes() == b"before"


@needs_rsync
@pytest.mark.parametrize("length", [0, 1, 3 * MIB])
def test_a_host_that_sends_more_than_it_announced_is_ended_at_that(engine, fetch, there, length):
    """The catalog's disk would have room for all of it."""
    with engine.session():
        engine.store.db.execute("UPDATE images SET size = 1024")
    image = image_of(engine)
    name = name_of(image.uuid, image.generation)
    with (there / "out" / name).open("wb") as file:
        for _each in range(200):
            file.write(os.urandom(1 << 16) * 16)
    (item,) = fetch(Observed("node1", returns={name: 4096}, lengths={name: length})).errors
    for part in ("image data", "host node1", f"more than {max(length, 1)} bytes came", "was removed"):
        assert part in str(item.error)
    assert image_of(engine) == image
    assert os.listdir(os.path.dirname(image.source)) == [os.path.basename(image.source)]


@needs_rsync
@pytest.mark.parametrize("format_", ["raw", "qcow2"])
def test_a_disk_that_was_made_larger_on_its_host_is_told_before_anything_is_sent(engine, fetch, there, format_, root):
    with engine.session():
        engine.store.db.execute("UPDATE images SET size = 100, format = ?", (format_,))
    image = image_of(engine)
    name = name_of(image.uuid, image.generation)
    with (there / "out" / name).open("wb") as file:
        file.truncate(300 * MIB + 1)
    node = Observed("node1", returns={name: 4096}, lengths={name: 300 * MIB + 1})
    (item,) = fetch(node).errors
    assert isinstance(item.error, InvalidValue)
    for part in (
        "image data from host node1",
        "301 MiB",
        "100 MiB",
        "nothing of it was sent",
        "size: 301",
        "then run again",
    ):
        assert part in str(item.error)
    assert image_of(engine) == image
    assert os.listdir(os.path.dirname(image.source)) == [os.path.basename(image.source)]


@needs_rsync
def test_what_a_host_has_and_did_not_announce_waits(engine, fetch, there):
    image = image_of(engine)
    name = name_of(image.uuid, image.generation)
    (there / "out" / name).write_bytes(b"after")
    (item,) = fetch(Observed("node1")).errors
    assert "image data from host node1: it is there, and the host did not say how large it is. Run again" in str(
        item.error
    )
    assert image_of(engine) == image and Path(image.source).read_bytes() == b"before"


def test_room_is_asked_for_what_an_archive_has(engine, fetch, there):
    """Unlike a disk it has no holes, whatever its host says that it takes there."""
    with engine.session():
        engine.store.db.execute("UPDATE images SET size = ?, format = 'tar'", (1 << 40,))
    image = image_of(engine)
    name = name_of(image.uuid, image.generation)
    (there / "out" / name).write_bytes(b"after")
    (item,) = fetch(Observed("node1", returns={name: 1}, lengths={name: 1 << 52})).errors
    assert isinstance(item.error, NoSpace)


@pytest.mark.parametrize(
    ("format_", "snapshots", "most"),
    [("raw", "", 1024 + 64), ("qcow2", "", 2 * 1024 + 16 + 64), ("qcow2", TREE, 3 * 1024 + 16 + 64)],
)
def test_the_bytes_that_a_file_may_have(format_, snapshots, most):
    image = Image(None, "data", format=format_, size=1024, snapshots=snapshots)
    assert transfers.most_bytes(image) == most * MIB


@needs_rsync
def test_what_is_not_there_never_comes_and_the_image_says_so(engine, fetch, there):
    result = fetch(Observed("node1"))
    (item,) = result.errors
    assert result.changed
    for part in ("image data: what its last machine wrote is not on host node1", "state: enabled"):
        assert part in str(item.error)
    after = image_of(engine)
    assert (after.state, after.operation) == (ImageState.ERROR, None)
    assert Path(after.source).read_bytes() == b"before"


@needs_rsync
def test_of_a_machine_that_may_never_have_run_nothing_need_be_there(engine, fetch, there):
    with engine.session():
        engine.store.db.execute("UPDATE images SET operation = ?", (write(Return("node1", ran=False)),))
    assert not fetch(Observed("node1")).errors
    assert image_of(engine).state == ImageState.READY


@needs_rsync
@pytest.mark.skipif(os.geteuid() != 0, reason="files of images are root's")
@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="needs qemu-utils")
def test_what_the_machine_wrote_takes_the_files_place_and_goes_there(engine, fetch, there):
    with engine.session():
        engine.store.db.execute("UPDATE images SET size = 7")
    image = image_of(engine)
    name = name_of(image.uuid, image.generation)
    (there / "out" / name).write_bytes(b"after" * 1000)
    # What an rsync that was killed was writing.
    Path(f"{os.path.dirname(image.source)}/.{os.path.basename(image.source)}.return.Xy12").touch()
    node = Observed("node1", returns={name: 8192}, lengths={name: 5000})
    result = fetch(node)
    assert not result.errors
    assert result.payload == {"images": ["data"]}
    after = image_of(engine)
    assert (after.state, after.operation, after.generation) == (ImageState.READY, None, image.generation + 1)
    assert Path(after.source).read_bytes() == b"after" * 1000
    # Whatever the catalog thought.
    assert after.size == 1
    assert os.listdir(os.path.dirname(image.source)) == [os.path.basename(image.source)]
    # The next run, which sees that the catalog has it, removes it there.
    assert fetch(node).items == []
    assert list((there / "out").iterdir()) == []


@needs_rsync
def test_only_what_is_past_is_removed_there(engine, fetch, there):
    image = image_of(engine)
    with engine.session():
        engine.store.db.execute("UPDATE images SET operation = '', generation = 5, state = 1")
    names = [name_of(image.uuid, number) for number in (4, 5)] + [name_of(UUID, 0)]
    for name in names:
        (there / "out" / name).write_bytes(b"x")
    assert not fetch(Observed("node1", returns=dict.fromkeys(names, 1))).changed
    assert sorted(path.name for path in (there / "out").iterdir()) == sorted(names[1:])
    assert Path(image.source).read_bytes() == b"before", "only what is there is removed"
    assert os.listdir(os.path.dirname(image.source)) == [os.path.basename(image.source)]


def test_an_image_that_is_gone_meanwhile_is_told(engine):
    image = image_of(engine)
    with engine.session():
        engine.store.db.execute("DELETE FROM images")
    item = transfers._record(engine, image, transfers.Fetched())
    assert isinstance(item.error, NotFound)
    assert not item.is_changed


def test_an_error_names_its_image_once():
    error = NotFound("file /x", "it is not there")
    assert transfers._naming(error, "demo").asked == "image demo: file /x"
    assert transfers._naming(error, "demo").asked == "image demo: file /x"
