# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends files of images from the front-end to nodes that lack them, and fetches what machines wrote."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..dataclass import dataclass
from ..engines.base import Engine
from ..errors import Conflict, ImageRefused, InvalidValue, NebulaError, NoSpace, NotFound, StorageFailed
from ..host.files import (
    content_digest,
    explain,
    explained,
    lock,
    make_directory,
    remove_file,
    settle,
    sync_directory,
    write_atomically,
)
from ..host.rsync import Exchange, Peer
from ..model import disk_snapshots
from ..model.dataclass_json import from_plain
from ..model.disk import TAR
from ..model.image import Image
from ..model.image_deliveries import generations_of, has_images_to_fetch
from ..model.image_operations import returning_host
from ..model.plan import Observed
from ..model.states import ImageState
from ..model.transfer import CHECK, OWN_PREFIX, PlannedImage, is_outdated, name_of
from ..storage import disk_formats
from ..storage.datastore_layout import MIB, RETURN, protect, require_space
from ..sync import Item, Result
from .transfer_key import place

LOCK_SECONDS = 4 * 3600
# How many hosts are sent to or fetched from at once.
AT_ONCE = 4
# What headers and tables of a disk's format take beside its content.
_SLACK = 64 * MIB


@dataclass(frozen=True)
class Fetched:
    """Says what became of an image's file.
    error: why it never will come, "" if it is in its place
    size: MiB of its disk then"""

    error: str = ""
    size: int = 0


def peers(hosts: Mapping[str, Any]) -> dict[str, Peer]:
    found = {}
    for name, given in hosts.items():
        if not isinstance(given, Mapping) or not given.get("address"):
            raise InvalidValue(f"host {name}", "its address is not given", "Give address, port and keys of each host")
        port = str(given.get("port") or 22)
        if not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise InvalidValue(
                f"host {name}: port {port!r}", "it is no port", "Set nebula_transfer_port to that of its sshd"
            )
        found[name] = Peer(name, str(given["address"]), int(port), keys=tuple(given.get("keys") or ()))
    return found


def send(root: str, wanted: Mapping[str, Any], hosts: Mapping[str, Any], check_mode: bool) -> Result:
    """Send files to all hosts. wanted: what model.image_deliveries.images_to_send() found."""
    work = {host: [from_plain(PlannedImage, image) for image in given["images"]] for host, given in wanted.items()}
    known = peers({host: hosts.get(host) for host in work})
    with ThreadPoolExecutor(AT_ONCE) as pool:
        jobs = [
            pool.submit(_send, root, known[host], images, int(wanted[host]["room"]), check_mode)
            for host, images in work.items()
        ]
        items = [item for job in jobs for item in job.result()]
    return Result(items, {"hosts": sorted(work)})


def _send(root: str, peer: Peer, images: Sequence[PlannedImage], room: int, check_mode: bool) -> list[Item]:
    """Send the smallest files first, as far as they fit: one that is too large keeps no other from being sent."""
    exchange = Exchange(place(root), peer)
    items, left = [], room * MIB
    sizes = {image.local: _bytes_taken(image.path) for image in images}
    for image in sorted(images, key=lambda image: (sizes[image.local], image.local)):
        name, taken = f"image {image.image} to host {peer.name}", sizes[image.local]
        try:
            if taken > left:
                raise NoSpace(
                    f"{name}: {taken / MIB:.1f} MiB",
                    f"{left / MIB:.1f} MiB are left below its nebula_root, besides what else is sent there",
                    "Make room there; what no machine there uses is removed with the next plan once the catalog has it "
                    "no more",
                )
            if not check_mode:
                _send_one(exchange, image, root)
            left -= taken
            items.append(Item(name, {"state": "absent"}, {"state": "sent"}))
        except NebulaError as error:
            items.append(Item(name, error=_naming(error, image.image), changed=False))
    return items


def _naming(error: NebulaError, image: str) -> NebulaError:
    """Return the error with the image's name: paths and names of files do not tell which image it is."""
    if f"image {image}" not in error.asked:
        error.asked = f"image {image}: {error.asked}"
    return error


def _bytes_taken(path: str) -> int:
    """Return how many bytes the file takes; holes take none."""
    try:
        return os.stat(path).st_blocks * 512
    except OSError:
        return 0


