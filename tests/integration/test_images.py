# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images from item to file and catalog: the embedded engine, the real datastore, the real qemu-img."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import web_server
from raw_disks import BOOT

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import (
    image_files_stored,
    image_list_decision,
)
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images.image_list_decision import Settings
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images.image_view import image_view
from ansible_collections.nebula.provision.plugins.module_utils.storage import datastore_layout, final_names, uploads
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for

MIB = 1024 * 1024
ROOT = Path(__file__).resolve().parents[2]
CONTENT = BOOT.ljust(600_000, b"a disk"[:1])


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def apply(root):
    """Applies items with an engine of its own, as one run of the module does: (items by name, warnings)."""

    def run(*items, check=False, **options):
        engine = EmbeddedEngine(str(root), check_mode=check, create=True)
        try:
            done, warnings = image_list_decision.apply(engine, items, Settings(check_mode=check, **options))
        finally:
            engine.close()
        return {item.name: item for item in done}, warnings

    return run


@pytest.fixture
def site(no_proxy):
    with web_server.serve() as served:
        served.files["/disk"] = CONTENT
        yield served


def item(name="demo", **values):
    return {"name": name, "remote_src": True, **values}


def stored_files(root):
    directory = root / "datastores" / "1"
    return sorted(os.listdir(directory)) if directory.exists() else []


def test_create_again_absent_again(apply, root, source):
    checksum = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
    wanted = item(path=str(source), checksum=checksum, description="d", attributes={"os": "none"})
    predicted = apply(wanted, check=True)[0]["demo"]
    made = apply(wanted)[0]["demo"]
    assert predicted.is_changed and made.is_changed
    assert predicted.before is None and made.before is None
    unknown = ("id", "uuid", "source", "sha256")
    assert {k: v for k, v in predicted.after.items() if k not in unknown} == {
        k: v for k, v in made.after.items() if k not in unknown
    }
    assert predicted.after["id"] is None
    assert made.after["state"] == "READY"
    assert (made.after["id"], made.after["format"], made.after["size"]) == (0, "raw", 1)
    assert (made.after["checksum"], made.after["sha256"]) == (checksum, checksum[7:])
    assert made.after["attributes"] == {"OS": "none"}
    assert Path(made.after["source"]).read_bytes() == CONTENT
    for check in (True, False):
        again = apply(wanted, check=check)[0]["demo"]
        assert not again.is_changed and again.error is None and again.after == made.after
    for check in (True, False):
        gone = apply(item(state="absent"), check=check)[0]["demo"]
        assert gone.is_changed and gone.after is None and gone.before == made.after
    assert stored_files(root) == []
    assert not apply(item(state="absent"))[0]["demo"].is_changed


def test_what_can_be_changed_is_changed(apply, source):
    before = apply(item(path=str(source)))[0]["demo"].after
    changes = {
        "type": "DATABLOCK", "persistent": "yes", "description": "new", "dev_prefix": "vd", "target": "vdb",
        "attributes": {"A": 1},
    }  # fmt: skip
    for check in (True, False):
        done = apply(item(**changes), check=check)[0]["demo"]
        assert done.is_changed
        assert {k for k in before if before[k] != done.after[k]} == set(changes)
    assert os.stat(before["source"]).st_mode & 0o777 == 0o660
    assert not apply(item(**changes))[0]["demo"].is_changed
    merged = apply(item(attributes={"B": True}))[0]["demo"].after["attributes"]
    assert merged == {"A": "1", "B": "YES"}
    apply(item(persistent=False))
    assert os.stat(before["source"]).st_mode & 0o777 == 0o440


def test_other_content_is_a_conflict(apply, source):
    apply(item(path=str(source)))
    done = apply(item(path=str(source), checksum="sha256:" + "0" * 64))[0]["demo"]
    assert type(done.error).__name__ == "Conflict"
    assert "state: absent" in str(done.error) and "0" * 64 in str(done.error)
    assert not done.is_changed
    done, warnings = apply(item(path=str(source), checksum="md5:" + "0" * 32))
    assert not done["demo"].is_changed and "not compared" in warnings[0]
    apply({"name": "empty", "size": 4})
    done = apply({"name": "empty", "size": 3})[0]["empty"]
    assert type(done.error).__name__ == "Conflict" and "size 3 MB: it has 4 MB" in str(done.error)


