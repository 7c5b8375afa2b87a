# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads an item of a list of installations, checked and with all defaults."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from ..dataclass import dataclass, replace
from ..engines.base import Engine
from ..engines.template_items import template_of
from ..errors import Conflict, ImageRefused, InvalidValue, NebulaError, NotFound
from ..host.urls import is_url, without_secrets
from ..model import defaults, installation_marks
from ..model.flags import flag
from ..model.image import Image
from ..model.item_reader import check_keys, read_item, value_of
from ..model.object_names import LONGEST, check_name, did_you_mean, nearest_word
from ..model.specification import Key
from ..model.specifications.install import KEYS
from ..model.template import Template
from ..model.whole_numbers import whole
from ..storage.checksum import Checksum
from . import answer_files, installation_end
from .answer_files import Kind
from .installer_iso import Facts
from .next_step import Shape

# Of the keys that are a text or a dict: what the dict may say.
ISO_KEYS = {"image": Key(), "path": Key(), "remote_src": Key(type="bool", default=False), "checksum": Key()}
VERIFY_KEYS = {
    "pattern": Key(),
    "timeout": Key(type="int", default=defaults.TRIAL_SECONDS, unit="seconds", least=1, most=KEYS["timeout"].most),
}
END_KEYS = {"pattern": Key()}
_END = Key(choices=installation_end.ENDS, empty=True)
_WAY = Key(choices=answer_files.WAYS, empty=True)
# These have readers of their own.
_AS_GIVEN = ("name", "iso", "template", "template_file", "end", "verify")
# What follows the name of an image in names of ours.
_LONGEST_AFFIX = len("install--answers")


@dataclass(frozen=True)
class Iso:
    """Describes the installer's ISO: an image's name, and where its file is if there is no such image yet.
    remote: whether the file is on the front-end."""

    image: str
    path: str = ""
    remote: bool = False
    checksum: str = ""

    @property
    def origin(self) -> str:
        """Return the path as it may be shown, and as the catalog keeps it."""
        return without_secrets(self.path) if is_url(self.path) else self.path

    def item(self, install: str) -> dict[str, Any]:
        """Return the item for role image, in which a URL lacks its secrets. install: whose list has them."""
        item: dict[str, Any] = {"name": self.image, "type": "CDROM", "path": self.origin, "remote_src": self.remote}
        return {"install": install, **item, **({"checksum": self.checksum} if self.checksum else {})}

    def refuse_other(self, where: str, image: Image) -> None:
        """Raise Conflict if the image of the same name is not this ISO."""
        remedy = "If it is another, give it another name: iso: {path: …, image: …}"
        if self.path and image.origin and image.origin != self.origin:
            found = f"image {image.name} was taken from {image.origin}"
            same = f"If it is the same ISO, use what is stored: iso: {{image: {image.name}}}. {remedy}"
            raise Conflict(f"{where}: iso {self.origin}", found, same)
        if self.checksum:
            wanted = Checksum.parse(self.checksum, f"{where}: iso")
            has = image.checksums.get(wanted.algorithm, wanted.digest)
            if has != wanted.digest:
                found = f"image {image.name} has {wanted.algorithm}:{has}"
                raise Conflict(f"{where}: iso {self.image}: checksum {wanted}", found, remedy)


