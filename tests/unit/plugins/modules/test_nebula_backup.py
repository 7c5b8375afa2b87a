# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a real catalog: it writes a backup of it, or foresees one."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NotFound
from ansible_collections.nebula.provision.plugins.modules import nebula_backup


@pytest.fixture
def module(main, tmp_path):
    def run(root, check=False, **given):
        return main(nebula_backup, check, root=root, directory=str(tmp_path / "backups"), **given)

    return run


def test_each_run_writes_a_backup_and_check_mode_none(module, furnished, tmp_path):
    assert module(furnished, check=True).changed
    assert not (tmp_path / "backups").exists()
    shown = module(furnished).payload["backup"]
    assert Path(shown["path"]).is_file() and Path(shown["manifest"]).is_file()
    assert (shown["machines"], shown["images"], shown["copied_images"]) == (0, 1, 0)


def test_what_is_missing_and_what_cannot_be_meant(module, furnished, tmp_path, options):
    with pytest.raises(NotFound, match=r"nebula\.provision\.restore"):
        module(str(tmp_path / "none"))
    with pytest.raises(InvalidValue, match="keep -1"):
        module(furnished, keep=-1)