def test_empty_images(apply):
    done = apply({"name": "data", "type": "datablock", "size": "64", "format": "QCOW2", "fs": "ext4"})[0]["data"]
    assert (done.after["type"], done.after["size"], done.after["format"]) == ("DATABLOCK", 64, "qcow2")
    assert done.after["state"] == "READY"


def test_what_a_machine_made_larger_is_no_other_image(apply, catalog):
    empty = item(name="data", type="DATABLOCK", size=5, persistent=True)
    apply(empty)
    with catalog() as engine:
        engine.images.update("data", size=9)
    again = apply(empty)[0]["data"]
    assert again.error is None and not again.is_changed
    with catalog() as engine:
        engine.images.update("data", generation=1)
    assert apply(dict(empty, persistent=False))[0]["data"].is_changed
    again = apply(dict(empty, persistent=False))[0]["data"]
    assert again.error is None and not again.is_changed


def test_disabling_and_enabling(apply, source):
    assert apply(item(path=str(source), state="disabled"))[0]["demo"].after["state"] == "DISABLED"
    assert apply(item(path=str(source)))[0]["demo"].after["state"] == "DISABLED"
    assert apply(item(state="enabled"))[0]["demo"].after["state"] == "READY"
    assert not apply(item(state="enabled"))[0]["demo"].is_changed


def test_one_that_fails_does_not_stop_the_others(apply, source, tmp_path, site):
    site.files["/cut"] = b"\x1f\x8b\x08 this is no gzip file"
    backed = tmp_path / "backed"
    subprocess.run(
        ["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", backed, "1M"], check=True
    )
    done = apply(
        item("one", path=str(source)), item("backed", path=str(backed)), item("cut", path=site.url + "/cut"),
        item("a/b", path=str(source)), item("none"), item("one", path=str(source)), item("bad", path="x", size=3),
        {"name": "local", "path": str(source)}, item("last", path=str(source)),
    )[0]  # fmt: skip
    assert done["last"].after["state"] == "READY"
    errors = {name: type(one.error).__name__ for name, one in done.items() if one.error}
    # The second of two of the same name is refused; the first was made.
    assert errors == {
        "one": "InvalidValue", "backed": "ImageRefused", "cut": "ImageRefused", "a/b": "InvalidValue",
        "none": "InvalidValue", "bad": "InvalidValue", "local": "NotFound",
    }  # fmt: skip
    # Seen before: not registered. Seen while storing: in the catalog, with its reason.
    assert done["backed"].after is None
    assert done["cut"].after["state"] == "ERROR"
    assert "damaged" in done["cut"].after["error"]


def test_an_image_in_error_is_tried_again(apply, root, site):
    site.statuses["/disk"] = [404]
    failed = apply(item(path=site.url + "/disk"))[0]["demo"].after
    assert failed["state"] == "ERROR" and "404" in failed["error"]
    enabled = apply(item(state="enabled"))[0]["demo"]
    assert type(enabled.error).__name__ == "WrongState" and "404" in str(enabled.error)
    assert not apply(item())[0]["demo"].is_changed
    done = apply(item(path=site.url + "/disk", description="x"))[0]["demo"]
    assert (done.after["state"], done.after["error"], done.after["id"]) == ("READY", "", failed["id"])
    assert stored_files(root) == [os.path.basename(done.after["source"])]


def test_credentials_reach_neither_catalog_nor_messages(apply, root, site):
    url = site.url.replace("//", "//user:hunter2@") + "/disk?token=geheim"
    done = apply(item(path=url), item("other", path=url + "x"), say=lambda text: None)[0]
    assert done["demo"].after["origin"] == site.url + "/disk?..."
    everything = repr(done) + "".join(str(one.error) for one in done.values())
    everything += "".join(path.read_bytes().decode("latin-1") for path in root.glob("nebula.db*"))
    assert not [secret for secret in ("hunter2", "geheim") if secret in everything]


def test_an_image_in_use(apply, catalog, source):
    apply(item(path=str(source)))
    with catalog() as engine:
        engine.store.db.execute(
            "INSERT INTO vms (id, name, uuid, state, lcm_state, wanted, cpu, memory, request, body, stime) "
            "VALUES (7, 'web', 'u', 3, 1, 'RUNNING', 1, 64, '', '', 0)"
        )
        engine.images.uses.acquire(7, 0, 0, writable=False)
    for values in ({"state": "absent"}, {"persistent": True}, {"state": "disabled"}, {"type": "DATABLOCK"}):
        done = apply(item(**values))[0]["demo"]
        assert type(done.error).__name__ == "InUse" and "web (id 7)" in str(done.error)
        assert done.after["state"] == "USED"
    assert apply(item(description="x"))[0]["demo"].is_changed


