# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists the hypervisors there are, as they declare themselves, one a line. It imports no driver, so that a front-end
gets none; the drivers are in registry.py. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ..model.hypervisor import Hypervisor
from .libvirt.kvm_declaration import KVM
from .lxc.lxc_declaration import LXC
from .openvz.openvz_declaration import OPENVZ
from .xen.xen_declaration import XEN, XEN_LIBVIRT

DECLARED: dict[str, Hypervisor] = {each.name: each for each in (KVM, XEN, XEN_LIBVIRT, LXC, OPENVZ)}


def hypervisors_by_word(declared: Iterable[Hypervisor]) -> dict[str, Hypervisor]:
    """Return the hypervisors by each word that means one of them in HYPERVISOR of a template."""
    return {word: each for each in declared for word in (each.name, *each.also)}
