# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is decided of a restore on the front-end, with a real catalog; the whole of it is tried in worlds."""

from __future__ import annotations

import contextlib
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_backups import MadeBackups

from ansible_collections.nebula.provision.plugins.module_utils.calls import machine_restore as call
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    Conflict,
    InvalidValue,
    NebulaError,
    NotFound,
    Unsupported,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import BackedUpDisk
from ansible_collections.nebula.provision.plugins.module_utils.model.network import Network
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.states import (
    HostState,
    ImageState,
    ImageType,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.machine_restores import (
    imported,
    listed,
    planned,
)
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile
from ansible_collections.nebula.provision.plugins.module_utils.storage import root_backups
from ansible_collections.nebula.provision.plugins.module_utils.sync import Result
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

OTHER = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
WEB = """CPU = 0.5 MEMORY = 128 DISK = [ IMAGE = "demo" ] CONTEXT = [ PASSWORD = "hidden" ]"""


class Frontend:
    def __init__(self, root: Path, places: MadeBackups) -> None:
        self.root, self.places = root, places
        root.mkdir()
        opened = EmbeddedEngine(str(root), create=True)
        with opened.session():
            opened.hosts.allocate(Host(None, "node1", state=HostState.MONITORED, memory=4096, cpu=8.0))
            opened.images.allocate(
                Image(None, "demo", dev_prefix="vd", state=ImageState.READY, size=16, format="qcow2")
            )
            opened.templates.allocate("web", parse(WEB))
            self.catalog = opened.catalog()
            items = [{"name": "off", "template": "web", "state": "poweroff"}, {"name": "on", "template": "web"}]
            outcomes, _warnings = reconcile(opened, items)
            assert not [outcome.error for outcome in outcomes if outcome.error]
        with opened.session():
            for host, plan in opened.vms.plans().items():
                opened.vms.record(host, [VmOutcome(p.vm.vm_id, p.generation, p.wanted, True) for p in plan.vms])
            self.ids = {record.name: record.id for record in opened.vms.pool()}
        opened.close()

    def plan(self, name: str = "off", **given: Any) -> dict[str, Any]:
        params = {option: spec.get("default") for option, spec in call.ARGUMENTS["argument_spec"].items()}
        params.update(root=str(self.root), name=name, directory=str(self.places.directory), state="planned", **given)
        return planned(params).payload

    def list(self, name: str, **given: Any) -> Result:
        params = {"directory": str(self.places.directory), "backups_datastore": None, "root": str(self.root)}
        return listed({**params, "at": "frontend", "name": name, **given})


@pytest.fixture
def frontend(tmp_path: Path) -> Frontend:
    return Frontend(tmp_path / "root", MadeBackups(tmp_path / "backups"))


def test_in_its_place_it_is_off_and_on_this_host(frontend: Frontend) -> None:
    with pytest.raises(NotFound, match="there are none of it"):
        frontend.plan()
    frontend.places.key = "secret"
    frontend.places.full(frontend.ids["off"], frontend.catalog, {0: b"x" * 65536}, name="off")
    payload = frontend.plan(frontend="node1", disks=[0], key="secret")
    assert (payload["way"], payload["host"]) == ("place", "node1")
    wanted = json.loads(payload["requests"]["node1"])
    assert wanted["disks"] == [0] and wanted["key"] == "" and payload["need_key"] == ["node1"]
    assert wanted["vm"]["name"] == "off"
    assert "hidden" not in payload["requests"]["node1"]
    with pytest.raises(WrongState, match="-e do=stop"):
        frontend.plan("on")
    # A node looks at its own directory itself.
    assert frontend.plan(at="node", frontend="front")["host"] == "node1"
    frontend.places.full(99, OTHER, {0: b"x" * 65536}, name="on")


def test_in_its_place_on_another_host(frontend: Frontend) -> None:
    frontend.places.key = "k-Zx9"
    made = frontend.places.full(
        frontend.ids["off"], frontend.catalog, {0: b"x" * 65536}, name="off", template={"CONTEXT": {"SECRET": "hidden"}}
    )
    places = json.dumps({"node1": {"address": "192.0.2.7", "port": 4711}, "node2": {"address": "x", "port": 1}})
    given = {"frontend": "front", "frontend_acts": True, "forks": 2, "meeting_places": places, "key": "k-Zx9"}
    payload = frontend.plan(**given)
    assert (payload["way"], payload["host"], sorted(payload["requests"])) == ("place", "node1", ["front", "node1"])
    brings, receives = (json.loads(payload["requests"][host]) for host in ("front", "node1"))
    assert (payload["need_key"], brings["directory"]) == (["front"], str(frontend.places.directory))
    assert (receives["key"], receives["directory"], receives["brought"]["id"]) == ("", "", made.id)
    assert "k-Zx9" not in json.dumps(payload) and "hidden" not in payload["requests"]["node1"]
    assert 0 < receives["room"]["0"] < 8 << 20
    one, other = brings["passage"], receives["passage"]
    assert (one["gives"], one["address"], one["port"], one["peer"]) == (False, "192.0.2.7", 4711, "node1")
    assert (other["gives"], other["address"], other["port"], other["peer"]) == (True, "", 4711, "front")
    assert one["token"] == other["token"] and one["certificate"] == other["own_certificate"] != one["own_certificate"]
    assert one["own_certificate"] == other["certificate"] and one["key"] != other["key"]
    for wrong, text in (
        ({"forks": 1}, "Set forks to 2 or more"),
        ({"frontend_acts": False}, "Name front in --limit"),
        ({"meeting_places": None}, "Set nebula_move_address of node1"),
        ({"meeting_places": json.dumps({"node1": {"address": "127.0.0.1", "port": 1}})}, "Set nebula_move_address"),
    ):
        with pytest.raises(InvalidValue, match=text):
            frontend.plan(**{**given, **wrong})


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        ({"image": "a", "new_name": "b"}, InvalidValue, "in one way at a time"),
        ({"name": ""}, InvalidValue, "it is not said which"),
        ({"new_name": "new", "disks": [0]}, InvalidValue, "has all disks"),
        ({"new_name": "on"}, Conflict, "has a machine of that name"),
        ({"new_name": "web"}, Conflict, "has a template of that name"),
        ({"new_name": "new", "new_host": "node9"}, NotFound, "host node9"),
        ({"new_name": "new", "at": "node"}, Unsupported, "backups on another host"),
        ({"image": "demo"}, Conflict, "has an image of that name"),
        ({"image": "new", "disks": [4]}, NotFound, "disk 4: the backup has disk 0. Name one"),
        ({"backup": "20250101T000000Z-000000", "image": "new"}, NotFound, "there is none"),
    ],
)
def test_what_stands_against_it(frontend: Frontend, given: dict[str, Any], kind: type[NebulaError], text: str) -> None:
    template = {"CPU": "1", "MEMORY": "64", "DISK": {"IMAGE": "x"}}
    frontend.places.full(5, OTHER, {0: b"x" * 65536}, name="theirs", template=template)
    with pytest.raises(kind, match=text):
        frontend.plan(**{"name": "theirs", **given})


