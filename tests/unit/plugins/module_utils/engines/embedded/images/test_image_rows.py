# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images as they are in the catalog."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageType


def test_everything_is_kept(images):
    image = images.allocate(
        Image(
            id=None, name="a", type=ImageType.DATABLOCK, persistent=True, format="qcow2", size=5,
            sha256="x", checksums={"md5": "y", "sha256": "x"}, origin="z", dev_prefix="vd", target="vdb",
            description="d", attributes={"A": "1", "Ü": "ö"},
        )
    )  # fmt: skip
    assert images.info("a") == images.info(image.id) == images.info("0") == images.pool()[0] == image
    assert image.checksum == "md5:y sha256:x"
    assert (image.attributes, image.persistent, image.type) == ({"A": "1", "Ü": "ö"}, True, ImageType.DATABLOCK)
