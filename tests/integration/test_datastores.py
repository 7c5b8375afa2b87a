# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Datastores on file systems of their own: what lies where, and that room is looked for before anything is written."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from raw_disks import BOOT

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import NoSpace
from ansible_collections.nebula.provision.plugins.module_utils.host import command
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.specifications.datastore import KEYS
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import backups, frontends
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import image_list_decision
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images.image_list_decision import Settings
from ansible_collections.nebula.provision.plugins.module_utils.storage import (
    datastore_audit,
    datastore_layout,
    machine_disks,
    uploads,
)
from ansible_collections.nebula.provision.plugins.modules import nebula_datastore, nebula_info

MIB = 1024 * 1024


def options(**given):
    """A module's parameters as AnsibleModule hands them over: what is not given is None."""

    class Params(dict):
        def __missing__(self, key):
            return None

    return Params({"engine": "embedded", **given})


@pytest.fixture
def root(tmp_path):
    return str(tmp_path / "nebula")


@pytest.fixture
def small(tmp_path):
    """Makes a file system of so many MiB."""
    mounted = []

    def make(size):
        place = tmp_path / f"small{len(mounted)}"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}m,mode=711", "none", place], check=True)
        mounted.append(place)
        return place

    yield make
    for place in mounted:
        subprocess.run(["umount", place], check=True)


def run(root, check=False, **given):
    return nebula_datastore.call.run(options(root=root, **given), check)


def apply(root, *items, check=False, **settings):
    engine = EmbeddedEngine(root, check_mode=check, create=True)
    try:
        return image_list_decision.apply(engine, items, Settings(check_mode=check, **settings))[0][-1]
    finally:
        engine.close()


def test_made_again_changed_and_removed(root):
    item = {"name": "fast", "attributes": {"disk": "nvme"}, "description": "d"}
    predicted = run(root, check=True, **item)
    assert predicted.changed and predicted.payload["datastore"]["id"] is None and not os.path.exists(root)
    made = run(root, **item)
    shown = made.payload["datastore"]
    assert made.changed and (shown["id"], shown["type"], shown["images"]) == (100, "IMAGE", 0)
    assert shown["path"] == f"{root}/datastores/100" and os.path.isdir(shown["path"])
    assert 0 < shown["free"] < shown["total"]
    for check in (True, False):
        assert not run(root, check=check, **item).changed
    changes = {"name": "fast", "attributes": {"disk": None, "b": 1}, "capacity_check": False}
    for check in (True, False):
        changed = run(root, check=check, **changes)
        assert changed.changed and changed.payload["datastore"]["attributes"] == {"B": "1"}
    assert not run(root, **changes).changed
    for check in (True, False):
        gone = run(root, check=check, name="fast", state="absent")
        assert gone.changed and gone.payload["datastores"] == []
    assert not run(root, name="fast", state="absent").changed
    assert not os.path.exists(shown["path"])


def test_bad_items_are_told_and_the_others_done(root):
    bad = [
        {"name": "a/b"},
        {"name": "x", "type": "SYSTEM"},
        {"name": "y", "type": "IMAGES"},
        {"name": "default", "state": "absent"},
        {"name": "z", "capacity_check": "maybe"},
        {"name": "w", "attributes": "A=1"},
        {"name": "default", "type": "FILE"},
    ]
    done = run(root, datastores=[*bad, {"name": "good", "type": "file"}])
    said = {item.name: str(item.error) for item in done.errors if item.name != "default"}
    assert set(said) == {"a/b", "x", "y", "z", "w"}
    assert "Did you mean 'IMAGE'" in said["y"]
    of_default = [str(item.error) for item in done.errors if item.name == "default"]
    assert of_default == ["datastore default: the list has it twice. Keep one of the two"] * 2
    assert [each["name"] for each in done.payload["datastores"]] == ["good"]
    (alone,) = run(root, datastores=[{"name": "default", "type": "FILE"}]).errors
    assert "default" in str(alone.error) and "twice" not in str(alone.error)


