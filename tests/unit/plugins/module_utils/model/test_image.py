# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When an image may be read by its host, and what is refused while an installation writes into it."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import WrongState
from ansible_collections.nebula.provision.plugins.module_utils.model.image import NOT_FINISHED, Image, refuse_unfinished
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType


def test_a_new_image_is_a_locked_os_image_of_the_default_datastore_that_nobody_shares() -> None:
    image = Image(None, "debian")
    assert (image.type, image.state, image.persistent) == (ImageType.OS, ImageState.LOCKED, False)
    assert (image.datastore_id, image.generation, image.vms) == (1, 0, 0)


@pytest.mark.parametrize(
    ("more", "trusted"),
    [
        ({}, False),
        ({"attributes": {"TRUSTED": "YES"}}, True),
        ({"attributes": {"TRUSTED": "on"}}, True),
        ({"attributes": {"TRUSTED": "NO"}}, False),
        ({"attributes": {"TRUSTED": ""}}, False),
        ({"notes": {"trusted": 0}}, False),
        ({"attributes": {"TRUSTED": "YES"}, "notes": {"trusted": 2}, "generation": 2}, True),
        # A guest wrote into it since that was said.
        ({"attributes": {"TRUSTED": "YES"}, "notes": {"trusted": 1}, "generation": 2}, False),
        ({"attributes": {"TRUSTED": "YES"}, "generation": 1}, False),
        ({"attributes": {"TRUSTED": "YES"}, "notes": {"trusted": 3}, "generation": 2}, False),
    ],
)
def test_an_image_is_trusted_for_the_content_of_which_that_was_said(more: dict[str, Any], trusted: bool) -> None:
    assert Image(1, "debian", **more).is_trusted is trusted


def test_an_image_that_is_being_installed_is_refused_with_its_step_and_the_way_out() -> None:
    with pytest.raises(WrongState) as caught:
        refuse_unfinished("image debian: rename", Image(1, "debian", unfinished="reboot 1"))
    error = caught.value
    assert error.asked == "image debian: rename"
    assert error.found == f"it is being installed: {NOT_FINISHED} (it is at: reboot 1)"
    assert "state: absent" in error.remedy and "nebula_installs" in error.remedy


def test_an_image_that_is_done_is_not_refused() -> None:
    refuse_unfinished("image debian: rename", Image(1, "debian"))