def test_what_says_that_it_is_a_machine_of_here_is_not_believed(frontend: Frontend) -> None:
    template = {"CPU": "1", "MEMORY": "64", "DISK": {"IMAGE": "x"}}
    frontend.places.full(99, frontend.catalog, {0: b"x" * 65536}, name="off", template=template)
    with pytest.raises(NotFound, match="of others that say so: 99-"):
        frontend.plan(new_name="new")
    assert frontend.plan(f"99-{frontend.catalog}", new_name="new")["way"] == "machine"
    frontend.places.full(frontend.ids["off"], frontend.catalog, {0: b"x" * 65536}, name="off", uuid=OTHER)
    for given in ({"new_name": "new"}, {"image": "new"}, {}):
        with pytest.raises(Conflict, match=f"it is of machine {OTHER}"):
            frontend.plan(**given)


def test_what_a_manifest_without_a_seal_names_is_to_be_named(frontend: Frontend) -> None:
    with contextlib.closing(EmbeddedEngine(str(frontend.root))) as engine, engine.session():
        engine.networks.allocate(Network(None, "Public", bridge="br0"))
        engine.images.allocate(Image(None, "payroll", state=ImageState.READY, size=1, format="raw"))
        cdrom = Image(None, "cd", type=ImageType.CDROM, state=ImageState.READY, size=1, format="raw")
        engine.images.allocate(cdrom)
    template = {
        "CPU": "1",
        "MEMORY": "64",
        "DISK": [{"IMAGE": "x"}, {"IMAGE": "payroll"}, {"IMAGE": "cd"}],
        "NIC": {"NETWORK": "Public", "SECURITY_GROUPS": "0"},
    }
    frontend.places.full(5, OTHER, {0: b"x" * 65536}, name="theirs", template=template, images={0: "x"})
    given: dict[str, Any] = {"name": "theirs", "new_name": "new"}
    with pytest.raises(InvalidValue, match="into networks of here: Public"):
        frontend.plan(**given)
    given["networks"] = {"Public": "Public"}
    with pytest.raises(NotFound, match="none of here is named: 0; there are default"):
        frontend.plan(**given)
    payload = frontend.plan(**given, security_groups={0: "default"})
    made = payload["templates"][0]["template"]
    assert [each["IMAGE"] for each in made["DISK"]] == ["new-disk-0", "cd"]
    assert "DISK payroll" in payload["notes"][0]


