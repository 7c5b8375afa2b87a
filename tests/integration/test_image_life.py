# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of an image after it was stored: another type, another format, larger, cloned, encrypted … The embedded
engine, the real datastore, the real qemu-img; runs that are killed at each step."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from raw_disks import BOOT

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError, NoSpace
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.customize import recipes
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.open import image_overlay
from ansible_collections.nebula.provision.plugins.module_utils.model.image_operations import Prepare
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import frontends
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import (
    image_files_stored as image_storing,
)
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import image_list_decision, rewrite
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images.change import convert
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images.image_list_decision import Settings
from ansible_collections.nebula.provision.plugins.module_utils.storage import (
    datastore_layout,
    disk_creation,
    disk_formats,
    final_names,
    image_files,
)

MIB = 1024 * 1024
ROOT = Path(__file__).resolve().parents[2]
SECRET = "7b3a5d1c-0f3e-4a52-9a43-1f6a4a0c1d11"
PASSPHRASE = "räucher,schinken"


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Keys that are derived in no time, where QEMU takes seconds for each."""
    monkeypatch.setattr(disk_creation, "LUKS", disk_creation.LUKS + ",encrypt.iter-time=10")


@pytest.fixture
def disk(tmp_path):
    """8 MiB of which a part holds something, and a part zeroes that are written."""
    path = tmp_path / "disk.raw"
    path.write_bytes(BOOT + os.urandom(2 * MIB - 512) + b"text " * 400_000 + bytes(6 * MIB - 2_000_000))
    return path


def files(root, number=1):
    directory = root / "datastores" / str(number)
    return sorted(os.listdir(directory)) if directory.exists() else []


def mode(path):
    return os.stat(path).st_mode & 0o777


def content(image, key=""):
    """What a machine reads of it."""
    target = image["source"] + ".read"
    try:
        disk_creation.rewrite(image["source"], image["format"], target, "raw", source_key=key)
        return Path(target).read_bytes()
    finally:
        Path(target).unlink(missing_ok=True)


def taken(path, format):
    """Bytes that it takes; of a qcow2, as QEMU allocates them, of which the file may leave zeroes out."""
    return os.stat(path).st_blocks * 512 if format == "raw" else os.path.getsize(path)


def same_twice(apply, item, **options):
    """Done, then nothing more to do, in check mode and for real; a check run before tells what will be."""
    predicted = apply(item, check=True, **options)
    done = apply(item, **options)
    assert predicted.is_changed and done.is_changed
    # Ids and hashes of what is not there yet are not known.
    unknown = ("id", "uuid", "source", "sha256", "checksum")
    known = {key: value for key, value in done.after.items() if key not in unknown}
    assert {key: value for key, value in predicted.after.items() if key not in unknown} == known
    for check in (True, False):
        again = apply(item, check=check, **options)
        assert not again.is_changed and again.after == done.after
    return done.after


# -- type and persistence ---------------------------------------------------------------------------------------------


def test_a_datablock_becomes_an_os_image_without_a_copy(apply, catalog):
    made = apply({"name": "d", "type": "DATABLOCK", "size": 10240, "persistent": True}).after
    with catalog() as engine:
        engine.images.update("d", generation=3, sha256="")
    inode = os.stat(made["source"]).st_ino
    began = time.monotonic()
    item = {"name": "d", "type": "OS", "persistent": False, "firmware": "UEFI", "bus": "virtio"}
    done = same_twice(apply, item)
    assert time.monotonic() - began < 1.0
    assert (done["type"], done["persistent"], done["generation"], done["sha256"]) == ("OS", False, 4, "")
    assert (done["firmware"], done["bus"], done["size"]) == ("UEFI", "virtio", 10240)
    assert (mode(made["source"]), os.stat(made["source"]).st_ino) == (0o440, inode)


def test_types_change_within_their_family(apply, stored, tmp_path):
    stored()
    assert same_twice(apply, {"name": "demo", "type": "DATABLOCK"})["type"] == "DATABLOCK"
    refused = apply({"name": "demo", "type": "KERNEL"}, fails=True)
    assert "It can become CDROM, OS only" in str(refused.error)
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(b"MZ" * 1000)
    apply({"name": "k", "path": str(kernel), "remote_src": True, "type": "KERNEL"})
    assert same_twice(apply, {"name": "k", "type": "RAMDISK"})["type"] == "RAMDISK"
    assert "CONTEXT, KERNEL only" in str(apply({"name": "k", "type": "OS"}, fails=True).error)
    refused = apply({"name": "demo", "type": "CDROM"}, fails=True)
    assert "not an ISO file system" in str(refused.error)
    assert apply({"name": "demo"}).after["type"] == "DATABLOCK"


def test_what_is_refused_while_a_machine_uses_it(apply, stored, used, freed):
    before = stored(persistent=True)
    used(writable=True)
    specs = [
        {"type": "DATABLOCK"}, {"persistent": False}, {"state": "disabled"}, {"state": "absent"}, {"size": 20},
        {"format": "qcow2"}, {"sparse": True}, {"compress": True, "format": "qcow2"},
        {"luks_secret": SECRET, "luks_passphrase": PASSPHRASE},
    ]  # fmt: skip
    for spec in specs:
        refused = apply({"name": "demo", **spec}, fails=True)
        assert type(refused.error).__name__ == "InUse" and not refused.is_changed, spec
    refused = apply({"name": "copy", "clone_of": "demo"}, fails=True)
    assert type(refused.error).__name__ == "InUse"
    # Another machine can't have it either, nor is it asked twice.
    assert not apply({"name": "demo", "persistent": True}).is_changed
    freed()
    assert apply({"name": "demo", "persistent": False}).after["generation"] == before["generation"] + 2


def test_snapshots_stay_until_they_are_flattened(apply, stored, catalog):
    stored(persistent=True)
    image = same_twice(apply, {"name": "demo", "format": "qcow2"})
    subprocess.run(["qemu-img", "snapshot", "-c", "nebula-0", image["source"]], check=True)
    with catalog() as engine:
        engine.images.update("demo", snapshots=json.dumps([{"id": 0, "name": "first"}]))
    for spec in ({"persistent": False}, {"format": "raw"}, {"size": 30}, {"compress": True}):
        refused = apply({"name": "demo", **spec}, fails=True)
        assert "snapshot_flatten: true" in str(refused.error), spec
    assert "snapshot_flatten" in str(apply({"name": "copy", "clone_of": "demo"}, fails=True).error)
    assert apply({"name": "demo"}).after["snapshots"] == 1
    done = same_twice(apply, {"name": "demo", "persistent": False, "snapshot_flatten": True})
    assert (done["snapshots"], done["persistent"]) == (0, False)
    listed = subprocess.run(["qemu-img", "snapshot", "-l", done["source"]], capture_output=True, text=True, check=True)
    assert "nebula-0" not in listed.stdout


def test_what_an_installation_left_is_kept_and_never_ready(apply, catalog, used, freed):
    item = {"name": "new", "type": "DATABLOCK", "size": 8, "persistent": True}
    made = apply(item).after
    with catalog() as engine:
        engine.images.update("new", unfinished="installing")
    used("new", writable=True)
    Path(made["source"]).write_bytes(b"half" + bytes(8 * MIB - 4))
    freed()
    after = apply(item).after
    assert (after["state"], after["error"]) == ("ERROR", "the installation into it is not finished")
    assert Path(made["source"]).read_bytes()[:4] == b"half"
    for spec in ({"type": "OS"}, {"persistent": False}, {"state": "enabled"}):
        refused = apply({"name": "new", **spec}, fails=True)
        assert "is not finished" in str(refused.error) and "installing" in str(refused.error), spec
    refused = apply({"name": "copy", "clone_of": "new"}, fails=True)
    assert "state ERROR" in str(refused.error)
    with catalog() as engine:
        done = engine.images.update("new", unfinished="")
    assert (done.state, done.error) == (ImageState.READY, "")


@pytest.mark.parametrize("step", ["installing", "installed"])
@pytest.mark.parametrize("machine", [True, False])
def test_what_is_being_installed_keeps_what_its_installation_goes_by(
    apply, catalog, root, used, freed, disk, step, machine
):
    """Under another name it would be installed a second time, beside the first."""
    apply({
        "name": "new", "type": "DATABLOCK", "size": 8, "persistent": True, "firmware": "BIOS", "bus": "virtio",
        "attributes": {"INSTALLED_FROM": "netinst", "VERIFIED": "NO"},
    })  # fmt: skip
    with catalog() as engine:
        engine.images.update("new", unfinished=step)
    used("new", writable=True)
    if not machine:
        freed()
    before = apply({"name": "new"}).after
    assert before["state"] == ("USED_PERS" if machine else "ERROR")
    for item in ({"name": "other", "renamed_from": "new"}, {"name": "other", "renamed_from": "new", "size": 8}):
        for check in (True, False):
            refused = apply(item, check=check, fails=True)
            assert type(refused.error).__name__ == "WrongState" and not refused.is_changed
            assert "image other: renamed_from new: it is being installed" in str(refused.error)
            assert f"(it is at: {step})" in str(refused.error) and "nebula_installs" in refused.error.remedy
    specs = [
        {"type": "OS"}, {"persistent": False}, {"firmware": "UEFI"}, {"bus": "sata"}, {"state": "disabled"},
        {"attributes": {"INSTALLED_FROM": None}}, {"attributes": {"verified": "YES"}},
    ]  # fmt: skip
    for spec in specs:
        refused = apply({"name": "new", **spec}, fails=True)
        assert type(refused.error).__name__ == "WrongState" and not refused.is_changed, spec
        assert "it is being installed" in str(refused.error), spec
    refused = apply({"name": "copy", "clone_of": "new"}, fails=True)
    assert type(refused.error).__name__ == ("InUse" if machine else "WrongState")
    assert not apply({"name": "new", "path": str(disk), "remote_src": True}).is_changed
    assert apply({"name": "new"}).after == before and len(files(root)) == 1
    # What is no matter of the installation's may be said.
    apply({"name": "new", "description": "d", "attributes": {"OWNER": "me", "VERIFIED": "NO"}})
    gone = apply({"name": "new", "state": "absent"}, fails=machine)
    assert type(gone.error).__name__ == ("InUse" if machine else "NoneType")


def test_what_was_installed_is_renamed(apply, catalog):
    apply({"name": "new", "type": "DATABLOCK", "size": 8, "persistent": True})
    with catalog() as engine:
        engine.images.update("new", unfinished="installed")
        convert(engine, engine.images.info("new"), ImageType.OS, False, unfinished="")
    assert same_twice(apply, {"name": "other", "renamed_from": "new"})["type"] == "OS"


def test_an_image_in_error_is_believed_once_its_file_was_looked_at(apply, stored, catalog):
    image = stored(format="raw")
    given = {"name": "q", "path": image["source"], "remote_src": True}
    twice = apply(given, {"name": "q", "format": "qcow2"}, fails=True)
    assert "twice" in str(twice.error)
    apply(given)
    converted = apply({"name": "q", "format": "qcow2"}).after
    with catalog() as engine:
        engine.images.update("demo", state=ImageState.ERROR, error="it broke")
        engine.images.update("q", state=ImageState.ERROR, error="it broke")
    done = same_twice(apply, {"name": "demo", "state": "enabled", "sparse": True})
    assert (done["state"], done["error"]) == ("READY", "")
    os.chmod(converted["source"], 0o600)
    with Path(converted["source"]).open("r+b") as file:
        file.seek(70_000)
        file.write(b"\xff" * 3000)
    refused = apply({"name": "q", "state": "enabled"}, fails=True)
    assert "damaged" in str(refused.error) and refused.after["state"] == "ERROR"
    disabled = apply({"name": "q", "state": "disabled"}).after
    assert (disabled["state"], disabled["error"]) == ("DISABLED", "it broke")
    refused = apply({"name": "q", "state": "enabled"}, fails=True)
    assert "damaged" in str(refused.error) and refused.after["state"] == "DISABLED"


# -- hostile disks ----------------------------------------------------------------------------------------------------


def hostile_header(backing):
    """A qcow2 header as a guest may write it to the beginning of its raw disk."""
    name = backing.encode()
    header = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 2, 512, len(name), 16, 8 * MIB, 0, 1, 65536, 131072, 1, 0, 0)
    return header.ljust(512, b"\0") + name


@pytest.mark.parametrize("backing", ["/etc/passwd", 'json:{"driver":"file","filename":"/etc/passwd"}'])
def test_a_guest_that_writes_a_qcow2_header_gets_nothing(apply, root, used, freed, backing):
    item = {"name": "d", "type": "DATABLOCK", "size": 8, "persistent": True}
    made = apply(item).after
    used("d", writable=True)
    with Path(made["source"]).open("r+b") as file:
        file.write(hostile_header(backing))
    freed()
    apply({"name": "d", "type": "OS", "persistent": False})
    apply({"name": "copy", "clone_of": "d"})
    done = apply({"name": "copy", "format": "qcow2"}, {"name": "d", "size": 16}).after
    assert done["format"] == "raw"
    copy = apply({"name": "copy"}).after
    for image in (done, copy):
        read = content(image)
        assert read[:4] == b"QFI\xfb" and b"root:" not in read
    facts = disk_formats.inspect(copy["source"], "qcow2")
    assert facts.backing_file == ""
    # It is as large as it was, whatever the header says.
    assert (done["size"], copy["size"]) == (16, 8)


@pytest.mark.parametrize(
    "spec", [{"type": "DATABLOCK"}, {"persistent": True}, {"format": "raw"}, {"size": 20}, {"state": "enabled"}]
)
def test_a_header_that_names_a_file_is_refused_again(apply, stored, catalog, spec):
    image = stored()
    apply({"name": "demo", "format": "qcow2"})
    if "state" in spec:
        with catalog() as engine:
            engine.images.update("demo", state=ImageState.ERROR, error="x")
    subprocess.run(
        ["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", image["source"]], check=True
    )
    refused = apply({"name": "demo", **spec}, fails=True)
    assert "names another file, as its backing file: '/etc/passwd'" in str(refused.error)
    assert refused.after["state"] == ("ERROR" if "state" in spec else "READY")
    assert refused.after["format"] == "qcow2"
    clone = apply({"name": "copy", "clone_of": "demo"}, fails=True)
    assert "state" in spec or "names another file" in str(clone.error)


# -- names ------------------------------------------------------------------------------------------------------------


def test_an_image_is_renamed_once(apply, stored):
    before = stored("old")
    item = {"name": "new", "renamed_from": "old", "description": "d"}
    done = same_twice(apply, item)
    assert done == {**before, "name": "new", "description": "d"}
    stored("old")
    # It was renamed from that, though another has the old name now.
    assert not apply(item).is_changed
    stored("third")
    refused = apply({"name": "third", "renamed_from": "old"}, fails=True)
    assert type(refused.error).__name__ == "Conflict" and "has the name third" in str(refused.error)
    refused = apply({"name": "x", "renamed_from": "nosuch"}, fails=True)
    assert "no image of either name" in str(refused.error)


def test_templates_that_name_the_old_name_are_told(apply, stored, catalog):
    from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

    stored("old")
    with catalog() as engine:
        engine.templates.allocate("web", parse('CPU = 1\nMEMORY = 64\nDISK = [ IMAGE = "old" ]\n'))
    done = apply({"name": "new", "renamed_from": "old"})
    assert "web" in done.warnings[0]


def test_attributes_are_set_changed_and_removed(apply, stored):
    stored(attributes={"A": "1", "B": 2})
    done = same_twice(apply, {"name": "demo", "attributes": {"a": None, "B": "3", "C": True}})
    assert done["attributes"] == {"B": "3", "C": "YES"}
    assert not apply({"name": "demo", "attributes": {"nosuch": None}}).is_changed


# -- content ----------------------------------------------------------------------------------------------------------


def test_clone(apply, stored, disk, root):
    source = stored(format="raw", dev_prefix="vd", attributes={"OS": "debian"}, firmware="BIOS")
    item = {"name": "copy", "clone_of": "demo", "type": "DATABLOCK", "persistent": True}
    done = same_twice(apply, item)
    assert (done["type"], done["persistent"], done["dev_prefix"]) == ("DATABLOCK", True, "vd")
    assert (done["attributes"], done["firmware"], done["sha256"]) == ({"OS": "debian"}, "BIOS", source["sha256"])
    assert Path(done["source"]).read_bytes() == disk.read_bytes()
    assert (mode(done["source"]), done["origin"]) == (0o660, "image demo")
    assert apply({"name": "demo"}).after["state"] == "READY"
    assert os.stat(done["source"]).st_blocks <= os.stat(source["source"]).st_blocks
    assert "no image of that name" in str(apply({"name": "c", "clone_of": "nosuch"}, fails=True).error)


@pytest.mark.parametrize("order", [1, -1])
def test_images_made_of_others_of_their_list(apply, catalog, disk, order):
    items = [
        {"name": "first", "path": str(disk), "remote_src": True, "size": 16},
        {"name": "second", "clone_of": "first", "size": 24},
        {"name": "third", "clone_of": "second", "format": "qcow2"},
        {"name": "fourth", "clone_of": "first", "state": "disabled"},
    ][::order]
    foreseen = apply(*items, check=True)
    done = apply(*items)
    for key in ("name", "state", "size", "format", "sha256"):
        assert foreseen.after[key] == done.after[key], key
    with catalog() as engine:
        made = {image.name: (image.state.name, image.size, image.format) for image in engine.images.pool()}
    assert made == {
        "first": ("READY", 16, "raw"),
        "second": ("READY", 24, "raw"),
        "third": ("READY", 24, "qcow2"),
        "fourth": ("DISABLED", 16, "raw"),
    }
    assert not apply(*items).is_changed


def test_an_image_is_not_made_of_one_of_its_list_that_fails(apply, catalog, disk, monkeypatch):
    good = {"name": "good", "path": str(disk), "remote_src": True}
    bad = {**good, "name": "bad", "checksum": "sha256:" + "0" * 64}
    copy = {"name": "copy", "clone_of": "bad"}
    assert "bad" in str(apply(good, copy, bad, fails=True).error)
    refused = apply(good, bad, copy, fails=True)
    assert "made of bad" in str(refused.error) and "Mend that" in str(refused.error)
    with catalog() as engine:
        assert {image.name: image.state.name for image in engine.images.pool()} == {"good": "READY", "bad": "ERROR"}
    # Of each other: there is nothing to begin with.
    refused = apply({"name": "a", "clone_of": "b"}, {"name": "b", "from": "a"}, fails=True)
    assert "no image of that name" in str(refused.error)


def test_a_clone_is_of_a_type_that_its_source_can_be(apply, stored, tmp_path):
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(b"MZ a kernel")
    stored(name="disk")
    apply({"name": "kernel", "type": "KERNEL", "path": str(kernel), "remote_src": True})
    assert apply({"name": "data", "clone_of": "disk", "type": "DATABLOCK"}).after["type"] == "DATABLOCK"
    for values in ({"clone_of": "disk", "type": "KERNEL"}, {"clone_of": "kernel", "type": "OS"}):
        for check in (True, False):
            refused = apply({"name": "other", **values}, check=check, fails=True)
            assert "is of type" in str(refused.error) and refused.after is None
    refused = apply({"name": "cd", "clone_of": "disk", "type": "CDROM"}, fails=True)
    assert "image cd: type CDROM" in str(refused.error) and "not an ISO" in str(refused.error)


def test_a_size_below_that_of_the_source_is_refused_before_it_is_copied(apply, stored, disk, root):
    stored()
    before = files(root)
    for item in ({"path": str(disk), "remote_src": True}, {"clone_of": "demo"}):
        for check in (True, False):
            refused = apply({"name": "small", "size": 4, **item}, check=check, fails=True)
            assert "4 MB" in str(refused.error) and "cut off" in str(refused.error)
    assert files(root) == before


def test_a_file_that_a_killed_run_left_open_is_closed_by_the_next(apply, stored):
    image = stored()
    os.chmod(image["source"], 0o660)
    item = {"name": "demo", "persistent": False}
    assert apply(item, check=True).is_changed and mode(image["source"]) == 0o660
    assert apply(item).is_changed and mode(image["source"]) & 0o222 == 0
    assert not apply(item).is_changed


def test_a_clone_of_what_machines_run_from(apply, stored, used, disk):
    stored()
    used()
    assert apply({"name": "copy", "clone_of": "demo"}).after["state"] == "READY"
    assert apply({"name": "demo"}).after["state"] == "USED"


def test_formats_there_and_back(apply, stored, disk, root):
    stored()
    done = same_twice(apply, {"name": "demo", "format": "qcow2"})
    assert (done["format"], done["generation"], done["sha256"]) == ("qcow2", 1, "")
    assert disk_formats.inspect(done["source"], "qcow2").virtual_size == 8 * MIB
    assert content(done) == disk.read_bytes() and mode(done["source"]) == 0o440
    smaller = same_twice(apply, {"name": "demo", "compress": True})
    assert os.path.getsize(smaller["source"]) < 4 * MIB
    assert content(smaller) == disk.read_bytes()
    back = same_twice(apply, {"name": "demo", "format": "raw", "persistent": True})
    assert (back["format"], back["generation"], mode(back["source"])) == ("raw", 3, 0o660)
    assert Path(back["source"]).read_bytes() == disk.read_bytes()
    assert files(root) == [os.path.basename(back["source"])]


def test_a_compressed_image_stays_so_when_it_grows(apply, stored):
    stored()
    small = apply({"name": "demo", "format": "qcow2", "compress": True}).after
    grown = same_twice(apply, {"name": "demo", "size": 64})
    assert grown["size"] == 64
    assert not apply({"name": "demo", "compress": True}).is_changed
    assert os.path.getsize(grown["source"]) < os.path.getsize(small["source"]) + MIB


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_zeroes_go_and_the_content_stays(apply, root, format, tmp_path):
    source = tmp_path / "full.raw"
    source.write_bytes(BOOT + os.urandom(MIB - 512) + bytes(7 * MIB))
    given = source
    if format == "qcow2":
        given = tmp_path / "full.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", given, "8M"], check=True)
        subprocess.run(
            ["qemu-io", "-f", "qcow2", "-c", "write -P 0 0 8M", given], check=True, stdout=subprocess.DEVNULL
        )
    made = apply({"name": "f", "path": str(given), "remote_src": True}).after
    if format == "raw":
        # Importing leaves zeroes out; a machine may write them.
        with Path(made["source"]).open("r+b") as file:
            file.seek(MIB)
            file.write(bytes(7 * MIB))
            os.fsync(file.fileno())
    before = content(made)
    full = taken(made["source"], format)
    done = same_twice(apply, {"name": "f", "sparse": True})
    assert full > 7 * MIB and taken(done["source"], format) < 2 * MIB
    assert content(done) == before
    # Holes change nothing of what is read.
    assert (done["sha256"], done["generation"]) == ((made["sha256"], 0) if format == "raw" else ("", 1))


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_larger_and_never_smaller(apply, format):
    apply({"name": "d", "type": "DATABLOCK", "size": 8, "format": format, "fs": "ext4"})
    before = content(apply({"name": "d"}).after)
    done = same_twice(apply, {"name": "d", "size": 12})
    assert (done["size"], done["generation"], done["sha256"]) == (12, 1, "")
    assert content(done)[: 8 * MIB] == before and len(content(done)) == 12 * MIB
    refused = apply({"name": "new", "size": 8}, {"name": "new2", "size": 8}).after
    assert refused["size"] == 8
    refused = apply({"name": "new", "size": 4}, fails=True)
    assert "is not made smaller: what is at its end would be cut off" in str(refused.error)


def test_stored_then_larger_then_compressed_in_one_run(apply, disk):
    item = {"name": "x", "path": str(disk), "remote_src": True, "size": 16, "compress": True, "persistent": True}
    for check in (True, False):
        refused = apply(item, check=check, fails=True)
        assert "then give format: qcow2" in str(refused.error) and refused.after is None
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk, f"{disk}.qcow2"], check=True)
    done = apply({**item, "name": "y", "path": f"{disk}.qcow2"})
    assert (done.after["size"], done.after["format"], done.after["persistent"]) == (16, "qcow2", True)
    assert not apply({**item, "name": "y", "path": f"{disk}.qcow2"}).is_changed


@pytest.mark.parametrize("fs", ["ext4", "xfs", "swap"])
@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_datablocks_with_a_file_system(apply, fs, format):
    size = 320 if fs == "xfs" else 16
    done = apply({"name": "d", "type": "DATABLOCK", "size": size, "format": format, "fs": fs}).after
    plain = done["source"] + ".plain"
    disk_creation.rewrite(done["source"], format, plain, "raw")
    found = subprocess.run(
        ["blkid", "-p", "-o", "value", "-s", "TYPE", plain], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == fs
    assert os.stat(done["source"]).st_blocks * 512 < size * MIB // 2


def test_room_is_looked_for_before_anything_is_written(apply, stored, root, monkeypatch):
    before = stored()
    there = files(root)
    monkeypatch.setattr(datastore_layout, "free_space", lambda directory: 1000)
    specs = [{"name": "demo", "format": "qcow2"}, {"name": "demo", "size": 9}, {"name": "e", "size": 9}]
    for spec in specs:
        refused = apply(spec, fails=True)
        assert type(refused.error).__name__ == "NoSpace" and "are free" in str(refused.error), spec
        assert files(root) == there
    assert apply({"name": "demo"}).after == before
    refused = apply({"name": "copy", "clone_of": "demo"}, fails=True)
    # A file system that shares blocks needs none.
    assert refused.error is None or type(refused.error).__name__ == "NoSpace"


# -- encrypted --------------------------------------------------------------------------------------------------------


def test_an_encrypted_datablock(apply, root, monkeypatch):
    item = {
        "name": "safe", "type": "DATABLOCK", "size": 8, "format": "qcow2", "luks_secret": SECRET.upper(),
        "luks_passphrase": PASSPHRASE,
    }  # fmt: skip
    refused = apply({**item, "luks_passphrase": None}, fails=True)
    assert "Give luks_passphrase" in str(refused.error)
    done = same_twice(apply, item)
    assert (done["luks_secret"], done["format"]) == (SECRET, "qcow2")
    assert disk_formats.inspect(done["source"], "qcow2", encrypted=True).encrypted
    assert content(done, PASSPHRASE) == bytes(8 * MIB)
    grown = apply({"name": "safe", "size": 12}, fails=True)
    assert "can't be opened without its passphrase" in str(grown.error)
    grown = apply({"name": "safe", "size": 12, "luks_passphrase": "wrong"}, fails=True)
    assert "does not open the disk" in str(grown.error) and "wrong" not in str(grown.error)
    grown = same_twice(apply, {"name": "safe", "size": 12, "luks_passphrase": PASSPHRASE})
    assert (grown["size"], content(grown, PASSPHRASE)) == (12, bytes(12 * MIB))
    for spec, text in (({"compress": True}, "can't be compressed"), ({"format": "raw"}, "a raw file would not be")):
        assert text in str(apply({"name": "safe", **spec}, fails=True).error)
    # No key is needed to copy the file as it is.
    copy = apply({"name": "copy", "clone_of": "safe"}).after
    assert (copy["luks_secret"], Path(copy["source"]).read_bytes()) == (SECRET, Path(grown["source"]).read_bytes())
    everything = b"".join(path.read_bytes() for path in root.glob("nebula.db*"))
    assert PASSPHRASE.encode() not in everything


def test_encrypting_what_is_there_and_importing_what_is(apply, stored, disk, tmp_path):
    stored()
    refused = apply({"name": "demo", "luks_secret": SECRET}, fails=True)
    assert "no passphrase is given" in str(refused.error)
    done = same_twice(apply, {"name": "demo", "luks_secret": SECRET, "luks_passphrase": PASSPHRASE})
    assert (done["format"], done["luks_secret"], done["generation"]) == ("qcow2", SECRET, 1)
    assert content(done, PASSPHRASE) == disk.read_bytes()
    given = tmp_path / "given.qcow2"
    given.write_bytes(Path(done["source"]).read_bytes())
    item = {"name": "other", "path": str(given), "remote_src": True}
    refused = apply(item, fails=True)
    assert "it is encrypted" in str(refused.error) and "Give luks_secret" in str(refused.error)
    done = same_twice(apply, {**item, "luks_secret": SECRET})
    assert (done["luks_secret"], content(done, PASSPHRASE)) == (SECRET, disk.read_bytes())
    # What is not encrypted is not taken for it.
    plain = {"name": "plain", "path": str(disk), "remote_src": True, "luks_secret": SECRET}
    refused = apply(plain, fails=True)
    assert "it is not encrypted" in str(refused.error)
    done = apply({**plain, "luks_passphrase": PASSPHRASE}).after
    assert content(done, PASSPHRASE) == disk.read_bytes()


@pytest.fixture
def no_recipes(monkeypatch):
    """Nothing is added by `from`: that takes a machine of libguestfs."""
    monkeypatch.setattr(recipes, "add", lambda *_arguments: None)


def refuse_room(path, format, new_format, key, what):
    raise NoSpace(what, "there is no room for a second copy", "Make room")


def dies(*_arguments, **_named):
    raise OSError(5, "Input/output error")


# What an image is made of that is not encrypted yet. DISK: the path of one.
CLEAR = {
    "a path": {"path": "DISK", "remote_src": True},
    "a clone": {"clone_of": "demo"},
    "from": {"from": "demo", "packages": ["nginx"]},
}
CLOSED = {"name": "closed", "luks_secret": SECRET, "luks_passphrase": PASSPHRASE}


@pytest.mark.parametrize("fails", ["room", "qemu-img", "its place"])
@pytest.mark.parametrize("made_of", CLEAR)
def test_what_can_not_be_encrypted_is_never_had_in_the_clear(
    apply, stored, root, disk, used, monkeypatch, no_recipes, made_of, fails
):
    demo = stored(persistent=True)
    item = {**CLOSED, **{key: str(disk) if value == "DISK" else value for key, value in CLEAR[made_of].items()}}
    where, name, how = {
        "room": (image_files, "require_room", refuse_room),
        "qemu-img": (disk_creation, "rewrite", dies),
        "its place": (image_files, "swap", dies),
    }[fails]
    with monkeypatch.context() as patch:
        patch.setattr(where, name, how)
        refused = apply(item, fails=True)
    assert refused.is_changed and "image closed: encrypting it" in str(refused.error)
    assert (refused.after["state"], refused.after["luks_secret"] in ("", SECRET)) == ("ERROR", True)
    with pytest.raises(NebulaError, match="state ERROR"):
        used("closed")
    assert files(root) == [os.path.basename(demo["source"])]
    refused = apply({"name": "closed", "state": "enabled"}, fails=True)
    assert "its file is not there" in str(refused.error) and refused.after["state"] == "ERROR"
    done = apply(item).after
    assert (done["state"], done["error"], done["luks_secret"]) == ("READY", "", SECRET)
    assert content(done, PASSPHRASE) == disk.read_bytes() and mode(done["source"]) == 0o440
    assert not apply(item).is_changed
    assert apply({"name": "demo"}).after["state"] == "READY"


@pytest.mark.parametrize("made_of", CLEAR)
def test_what_is_encrypted_on_its_way_in(apply, stored, root, disk, no_recipes, made_of):
    stored()
    item = {**CLOSED, **{key: str(disk) if value == "DISK" else value for key, value in CLEAR[made_of].items()}}
    done = same_twice(apply, {**item, "persistent": True, "sparse": True})
    assert (done["format"], done["luks_secret"], done["sha256"], done["generation"]) == ("qcow2", SECRET, "", 0)
    assert disk_formats.inspect(done["source"], "qcow2", encrypted=True).encrypted
    assert content(done, PASSPHRASE) == disk.read_bytes() and mode(done["source"]) == 0o660
    grown = apply({**item, "name": "larger", "size": 16, "state": "disabled"}).after
    assert (grown["size"], grown["state"], len(content(grown, PASSPHRASE))) == (16, "DISABLED", 16 * MIB)
    assert len(files(root)) == 3


def test_a_clone_of_what_is_compressed_is_not_once_it_is_encrypted(apply, stored, catalog):
    stored()
    apply({"name": "demo", "format": "qcow2", "compress": True})
    apply({**CLOSED, "clone_of": "demo"})
    with catalog() as engine:
        assert "compress" not in engine.images.info("closed").notes


def test_a_clone_that_can_not_be_encrypted_is_not_begun(apply, stored, root, tmp_path):
    stored()
    refused = apply({**CLOSED, "clone_of": "demo", "luks_passphrase": None}, fails=True)
    assert "demo is not encrypted, and no passphrase is given" in str(refused.error)
    refused = apply({**CLOSED, "clone_of": "demo", "luks_secret": None}, fails=True)
    assert "Give luks_secret" in str(refused.error)
    iso = tmp_path / "some.iso"
    iso.write_bytes(bytes(32768) + b"\x01CD001\x01" + bytes(8 * 2048))
    apply({"name": "cd", "path": str(iso), "remote_src": True, "type": "CDROM"})
    refused = apply({**CLOSED, "clone_of": "cd"}, fails=True)
    assert "not of type CDROM" in str(refused.error)
    assert len(files(root)) == 2 and apply({"name": "demo"}).after["state"] == "READY"


# Where a run is killed that stores what is to be encrypted.
SEALING = [
    ("storage.final_names.publish", "after"), ("storage.image_files.require_room", "after"),
    ("storage.image_files.rewrite", "after"), ("storage.image_files.swap", "after"),
    ("reconcile.images.image_files_stored._tell", "after"), ("reconcile.images.rewrite.begin", "before"),
]  # fmt: skip


@pytest.mark.parametrize("made_of", ["a path", "a clone"])
@pytest.mark.parametrize(("function", "when"), SEALING)
def test_killed_while_it_is_encrypted_it_is_not_had_in_the_clear(
    apply, stored, root, disk, catalog, used, made_of, function, when
):
    stored()
    item = {**CLOSED, **{key: str(disk) if value == "DISK" else value for key, value in CLEAR[made_of].items()}}
    program = [sys.executable, "-c", KILLED, ROOT / "collections", root, json.dumps(item), function, when]
    killed = subprocess.run(program, check=False).returncode
    with catalog() as engine:
        left = engine.images.info("closed")
    if left.state == ImageState.LOCKED:
        assert killed == -signal.SIGKILL
        with pytest.raises(NebulaError, match="state LOCKED"):
            used("closed")
        assert apply({"name": "closed", "state": "enabled"}, fails=True).after["state"] == "LOCKED"
    else:
        assert (left.state, left.luks_secret) == (ImageState.READY, SECRET)
        assert disk_formats.inspect(left.source, "qcow2", encrypted=True).encrypted
    done = apply(item).after
    assert (done["state"], done["luks_secret"]) == ("READY", SECRET)
    assert content(done, PASSPHRASE) == disk.read_bytes()
    assert not apply(item).is_changed
    assert files(root) == sorted(os.path.basename(apply({"name": n}).after["source"]) for n in ("demo", "closed"))


def test_a_disabled_image_is_enabled_once_it_is_encrypted(apply, stored, monkeypatch):
    stored(state="disabled")
    item = {"name": "demo", "state": "enabled", "luks_secret": SECRET, "luks_passphrase": PASSPHRASE}
    with monkeypatch.context() as patch:
        patch.setattr(image_files, "require_room", refuse_room)
        refused = apply(item, fails=True)
    assert type(refused.error).__name__ == "NoSpace"
    left = apply({"name": "demo"}).after
    assert (left["state"], left["luks_secret"]) == ("DISABLED", "")
    done = same_twice(apply, item)
    assert (done["state"], done["luks_secret"]) == ("READY", SECRET)


def test_the_passphrase_is_in_no_argument(apply, monkeypatch):
    seen = []
    run = disk_creation.command.run

    def spy(argv, **options):
        seen.extend([*argv, *options.get("env", {}).values()])
        return run(argv, **options)

    monkeypatch.setattr(disk_creation.command, "run", spy)
    item = {"name": "safe", "type": "DATABLOCK", "size": 4, "luks_secret": SECRET, "luks_passphrase": PASSPHRASE}
    apply(item)
    apply({**item, "size": 8})
    assert seen and not [word for word in seen if PASSPHRASE in word]
    assert PASSPHRASE not in repr(image_list_decision.spec_of(item))


# -- bad input --------------------------------------------------------------------------------------------------------


def _corrupt(path):
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "8M"], check=True)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write 0 4M", path], check=True, stdout=subprocess.DEVNULL)
    with Path(path).open("r+b") as file:
        file.seek(65536 * 3)
        file.write(b"\xff" * 65536)


def _short(path):
    path.write_bytes(b"QFI\xfb\0\0\0\3" + bytes(20))


def _qcow2(path):
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "8M"], check=True)


def _raw(path):
    path.write_bytes(BOOT + os.urandom(MIB - 512))


def _nothing(path):
    path.write_bytes(b"")


BAD = {
    "a corrupt qcow2": (_corrupt, {}, "it is damaged or truncated"),
    "a qcow2 cut off": (_short, {}, "its qcow2 header is cut off"),
    "raw posing as qcow2": (_raw, {"format": "qcow2"}, "format qcow2: the file's format is raw. Leave format out"),
    "qcow2 posing as raw": (_qcow2, {"format": "raw"}, "format raw: the file's format is qcow2. Leave format out"),
    "an ISO that is none": (_raw, {"type": "CDROM"}, "type CDROM: it is not an ISO file system"),
    "a qcow2 as an ISO": (_qcow2, {"type": "CDROM"}, "not an ISO file system (its format is qcow2)"),
    "nothing": (_nothing, {}, "it is empty"),
    "a kernel to write to": (
        _raw,
        {"type": "KERNEL", "persistent": True},
        "it is of type KERNEL. Only OS and DATABLOCK",
    ),
    "a kernel to grow": (_raw, {"type": "KERNEL", "size": 9}, "a file of type KERNEL is not made larger"),
    "packed and raw": (_raw, {"format": "raw", "compress": True}, "a raw file can't be compressed"),
    "a secret that is none": (_qcow2, {"luks_secret": "geheim"}, "it is not a UUID"),
    "an unknown firmware": (_raw, {"firmware": "EFI"}, "Did you mean 'UEFI'?"),
    "files without an image": (_raw, {"files": [{"path": "/x", "content": ""}]}, "Give from"),
    "a datastore of another type": (_raw, {"datastore": "files"}, "that is of type FILE"),
    "a datastore that is not there": (_raw, {"datastore": "fast"}, "datastore 'fast'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_told_and_leaves_nothing(apply, root, tmp_path, case):
    make, values, text = BAD[case]
    path = tmp_path / "given"
    make(path)
    refused = apply({"name": "bad", "path": str(path), "remote_src": True, **values}, fails=True)
    assert refused.error is not None and text in str(refused.error)
    assert "image bad" in str(refused.error) or "datastore" in text
    assert refused.after is None or refused.after["state"] == "ERROR"
    assert files(root) == []


# -- killed -----------------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
base = "ansible_collections.nebula.provision.plugins.module_utils."
import importlib, json
module, _dot, name = sys.argv[4].rpartition(".")
module = importlib.import_module(base + module)
engines = importlib.import_module(base + "engines.embedded.engine")
images = importlib.import_module(base + "reconcile.images.image_list_decision")
importlib.import_module(base + "storage.disk_creation").LUKS += ",encrypt.iter-time=10"
real = getattr(module, name)
def killed(*arguments, **named):
    done = real(*arguments, **named) if sys.argv[5] == "after" else None
    os.kill(os.getpid(), signal.SIGKILL)
setattr(module, name, killed)
engine = engines.EmbeddedEngine(sys.argv[2], create=True)
images.apply(engine, [json.loads(sys.argv[3])], images.Settings())
"""
# Where a run is killed: before or after this function. The last column: whether it is a step of rewriting alone.
STEPS = [
    ("reconcile.images.rewrite._run", "before"),
    ("storage.disk_creation.rewrite", "after"),
    ("storage.image_files.rewrite", "after"),
    ("reconcile.images.rewrite._step", "after"),
    ("storage.datastore_layout.protect", "after"),
    ("storage.image_files.swap", "after"),
    ("reconcile.images.rewrite._write_done", "before"),
    ("reconcile.images.rewrite._write_done", "after"),
]
GROWTH = [
    ("reconcile.images.rewrite._run", "before"), ("storage.disk_creation.resize", "after"),
    ("storage.image_files.grow", "after"),
]  # fmt: skip
CLONING = [
    ("reconcile.images.image_files_stored._fetch", "before"), ("storage.image_files.duplicate", "after"),
    ("storage.final_names.publish", "before"), ("storage.final_names.publish", "after"),
    ("reconcile.images.image_files_stored._tell", "after"),
]  # fmt: skip
ITEMS = {
    "convert": {"name": "demo", "format": "qcow2", "size": 16},
    "compress": {"name": "demo", "format": "qcow2", "compress": True},
    "grow": {"name": "demo", "size": 16},
    "clone": {"name": "copy", "clone_of": "demo"},
}
KILLS = [
    *(("convert", *step) for step in STEPS), *(("compress", *step) for step in STEPS[2:6]),
    *(("grow", *step) for step in GROWTH), *(("clone", *step) for step in CLONING),
]  # fmt: skip


