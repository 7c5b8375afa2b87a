# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds and removes images and templates that are there for an installation alone, which an attribute marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..engines.base import Engine
from ..errors import Conflict, NotFound
from ..model import installation_marks
from ..model.image import Image
from ..model.template import StoredTemplate, Template
from ..reconcile import templates
from ..reconcile.images import image_list_decision
from . import next_step
from .installation import Work
from .next_step import machine_name, media_name, trial_name


def apply_images(engine: Engine, items: Sequence[Mapping[str, Any]]) -> None:
    """Carry out items of images. Raise the error of the first that fails."""
    done, _warnings = image_list_decision.apply(engine, items, image_list_decision.Settings())
    for item in done:
        if item.error is not None:
            raise item.error


def remove_images(engine: Engine, names: Sequence[str]) -> bool:
    """Remove the images of these names, and return whether there were any."""
    there = {image.name for image in engine.images.pool()}
    gone = [{"name": name, "state": "absent"} for name in names if name in there]
    if gone:
        apply_images(engine, gone)
    return bool(gone)


def media_of(engine: Engine, install: str) -> list[str]:
    """Return the names of the images that are there for this installation alone."""
    names = [media_name(install, what) for what in next_step.MEDIA]
    ours = [image.name for image in engine.images.pool() if image.attributes.get(installation_marks.MARK) == install]
    return [name for name in names if name in ours]


def templates_of(engine: Engine, image: str, trial: bool = True) -> list[StoredTemplate]:
    """Return the templates of the installation's machine, and of the machine that tries the image."""
    pairs = [(machine_name(image), installation_marks.MARK), (trial_name(image), installation_marks.TRIES)]
    marks = dict(pairs if trial else pairs[:1])
    pool = [stored for stored in engine.templates.pool() if stored.name in marks]
    return [stored for stored in pool if stored.template.get(marks[stored.name]) == image]


def remove_templates(engine: Engine, image: str, trial: bool = True) -> bool:
    """Remove what templates_of() finds, and return whether there were any."""
    with engine.session():
        ours = templates_of(engine, image, trial)
        for stored in ours:
            engine.templates.delete(stored.name if stored.id is None else stored.id)
    return bool(ours)


def store_template(engine: Engine, work: Work, template: Template, mark: str) -> str:
    """Store the template of one of the installation's machines, by its mark, and return its name."""
    name = machine_name(work.name) if mark == installation_marks.MARK else trial_name(work.name)
    refuse_template(engine, name, mark, work.name)
    done, warnings = templates.apply_all(engine, [{"name": name, "template": template.to_mapping()}])
    for item in done:
        if item.error is not None:
            raise item.error
    work.warnings += warnings
    return name


def refuse_template(engine: Engine, name: str, mark: str, image: str) -> None:
    """Raise Conflict where a template of this name is not the installation's."""
    for stored in engine.templates.pool():
        if stored.name == name and stored.template.get(mark) != image:
            raise Conflict(
                f"install {image}: template {name}",
                "there is one of that name that has nothing to do with it",
                "Rename that template, or the image",
            )


def id_of(image: Image | None) -> int:
    """Return the image's id. Raise NotFound where it has gone meanwhile."""
    if image is None or image.id is None:
        raise NotFound("the image that is installed", "it is not there", "Run again")
    return image.id
