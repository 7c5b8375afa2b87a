# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups of a catalog that is in use, and the way back from each loss, by the audit's word."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from auditor import findings_here
from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.context.context_downloads import download_context_file
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded import store as stores
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.copies import raise_numbers
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    CatalogError,
    ChecksumMismatch,
    Conflict,
    ForeignObject,
    InvalidValue,
    NotFound,
    StalePlan,
)
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.batch import Batch
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.node_inventory import observe_all
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.poll import poll
from ansible_collections.nebula.provision.plugins.module_utils.model.audit import Inventory
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import backups
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.plan_outcomes import plan_for
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.adoptions import Adoptions
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.decided_list import decide
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.nodes_answers import polls_of
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_results import as_plans
from ansible_collections.nebula.provision.plugins.modules import nebula_deploy
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.test_at_once import consistent, furnish, opened, together
from ansible_collections.nebula.provision.tests.integration.test_audit import NODE, Place, a_place, run

WEB = {"name": "web-%i", "template": "web", "count": 2}


def backup(root: str, check_mode: bool = False, **given: Any) -> dict[str, Any]:
    options = {"engine": "embedded", "root": root, "directory": f"{root}.backups", "keep": 10, "images": False, **given}
    result = backups.backup(options, check_mode)
    return {**result.payload["backup"], "warnings": result.warnings, "changed": result.changed}


def restore(root: str, observed: list[dict[str, Any]], check_mode: bool = False, **given: Any) -> dict[str, Any]:
    options = {"engine": "embedded", "root": root, "directory": f"{root}.backups", "observed": observed, "file": None}
    options.update({"force": False, "unknown": "keep", "new_catalog": False, **given})
    result = backups.restore(options, check_mode)
    payload = json.loads(json.dumps(result.payload))
    return {**payload["restored"], "plans": payload["plans"], "warnings": result.warnings, "changed": result.changed}


def audited(place: Place) -> list[dict[str, Any]]:
    return [json.loads(json.dumps(to_plain(observe_all(place.driver, place.root, NODE))))]


def lose(root: str) -> None:
    for part in stores.PARTS:
        Path(root, part).unlink(missing_ok=True)


def carry_out(place: Place, plans: Mapping[str, str]) -> None:
    for host, text in plans.items():
        if not json.loads(text)["vms"]:
            nebula_deploy.call.run({"state": "applied", "plan": text, "host": host, "root": place.root}, False)
            continue
        outcomes = Batch(plan_for(text, host), place.driver, place.root).apply()
        assert [outcome.error for outcome in outcomes] == [None] * len(outcomes)


def checked(place: Place) -> None:
    """As nebula_vm does before it decides anything."""
    with contextlib.closing(EmbeddedEngine(place.root)) as engine, engine.session():
        engine.hosts.check([poll(place.driver, place.root, NODE)])


def vms(place: Place) -> dict[str, Any]:
    with contextlib.closing(EmbeddedEngine(place.root)) as engine:
        return {record.name: record for record in engine.vms.pool()}


# -- taking them -----------------------------------------------------------------------------------------------------
def catalog_with_a_host(root: Path) -> str:
    root.mkdir()
    with contextlib.closing(EmbeddedEngine(str(root), create=True)) as engine:
        return engine.catalog()


def test_a_backup_is_closed_and_complete(tmp_path: Path) -> None:
    root = tmp_path / "nebula"
    catalog = catalog_with_a_host(root)
    assert backup(str(root), check_mode=True)["path"] == ""
    assert not Path(f"{root}.backups").exists() and sorted(p.name for p in root.iterdir()) == ["nebula.db"]
    made = backup(str(root))
    assert Path(made["path"]).name.startswith(f"{catalog}-00000000-2")
    for name in (made["path"], made["manifest"]):
        assert stat.S_IMODE(os.stat(name).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(f"{root}.backups").st_mode) == 0o700
    assert len(list(Path(f"{root}.backups").iterdir())) == 2, "nothing is left beside them"
    assert sorted(path.name for path in root.iterdir()) == ["nebula.db"]


