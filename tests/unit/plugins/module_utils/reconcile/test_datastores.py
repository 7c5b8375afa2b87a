# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An item of a list of datastores, applied to a real catalog and its directories."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, InUse, InvalidValue, NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.model.datastore import Datastore, DatastoreType
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import datastores


@pytest.fixture
def root(tmp_path):
    return tmp_path / "nebula"


@pytest.fixture
def engine(root):
    root.mkdir()
    opened = EmbeddedEngine(str(root), create=True)
    yield opened
    opened.close()


@pytest.fixture
def apply(engine, root):
    def one(check=False, **item):
        with engine.session():
            return datastores.apply(engine, item, str(root), check)

    return one


def place(root: Path, number: int = 100) -> Path:
    return root / "datastores" / str(number)


def test_a_datastore_is_made_with_its_directory(apply, engine, root):
    made = apply(name="fast", description="on flash", attributes={"tier": 1, "Gone": None})
    assert (made.before, made.is_changed, made.error) == (None, True, None)
    assert engine.datastores.info("fast") == Datastore(
        id=100, name="fast", description="on flash", attributes={"TIER": "1"}
    )
    assert place(root).is_dir()
    assert made.after["path"] == str(place(root))
    assert 0 <= made.after["free"] <= made.after["total"]


def test_nothing_is_made_on_disk_in_check_mode(apply, root):
    assert apply(check=True, name="fast").is_changed
    assert not place(root).exists()


def test_the_same_again_changes_nothing_even_as_its_room_does(apply):
    apply(name="fast", type="IMAGE", capacity_check=False, attributes={"TIER": 1})
    for item in (
        {},
        {"type": "image"},
        {"capacity_check": "no"},
        {"attributes": {"tier": "1"}},
        {"attributes": {"NONE": None}},
    ):
        again = apply(name="fast", **item)
        assert not again.is_changed, item
        assert again.error is None
        again.before["free"] += 1
        assert not again.is_changed


def test_attributes_are_added_changed_and_taken_away_by_name(apply, engine):
    apply(name="fast", attributes={"TIER": 1, "OWNER": "ops"})
    assert apply(name="fast", attributes={"tier": 2, "owner": None, "Floor": 3}).is_changed
    assert engine.datastores.info("fast").attributes == {"TIER": "2", "FLOOR": "3"}
    assert apply(name="fast", capacity_check=False, description="").after["capacity_check"] is False
    assert engine.datastores.info("fast").attributes == {"TIER": "2", "FLOOR": "3"}


@pytest.mark.parametrize(
    ("item", "parts"),
    [
        ({"state": "gone"}, ["state 'gone'", "Known are present, absent"]),
        ({"state": "presnt"}, ["Did you mean 'present'?"]),
        ({"type": "IMGE"}, ["type 'IMGE'", "Did you mean 'IMAGE'?", "IMAGE, FILE, SYSTEM"]),
        ({"capacity_check": "perhaps"}, ["capacity_check 'perhaps'", "true or false"]),
        ({"attributes": ["TIER"]}, ["attributes", "it is a list", "Give a dict"]),
        ({"attributes": {"A B": 1}}, ["'A B'"]),
        ({"type": "SYSTEM"}, ["type SYSTEM", "datastore 0"]),
    ],
)
def test_what_cannot_be_meant_is_named_and_nothing_is_kept_of_it(apply, engine, item, parts):
    before = engine.datastores.pool()
    done = apply(name="fast", **item)
    assert isinstance(done.error, InvalidValue)
    assert not done.is_changed
    for part in ("datastore fast", *parts):
        assert part in str(done.error)
    assert engine.datastores.pool() == before


@pytest.mark.parametrize("name", [None, "", "a/b", "..", 5])
def test_a_name_that_is_none_is_refused(apply, name):
    assert isinstance(apply(name=name).error, InvalidValue)


def test_a_datastore_keeps_its_type(apply):
    apply(name="files", type="FILE")
    done = apply(name="files", type="IMAGE")
    assert isinstance(done.error, Conflict)
    assert "type IMAGE: it is FILE" in str(done.error)


def test_digits_are_a_name_and_not_the_id_of_another(apply, engine):
    assert apply(name="1", state="absent").error is None
    assert engine.datastores.info(1).name == "default"
    assert apply(name="1").after["id"] == 100


