# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real catalog written to backups and made again from one: what is said of it, predicted, and refused."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import ChecksumMismatch, InvalidValue, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.model.audit import Domain, Inventory
from ansible_collections.nebula.provision.plugins.module_utils.model.catalog_backup import RestoreResult, UnknownMachine
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain, to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, Plan
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState, ImageState
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import backups

STRANGER = UnknownMachine("node1", 7, "u-7", "one-7", "RUNNING", generation=3, forget="virsh undefine one-7")


@pytest.fixture
def root(tmp_path):
    """A front-end whose catalog has a host and an image of five bytes."""
    place = tmp_path / "nebula"
    place.mkdir()
    with contextlib.closing(EmbeddedEngine(str(place), create=True)) as engine, engine.session():
        engine.hosts.allocate(Host(None, "node1", state=HostState.MONITORED, memory=4096, cpu=8.0))
        image = engine.images.allocate(Image(None, "demo", state=ImageState.READY, sha256="0" * 64, size=1))
    Path(image.source).parent.mkdir(parents=True)
    Path(image.source).write_bytes(b"hello")
    return place


@pytest.fixture
def catalog(root):
    with contextlib.closing(EmbeddedEngine(str(root))) as engine:
        return engine.catalog()


def backup(root, check=False, **given):
    options = {"engine": "embedded", "root": str(root), "directory": f"{root}.backups", "keep": 10, "images": False}
    return backups.backup({**options, **given}, check)


def restore(root, observed=(), check=False, **given):
    options = {"engine": "embedded", "root": str(root), "directory": f"{root}.backups", "file": None}
    options.update(force=False, unknown="keep", new_catalog=False, observed=[to_plain(each) for each in observed])
    return backups.restore({**options, **given}, check)


def names(directory):
    return sorted(str(path.relative_to(directory)) for path in Path(directory).rglob("*") if path.is_file())


def test_relative_paths_are_refused_before_anything_is_done(root, tmp_path, monkeypatch):
    """With a local connection they are taken from the directory of the playbook."""
    monkeypatch.chdir(tmp_path)
    for run in (
        lambda: backup(root, directory="backups"),
        lambda: restore(root, directory="backups"),
        lambda: restore(root, file="backups/x.db"),
    ):
        with pytest.raises(InvalidValue, match=r"nebula_backup(_directory)? 'backups.*': the path is not absolute"):
            run()
    assert [path.name for path in tmp_path.iterdir()] == ["nebula"]


# -- taking one -------------------------------------------------------------------------------------------------------
def test_a_backup_is_told_as_it_lies_there(root, catalog):
    result = backup(root)
    shown = result.payload["backup"]
    path = Path(shown["path"])
    assert result.changed
    assert path.stat().st_size == shown["size"]
    assert (shown["catalog"], shown["plan"], shown["machines"]) == (catalog, 0, 0)
    assert (shown["images"], shown["copied_images"], shown["removed"]) == (1, 0, [])
    manifest = json.loads(Path(shown["manifest"]).read_text())
    assert {key: manifest[key] for key in ("file", "sha256", "size", "catalog")} == {
        "file": path.name,
        "sha256": shown["sha256"],
        "size": shown["size"],
        "catalog": catalog,
    }
    assert [(image["name"], image["size"], image["copy"]) for image in manifest["images"]] == [("demo", 5, "")]
    assert not (root / backups.COPYING).exists()


def test_check_mode_foresees_one_and_makes_no_file(root, catalog):
    before = names(root.parent)
    result = backup(root, check=True)
    assert result.changed
    assert result.payload["backup"] == {"path": "", "manifest": "", "catalog": catalog}
    assert names(root.parent) == before


def test_images_are_copied_once_for_all_backups(root):
    first = backup(root, images=True)
    assert first.payload["backup"]["copied_images"] == 1
    (copy,) = (Path(f"{root}.backups") / "images").iterdir()
    assert copy.read_bytes() == b"hello"
    inode = copy.stat().st_ino
    backup(root, images=True)
    assert copy.stat().st_ino == inode


def test_an_image_that_a_machine_writes_to_is_not_copied_and_that_is_said(root):
    with contextlib.closing(EmbeddedEngine(str(root))) as engine, engine.session():
        engine.store.db.execute("UPDATE images SET state = ?", (int(ImageState.USED_PERS),))
    result = backup(root, images=True)
    assert result.payload["backup"]["copied_images"] == 0
    assert result.warnings == ["image demo (id 0) was not copied: a machine writes to it"]


