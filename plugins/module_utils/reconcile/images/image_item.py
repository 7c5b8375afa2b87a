# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what an item of a list of images says: its keys, and their values once they are checked."""

from __future__ import annotations

import base64
import binascii
import os
import posixpath
import re
import uuid
from collections.abc import Mapping
from typing import Any

from ...dataclass import dataclass
from ...errors import InvalidValue
from ...guest_disk.customize.recipes import Addition, Recipe
from ...host.urls import is_url, without_secrets
from ...model.disk import TAR
from ...model.item_reader import read_item
from ...model.object_names import check_name
from ...model.specifications.image import KEYS
from ...model.states import ImageType
from ...model.template import vector_key
from ...model.whole_numbers import file_mode
from ...storage.checksum import Checksum

DISKS = (ImageType.OS, ImageType.CDROM, ImageType.DATABLOCK)
# Types of images that machines can write to.
WRITABLE = (ImageType.OS, ImageType.DATABLOCK)
# Keys that a Spec has as the item has them.
_AS_GIVEN = ("persistent", "size", "compress", "sparse", "firmware", "bus", "dev_prefix", "target", "description")


@dataclass(frozen=True)
class Spec:
    """Holds one item, checked. None stands for what the user did not set.
    path: on the front-end if remote, else on the control node; or a URL
    clone_of, base: the image that it is made from, as it is or with `recipe`
    attributes: a value of None removes the attribute
    passphrase: is never shown nor kept"""

    name: str
    state: str = "present"
    renamed_from: str = ""
    path: str = ""
    remote: bool = False
    clone_of: str = ""
    base: str = ""
    recipe: Recipe | None = None
    checksum: Checksum | None = None
    type: ImageType | None = None
    persistent: bool | None = None
    size: int | None = None
    format: str = ""
    member: str = ""
    fs: str = ""
    compress: bool = False
    sparse: bool = False
    flatten: bool = False
    luks_secret: str | None = None
    passphrase: str = ""
    datastore: str = ""
    firmware: str | None = None
    bus: str | None = None
    dev_prefix: str | None = None
    target: str | None = None
    description: str | None = None
    attributes: Mapping[str, str | None] | None = None

    @property
    def from_control_node(self) -> bool:
        return bool(self.path) and not self.remote and not is_url(self.path)

    @property
    def has_content(self) -> bool:
        """Return whether the item says what an image of that name is to be made of."""
        return bool(self.path or self.clone_of or self.base or self.size)

    def __repr__(self) -> str:
        return f"Spec({self.name!r})"


def spec_of(item: Mapping[str, Any]) -> Spec:
    """Return the item, checked. Raise InvalidValue, which names the image, the key and the value."""
    name = check_name("image", item.get("name"))
    what = f"image {name}"
    given = read_item(item, KEYS, what, removal={"absent": ("name", "state", "renamed_from")})
    path = os.path.expanduser(given["path"] or "")
    if "://" in path and not is_url(path):
        shown = without_secrets(path)
        raise InvalidValue(f"{what}: path {shown}", "only http and https are fetched", "Give such a URL, or a path")
    sources = {key: given[key] or "" for key in ("clone_of", "from")}
    _refuse_two_sources(what, {"path": path, **sources})
    fs = given["fs"] or ""
    if fs and (path or sources["clone_of"] or sources["from"]):
        raise InvalidValue(
            f"{what}: fs {fs}", "only an empty image gets a file system", "Leave fs out, or what it is made of"
        )
    if given["checksum"] and not path:
        raise InvalidValue(f"{what}: checksum", "there is no file to compare with it", "Give its path")
    if given["member"] and not path:
        raise InvalidValue(f"{what}: member", "there is no OVA that would hold it", "Give its path")
    if given["target"] and not re.fullmatch(r"[a-z]{3,8}(:cdrom)?", given["target"]):
        found = f"{what}: target {given['target']!r}"
        raise InvalidValue(found, "it is not the name of a disk", "Write it as vda, sdb, hdc …")
    spec = Spec(
        name=name,
        state=given["state"] or "present",
        renamed_from=given["renamed_from"] or "",
        path=path,
        remote=given["remote_src"],
        clone_of=sources["clone_of"],
        base=sources["from"],
        recipe=_recipe(what, given),
        checksum=Checksum.parse(given["checksum"], what) if given["checksum"] else None,
        type=ImageType[given["type"]] if given["type"] else None,
        format=given["format"] or "",
        member=given["member"] or "",
        fs=fs,
        flatten=given["snapshot_flatten"],
        luks_secret=_uuid(what, given["luks_secret"]),
        passphrase=given["luks_passphrase"] or "",
        datastore=given["datastore"] or "",
        attributes=_attributes(what, given["attributes"]),
        **{key: given[key] for key in _AS_GIVEN},
    )
    _refuse_contradictions(what, spec)
    return spec


