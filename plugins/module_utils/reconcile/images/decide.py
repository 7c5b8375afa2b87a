# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an item of a list of images wants of the catalog and of the datastore.

The catalog's transaction is never open while a file is copied: what is to be done is decided and noted in one, done
outside of it under a lock, and noted as done in another. Then the item is looked at again, until nothing is left: an
image is stored, then made larger, then another type. A run that was killed leaves LOCKED, with nobody at the lock.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...engines.base import Engine
from ...errors import (
    Conflict,
    Fault,
    ImageRefused,
    InvalidValue,
    MissingDependency,
    NebulaError,
    NotFound,
    WrongState,
)
from ...guest_disk.customize import recipes
from ...host.download import is_url, without_secrets
from ...install.next_step import OF_ONE
from ...model.datastore import default_for, type_for
from ...model.image import Image, refuse_unfinished
from ...model.reader import twice
from ...model.saved import SAVING
from ...model.specification import ALWAYS, UNUSED
from ...model.specifications.image import KEYS
from ...model.states import ImageState, ImageType
from ...model.template import Template
from ...model.transfer import comes_from
from ...storage import datastore, formats, importer
from ...storage.importer import Request
from ...sync import Item, differences
from . import rewrite, store
from .spec import DISKS, WRITABLE, Spec, refuse_unused_passphrase, spec_of
from .store import inspect_again
from .work import Settings, Work, find, id_of, image_view, is_reworked, told_of

__all__ = ("Settings", "apply", "convert", "image_view", "missing_content", "spec_of")

# Without content, or with content that is not to be trusted.
UNFINISHED = (ImageState.INIT, ImageState.LOCKED, ImageState.ERROR, ImageState.DELETE)
# What of an image that is there the catalog alone has to change; attributes are compared one by one.
_SETTABLE = [name for name, key in KEYS.items() if key.changes in (ALWAYS, UNUSED) and key.type != "dict"]
# More steps than any item takes: stored, recovered, flattened, larger, without holes, another type.
_STEPS = 12


def apply(engine: Engine, items: Sequence[Mapping[str, Any]], settings: Settings) -> tuple[list[Item], list[str]]:
    """Bring catalog and datastore to what the items say; one Item each, and warnings. Called without a session."""
    begun: dict[str, Work] = {}
    works = [_checked(item) for item in items]
    order = [works[number] for number in _sources_first([work.spec for work in works])]
    with engine.session():
        for work in order:
            _begin(engine, work, settings, begun)
    if not settings.check_mode:
        # Storing takes its time, in which this run may be killed.
        for work in order:
            if work.protect is not None:
                _protect(work, work.protect)
        for work in order:
            _finish(engine, work, settings)
    return [work.item for work in works], [text for work in works for text in work.warnings]


def _checked(item: Mapping[str, Any]) -> Work:
    """The item with its specification, or with what is wrong about it."""
    work = Work(Item(str(item.get("name") or "?"), changed=False))
    try:
        work.spec = spec_of(item)
    except NebulaError as error:
        work.item = Item(work.item.name, error=error, changed=False)
    return work


def _sources_first(specs: Sequence[Spec | None]) -> list[int]:
    """The items' numbers in their order, but that of an image after that of the one it is made of. None: of an item
    that is refused. Of two of one name the second is refused."""
    places: dict[str, int] = {}
    for number, spec in enumerate(specs):
        if spec is not None:
            places.setdefault(spec.name, number)
    sources = [None if spec is None else places.get(spec.clone_of or spec.base) for spec in specs]
    order: dict[int, None] = {}
    for number in range(len(specs)):
        chain: list[int] = []
        before: int | None = number
        # Those that are made of each other are told when they are decided.
        while before is not None and before not in order and before not in chain:
            chain.append(before)
            before = sources[before]
        order.update(dict.fromkeys(reversed(chain)))
    return list(order)