def test_check_mode_on_a_bare_host(tmp_path, source):
    engine = EmbeddedEngine(str(tmp_path / "nothing"), check_mode=True)
    wanted = [item(path=str(source)), item("later", path=str(tmp_path / "not yet")), {"name": "x", "path": "here.raw"}]
    done, warnings = image_list_decision.apply(engine, wanted, Settings(check_mode=True))
    engine.close()
    assert [(one.is_changed, one.after["state"], one.error) for one in done] == [(True, "READY", None)] * 3
    assert len(warnings) == 1 and "not yet" in warnings[0]
    assert not (tmp_path / "nothing").exists()


def test_what_a_killed_run_left_is_stored_anew(root, apply, site):
    """A module that is killed while it downloads: LOCKED, a part of the file, and nobody at its lock."""
    site.stall_after = 100_000
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine\n"
        "from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images "
        "import image_list_decision\n"
        "engine = EmbeddedEngine(sys.argv[2], create=True)\n"
        "item = {'name': 'demo', 'path': sys.argv[3]}\n"
        "image_list_decision.apply(engine, [item], image_list_decision.Settings())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, ROOT / "collections", root, site.url + "/disk"])
    wait_for(lambda: [name for name in stored_files(root) if name.endswith(".part")], "a part of the file", 30)
    # While it works, another run is told so, and changes nothing.
    busy = apply(item(path=site.url + "/disk"), wait_timeout=0.2)[0]["demo"]
    assert type(busy.error).__name__ == "TimedOut" and busy.after["state"] == "LOCKED"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert type(apply(item())[0]["demo"].error).__name__ == "WrongState"
    site.release.set()
    site.stall_after = None
    done = apply(item(path=site.url + "/disk"))[0]["demo"]
    assert (done.after["state"], done.after["id"]) == ("READY", 0)
    assert stored_files(root) == [os.path.basename(done.after["source"])]


def test_a_run_that_waited_for_another_takes_its_image(root, apply, source, site):
    site.stall_after = 100_000
    first: dict = {}
    thread = threading.Thread(target=lambda: first.update(apply(item(path=site.url + "/disk"))[0]))
    thread.start()
    wait_for(lambda: site.requests, "the download", 30)
    second: dict = {}
    waiting = threading.Thread(target=lambda: second.update(apply(item(path=site.url + "/disk"), wait_timeout=30)[0]))
    waiting.start()
    site.stall_after = None
    site.release.set()
    thread.join()
    waiting.join()
    assert first["demo"].after["state"] == second["demo"].after["state"] == "READY"
    assert first["demo"].is_changed and not second["demo"].is_changed
    assert stored_files(root) == [os.path.basename(first["demo"].after["source"])]


def test_an_image_is_held_until_the_catalog_knows_of_its_file(root, apply, source, monkeypatch):
    """Between the file in its place and READY, nobody else may store, find it READY, and take the file away as his."""
    stored, told, tell = threading.Event(), threading.Event(), image_files_stored._tell

    def late(*arguments):
        stored.set()
        told.wait(30)
        return tell(*arguments)

    monkeypatch.setattr(image_files_stored, "_tell", late)
    first: dict = {}
    thread = threading.Thread(target=lambda: first.update(apply(item(path=str(source)))[0]))
    thread.start()
    assert stored.wait(30)
    second = apply(item(path=str(source)), wait_timeout=0.2)[0]["demo"]
    told.set()
    thread.join()
    assert type(second.error).__name__ == "TimedOut"
    assert first["demo"].after["state"] == "READY" and os.path.isfile(first["demo"].after["source"])
    assert stored_files(root) == [os.path.basename(first["demo"].after["source"])]


def test_an_interrupted_removal_is_finished(apply, catalog, root, source):
    apply(item(path=str(source)))
    from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState

    with catalog() as engine:
        engine.images.update("demo", state=ImageState.DELETE)
    done = apply(item(path=str(source)))[0]["demo"]
    assert (done.after["state"], done.after["id"]) == ("READY", 1)
    assert stored_files(root) == [os.path.basename(done.after["source"])]
    with catalog() as engine:
        engine.images.update("demo", state=ImageState.DELETE)
    assert apply(item(state="absent"))[0]["demo"].after is None
    assert stored_files(root) == []