def test_the_newest_are_kept_and_half_done_ones_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "nebula"
    catalog_with_a_host(root)
    made = []
    for number in range(4):
        monkeypatch.setattr(backups.time, "strftime", lambda _format, _time, n=number: f"20260101T00000{n}Z")
        made.append(backup(str(root), keep=2))
    assert made[3]["removed"] == [Path(made[1]["path"]).name]
    left = Path(f"{root}.backups")
    assert {path.name for path in left.iterdir()} == {Path(m[k]).name for m in made[2:] for k in ("path", "manifest")}
    # What a killed one left goes; a copy without a manifest, one of a newer collection and what is somebody's stay.
    Path(made[3]["manifest"]).unlink()
    newer = Path(made[2]["manifest"])
    newer.write_text(newer.read_text().replace('"format": 1', '"format": 2'))
    images = left / "images"
    (images / "theirs").mkdir(parents=True)
    somebodys = [left / ".x.db.tmp", images / "theirs", images / "disk.qcow2", images / "theirs" / "more"]
    for path in (left / f".{Path(made[2]['path']).name}.tmp", *(each for each in somebodys if not each.exists())):
        path.write_text("half")
    orphan = images / f"{uuid.uuid4()}-1"
    orphan.write_text("a copy that no manifest names")
    monkeypatch.undo()
    fresh = backup(str(root), keep=1)
    paths = [Path(each["path"]) for each in (*made[2:], fresh)]
    assert {path.name for path in left.iterdir()} == {
        *(path.name for path in paths), f"{paths[0].name}.json", f"{paths[2].name}.json", ".x.db.tmp", "images",
    }  # fmt: skip
    assert all(path.exists() for path in somebodys) and orphan.exists()
    with pytest.raises(CatalogError, match="its format is 2"):
        restore(str(root), [])
    newer.unlink()
    images.chmod(0o755)
    backup(str(root), keep=1, images=True)
    assert stat.S_IMODE(images.stat().st_mode) == 0o755
    assert all(path.exists() for path in somebodys) and not orphan.exists()


def test_no_backup_of_nothing_and_none_of_another_catalog(tmp_path: Path) -> None:
    root = tmp_path / "nebula"
    catalog = catalog_with_a_host(root)
    made = backup(str(root))
    lose(str(root))
    with pytest.raises(NotFound, match=r"there is none to be copied.*nebula\.provision\.restore"):
        backup(str(root))
    assert not (root / "nebula.db").exists()
    other = tmp_path / "other"
    catalog_with_a_host(other)
    backup(str(other), directory=f"{root}.backups")
    with pytest.raises(InvalidValue, match="of several catalogs"):
        restore(str(root), [])
    observed = [to_plain(Observed("a", catalog=catalog, inventory=Inventory()))]
    assert restore(str(root), observed)["file"] == made["path"]
    unseen = [to_plain(Observed("a", catalog=catalog, inventory=Inventory(unseen=("no domains: libvirtd is gone",))))]
    with pytest.raises(InvalidValue, match="a: no domains: libvirtd is gone"):
        restore(str(root), unseen)


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "text", "newer"])
def test_a_bad_copy_is_refused_and_nothing_is_changed(tmp_path: Path, damage: str) -> None:
    root = tmp_path / "nebula"
    catalog_with_a_host(root)
    made = Path(backup(str(root))["path"])
    data = made.read_bytes()
    if damage == "newer":
        with contextlib.closing(sqlite3.connect(made)) as db:
            db.execute("PRAGMA user_version = 99")
    else:
        changed = {
            "flipped": data[:4096] + b"\xff" * 4096 + data[8192:],
            "cut": data[:9000],
            "empty": b"",
            "text": b"x" * 9000,
        }
        made.write_bytes(changed[damage])
    before = (root / "nebula.db").read_bytes()
    with pytest.raises(ChecksumMismatch, match="changed or damaged"):
        restore(str(root), [])
    # The same as a file that somebody copied by other means.
    Path(f"{made}.json").unlink()
    with pytest.raises(CatalogError, match="schema is version 99" if damage == "newer" else "damaged"):
        restore(str(root), [], file=str(made))
    with pytest.raises(NotFound, match="none that is complete"):
        restore(str(root), [])
    assert (root / "nebula.db").read_bytes() == before
    assert sorted(path.name for path in root.iterdir()) == ["nebula.db"]


