# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removing the files of an image: all that it has, and nothing that somebody holds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.host import files
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import image_removal
from ansible_collections.nebula.provision.plugins.module_utils.storage import final_names, image_files


@pytest.fixture
def image(tmp_path: Path) -> Image:
    (tmp_path / "images").mkdir()
    source = tmp_path / "images/demo"
    source.write_bytes(b"a kernel")
    return Image(0, "demo", source=str(source), format="raw")


def test_only_what_nobody_is_at_is_tidied_up(image: Image) -> None:
    new = Path(image.source + final_names.NEW)
    new.write_bytes(b"half")
    # Without the file by which it is held nobody was killed.
    image_removal.remove_half_made(image)
    assert new.exists()
    with files.lock(image.source + final_names.PART, 0):
        image_removal.remove_half_made(image)
        assert new.exists()
    image_removal.remove_half_made(image)
    assert os.listdir(os.path.dirname(image.source)) == ["demo"]


def test_all_files_of_an_image_go_and_no_others(image: Image) -> None:
    for end in (final_names.NEW + ".raw", image_files.WORK):
        Path(image.source + end).write_bytes(b"half")
    mine = Path(image.source).with_name("demo2")
    mine.write_bytes(b"another's")
    for _again in range(2):
        image_removal.remove_files(image)
        assert os.listdir(mine.parent) == ["demo2"]
