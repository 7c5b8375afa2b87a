# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A front-end's catalog: begun, refused in a place that does not last, removed with its images and nothing else."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.store import Store
from ansible_collections.nebula.provision.plugins.module_utils.errors import InUse, InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.host import mounts
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import frontends


def params(root: Path, **changes: Any) -> dict[str, Any]:
    return {"root": str(root), "local": False, "allow_ephemeral": False, **changes}


def add_image(root: Path, source: Path) -> None:
    with contextlib.closing(Store(str(root))) as store, store.transaction() as db:
        db.execute(
            "INSERT INTO images (id, name, uuid, type, state, source) VALUES (?, ?, ?, 0, 1, ?)",
            (store.take_ids("image"), source.name, source.name, str(source)),
        )


def test_begun_and_again(tmp_path: Path) -> None:
    root = tmp_path / "nebula"
    forecast = frontends.present(params(root), check_mode=True)
    assert forecast.changed
    assert forecast.payload["frontend"]["catalog"] == ""
    assert not root.exists()
    begun = frontends.present(params(root), check_mode=False)
    assert begun.changed
    catalog = begun.payload["frontend"]["catalog"]
    assert len(catalog) == 36
    for check_mode in (False, True):
        again = frontends.present(params(root), check_mode)
        assert not again.changed
        assert again.payload["frontend"]["catalog"] == catalog


def test_each_name_has_a_mark_of_its_own_that_stays(tmp_path: Path) -> None:
    root, names = tmp_path / "nebula", ["node1", "node2"]
    forecast = frontends.present(params(root, nodes=names), check_mode=True)
    assert forecast.payload["frontend"]["marks"].keys() == {*names} and not root.exists()
    marks = frontends.present(params(root, nodes=names), check_mode=False).payload["frontend"]["marks"]
    assert len(set(marks.values())) == 2 and all(len(mark) == 32 for mark in marks.values())
    for check_mode in (False, True):
        again = frontends.present(params(root, nodes=[*names, "node3"]), check_mode)
        assert not again.changed and marks.items() < again.payload["frontend"]["marks"].items()
    assert frontends.present(params(root), check_mode=False).payload["frontend"]["marks"] == {}


def test_removed_with_its_images_and_nothing_else(tmp_path: Path) -> None:
    root = tmp_path / "nebula"
    frontends.present(params(root), check_mode=False)
    ours, strangers = root / "datastores" / "1" / "a1", tmp_path / "outside"
    for image in (ours, strangers):
        image.write_text("x", encoding="utf-8")
        add_image(root, image)
    assert frontends.absent(params(root), check_mode=True).changed
    assert ours.exists()
    assert frontends.absent(params(root), check_mode=False).changed
    assert not root.exists()
    assert strangers.exists()
    assert not frontends.absent(params(root), check_mode=False).changed


def test_what_others_put_there_stays(tmp_path: Path) -> None:
    frontends.present(params(tmp_path), check_mode=False)
    (tmp_path / "datastores" / "1" / "mine").touch()
    frontends.absent(params(tmp_path), check_mode=False)
    assert (tmp_path / "datastores" / "1" / "mine").exists()


def test_not_removed_with_machines(tmp_path: Path) -> None:
    frontends.present(params(tmp_path), check_mode=False)
    with contextlib.closing(Store(str(tmp_path))) as store, store.transaction() as db:
        for number, state in ((0, 6), (1, 3)):
            db.execute(
                "INSERT INTO vms (id, name, uuid, state, lcm_state, wanted, cpu, memory, request, body, stime)"
                " VALUES (?, ?, ?, ?, 0, 'RUNNING', 1, 128, '{}', '{}', 0)",
                (number, f"web-{number}", str(number), state),
            )
    with pytest.raises(InUse, match="web-1") as caught:
        frontends.absent(params(tmp_path), check_mode=False)
    assert "web-0" not in str(caught.value)
    # In check mode an earlier task has only foreseen their end.
    (warning,) = frontends.absent(params(tmp_path), check_mode=True).warnings
    assert "web-1" in warning and "taken as ended in check mode" in warning


@pytest.mark.parametrize(
    ("local", "container", "kind", "allowed", "refused"),
    [
        (True, True, "overlay", False, True),
        (True, True, "tmpfs", False, True),
        (True, True, "overlay", True, False),
        (True, True, "ext4", False, False),
        (True, False, "overlay", False, False),
        (False, True, "overlay", False, False),
    ],
)
def test_a_place_that_ends_with_the_job(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    local: bool,
    container: bool,
    kind: str,
    allowed: bool,
    refused: bool,
) -> None:
    monkeypatch.setattr(mounts, "in_container", lambda: container)
    monkeypatch.setattr(mounts, "file_system", lambda _path: ("/", kind))
    wanted = params(tmp_path / "nebula", local=local, allow_ephemeral=allowed)
    if not refused:
        assert frontends.present(wanted, check_mode=False).changed
        return
    with pytest.raises(InvalidValue, match="nebula_allow_ephemeral"):
        frontends.present(wanted, check_mode=True)
