# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what KVM is. Pure."""

from __future__ import annotations

from ...model import attributes, boot_image, defaults, libvirt_values
from ...model.disk_targets import DiskDevices
from ...model.hypervisor import DROPPED_BY_LIBVIRT, LIBVIRT_PACKAGES, Hypervisor
from ...model.instantiate.encrypted_memory import check_encryption
from ...model.template import Template
from ...model.template_changes import DISK_SIZE, FILTERS_OF_NICS, GROWTH


def _check(template: Template, where: str) -> None:
    libvirt_values.check_values(template, where)
    check_encryption(template, where)


KVM = Hypervisor(
    name="kvm",
    # OpenNebula calls it the same with and without acceleration; templates say either.
    also=("qemu",),
    module=("libvirt.kvm", "KvmDriver"),
    console="virsh console {domain}",
    packages=("qemu-system-x86", "qemu-utils", "libvirt-daemon-system", *LIBVIRT_PACKAGES),
    # As a real oned has it in its defaults.
    machine=defaults.MACHINE,
    # A floppy would be a device of another kind.
    devices=DiskDevices(
        lacks=("xen", "uml", "fdc"), renamed={"xvd": "vd"}, cdroms={"xvd": "sd"}, buses={"xen": "virtio"}
    ),
    # VIRTIO_BLK_ID_BYTES of virtio; ATA's own field; what QEMU puts into the page of serial numbers of a SCSI disk.
    serials={"virtio": 20, "ide": 20, "sata": 20, "scsi": 36, "usb": 36},
    drops_names=DROPPED_BY_LIBVIRT,
    # COMMAND_LINE_SIZE of x86, less the byte that ends it.
    command_line=lambda _os: 2047,
    # libvirt's own limits: of a machine without an IOMMU, and of a tap.
    most_vcpus=255,
    most_queues=256,
    topology=True,
    shares_directories=True,
    checks_bus=True,
    check=_check,
    doubts=libvirt_values.warnings_of_values,
    check_disk=libvirt_values.check_shareable,
    check_firmware=libvirt_values.check_acpi,
    fit=boot_image.with_firmware,
    live=(
        "DISK",
        "NIC",
        DISK_SIZE,
        GROWTH,
        "GRAPHICS/PASSWD",
        *(f"DISK/{key}" for key in libvirt_values.DISK_LIMITS),
        *(f"NIC/{key}" for key in (*libvirt_values.NIC_LIMITS, *libvirt_values.NIC_VALUES)),
        *FILTERS_OF_NICS,
        *attributes.silent(attributes.KVM),
    ),
    hardware_version=2,
    moves=("live", "cold"),
    system_snapshots=True,
    ends_at_reboot="<on_reboot>destroy</on_reboot>",
)