def test_images_lie_where_they_belong(root, tmp_path):
    run(root, name="fast")
    kernel, disk = tmp_path / "vmlinuz", tmp_path / "disk"
    kernel.write_bytes(b"MZ" * 100)
    disk.write_bytes(BOOT + os.urandom(MIB - 512))
    given = {"remote_src": True, "path": str(disk)}
    places = {
        "k": apply(root, {"name": "k", "type": "KERNEL", "remote_src": True, "path": str(kernel)}),
        "d": apply(root, {"name": "d", **given}),
        "f": apply(root, {"name": "f", "datastore": "fast", **given}),
        "n": apply(root, {"name": "n", "datastore": "100", "clone_of": "d"}),
        "c": apply(root, {"name": "c", "clone_of": "f"}),
    }
    assert {name: (item.error, item.after["datastore_id"]) for name, item in places.items()} == {
        "k": (None, 2), "d": (None, 1), "f": (None, 100), "n": (None, 100), "c": (None, 100),
    }  # fmt: skip
    assert all(f"/datastores/{item.after['datastore_id']}/" in item.after["source"] for item in places.values())
    moved = apply(root, {"name": "d", "datastore": "fast"})
    assert "an image is not moved" in str(moved.error) and "clone_of" in str(moved.error)
    assert not apply(root, {"name": "f", "datastore": "fast"}).is_changed
    missing = {"name": "new", "datastore": "later", **given}
    assert apply(root, missing).error is not None
    assert apply(root, missing, check=True).is_changed
    info = nebula_info.call.run(options(root=root, gather=["datastores"]), False).payload["datastores"]
    assert {each["name"]: each["images"] for each in info} == {"system": 0, "default": 1, "files": 1, "fast": 3}
    refused = run(root, name="fast", state="absent")
    assert "3 images lie in it: f, n, c" in str(refused.errors[0].error)


@pytest.mark.root
@pytest.mark.parametrize("how", ["mount", "link"])
def test_room_is_that_of_its_own_file_system(root, small, tmp_path, how):
    shown = run(root, name="small").payload["datastore"]
    place = Path(shown["path"])
    small_one = small(80)
    if how == "link":
        place.rmdir()
        place.symlink_to(small_one)
    else:
        subprocess.run(["mount", "--bind", small_one, place], check=True)
    try:
        shown = run(root, name="small").payload["datastore"]
        assert (shown["total"], shown["free"]) == (80, 16)
        disk = tmp_path / "disk"
        disk.write_bytes(BOOT + os.urandom(20 * MIB - 512))
        given = {"datastore": "small", "remote_src": True, "path": str(disk)}
        full = apply(root, {"name": "a", **given})
        assert type(full.error).__name__ == "NoSpace" and "16.0 MiB are free" in str(full.error)
        assert os.listdir(place) == []
        apply(root, {"name": "a", "state": "absent"})
        apply(root, {"name": "there", "path": str(disk), "remote_src": True})
        clone = apply(root, {"name": "b", "clone_of": "there", "datastore": "small"})
        assert type(clone.error).__name__ == "NoSpace" and os.listdir(place) == []
        assert apply(root, {"name": "there"}).after["state"] == "READY"
        apply(root, {"name": "b", "state": "absent"})
        empty = apply(root, {"name": "e", "type": "DATABLOCK", "size": 20, "datastore": "small"})
        assert "in datastore small" in str(empty.error) and empty.after["state"] == "ERROR"
        run(root, name="small", capacity_check=False)
        assert apply(root, {"name": "e", "type": "DATABLOCK", "size": 20, "datastore": "small"}).error is None
        # What was sent lies in datastore 1, and can't be renamed into another file system.
        disk.write_bytes(BOOT + os.urandom(MIB - 512))
        sent = Path(uploads.path_of(datastore_layout.image_directory(root), "0" * 64))
        sent.write_bytes(disk.read_bytes())
        done = apply(root, {"name": "u", "path": "disk", "datastore": "small"}, uploads={"u": str(sent)})
        assert done.error is None and Path(done.after["source"]).read_bytes() == disk.read_bytes()
        assert not sent.exists()
        again = apply(root, {"name": "u", "size": 4, "format": "qcow2"})
        assert again.error is None and again.after["size"] == 4
    finally:
        if how == "mount":
            subprocess.run(["umount", place], check=True)


