# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks for all that an installation needs before anything is made: names, host, drivers, templates, ISO, room."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..engines.base import Engine
from ..engines.hypervisors_of_hosts import hypervisors_of
from ..errors import Conflict, ImageRefused, InvalidValue, NotFound, WrongState
from ..model import installation_marks
from ..model.datastore import default_datastore
from ..model.image import Image
from ..model.instantiate.demands import demands
from ..model.instantiate.validate import validate
from ..model.object_ids import id_of
from ..model.object_names import did_you_mean, nearest_word
from ..model.states import ImageState, ImageType
from ..reconcile.images.image_decision import UNFINISHED
from ..storage import datastore_layout
from . import answer_files, next_step
from . import installer_iso as installer_media
from .install_item import Spec, check_media
from .installation import Outcome, Settings, Work
from .installer_iso import Facts
from .next_step import Media, machine_name, media_name, trial_name
from .own_images_and_templates import refuse_template


def refuse_taken(engine: Engine, spec: Spec) -> None:
    """Raise Conflict where something else has a name that the installation will take."""
    refuse_template(engine, machine_name(spec.name), installation_marks.MARK, spec.name)
    refuse_template(engine, trial_name(spec.name), installation_marks.TRIES, spec.name)
    names = [media_name(spec.name, what) for what in next_step.MEDIA]
    for image in engine.images.pool():
        if image.name in names and image.attributes.get(installation_marks.MARK) != spec.name:
            raise Conflict(
                f"{spec.where}: image {image.name}",
                f"there is one of that name (id {image.id}) that has nothing to do with it",
                "Rename that image, or install under another name",
            )


def check_answers(spec: Spec, settings: Settings, needed: bool) -> str:
    """Return the rendered answers. needed: whether they have to be there."""
    if spec.kind is None:
        return ""
    text = settings.answers.get(spec.name)
    if isinstance(text, Mapping):
        raise InvalidValue(f"{spec.where}: answers", str(text.get("error")), "Correct them, or the file that they are")
    if needed and not text:
        raise NotFound(f"{spec.where}: answers", "they were not rendered", "Run this by role install_os")
    return str(text or "")


def check_host(engine: Engine, spec: Spec) -> None:
    """Raise NotFound where the item names a host that the catalog does not have."""
    names = [host.name for host in engine.hosts.pool()]
    if spec.host and spec.host not in names:
        near = nearest_word(spec.host, names)
        raise NotFound(
            f"{spec.where}: host {spec.host}",
            "there is no such host",
            did_you_mean(near) + "See nebula_info for the hosts that there are",
        )


def check_drivers(engine: Engine, spec: Spec) -> None:
    """Raise NotFound or ImageRefused where the item names drivers that are no stored CDROM."""
    if not spec.drivers:
        return
    known = next((image for image in engine.images.pool() if image.name == spec.drivers), None)
    if known is None:
        raise NotFound(f"{spec.where}: drivers {spec.drivers}", "there is no such image", "Store it first")
    refuse_no_cd(f"{spec.where}: drivers {spec.drivers}", known)


def check_templates(engine: Engine, work: Work, spec: Spec, settings: Settings) -> None:
    """Check the templates of which machines will be made, as far as that is possible before there are answers."""
    own = f"{spec.where}: template"
    made = [next_step.template(spec.shape, _foreseen(spec), spec.own)]
    made += [next_step.trial(spec.shape, spec.own)] if spec.verify else []
    warnings = [text for template in made for text in validate(template, False, own, hypervisors_of(engine.hosts))]
    for index, nic in enumerate(demands(made[0], own).nics):
        try:
            engine.networks.info(nic.network)
        except NotFound as error:
            if not settings.check_mode:
                error.asked = f"{own}: NIC {index}: {error.asked}"
                raise
            # Role network may be about to make it.
            warnings.append(f"NIC {index}: there is no {error.asked} yet, which is taken as given in check mode")
    if settings.check_mode:
        # Otherwise said when they are stored.
        work.warnings += [f"{own}: {text}" for text in dict.fromkeys(warnings)]


def _foreseen(spec: Spec) -> Media:
    """Return the media that make_media() will make."""
    names = {what: media_name(spec.name, what) for what in next_step.MEDIA}
    boots = spec.boot == answer_files.FROM_KERNEL
    return Media(
        kernel=names["kernel"] if boots else "",
        initrd=names["initrd"] if boots else "",
        command=spec.kernel_cmd,
        answers=names["answers"] if spec.way == answer_files.ISO else "",
        drivers=spec.drivers,
        floppy=f"/{names['floppy']}" if spec.way == answer_files.FLOPPY else "",
    )


def refuse_no_cd(asked: str, image: Image) -> None:
    if image.type != ImageType.CDROM:
        raise ImageRefused(asked, f"that image is of type {image.type.name}", "Name one of type CDROM")
    if image.state == ImageState.DISABLED:
        raise WrongState(asked, "it is DISABLED", "Enable it: nebula_image with state: enabled")
    if image.state in UNFINISHED:
        found = f"it is in state {image.state.name}" + (f" ({image.error})" if image.error else "")
        raise WrongState(asked, found, "Store it again: nebula_image with its path")