def test_a_backup_is_one_moment_of_a_catalog_in_use(tmp_path: Path) -> None:
    """A writer commits two rows at a time without a pause: every copy has both or neither."""
    root = tmp_path / "nebula"
    catalog_with_a_host(root)
    writer = (
        "import sqlite3, sys, itertools\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)\n"
        "for n in itertools.count():\n"
        "    db.execute('BEGIN IMMEDIATE')\n"
        "    rows = [(2*n, f'a{n}', 'x'*3000), (2*n+1, f'b{n}', 'x'*3000)]\n"
        "    db.executemany('INSERT INTO templates VALUES (?, ?, ?, 0)', rows)\n"
        "    db.execute('COMMIT')\n"
        "    if n == 0: print('.', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", writer, str(root / "nebula.db")], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.read(1)
            counts = []
            for _ in range(5):
                path = backup(str(root))["path"]
                with contextlib.closing(sqlite3.connect(path)) as db:
                    names = [row[0] for row in db.execute("SELECT name FROM templates")]
                counts.append(len(names))
                assert {n[1:] for n in names if n[0] == "a"} == {n[1:] for n in names if n[0] == "b"}
        finally:
            process.kill()
    assert counts == sorted(counts) and counts[0] >= 2


# -- restoring them --------------------------------------------------------------------------------------------------
@in_world
def test_the_newest_copy_comes_back_as_it_was() -> None:
    with a_place() as place:
        place.site(WEB, {"name": "rich", "template": "rich"})
        made = backup(place.root, images=True)
        assert made["machines"] == 3 and made["images"] == 4
        assert made["copied_images"] == 3 and "data" in made["warnings"][0], "a machine writes to the fourth"
        before = vms(place)
        lose(place.root)
        forecast = restore(place.root, audited(place), check_mode=True)
        assert forecast["changed"] and not Path(place.root, "nebula.db").exists()
        done = restore(place.root, audited(place))
        assert (done["raised"], done["missing"], done["unknown"], done["warnings"]) == ([], [], [], [])
        assert {key: forecast[key] for key in ("plan", "next_id")} == {key: done[key] for key in ("plan", "next_id")}
        assert vms(place) == before
        place.clean()
        checked(place)
        place.site({**WEB, "count": 3})
        place.clean()
        again = restore(place.root, audited(place), force=True)
        assert Path(again["replaced"]).is_file()


@in_world
def test_an_older_copy_goes_on_above_all_that_was_seen() -> None:
    """Since the copy: one machine ended, one was changed, one was made. No id, address or plan number is used twice."""
    with a_place() as place:
        place.site(WEB)
        backup(place.root)
        place.site({**WEB, "count": 1, "hard": True}, {"name": "newer", "template": "web"})
        place.site({**WEB, "count": 1, "context": {"COLOUR": "blue"}})
        stranger = vms(place)["newer"]
        address = stranger.nics[0]["ip"]
        number = node_file.read(place.root).plan
        lose(place.root)
        done = restore(place.root, audited(place))
        assert [each["vm_id"] for each in done["unknown"]] == [stranger.id]
        assert "virsh" in done["unknown"][0]["forget"]
        assert done["raised"] == ["VM web-0 (id 0) on host node1"]
        assert done["missing"] == ["VM web-1 (id 1) on host node1"]
        assert done["held"] == [f"{address} of network Audited"]
        assert done["plan"] > number and done["next_id"] > stranger.id
        assert place.driver.state is not None and place.domain(stranger.id).isActive(), "it is left running"
        checked(place)
        known = {record.name: record.state for record in vms(place).values()}
        assert known["web-1"] == "UNKNOWN"

        # What the copy says is made true again, and what the user says of the rest.
        place.site({"name": "web-1", "state": "absent"}, {"name": "more-%i", "count": 3, "template": "web"})
        assert {each["object"] for each in findings_here(place.root, driver=place.driver)} <= {
            f"one-{stranger.id}", f"domain one-{stranger.id}", str(place.directory(stranger.id)),
            f"directory {place.directory(stranger.id)}",
        }, findings_here(place.root, driver=place.driver)  # fmt: skip
        taken = [nic["ip"] for record in vms(place).values() for nic in record.nics]
        assert len(set(taken)) == len(taken) and address not in taken
        ids = [record.id for record in vms(place).values()]
        assert min(vm_id for vm_id in ids if vm_id > 1) > stranger.id

        # By hand, as the message says: its address is free from then on.
        place.domain(stranger.id).destroy()
        place.domain(stranger.id).undefine()
        shutil.rmtree(place.directory(stranger.id))
        place.site(WEB)
        assert place.sql("SELECT count(*) FROM leases WHERE kind = 'unknown'") == [(0,)]
        place.clean()


