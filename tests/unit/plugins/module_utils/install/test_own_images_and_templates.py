# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An installation's image may be gone. What a whole installation makes of it: test_steps_life.py."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import NotFound
from ansible_collections.nebula.provision.plugins.module_utils.install.own_images_and_templates import id_of
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image


@pytest.mark.parametrize("image", [None, Image(None, "debian")])
def test_an_image_without_id_is_not_there(image: Image | None) -> None:
    with pytest.raises(NotFound, match="Run again"):
        id_of(image)


def test_id_0_is_one() -> None:
    assert id_of(Image(0, "debian")) == 0
