# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares the image datastore with the catalog's images: what is missing, not as it was stored, or left over."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence

from ..errors import NebulaError
from ..host.files import content_digest, opened
from ..model.audit_finding import DIFFERENCE, UNFINISHED, Finding
from ..model.image import Image
from ..model.image_operations import Prepare, Rewrite, returning_host
from ..model.machine_backup import IN_DATASTORE
from ..model.states import ImageState, ImageType
from . import disk_creation, disk_formats, qcow2_header, uploads
from .datastore_layout import IMAGES, MARKER, MIB, RETURN, SYSTEM, hypervisor_group, image_directory, numbers
from .final_names import GIVEN, HEAD, MEMBER, NEW, PART
from .image_files import BESIDE, WORK

_STORED = (ImageState.READY, ImageState.USED, ImageState.USED_PERS, ImageState.DISABLED, ImageState.CLONE)
# What lies beside an image while a run is at it.
_ENDS = (NEW, NEW + ".raw", NEW + MEMBER, NEW + HEAD, NEW + BESIDE, GIVEN, PART, WORK)
_DISKS = (ImageType.OS, ImageType.CDROM, ImageType.DATABLOCK)
AGAIN = "Run playbook nebula.provision.site, or nebula_image for it, again with its path"
LOST = (
    "Copy the file back from a backup; without one, end the machines that use the image (state: absent), remove the "
    "image (state: absent) and import it again"
)


def findings(images: Sequence[Image], root: str, deep: bool = False) -> list[Finding]:
    """Return what differs. deep: compare the content with the hash of when it was stored, which reads all of it."""
    found = [finding for image in images for finding in _image_findings(image, deep)]
    # Datastore 0 is a node's.
    places = {image_directory(root, number) for number in numbers(root) if number != SYSTEM}
    directories = sorted({image_directory(root, IMAGES), *places, *(os.path.dirname(image.source) for image in images)})
    known = {image.source for image in images}
    return found + [finding for place in directories for finding in _left_over(place, known)]


def _image_findings(image: Image, deep: bool) -> Iterator[Finding]:
    what = f"image {image.name} (id {image.id})"
    host = returning_host(image.operation)
    if host:
        found = f"it is {image.state.name}: what its last machine wrote, or was saved as it, is on host {host}"
        remedy = (
            "Run playbook nebula.provision.site once that host answers: it fetches that; if the host is gone: "
            "nebula.provision.forget_host"
        )
        yield Finding("image-unfinished", "", what, found, remedy, UNFINISHED)
    elif image.state in (ImageState.LOCKED, ImageState.INIT, ImageState.DELETE):
        going = _held(image.source + PART)
        prepared = isinstance(image.operation, Prepare)
        changed = prepared or isinstance(image.operation, Rewrite)
        verb = "removed" if image.state == ImageState.DELETE else "changed" if changed else "stored"
        found = f"it is {image.state.name}: a run is at it" if going else f"it was not {verb} completely"
        again = "Run nebula_image_prepare for it again, which finishes it" if prepared else AGAIN
        yield Finding("image-unfinished", "", what, found, "Wait for that run" if going else again, UNFINISHED)
    elif image.state == ImageState.ERROR:
        remedy = f"Remove the cause. {AGAIN}"
        if image.unfinished:
            remedy = "Let what installs it come to its end, or remove it (nebula_image with state: absent)"
        yield Finding("image-failed", "", what, f"it is ERROR ({image.error})", remedy, UNFINISHED)
    elif image.state in _STORED:
        try:
            for found, remedy in _file_faults(image, deep):
                yield Finding("image-file", "", what, f"its file {image.source} {found}", remedy)
        except (OSError, NebulaError) as error:
            reason = error.found if isinstance(error, NebulaError) else error.strerror
            yield Finding("image-file", "", what, f"its file {image.source} can't be read: {reason}", LOST)


