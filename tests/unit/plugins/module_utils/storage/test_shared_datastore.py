# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mark of a shared datastore is written once, by whichever host is first, and read with care."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import NotFound
from ansible_collections.nebula.provision.plugins.module_utils.host import mounts
from ansible_collections.nebula.provision.plugins.module_utils.model.datastore import SHARED_MARK
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import PlannedDatastore
from ansible_collections.nebula.provision.plugins.module_utils.storage import shared_datastore

CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "datastores" / "0").mkdir(parents=True)
    return str(tmp_path)


def test_the_first_mark_stays(root):
    assert shared_datastore.seen(root) == ""
    assert shared_datastore.begin(root, CATALOG)
    mark = shared_datastore.seen(root)
    assert mark.startswith(f"{CATALOG}.")
    assert not shared_datastore.begin(root, CATALOG)
    assert shared_datastore.seen(root) == mark
    assert os.listdir(os.path.dirname(shared_datastore.path(root))) == [SHARED_MARK]


@pytest.mark.parametrize("content", [b"", b"\xff", b"node1", b"x" * 300, f"{CATALOG}.{'a' * 32}\nmore".encode()])
def test_what_is_no_mark_is_none(root, content):
    Path(shared_datastore.path(root)).write_bytes(content)
    assert shared_datastore.seen(root) == ""


def test_a_link_is_no_mark(root, tmp_path):
    (tmp_path / "mark").write_text(f"{CATALOG}.{'a' * 32}\n")
    os.symlink(tmp_path / "mark", shared_datastore.path(root))
    assert shared_datastore.seen(root) == ""


def test_it_goes_with_the_last_that_is_there(root):
    shared_datastore.begin(root, CATALOG)
    machine = os.path.join(os.path.dirname(shared_datastore.path(root)), "7")
    os.mkdir(machine)
    assert not shared_datastore.remove_last(root)
    os.rmdir(machine)
    assert shared_datastore.remove_last(root)
    assert not shared_datastore.remove_last(root)


@pytest.mark.parametrize("known", ["", f"{CATALOG}.{'a' * 32}"])
@pytest.mark.parametrize("is_there", [True, False])
def test_another_directory_than_that_of_the_plan_is_refused(root, known, is_there):
    if is_there:
        shared_datastore.begin(root, CATALOG)
    with pytest.raises(NotFound, match=r"host node1: shared datastore nfs: .*datastores/0 has .*Mount the datastore"):
        shared_datastore.require(root, "node1", PlannedDatastore("nfs", known))


@pytest.mark.parametrize("content", [None, b"", f"{CATALOG}.{'b' * 32}\n".encode()])
def test_a_mark_that_was_lost_is_made_anew_by_the_command_of_the_error(root, content):
    planned = PlannedDatastore("nfs", f"{CATALOG}.{'a' * 32}")
    if content is not None:
        Path(shared_datastore.path(root)).write_bytes(content)
    with pytest.raises(NotFound) as refused:
        shared_datastore.require(root, "node1", planned)
    command = refused.value.remedy.partition("as root: ")[2]
    subprocess.run(["sh", "-c", command], check=True)
    shared_datastore.require(root, "node1", planned)


def test_the_directory_of_the_plan_is_taken(root):
    shared_datastore.require(root, "node1", None)
    shared_datastore.begin(root, CATALOG)
    shared_datastore.require(root, "node1", PlannedDatastore("nfs", shared_datastore.seen(root)))


@pytest.mark.parametrize(
    ("point", "is_mounted"), [("{root}/datastores/0", True), ("{root}/datastores", True), ("{root}", False)]
)
def test_it_is_mounted_if_it_is_on_another_mount_than_its_root(root, tmp_path, monkeypatch, point, is_mounted):
    table = tmp_path / "mounts"
    table.write_text(f"/dev/vda / ext4 rw 0 0\nserver:/srv {point.format(root=root)} nfs4 rw 0 0\n")
    monkeypatch.setattr(mounts, "TABLE", str(table))
    assert shared_datastore.is_mounted(root) == is_mounted


def test_a_link_to_a_mount_is_mounted(root, tmp_path, monkeypatch):
    place = os.path.join(root, "datastores", "0")
    os.rmdir(place)
    os.symlink("/mnt/machines", place)
    table = tmp_path / "mounts"
    table.write_text("/dev/vda / ext4 rw 0 0\nserver:/srv /mnt/machines nfs4 rw 0 0\n")
    monkeypatch.setattr(mounts, "TABLE", str(table))
    assert shared_datastore.is_mounted(root)
