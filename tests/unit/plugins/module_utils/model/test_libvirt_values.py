# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What libvirt would refuse on the node is refused when the template is stored."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.validate import validate
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

WEB = 'CPU = 1\nMEMORY = 64\nDISK = [ IMAGE = "web" {disk} ]\n'

REFUSED = {
    ", CACHE = fast": ["DISK 0: CACHE = 'fast'", "none", "writeback"],
    ", IO = fast": ["DISK 0: IO = 'fast'", "native, threads"],
    ", CACHE = writeback, IO = native": ["IO = native, CACHE = writeback", 'CACHE = "none"', 'IO = "threads"'],
    ", CACHE = default, IO = native": ["IO = native, CACHE = default"],
    ", DISCARD = maybe": ["DISCARD = 'maybe'", "unmap, ignore"],
    ", TOTAL_IOPS_SEC = fast": ["TOTAL_IOPS_SEC = 'fast'", "whole number"],
    ", READ_BYTES_SEC_MAX = -1": ["READ_BYTES_SEC_MAX = '-1'", "whole number"],
    ", TOTAL_IOPS_SEC = 5, READ_IOPS_SEC = 5": ["TOTAL_IOPS_SEC = 5", "READ_IOPS_SEC is set too"],
    ']\nNIC = [ NETWORK = "a", INBOUND_AVG_BW = fast': ["NIC 0: INBOUND_AVG_BW = 'fast'", "whole number"],
    ']\nNIC = [ NETWORK = "a", VIRTIO_QUEUES = all': ["VIRTIO_QUEUES = 'all'", "auto, or digits"],
    ", SHAREABLE = YES, DRIVER = qcow2": ["DISK 0: SHAREABLE = YES", "one machine alone", "DRIVER = raw"],
    ", DEV_PREFIX = fd": ["DISK 0: DEV_PREFIX = 'fd'", "vd, sd, hd"],
    ", BUS = fdc": ["DISK 0: BUS = fdc", "kvm has no bus fdc", "vda or sda"],
    ", TARGET = fda": ["DISK 0 (image web): TARGET = fda", "kvm has no bus fdc", "vda or sda"],
    ", TARGET = hda, BUS = scsi ]\nDISK = [ IMAGE = b, TARGET = sda": [
        "DISK 1 (image b): TARGET = sda",
        "DISK 0 (image web) has the same letter on bus scsi",
        "different targets",
    ],
    ", TARGET = hda, BUS = virtio ]\nDISK = [ IMAGE = b, TARGET = vda": [
        "TARGET = vda",
        "has the same letter on bus virtio",
    ],
    ", DEV_PREFIX = zz": ["DEV_PREFIX = 'zz'", "vd, sd"],
    ']\nNIC = [ NETWORK = "a", GATEWAY = banana': ["NIC 0: GATEWAY = 'banana'", "no IPv4 address"],
    ']\nNIC = [ NETWORK = "a", MTU = big': ["NIC 0: MTU = 'big'", "whole number"],
    ']\nGRAPHICS = [ TYPE = vnc, LISTEN = "all of them"': ["GRAPHICS/LISTEN = 'all of them'", "0.0.0.0"],
    ']\nGRAPHICS = [ TYPE = vnc, LISTEN = "nonsense"': ["GRAPHICS/LISTEN = 'nonsense'", "127.0.0.1"],
    ", TOTAL_IOPS_SEC_MAX = 5": ["DISK 0: TOTAL_IOPS_SEC_MAX = 5", "there is no TOTAL_IOPS_SEC", "Set TOTAL_IOPS_SEC"],
    ", READ_BYTES_SEC = 5, READ_BYTES_SEC_MAX_LENGTH = 5": ["no READ_BYTES_SEC_MAX"],
    ", WRITE_IOPS_SEC = 5, WRITE_IOPS_SEC_MAX = 4": ["WRITE_IOPS_SEC_MAX = 4", "WRITE_IOPS_SEC = 5 is more"],
    ", TOTAL_BYTES_SEC = 5, SIZE_IOPS_SEC = 4096": ["SIZE_IOPS_SEC = 4096", "Set TOTAL_IOPS_SEC"],
    ', SERIAL = "a#b"': ["SERIAL = 'a#b'", "letters, digits"],
    ", IOTHREAD = 1": ["DISK 0: IOTHREAD = 1", "IOTHREADS is 0", "to at least 1"],
    ", IOTHREAD = 0 ]\nFEATURES = [ IOTHREADS = 2": ["IOTHREAD = 0", "count from 1"],
    ", IOTHREAD = 3 ]\nFEATURES = [ IOTHREADS = 2": ["IOTHREAD = 3", "IOTHREADS is 2", "to at least 3"],
    ']\nNIC = [ NETWORK = "a", INBOUND_PEAK_BW = 5': ["NIC 0: INBOUND_PEAK_BW = 5", "Set INBOUND_AVG_BW"],
    ']\nNIC = [ NETWORK = "a", SCRIPT = "/bin/true"': ["NIC 0: SCRIPT = '/bin/true'", "bridge", "Leave it out"],
    "]\nINPUT = [ BUS = usb": ["INPUT 0", "no TYPE", "tablet"],
    "]\nOS = [ MACHINE = nonsense": ["OS: MACHINE = 'nonsense'", "q35 or pc"],
    "]\nOS = [ BOOTLOADER = pygrub": ["OS: BOOTLOADER = 'pygrub'", "KERNEL"],
    "]\nOS = [ FIRMWARE_SECURE = YES": ["FIRMWARE_SECURE = YES", "FIRMWARE is not set", '"UEFI"'],
    "]\nOS = [ FIRMWARE = UEFI, FIRMWARE_SECURE = YES, MACHINE = pc": ["machine pc", 'MACHINE = "q35"'],
    "]\nCPU_MODEL = [ FEATURES = vmx": ["CPU_MODEL/FEATURES = vmx", "no MODEL", "host-model"],
    ']\nRAW = [ DATA = "<devices/>"': ["RAW/TYPE = ''", "kvm"],
    ']\nRAW = [ TYPE = qemu, DATA = "<devices/>"': ["RAW/TYPE = 'qemu'", "kvm"],
    "]\nINPUT = [ TYPE = joystick": ["INPUT 0: TYPE = 'joystick'", "tablet, mouse"],
    "]\nINPUT = [ TYPE = tablet, BUS = ps2": ["INPUT 0: BUS = ps2", "usb"],
    "]\nOS = [ ARCH = sparc": ["OS: ARCH = 'sparc'", "x86_64"],
    "]\nFEATURES = [ IOTHREADS = some": ["FEATURES: IOTHREADS = 'some'"],
    ']\nRAW = [ TYPE = kvm, DATA = "<devices>"': ["RAW of type kvm", "not well-formed", "each closed"],
}
TAKEN = (
    ", CACHE = writeback",
    ", CACHE = NONE, IO = Native",
    ", IO = native",
    ", CACHE = directsync, IO = native",
    ", READ_IOPS_SEC = 5, WRITE_IOPS_SEC = 5, TOTAL_BYTES_SEC = 7",
    ', CACHE ="", VIRTIO_BLK_QUEUES = auto',
    "]\nINPUT = [ TYPE = tablet, BUS = usb",
    ']\nRAW = [ TYPE = kvm, DATA = "<devices/>"',
    ']\nRAW = [ TYPE = xen, DATA = "a = <b"',
    "]\nOS = [ MACHINE = pc-q35-7.2, FIRMWARE = UEFI, FIRMWARE_SECURE = YES",
    ", IOTHREAD = 1 ]\nFEATURES = [ IOTHREADS = 2",
    ", IOTHREAD = 2 ]\nFEATURES = [ IOTHREADS = 2",
    ', SERIAL = "WD 1.0-a_b+"',
    ", TOTAL_IOPS_SEC = 5, TOTAL_IOPS_SEC_MAX = 5, TOTAL_IOPS_SEC_MAX_LENGTH = 2, SIZE_IOPS_SEC = 1",
    "]\nCPU_MODEL = [ MODEL = host-model, FEATURES = vmx",
    ']\nGRAPHICS = [ TYPE = vnc, LISTEN = "::1"',
    ']\nNIC = [ NETWORK = "a", INBOUND_AVG_BW = 5, INBOUND_PEAK_BW = 9, OUTBOUND_AVG_BW = 1',
    ", CACHE = fast ]\nHYPERVISOR = xen\nX = [ A = B",
    ", SHAREABLE = YES, DRIVER = raw",
    ", SHAREABLE = NO, DRIVER = qcow2",
    ", TARGET = hda, BUS = scsi ]\nDISK = [ IMAGE = b, TARGET = sdb",
    ", TARGET = vda, BUS = usb ]\nDISK = [ IMAGE = b, TARGET = sdb, BUS = usb",
)


@pytest.mark.parametrize("part", REFUSED)
def test_refused(part: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        validate(parse(WEB.format(disk=part)), where="template web")
    for text in ("template web", *REFUSED[part]):
        assert text in str(caught.value)


@pytest.mark.parametrize("part", TAKEN)
def test_taken(part: str) -> None:
    validate(parse(WEB.format(disk=part)))