@pytest.mark.parametrize(("what", "function", "when"), KILLS)
def test_killed_at_any_step_the_next_run_goes_on(apply, stored, root, disk, catalog, what, function, when):
    before = stored(persistent=True)
    item = ITEMS[what]
    program = [sys.executable, "-c", KILLED, ROOT / "collections", root, json.dumps(item), function, when]
    process = subprocess.run(program, check=False)
    assert process.returncode == -signal.SIGKILL
    left = apply({"name": "demo"}, check=True).after
    assert left["state"] in ("READY", "CLONE")
    # Nobody has it meanwhile; nor is what it holds thrown away by whoever names its path.
    if what != "clone":
        again = apply({"name": "demo", "path": str(disk), "remote_src": True})
        assert content(again.after)[: 8 * MIB] == disk.read_bytes()
        assert (again.after["state"], again.after["operation"]) == ("READY", "")
    done = apply(item).after
    assert done["state"] == "READY"
    expected = disk.read_bytes().ljust(done["size"] * MIB, b"\0")
    assert content(done) == expected
    assert (done["size"], done["format"]) == (item.get("size", 8), item.get("format", "raw"))
    assert not apply(item).is_changed
    demo = apply({"name": "demo"}).after
    assert (demo["state"], demo["id"], demo["source"]) == ("READY", before["id"], before["source"])
    assert mode(demo["source"]) == 0o660
    assert files(root) == sorted({os.path.basename(image["source"]) for image in (demo, done)})