def _finish(engine: Engine, work: Work, settings: Settings) -> None:
    """Do what is left outside of the transaction, and look at the item again after it."""
    if work.item.error is not None:
        return
    if work.source is not None:
        if work.source.item.error is not None:
            found = "that is in this list too, and something is the matter with it"
            problem = WrongState(
                f"image {work.item.name}: made of {work.source.item.name}", found, "Mend that, then run this again"
            )
            work.became(work.item.name, work.item.after, changed=False, error=problem)
            return
        with engine.session():
            _look_again(engine, work, settings)
    for _step in range(_STEPS):
        if work.protect is not None:
            _protect(work, work.protect)
            if work.item.error is not None:
                return
        todo, work.todo = work.todo, ""
        if todo == "remove":
            store.remove(engine, work, settings)
        elif todo == "store":
            store.store(engine, work, settings)
        elif todo == "recover":
            rewrite.run_recovery(engine, work, settings)
        elif todo == "rework" and work.rework is not None:
            rewrite.run(engine, work, settings, work.rework)
        if work.todo != "again" or work.item.error is not None:
            return
        with engine.session():
            _look_again(engine, work, settings)
    work.item.error = Fault(f"image {work.item.name}", "it does not come to what is asked", "Report this")


def _protect(work: Work, image: Image) -> None:
    """Give its file the mode that the catalog wants by now."""
    work.protect = None
    try:
        datastore.protect(image.source, writable=image.persistent)
    except (NebulaError, OSError) as problem:
        work.became(image.name, work.item.after, changed=True, error=told_of(problem, work.spec, image))


def _look_again(engine: Engine, work: Work, settings: Settings) -> None:
    work.todo = ""
    if work.spec is None:
        return
    try:
        with engine.attempt():
            _decide(engine, work, work.spec, settings)
    except NebulaError as error:
        work.todo = ""
        work.became(work.spec.name, work.item.after, changed=False, error=error)


def missing_content(engine: Engine, items: Sequence[Mapping[str, Any]]) -> list[Spec]:
    """The specifications whose images have to be stored first; items that are wrong are left to apply()."""
    pool = {image.name: image for image in engine.images.pool()}
    specs = []
    for item in items:
        try:
            spec = spec_of(item)
        except NebulaError:
            continue
        image = pool.get(spec.name) or pool.get(spec.renamed_from)
        if spec.state != "absent" and spec.has_content and (image is None or _lacks_content(image)):
            specs.append(spec)
    return specs


def _lacks_content(image: Image) -> bool:
    """Whether it is to be stored anew. What an operation or an installation left unfinished is not thrown away."""
    changed = image.operation and not image.operation.startswith(store.MADE_OF)
    return image.state in UNFINISHED and not changed and not image.unfinished


def convert(engine: Engine, image: Image, type: ImageType, persistent: bool, **fields: Any) -> Image:
    """Give an image that no machine uses another type or persistence, and `fields`. Called within a session.

    Its file is neither copied nor read: what was written into it stays. A guest could have written a header that names
    files of this host, so it is looked at again, as what the catalog says that it is. That the file is closed against
    writers, or opened to them (datastore.protect), is the caller's, once the session is over.
    """
    changed = engine.images.update(id_of(image), type=type, persistent=persistent, **fields)
    if (changed.type, changed.persistent) == (image.type, image.persistent) or not os.path.exists(image.source):
        return changed
    size = inspect_again(changed)
    if changed.persistent != image.persistent and not persistent:
        # A machine may have made it larger since the catalog heard of its size.
        changed = engine.images.update(
            id_of(image), generation=image.generation + 1, sha256="", size=max(size, image.size)
        )
    return changed


# -- within the session: decide, and register ----------------------------------------------------------------------


def _begin(engine: Engine, work: Work, settings: Settings, begun: dict[str, Work]) -> None:
    """begun: the items before it, by name."""
    spec = work.spec
    if spec is None:
        return
    try:
        if spec.name in begun:
            raise twice(f"image {spec.name}")
        source = begun.get(spec.clone_of or spec.base)
        begun[spec.name] = work
        if source is not None and _is_made_first(engine, spec, source):
            if not settings.check_mode:
                work.source = source
                return
            _foresee(engine, source)
        with engine.attempt():
            _decide(engine, work, spec, settings)
    except NebulaError as error:
        work.item = Item(work.item.name, work.item.before, work.item.before, error, changed=False)
        work.todo = ""


def _is_made_first(engine: Engine, spec: Spec, source: Work) -> bool:
    """Whether the item has to wait for the one that it is made of."""
    if spec.state == "absent" or source.item.error is not None:
        return False
    if source.source is None and source.todo not in ("store", "rework", "recover"):
        return False
    image = find(engine, spec.name)
    return image is None or _lacks_content(image)


