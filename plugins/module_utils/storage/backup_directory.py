# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a directory of backups: for each its file and, written last, the manifest that makes it complete; copies of
images once for all of them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from ..dataclass import replace
from ..errors import CatalogError, ChecksumMismatch, InvalidValue, NebulaError, NotFound
from ..host.files import (
    clone,
    content_digest,
    explained,
    lock,
    make_directory,
    remove_file,
    sync_directory,
    write_atomically,
)
from ..model.catalog_backup import FORMAT, ImageFile, Manifest
from ..model.dataclass_json import from_plain, to_plain
from ..model.image import Image
from ..model.states import ImageState
from .datastore_layout import protect, require_space

MANIFEST = ".json"
DATABASE = ".db"
IMAGES = "images"
LOCK_SECONDS = 600
_NAME = r"[0-9a-f-]{36}-[0-9]{8,}-[0-9]{8}T[0-9]{6}Z\.db"
_COPY = r"[0-9a-f-]{36}-[0-9]+"
# Whatever else is in these directories is somebody's.
_UNFINISHED = re.compile(rf"\.{_NAME}(\.json\..*)?\.tmp\Z")
_IMAGE = re.compile(rf"{_COPY}\Z|\.{_COPY}\.tmp\Z")
_BLOCK = 1 << 20


def name_of(catalog: str, plan: int, time: str) -> str:
    return f"{catalog}-{plan:08d}-{time}{DATABASE}"


@contextlib.contextmanager
def locked(directory: str) -> Iterator[None]:
    """Hold the directory, made if it is missing, against other writers; what they left half-done is removed."""
    if not os.path.isdir(directory):
        make_directory(directory, 0o700)
    with lock(directory + "/", LOCK_SECONDS):
        for name in filter(_UNFINISHED.match, os.listdir(directory)):
            remove_file(os.path.join(directory, name))
        yield


def manifests(directory: str) -> tuple[list[Manifest], list[NebulaError]]:
    """Return the manifests of all complete backups, the oldest first; and why others can't be read."""
    found, unreadable = [], []
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(directory)):
            if name.endswith(DATABASE + MANIFEST):
                try:
                    found.append(read(os.path.join(directory, name)))
                except NebulaError as error:
                    unreadable.append(error)
    return sorted(found, key=lambda manifest: (manifest.time, manifest.plan)), unreadable


def read(path: str) -> Manifest:
    try:
        manifest = from_plain(Manifest, json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, AttributeError, InvalidValue) as error:
        raise CatalogError(f"manifest {path}", f"it can't be read: {error}", "Name another backup") from error
    if manifest.format != FORMAT:
        raise CatalogError(
            f"manifest {path}", f"its format is {manifest.format}", "Use the newer nebula.provision that wrote it"
        )
    return manifest


def write(directory: str, manifest: Manifest) -> str:
    path = os.path.join(directory, manifest.file + MANIFEST)
    write_atomically(path, json.dumps(to_plain(manifest), indent=1, sort_keys=True) + "\n", mode=0o600)
    return path


def newest(directory: str, catalogs: Collection[str]) -> str:
    """Return the newest backup of these catalogs; without any, of the only catalog of which there are backups."""
    asked, remedy = f"a backup in {directory}", "Name its file: -e nebula_backup=/path/to/it.db"
    found, unreadable = manifests(directory)
    if unreadable:
        # It may be the newest.
        raise CatalogError(asked, str(unreadable[0]), remedy)
    found = [manifest for manifest in found if not catalogs or manifest.catalog in catalogs]
    if not found:
        of = f" of catalog {' or '.join(sorted(catalogs))}" if catalogs else ""
        raise NotFound(asked, f"there is none that is complete{of}", remedy)
    several = sorted({manifest.catalog for manifest in found})
    if len(several) > 1:
        raise InvalidValue(asked, f"they are of several catalogs: {', '.join(several)}", remedy)
    return os.path.join(directory, found[-1].file)