@in_world
def test_unknown_machines_are_removed_when_that_is_asked_for() -> None:
    with a_place() as place:
        place.site(WEB)
        made = backup(place.root)
        place.site({"name": "newer-%i", "count": 2, "template": "web"})
        with pytest.raises(Conflict, match="it is newer: its newest plan is 2"):
            restore(place.root, audited(place))
        assert len(vms(place)) == 4
        # What the catalog in place has is no leftover, whatever else is asked for.
        kept = restore(place.root, audited(place), check_mode=True, force=True, unknown="remove")
        assert [json.loads(text)["vms"] for text in kept["plans"].values()] == [[]]
        assert "(the catalog that gave way has it)" in kept["warnings"][0]
        lose(place.root)
        done = restore(place.root, audited(place), unknown="remove")
        assert [each["vm_id"] for each in done["unknown"]] == [2, 3] and made["plan"] == 1
        # Killed before the nodes heard of it, it is done again; once something was decided, it is not.
        done = restore(place.root, audited(place), unknown="remove")
        with contextlib.closing(sqlite3.connect(done["replaced"])) as kept:
            assert kept.execute("SELECT count(*) FROM vms").fetchone() == (2,)
        assert stat.S_IMODE(os.stat(done["replaced"]).st_mode) == 0o600
        carry_out(place, done["plans"])
        place.site({**WEB, "count": 3})
        with pytest.raises(Conflict, match="it is newer"):
            restore(place.root, audited(place), unknown="remove")
        place.clean()


@in_world
def test_what_unknown_machines_use_is_given_to_nobody() -> None:
    with a_place() as place:
        place.site(WEB)
        backup(place.root)
        place.site({"name": "rich", "template": "rich"})
        lose(place.root)
        done = restore(place.root, audited(place))
        said = "\n".join(done["warnings"])
        assert "rest on it, which this catalog does not know: keep it while they are there" in said
        assert "writes to it, which this catalog does not know. It is DISABLED" in said

        def state() -> list[tuple[int]]:
            return place.sql("SELECT state FROM images WHERE persistent")

        assert state() == [(ImageState.DISABLED,)]
        # Those that end at once hold nothing.
        again = restore(place.root, audited(place), unknown="remove")
        assert not any("DISABLED" in each for each in again["warnings"]) and state() == [(ImageState.READY,)]
        carry_out(place, again["plans"])
        place.site(WEB)
        place.clean()


# -- taking over what the catalog does not know ------------------------------------------------------------------------
RICH = {"name": "rich", "template": "rich"}
OFF = {"name": "off", "template": "web", "state": "poweroff", "hard": True}
SAVED = {"name": "saved", "template": "web"}