def test_uploads(apply, root, tmp_path):
    directory = datastore_layout.image_directory(str(root))
    identity = "ab" * 32
    parts = [CONTENT[:70_000], CONTENT[70_000:], b""]
    offset = 0
    for part in parts[:2]:
        chunk = tmp_path / "chunk"
        chunk.write_bytes(part)
        assert uploads.bytes_received(directory, identity) == offset
        offset = uploads.append(directory, identity, offset, str(chunk))
        # Once more, as after a lost answer: nothing is doubled.
        assert uploads.append(directory, identity, offset - len(part), str(chunk)) == offset
    path = uploads.path_of(directory, identity)
    inode = os.stat(path).st_ino
    done = apply({"name": "demo", "path": "local.raw"}, uploads={"demo": path})[0]["demo"]
    assert done.after["state"] == "READY"
    assert done.after["origin"] == "local.raw"
    assert os.stat(done.after["source"]).st_ino == inode
    assert Path(done.after["source"]).read_bytes() == CONTENT
    assert stored_files(root) == [os.path.basename(done.after["source"])]


def test_an_upload_that_is_refused_is_forgotten(apply, root, tmp_path):
    directory = datastore_layout.image_directory(str(root))
    identity = "cd" * 32
    chunk = tmp_path / "chunk"
    chunk.write_bytes(CONTENT)
    uploads.append(directory, identity, 0, str(chunk))
    done = apply(
        {"name": "demo", "path": "x", "checksum": "sha256:" + "0" * 64},
        uploads={"demo": uploads.path_of(directory, identity)},
    )[0]["demo"]
    assert done.after["state"] == "ERROR"
    assert stored_files(root) == []


def test_uploads_with_holes_and_gaps(root, tmp_path):
    directory = datastore_layout.image_directory(str(root))
    chunk = tmp_path / "chunk"
    chunk.write_bytes(b"x" * 100 + bytes(5 * MIB))
    identity = "ef" * 32
    end = uploads.append(directory, identity, 0, str(chunk))
    found = os.stat(uploads.path_of(directory, identity))
    assert (end, found.st_size) == (100 + 5 * MIB, 100 + 5 * MIB)
    assert found.st_blocks * 512 < MIB
    with pytest.raises(Exception, match="only 5242980 bytes are here"):
        uploads.append(directory, identity, end + 1, str(chunk))
    with pytest.raises(InvalidValue):
        uploads.path_of(directory, "../../etc/passwd")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"state": "presnt"}, "Did you mean 'present'"),
        ({"type": "ISO"}, "Known are OS"),
        ({"size": "lots"}, "whole number of MB"),
        ({"size": 0}, "whole number of MB"),
        ({"persistent": "maybe"}, "neither true nor false"),
        ({"dev_prefix": "xd"}, "Known are hd"),
        ({"target": "../x"}, "vda, sdb"),
        ({"checksum": "sha256:12", "path": "/x"}, "64 hexadecimal digits"),
        ({"checksum": "sha256:" + "0" * 64}, "there is no file"),
        ({"path": "/x", "clone_of": "y"}, "an image is made of one thing"),
        ({"path": "/x", "fs": "ext4"}, "only an empty image"),
        ({"attributes": "A=1"}, "Give a dict"),
        ({"path": ["/x"]}, "it is a list"),
        ({"name": 5}, "in quotes"),
    ],
)
def test_values_that_can_not_be_meant(values, text):
    with pytest.raises(InvalidValue, match=text):
        image_list_decision.spec_of({"name": "demo", **values})


def test_too_large_for_the_limit(apply, source):
    source.write_bytes(bytes(3 * MIB))
    done = apply(item(path=str(source)), max_size=2)[0]["demo"]
    assert "nebula_image_max_size" in str(done.error)


def test_no_room(apply, source, monkeypatch):
    monkeypatch.setattr(datastore_layout, "free_space", lambda directory: 1000)
    done = apply(item(path=str(source)))[0]["demo"]
    assert type(done.error).__name__ == "NoSpace"
    assert done.after["state"] == "ERROR"


def test_every_field_of_an_image_is_shown(catalog):
    with catalog() as engine:
        image = engine.images.allocate(Image(id=None, name="x"))
    # Notes are between one run and the next.
    fields = {field.name for field in dataclasses.fields(image)} - {"notes", "checksums"}
    assert set(image_view(image)) == {*fields, "checksum"}


def test_the_lock_is_free_after_everything(apply, root, source):
    done = apply(item(path=str(source)))[0]["demo"]
    with final_names.locked_destination(done.after["source"], 0):
        pass
    assert len(stored_files(root)) == 1
