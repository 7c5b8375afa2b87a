# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an installation needs is looked for first. What a whole installation makes of it: test_steps_life.py."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, ImageRefused, WrongState
from ansible_collections.nebula.provision.plugins.module_utils.install.install_item import Iso, Spec
from ansible_collections.nebula.provision.plugins.module_utils.install.preflight import _refuse_other_item, refuse_no_cd
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType


def test_an_iso_is_a_cdrom_that_can_be_used() -> None:
    refuse_no_cd("iso a", Image(1, "a", type=ImageType.CDROM, state=ImageState.READY))
    with pytest.raises(ImageRefused, match="of type OS"):
        refuse_no_cd("iso a", Image(1, "a", state=ImageState.READY))
    with pytest.raises(WrongState, match="DISABLED"):
        refuse_no_cd("iso a", Image(1, "a", type=ImageType.CDROM, state=ImageState.DISABLED))


def test_two_installations_have_one_iso_by_the_same_path() -> None:
    spec, other = Spec("b", "present", Iso("iso")), {"install": "a", "path": "/x.iso"}
    _refuse_other_item(spec, {"path": "/x.iso", "checksum": "sha256:1"}, other)
    assert other["checksum"] == "sha256:1"
    with pytest.raises(Conflict, match=r"install a has one of that name with path /x\.iso"):
        _refuse_other_item(spec, {"path": "/y.iso"}, other)