def check_iso(engine: Engine, work: Work, spec: Spec, settings: Settings, outcome: Outcome) -> None:
    """Check what can be seen of the ISO before it is there, and add the item that brings it."""
    iso = spec.iso
    known = next((image for image in engine.images.pool() if image.name == iso.image), None)
    if known is not None and known.state not in UNFINISHED:
        refuse_no_cd(f"{spec.where}: iso {iso.image}", known)
        iso.refuse_other(spec.where, known)
        check_kernel(spec, known.source, installer_media.read_facts(known.source, f"{spec.where}: iso {iso.image}"))
        _check_room(engine, work, spec, 0, outcome)
        return
    if not iso.path:
        if known is not None:
            refuse_no_cd(f"{spec.where}: iso {iso.image}", known)
        raise NotFound(f"{spec.where}: iso {iso.image}", "there is no such image", "Store it first, or give its path")
    local = settings.local.get(spec.name, {})
    if local.get("problem"):
        raise ImageRefused(f"{spec.where}: iso {iso.origin}", str(local["problem"]), str(local.get("remedy") or ""))
    if not iso.remote and "/" in iso.path and "://" not in iso.path and not local.get("facts"):
        raise NotFound(
            f"{spec.where}: iso {iso.origin}",
            str(local.get("lost") or "it is not on the control node"),
            "Give another path, or say where it is: iso: {path: …, remote_src: true}",
        )
    if local.get("facts"):
        check_media(spec, Facts(**local["facts"]))
    elif iso.remote and os.path.isfile(iso.path):
        what = f"{spec.where}: iso {iso.origin}"
        check_kernel(spec, iso.path, installer_media.read_facts(iso.path, what))
    item = iso.item(spec.name)
    other = next((each for each in outcome.isos if each["name"] == iso.image), None)
    if other is None:
        size = os.path.getsize(iso.path) if iso.remote and os.path.isfile(iso.path) else int(local.get("size") or 0)
        _check_room(engine, work, spec, size, outcome)
        outcome.isos.append(item)
        return
    _refuse_other_item(spec, item, other)
    _check_room(engine, work, spec, 0, outcome)


def _refuse_other_item(spec: Spec, item: Mapping[str, Any], other: dict[str, Any]) -> None:
    """Raise Conflict where another installation of the list has another ISO under the same name."""
    for key in ("path", "remote_src", "checksum"):
        if item.get(key, other.get(key)) != other.get(key, item.get(key)):
            raise Conflict(
                f"{spec.where}: iso {spec.iso.image}",
                f"install {other['install']} has one of that name with {key} {other[key]}, and this has {item[key]}",
                "Give one of them another name: iso: {path: …, image: …}",
            )
    if "checksum" in item:
        other["checksum"] = item["checksum"]


def _check_room(engine: Engine, work: Work, spec: Spec, iso: int, outcome: Outcome) -> None:
    """Raise NoSpace unless disk and ISO (in bytes) fit, besides those of the installations before."""
    place = engine.datastores.info(default_datastore(ImageType.DATABLOCK))
    if not place.capacity_check:
        return
    directory = datastore_layout.image_directory(outcome.root, id_of(place))
    while not os.path.isdir(directory) and os.path.dirname(directory) != directory:
        directory = os.path.dirname(directory)
    before = outcome.room.get(directory, 0)
    # What is there of it already goes, or is what is written to.
    has = os.stat(work.image.source).st_blocks * 512 if work.image and os.path.exists(work.image.source) else 0
    needed = before + max(0, spec.size * datastore_layout.MIB + iso - has)
    what = f"{spec.where}: size {spec.size}" + (", and those before it in the list" if before else "")
    datastore_layout.require_space(directory, needed, f"{what}: in datastore {place.name}")
    outcome.room[directory] = needed


def check_kernel(spec: Spec, path: str, facts: Facts) -> None:
    """Refuse an ISO that does not contain the item's installer."""
    check_media(spec, facts)
    if spec.boot == answer_files.FROM_KERNEL:
        kernel_places(spec, path)


def kernel_places(spec: Spec, path: str) -> tuple[installer_media.Place, ...]:
    """Return where kernel and initrd are in the ISO."""
    what = f"{spec.where}: iso {spec.iso.image}"
    candidates = [(spec.kernel, spec.initrd)] if spec.kernel else list(spec.kind.kernels if spec.kind else ())
    if not candidates:
        raise InvalidValue(
            f"{spec.where}: boot kernel", "it is not known which kernel of the ISO that is", "Give kernel and initrd"
        )
    found = installer_media.find(path, candidates, what)
    if found is not None:
        return found
    others = [
        kind.title
        for kind in answer_files.KINDS.values()
        if kind is not spec.kind and kind.kernels and installer_media.find(path, kind.kernels, what)
    ]
    raise ImageRefused(
        what,
        "it has no installer's kernel at " + " or ".join(" and ".join(pair) for pair in candidates),
        f"It looks like an installer that takes {others[0]}: give answers of that kind"
        if others and not spec.kernel
        else "Give kernel and initrd as they are called in the ISO, or answers of a kind that its installer takes",
    )