@dataclass(frozen=True)
class Spec:
    """Describes one item.
    size: MiB of the disk.
    own: the user's template.
    missing: why there is no template, which matters only as long as anything is to be made of it.
    refused: why nothing is to be installed by its answers; what is installed, or is being installed, stays.
    kind: None without answers.
    way: how the answers are given.
    pattern: the line that is the end.
    trial: the line by which the guest is believed.
    end: as installs has it."""

    name: str
    state: str
    iso: Iso
    size: int = 0
    format: str = "raw"
    own: Template = field(default_factory=Template, repr=False)
    missing: NebulaError | None = None
    refused: NebulaError | None = None
    kind: Kind | None = None
    way: str = ""
    hostname: str = ""
    boot: str = answer_files.FROM_ISO
    kernel: str = ""
    initrd: str = ""
    kernel_cmd: str = ""
    drivers: str = ""
    pattern: str = ""
    marker: bool = False
    timeout: int = defaults.INSTALL_SECONDS
    verify: bool = True
    trial: str = ""
    trial_timeout: int = defaults.TRIAL_SECONDS
    keep: bool = False
    host: str = ""
    shape: Shape = Shape("", "")

    @property
    def where(self) -> str:
        return f"install {self.name}"

    @property
    def failures(self) -> tuple[str, ...]:
        return (*answer_files.COMMON_FAILURES, *(self.kind.failures if self.kind else ()))


def spec_of(item: Mapping[str, Any], engine: Engine, local: Mapping[str, Any]) -> Spec:
    """Return the item, checked. Raise InvalidValue, which names the installation, the key and the value.
    local: where the ISO is on the control node, as the action plugin found it: {path, remote}."""
    name = check_name("image", item.get("name"))
    where = f"install {name}"
    if len(name) + _LONGEST_AFFIX > LONGEST:
        raise InvalidValue(where, f"the name has {len(name)} characters", f"Use {LONGEST - _LONGEST_AFFIX} at most")
    item = read_item(item, KEYS, where, _AS_GIVEN, {"absent": ("name", "state")})
    state = item["state"] or "present"
    if state == "absent":
        return Spec(name, state, Iso(""), shape=Shape(name, ""))
    for key in ("iso", "size"):
        if item.get(key) is None:
            raise InvalidValue(f"{where}: {key}", "it is not given", "Every installation has an iso and a size (MB)")
    answers = item["answers"]
    kind = answer_files.kind_of(answers.get("kind"), f"{where}: answers") if answers is not None else None
    usual = "windows" if kind is not None and kind.name == "autounattend" else "linux"
    profile = item["profile"] or usual
    windows = profile == "windows"
    firmware = item["firmware"] or ("UEFI_SECURE" if windows else "BIOS")
    boot = item["boot"] or (kind.boots[0] if kind else answer_files.FROM_ISO)
    iso = _iso(item["iso"], name, engine, local)
    own, missing = _template(item, where, engine)
    spec = Spec(
        name=name,
        state=state,
        iso=iso,
        size=item["size"],
        format=item["format"] or "raw",
        own=own,
        missing=missing,
        kind=kind,
        boot=boot,
        kernel=_text(item, "kernel", where),
        initrd=_text(item, "initrd", where),
        kernel_cmd=_text(item, "kernel_cmd", where),
        drivers=_text(item, "drivers", where),
        timeout=item["timeout"],
        keep=item["keep"],
        host=_text(item, "host", where),
        shape=Shape(
            name=name,
            iso=iso.image,
            firmware=firmware,
            profile=profile,
            bus=item["bus"] or ("sata" if windows and not item["drivers"] else "virtio"),
            cdrom=item["cdrom"] or ("sata" if windows else "scsi"),
            machine=_text(item, "machine", where),
        ),
    )
    spec = _with_answers(spec, answers, where)
    spec = _with_end(spec, item, where)
    spec = _with_verify(spec, item, where)
    _check(spec)
    memory = max(kind.memory if kind else 0, 4096 if windows else 2048)
    return replace(spec, shape=replace(spec.shape, memory=memory))