def adopt(place: Place, ids: Mapping[str, int], *items: Mapping[str, Any]) -> list[str]:
    """As role vm does it: foreseen, compared, decided. The errors."""
    seen = polls_of(audited(place))
    with contextlib.closing(EmbeddedEngine(place.root, check_mode=True)) as engine:
        adopting = Adoptions(ids, foreseen=True)
        foreseen = engine.decide(
            lambda: decide(engine, items, seen, None, True, False, adopting), download_context_file
        )
    for text in as_plans(foreseen.plans or {}).values():
        options = {"state": "compared", "plan": text, "host": NODE, "root": place.root, "hypervisor": "kvm"}
        answer = nebula_deploy.call.run({**options, "catalog": None}, False)
        seen = polls_of([json.loads(json.dumps(answer.payload))])
    with contextlib.closing(EmbeddedEngine(place.root)) as engine:
        decided = engine.decide(
            lambda: decide(engine, items, seen, None, True, False, Adoptions(ids)), download_context_file
        )
    errors = [str(outcome.error) for outcome in decided.outcomes if outcome.error]
    assert errors or not decided.plans, "no node has anything to do"
    return errors


def as_it_is(place: Place, *ids: int | None) -> list[Any]:
    """All that a host has of these machines."""
    found: list[Any] = []
    for vm_id in ids:
        domain = place.domain(vm_id)
        found.append((domain.XMLDesc(0), domain.ID(), domain.autostart()))
        for path in sorted(place.directory(vm_id).iterdir()):
            told = path.lstat()
            found.append((str(path), told.st_ino, told.st_mtime_ns, told.st_size, path.read_bytes()[:64]))
    return found


def strangers(place: Place) -> dict[str, int]:
    """The catalog is restored from before these machines; their ids."""
    place.site(WEB)
    backup(place.root)
    place.site(RICH, {**OFF, "state": "running"}, SAVED)
    place.site(RICH, OFF, {**SAVED, "state": "suspended"})
    place.site(OFF, {**SAVED, "state": "suspended", "memory": 32}, {**RICH, "context": {"SECRET": "hunter2"}})
    ids = {name: record.id for name, record in vms(place).items() if name in ("rich", "off", "saved")}
    lose(place.root)
    restore(place.root, audited(place))
    assert sorted(vms(place)) == ["web-0", "web-1"]
    return {name: vm_id for name, vm_id in ids.items() if vm_id is not None}


@in_world
def test_an_unknown_machine_is_adopted_as_it_is() -> None:
    with a_place() as place:
        ids = strangers(place)
        wanted = [{**RICH, "context": {"SECRET": "hunter2"}}, OFF, {**SAVED, "state": "suspended"}]
        before = as_it_is(place, *ids.values())
        assert place.sql("SELECT state FROM images WHERE name = 'data'") == [(ImageState.DISABLED,)]
        assert adopt(place, ids, *wanted) == []
        assert place.sql("SELECT state FROM images WHERE name = 'data'") == [(ImageState.USED_PERS,)]
        assert as_it_is(place, *ids.values()) == before
        states = {name: (record.id, record.state) for name, record in vms(place).items() if name in ids}
        assert states == {
            "rich": (ids["rich"], "RUNNING"), "off": (ids["off"], "POWEROFF"), "saved": (ids["saved"], "SUSPENDED"),
        }  # fmt: skip
        place.clean()
        assert place.sql("SELECT count(*) FROM leases WHERE kind = 'unknown'") == [(0,)]
        # The same list: there is nothing to do. With the option: neither.
        with contextlib.closing(EmbeddedEngine(place.root)) as engine, engine.session():
            engine.vms.observe([poll(place.driver, place.root, NODE)])
            outcomes, _warnings = reconcile(engine, wanted)
            assert [o.before == o.after for o in outcomes] == [True] * 3 and engine.vms.plans() == {}
        assert adopt(place, ids, *wanted) == [] and as_it_is(place, *ids.values()) == before

        # They are machines like all others from now on.
        place.site({**wanted[0], "context": {"NEW": "1"}}, {**OFF, "state": "running", "memory": 40}, SAVED)
        place.clean()
        place.site(*({"name": name, "state": "absent", "hard": True} for name in ids))
        place.clean()
        assert len(vms(place)) == 2 and not any(place.directory(vm_id).exists() for vm_id in ids.values())