def test_an_encrypted_root_becomes_an_image_under_its_key(tmp_path: Path) -> None:
    site = Frontend(tmp_path / "root", MadeBackups(tmp_path / "backups", "a key"))
    made = site.places.full(5, OTHER, {}, name="theirs")
    archive = tmp_path / "archive.tar"
    with tarfile.open(archive, "w") as tar:
        tar.addfile(tarfile.TarInfo("etc"))

    def pack(fd: int, _seconds: float) -> int:
        os.write(fd, archive.read_bytes())
        return 0

    name = root_backups.file_name(f"{made.id}.root.0", True, "a key")
    stored = root_backups.store_root(str(site.places.place(made)), name, pack, 10240, "root", key="a key").file
    site.places.write(replace(made, disks=(BackedUpDisk(0, "", "tar", 0, stored, "tar"),)))
    with pytest.raises(NebulaError, match="it is encrypted"):
        site.plan("theirs", image="new")
    payload = site.plan("theirs", image="new", key="a key")
    assert "path" not in payload["images"][0]["item"]
    taken = []

    def store(items: Any, uploads: Any) -> Result:
        taken.append((items[0]["format"], Path(items[0]["path"]).read_bytes(), *uploads))
        return Result()

    params = {"images": json.dumps(payload["images"]), "key": "a key", "root": str(site.root), "engine": "embedded"}
    imported({**params, "directory": str(site.places.directory)}, store, False)
    options = {option: spec.get("default") for option, spec in call.ARGUMENTS["argument_spec"].items()}
    foreseen = call.run({**options, **params, "state": "imported", "directory": str(site.places.directory)}, True)
    assert foreseen.warnings == []
    assert [(each["format"], each["size"]) for each in foreseen.payload["images"]] == [
        ("tar", -(-stored.size // (1 << 20)))
    ]
    assert taken == [("tar", archive.read_bytes(), "new")]


def test_backups_of_a_machine_are_listed(frontend: Frontend) -> None:
    first = frontend.places.full(5, OTHER, {0: b"x" * 65536}, name="theirs")
    frontend.places.full(6, OTHER, {0: b"x" * 65536}, name="other")
    assert len(frontend.list("").payload["backups"]) == 2
    (row,) = frontend.list("theirs").payload["backups"]
    assert (row["machine"], row["id"], row["kind"], row["disks"]) == ("theirs", first.id, "full", "0: 1")


def test_machines_are_listed_by_patterns_and_by_what_a_name_is_a_slip_of(frontend: Frontend) -> None:
    for number, name in enumerate(("web-0", "web-1", "db")):
        frontend.places.full(number, OTHER, {0: b"x" * 65536}, name=name)

    def names(name: str) -> list[str]:
        return [each["machine"] for each in frontend.list(name).payload["backups"]]

    assert names("web-*") == ["web-0", "web-1"]
    assert names("db, web-0") == ["web-0", "db"]
    assert names(f"2-{OTHER}") == ["db"]
    with pytest.raises(NotFound, match=r"vm wbe-0: there are no backups.*Did you mean 'web-0'\? There are: db, web-0"):
        frontend.list("wbe-0")
    with pytest.raises(NotFound, match=r"vm mail-\*: there are no backups of a machine of that name in"):
        frontend.list("mail-*")
    # A node has none but those of its own machines.
    assert frontend.list("mail-*", at="node") == Result(payload={"backups": []})


def test_why_nothing_of_a_machine_can_be_read_is_told_whatever_is_asked_for(frontend: Frontend) -> None:
    made = frontend.places.full(2, OTHER, {0: b"x" * 65536}, name="web-2")
    frontend.places.full(3, OTHER, {0: b"x" * 65536}, name="web-3")
    (frontend.places.place(made) / f"{made.id}.json").write_text("{")
    for name, rows in (("web-2", 0), ("web-3", 1), (f"2-{OTHER}", 0), ("", 1)):
        found = frontend.list(name)
        assert len(found.payload["backups"]) == rows and f"2-{OTHER}/{made.id}.json" in found.warnings[-1], name
    assert "vm web-2: there are no backups" in frontend.list("web-2").warnings[0]


def test_what_is_stored_is_all_files_of_a_backup(tmp_path: Path) -> None:
    site = Frontend(tmp_path / "root", MadeBackups(tmp_path / "backups", "a key"))
    made = site.places.full(5, OTHER, {}, name="theirs", secrets={"PASSWORD": "x"})
    assert made.secrets_file is not None
    (row,) = site.list("").payload["backups"]
    assert row["size"] == -(-made.secrets_file.size // (1 << 20)) > 0


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"name": "o*"}, r"exactly one machine is restored at a time, and this names off, on\..*-e vm=off"),
        ({"name": "off, on"}, "exactly one machine is restored at a time"),
        ({"name": "t*", "image": "new"}, r"exactly one machine is restored at a time, and this names theirs\."),
        ({"name": "x*", "new_name": "new"}, "and this is not the name of one"),
        ({"name": "of"}, r"no machine of that name, and there are no backups of one\. Did you mean 'off'\?.*=list"),
        ({"name": "offs", "at": "node"}, r"no machine of that name\. Did you mean 'off'\? See which"),
        ({"name": "theirs"}, "and there are backups of it. Restore it as a new one: nebula_machine_restore_as"),
        ({"name": "their", "image": "new"}, r"there are of theirs\. Did you mean 'theirs'\? See which ones.*=list"),
    ],
)
def test_a_machine_that_there_is_not(frontend: Frontend, given: dict[str, Any], text: str) -> None:
    frontend.places.full(5, OTHER, {0: b"x" * 65536}, name="theirs")
    with pytest.raises(NebulaError, match=text) as caught:
        frontend.plan(**given)
    assert ("as a new one" in str(caught.value)) == (given == {"name": "theirs"})


