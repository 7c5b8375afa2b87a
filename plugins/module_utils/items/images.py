# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an item of a list of images wants of the catalog and of the datastore.

The catalog's transaction is never open while a file is copied: the image is registered as LOCKED, its file is stored
under a lock, then it is READY, or ERROR with the reason. A run that was killed leaves LOCKED, with nobody at the lock.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..engines.base import Engine
from ..errors import (
    Ambiguous,
    ChecksumMismatch,
    Conflict,
    ImageRefused,
    InvalidValue,
    MissingDependency,
    NebulaError,
    NoSpace,
    NotFound,
    StorageFailed,
    TimedOut,
    WrongState,
)
from ..host import download, files
from ..host.download import is_url, without_secrets
from ..model.flags import flag
from ..model.image import Image
from ..model.names import check_name, nearest
from ..model.numbers import whole
from ..model.states import ImageState, ImageType
from ..model.template import vector_key
from ..storage import datastore, formats, importer
from ..storage.importer import Checksum, Request
from ..sync import Item, differences

KEYS = (
    "name", "path", "remote_src", "checksum", "type", "persistent", "size", "format", "fs", "dev_prefix", "target",
    "description", "attributes", "state",
)  # fmt: skip
STATES = ("present", "enabled", "disabled", "absent")
TYPES = tuple(kind.name for kind in ImageType)
DISKS = (ImageType.OS, ImageType.CDROM, ImageType.DATABLOCK)
DEV_PREFIXES = ("hd", "sd", "vd", "xvd")
# Without content, or with content that is not to be trusted.
UNFINISHED = (ImageState.INIT, ImageState.LOCKED, ImageState.ERROR, ImageState.DELETE)


@dataclass(frozen=True)
class Settings:
    """What holds for all items of a run. uploads: name of an image → its uploaded file. lost: name of an image → what
    is the matter with its file on the control node. wait_timeout: seconds that another run may still take for the same
    image. stall: seconds without a byte. min_speed: KiB a second of a download. max_size: MiB."""

    check_mode: bool = False
    uploads: Mapping[str, str] = field(default_factory=dict)
    lost: Mapping[str, str] = field(default_factory=dict)
    wait_timeout: float = 600.0
    stall: float = 30.0
    min_speed: int = download.MIN_SPEED // 1024
    max_size: int = importer.DEFAULT_MAX_SIZE // importer.MIB
    validate_certs: bool = True
    say: Callable[[str], None] | None = None


@dataclass(frozen=True)
class Wish:
    """One item, checked. None is what the user did not set. path: on the front-end if remote, else on the control node;
    or a URL."""

    name: str
    state: str = "present"
    path: str = ""
    remote: bool = False
    checksum: Checksum | None = None
    type: ImageType | None = None
    persistent: bool | None = None
    size: int | None = None
    format: str = ""
    fs: str = ""
    dev_prefix: str | None = None
    target: str | None = None
    description: str | None = None
    attributes: Mapping[str, str] | None = None

    @property
    def from_control_node(self) -> bool:
        return bool(self.path) and not self.remote and not is_url(self.path)


@dataclass
class Work:
    """An item on its way. todo: "", store or remove: what is left to do outside the transaction."""

    item: Item
    wish: Wish | None = None
    image: Image | None = None
    todo: str = ""
    warnings: list[str] = field(default_factory=list)


def apply(engine: Engine, items: Sequence[Mapping[str, Any]], settings: Settings) -> tuple[list[Item], list[str]]:
    """Bring catalog and datastore to what the items say; one Item each, and warnings. Called without a session."""
    seen: set[str] = set()
    with engine.session():
        works = [_begin(engine, item, settings, seen) for item in items]
    if not settings.check_mode:
        for work in works:
            if work.todo == "store":
                _store(engine, work, settings)
            elif work.todo == "remove":
                _remove(engine, work, settings)
    return [work.item for work in works], [text for work in works for text in work.warnings]


def missing_content(engine: Engine, items: Sequence[Mapping[str, Any]]) -> list[Wish]:
    """The wishes whose images have to be stored first; items that are wrong are left to apply()."""
    pool = {image.name: image for image in engine.image_pool()}
    wishes = []
    for item in items:
        try:
            wish = wish_of(item)
        except NebulaError:
            continue
        image = pool.get(wish.name)
        if wish.state != "absent" and (wish.path or wish.size) and (image is None or image.state in UNFINISHED):
            wishes.append(wish)
    return wishes