def test_a_clone_that_was_killed_and_is_not_wanted_any_more(apply, stored, root, used):
    stored(persistent=True)
    program = [sys.executable, "-c", KILLED, ROOT / "collections", root, json.dumps(ITEMS["clone"])]
    subprocess.run([*program, "storage.image_files.duplicate", "after"], check=False)
    assert apply({"name": "demo"}).after["state"] == "CLONE"
    for spec in (
        {"persistent": False},
        {"type": "DATABLOCK"},
        {"state": "absent"},
        {"state": "disabled"},
        {"size": 99},
    ):
        assert "CLONE" in str((refused := apply({"name": "demo", **spec}, fails=True)).error) or "cloned" in str(
            refused.error
        )
    with pytest.raises(NebulaError, match="being cloned"):
        used(writable=True)
    apply({"name": "copy", "state": "absent"})
    assert apply({"name": "demo"}).after["state"] == "READY"
    assert len(files(root)) == 1


def test_an_operation_that_fails_leaves_the_image_as_it_was(apply, stored, root, monkeypatch):
    before = stored()

    def fail(*_arguments, **_named):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(image_files, "swap", fail)
    refused = apply({"name": "demo", "format": "qcow2"}, fails=True)
    assert "Input/output error" in str(refused.error)
    assert refused.after == before == apply({"name": "demo"}).after
    assert files(root) == [os.path.basename(before["source"])]


