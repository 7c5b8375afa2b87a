# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between hypervisors while a machine is decided: a line for each. Pure; what carries it out is in
hypervisors/."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from . import attributes, defaults, fit, values, xen
from .image import Image
from .targets import Devices
from .template import Template
from .vm import Os


def _nothing(_template: Template, _where: str) -> None:
    pass


def _none(_word: str) -> str:
    return ""


def _as_it_is(os: Os, _template: Template, _images: Mapping[int, Image], _where: str) -> Os:
    return os


def _always(_os: Mapping[str, str]) -> bool:
    return True


@dataclass(frozen=True)
class Rules:
    """machine: OS/MACHINE where nothing is said. driver: the format of a machine's own copy of an image, likewise.
    check: InvalidValue for what no machine of this hypervisor can have. format_of: the format that a word of
    DISK/DRIVER means which is none itself, "" if it means none here. firmware: whether a machine with this OS has one
    that boots from its devices. fit: OS as the image wants it from which the machine boots, InvalidValue where they
    don't go together. column: of model/attributes.py, which says what acts. live: attributes that are changed on a
    running machine, beside those that always are. ends_at_reboot: RAW by which a machine that reboots ends instead."""

    machine: str = ""
    driver: str = defaults.FORMAT
    devices: Devices = Devices()
    check: Callable[[Template, str], None] = _nothing
    format_of: Callable[[str], str] = _none
    firmware: Callable[[Mapping[str, str]], bool] = _always
    fit: Callable[[Os, Template, Mapping[int, Image], str], Os] = _as_it_is
    column: str = attributes.KVM
    live: tuple[str, ...] = ()
    ends_at_reboot: str = ""


_KVM = Rules(
    machine=defaults.MACHINE,
    # A floppy would be a device of another kind.
    devices=Devices(lacks=("xen", "uml", "fdc"), renamed={"xvd": "vd"}, cdroms={"xvd": "sd"}, buses={"xen": "virtio"}),
    check=values.check,
    fit=fit.with_firmware,
    ends_at_reboot="<on_reboot>destroy</on_reboot>",
)
_XEN = Rules(
    driver=defaults.XEN_FORMAT,
    devices=Devices(
        lacks=("uml", "usb", "sata", "fdc"),
        prefix=defaults.XEN_DEV_PREFIX,
        renamed={"vd": "xvd"},
        # Drives are emulated ones, whatever they are called elsewhere.
        cdroms={"sd": "xvd"},
        buses={"virtio": "xen"},
        shared=True,
        emulated=xen.IDE_DEVICES,
    ),
    check=xen.check,
    format_of=xen.format_of,
    firmware=lambda os: xen.kind(os) == xen.HVM,
    fit=xen.fitting,
    column=attributes.XEN,
    live=("DISK", "NIC", "MEMORY"),
    ends_at_reboot="on_reboot = 'destroy'",
)
RULES = {"kvm": _KVM, "qemu": _KVM, "xen": _XEN, "xen_libvirt": _XEN}
DEFAULT = defaults.HYPERVISOR
# All that is understood in DISK/DRIVER, by any of them.
DRIVERS = ("raw", "qcow2", *(word for word in xen.DRIVERS if word not in ("raw", "qcow2")))


def of(hypervisor: str) -> Rules:
    return RULES.get(hypervisor, Rules())


def alike(wanted: str, hypervisor: str) -> bool:
    """Whether machines for one of them (HYPERVISOR in a template) are those of the other: what differs is by whose hand
    they are made."""
    return of(wanted) is of(hypervisor) or wanted == hypervisor