def _send_one(exchange: Exchange, image: PlannedImage, root: str) -> None:
    with explained(image.path):
        size = os.path.getsize(image.path)
    digest = image.sha256 or _digest(image.path)
    exchange.push(image.path, f"in/{image.name}")
    # The same image may be on its way to another host.
    check = os.path.join(place(root), f"{exchange.peer.name}.{image.name}{CHECK}")
    try:
        # The check file comes last: if it is there, the image's file is whole.
        write_atomically(check, json.dumps({"size": size, "sha256": digest}), mode=0o600, sync=False)
        exchange.push(check, f"in/{image.name}{CHECK}")
    finally:
        remove_file(check)


def _digest(path: str) -> str:
    with explained(path), Path(path).open("rb", buffering=0) as file:
        return content_digest(file)


# -- what comes back ------------------------------------------------------------------------------------------------
def fetch(
    engine: Engine, root: str, observed: Sequence[Observed], hosts: Mapping[str, Any], check_mode: bool
) -> Result:
    """Fetch all that images wait for from hosts of this run, and finish what an earlier run fetched."""
    if check_mode:
        awaited = [
            image for image in _pool(engine) if returning_host(image.operation) in {node.host for node in observed}
        ]
        items = [Item(image.name, _shown(image), {"state": ImageState.READY.name}) for image in awaited]
        return Result(items, {"images": [image.name for image in awaited]})
    if not has_images_to_fetch(_pool(engine), observed):
        return Result(payload={"images": []})
    make_directory(place(root), 0o700)
    with lock(os.path.join(place(root), ""), LOCK_SECONDS):
        # The images are read under the lock: what another run fetched may belong to a machine again.
        pool = _pool(engine)
        by_host = {
            node.host: [image for image in pool if returning_host(image.operation) == node.host] for node in observed
        }
        known = peers({node.host: hosts.get(node.host) for node in observed if node.reached and by_host[node.host]})
        items = []
        with ThreadPoolExecutor(AT_ONCE) as workers:
            jobs = [workers.submit(_fetch_from, root, node, known, by_host[node.host]) for node in observed]
            for image, found in (each for job in jobs for each in job.result()):
                items.append(found if isinstance(found, Item) else _record(engine, image, found))
        generations = generations_of(_pool(engine))
        for node in observed:
            if node.reached and node.host in hosts:
                _release_past(root, peers({node.host: hosts[node.host]})[node.host], node, pool, generations)
    return Result(items, {"images": [item.name for item in items if item.error is None]})


def _pool(engine: Engine) -> list[Image]:
    with engine.session():
        return engine.images.pool()


def _fetch_from(
    root: str, node: Observed, known: Mapping[str, Peer], images: Sequence[Image]
) -> list[tuple[Image, Item | Fetched]]:
    """Return what became of each image."""
    found: list[tuple[Image, Item | Fetched]] = []
    for image in images:
        try:
            if not node.reached:
                raise StorageFailed(
                    f"image {image.name}: what its last machine wrote",
                    f"it is on host {node.host}, which did not answer",
                    "Run again once it answers; until then the image can't be used. If it is gone for good: "
                    "nebula.provision.forget_host, then the image is as it was before that machine",
                )
            found.append((image, _fetch(Exchange(place(root), known[node.host]), node, image)))
        except (NebulaError, OSError) as problem:
            error = problem if isinstance(problem, NebulaError) else explain(problem, image.source)
            found.append((image, Item(image.name, _shown(image), error=_naming(error, image.name), changed=False)))
    return found