def test_a_number_to_keep_below_zero_is_refused(root):
    with pytest.raises(InvalidValue, match=r"keep -1: it is below zero\. 0 keeps all"):
        backup(root, keep=-1)


@pytest.mark.parametrize("check", [True, False])
def test_where_there_is_no_catalog_nothing_is_copied(tmp_path, check):
    with pytest.raises(NotFound) as caught:
        backup(tmp_path / "none", check)
    assert str(tmp_path / "none") in str(caught.value)
    assert "nebula.provision.restore" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_nothing_half_done_is_left_when_it_fails(root):
    """The directory of backups is a file."""
    Path(f"{root}.backups").write_text("somebody's")
    with pytest.raises(Exception, match="backups"):
        backup(root)
    assert not (root / backups.COPYING).exists()
    assert Path(f"{root}.backups").read_text() == "somebody's"


# -- making the catalog of it -----------------------------------------------------------------------------------------
def audited(catalog, *domains, **changes):
    return Observed("node1", catalog=catalog, inventory=Inventory(domains=domains), **changes)


def lose(root):
    for path in root.glob("nebula.db*"):
        path.unlink()


def test_a_lost_catalog_comes_back_from_its_newest_backup(root, catalog):
    made = backup(root).payload["backup"]
    lose(root)
    foreseen = restore(root, [audited(catalog)], check=True)
    assert not (root / "nebula.db").exists()
    result = restore(root, [audited(catalog)])
    assert foreseen.changed and result.changed
    shown = result.payload["restored"]
    assert (shown["file"], shown["catalog"], shown["replaced"]) == (made["path"], catalog, "")
    assert (shown["unknown"], shown["missing"], shown["images"], result.warnings) == ([], [], {}, [])
    with contextlib.closing(EmbeddedEngine(str(root))) as engine:
        assert [host.name for host in engine.hosts.pool()] == ["node1"]
        assert engine.catalog() == catalog
    plan = from_plain(Plan, json.loads(result.payload["plans"]["node1"]))
    assert (plan.catalog, plan.number, plan.host, plan.vms) == (catalog, shown["plan"], "node1", ())


def test_restored_over_a_catalog_that_says_the_same_nothing_is_different(root, catalog):
    with contextlib.closing(EmbeddedEngine(str(root))) as engine, engine.session():
        # One that has given a machine its id.
        engine.store.take_ids("vms")
    backup(root)
    assert not restore(root, [audited(catalog)]).changed
    assert not restore(root, [audited(catalog)], check=True).changed


@pytest.mark.parametrize(
    ("node", "told"),
    [
        (Observed("node1", reached=False), "node1 did not answer"),
        (Observed("node1"), "node1 did not answer"),
        (Observed("node1", inventory=Inventory(unseen=("nft: not found",))), "node1: nft: not found"),
    ],
)
def test_a_node_that_says_nothing_or_not_all_stops_it_unless_forced(root, node, told):
    backup(root)
    lose(root)
    with pytest.raises(InvalidValue) as caught:
        restore(root, [node])
    assert f"restoring the catalog: {told}. What they have seen is not known" in str(caught.value)
    assert "nebula_restore_force: true. Nothing was changed" in str(caught.value)
    assert not (root / "nebula.db").exists()
    assert restore(root, [node], force=True).changed


def test_without_any_backup_the_error_says_what_to_give(root):
    with pytest.raises(NotFound, match="nebula_backup=/path"):
        restore(root)


def test_a_copy_that_was_changed_is_refused(root):
    path = Path(backup(root).payload["backup"]["path"])
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ChecksumMismatch, match="changed or damaged"):
        restore(root, file=str(path))


def test_a_copy_without_a_manifest_is_taken_with_a_warning(root):
    shown = backup(root).payload["backup"]
    Path(shown["manifest"]).unlink()
    lose(root)
    result = restore(root, file=shown["path"])
    assert result.warnings == [
        f"backup {shown['path']} has no manifest beside it: neither its hash nor the files of images were compared"
    ]