def _foresee(engine: Engine, source: Work) -> None:
    """Have the catalog say what check mode predicts of an image that is to be stored: this session is rolled back."""
    after = source.item.after
    if source.todo == "store" and source.image is not None and after is not None:
        known = {key: after[key] for key in ("size", "format", "sha256", "luks_secret")}
        engine.images.update(id_of(source.image), state=ImageState[after["state"]], operation="", **known)


def _decide(engine: Engine, work: Work, spec: Spec, settings: Settings) -> None:
    """Do what can be done at once, and say in work.todo what is to be done first of the rest."""
    image = find(engine, spec.name)
    if image is not None and image.state == ImageState.DELETE and spec.state != "absent":
        # What a killed run began: the new image is another one.
        engine.images.delete(id_of(image))
        if not settings.check_mode:
            store.remove_files(image)
            store.tidy(image)
        image = None
    # Where it is looked at again, the first look tells what was before.
    first = work.item.before is None and not work.item.is_changed
    if first and image is not None:
        work.item.before = image_view(image)
    if spec.renamed_from:
        image = _renamed(engine, work, spec, image)
    if spec.state == "absent":
        _decide_absent(engine, work, spec, image)
        return
    if image is not None and image.state == ImageState.LOCKED and comes_from(image.operation):
        raise WrongState(
            f"image {spec.name}",
            f"what was saved as it is on host {comes_from(image.operation)}, and has not come back yet",
            "Run playbook nebula.provision.site once that host answers: it fetches that",
        )
    if image is not None and image.state == ImageState.LOCKED and is_reworked(image):
        work.image = image
        if not settings.check_mode:
            work.todo = "recover"
            return
        image = rewrite.recovered_view(engine, image)
        work.became(spec.name, image_view(image), changed=True)
    if image is None or (_lacks_content(image) and spec.has_content and not _is_enabled_instead(spec, image)):
        _register(engine, work, spec, image, settings)
        return
    if image.state == ImageState.LOCKED and image.operation.startswith(SAVING):
        raise WrongState(
            f"image {spec.name}",
            f"a machine's disk is being saved as it ({image.origin})",
            "Deploy that machine, which finishes it, or choose another name",
        )
    if image.state == ImageState.LOCKED and image.operation and not _lacks_content(image):
        raise WrongState(
            f"image {spec.name}",
            f"it is LOCKED: its content is being changed ({image_view(image)['operation']}), or that was interrupted",
            f"Wait for that run; if there is none, run nebula_image_{image_view(image)['operation']} for it again",
        )
    if image.state in (ImageState.INIT, ImageState.LOCKED):
        raise WrongState(
            f"image {spec.name}",
            f"it is in state {image.state.name}: another run is storing it, or was killed",
            "Give its path (or size, clone_of or from) to store it again",
        )
    _change(engine, work, spec, image, settings)


def _is_enabled_instead(spec: Spec, image: Image) -> bool:
    """Whether an image in ERROR is to be taken as it is, rather than stored anew."""
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


def _renamed(engine: Engine, work: Work, spec: Spec, image: Image | None) -> Image | None:
    """The image under its new name."""
    old = find(engine, spec.renamed_from)
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
        # What goes is what has the name.
        return None
    # Machine, template and the list of installations know it by its name: it would be installed a second time.
    refuse_unfinished(f"image {spec.name}: renamed_from {old.name}", old)
    work.item.before = image_view(old)
    naming = [stored.name for stored in engine.templates.pool() if _names(stored.template, old.name)]
    if naming:
        work.warnings.append(
            f"image {old.name} is {spec.name} from now on; templates that still name the old one: {', '.join(naming)}"
        )
    notes = {**old.notes, "was": [*old.notes.get("was", ()), old.name]}
    renamed = engine.images.update(id_of(old), name=spec.name, notes=notes)
    work.became(spec.name, image_view(renamed), changed=True)
    return renamed


def _names(template: Template, name: str) -> bool:
    return any(disk.get("IMAGE") == name for disk in template.vectors("DISK"))


