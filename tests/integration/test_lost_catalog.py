# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A site whose catalog is lost, damaged or replaced: site.yml refuses and touches nothing, restore.yml is the way out,
and the site goes on."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sqlite3
import stat
import subprocess
import uuid
from pathlib import Path

import pytest
from auditor import assert_consistent_here, findings_here
from in_world import in_bare_world

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.store import PARTS
from ansible_collections.nebula.provision.tests.integration.test_at_once import together
from ansible_collections.nebula.provision.tests.integration.test_runs_at_once import Site, a_site, domains

# Role vm alone.
MACHINES = "tests/torture/vm.yml"


def catalog_of(site: Site) -> Path:
    return site.root / "nebula.db"


def copy(source: Path, target: Path) -> None:
    """The content of a catalog with its write-ahead log, as one file."""
    with contextlib.closing(sqlite3.connect(source)) as old, contextlib.closing(sqlite3.connect(target)) as new:
        old.backup(new)
        new.execute("PRAGMA journal_mode = DELETE")


def replace(site: Site, content: Path | bytes | None) -> None:
    for part in PARTS:
        (site.root / part).unlink(missing_ok=True)
    if isinstance(content, Path):
        shutil.copy(content, catalog_of(site))
    elif content is not None:
        catalog_of(site).write_bytes(content)


def edited(source: Path, target: Path, *statements: str) -> Path:
    shutil.copy(source, target)
    with contextlib.closing(sqlite3.connect(target)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()
    return target


def refused(site: Site, playbook: str, *words: str) -> None:
    """The run fails with these words, which name the way out, and nothing is different on the node afterwards."""
    before, node = domains(), (site.root / "nebula.node").read_bytes()
    code, output = site.run(playbook)
    assert code != 0, output
    for each in words:
        assert re.search(each, output), f"{each} in\n{output}"
    assert domains() == before and (site.root / "nebula.node").read_bytes() == node


@pytest.mark.timeout(3600)
@in_bare_world
def test_a_lost_catalog_is_refused_and_restored() -> None:
    with a_site() as site:
        place = site.place
        site.one.own = 1
        code, output = site.run("site.yml")
        assert code == 0, output
        older = place / "older.db"
        copy(catalog_of(site), older)
        backups = ("-e", f"nebula_backup_directory={place}/backups")
        fetched = place / "fetched"
        code, output = site.run("playbooks/backup.yml", *backups, "-e", f"nebula_backup_fetch={fetched}")
        assert code == 0, output
        assert {stat.S_IMODE(path.stat().st_mode) for path in fetched.iterdir()} == {0o600}
        assert len(list(fetched.iterdir())) == 2 and stat.S_IMODE(fetched.stat().st_mode) == 0o700

        site.one.own = 2
        code, output = site.run(MACHINES)
        assert code == 0 and len(domains()) == 5, output
        newest = place / "newest.db"
        copy(catalog_of(site), newest)
        catalog = (site.root / "nebula.node").read_text().split('"catalog": "')[1][:36]
        other = edited(newest, place / "other.db", f"UPDATE meta SET value = '{uuid.uuid4()}' WHERE key = 'catalog'")
        unknown = edited(newest, place / "unknown.db", "PRAGMA user_version = 77")

        # What site.yml's first task on the front-end says, it says.
        for content, words in (
            (unknown, "its schema is version 77, this collection knows up to"),
            (b"no catalog at all" * 500, "the file is damaged, or not a catalog. Restore it from a backup"),
        ):
            replace(site, content)
            (told,) = together([("nebula_frontend", {"root": str(site.root)})])
            assert words in told["msg"], told
        replace(site, older)
        refused(
            site, MACHINES, r"its newest plan is 1, and host node1 has followed plan 2 of it: this is an older copy"
        )
        replace(site, other)
        marks = f"carries the marks of catalog {catalog}, and this is catalog"
        refused(site, MACHINES, f"host node1: it {marks}", "Restore that catalog")
        replace(site, None)
        refused(site, "site.yml", f"making this host a node: it {marks}", "Restore that catalog")

        # The newest backup is from before the fifth machine.
        before = domains()
        code, output = site.run("playbooks/restore.yml", "--check", *backups)
        assert code == 0 and domains() == before, output
        code, output = site.run("playbooks/restore.yml", *backups)
        assert code == 0 and domains() == before, output
        assert re.search(r"host node1 has one-4 \(id 4, RUNNING\), which this catalog does not\s+know", output), output
        assert "virsh" in output
        named = {each["object"] for each in findings_here(str(site.root))}
        assert named and all("one-4" in name or name.endswith("/4") for name in named), named
        # It becomes what the list says, where it is that, in a run that names it.
        for ids, words in (
            ({"one-1": 3}, "the catalog had given that id to VM one-0"),
            ({"one-1": 5}, "it: 4 on node1"),
        ):
            code, output = site.run(MACHINES, "-e", json.dumps({"nebula_adopt_unknown": ids}))
            assert code != 0 and words in " ".join(output.split()) and domains() == before, output
        adopting = ("-e", json.dumps({"nebula_adopt_unknown": {"one-1": 4}}))
        changed = []
        for arguments in (("--check", *adopting), adopting, (), adopting):
            code, output = site.run(MACHINES, *arguments)
            assert code == 0 and domains() == before, output
            changed.append(bool(re.search(r"^node1 +: ok=\d+ +changed=[1-9]", output, re.MULTILINE)))
        assert changed == [True, True, False, False]
        assert_consistent_here(str(site.root))

        # Without that it stays unknown.
        code, output = site.run("playbooks/restore.yml", *backups, "-e", "nebula_restore_force=true")
        assert code == 0 and domains() == before, output
        code, output = site.run(MACHINES)
        assert code == 0, output
        assert len(domains()) == 6 and "one-4" in domains(), "the list wants another one, which has a new id"

        # Once more, and the strangers go this time; not the machine that was made since.
        (made,) = set(domains()) - set(before)
        force = ("-e", "nebula_restore_force=true", "-e", "nebula_restore_unknown=remove")
        code, output = site.run("playbooks/restore.yml", *backups, *force)
        assert code == 0 and set(domains()) == {*before, made} - {"one-4"}, output
        rows = [line.split()[2:5] for line in output.splitlines() if line.startswith("node1 ") and "virsh" in line]
        assert rows == [["one-4", "RUNNING", "yes"], [made, "RUNNING", "no"]], output
        for verb in ("destroy", "undefine"):
            subprocess.run(["virsh", "-c", "qemu:///system", verb, made], check=True, capture_output=True)
        shutil.rmtree(site.root / "datastores" / "0" / made.removeprefix("one-"))
        # Rules for interfaces that are gone go with the next run.
        assert {each["kind"] for each in findings_here(str(site.root))} == {"rules-left"}
        code, output = site.run("site.yml", "--tags", "network")
        assert code == 0, output
        assert_consistent_here(str(site.root))
        # What it kept aside is the administrator's.
        for path in site.root.glob("nebula.db.before-*"):
            path.unlink()