def test_an_image_is_foreseen_with_its_size(frontend: Frontend) -> None:
    made = frontend.places.full(5, OTHER, {0: b"x" * (3 << 20)}, name="theirs")
    frontend.places.incremental(made, {0: [(0, b"y")]})
    payload = frontend.plan("theirs", image="new")
    params = {option: spec.get("default") for option, spec in call.ARGUMENTS["argument_spec"].items()}
    params.update(
        state="imported", images=json.dumps(payload["images"]), root=str(frontend.root), name="theirs",
        directory=str(frontend.places.directory),
    )  # fmt: skip
    foreseen = call.run(params, True)
    (image,) = foreseen.payload["images"]
    assert (image["name"], image["size"], image["format"], image["error"]) == ("new", 3, "qcow2", "")
    assert foreseen.warnings == []
    (image,) = call.run(params, False).payload["images"]
    assert (image["size"], image["format"]) == (3, "qcow2")
    assert call.run(params, True).warnings == [] and not call.run(params, True).changed


def test_all_that_a_new_machine_lacks_is_told_at_once(frontend: Frontend) -> None:
    template = {
        "CPU": "1",
        "MEMORY": "64",
        "DISK": {"IMAGE": "x"},
        "NIC": {"NETWORK": "Public", "SECURITY_GROUPS": "100"},
    }
    frontend.places.full(
        5, OTHER, {0: b"x" * 65536}, name="theirs", template=template, secrets={"CONTEXT/PASSWORD": "x"}
    )
    with pytest.raises(Conflict) as caught:
        frontend.plan("theirs", new_name="on", new_host="node9")
    text = str(caught.value)
    places = [
        text.index(part)
        for part in (
            "5 things stand against it: (1) the catalog has a machine of that name",
            "(2) backup",
            "host node9",
            "(3) the backup was made without the values of CONTEXT/PASSWORD",
            "(4) its NICs are in networks that are not here: Public",
            "nebula_machine_restore_networks: {Public: …}",
            "(5) its NICs have security groups",
        )
    ]
    assert places == sorted(places)
    assert text.count("Nothing was changed") == 1 and text.endswith("Nothing was changed")


