# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides one item of a list of images by the state of its image: the image is stored, changed, renamed, recovered,
removed, or refused. All of it is called within a session of the engine, and copies no file."""

from __future__ import annotations

import os

from ...engines.base import Engine, named
from ...errors import Conflict, NotFound, WrongState
from ...model.image import Image, refuse_unfinished
from ...model.image_operations import Clone, Rewrite, Save, returning_host
from ...model.object_ids import id_of
from ...model.states import ImageState
from ...model.template import Template
from . import image_removal, rewrite
from .change import change
from .image_item import Spec
from .image_progress import Settings, Work
from .image_view import image_view
from .register import register

# States of an image without content, or with content that is not to be trusted.
UNFINISHED = (ImageState.INIT, ImageState.LOCKED, ImageState.ERROR, ImageState.DELETE)


def lacks_content(image: Image) -> bool:
    """Return whether the image is to be stored anew. What an operation or an installation left is not thrown away."""
    changed = image.operation is not None and not isinstance(image.operation, Clone)
    return image.state in UNFINISHED and not changed and not image.unfinished


def decide_item(engine: Engine, work: Work, spec: Spec, settings: Settings) -> None:
    """Do what can be done at once, and say in work.todo what of the rest is to be done first."""
    image = named(engine.images.info, spec.name)
    if image is not None and image.state == ImageState.DELETE and spec.state != "absent":
        # A killed run began to remove it: the new image is another one.
        engine.images.delete(id_of(image))
        if not settings.check_mode:
            image_removal.remove_files(image)
            image_removal.remove_half_made(image)
        image = None
    # Later looks leave what the first look found.
    first = work.item.before is None and not work.item.is_changed
    if first and image is not None:
        work.item.before = image_view(image)
    if spec.renamed_from:
        image = _rename(engine, work, spec, image)
    if spec.state == "absent":
        _decide_absent(engine, work, spec, image)
        return
    if image is not None and image.state == ImageState.LOCKED and returning_host(image.operation):
        raise WrongState(
            f"image {spec.name}",
            f"what was saved as it is on host {returning_host(image.operation)}, and has not come back yet",
            "Run playbook nebula.provision.site once that host answers: it fetches that",
        )
    if image is not None and image.state == ImageState.LOCKED and isinstance(image.operation, Rewrite):
        work.image = image
        if not settings.check_mode:
            work.todo = "recover"
            return
        image = rewrite.recovered_view(engine, image)
        work.became(spec.name, image_view(image), changed=True)
    if image is None or (lacks_content(image) and spec.has_content and not _is_enabled_instead(spec, image)):
        register(engine, work, spec, image, settings)
        return
    if image.state == ImageState.LOCKED and isinstance(image.operation, Save):
        raise WrongState(
            f"image {spec.name}",
            f"a machine's disk is being saved as it ({image.origin})",
            "Deploy that machine, which finishes it, or choose another name",
        )
    if image.state == ImageState.LOCKED and image.operation is not None and not lacks_content(image):
        raise WrongState(
            f"image {spec.name}",
            f"it is LOCKED: its content is being changed ({image.operation.do}), or that was interrupted",
            f"Wait for that run; if there is none, run nebula_image_{image.operation.do} for it again",
        )
    if image.state in (ImageState.INIT, ImageState.LOCKED):
        raise WrongState(
            f"image {spec.name}",
            f"it is in state {image.state.name}: another run is storing it, or was killed",
            "Give its path (or size, clone_of or from) to store it again",
        )
    change(engine, work, spec, image, settings)


def _is_enabled_instead(spec: Spec, image: Image) -> bool:
    """Return whether an image in ERROR is to be taken as it is, rather than stored anew."""
    return (
        spec.state == "enabled" and image.state == ImageState.ERROR and image.size > 0 and os.path.isfile(image.source)
    )


def _decide_absent(engine: Engine, work: Work, spec: Spec, image: Image | None) -> None:
    if image is None:
        return
    if image.state == ImageState.CLONE:
        raise WrongState(
            f"image {spec.name}: state absent",
            "it is being cloned, or that was interrupted",
            "Wait for that run; if there is none, run nebula_image for the clone again, or remove the clone",
        )
    engine.images.update(id_of(image), state=ImageState.DELETE)
    work.image, work.todo = image, "remove"
    work.became(spec.name, None, changed=True)


def _rename(engine: Engine, work: Work, spec: Spec, image: Image | None) -> Image | None:
    """Return the image under its new name, None if no image has either name or if the item ends it."""
    old = named(engine.images.info, spec.renamed_from)
    if image is not None:
        if old is not None and spec.renamed_from not in image.notes.get("was", ()):
            raise Conflict(
                f"image {spec.name}: renamed_from {spec.renamed_from}",
                f"id {image.id} has the name {spec.name}, and {spec.renamed_from} (id {old.id}) is there too",
                "Choose another name, or remove one of the two",
            )
        return image
    if old is None:
        if spec.has_content:
            return None
        raise NotFound(
            f"image {spec.name}: renamed_from {spec.renamed_from}",
            "there is no image of either name",
            "Check the names, or say what it is to be made of (path, size, clone_of or from)",
        )
    if spec.state == "absent":
        # The item ends the image that has the name now.
        return None
    # Machine, template and installations know the image by its name: it would be installed a second time.
    refuse_unfinished(f"image {spec.name}: renamed_from {old.name}", old)
    work.item.before = image_view(old)
    naming = [stored.name for stored in engine.templates.pool() if _names_image(stored.template, old.name)]
    if naming:
        work.warnings.append(
            f"image {old.name} is {spec.name} from now on; templates that still name the old one: {', '.join(naming)}"
        )
    notes = {**old.notes, "was": [*old.notes.get("was", ()), old.name]}
    renamed = engine.images.update(id_of(old), name=spec.name, notes=notes)
    work.became(spec.name, image_view(renamed), changed=True)
    return renamed


def _names_image(template: Template, name: str) -> bool:
    return any(disk.get("IMAGE") == name for disk in template.vectors("DISK"))