def image_file(path, data, size, *options):
    """A qcow2 image of `size` MiB, in which `data` MiB are written, one every other MiB."""
    plain = path.parent / "plain.raw"
    with plain.open("wb") as file:
        file.truncate(size * MIB)
        for start in range(0, 2 * data, 2):
            file.seek(start * MIB)
            file.write(b"nebula, " * (MIB // 8))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, plain, path], check=True)
    plain.unlink()
    return path


@pytest.fixture
def programs(monkeypatch):
    """Those that are run, as they are."""
    found = []

    def run(argv, *arguments, **options):
        found.append(argv[:2])
        return real(argv, *arguments, **options)

    real = command.run
    monkeypatch.setattr(command, "run", run)
    return found


def a_copy(image, directory):
    disk = Disk(0, "vda", driver="raw", image_id=3, image="demo", source=str(image), format="qcow2")
    machine = Vm(7, "u", "web", "kvm", 1.0, 64, disks=(disk,))
    return lambda: machine_disks.prepare(machine, str(directory))


@pytest.mark.root
def test_a_copy_of_a_compressed_image_needs_the_room_of_what_it_holds(small, tmp_path, programs):
    image = image_file(tmp_path / "image", 24, 1024, "-c")
    assert image.stat().st_blocks * 512 < 2 * MIB
    place = small(80)
    with pytest.raises(NoSpace, match=r"machine web \(id 7\), disk 0: a copy: 25\.0 MiB in .*16\.0 MiB are free"):
        a_copy(image, place)()
    assert os.listdir(place) == [] and ["qemu-img", "convert"] not in programs


@pytest.mark.root
@pytest.mark.parametrize("options", [[], ["-c"]], ids=["plain", "compressed"])
def test_a_copy_of_a_large_image_with_little_in_it_fits(small, tmp_path, options):
    place = small(80)
    # Its tables alone, which a raw file does not have, would not.
    a_copy(image_file(tmp_path / "image", 12, 1024 * 1024, *options), place)()
    found = (place / "disk.0").stat()
    assert found.st_size == 1024 * 1024 * MIB and found.st_blocks * 512 == 12 * MIB


def test_a_copy_is_not_measured_where_all_of_the_image_fits(tmp_path, programs):
    directory = tmp_path / "machine"
    directory.mkdir()
    a_copy(image_file(tmp_path / "image", 1, 64, "-c"), directory)()
    assert programs == [["qemu-img", "convert"]]


def test_audit_backup_and_teardown_know_them(root, tmp_path):
    run(root, name="fast")
    disk = tmp_path / "disk"
    disk.write_bytes(BOOT + os.urandom(MIB - 512))
    made = apply(root, {"name": "f", "datastore": "fast", "path": str(disk), "remote_src": True}).after
    stray = Path(root) / "datastores/100/stray"
    stray.write_text("x")
    work = Path(made["source"] + ".work")
    work.write_text("x")
    engine = EmbeddedEngine(root)
    found = {finding.object: finding for finding in datastore_audit.findings(engine.images.pool(), root)}
    engine.close()
    assert set(found) == {f"file {stray}", f"file {work}"}
    assert "a run that was killed" in found[f"file {work}"].found
    stray.unlink()
    backup = backups.backup(options(root=root, directory=str(tmp_path / "backups"), keep=0, images=True), False)
    assert not backup.errors
    gone = frontends.absent(options(root=root), False)
    assert gone.changed and not os.path.exists(root)


def test_datastores_keys_are_the_modules(root):
    assert set(KEYS) == {"name", "type", "shared", "hosts", "capacity_check", "description", "attributes", "state"}
