# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Registers an image that is to be stored in the catalog: from a file, empty, or as a copy of another image. All of it
is called within a session of the engine; what can be seen of a source at no cost is looked at before."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ...dataclass import replace
from ...engines.base import Engine, named
from ...errors import Conflict, ImageRefused, InvalidValue, MissingDependency, NebulaError, NotFound, WrongState
from ...guest_disk.customize import recipes
from ...host.urls import is_url, without_secrets
from ...model.datastore import default_datastore, type_for
from ...model.disk import TAR
from ...model.image import Image
from ...model.image_operations import Clone
from ...model.installation_marks import OF_ONE
from ...model.object_ids import id_of
from ...model.states import ImageState, ImageType
from ...storage import disk_formats, importer
from ...storage.datastore_layout import MIB
from ...storage.importer import Request
from . import image_files_stored, image_removal
from .image_files_stored import inspect_again
from .image_item import DISKS, WRITABLE, Spec, refuse_of_roots, refuse_unused_passphrase
from .image_progress import Settings, Work
from .image_view import image_view


def register(engine: Engine, work: Work, spec: Spec, image: Image | None, settings: Settings) -> None:
    if not spec.has_content:
        raise InvalidValue(
            f"image {spec.name}",
            "there is none of that name, and no content is given",
            "Give path or size, or clone_of or from: another image",
        )
    if spec.clone_of or spec.base:
        _register_copy(engine, work, spec, image, settings)
        return
    refuse_unused_passphrase(f"image {spec.name}", spec, "")
    wanted = _new_image(engine, work, spec, settings)
    facts = _look(image_files_stored.request_of(spec, wanted.type, settings), spec, settings, work.warnings)
    if facts is not None and wanted.luks_secret and not facts.encrypted and not spec.passphrase:
        raise image_files_stored.not_encrypted(spec)
    if wanted.luks_secret and not spec.path and not spec.passphrase:
        raise InvalidValue(
            f"image {spec.name}: luks_secret", "an empty disk is encrypted by its passphrase", "Give luks_passphrase"
        )
    if facts is not None:
        _refuse_of_content(spec, spec.path, -(-facts.virtual_size // MIB), facts.format)
    if image is None:
        work.image = engine.images.allocate(wanted)
    else:
        fresh = {key: getattr(wanted, key) for key in ("type", "persistent", "origin", "error", "dev_prefix", "target")}
        fresh.update({key: getattr(wanted, key) for key in ("firmware", "bus", "luks_secret", "operation")})
        fresh.update(description=wanted.description, attributes=dict(wanted.attributes), state=ImageState.LOCKED)
        work.image = engine.images.update(id_of(image), **fresh)
    work.todo = "store"
    format = "qcow2" if wanted.luks_secret else spec.format or "raw"
    _expect(
        work,
        spec,
        image,
        format=facts.format if facts and not wanted.luks_secret else format,
        size=max(-(-facts.virtual_size // MIB) if facts else 0, spec.size or 0),
        checksums={spec.checksum.algorithm: spec.checksum.digest} if spec.checksum is not None else {},
    )


def _register_copy(engine: Engine, work: Work, spec: Spec, image: Image | None, settings: Settings) -> None:
    """Register an image that is made of another image: what the item does not say is as in that image."""
    source = _source_of_copy(engine, spec, settings)
    if source.format == TAR:
        refuse_of_roots(f"image {spec.name}", spec)
    values = _own_values(spec, source)
    encrypt = bool(spec.luks_secret) and not source.luks_secret
    if encrypt:
        _check_encryption(spec, source, values["type"])
    _refuse_other_kind(spec, source, values["type"])
    if source.size:
        # In check mode the size may not be known yet.
        _refuse_of_content(spec, f"image {source.name}", source.size, "qcow2" if encrypt else source.format)
    notes = _notes_of_copy(work, spec, source, settings)
    if image is not None and image.operation != Clone(id_of(source)):
        # It was to be made of something else before.
        engine.images.delete(id_of(image))
        if not settings.check_mode:
            image_removal.remove_files(image)
        image = None
    place = source.datastore_id
    if spec.datastore:
        place = _datastore(engine, work, spec, values["type"], settings)
    wanted = Image(
        id=None,
        name=spec.name,
        persistent=bool(spec.persistent),
        datastore_id=place,
        origin=f"image {source.name}",
        luks_secret=source.luks_secret,
        notes=notes,
        # Format and size of the source, by which requests are checked until the copy is whole.
        format=source.format,
        size=source.size,
        **values,
    )
    if image is None:
        work.image = engine.images.clone(id_of(source), wanted)
    else:
        fresh = ("persistent", "origin", "luks_secret", "notes", "format", "size", *values)
        work.image = engine.images.update(id_of(image), **{key: getattr(wanted, key) for key in fresh})
    work.todo = "store"
    _expect(
        work,
        spec,
        image,
        format="qcow2" if encrypt else spec.format or source.format,
        size=max(source.size, spec.size or 0),
        checksums={} if spec.recipe is not None else source.checksums,
        sha256="" if spec.recipe is not None or encrypt else source.sha256,
        luks_secret=spec.luks_secret or source.luks_secret,
        operation=None,
    )


def _source_of_copy(engine: Engine, spec: Spec, settings: Settings) -> Image:
    """Return the image that the item's image is made of. Raise an error if there is none, or it can't serve."""
    what = f"image {spec.name}"
    source = named(engine.images.info, spec.clone_of or spec.base)
    key = "from" if spec.base else "clone_of"
    if spec.name in settings.lost:
        raise NotFound(
            f"{what}: its packages and files",
            settings.lost[spec.name],
            "Give other paths, or set remote_src: true if they are on the front-end",
        )
    if source is None:
        raise NotFound(
            f"{what}: {key} {spec.clone_of or spec.base}",
            "the catalog has no image of that name",
            "See nebula_info for the names that there are",
        )
    if spec.base and source.type not in WRITABLE:
        raise InvalidValue(f"{what}: from {source.name}", f"that is of type {source.type.name}", "Name an OS image")
    if spec.base and source.luks_secret:
        raise Conflict(f"{what}: from {source.name}", "that is encrypted", "Add to it before it is encrypted")
    refuse_unused_passphrase(what, spec, source.luks_secret)
    return source


def _check_encryption(spec: Spec, source: Image, kind: ImageType) -> None:
    """Raise InvalidValue if a copy can't be encrypted whose source is not."""
    if kind not in WRITABLE:
        raise InvalidValue(f"image {spec.name}: luks_secret", f"not of type {kind.name}", "Only for OS and DATABLOCK")
    if not spec.passphrase:
        raise InvalidValue(
            f"image {spec.name}: luks_secret",
            f"{source.name} is not encrypted, and no passphrase is given",
            "Give luks_passphrase: that of the secret",
        )


def _notes_of_copy(work: Work, spec: Spec, source: Image, settings: Settings) -> dict[str, Any]:
    """Return what the catalog notes of a copy: its recipe, and whether it is compressed or sparse as its source."""
    notes: dict[str, Any] = {}
    if spec.recipe is not None:
        unseen = _unseen(spec, settings)
        work.warnings.extend(f"image {spec.name}: {path} is not there; taken as given in check mode" for path in unseen)
        if not unseen:
            try:
                notes["recipe"] = spec.recipe.digest()
            except NebulaError as error:
                error.asked = f"image {spec.name}: {error.asked}"
                raise
    for key in ("compress", "sparse"):
        if source.notes.get(key) == source.generation and spec.recipe is None:
            notes[key] = 0
    return notes


def _refuse_of_content(spec: Spec, name: str, size: int, format: str) -> None:
    """Raise Conflict or InvalidValue, before content is copied, for what can't be made of it. size: MiB."""
    what = f"image {spec.name}"
    if spec.size is not None and spec.size < size and not spec.persistent:
        raise Conflict(
            f"{what}: size {spec.size} MB",
            f"{name} has {size} MB, and is not made smaller: what is at its end would be cut off",
            "Leave size out, or make an empty image of that size and have a machine copy what is needed",
        )
    if spec.compress and format == "raw" and not spec.luks_secret and (spec.path or spec.format != "qcow2"):
        remedy = "Store it without compress, then give format: qcow2 too" if spec.path else "Give format: qcow2"
        raise InvalidValue(f"{what}: compress", f"{name} is raw, and a raw file can't be compressed", remedy)


def _refuse_other_kind(spec: Spec, source: Image, kind: ImageType) -> None:
    """Raise Conflict or ImageRefused if the image is to be of a type that its source can't have."""
    if kind == source.type:
        return
    asked = f"image {spec.name}: type {kind.name}"
    found = f"image {source.name} is of type {source.type.name}"
    if (kind in DISKS) != (source.type in DISKS) or (spec.base and kind not in WRITABLE):
        raise Conflict(asked, found, "Leave type out, or register its file as a new image")
    if os.path.exists(source.source):
        try:
            inspect_again(replace(source, type=kind))
        except ImageRefused as error:
            error.asked = asked
            raise


def _unseen(spec: Spec, settings: Settings) -> list[str]:
    """Return the missing files of the recipe that an earlier task of this run may be about to bring."""
    named = recipes.local_files(spec.recipe) if spec.recipe is not None else ()
    return [path for path in named if settings.may_bring(path) and not os.path.exists(path)]


def _expect(work: Work, spec: Spec, image: Image | None, **values: Any) -> None:
    """Note on the item what check mode predicts of an image that is to be stored."""
    if work.image is None:
        return
    # A new image gets these when it is made.
    fresh = {} if image is not None else {"id": None, "source": "", "uuid": ""}
    state = ImageState.DISABLED if spec.state == "disabled" else ImageState.READY
    work.became(spec.name, image_view(replace(work.image, **{"state": state, **fresh, **values})), changed=True)


def _own_values(spec: Spec, source: Image | None) -> dict[str, Any]:
    """Return the values that the item gives the image; what it does not say is as in the source."""
    given: dict[str, Any] = {"type": spec.type if spec.type is not None else source.type if source else ImageType.OS}
    for key in ("firmware", "bus", "dev_prefix", "target", "description"):
        value = getattr(spec, key)
        given[key] = value if value is not None else getattr(source, key) if source else ""
    # What an installation noted about its image is not true for a copy.
    attributes = {key: value for key, value in source.attributes.items() if key not in OF_ONE} if source else {}
    given["attributes"] = merged(attributes, spec.attributes or {})
    return given


def merged(there: Mapping[str, str], given: Mapping[str, str | None]) -> dict[str, str]:
    both = {**there, **given}
    return {key: value for key, value in both.items() if value is not None}


def _new_image(engine: Engine, work: Work, spec: Spec, settings: Settings) -> Image:
    values = _own_values(spec, None)
    kind = values["type"]
    what = f"image {spec.name}"
    if spec.size and kind not in WRITABLE:
        if not spec.path:
            raise InvalidValue(f"{what}: size", f"an empty image of type {kind.name} is of no use", "Give its path")
        raise InvalidValue(f"{what}: size", f"a file of type {kind.name} is not made larger", "Leave size out")
    return Image(
        id=None,
        name=spec.name,
        persistent=bool(spec.persistent),
        datastore_id=_datastore(engine, work, spec, kind, settings),
        origin=without_secrets(spec.path) if is_url(spec.path) else spec.path,
        luks_secret=spec.luks_secret or "",
        **values,
    )


def _datastore(engine: Engine, work: Work, spec: Spec, kind: ImageType, settings: Settings) -> int:
    if not spec.datastore:
        return default_datastore(kind)
    try:
        place = engine.datastores.info(spec.datastore)
    except NotFound as error:
        if not settings.check_mode or settings.declared is not None:
            raise
        # An earlier task of this run may be what makes it.
        work.warnings.append(f"{error}; taken as given in check mode")
        return default_datastore(kind)
    if place.type != type_for(kind):
        raise InvalidValue(
            f"image {spec.name}: datastore {place.name}",
            f"that is of type {place.type.name}, and the image of type {kind.name}",
            f"Name one of type {type_for(kind).name}",
        )
    return place.id if place.id is not None else default_datastore(kind)


def _look(
    request: Request | None, spec: Spec, settings: Settings, warnings: list[str]
) -> disk_formats.ImageFacts | None:
    """Return what can be seen of the source at no cost before it is registered, None if nothing can."""
    if request is None or is_url(request.source):
        return None
    if spec.name in settings.lost:
        raise NotFound(
            f"image {spec.name}: path {spec.path}",
            settings.lost[spec.name],
            "Give another path, or set remote_src: true if it is on the front-end",
        )
    if spec.from_control_node and spec.name not in settings.uploads:
        if settings.check_mode:
            return None
        raise NotFound(
            f"image {spec.name}: path {spec.path}",
            "it is on the control node, and was not sent to this host",
            "Set remote_src: true if the path is on the front-end",
        )
    try:
        return importer.inspect_source(request)
    except (NotFound, WrongState) as error:
        # An earlier task of this run may be what makes it, or finishes it.
        if not settings.may_bring(request.source):
            raise
        warnings.append(f"{error}; taken as given in check mode")
    except MissingDependency:
        # The missing program would be installed.
        if not settings.check_mode:
            raise
    return None