def test_a_datastore_goes_with_its_directory_and_only_once(apply, engine, root):
    apply(name="fast")
    foreseen = apply(check=True, name="fast", state="absent")
    assert foreseen.is_changed
    assert place(root).is_dir()
    apply(name="fast")
    number = engine.datastores.info("fast").id
    gone = apply(name="fast", state="absent")
    assert (gone.before["name"], gone.after, gone.is_changed) == ("fast", None, True)
    assert not place(root, number).exists()
    assert not apply(name="fast", state="absent").is_changed


def test_files_of_nobody_keep_it_and_are_named(apply, engine, root):
    apply(name="fast")
    for number in range(7):
        (place(root) / f"file{number}").touch()
    done = apply(name="fast", state="absent")
    assert isinstance(done.error, InUse)
    text = str(done.error)
    assert "datastore fast (id 100)" in text
    assert "file0, file1, file2, file3, file4. See" in text
    assert str(place(root)) in text
    assert engine.datastores.info("fast").id == 100


def test_images_keep_it(apply, engine, root):
    apply(name="fast")
    with engine.session():
        engine.images.allocate(Image(None, "demo", datastore_id=100))
    (place(root) / "file").touch()
    text = str(apply(name="fast", state="absent").error)
    assert "1 images lie in it: demo" in text


def test_one_without_a_directory_goes_too(apply, root):
    apply(name="fast")
    place(root).rmdir()
    assert apply(name="fast", state="absent").error is None


def test_a_link_that_an_administrator_put_there_stays(apply, root, tmp_path):
    apply(name="fast")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    place(root).rmdir()
    place(root).symlink_to(elsewhere)
    assert apply(name="fast", state="absent").is_changed
    assert place(root).is_symlink()
    assert elsewhere.is_dir()


@pytest.mark.parametrize("name", ["system", "default", "files"])
def test_those_that_every_catalog_has_stay(apply, name):
    assert isinstance(apply(name=name, state="absent").error, NebulaError)


def test_a_view_without_an_id_tells_no_room(root):
    shown = datastores.datastore_view(Datastore(None, "new", DatastoreType.FILE), str(root))
    assert (shown["id"], shown["type"], shown["path"], shown["free"], shown["total"]) == (None, "FILE", "", None, None)
    assert json.loads(json.dumps(shown)) == shown


def test_the_room_is_told_where_the_directory_is_still_to_be_made(tmp_path):
    shown = datastores.datastore_view(Datastore(7, "new"), str(tmp_path / "none"))
    assert shown["path"] == str(tmp_path / "none" / "datastores" / "7")
    assert shown["total"] > 0


# -- system datastores that hosts share --------------------------------------------------------------------------------
SHARED = {"name": "nfs", "type": "system", "shared": True, "hosts": ["node1", "node2"]}


@pytest.fixture
def share(engine, root):
    def one(check=False, nodes=("node1", "node2"), **item):
        with engine.session():
            return datastores.apply(engine, {**SHARED, **item}, str(root), check, nodes)

    return one


def test_a_shared_datastore_is_where_hosts_have_their_system_datastore(share, root):
    made = share()
    assert (made.error, made.is_changed) == (None, True)
    assert (made.after["shared"], made.after["hosts"]) == (True, ["node1", "node2"])
    assert made.after["path"] == str(root / "datastores" / "0")
    assert (made.after["free"], made.after["total"]) == (None, None)
    assert not place(root).exists()
    assert not share().is_changed
    assert share(hosts=["node2"]).after["hosts"] == ["node2"]


def test_it_goes_without_what_lies_there(share, root):
    share()
    (root / "datastores" / "0" / "7").mkdir(parents=True)
    gone = share(state="absent", type=None, shared=None, hosts=None)
    assert (gone.error, gone.is_changed) == (None, True)
    assert (root / "datastores" / "0" / "7").is_dir()


def test_a_host_that_nobody_knows_is_refused_by_name(share):
    refused = share(hosts=["node1", "nod2"]).error
    assert "host 'nod2'" in refused.asked and "Did you mean 'node2'?" in refused.remedy
    # What the catalog has need not be in the inventory of this run.
    assert share(nodes=("node1", "node2", "node9"), hosts=["node9"]).error is None


def test_datastore_0_shows_the_hosts_that_share_none(share, engine, apply):
    with engine.session():
        for name in ("node1", "node3"):
            engine.hosts.allocate(Host(None, name))
    share()
    assert apply(name="system").after["hosts"] == ["node3"]
