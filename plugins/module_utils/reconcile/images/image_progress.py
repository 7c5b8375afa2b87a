# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds an item of a list of images while it is worked on, and shows images."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

from ...dataclass import dataclass
from ...engines.base import Engine
from ...errors import NebulaError, NotFound
from ...host import files
from ...host.restricted_directories import Rules
from ...model import defaults
from ...model.image import Image
from ...model.object_ids import id_of
from ...sync import Item
from .image_item import Spec


@dataclass(frozen=True)
class Settings:
    """Holds what is the same for all items of a run.
    uploads: name of an image → its uploaded file
    lost: name of an image → what is wrong with its file on the control node
    wait_timeout: seconds that another run may still take for the same image
    stall: seconds without a byte
    min_speed: KiB a second of a download
    max_size: MiB
    rules: which files of the front-end may be stored; None for all
    declared: in check mode, what earlier tasks of this run would have made, and as paths files of the front-end;
    None if nobody says so, and any file may come"""

    check_mode: bool = False
    uploads: Mapping[str, str] = field(default_factory=dict)
    lost: Mapping[str, str] = field(default_factory=dict)
    wait_timeout: float = defaults.IMAGE_WAIT_SECONDS
    stall: float = defaults.DOWNLOAD_STALL_SECONDS
    min_speed: int = defaults.DOWNLOAD_MIN_KIB_PER_SECOND
    max_size: int = defaults.IMAGE_MAX_SIZE
    validate_certs: bool = True
    say: Callable[[str], None] | None = None
    rules: Rules | None = None
    declared: Mapping[str, Any] | None = None

    def may_bring(self, path: str) -> bool:
        """Return whether an earlier task of this run may make the file, which check mode does not see."""
        if not self.check_mode or self.declared is None:
            return self.check_mode
        return os.path.normpath(path) in {os.path.normpath(str(each)) for each in self.declared.get("paths") or ()}


@dataclass
class Work:
    """Holds an item while it is worked on.
    todo: what is left to do outside the transaction: "", store, rework, recover or remove; after all but the last
    the item is looked at again, until nothing is left
    source: the item whose image this image is to be made of, if that item has something left to do first"""

    item: Item
    spec: Spec | None = None
    image: Image | None = None
    todo: str = ""
    # rewrite.Rework; that file imports this one.
    rework: Any = None
    source: Work | None = None
    # The image whose file gets another mode once the transaction is committed.
    protect: Image | None = None
    warnings: list[str] = field(default_factory=list)

    def became(
        self, name: str, after: Mapping[str, Any] | None, changed: bool, error: NebulaError | None = None
    ) -> None:
        """Note what the item has come to. It stays changed if it was changed before."""
        changed = changed or self.item.is_changed
        self.item = Item(name, self.item.before, after, error, changed=changed)


def current_image(engine: Engine, image: Image) -> Image | None:
    """Return the image as it is now; None if it was removed, or if a restored catalog has another image with its id."""
    try:
        now = engine.images.info(id_of(image))
    except NotFound:
        return None
    return now if now.uuid == image.uuid else None


def error_of(caught: Exception, spec: Spec | None, image: Image) -> NebulaError:
    """Return an error about an image's file, which names the image."""
    problem = files.explain(caught, image.source) if isinstance(caught, OSError) else caught
    if not isinstance(problem, NebulaError):
        raise problem
    name = spec.name if spec is not None else image.name
    if f"image {name}" not in problem.asked:
        problem.asked = f"image {name}: {problem.asked}"
    return problem