def _register(engine: Engine, work: Work, spec: Spec, image: Image | None, settings: Settings) -> None:
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
    facts = _look(store.request_of(spec, wanted.type, settings), spec, settings, work.warnings)
    if facts is not None and wanted.luks_secret and not facts.encrypted and not spec.passphrase:
        raise store.not_encrypted(spec)
    if wanted.luks_secret and not spec.path and not spec.passphrase:
        raise InvalidValue(
            f"image {spec.name}: luks_secret", "an empty disk is encrypted by its passphrase", "Give luks_passphrase"
        )
    if facts is not None:
        _refuse_of_content(spec, spec.path, -(-facts.virtual_size // importer.MIB), facts.format)
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
        size=max(-(-facts.virtual_size // importer.MIB) if facts else 0, spec.size or 0),
        checksum=str(spec.checksum or ""),
    )


def _register_copy(engine: Engine, work: Work, spec: Spec, image: Image | None, settings: Settings) -> None:
    """An image that is made of another one: all that the item does not say is as of that."""
    what = f"image {spec.name}"
    source = find(engine, spec.clone_of or spec.base)
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
    values = _own_values(spec, source)
    encrypt = bool(spec.luks_secret) and not source.luks_secret
    if encrypt and values["type"] not in WRITABLE:
        raise InvalidValue(f"{what}: luks_secret", f"not of type {values['type'].name}", "Only for OS and DATABLOCK")
    if encrypt and not spec.passphrase:
        raise InvalidValue(
            f"{what}: luks_secret",
            f"{source.name} is not encrypted, and no passphrase is given",
            "Give luks_passphrase: that of the secret",
        )
    _refuse_other_kind(spec, source, values["type"])
    if source.size:
        # Otherwise it is not known yet, in check mode.
        _refuse_of_content(spec, f"image {source.name}", source.size, "qcow2" if encrypt else source.format)
    notes: dict[str, Any] = {}
    if spec.recipe is not None:
        if settings.check_mode:
            _warn_of_missing(spec, work.warnings)
        else:
            notes["recipe"] = spec.recipe.digest()
    for key in ("compress", "sparse"):
        if source.notes.get(key) == source.generation and spec.recipe is None:
            notes[key] = 0
    if image is not None and image.operation != f"{store.MADE_OF}{source.id}":
        # What it was to be made of before is over.
        engine.images.delete(id_of(image))
        if not settings.check_mode:
            store.remove_files(image)
        image = None
    place = source.datastore_id
    if spec.datastore:
        place = _datastore(engine, work, spec, values["type"], settings.check_mode)
    wanted = Image(
        id=None,
        name=spec.name,
        persistent=bool(spec.persistent),
        datastore_id=place,
        origin=f"image {source.name}",
        luks_secret=source.luks_secret,
        notes=notes,
        # Until it is whole, so that what is asked of it is measured by what it will be.
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
        checksum="" if spec.recipe is not None else source.checksum,
        sha256="" if spec.recipe is not None or encrypt else source.sha256,
        luks_secret=spec.luks_secret or source.luks_secret,
        operation="",
    )


def _refuse_of_content(spec: Spec, name: str, size: int, format: str) -> None:
    """Conflict for what can't be made of content that is there, before it is copied. size: MiB."""
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
    """Conflict or ImageRefused for an image that is to be of a type that the one it is made of can't be."""
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


def _warn_of_missing(spec: Spec, warnings: list[str]) -> None:
    named = recipes.local_files(spec.recipe) if spec.recipe is not None else ()
    warnings.extend(
        f"image {spec.name}: {path} is not there; taken as given in check mode"
        for path in named
        if not os.path.isfile(path)
    )


def _expect(work: Work, spec: Spec, image: Image | None, **values: Any) -> None:
    """What check mode predicts of an image that is to be stored."""
    if work.image is None:
        return
    # A new one gets these when it is made.
    fresh = {} if image is not None else {"id": None, "source": "", "uuid": ""}
    state = ImageState.DISABLED if spec.state == "disabled" else ImageState.READY
    work.became(spec.name, image_view(replace(work.image, **{"state": state, **fresh, **values})), changed=True)


def _own_values(spec: Spec, source: Image | None) -> dict[str, Any]:
    """What the item says of the image; else what the image says that it is made of."""
    given: dict[str, Any] = {"type": spec.type if spec.type is not None else source.type if source else ImageType.OS}
    for key in ("firmware", "bus", "dev_prefix", "target", "description"):
        value = getattr(spec, key)
        given[key] = value if value is not None else getattr(source, key) if source else ""
    # What was found out of an installation is not true of what is made of its image.
    attributes = {key: value for key, value in source.attributes.items() if key not in OF_ONE} if source else {}
    given["attributes"] = _merged(attributes, spec.attributes or {})
    return given


def _merged(there: Mapping[str, str], given: Mapping[str, str | None]) -> dict[str, str]:
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
        datastore_id=_datastore(engine, work, spec, kind, settings.check_mode),
        origin=without_secrets(spec.path) if is_url(spec.path) else spec.path,
        luks_secret=spec.luks_secret or "",
        **values,
    )


def _datastore(engine: Engine, work: Work, spec: Spec, kind: ImageType, check_mode: bool) -> int:
    if not spec.datastore:
        return default_for(kind)
    try:
        place = engine.datastores.info(spec.datastore)
    except NotFound as error:
        if not check_mode:
            raise
        # An earlier task of this run may be what makes it.
        work.warnings.append(f"{error}; taken as given in check mode")
        return default_for(kind)
    if place.type != type_for(kind):
        raise InvalidValue(
            f"image {spec.name}: datastore {place.name}",
            f"that is of type {place.type.name}, and the image of type {kind.name}",
            f"Name one of type {type_for(kind).name}",
        )
    return place.id if place.id is not None else default_for(kind)


def _look(request: Request | None, spec: Spec, settings: Settings, warnings: list[str]) -> formats.ImageFacts | None:
    """What can be seen of the source at no cost, before anything is registered for it."""
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
        return importer.look(request)
    except (NotFound, WrongState) as error:
        if not settings.check_mode:
            raise
        # An earlier task of this run may be what makes it, or finishes it.
        warnings.append(f"{error}; taken as given in check mode")
    except MissingDependency:
        # Would be installed.
        if not settings.check_mode:
            raise
    return None


# -- an image that has its content ---------------------------------------------------------------------------------


def _change(engine: Engine, work: Work, spec: Spec, image: Image, settings: Settings) -> None:
    if not settings.check_mode:
        store.tidy(image)
    _compare(engine, spec, image, settings, work.warnings)
    changes = _changes(spec, image)
    _refuse_during_installation(spec, image, changes)
    rework = None
    if image.state != ImageState.ERROR or "state" in changes:
        rework = rewrite.wanted(spec, replace(image, state=changes.get("state", image.state)))
    later: dict[str, Any] = {}
    if rework is not None and rework.flatten:
        # What is refused while there are snapshots comes after.
        later = {key: changes.pop(key) for key in ("type", "persistent") if key in changes}
    if rework is not None and rework.encrypts(image) and changes.get("state") == ImageState.READY:
        # No machine has it before it is encrypted, nor where that fails.
        later["state"] = changes.pop("state")
    # Disabled meanwhile, it is no more whole than it was.
    if changes.get("state") == ImageState.READY and (image.state == ImageState.ERROR or image.error):
        changes["size"] = max(image.size, _believed(spec, image))
    changed = convert(
        engine,
        image,
        **{"type": image.type, "persistent": image.persistent, **changes},
    )
    opened = _is_left_open(changed)
    work.became(spec.name, image_view(changed), changed=opened or changed != image)
    # Asked again of what it is by now.
    rework = rewrite.wanted(spec, changed) if rework is not None else None
    other = opened or changed.persistent != image.persistent
    closed = changed if other and os.path.exists(image.source) else None
    if rework is None:
        work.protect = closed
        return
    if settings.check_mode:
        changed = rewrite.predicted(engine, changed, rework)
        if later:
            later["generation"] = changed.generation + (later.get("persistent") is False)
            changed = engine.images.update(id_of(image), **later)
        work.became(spec.name, image_view(changed), changed=True)
        return
    work.image, work.rework = rewrite.begin(engine, changed, rework), rework
    work.protect = closed
    work.todo = "rework"


def _is_left_open(image: Image) -> bool:
    """Whether its file can be written to, though machines rest on it: a run ended before it was closed."""
    if image.persistent or image.state == ImageState.ERROR:
        return False
    try:
        return bool(os.lstat(image.source).st_mode & 0o222)
    except OSError:
        return False


def _changes(spec: Spec, image: Image) -> dict[str, Any]:
    """What of an image that has its content is to be changed in the catalog."""
    wanted: dict[str, Any] = {key: getattr(spec, key) for key in _SETTABLE}
    if spec.luks_secret and image.luks_secret:
        # The same key under another number.
        wanted["luks_secret"] = spec.luks_secret
    if spec.attributes is not None:
        wanted["attributes"] = _merged(image.attributes, spec.attributes)
    if spec.state == "disabled":
        wanted["state"] = ImageState.DISABLED
    elif spec.state == "enabled" and image.state in (ImageState.DISABLED, ImageState.ERROR):
        wanted.update(state=ImageState.READY, error="")
    return differences({key: getattr(image, key) for key in wanted}, wanted)


def _refuse_during_installation(spec: Spec, image: Image, changes: Mapping[str, Any]) -> None:
    """WrongState for what an installation that is under way goes by, or has to end with."""
    refused = [key for key in ("type", "persistent", "firmware", "bus", "state") if key in changes]
    attributes = changes.get("attributes", image.attributes)
    refused += [key for key in OF_ONE if attributes.get(key) != image.attributes.get(key)]
    if refused:
        refuse_unfinished(f"image {spec.name} (id {image.id}): {', '.join(refused)}", image)


def _believed(spec: Spec, image: Image) -> int:
    """The size of an image in ERROR, if its file is what it should be."""
    if not image.size or not os.path.isfile(image.source):
        raise WrongState(
            f"image {spec.name}: enable",
            f"it is in state {image.state.name} and its file is not there"
            + (f" ({image.error})" if image.error else ""),
            "Give its path to store it again",
        )
    try:
        return inspect_again(image, deep=True)
    except ImageRefused as error:
        error.asked = f"{error.asked}: enable"
        raise


def _compare(engine: Engine, spec: Spec, image: Image, settings: Settings, warnings: list[str]) -> None:
    """Conflict for what can't be changed on an image."""
    what = f"image {spec.name} (id {image.id})"
    refuse_unused_passphrase(what, spec, image.luks_secret)
    remedy = (
        "An image's content is never replaced: remove it first (state: absent), or register the other under a new name"
    )
    if spec.checksum is not None:
        known = dict(text.split(":", 1) for text in image.checksum.split())
        has = known.get(spec.checksum.algorithm)
        if has is None:
            found = f"only {image.checksum} is known of it" if image.checksum else "none is known of it"
            warnings.append(f"{what}: checksum {spec.checksum}: {found}; not compared")
        elif has != spec.checksum.digest:
            raise Conflict(
                f"{what}: checksum {spec.checksum}", f"it was stored from {spec.checksum.algorithm}:{has}", remedy
            )
    # One that machines write to, or did, is larger once the SIZE of a disk has made it so.
    may_have_grown = image.persistent or image.generation > 0
    if spec.size is not None and spec.size < image.size and not may_have_grown:
        raise Conflict(
            f"{what}: size {spec.size} MB",
            f"it has {image.size} MB, and is not made smaller: what is at its end would be cut off",
            "Make a new image of that size, and have a machine copy what is in this one",
        )
    if spec.size is not None and spec.size < image.size:
        warnings.append(f"{what}: size {spec.size} MB: it has {image.size} MB by now, and is not made smaller")
    if spec.datastore:
        place = engine.datastores.info(spec.datastore)
        if place.id != image.datastore_id:
            raise Conflict(
                f"{what}: datastore {place.name}",
                f"it lies in {engine.datastores.info(image.datastore_id).name}, and an image is not moved",
                "Clone it there under a new name (clone_of), then remove this one",
            )
    made_of = image.notes.get("recipe")
    if spec.recipe is not None and made_of:
        gone = [path for path in recipes.local_files(spec.recipe) if not os.path.isfile(path)]
        if spec.name in settings.lost or gone:
            found = settings.lost.get(spec.name) or f"{gone[0]} is not there any more"
            warnings.append(f"{what}: {found}; what it was made of is not compared")
        elif spec.recipe.digest() != made_of:
            raise Conflict(f"{what}: from {spec.base}", "it was made with other packages, files or commands", remedy)
