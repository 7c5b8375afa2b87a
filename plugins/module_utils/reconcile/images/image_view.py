# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows images as results do."""

from __future__ import annotations

import json
from typing import Any

from ...model.image import Image
from ...model.specifications.image import SHOWN


def image_view(image: Image) -> dict[str, Any]:
    """Return an image as results show it."""
    shown: dict[str, Any] = {name: getattr(image, name) for name in SHOWN}
    return {
        **shown,
        "type": image.type.name,
        "state": image.state.name,
        "attributes": dict(image.attributes),
        "snapshots": len(json.loads(image.snapshots)) if image.snapshots else 0,
        "operation": image.operation.do if image.operation is not None else "",
    }