def image_view(image: Image) -> dict[str, Any]:
    """An image as results show it."""
    return {
        "id": image.id,
        "name": image.name,
        "type": image.type.name,
        "state": image.state.name,
        "persistent": image.persistent,
        "size": image.size,
        "format": image.format,
        "sha256": image.sha256,
        "checksum": image.checksum,
        "source": image.source,
        "origin": image.origin,
        "uuid": image.uuid,
        "generation": image.generation,
        "datastore_id": image.datastore_id,
        "dev_prefix": image.dev_prefix,
        "target": image.target,
        "description": image.description,
        "attributes": dict(image.attributes),
        "vms": image.vms,
        "error": image.error,
    }


# -- within the session: decide, and register ----------------------------------------------------------------------


def _begin(engine: Engine, item: Mapping[str, Any], settings: Settings, seen: set[str]) -> Work:
    work = Work(Item(str(item.get("name") or "?"), changed=False))
    try:
        wish = work.wish = wish_of(item)
        if wish.name in seen:
            raise Ambiguous(f"image {wish.name}", "it is in the list twice", "Give each image one entry")
        seen.add(wish.name)
        with engine.attempt():
            _decide(engine, work, wish, settings)
    except NebulaError as error:
        work.item = Item(work.item.name, work.item.before, work.item.before, error, changed=False)
        work.todo = ""
    return work


def _decide(engine: Engine, work: Work, wish: Wish, settings: Settings) -> None:
    image = _find(engine, wish.name)
    if image is not None and image.state == ImageState.DELETE and wish.state != "absent":
        # What a killed run began: the new image is another one.
        engine.image_delete(_id(image))
        if not settings.check_mode:
            files.remove_file(image.source)
        image = None
    before = work.item.before = image_view(image) if image else None
    if wish.state == "absent":
        if image is not None:
            engine.image_update(_id(image), state=ImageState.DELETE)
            work.image, work.todo = image, "remove"
            work.item = Item(wish.name, before, None, changed=True)
        return
    if image is None or (image.state in UNFINISHED and (wish.path or wish.size)):
        _register(engine, work, wish, image, settings)
        return
    if image.state in (ImageState.INIT, ImageState.LOCKED):
        raise WrongState(
            f"image {wish.name}",
            f"it is in state {image.state.name}: another run is storing it, or was killed",
            "Give its path (or size) to store it again",
        )
    changed = engine.image_update(_id(image), **_changes(wish, image, work.warnings))
    if not settings.check_mode and changed.persistent != image.persistent and os.path.exists(image.source):
        datastore.protect(image.source, writable=changed.persistent)
    work.item = Item(wish.name, before, image_view(changed), changed=changed != image)