def _iso(given: Any, install: str, engine: Engine, local: Mapping[str, Any]) -> Iso:
    where = f"install {install}"
    parts = {"path": given} if isinstance(given, str) else given
    if not isinstance(parts, Mapping):
        raise InvalidValue(f"{where}: iso", f"it is a {type(given).__name__}", "Give a path, a URL, or a dict")
    check_keys(parts, ISO_KEYS, f"{where}: iso")
    parts = read_item(parts, ISO_KEYS, f"{where}: iso")
    path, image = _text(parts, "path", f"{where}: iso"), _text(parts, "image", f"{where}: iso")
    if not path and not image:
        raise InvalidValue(f"{where}: iso", "it names neither a path nor an image", "Give one of them")
    if "://" in path and not is_url(path):
        raise InvalidValue(f"{where}: iso", "only http and https are fetched", "Give such a URL, or a path")
    remote = parts["remote_src"]
    if isinstance(given, str) and not is_url(path) and not local.get("path") and "/" not in path:
        # No such file: the name of an image, then.
        pool = {each.name: each for each in engine.images.pool()}
        known = [*pool]
        if path in known:
            return Iso(path)
        origin = pool[install].attributes.get(installation_marks.FROM) if install in pool else ""
        if origin and origin in (path, _name_of(path)):
            # It is not asked for once the image is made.
            return Iso(origin)
        near = nearest_word(path, known)
        raise InvalidValue(
            f"{where}: iso {path!r}",
            f"there is no image of that name, and as a file {local.get('lost') or 'it is not on the control node'}",
            did_you_mean(near) + "Give the ISO's path or URL, or the name of an image",
        )
    if path and not is_url(path) and not remote:
        path, remote = str(local.get("path") or path), bool(local.get("remote"))
    name = image or _name_of(path)
    return Iso(check_name("image", name), path, remote, _text(parts, "checksum", f"{where}: iso"))


def _name_of(path: str) -> str:
    """Return an image's name for an ISO's path or URL."""
    last = re.split(r"[?#]", path)[0].rstrip("/").rpartition("/")[2]
    # With its ending: the image that is installed from debian12.iso may well be called debian12.
    return "".join(c if c.isprintable() else "_" for c in last).strip()[:LONGEST] or "iso"


def _template(item: Mapping[str, Any], where: str, engine: Engine) -> tuple[Template, NebulaError | None]:
    """Return the template, or why it is not there."""
    given, file = item.get("template"), item.get("template_file")
    if given is None and file is None:
        return Template(), None
    try:
        if isinstance(given, str) and file is None and "=" not in given:
            return engine.templates.info(given).template, None
        return template_of({"name": where, "template": given, "template_file": file})[1], None
    except NotFound as error:
        return Template(), error


def _with_answers(spec: Spec, answers: Mapping[str, Any] | None, where: str) -> Spec:
    if answers is None or spec.kind is None:
        return spec
    kind, here = spec.kind, f"{where}: answers"
    way = value_of(answers.get("way") or "", _WAY, here, "way") or kind.ways[0]
    if way not in kind.ways:
        raise InvalidValue(
            f"{here}: way {way}", f"{kind.title} can't be given so", f"It can be given by {', '.join(kind.ways)}"
        )
    if spec.boot not in kind.boots:
        raise InvalidValue(
            f"{where}: boot {spec.boot}",
            f"{kind.title} does not reach its installer then"
            if spec.boot == answer_files.FROM_ISO
            else f"the installer that takes {kind.title} has no kernel to boot directly",
            f"With these answers boot is {' or '.join(kind.boots)}",
        )
    if way == answer_files.INITRD and spec.boot != answer_files.FROM_KERNEL:
        raise InvalidValue(f"{here}: way initrd", "the ISO is booted, with its own initrd", "Set boot: kernel")
    if (spec.shape.profile == "windows") != (kind.name == "autounattend"):
        raise InvalidValue(f"{here}: kind {kind.name}", f"the profile is {spec.shape.profile}", "Leave profile out")
    if answers.get("file"):
        extra = [key for key in answers if key not in answer_files.OPTIONS]
        if extra:
            raise InvalidValue(
                f"{here}: {', '.join(extra)}", "a file of your own has no variables of ours", "Leave them out, or file"
            )
        return replace(spec, way=way)
    values = answer_files.variables_of(kind, answers, here)
    answer_files.check_accounts(kind, values, here)
    refused = None
    try:
        answer_files.check_late(kind, values, spec.name, here)
    except InvalidValue as error:
        refused = error
    hostname = answer_files.host_of(kind, values, spec.name)
    return replace(spec, way=way, hostname=hostname, refused=refused, marker=True)