@in_world
def test_what_is_not_known_of_a_machine_is_not_adopted() -> None:
    with a_place() as place:
        ids = strangers(place)
        off = ids["off"]
        disk = place.directory(off) / "disk.0"
        record = place.directory(off) / "vm.json"
        wanted = {"name": "off", "template": "web"}
        catalog = place.sql("SELECT * FROM vms"), place.sql("SELECT * FROM leases")
        before = as_it_is(place, off)

        def refused(item: Mapping[str, Any], words: str, name: str = "off") -> None:
            (error,) = adopt(place, {name: off}, item)
            assert words in error, error
            assert (place.sql("SELECT * FROM vms"), place.sql("SELECT * FROM leases")) == catalog

        refused({**wanted, "memory": 64}, "its definition differs (memory)")
        refused({**wanted, "name": "other"}, "its definition differs (title); its context has other", name="other")
        refused({**wanted, "context": {"MORE": "hunter2"}}, "its context has other variables or files")
        refused({**wanted, "nics": []}, "it has 1 NICs (02:00:0a:42:07:")
        base, blank = ({"IMAGE": name, "DEV_PREFIX": "vd"} for name in ("base", "blank"))
        refused({**wanted, "disks": [base, blank]}, "disk 1 rests on nothing, and image blank is")
        assert as_it_is(place, off) == before
        run("qemu-img", "snapshot", "-c", "mine", str(disk))
        refused(wanted, "disk 0 holds snapshots")
        run("qemu-img", "snapshot", "-d", "mine", str(disk))
        text = record.read_bytes()
        record.unlink()
        refused(wanted, "has no vm.json of it")
        record.write_bytes(text)
        place.domain(ids["rich"]).suspend()
        (error,) = adopt(place, {"rich": ids["rich"]}, RICH)
        assert "it stands still" in error
        place.domain(ids["rich"]).resume()
        assert adopt(place, {"off": off}, wanted) == []


@in_world
def test_without_any_copy_a_catalog_is_begun_that_the_nodes_follow() -> None:
    with a_place() as place:
        place.site(WEB)
        observed = audited(place)
        with pytest.raises(Conflict, match="it is there, and sound"):
            restore(place.root, observed, new_catalog=True)
        lose(place.root)
        # As site.yml finds it: a new catalog is begun, and then refused.
        with (
            contextlib.closing(EmbeddedEngine(place.root, create=True)) as fresh,
            pytest.raises(ForeignObject),
            fresh.session(),
        ):
            fresh.hosts.check([poll(place.driver, place.root, NODE)])
        done = restore(place.root, observed, new_catalog=True, unknown="remove")
        assert done["catalog"] == observed[0]["catalog"] and len(done["unknown"]) == 2
        checked(place)
        carry_out(place, done["plans"])
        assert poll(place.driver, place.root, NODE).vms == ()
        leftovers = {each["kind"] for each in findings_here(place.root, driver=place.driver)}
        assert leftovers <= {"bridge-left", "rules-left", "image-left", "host-unknown"}, leftovers
        for path in Path(place.root, "datastores", "1").iterdir():
            path.unlink()
        place.furnish()
        place.site(WEB)
        assert min(record.id for record in vms(place).values()) > 1
        place.clean()


def node(name: str, **given: Any) -> dict[str, Any]:
    return to_plain(Observed(name, **given))