def test_what_another_module_is_changing_is_not_stored_over(apply, stored, catalog, disk):
    """As nebula_image_prepare notes it."""
    before = stored()
    with catalog() as engine:
        engine.images.update("demo", state=ImageState.LOCKED, operation=Prepare(ImageState.READY))
    refused = apply({"name": "demo", "path": str(disk), "remote_src": True, "size": 99}, fails=True)
    assert "nebula_image_prepare" in str(refused.error) and refused.after["state"] == "LOCKED"
    assert Path(before["source"]).read_bytes() == disk.read_bytes()


def test_with_the_catalog_goes_what_a_killed_run_was_writing(stored, root):
    image = stored()
    edited = image_overlay.locate_catalogued(image["source"], image["format"], "image demo")
    os.mkdir(edited.directory)
    Path(edited.directory, "overlay").write_text("a secret")
    frontends.absent({"root": str(root), "engine": "embedded"}, False)
    assert not root.exists()


def test_runs_at_once(apply, stored, root):
    """One does it; the other waits, and finds it done."""
    stored()
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine\n"
        "from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images "
        "import image_list_decision\n"
        "engine = EmbeddedEngine(sys.argv[2], create=True)\n"
        "done, _warnings = image_list_decision.apply("
        "engine, [{'name': 'demo', 'format': 'qcow2'}], image_list_decision.Settings())\n"
        "sys.exit(str(done[0].error) if done[0].error else 0)\n"
    )
    runs = [subprocess.Popen([sys.executable, "-c", program, ROOT / "collections", root]) for _run in range(4)]
    assert [run.wait(60) for run in runs] == [0] * 4
    done = apply({"name": "demo"}).after
    assert (done["state"], done["format"], done["generation"]) == ("READY", "qcow2", 1)


