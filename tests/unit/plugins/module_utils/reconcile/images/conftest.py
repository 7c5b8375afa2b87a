# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of lists of images share: a catalog, and a list that is applied to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from image_lists import CONTENT

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.host import files
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import image_list_decision
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images.image_list_decision import Settings
from ansible_collections.nebula.provision.plugins.module_utils.storage import datastore_layout
from ansible_collections.nebula.provision.plugins.module_utils.sync import Item

Apply = Callable[..., dict[str, Item]]


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files get their modes, and stay whose they are: only root can give them away."""
    monkeypatch.setattr(datastore_layout, "adopt", lambda path, mode, *_owner: files.adopt(path, mode))


@pytest.fixture
def engine(tmp_path: Path, own: None) -> Iterator[EmbeddedEngine]:
    (tmp_path / "nebula").mkdir()
    found = EmbeddedEngine(str(tmp_path / "nebula"), create=True)
    yield found
    found.close()


@pytest.fixture
def warnings() -> list[str]:
    """What the runs of a test warned of."""
    return []


@pytest.fixture
def apply(engine: EmbeddedEngine, warnings: list[str]) -> Apply:
    def run(*items: Mapping[str, Any], check: bool = False, **options: Any) -> dict[str, Item]:
        used = EmbeddedEngine(engine.store.root, check_mode=True) if check else engine
        done, said = image_list_decision.apply(used, items, Settings(check_mode=check, **options))
        if check:
            used.close()
        warnings.extend(said)
        return {item.name: item for item in done}

    return run


@pytest.fixture
def kernel(tmp_path: Path) -> dict[str, Any]:
    """An item with a file that is not looked into."""
    path = tmp_path / "vmlinuz"
    path.write_bytes(CONTENT)
    return {"name": "demo", "type": "KERNEL", "path": str(path), "remote_src": True}
