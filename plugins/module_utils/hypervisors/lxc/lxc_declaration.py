# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what LXC is: containers, which share the kernel of their host. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import InvalidValue
from ...model import libvirt_values
from ...model.attributes import ACTS, KVM, NO_EFFECT, REFUSED, TABLE, OwnEffect, silent
from ...model.device_matching import kind_of_empty
from ...model.disk import RAW, TAR
from ...model.disk_targets import DiskDevices, is_path
from ...model.hypervisor import DROPPED_BY_LIBVIRT, LIBVIRT_PACKAGES, Hypervisor
from ...model.image import TRUSTED, Image
from ...model.instantiate.container_mount_points import refuse_hidden_system
from ...model.states import ImageType
from ...model.template import Template
from ...model.template_changes import FILTERS_OF_NICS
from ...model.vm import Os
from ...model.whole_numbers import whole

_NO_DEVICE = "a container has no such device: it shares the kernel of its host"
_NO_BOOT = "a container boots no kernel: its root file system's own init is started"
# What acts on machines of KVM and on containers alike.
_ACTS = frozenset((
    *("NAME", "CPU", "MEMORY", "HYPERVISOR", "CONTEXT_FORMAT"),
    *("DISK/IMAGE", "DISK/IMAGE_ID", "DISK/TARGET", "DISK/DRIVER", "DISK/TYPE", "DISK/FORMAT", "DISK/FS", "DISK/SIZE"),
    *("DISK/READONLY", "CONTEXT", "CONTEXT/*", "RAW/TYPE", "RAW/DATA"),
    *("NIC_DEFAULT", "NIC_DEFAULT/*", "NIC_DEFAULT/NETWORK", "NIC_DEFAULT/NETWORK_ID"),
    *("NIC_DEFAULT/NETWORK_UID", "NIC_DEFAULT/NETWORK_UNAME"),
    *("INBOUND_AVG_BW", "OUTBOUND_AVG_BW"),
))  # fmt: skip
_NIC_LACKS = frozenset(("NIC/MODEL", "NIC/FILTER", "NIC/VIRTIO_QUEUES", "NIC/LINK", "NIC/ORDER"))
_UNENCRYPTED = "its host's kernel sees a container's memory, and one that is to be encrypted must not run without"
_REFUSED = {
    "MEMORY_ENCRYPTION": _UNENCRYPTED,
    "MEMORY_ENCRYPTION/TYPE": _UNENCRYPTED,
    "TPM": "a container has none",
    "OS/TPM": "a container has none",
    "OS/FIRMWARE_SECURE": "a container boots no firmware that could protect it",
    "INJECT/PATH": "nothing is written into a container's root before it starts; a context can write files",
}
# Elements of a definition that RAW does not have.
_OF_MACHINES = {
    "name": "each container has the name of its machine, by which it is found",
    "uuid": "each container has the UUID of its machine, by which it is known again",
    "metadata": "it says whose machine the container is",
    "idmap": "each container has ids of the host that no other has, and its files belong to them",
}
_ISOLATED = "each container is confined, and its users have ids of this host that are nobody's else"
# File systems that the kernel can show with other owners, and an empty disk can have.
FILE_SYSTEMS = ("ext4", "ext3", "ext2", "xfs")
# Attributes of containers, which nothing acts on elsewhere.
_OF_CONTAINERS = ("CPULIMIT", "LXC_SWAP")
_OF_OTHER_CONTAINERS = ("LXC_SECURITY_PRIVILEGED", "LXC_PROFILES", "LXC_UNPRIVILEGED")


def _own_attributes() -> Mapping[str, OwnEffect]:
    found = {}
    for entry in TABLE:
        for text in entry.texts():
            acts = text in _ACTS or (text.startswith("NIC/") and text not in _NIC_LACKS)
            if text in _REFUSED:
                found[text] = OwnEffect(REFUSED, _REFUSED[text])
            elif entry.vector == "MEMORY":
                # As for machines that are no containers.
                found[text] = OwnEffect(REFUSED, entry.why, entry.instead)
            elif text in _OF_OTHER_CONTAINERS:
                found[text] = OwnEffect(NO_EFFECT, _ISOLATED)
            elif entry.kvm in (ACTS, REFUSED) and not acts:
                found[text] = OwnEffect(NO_EFFECT, _NO_BOOT if entry.vector == "OS" else _NO_DEVICE)
    return {**found, **{name: OwnEffect(ACTS) for name in _OF_CONTAINERS}}


def check(template: Template, where: str) -> None:
    """Raise InvalidValue for the first thing that no container can have."""
    for name in ("DISK", "NIC", "OS"):
        for vector in template.vectors(name):
            for key, text in vector.items():
                libvirt_values.check_writable(text, f"{where}: {name}/{key}")
    swap = template.get("LXC_SWAP").strip()
    if swap and whole(swap) is None:
        raise InvalidValue(
            f"{where}: LXC_SWAP = {swap}", "it is no number", "Give the MB of swap that it may use beside its memory"
        )
    _check_raw(_raw(template), f"{where}: RAW")
    for index, vector in enumerate(template.vectors("DISK")):
        if not vector.get("IMAGE") and not vector.get("IMAGE_ID"):
            check_disk(vector, kind_of_empty(vector)[1], f"{where}: DISK {index}")