def _register(engine: Engine, work: Work, wish: Wish, image: Image | None, settings: Settings) -> None:
    if not wish.path and not wish.size:
        raise InvalidValue(
            f"image {wish.name}", "there is none of that name, and no content is given", "Give path or size"
        )
    wanted = _new_image(wish)
    facts = _look(_request(wish, wanted.type, settings), wish, settings, work.warnings)
    if image is None:
        work.image = engine.image_allocate(wanted)
    else:
        fresh = {key: getattr(wanted, key) for key in ("type", "persistent", "origin", "error", "dev_prefix", "target")}
        fresh.update(description=wanted.description, attributes=dict(wanted.attributes), state=ImageState.LOCKED)
        work.image = engine.image_update(_id(image), **fresh)
    work.todo = "store"
    expected = dataclasses.replace(
        work.image,
        id=None if image is None else image.id,
        state=ImageState.DISABLED if wish.state == "disabled" else ImageState.READY,
        format=facts.format if facts else wish.format or "raw",
        size=-(-facts.virtual_size // importer.MIB) if facts else wish.size or 0,
        checksum=str(wish.checksum or ""),
        source=work.image.source if image is not None else "",
        uuid=work.image.uuid if image is not None else "",
    )
    work.item = Item(wish.name, work.item.before, image_view(expected), changed=True)


def _new_image(wish: Wish) -> Image:
    kind = wish.type if wish.type is not None else ImageType.OS
    what = f"image {wish.name}"
    if wish.size and kind not in (ImageType.OS, ImageType.DATABLOCK):
        raise InvalidValue(f"{what}: size", f"an empty image of type {kind.name} is of no use", "Give its path")
    return Image(
        id=None,
        name=wish.name,
        type=kind,
        persistent=bool(wish.persistent),
        origin=without_secrets(wish.path) if is_url(wish.path) else wish.path,
        dev_prefix=wish.dev_prefix or "",
        target=wish.target or "",
        description=wish.description or "",
        attributes=wish.attributes or {},
    )


def _look(request: Request | None, wish: Wish, settings: Settings, warnings: list[str]) -> formats.ImageFacts | None:
    """What can be seen of the source at no cost, before anything is registered for it."""
    if request is None or is_url(request.source):
        return None
    if wish.name in settings.lost:
        raise NotFound(
            f"image {wish.name}: path {wish.path}",
            settings.lost[wish.name],
            "Give another path, or set remote_src: true if it is on the front-end",
        )
    if wish.from_control_node and wish.name not in settings.uploads:
        if settings.check_mode:
            return None
        raise NotFound(
            f"image {wish.name}: path {wish.path}",
            "it is on the control node, and was not sent to this host",
            "Set remote_src: true if the path is on the front-end",
        )
    try:
        return importer.look(request)
    except NotFound as error:
        if not settings.check_mode:
            raise
        # An earlier task of this run may be what makes it.
        warnings.append(f"{error}; taken as given in check mode")
    except MissingDependency:
        # Would be installed.
        if not settings.check_mode:
            raise
    return None


def _changes(wish: Wish, image: Image, warnings: list[str]) -> dict[str, Any]:
    """What of an image that has its content is to be changed; Conflict if that can't be."""
    _compare_content(wish, image, warnings)
    wanted: dict[str, Any] = {
        key: getattr(wish, key) for key in ("type", "persistent", "dev_prefix", "target", "description")
    }
    if wish.attributes is not None:
        wanted["attributes"] = {**image.attributes, **wish.attributes}
    if wish.state == "disabled":
        wanted["state"] = ImageState.DISABLED
    elif wish.state == "enabled" and image.state in (ImageState.DISABLED, ImageState.ERROR):
        if not image.size or not os.path.isfile(image.source):
            raise WrongState(
                f"image {wish.name}: enable",
                f"it is in state {image.state.name} and its file is not there"
                + (f" ({image.error})" if image.error else ""),
                "Give its path to store it again",
            )
        wanted.update(state=ImageState.READY, error="")
    return differences({key: getattr(image, key) for key in wanted}, wanted)


def _compare_content(wish: Wish, image: Image, warnings: list[str]) -> None:
    what = f"image {wish.name} (id {image.id})"
    remedy = (
        "An image's content is never replaced: remove it first (state: absent), or register the other under a new name"
    )
    if wish.checksum is not None:
        known = dict(text.split(":", 1) for text in image.checksum.split())
        has = known.get(wish.checksum.algorithm)
        if has is None:
            found = f"only {image.checksum} is known of it" if image.checksum else "none is known of it"
            warnings.append(f"{what}: checksum {wish.checksum}: {found}; not compared")
        elif has != wish.checksum.digest:
            raise Conflict(
                f"{what}: checksum {wish.checksum}", f"it was stored from {wish.checksum.algorithm}:{has}", remedy
            )
    # One that machines write to, or did, is larger once the SIZE of a disk has made it so.
    may_have_grown = image.persistent or image.generation > 0
    if wish.size is not None and (wish.size > image.size or (wish.size < image.size and not may_have_grown)):
        raise Conflict(f"{what}: size {wish.size} MB", f"it has {image.size} MB", remedy)
    if wish.format and wish.format != image.format:
        raise Conflict(f"{what}: format {wish.format}", f"it is {image.format}", remedy)


# -- outside of it: the files --------------------------------------------------------------------------------------


def _store(engine: Engine, work: Work, settings: Settings) -> None:
    image, wish = work.image, work.wish
    if image is None or wish is None:
        return
    request = _request(wish, image.type, settings)
    try:
        files.make_directory(os.path.dirname(image.source), 0o711)
        with importer.reserved(image.source, settings.wait_timeout):
            with engine.session():
                now = _same(engine, image)
            if now is None:
                raise _taken_away(wish)
            if now.state == ImageState.LOCKED:
                done = _fetch(engine, image, wish, request, settings)
                work.item = Item(wish.name, work.item.before, image_view(done))
            else:
                # Another run, for which this one has waited, did it.
                work.item = Item(wish.name, image_view(now), image_view(now))
    except TimedOut as error:
        work.item = Item(wish.name, work.item.before, image_view(image), error, changed=True)
    except (NebulaError, OSError) as caught:
        problem = files.explain(caught, image.source) if isinstance(caught, OSError) else caught
        if f"image {wish.name}" not in problem.asked:
            problem.asked = f"image {wish.name}: {problem.asked}"
        if request is not None and request.upload and isinstance(problem, (ChecksumMismatch, ImageRefused)):
            files.remove_file(request.source)
        try:
            failed = _fail(engine, image, problem)
        except NebulaError:
            # The catalog can't be written either. LOCKED with nobody at it is stored anew by the next run.
            failed = image
        work.item = Item(wish.name, work.item.before, image_view(failed), problem, changed=True)


def _fail(engine: Engine, image: Image, error: NebulaError) -> Image:
    with engine.session():
        now = _same(engine, image)
        if now is None or now.state != ImageState.LOCKED:
            return now or dataclasses.replace(image, state=ImageState.DELETE)
        return engine.image_update(_id(image), state=ImageState.ERROR, error=str(error))


def _fetch(engine: Engine, image: Image, wish: Wish, request: Request | None, settings: Settings) -> Image:
    say = settings.say
    # What a run stored that could not tell of it: no room is taken twice.
    files.remove_file(image.source)
    if request is None:
        stored = importer.make_empty(image.source, wish.size or 0, wish.format or "raw", wish.fs)
    else:
        stored = importer.store(request, image.source, (lambda text: say(f"{wish.name} {text}")) if say else None)
    if image.persistent:
        datastore.protect(image.source, writable=True)
    try:
        return _tell(engine, image, wish, stored)
    except (NoSpace, StorageFailed):
        # READY may be in the catalog all the same: a transaction whose last sync failed comes back when SQLite reads
        # its log anew. If it does not, the image is still LOCKED, and stored anew.
        raise
    except BaseException:
        # Nobody may know of it: its image, or the whole catalog, was removed or replaced meanwhile. What is still
        # LOCKED is stored anew.
        files.remove_file(image.source, sync=True)
        raise


def _tell(engine: Engine, image: Image, wish: Wish, stored: importer.Stored) -> Image:
    with engine.session():
        now = _same(engine, image)
        if now is None or now.state != ImageState.LOCKED:
            raise _taken_away(wish)
        done = engine.image_update(
            _id(image),
            state=ImageState.READY,
            error="",
            format=stored.format,
            size=stored.size,
            sha256=stored.sha256,
            checksum=stored.checksums,
        )
        state = ImageState.DISABLED if wish.state == "disabled" else ImageState.READY
        return engine.image_update(_id(done), state=state)


def _taken_away(wish: Wish) -> WrongState:
    return WrongState(f"image {wish.name}: store", "another run removed it meanwhile", "Run again if it is wanted")


def _remove(engine: Engine, work: Work, settings: Settings) -> None:
    image = work.image
    if image is None:
        return
    try:
        if os.path.isdir(os.path.dirname(image.source)):
            # A run that is storing it sees that it is to go when it is done.
            with importer.reserved(image.source, settings.wait_timeout):
                files.remove_file(image.source, sync=True)
        with engine.session():
            # Another run that wants one of that name may have done it.
            if _same(engine, image) is not None:
                engine.image_delete(_id(image))
    except (NebulaError, OSError) as caught:
        problem = files.explain(caught, image.source) if isinstance(caught, OSError) else caught
        left = dataclasses.replace(image, state=ImageState.DELETE)
        work.item = Item(image.name, work.item.before, image_view(left), problem, changed=True)


def _request(wish: Wish, kind: ImageType, settings: Settings) -> Request | None:
    """None for an empty image."""
    if not wish.path:
        return None
    upload = settings.uploads.get(wish.name) if wish.from_control_node else None
    return Request(
        what=f"image {wish.name}",
        source=upload or wish.path,
        checksum=wish.checksum,
        disk=kind in DISKS,
        cdrom=kind == ImageType.CDROM,
        format=wish.format,
        upload=upload is not None,
        max_size=settings.max_size * importer.MIB,
        validate_certs=settings.validate_certs,
        stall=settings.stall,
        min_speed=settings.min_speed * 1024,
    )


def _find(engine: Engine, name: str) -> Image | None:
    try:
        image = engine.image_info(name)
    except NotFound:
        return None
    # A name of digits may be found as an id; here names are meant.
    return image if image.name == name else None


def _same(engine: Engine, image: Image) -> Image | None:
    """The image as it is now; None once it was removed, or a restored catalog has another one of its id."""
    try:
        now = engine.image_info(_id(image))
    except NotFound:
        return None
    return now if now.uuid == image.uuid else None


def _id(image: Image) -> int:
    if image.id is None:
        raise NotFound(f"image {image.name}", "it has no id yet", "It was not stored")
    return image.id


# -- an item's values ----------------------------------------------------------------------------------------------


def wish_of(item: Mapping[str, Any]) -> Wish:
    """The item, checked; InvalidValue names the image, the key and the value."""
    name = check_name("image", item.get("name"))
    what = f"image {name}"
    path = os.path.expanduser(_text(what, item, "path") or "")
    if "://" in path and not is_url(path):
        shown = without_secrets(path)
        raise InvalidValue(f"{what}: path {shown}", "only http and https are fetched", "Give such a URL, or a path")
    size = _size(what, item.get("size"))
    if path and size is not None:
        raise InvalidValue(f"{what}: size {size}", "with a path the size is the file's", "Leave one of them out")
    fs = _choice(what, item, "fs", formats.FILE_SYSTEMS) or ""
    if fs and path:
        raise InvalidValue(f"{what}: fs {fs}", "only an empty image gets a file system", "Leave path or fs out")
    checksum = _text(what, item, "checksum")
    if checksum and not path:
        raise InvalidValue(f"{what}: checksum", "there is no file to compare with it", "Give its path")
    kind = _choice(what, item, "type", TYPES, str.upper)
    target = _text(what, item, "target")
    if target and not re.fullmatch(r"[a-z]{3,8}(:cdrom)?", target):
        raise InvalidValue(f"{what}: target {target!r}", "it is not the name of a disk", "Write it as vda, sdb, hdc …")
    return Wish(
        name=name,
        state=_choice(what, item, "state", STATES) or "present",
        path=path,
        remote=False if item.get("remote_src") is None else flag(item["remote_src"], f"{what}: remote_src"),
        checksum=Checksum.parse(checksum, what) if checksum else None,
        type=ImageType[kind] if kind else None,
        persistent=None if item.get("persistent") is None else flag(item["persistent"], f"{what}: persistent"),
        size=size,
        format=_choice(what, item, "format", formats.FORMATS, str.lower) or "",
        fs=fs,
        dev_prefix=_choice(what, item, "dev_prefix", DEV_PREFIXES),
        target=target,
        description=_text(what, item, "description"),
        attributes=_attributes(what, item.get("attributes")),
    )


def _text(what: str, item: Mapping[str, Any], key: str) -> str | None:
    value = item.get(key)
    if value is None:
        return None
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        raise InvalidValue(f"{what}: {key}", f"it is a {type(value).__name__}", "Give text, in quotes")
    return str(value)


def _choice(
    what: str, item: Mapping[str, Any], key: str, known: Sequence[str], form: Callable[[str], str] = str
) -> str | None:
    text = _text(what, item, key)
    if text is None or text == "":
        return text
    if form(text) not in known:
        near = nearest(form(text), known)
        hint = f"Did you mean {near!r}? " if near else ""
        raise InvalidValue(f"{what}: {key} {text!r}", f"there is no such {key}", f"{hint}Known are {', '.join(known)}")
    return form(text)


def _size(what: str, value: Any) -> int | None:
    if value is None:
        return None
    number = whole(value)
    # qemu-img and the file systems end at 8 EiB.
    if number is None or not 1 <= number < 1 << 43:
        raise InvalidValue(f"{what}: size {value!r}", "it is not a number of MB", "Give whole MB, 1 or more")
    return number


def _attributes(what: str, value: Any) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InvalidValue(f"{what}: attributes", f"it is a {type(value).__name__}", "Give a dict")
    return {
        vector_key(key, what): ("YES" if item else "NO") if isinstance(item, bool) else str(item)
        for key, item in value.items()
    }
