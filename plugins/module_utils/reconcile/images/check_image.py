# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks an image of a list: gives each point of the check with its reason, and writes a page of all images."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ...dataclass import dataclass
from ...engines.base import Engine
from ...engines.registry import engine_of, open_engine
from ...errors import InUse, InvalidValue, NebulaError, NotFound, Unsupported, WrongState, harmless
from ...guest_disk.checks import live_points
from ...guest_disk.checks import points as image_points
from ...guest_disk.checks.image_facts import PASS, Facts
from ...guest_disk.inspect import inspection
from ...host import files
from ...model.image import Image
from ...model.item_reader import check_keys, read_item
from ...model.specification import Key
from ...model.specifications.image_check import KEYS
from ...model.states import ImageState, ImageType
from ...printable import LINES
from ...sync import Item
from ...text import check_page

OFFLINE, LIVE, BOTH = "offline", "live", "both"
MODES = (OFFLINE, LIVE, BOTH)
# Keys of the report that role image_check gives for a machine of each image.
REPORT_KEYS = {
    **dict.fromkeys(("console", "host_name", "injected", "snapshot", "why_not"), Key(default="")),
    **dict.fromkeys(("root_mib", "image_mib"), Key(type="int", default=0)),
}
READABLE = (ImageState.READY, ImageState.USED, ImageState.DISABLED, ImageState.CLONE)
_LONGEST_CONSOLE = 4 << 20
DISKS = (ImageType.OS, ImageType.DATABLOCK)


@dataclass(frozen=True)
class Target:
    """Describes the file that an item is about. label: what the item is called in results."""

    label: str
    what: str
    path: str
    format: str
    name: str = ""


@contextlib.contextmanager
def catalog_of(
    items: Iterable[Mapping[str, Any]], params: Mapping[str, Any], check_mode: bool
) -> Iterator[Engine | None]:
    """Yield the catalog where an item is an image of it, by its name; None where no item is, or no catalog is begun."""
    if not any(item.get("name") for item in items) or not engine_of(params).begun(params):
        yield None
        return
    with contextlib.closing(open_engine(params, check_mode)) as engine:
        yield engine


def check(
    engine: Engine | None, given: Mapping[str, Any], mode: str, reports: Mapping[str, Any], check_mode: bool
) -> tuple[Item, dict[str, Any]]:
    """Return the item, which never changes, and how results show it. engine: is open, for images by their names."""
    label = str(given.get("name") or given.get("path") or "?")
    is_there = False
    try:
        item = read_item(given, KEYS, f"image {label}")
        target = target_of(engine, item, mode)
        is_there = mode == LIVE or os.path.lexists(target.path)
        facts = Facts(os=item["os"])
        if mode != LIVE:
            # A guest may have written what the header of an image of the catalog names.
            trusted = item["trusted"] and not target.name
            facts = inspection.inspect_file(target.path, target.format, trusted, target.what, item["timezone"])
        heard_of, why_not = _report_of(target, mode, reports)
        findings = image_points.judge(facts, heard_of, looked=mode != LIVE, why_not=why_not)
    except NebulaError as error:
        if check_mode and isinstance(error, NotFound) and not is_there:
            # An earlier task of this run may be about to bring it.
            return Item(label, changed=False), _view(given, "", [])
        return Item(label, error=error, changed=False), {**_view(given, "", []), "error": str(error)}
    points = [finding.as_dict() for finding in findings]
    return Item(label, changed=False), _view(given, facts.name or ("" if mode == LIVE else facts.os), points)


def target_of(engine: Engine | None, item: Mapping[str, Any], mode: str) -> Target:
    """Return the file that an item is about, by its path or by its name in the catalog."""
    if bool(item["name"]) == bool(item["path"]):
        raise InvalidValue(
            "an image", "it needs either a name or a path", "Give name for one of the catalog, else path"
        )
    if item["path"]:
        return Target(item["path"], f"image {item['path']}", item["path"], item["format"])
    what = f"image {item['name']}"
    image = image_of_catalog(engine, item["name"], opened=mode != LIVE)
    if image.state == ImageState.USED_PERS:
        raise InUse(what, "it is persistent, and a machine writes to it", "Power that machine off, and end it first")
    if image.state not in READABLE:
        found = f"it is in state {image.state.name}" + (f" ({image.error})" if image.error else "")
        raise WrongState(what, found, "Store it first: run nebula_image for it again")
    # The catalog's format counts, not the header's: a guest can have written that.
    return Target(image.name, what, image.source, image.format, image.name)


