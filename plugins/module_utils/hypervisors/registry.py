# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the drivers of the hypervisors that declarations.py names. tests/unit/test_hypervisor_texts.py (REGENERATE=1)
writes the lines for each: Ansible sends to a node only what it sees imported."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ..errors import Unsupported
from .base import Driver


# Each is imported where it is used: a module comes to a node without compiled files, and a node has one hypervisor.
def _kvm() -> type[Driver]:
    from .libvirt.kvm import KvmDriver

    return KvmDriver


def _xen() -> type[Driver]:
    from .xen.driver import XenDriver

    return XenDriver


def _xen_libvirt() -> type[Driver]:
    from .xen.libvirt_driver import XenLibvirtDriver

    return XenLibvirtDriver


def _lxc() -> type[Driver]:
    from .lxc.driver import LxcDriver

    return LxcDriver


def _openvz() -> type[Driver]:
    from .openvz.driver import OpenvzDriver

    return OpenvzDriver


class _Drivers(Mapping[str, type[Driver]]):
    """Maps names to driver classes, which are imported when they are asked for."""

    def __init__(self, find: Mapping[str, Callable[[], type[Driver]]]) -> None:
        self._find = find

    def __getitem__(self, name: str) -> type[Driver]:
        return self._find[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._find)

    def __len__(self) -> int:
        return len(self._find)


DRIVERS: Mapping[str, type[Driver]] = _Drivers(
    {
        "kvm": _kvm,
        "xen": _xen,
        "xen_libvirt": _xen_libvirt,
        "lxc": _lxc,
        "openvz": _openvz,
    }
)


def open_driver(name: str) -> Driver:
    """Connect to this node's hypervisor."""
    if name not in DRIVERS:
        raise Unsupported(f"hypervisor {name}", "this collection has no driver for it", f"Known: {', '.join(DRIVERS)}")
    return DRIVERS[name]()