def prune(directory: str, keep: int, catalog: str) -> list[str]:
    """Remove all but the newest `keep` of this catalog (0: keep all), and copies of images that none names. Return the
    files of the backups that were removed."""
    found, unreadable = manifests(directory)
    own = [manifest for manifest in found if manifest.catalog == catalog]
    gone = own[:-keep] if keep else []
    for manifest in gone:
        # In this order: what has no manifest is no backup.
        remove_file(os.path.join(directory, manifest.file + MANIFEST))
        remove_file(os.path.join(directory, manifest.file))
    named = {image.copy for manifest in found if manifest not in gone for image in manifest.images}
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        # One that can't be read may name them.
        for name in filter(_IMAGE.match, os.listdir(os.path.join(directory, IMAGES)) if not unreadable else ()):
            if os.path.join(IMAGES, name) not in named:
                remove_file(os.path.join(directory, IMAGES, name))
    sync_directory(directory)
    return [manifest.file for manifest in gone]


def sha256_of(path: str) -> str:
    with explained(path), Path(path).open("rb") as file:
        return content_digest(file)


def image_entry(image: Image) -> ImageFile:
    try:
        size = os.stat(image.source).st_size
    except OSError:
        size = None
    return ImageFile(image.name, image.uuid, image.source, size, image.sha256)


def copy_images(directory: str, images: Sequence[Image], warnings: list[str]) -> list[ImageFile]:
    """Copy the images' files and return their entries. A file that a machine writes to can't be copied as it is."""
    place = os.path.join(directory, IMAGES)
    # One that is there may be somebody's, and keeps its mode: the copies are closed themselves.
    if not os.path.isdir(place):
        make_directory(place, 0o700)
    found = []
    for image in images:
        entry = image_entry(image)
        if image.state == ImageState.USED_PERS:
            warnings.append(f"image {image.name} (id {image.id}) was not copied: a machine writes to it")
        elif entry.size is not None:
            name = f"{image.uuid}-{image.generation}"
            path = os.path.join(place, name)
            if not os.path.exists(path) or os.path.getsize(path) != entry.size:
                copy_file(image.source, path, 0o600)
            entry = replace(entry, copy=os.path.join(IMAGES, name))
        found.append(entry)
    return found


def bring_back(directory: str, image: ImageFile, check_mode: bool) -> str:
    """Return what became of an image's file: "" if it is there, "restored" from its copy, or what is the matter."""
    try:
        return _bring_back(directory, image, check_mode)
    except NebulaError as error:
        # The catalog is there by now, and the other images are to be.
        return str(error)


def _bring_back(directory: str, image: ImageFile, check_mode: bool) -> str:
    try:
        size = os.stat(image.source).st_size
        # One that machines write to grows.
        if image.sha256 and size != image.size:
            return f"its file {image.source} has {size} bytes, and had {image.size}"
        return ""
    except OSError:
        pass
    path = os.path.join(directory, image.copy)
    if not image.copy or not os.path.isfile(path):
        return f"its file {image.source} is not there, and the backup has no copy of it"
    if not check_mode:
        make_directory(os.path.dirname(image.source), 0o711)
        if image.sha256 and sha256_of(path) != image.sha256:
            return f"its file {image.source} is not there, and its copy {path} is damaged"
        copy_file(path, image.source, 0o400)
        protect(image.source, writable=False)
    return "restored"


def check(path: str, manifest: Manifest) -> None:
    """Raise ChecksumMismatch if the file is not the one for which the manifest was written."""
    found = sha256_of(path)
    if found != manifest.sha256:
        raise ChecksumMismatch(
            f"backup {path}: SHA-256 {manifest.sha256}", f"it is {found}: the file was changed or damaged",
            "Use another backup; this file was left as it is",
        )  # fmt: skip


def copy_file(source: str, path: str, mode: int = 0o600) -> None:
    """Copy a file, sharing its blocks where the file system can; the copy is there whole, or not at all."""
    temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.tmp")
    with explained(path):
        try:
            fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
            with os.fdopen(fd, "wb") as new, Path(source).open("rb") as old:
                if not clone(old.fileno(), new.fileno()):
                    require_space(os.path.dirname(path), os.fstat(old.fileno()).st_size, f"a copy of {source}")
                    shutil.copyfileobj(old, new, _BLOCK)
                new.flush()
                os.fsync(new.fileno())
            os.rename(temporary, path)
            sync_directory(os.path.dirname(path))
        finally:
            remove_file(temporary)