def _fetch(exchange: Exchange, node: Observed, image: Image) -> Fetched:
    """Bring the file into the image's place."""
    name, asked = name_of(image.uuid, image.generation), f"image {image.name} from host {node.host}"
    directory, base = os.path.split(image.source)
    new = image.source + RETURN
    _tidy(directory, base)
    if not exchange.has(f"out/{name}"):
        if OWN_PREFIX + name in node.images:
            raise Conflict(asked, "its machine is not at its end there", "Run again: what is unfinished is carried on")
        return Fetched(
            f"what its last machine wrote is not on host {node.host}: the file is as it was before that machine"
        )
    taken, length = _announced_size(node, name, image, asked)
    # Room is needed for the whole file, even if half of it is here already.
    require_space(directory, taken, asked)
    # Not more is fetched than the host has said, and the catalog's size allows. (0 would be no limit.)
    exchange.pull(f"out/{name}", new, taken, max(length, 1))
    try:
        facts = disk_formats.inspect(
            new, image.format, f"image {image.name}", deep=False, encrypted=bool(image.luks_secret)
        )
    except ImageRefused as error:
        error.asked = asked
        error.remedy = (
            f"What the machine wrote is transfer/out/{name} below nebula_root on {node.host}, and stays there. Mend it "
            "there, then run again. To give it up, so that the image is as it was before that machine: remove it "
            "there, then run again"
        )
        raise
    protect(new, writable=False)
    with explained(image.source):
        settle(new)
        os.rename(new, image.source)
        sync_directory(directory)
    return Fetched(size=-(-facts.virtual_size // MIB))


def _announced_size(node: Observed, name: str, image: Image, asked: str) -> tuple[int, int]:
    """Return the bytes that the file will take here, and its length, as its host has said. Raise Conflict if it has
    not, and InvalidValue if the image can't be so large."""
    if name not in node.lengths or name not in node.returns:
        raise Conflict(asked, "it is there, and the host did not say how large it is", "Run again: it does then")
    taken, length = node.returns[name], node.lengths[name]
    if length > most_bytes(image):
        size = -(-length // MIB)
        remedy = "Find out who else has power over that host before what it has is used"
        if image.state != ImageState.LOCKED:
            # What was saved (LOCKED) is refused by its host itself, if somebody made it larger.
            remedy = (
                f"If somebody made it larger on that host: set size: {size} for this image in nebula_images, then run "
                f"again. If nobody did: {remedy[0].lower()}{remedy[1:]}"
            )
        raise InvalidValue(
            asked,
            f"its file has {size} MiB there, and the catalog has a disk of {image.size} MiB; nothing of it was sent",
            remedy,
        )
    # An archive has no holes.
    return length if image.format == TAR else taken, length


def most_bytes(image: Image) -> int:
    """Return how many bytes an image's file may have by what the catalog says of its disk, whatever its host says."""
    size = image.size * MIB
    if image.format == "raw":
        return size + _SLACK
    # Each snapshot may hold a whole disk; what a deleted one held stays in the file. Of a root's archive it is what its
    # files take, and their headers.
    disks = len(disk_snapshots.tree_of(image.snapshots)) + 2
    return size * disks + size // 64 + _SLACK


def _tidy(directory: str, base: str) -> None:
    """Remove what an rsync that was killed was writing. What it had kept as RETURN is gone on with."""
    for name in os.listdir(directory) if os.path.isdir(directory) else ():
        if name.startswith(f".{base}{RETURN}."):
            remove_file(os.path.join(directory, name))


def _release_past(
    root: str, peer: Peer, node: Observed, images: Sequence[Image], generations: Mapping[str, int]
) -> None:
    """Remove from a host files that are recorded as fetched. If that fails, or the run ends, a later run does it."""
    sources = {image.uuid: image.source for image in images}
    for name in node.returns:
        uuid = name.rpartition("-")[0]
        if not is_outdated(name, generations) or uuid not in sources:
            continue
        new = sources[uuid] + RETURN
        # A link stands for the image's file: a machine may be writing to that by now, and it would be replaced.
        with contextlib.suppress(NebulaError, OSError):
            remove_file(new)
            try:
                os.link(sources[uuid], new)
                Exchange(place(root), peer).release(f"out/{name}", new, os.path.getsize(new) + _SLACK)
            finally:
                remove_file(new)


def _record(engine: Engine, image: Image, came: Fetched) -> Item:
    error = came.error
    try:
        with engine.session():
            after = engine.images.returned(image.id if image.id is not None else image.name, error, came.size)
    except NotFound as problem:
        return Item(image.name, _shown(image), error=problem, changed=False)
    problem_: NebulaError | None = None
    if error and after.state == ImageState.ERROR:
        problem_ = NotFound(f"image {image.name}", error, "Take it as it is: nebula_image with state: enabled")
    return Item(image.name, _shown(image), _shown(after), problem_)


def _shown(image: Image) -> dict[str, Any]:
    return {"state": image.state.name, "generation": image.generation}