def _refuse_two_sources(what: str, sources: Mapping[str, str]) -> None:
    given = [key for key, value in sources.items() if value]
    if len(given) > 1:
        raise InvalidValue(
            f"{what}: {' and '.join(given)}", "an image is made of one thing", f"Give one of {', '.join(sources)}"
        )


# Keys for disks that the archive of a root file system can't have.
_OF_DISKS = ("persistent", "size", "compress", "sparse", "luks_secret", "fs", "firmware", "bus", "dev_prefix", "target")


def refuse_of_roots(what: str, spec: Spec) -> None:
    """Raise InvalidValue if an image that is a root file system is to be what only a disk can be."""
    words = {"base": "from", "flatten": "snapshot_flatten"}
    for key in (*_OF_DISKS, *words):
        if getattr(spec, key):
            raise InvalidValue(
                f"{what}: {words.get(key, key)}",
                "it is the archive of a root file system (format tar), and no disk",
                "Leave it out",
            )
    if spec.type not in (None, ImageType.OS):
        raise InvalidValue(
            f"{what}: type {spec.type.name}", "the archive of a root file system is of type OS", "Leave type out"
        )
    if spec.format not in ("", TAR):
        raise InvalidValue(
            f"{what}: format {spec.format}",
            "it is the archive of a root file system (format tar), of which no disk is made here",
            "Leave format out, or register a disk under another name",
        )


def _refuse_contradictions(what: str, spec: Spec) -> None:
    if spec.format == TAR:
        refuse_of_roots(what, spec)
    if spec.format == "raw" and spec.compress:
        raise InvalidValue(f"{what}: compress", "a raw file can't be compressed", "Give format: qcow2")
    if spec.format == "raw" and spec.luks_secret:
        raise InvalidValue(f"{what}: luks_secret", "only a qcow2 is encrypted here", "Give format: qcow2")
    if spec.compress and spec.luks_secret:
        raise InvalidValue(f"{what}: compress", "what is encrypted can't be compressed", "Leave one of the two out")
    if spec.renamed_from:
        check_name("image", spec.renamed_from)
    if spec.renamed_from == spec.name:
        raise InvalidValue(f"{what}: renamed_from", "it is its own name", "Give the name that it had before")
    if spec.name in (spec.clone_of, spec.base):
        raise InvalidValue(f"{what}: it is to be made of itself", "that is no other image", "Name another")
    if spec.type is not None and spec.type not in WRITABLE:
        for key in ("compress", "sparse", "luks_secret", "base"):
            if getattr(spec, key):
                word = "from" if key == "base" else key
                raise InvalidValue(f"{what}: {word}", f"not of type {spec.type.name}", "Only for OS and DATABLOCK")


def refuse_unused_passphrase(what: str, spec: Spec, luks_secret: str) -> None:
    """Raise InvalidValue for a passphrase that would encrypt nothing. luks_secret: the secret that the image has."""
    if spec.passphrase and not (spec.luks_secret or luks_secret):
        raise InvalidValue(
            f"{what}: luks_passphrase",
            "luks_secret is not given, so nothing would be encrypted",
            "Give luks_secret, the UUID of the secret by which machines open it",
        )