def image_of_catalog(engine: Engine | None, name: str, opened: bool = True) -> Image:
    """Return an image of the catalog that is a disk. opened: it is to be looked into on this host."""
    what = f"image {name}"
    if engine is None:
        raise NotFound(what, "there is no catalog", "Give its path")
    with engine.session():
        image = engine.images.info(name)
    if image.type not in DISKS:
        raise InvalidValue(what, f"it is of type {image.type.name}", "Only disks (OS, DATABLOCK) hold a system")
    if image.luks_secret and opened:
        raise Unsupported(what, "it is encrypted, and its key is kept by libvirt", "Check it with mode: live")
    return image


def console_texts(consoles: Mapping[str, Any]) -> dict[str, str]:
    """Return what the console logs of these machines hold."""
    return {name: _end_of(str(path)) for name, path in consoles.items()}


def _end_of(console: str) -> str:
    """Return the end of a console log; "" for what is no file, since the hypervisor writes its log into a file."""
    try:
        fd = os.open(console, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (OSError, ValueError):
        return ""
    try:
        found = os.fstat(fd)
        # This comes before fdopen(), which a directory makes fail.
        if not stat.S_ISREG(found.st_mode):
            return ""
        with os.fdopen(fd, "rb", closefd=False) as file:
            file.seek(max(0, found.st_size - _LONGEST_CONSOLE))
            return file.read(_LONGEST_CONSOLE).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)


def write_report(path: str, views: Sequence[Mapping[str, Any]], check_mode: bool) -> Item:
    """Write the page of all images, unless it is there already."""
    text = check_page.render(views)
    try:
        if not os.path.isabs(path):
            raise InvalidValue(f"report {path}", "the path is not absolute", "Give the full path on this host")
        before = _present_page(path)
        if not check_mode and before != text:
            files.write_atomically(path, text, mode=0o644)
    except NebulaError as error:
        return Item(f"report {path}", error=error, changed=False)
    summary = {"images": [view.get("name") or view.get("path") for view in views]}
    return Item(f"report {path}", summary if before else None, summary, changed=before != text)


def _present_page(path: str) -> str:
    try:
        return files.read_limited(path, 64 << 20).decode("utf-8", "replace")
    except NotFound:
        return ""


def refuse_twins(items: Iterable[Mapping[str, Any]]) -> None:
    """Raise InvalidValue if two items are one image. An item without name and path is refused elsewhere."""
    seen: set[str] = set()
    for item in items:
        if not item.get("name") and not item.get("path"):
            continue
        key = f"name {item['name']}" if item.get("name") else f"path {os.path.realpath(str(item['path']))}"
        if key in seen:
            raise InvalidValue(f"option images: {key}", "two items are this image", "Name it once")
        seen.add(key)


def _report_of(target: Target, mode: str, reports: Mapping[str, Any]) -> tuple[live_points.GuestReport | None, str]:
    """Return what the guest of the image reported. If no guest was asked, return None, and why if that is known."""
    if mode == OFFLINE:
        return None, ""
    label = target.name or target.path
    given = reports.get(label)
    if not isinstance(given, Mapping):
        return None, ""
    check_keys(given, REPORT_KEYS, f"option said: {label}")
    values = read_item(given, REPORT_KEYS, f"option said: {label}")
    why_not = values.pop("why_not")
    if why_not:
        return None, why_not
    return live_points.GuestReport(values=live_points.values_of(values["console"]), **values), ""


def _view(given: Mapping[str, Any], os_name: str, points: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    shown = [{key: harmless(value, 1000, LINES) for key, value in point.items()} for point in points]
    counts = {
        result.replace(" ", "_"): sum(point["result"] == result for point in shown) for result in image_points.RESULTS
    }
    return {
        "name": given.get("name"),
        "path": given.get("path"),
        "os": os_name,
        # Nothing that was asked for is wrong with it.
        "fit": bool(shown) and not counts["fail"] and bool(counts[PASS]),
        "counts": counts,
        "points": shown,
    }