def _check_raw(data: str, where: str) -> None:
    fragment = libvirt_values.raw_fragment(data, where, "lxc")
    for element in () if fragment is None else fragment:
        if element.tag in _OF_MACHINES:
            raise InvalidValue(f"{where}: DATA: <{element.tag}>", _OF_MACHINES[element.tag], "Leave it out")


def _raw(template: Template) -> str:
    texts = [each.get("DATA", "") for each in template.vectors("RAW") if each.get("TYPE", "").lower() == "lxc"]
    return "\n".join(filter(None, texts))


def check_images(os: Os, template: Template, images: Mapping[int, Image], where: str) -> Os:
    """Return OS unchanged. Raise InvalidValue unless one image is a root file system, and the others are fit."""
    roots = [index for index, image in sorted(images.items()) if image.format == TAR]
    if len(roots) != 1:
        named = ", ".join(images[index].name for index in roots)
        raise InvalidValue(
            f"{where}: its disks",
            f"{len(roots)} of them are root file systems{f' ({named})' if named else ''}, and a container has one",
            "Give one DISK an image with format: tar, the archive of a root file system",
        )
    vectors = template.vectors("DISK")
    target = vectors[roots[0]].get("TARGET", "").strip()
    if is_path(target):
        raise InvalidValue(
            f"{where}: DISK {roots[0]}: TARGET = {target}",
            f"image {images[roots[0]].name} is a root file system, which is at /",
            "Leave TARGET out",
        )
    for index, image in sorted(images.items()):
        if index not in roots and image.type in (ImageType.OS, ImageType.CDROM, ImageType.DATABLOCK):
            _check_image(image, vectors[index], f"{where}: DISK {index}: image {image.name}")
    return os


def _check_image(image: Image, vector: Mapping[str, str], shown: str) -> None:
    """Raise InvalidValue for a disk beside the root that this host would not mount."""
    if image.type != ImageType.DATABLOCK:
        raise InvalidValue(
            shown,
            f"it is of type {image.type.name}, and what a container has beside its root are file systems",
            "Use an image of type DATABLOCK with a file system of its own, or leave this DISK out",
        )
    if image.luks_secret:
        raise InvalidValue(shown, "it is encrypted, and a host mounts no such disk for a container", "Use another one")
    if not image.is_trusted:
        raise InvalidValue(
            shown,
            "this host's kernel would mount its file system, and it is not marked as trusted, or was written to since "
            "by a machine that could have put anything there",
            f"If you know what is in it: nebula_image with attributes: {{{TRUSTED}: 'YES'}}",
        )
    if image.persistent and image.format != RAW:
        raise InvalidValue(
            shown,
            f"it is persistent and of format {image.format}, and a container writes to raw files only",
            "Store it with format: raw, or not persistent: then the container has a copy of its own",
        )
    size = whole(vector.get("SIZE", "").strip() or "0")
    if image.persistent and size is not None and size > image.size:
        raise InvalidValue(
            f"{shown}: SIZE = {size}",
            f"it is persistent and has {image.size} MB, and machines do not change the size of an image",
            "Leave SIZE out; or store it with persistent: false, and the container has a copy that is as large",
        )


def check_disk(vector: Mapping[str, str], format: str, where: str) -> None:
    """Raise InvalidValue for a disk that a container can't have."""
    kind, _format, fs = kind_of_empty(vector)
    if format != RAW:
        raise InvalidValue(
            f"{where}: format {format}",
            "a container has disks by a loop device of its host, which is raw",
            "Leave DRIVER and FORMAT out",
        )
    if vector.get("IMAGE") or vector.get("IMAGE_ID"):
        return
    refuse_hidden_system(vector.get("TARGET", "").strip(), where)
    if kind == "swap":
        raise InvalidValue(f"{where}: TYPE = swap", "a container swaps where its host does", "Use LXC_SWAP = MB")
    if fs not in FILE_SYSTEMS:
        raise InvalidValue(
            f"{where}: FS = {fs}" if fs else f"{where}: FS",
            "there is no such file system in a container" if fs else "it is not set, and a container has no device",
            "Use one of " + ", ".join(FILE_SYSTEMS),
        )


def container(template: Template, _where: str) -> Mapping[str, str]:
    """Return the attributes that only containers have."""
    swap = template.get("LXC_SWAP").strip()
    return {"LXC_SWAP": swap} if swap else {}


LXC = Hypervisor(
    name="lxc",
    module=("lxc.driver", "LxcDriver"),
    console="virsh -c lxc:///system console {domain}",
    packages=("libvirt-daemon-system", "libvirt-daemon-driver-lxc", *LIBVIRT_PACKAGES, "zstd", "xz-utils", "bzip2"),
    formats=(TAR,),
    driver=TAR,
    devices=DiskDevices(lacks=("uml", "fdc"), paths=True),
    drops_names=DROPPED_BY_LIBVIRT,
    check=check,
    check_disk=check_disk,
    fit=check_images,
    container=container,
    column=KVM,
    own=_own_attributes(),
    live=("DISK", "NIC", "MEMORY", "LXC_SWAP", *FILTERS_OF_NICS, *silent(KVM, _own_attributes())),
    moves=("cold",),
)