def _uuid(what: str, text: str | None) -> str | None:
    if not text:
        return text
    try:
        return str(uuid.UUID(text))
    except ValueError:
        asked = f"{what}: luks_secret {text!r}"
        remedy = "Give that of the secret, as virsh secret-list shows it"
        raise InvalidValue(asked, "it is not a UUID", remedy) from None


def _attributes(what: str, value: Mapping[str, Any] | None) -> dict[str, str | None] | None:
    if value is None:
        return None
    return {
        vector_key(key, what): None
        if item is None
        else ("YES" if item else "NO")
        if isinstance(item, bool)
        else str(item)
        for key, item in value.items()
    }


# -- what is added to an image -------------------------------------------------------------------------------------


def _recipe(what: str, item: Mapping[str, Any]) -> Recipe | None:
    given = {key: item[key] for key in ("packages", "files", "commands") if item[key]}
    if not item["from"]:
        if given:
            raise InvalidValue(
                f"{what}: {', '.join(given)}", "it says not to which image they are added", "Give from, an image's name"
            )
        return None
    packages = given.get("packages", ())
    return Recipe(
        packages=tuple(_package(what, each) for each in packages if not isinstance(each, Mapping)),
        sent=tuple(_sent(what, each) for each in packages if isinstance(each, Mapping)),
        files=tuple(_addition(f"{what}: files[{i}]", each) for i, each in enumerate(given.get("files", ()))),
        commands=tuple(_words(f"{what}: commands", each) for each in given.get("commands", ())),
    )


def _words(where: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise InvalidValue(where, "one of them is no text", "Give each as text, in quotes")
    return value


def _package(what: str, value: Any) -> str:
    text = _words(f"{what}: packages", value)
    if text.startswith("/") and not text.endswith((".deb", ".rpm", ".apk")):
        raise InvalidValue(f"{what}: packages: {text}", "it is no .deb, .rpm or .apk", "Give the file of a package")
    if not text.startswith("/") and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9+._:~=@-]*", text):
        raise InvalidValue(
            f"{what}: packages: {text!r}", "that is no name of a package", "Give a name, or the path of a package file"
        )
    return text


def _sent(what: str, value: Mapping[str, Any]) -> Addition:
    """Return the file of a package as the action plugin sends it."""
    name = value.get("name")
    if not isinstance(name, str) or "/" in name or set(value) != {"name", "content_base64"}:
        raise InvalidValue(f"{what}: packages", "one of them is a dict", "Give names, or paths of package files")
    _package(what, "/" + name)
    return Addition(path=name, content=_decoded(f"{what}: packages: {name}", value["content_base64"]))


def _decoded(where: str, text: Any) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except (ValueError, binascii.Error):
        raise InvalidValue(f"{where}: content_base64", "it is not base64", "Give content or src") from None


def _addition(where: str, value: Mapping[str, Any]) -> Addition:
    """Return a file that is put into the image, as the item's table has read it."""
    path = value["path"] or ""
    if not path.startswith("/") or posixpath.normpath(path) != path or path == "/":
        raise InvalidValue(f"{where}: path {path!r}", "it is no full path of a file in the image", "As /etc/motd")
    given = [key for key in ("content", "content_base64", "src") if value[key] is not None]
    if len(given) != 1:
        raise InvalidValue(f"{where}: path {path}", "its content is not given, or twice", "Give content or src")
    mode = file_mode(0o644 if value["mode"] is None else value["mode"])
    if mode is None:
        found = f"{where}: mode {value['mode']!r}"
        raise InvalidValue(found, "it is no mode of a file", "Write it as '0644', in quotes")
    owner = value["owner"] or "0:0"
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?", owner):
        raise InvalidValue(f"{where}: owner {owner!r}", "it is no user, nor user:group", "As root, or root:adm")
    src = value["src"] or ""
    if src and not src.startswith("/"):
        raise InvalidValue(f"{where}: src {src}", "it is not absolute", "Give the full path on the front-end")
    if value["content_base64"] is not None:
        content = _decoded(where, value["content_base64"])
    else:
        content = (value["content"] or "").encode()
    return Addition(path=path, content=content, src=src, mode=mode, owner=owner)
