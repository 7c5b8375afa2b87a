# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What LXC declares of itself: containers, which share the kernel of their host. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import InvalidValue
from ...model import values
from ...model.attributes import ACTS, KVM, NO_EFFECT, REFUSED, TABLE, Own
from ...model.disk import TAR
from ...model.disk_targets import Devices
from ...model.hypervisor import Hypervisor
from ...model.image import Image
from ...model.numbers import whole
from ...model.states import ImageType
from ...model.template import Template
from ...model.vm import Os

_NO_DEVICE = "a container has no such device: it shares the kernel of its host"
_NO_BOOT = "a container boots no kernel: its root file system's own init is started"
# What acts on machines of KVM and on containers alike.
_ACTS = frozenset((
    *("NAME", "CPU", "MEMORY", "HYPERVISOR", "CONTEXT_FORMAT"),
    *("DISK/IMAGE", "DISK/IMAGE_ID", "DISK/TARGET", "DISK/DEV_PREFIX", "CONTEXT", "CONTEXT/*", "RAW/TYPE", "RAW/DATA"),
    *("NIC_DEFAULT", "NIC_DEFAULT/*", "NIC_DEFAULT/NETWORK", "NIC_DEFAULT/NETWORK_ID"),
    *("NIC_DEFAULT/NETWORK_UID", "NIC_DEFAULT/NETWORK_UNAME"),
    *("INBOUND_AVG_BW", "OUTBOUND_AVG_BW"),
))  # fmt: skip
_NIC_LACKS = frozenset(("NIC/MODEL", "NIC/FILTER", "NIC/VIRTIO_QUEUES"))
_REFUSED = {
    "TPM": "a container has none",
    "OS/TPM": "a container has none",
    "OS/FIRMWARE_SECURE": "a container boots no firmware that could protect it",
    "INJECT/PATH": "nothing is written into a container's root before it starts; a context can write files",
}
# Attributes of containers, which nothing acts on elsewhere.
_OF_CONTAINERS = ("CPULIMIT", "LXC_SWAP")


def _own() -> Mapping[str, Own]:
    found = {}
    for entry in TABLE:
        for text in entry.texts():
            acts = text in _ACTS or (text.startswith("NIC/") and text not in _NIC_LACKS)
            if text in _REFUSED:
                found[text] = Own(REFUSED, _REFUSED[text])
            elif entry.kvm in (ACTS, REFUSED) and not acts:
                found[text] = Own(NO_EFFECT, _NO_BOOT if entry.vector == "OS" else _NO_DEVICE)
    return {**found, **{name: Own(ACTS) for name in _OF_CONTAINERS}}


def check(template: Template, where: str) -> None:
    """InvalidValue for the first thing that no container can have."""
    for name in ("DISK", "NIC", "OS"):
        for vector in template.vectors(name):
            for key, text in vector.items():
                values.check_writable(text, f"{where}: {name}/{key}")
    swap = template.get("LXC_SWAP").strip()
    if swap and whole(swap) is None:
        raise InvalidValue(
            f"{where}: LXC_SWAP = {swap}", "it is no number", "Give the MB of swap that it may use beside its memory"
        )
    values.raw_fragment(_raw(template), f"{where}: RAW")


def _raw(template: Template) -> str:
    texts = [each.get("DATA", "") for each in template.vectors("RAW") if each.get("TYPE", "").lower() == "lxc"]
    return "\n".join(filter(None, texts))


def fitting(os: Os, _template: Template, images: Mapping[int, Image], where: str) -> Os:
    """InvalidValue unless exactly one of the images is a root file system."""
    roots = [index for index, image in sorted(images.items()) if image.format == TAR]
    if len(roots) != 1:
        named = ", ".join(images[index].name for index in roots)
        raise InvalidValue(
            f"{where}: its disks",
            f"{len(roots)} of them are root file systems{f' ({named})' if named else ''}, and a container has one",
            "Give one DISK an image with format: tar, the archive of a root file system",
        )
    for index, image in sorted(images.items()):
        if index not in roots and image.type in (ImageType.OS, ImageType.CDROM, ImageType.DATABLOCK):
            raise InvalidValue(
                f"{where}: DISK {index}: image {image.name}",
                f"it is a disk of format {image.format}, and a container has no disks beside its root file system",
                "Leave this DISK out",
            )
    return os


LXC = Hypervisor(
    name="lxc",
    module=("lxc.driver", "LxcDriver"),
    console="virsh -c lxc:///system console {domain}",
    packages=(
        "libvirt-daemon-system",
        "libvirt-daemon-driver-lxc",
        "libvirt-clients",
        "python3-libvirt",
        "python3-pycdlib",
        "iproute2",
        "nftables",
        "zstd",
        "xz-utils",
        "bzip2",
    ),
    formats=(TAR,),
    driver=TAR,
    devices=Devices(lacks=("uml", "fdc")),
    check=check,
    fit=fitting,
    column=KVM,
    own=_own(),
    live=("NIC",),
)