def _file_faults(image: Image, deep: bool) -> Iterator[tuple[str, str]]:
    try:
        found = os.lstat(image.source)
    except FileNotFoundError:
        yield "is not there", LOST
        return
    if not stat.S_ISREG(found.st_mode):
        yield "is no file", LOST
        return
    allowed = 0o660 if image.persistent else 0o440
    mode = stat.S_IMODE(found.st_mode)
    # A persistent image that a machine has open belongs to QEMU's user then, and so does what a machine boots directly:
    # libvirt can be asked to leave the owner of a disk, and not that of a kernel.
    given = image.persistent or image.type in (ImageType.KERNEL, ImageType.RAMDISK)
    if mode & ~allowed or (not given and (found.st_uid, found.st_gid) not in ((0, 0), (0, hypervisor_group()))):
        owner = f"{found.st_uid}:{found.st_gid}"
        group = "kvm" if hypervisor_group() != -1 else "root"
        right = f"chown root:{group} {image.source}; chmod {allowed:04o} {image.source}"
        yield f"has mode {mode:04o} and owner {owner}", f"See who changed it, then: {right}"
    if image.type in _DISKS:
        size = -(-disk_creation.virtual_size(image.source, image.format) // MIB)
        # A machine that has a larger disk on it has made it grow, and the catalog hears of that when it was recorded.
        if size < image.size or (size != image.size and not image.persistent):
            yield f"has {size} MiB, and the image {image.size}", LOST
            return
    # While a machine writes to it, its tables are not all in the file.
    if image.format == "qcow2" and image.state != ImageState.USED_PERS:
        yield from _table_faults(image)
    if deep and image.sha256 and image.state != ImageState.USED_PERS:
        digest = _sha256(image.source)
        if digest != image.sha256:
            yield f"has the SHA-256 {digest}, and {image.sha256} was stored", LOST


def _table_faults(image: Image) -> Iterator[tuple[str, str]]:
    try:
        disk_formats.inspect(image.source, image.format, f"image {image.name}", encrypted=bool(image.luks_secret))
    except NebulaError as error:
        yield f"is damaged: {error.found}", LOST


def _sha256(path: str) -> str:
    with qcow2_header.open_binary(path) as file:
        return content_digest(file)


def _left_over(place: str, known: set[str]) -> Iterator[Finding]:
    try:
        names = sorted(os.listdir(place))
    except FileNotFoundError:
        return
    for name in names:
        path = os.path.join(place, name)
        if path in known or name in (MARKER, IN_DATASTORE):
            continue
        found, remedy = "it belongs to no image of the catalog", f"See what it is; if it can go: rm -r {path}"
        severity = DIFFERENCE
        if name.startswith(uploads.PREFIX):
            found = "an upload that was broken off" if not _held(path) else "an upload that goes on"
            remedy = (
                "Run playbook nebula.provision.site again, which goes on with it; if the image is not wanted any more: "
                f"rm {path}"
            )
            severity = UNFINISHED
        elif any(name.endswith(end) and (image := path[: -len(end)]) in known for end in _ENDS):
            held = _held(image + PART)
            found = "a file that a run is storing" if held else "what a run that was killed had stored of an image"
            again = f"Run playbook nebula.provision.site again; if it stays: rm {path}"
            remedy = "Wait for that run" if held else again
            severity = UNFINISHED
        elif _returns(path, known):
            found = "what comes back of an image from a host, or an earlier run had begun to fetch"
            remedy = f"Run playbook nebula.provision.site again; if it stays, and the image is READY: rm {path}"
            severity = UNFINISHED
        elif name.startswith(".") and name.endswith(".context") and os.path.join(place, name[1:-8]) in known:
            held = _held(os.path.join(place, name[1:-8]) + PART)
            found = "what a run changes in an image" if held else "what a run that was killed changed in an image"
            remedy = "Wait for that run" if held else "Run nebula_image_prepare for that image again, which finishes it"
            severity = UNFINISHED
        yield Finding("image-left", "", f"file {path}", found, remedy, severity)


def _returns(path: str, known: set[str]) -> bool:
    """Return whether a file is one that came back beside an image (RETURN), or rsync's unfinished form of it:
    .NAME.return.abc."""
    place, name = os.path.split(path)
    image, found, _rest = name.lstrip(".").partition(RETURN)
    return bool(found) and os.path.join(place, image) in known


def _held(path: str) -> bool:
    with contextlib.suppress(OSError), opened(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as fd:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