def test_what_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "nebula"
    catalog = catalog_with_a_host(root)
    with contextlib.closing(EmbeddedEngine(str(root))) as engine, engine.session():
        engine.store.db.execute("UPDATE meta SET value = 7 WHERE key = 'plan'")
    made = backup(str(root))["path"]
    before = (root / "nebula.db").read_bytes()
    other = str(uuid.uuid4())
    inventory: dict[str, Any] = {"inventory": {}}
    for observed, options, kind, words in (
        ([node("a", reached=False)], {}, InvalidValue, "a did not answer"),
        ([node("a", catalog=other, **inventory)], {}, NotFound, f"none that is complete of catalog {other}"),
        (
            [node("a", catalog=other, **inventory)],
            {"file": made},
            ForeignObject,
            f"host a carries the marks of catalog {other}",
        ),
        ([node("a", **inventory)], {"new_catalog": True}, InvalidValue, "no node carries the mark"),
        (
            [node("a", catalog=catalog, **inventory), node("b", catalog=other, **inventory)],
            {"new_catalog": True},
            InvalidValue,
            "the nodes follow",
        ),
    ):
        with pytest.raises(kind, match=words):
            restore(str(root), observed, **options)
    # Another catalog with something in it stays where it is.
    place = tmp_path / "other"
    catalog_with_a_host(place)
    with contextlib.closing(EmbeddedEngine(str(place))) as engine, engine.session():
        engine.store.take_ids("vms")
    with pytest.raises(ForeignObject, match=r"with 0 machines.*nebula_restore_force"):
        restore(str(place), [], file=str(next(Path(f"{root}.backups").glob("*.db"))))
    assert (root / "nebula.db").read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"no catalog" * 900])
def test_a_damaged_catalog_gives_way_and_is_kept(tmp_path: Path, content: bytes) -> None:
    root = tmp_path / "nebula"
    catalog = catalog_with_a_host(root)
    backup(str(root))
    lose(str(root))
    (root / "nebula.db").write_bytes(content)
    done = restore(str(root), [])
    with contextlib.closing(EmbeddedEngine(str(root))) as engine:
        assert engine.catalog() == catalog
    assert Path(done["replaced"]).read_bytes() == content
    assert stat.S_IMODE((root / "nebula.db").stat().st_mode) == 0o600


def test_those_who_had_it_open_see_the_restored_one(tmp_path: Path) -> None:
    root = tmp_path / "nebula"
    catalog_with_a_host(root)
    backup(str(root))
    with contextlib.closing(EmbeddedEngine(str(root))) as open_before:
        with open_before.session():
            open_before.store.take_ids("vms", 5)
            open_before.store.db.execute("INSERT INTO meta VALUES ('since', 'the copy')")
        restore(str(root), [])
        with open_before.session():
            assert open_before.store.meta("since") == ""
            assert open_before.store.take_ids("vms") == 5, "what was given out since is given to nobody else"
    with contextlib.closing(EmbeddedEngine(str(root))) as engine:
        assert engine.store.row("SELECT next FROM sequences WHERE name = 'vms'")[0] == 6


# -- while others work -----------------------------------------------------------------------------------------------
def noted(root: Path) -> list[Any]:
    with contextlib.closing(sqlite3.connect(root / "nebula.db")) as db:
        return db.execute("SELECT value FROM meta WHERE key = 'since'").fetchall()


