# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says which files of images are to be sent to nodes, and whether any is to be fetched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .dataclass_json import to_plain
from .image import Image
from .image_operations import returning_host
from .plan import Observed, Plan
from .transfer import SENT, SHARED, is_outdated


def images_to_send(plans: Mapping[str, Plan], observed: Sequence[Observed]) -> dict[str, Any]:
    """Return by host what the machines of its plan need and it does not have, and the MiB that it has room for."""
    by_host = {node.host: node for node in observed}
    found = {}
    for host, plan in plans.items():
        if plan.transfer == SHARED or host not in by_host or not by_host[host].reached:
            continue
        there = set(by_host[host].images)
        images = [image for image in plan.images if image.kind in SENT and image.local not in there]
        if images:
            found[host] = {"images": to_plain(images), "room": by_host[host].room}
    return found


def has_images_to_fetch(images: Sequence[Image], observed: Sequence[Observed] = ()) -> bool:
    generations = generations_of(images)
    past = (name for node in observed for name in node.returns if is_outdated(name, generations))
    return any(returning_host(image.operation) for image in images) or any(past)


def generations_of(images: Sequence[Image]) -> dict[str, int]:
    return {image.uuid: image.generation for image in images}
