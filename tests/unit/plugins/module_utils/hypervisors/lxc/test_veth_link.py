# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file for udev: written once, taken back, and left alone if it is somebody else's. The stock host has what it is
for (tests/integration/test_stock_containers.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject
from ansible_collections.nebula.provision.plugins.module_utils.host.node_file import Changes
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc import veth_link


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = tmp_path / "network" / veth_link.PATH.name
    found.parent.mkdir()
    monkeypatch.setattr(veth_link, "PATH", found)
    return found


def prepared(check_mode: bool = False) -> list[str]:
    changes = Changes(check_mode)
    veth_link.prepare(changes)
    return list(changes.after)


def test_it_is_written_once_and_taken_back(path: Path) -> None:
    assert prepared(check_mode=True) == [str(path)] and not path.exists()
    assert prepared() == [str(path)] and path.stat().st_mode & 0o777 == 0o644
    assert prepared() == []
    path.write_text(f"{veth_link.MARK}\n[Match]\n", encoding="utf-8")
    assert prepared() == [str(path)] and path.read_text(encoding="utf-8") == veth_link.TEXT
    assert veth_link.give_back(Changes(True)) and path.exists()
    assert veth_link.give_back(Changes(False)) and not path.exists()
    assert not veth_link.give_back(Changes(False))


def test_somebody_elses_stays(path: Path) -> None:
    path.write_text("[Match]\n", encoding="utf-8")
    with pytest.raises(ForeignObject, match="not ours"):
        veth_link.prepare(Changes(False))
    assert not veth_link.give_back(Changes(False)) and path.read_text(encoding="utf-8") == "[Match]\n"


def test_where_no_systemd_is_nothing_is_written(path: Path) -> None:
    path.parent.rmdir()
    assert prepared() == [] and not path.parent.exists()
