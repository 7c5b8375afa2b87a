# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a journal may say. tests/integration/test_backup_chains.py ends merges at each step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import CatalogError
from ansible_collections.nebula.provision.plugins.module_utils.storage import backup_merging

CATALOG = "0a6f3c22-91c3-4d3f-8b58-0d1f0e2ac001"


def test_without_a_journal_nothing_is_done(tmp_path: Path) -> None:
    assert not backup_merging.is_pending(str(tmp_path))
    assert backup_merging.read(str(tmp_path), 7, CATALOG) is None
    backup_merging.finish(str(tmp_path), 7, CATALOG, lambda manifest, _known: manifest, "", CATALOG)


@pytest.mark.parametrize("data", [[], {}, {"format": 1}, {"expired": [], "into": 1}, "x", {"expired": {}, "into": {}}])
def test_a_journal_of_somebody_is_refused(data: object, tmp_path: Path) -> None:
    (tmp_path / backup_merging.JOURNAL).write_text(json.dumps(data))
    assert backup_merging.is_pending(str(tmp_path))
    with pytest.raises(CatalogError, match="journal"):
        backup_merging.read(str(tmp_path), 7, CATALOG)
