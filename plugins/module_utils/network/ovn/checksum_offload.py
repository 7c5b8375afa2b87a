# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells whether the kernel leaves the sums of packets to an interface. The userspace datapath of Open vSwitch passes
packets on as they are, so that TCP of the host itself over one of its bridges would hang, while ping works."""

from __future__ import annotations

import array
import fcntl
import socket
import struct

# linux/sockios.h and linux/ethtool.h. The program ethtool is not on every host.
_SIOCETHTOOL = 0x8946
_GET, _SET = 0x16, 0x17
_REQUEST = 40


def is_on(name: str) -> bool:
    """Return whether the kernel leaves them to the interface; False too if there is none, or it can't say."""
    try:
        return bool(_ask(name, _GET, 0))
    except OSError:
        return False


def switch_off(name: str) -> None:
    _ask(name, _SET, 0)


def _ask(name: str, command: int, value: int) -> int:
    data = array.array("B", struct.pack("II", command, value))
    address, _length = data.buffer_info()
    request = struct.pack("16sP", name.encode(), address).ljust(_REQUEST, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control.fileno(), _SIOCETHTOOL, request)
    return int(struct.unpack("II", data.tobytes())[1])
