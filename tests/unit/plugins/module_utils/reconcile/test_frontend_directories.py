# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left of a catalog that is gone goes, and nothing of anybody else."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.module_utils.reconcile.frontend_directories import remove_directories
from ansible_collections.nebula.provision.plugins.module_utils.storage.datastore_layout import (
    IMAGES,
    image_directory,
    prepare_directories,
)


def test_directories_go_with_the_root(tmp_path):
    root = tmp_path / "nebula"
    prepare_directories(str(root), IMAGES)
    remove_directories({"root": str(root)})
    assert not root.exists()
    # Nothing is left to remove.
    remove_directories({"root": str(root)})


def test_what_somebody_put_there_stays(tmp_path):
    root = tmp_path / "nebula"
    prepare_directories(str(root), IMAGES)
    kept = tmp_path / image_directory(str(root), IMAGES) / "notes"
    kept.write_text("mine")
    remove_directories({"root": str(root)})
    assert kept.read_text() == "mine"