def test_images_whose_files_are_gone_are_told(root, catalog):
    made = backup(root).payload["backup"]
    (image,) = json.loads(Path(made["manifest"]).read_text())["images"]
    Path(image["source"]).unlink()
    result = restore(root, [audited(catalog)], check=True)
    told = f"its file {image['source']} is not there, and the backup has no copy of it"
    assert result.payload["restored"]["images"] == {"demo": told}
    assert result.warnings == [f"image demo: {told}"]


def test_an_image_is_foreseen_to_come_back_from_its_copy(root, catalog):
    made = backup(root, images=True).payload["backup"]
    (image,) = json.loads(Path(made["manifest"]).read_text())["images"]
    Path(image["source"]).unlink()
    result = restore(root, [audited(catalog)], check=True)
    assert result.payload["restored"]["images"] == {"demo": "restored"}
    assert not Path(image["source"]).exists()


@pytest.mark.parametrize(("unknown", "ended"), [("keep", 0), ("remove", 1)])
def test_a_machine_that_the_catalog_does_not_know(root, catalog, unknown, ended):
    backup(root)
    lose(root)
    domain = Domain("one-7", catalog, 7, "u-7", "RUNNING", generation=3, forget="virsh undefine one-7")
    result = restore(root, [audited(catalog, domain)], unknown=unknown)
    (shown,) = result.payload["restored"]["unknown"]
    assert (shown["host"], shown["vm_id"], shown["removed"]) == ("node1", 7, "yes" if ended else "no")
    assert set(shown) & {"hypervisor", "macs", "files", "known"} == set()
    assert result.payload["restored"]["next_id"] > 7
    plan = from_plain(Plan, json.loads(result.payload["plans"]["node1"]))
    assert [(each.vm.vm_id, each.vm.uuid, each.generation, each.wanted, each.hard) for each in plan.vms] == [
        (7, "u-7", 4, "DONE", True)
    ] * ended
    assert ("removed" in result.warnings[0]) == bool(ended)
    assert ("virsh undefine one-7" in result.warnings[0]) == (not ended)


def test_a_new_catalog_is_begun_that_the_nodes_follow(tmp_path, catalog):
    place = tmp_path / "anew"
    result = restore(place, [audited(catalog, plan_number=5)], new_catalog=True)
    shown = result.payload["restored"]
    assert (shown["file"], shown["catalog"]) == ("", catalog)
    assert shown["plan"] > 5
    with contextlib.closing(EmbeddedEngine(str(place))) as engine:
        assert engine.hosts.pool() == []


def test_machines_without_a_domain_are_ended_by_their_number():
    lost = dataclasses.replace(STRANGER, name="/srv/7", state="no domain")
    restored = RestoreResult(
        "c", 9, 8, strangers=(STRANGER, dataclasses.replace(lost, vm_id=8)), hosts=("node1", "node2")
    )
    plans = {host: from_plain(Plan, json.loads(text)) for host, text in backups._plans(restored, "remove").items()}
    assert [each.vm.name for each in plans["node1"].vms] == ["one-7", "one-8"]
    assert (plans["node2"].vms, plans["node2"].number) == ((), 9)


def test_one_that_the_catalog_in_place_has_is_no_leftover():
    known = dataclasses.replace(STRANGER, known=True)
    restored = RestoreResult("c", 9, 8, missing=("VM web (id 0)",), strangers=(known,), rested=("image demo is used",))
    assert backups._plans(restored, "remove") == {}
    said = backups._warnings(restored, {"demo": "restored"}, "remove")
    left = "left as it is (the catalog that gave way has it). To end it: virsh undefine one-7"
    assert said == [
        f"host node1 has one-7 (id 7, RUNNING), which this catalog does not know: {left}",
        "VM web (id 0) is not there: state: running makes it anew from its image, state: absent forgets it",
        "image demo is used",
        "image demo: restored",
    ]


def test_a_machine_that_the_catalog_has_on_another_host_is_never_ended():
    stranger = dataclasses.replace(STRANGER, elsewhere="node0", forget="")
    restored = RestoreResult("c", 9, 8, strangers=(stranger,))
    assert backups._plans(restored, "remove") == {}
    (said,) = backups._warnings(restored, {}, "remove")
    assert "which this catalog has on host node0. If that host is node1 by now, set nebula_renamed_from: node0" in said
    assert "left as it is" in said and "virsh" not in said