def _with_end(spec: Spec, item: Mapping[str, Any], where: str) -> Spec:
    given = item.get("end")
    pattern = ""
    if isinstance(given, Mapping):
        check_keys(given, END_KEYS, f"{where}: end")
        pattern = _text(read_item(given, END_KEYS, f"{where}: end"), "pattern", f"{where}: end")
        given = installation_end.PATTERN
    elif isinstance(given, str) and given.startswith("pattern:"):
        given, pattern = installation_end.PATTERN, given.partition(":")[2].strip()
    end = value_of("" if given is None else given, _END, where, "end") or (
        installation_end.MANUAL if spec.kind is None and item.get("state") == "installed" else installation_end.POWEROFF
    )
    if end == installation_end.PATTERN:
        if not pattern:
            raise InvalidValue(f"{where}: end", "it is pattern, and none is given", 'Write end: {pattern: "…"}')
        _check_pattern(pattern, f"{where}: end")
    if end == installation_end.REBOOT and spec.shape.profile == "windows":
        raise InvalidValue(
            f"{where}: end reboot", "Windows reboots several times while it installs", "Use end: poweroff"
        )
    # What a human does by hand says nothing at its end; nor does a file of the user's own, unless they say so.
    marker = spec.marker and end in (installation_end.POWEROFF, installation_end.REBOOT)
    if item["marker"] is not None:
        marker = item["marker"]
    return replace(spec, pattern=pattern, marker=marker, shape=replace(spec.shape, end=end))


def _with_verify(spec: Spec, item: Mapping[str, Any], where: str) -> Spec:
    given = item.get("verify")
    parts: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    check_keys(parts, VERIFY_KEYS, f"{where}: verify")
    parts = read_item(parts, VERIFY_KEYS, f"{where}: verify")
    verify = True if given is None or isinstance(given, Mapping) else flag(given, f"{where}: verify")
    usual = rf"(^|\s){re.escape(spec.hostname)} login:" if spec.hostname else r"\blogin:"
    if spec.shape.profile == "windows":
        # The special administration console, which our answers switch on.
        usual = r"SAC>|SAC started"
    pattern = _text(parts, "pattern", f"{where}: verify") or usual
    _check_pattern(pattern, f"{where}: verify")
    return replace(spec, verify=verify, trial=pattern, trial_timeout=parts["timeout"])


