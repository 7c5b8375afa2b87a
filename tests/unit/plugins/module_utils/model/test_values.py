# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What libvirt would refuse on the node is refused when the template is stored."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate import validate
from ansible_collections.nebula.provision.plugins.module_utils.text.template import parse

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
    ", DEV_PREFIX = zz": ["DEV_PREFIX = 'zz'", "vd, sd"],
    ']\nNIC = [ NETWORK = "a", GATEWAY = banana': ["NIC 0: GATEWAY = 'banana'", "no IPv4 address"],
    ']\nNIC = [ NETWORK = "a", MTU = big': ["NIC 0: MTU = 'big'", "whole number"],
    ']\nGRAPHICS = [ TYPE = vnc, LISTEN = "all of them"': ["GRAPHICS/LISTEN = 'all of them'", "0.0.0.0"],
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
    ", CACHE = fast ]\nHYPERVISOR = xen\nX = [ A = B",
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