def test_a_file_is_opened_and_closed_only_for_what_is_committed(root, monkeypatch):
    """The session fails at its end: the file is as the catalog still has it."""
    engine = EmbeddedEngine(root, create=True)
    made = image_list_decision.apply(engine, [{"name": "d", "type": "DATABLOCK", "size": 8}], Settings())[0][0].after
    session = engine.session

    @contextlib.contextmanager
    def failing():
        with session():
            yield
            raise NebulaError("the last sync", "failed")

    for persistent, before, after in ((True, 0o440, 0o660), (False, 0o660, 0o440)):
        spec = [{"name": "d", "persistent": persistent}]
        with monkeypatch.context() as patch, pytest.raises(NebulaError):
            patch.setattr(engine, "session", failing)
            image_list_decision.apply(engine, spec, Settings())
        assert mode(made["source"]) == before
        assert image_list_decision.apply(engine, spec, Settings())[0][0].error is None
        assert mode(made["source"]) == after
    engine.close()


def test_convert_is_one_transaction(apply, catalog, root):
    """As an installation ends: type, persistence and what is known of the system, or nothing of it."""
    made = apply({"name": "d", "type": "DATABLOCK", "size": 8, "persistent": True}).after
    with catalog() as engine:
        engine.images.update("d", unfinished="copying")
        image = engine.images.info("d")
        done = convert(engine, image, ImageType.OS, False, unfinished="", firmware="UEFI", bus="virtio")
    assert (done.type, done.persistent, done.unfinished, done.generation) == (ImageType.OS, False, "", 1)
    # The file is the caller's to close, once this is committed: it may be rolled back.
    assert mode(made["source"]) == 0o660
    assert image_storing.inspect_again(done) == 8
    assert rewrite.rework_wanted(image_list_decision.spec_of({"name": "d"}), done) is None
    assert final_names.PART not in "".join(files(root))