@pytest.mark.parametrize("commits", [True, False])
def test_a_restore_waits_for_who_decides_and_overwrites_no_decision(tmp_path: Path, commits: bool) -> None:
    root = tmp_path / "nebula"
    catalog_with_a_host(root)
    backup(str(root))
    with opened(root) as engine, engine.session():
        engine.store.db.execute("INSERT INTO meta VALUES ('before', 'the restore')")
    call = ("nebula_restore", {"root": str(root), "directory": f"{root}.backups", "observed": []})
    with contextlib.closing(sqlite3.connect(root / "nebula.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("INSERT INTO meta VALUES ('since', 'decided')")
        with ThreadPoolExecutor() as pool:
            restoring = pool.submit(together, [call])
            # Kept aside first; then it waits.
            kept = wait_for(lambda: list(root.glob("nebula.db.before-*Z")), "the restore")
            assert not restoring.done()
            other.execute("COMMIT" if commits else "ROLLBACK")
            (told,) = restoring.result()
    if commits:
        assert "another run has changed it meanwhile. Wait for that run to end, then run again" in told["msg"], told
        assert noted(root) == [("decided",)] and not kept[0].exists()
    else:
        assert not told.get("failed") and told["restored"]["replaced"] == str(kept[0]), told


def test_a_catalog_that_is_begun_or_ended_while_it_is_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "nebula"
    catalog_with_a_host(root)
    backup(str(root))
    real = raise_numbers.raise_above
    for before, change in (("there", "ended"), ("lost", "begun"), ("damaged", "begun")):
        if before != "there":
            lose(str(root))
        if before == "damaged":
            (root / "nebula.db").write_bytes(b"no catalog" * 900)

        def meanwhile(*given: Any, change: str = change) -> Any:
            monkeypatch.setattr(raise_numbers, "raise_above", real)
            if change == "ended":
                with opened(root) as engine:
                    engine.end(lambda: None)
            else:
                (root / "nebula.db").unlink(missing_ok=True)
                catalog_of_another(root)
            return real(*given)

        monkeypatch.setattr(raise_numbers, "raise_above", meanwhile)
        with pytest.raises(Conflict, match="another run has changed it meanwhile"):
            restore(str(root), [])
        assert list(root.glob("nebula.db.before-*")) == []
        assert (root / "nebula.db").exists() == (change == "begun")


def catalog_of_another(root: Path) -> None:
    with contextlib.closing(EmbeddedEngine(str(root), create=True)) as engine, engine.session():
        engine.store.take_ids("vms")


@pytest.mark.parametrize("seed", range(2))
def test_machines_are_made_while_the_catalog_is_restored(tmp_path: Path, seed: int) -> None:
    """Whoever comes first: no id is given out twice, and the catalog is whole."""
    root = tmp_path / "nebula"
    root.mkdir()
    furnish(root, leases=100)
    backup(str(root))
    made = together([("nebula_vm", {"root": str(root), "name": "first-%i", "count": 3, "template": "web"})])
    options = {"root": str(root), "directory": f"{root}.backups", "observed": [], "force": True}
    calls: list[Any] = [
        ("nebula_vm", {"root": str(root), "name": f"web{n}-%i", "count": 2, "template": "web"}) for n in range(12)
    ]
    calls += [("nebula_restore", options)] * 2
    random.Random(seed).shuffle(calls)
    results = together(calls)
    for (name, _given), result in zip(calls, results):
        assert not result.get("failed") or (name == "nebula_restore" and "changed it meanwhile" in result["msg"])
    made += [result for (name, _given), result in zip(calls, results) if name == "nebula_vm"]
    consistent(root)
    made += together([("nebula_vm", {"root": str(root), "name": "last-%i", "count": 2, "template": "web"})])
    ids = [vm["id"] for result in made for vm in result["vms"]]
    assert len(ids) == 3 + 24 + 2 and len(set(ids)) == len(ids), sorted(ids)


@in_world
def test_a_run_that_decided_before_acts_no_more() -> None:
    """site.yml decided, and acts only when the catalog was restored: the node refuses its plan, and nothing is lost."""
    with a_place() as place:
        place.site(WEB)
        backup(place.root)
        with contextlib.closing(EmbeddedEngine(place.root)) as engine:
            with engine.session():
                engine.vms.observe([poll(place.driver, place.root, NODE)])
                reconcile(engine, [{"name": "late-%i", "count": 2, "template": "web"}])
                (late,) = engine.vms.plans().values()
            with pytest.raises(Conflict, match="it is newer"):
                restore(place.root, audited(place))
            done = restore(place.root, audited(place), force=True)
            assert done["plan"] > late.number and done["next_id"] > max(planned.vm.vm_id for planned in late.vms)
            carry_out(place, done["plans"])
            with pytest.raises(StalePlan, match=rf"this node has accepted plan {done['plan']} already"):
                Batch(late, place.driver, place.root).apply()
            # What it records of a node that was never told is nothing, as is what it makes of that.
            with engine.session():
                assert engine.vms.record(NODE, None) == []
        assert sorted(poll(place.driver, place.root, NODE).vms and vms(place)) == ["web-0", "web-1"]
        place.clean()
        place.site(WEB, {"name": "late-%i", "count": 2, "template": "web"})
        place.clean()