def _check_pattern(pattern: str, where: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise InvalidValue(
            f"{where}: pattern {pattern!r}", f"it is not a regular expression: {error}", "Escape what is meant"
        ) from None


def _check(spec: Spec) -> None:
    """Refuse what can be known to be wrong without the ISO."""
    shape = spec.shape
    # Only our own answers give a hostname, and only of what they install is it known what it takes.
    kind = spec.kind if spec.hostname else None
    if spec.iso.image == spec.name:
        raise InvalidValue(
            f"{spec.where}: iso", "its image would have the same name", "Name it: iso: {path: …, image: …}"
        )
    smallest = kind.disk if kind else 1
    if spec.size < smallest:
        raise InvalidValue(
            f"{spec.where}: size {spec.size} MB",
            f"the installer that takes {kind.title if kind else 'it'} needs {smallest} MB at least",
            "Give it more",
        )
    memory = whole(spec.own.get("MEMORY")) if spec.own.has("MEMORY") else None
    if kind and memory is not None and memory < kind.memory:
        raise InvalidValue(
            f"{spec.where}: template: MEMORY {memory}",
            f"the installer that takes {kind.title} needs {kind.memory} MB at least",
            "Give it more; machines made of the image may have less",
        )
    if spec.boot == answer_files.FROM_KERNEL and shape.firmware == "UEFI_SECURE":
        raise InvalidValue(
            f"{spec.where}: boot kernel",
            "with secure boot the firmware starts no kernel that it is handed without a signed loader",
            "Set firmware: UEFI, or boot: iso",
        )
    if bool(spec.kernel) != bool(spec.initrd):
        raise InvalidValue(f"{spec.where}: kernel, initrd", "only one of them is given", "Give both, or none")
    if spec.boot == answer_files.FROM_ISO and (spec.kernel or spec.kernel_cmd):
        raise InvalidValue(f"{spec.where}: kernel", "the ISO is booted, with its own kernel", "Set boot: kernel")
    if spec.own.has("DISK"):
        raise InvalidValue(
            f"{spec.where}: template: DISK", "disk and ISO are the installation's own", "Leave DISK out of the template"
        )
    if spec.own.vector("OS").get("BOOT"):
        raise InvalidValue(
            f"{spec.where}: template: OS/BOOT", "the order is the disk, then the ISO", "Leave BOOT out of the template"
        )
    for key in ("KERNEL", "KERNEL_DS", "INITRD", "INITRD_DS"):
        if spec.own.vector("OS").get(key):
            raise InvalidValue(
                f"{spec.where}: template: OS/{key}",
                "it would be booted again at each reboot, and in place of what is installed",
                "Leave it out of the template; boot: kernel boots the one of the ISO",
            )
    untold = shape.end == installation_end.POWEROFF and not spec.marker and spec.state != "installed"
    if spec.boot == answer_files.FROM_KERNEL and untold:
        raise InvalidValue(
            f"{spec.where}: boot kernel",
            "its machine ends where its guest reboots: one that panics would count as installed",
            f"Have the installer print {installation_end.FINISHED!r} to the serial console at its end and set marker: "
            "true, or give end: {pattern: …}; end: reboot takes any reboot for the end",
        )
    for key in ("FIRMWARE", "FIRMWARE_SECURE"):
        if spec.own.vector("OS").get(key):
            raise InvalidValue(
                f"{spec.where}: template: OS/{key}", "the image has to know of it", "Use the key firmware instead"
            )
    machine = shape.machine or spec.own.vector("OS").get("MACHINE", "")
    if shape.cdrom == "ide" and "pc" not in machine and spec.missing is None:
        raise InvalidValue(f"{spec.where}: cdrom ide", "machine q35 has no IDE", "Set machine: pc, or cdrom: sata")


def check_media(spec: Spec, facts: Facts) -> None:
    """Refuse an ISO that can't start this installation."""
    what = f"{spec.where}: iso {spec.iso.image}"
    if spec.boot != answer_files.FROM_ISO:
        return
    if not facts.bios and not facts.uefi:
        more = "; its boot sector is for USB sticks and disks" if facts.hybrid else ""
        raise ImageRefused(
            what, f"it is not bootable: it has no El Torito boot catalog{more}", "Give an installer's ISO"
        )
    if spec.shape.firmware == "BIOS" and not facts.bios:
        raise ImageRefused(what, "only UEFI boots it", "Set firmware: UEFI")
    if spec.shape.firmware != "BIOS" and not facts.uefi:
        raise ImageRefused(what, "only a BIOS boots it", "Set firmware: BIOS")


# -- values of an item ------------------------------------------------------------------------------------------------
def _text(item: Mapping[str, Any], key: str, where: str) -> str:
    """Return the text under a key of an item that was read; one line, since it goes into files that have one thing a
    line."""
    text = item[key] or ""
    if any(ord(c) < 32 for c in text):
        raise InvalidValue(f"{where}: {key}", "it has more than one line", "Give one line")
    return os.path.expanduser(text) if key == "path" else str(text)