def test_a_new_machine_for_which_there_was_no_room_goes_on_from_its_images(frontend: Frontend) -> None:
    template = {"CPU": "1", "MEMORY": "64", "DISK": {"IMAGE": "x"}}
    frontend.places.full(5, OTHER, {0: b"x" * 65536}, name="theirs", template=template)
    payload = frontend.plan("theirs", new_name="new")
    (image,), (made,) = payload["images"], payload["templates"]
    with contextlib.closing(EmbeddedEngine(str(frontend.root))) as engine, engine.session():
        attributes = image["item"]["attributes"]
        engine.images.allocate(Image(None, "new-disk-0", attributes=attributes, state=ImageState.READY, format="qcow2"))
        engine.templates.allocate("new", Template.from_mapping(made["template"], "template"))
    assert frontend.plan("theirs", new_name="new")["vms"] == payload["vms"]
    # Another backup is made of other disks.
    frontend.places.full(5, OTHER, {0: b"y" * 65536}, name="theirs", template=template)
    with pytest.raises(Conflict, match=r"a template of that name.*image new-disk-0"):
        frontend.plan("theirs", new_name="new")


def test_what_does_not_come_back_as_it_was_is_named(frontend: Frontend) -> None:
    template = {"CPU": "1", "MEMORY": "64", "DISK": {"IMAGE": "x"}}
    made = frontend.places.full(5, OTHER, {0: b"x" * 65536}, name="theirs", template=template, files={"nvram": b"v"})
    assert frontend.plan("theirs", image="new")["notes"] == []
    frontend.places.write(replace(made, disks=(replace(made.disks[0], luks=True),)))
    (note,) = frontend.plan("theirs", image="new")["notes"]
    assert note.startswith("disk 0 of theirs was encrypted, and image new is not")
    clear, anew = frontend.plan("theirs", new_name="anew")["notes"]
    assert "image anew-disk-0 is not" in clear and "begins anew with the variables of UEFI" in anew
