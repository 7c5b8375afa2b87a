# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes what a hypervisor declares of itself: all that others have to know of it who never act on a node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field

from ..dataclass import dataclass
from . import attributes, defaults
from .disk import DISK_FORMATS
from .disk_targets import DiskDevices
from .image import Image
from .template import Template
from .template_changes import CONTEXT, GROWTH
from .vm import Os

# Beginnings of the names that libvirt makes up for interfaces: it takes any such name in a definition for one of those,
# and leaves it out.
DROPPED_BY_LIBVIRT = ("vnet", "macvtap", "macvlan")
# Packages of every host, and of one where libvirt has the machines.
PACKAGES = ("python3-pycdlib", "iproute2", "nftables")
LIBVIRT_PACKAGES = ("libvirt-clients", "python3-libvirt", *PACKAGES)


def _accept(*_given: object) -> None:
    pass


@dataclass(frozen=True)
class Hypervisor:
    """Describes a hypervisor, as its own folder declares it (hypervisors/FOLDER/rules.py).
    name: as hosts have it, and HYPERVISOR in templates.
    also: other words for it in templates.
    machines: the hypervisor whose machines these are, where another tool makes the same ones; "" for its own.
    module: the module of its driver below hypervisors/, and the driver's class in it; registry.py is written from that.
    console: what a person types on a node to get at a machine's console, with {domain}.
    packages: what a node needs, by their names in Debian and its kin.
    formats: the formats of images that its machines can have.
    machine: OS/MACHINE where nothing is said.
    driver: the format of a machine's own copy of an image, likewise.
    words: what DISK/DRIVER may say here besides raw and qcow2, with the format that each means.
    devices: what it has of disks.
    checks_bus: whether a system may not start from another bus than it was installed on.
    check: raises InvalidValue for what no machine of this hypervisor can have.
    doubts: returns warnings about what is taken and does not do what it says.
    check_disk: raises InvalidValue for a DISK that can't be of that format.
    check_firmware: raises InvalidValue for a machine that can't have that firmware.
    firmware: returns whether a machine with this OS has a firmware that boots from its devices.
    fit: returns OS as the image wants it from which it boots; raises InvalidValue where they don't go together.
    serials: how many characters of a disk's serial number its guests see, by bus.
    drops_names: beginnings of names of interfaces that it does not keep.
    command_line: bytes of a kernel's command line that the kernel of a machine with this OS reads, 0 for no limit.
    most_vcpus, most_queues: processors of a machine, and queues of a NIC, with which it starts one; 0 for no limit.
    topology: whether it shows a guest its processors as sockets, cores and threads.
    makes_disks: whether it makes disks of their images itself, so that no file is made of them.
    shares_directories: whether a DISK can be a directory of the host (TYPE = FILESYSTEM).
    sources: whether SOURCE of a DISK may name a file of the node in place of an image.
    container: returns what only containers have, as Vm.container; raises InvalidValue for what can't be meant.
    column: the column of model/attributes.py that says what acts.
    own: what differs from that column, by VECTOR/KEY or NAME.
    live: attributes that are changed on a running machine, beside those that always are; those too on which nothing
    acts, for which no machine has to be started anew.
    changes_context: whether a running machine with this OS gets another context at once.
    hardware_version: the newest of its machines; 0 where no attribute depends on when a machine was made.
    ends_at_reboot: RAW by which a machine that reboots ends instead.
    judges_context: whether it judges values of CONTEXT beside host names.
    moves: the ways in which its machines move to another host (model/move.py).
    system_snapshots: whether its machines have snapshots of all their disks, and of their memory."""

    name: str = ""
    also: tuple[str, ...] = ()
    machines: str = ""
    console: str = ""
    module: tuple[str, str] = ("", "")
    packages: tuple[str, ...] = ()
    formats: tuple[str, ...] = DISK_FORMATS
    machine: str = ""
    driver: str = defaults.FORMAT
    words: Mapping[str, str] = field(default_factory=dict)
    devices: DiskDevices = DiskDevices()
    checks_bus: bool = False
    check: Callable[[Template, str], None] = _accept
    doubts: Callable[[Template], list[str]] = lambda _template: []
    check_disk: Callable[[Mapping[str, str], str, str], None] = _accept
    check_firmware: Callable[[str, Template, str], None] = _accept
    firmware: Callable[[Mapping[str, str]], bool] = lambda _os: True
    fit: Callable[[Os, Template, Mapping[int, Image], str], Os] = lambda os, _template, _images, _where: os
    serials: Mapping[str, int] = field(default_factory=dict)
    drops_names: tuple[str, ...] = ()
    command_line: Callable[[Mapping[str, str]], int] = lambda _os: 0
    most_vcpus: int = 0
    most_queues: int = 0
    topology: bool = False
    makes_disks: bool = False
    shares_directories: bool = False
    sources: bool = False
    container: Callable[[Template, str], Mapping[str, str]] = lambda _template, _where: {}
    column: str = attributes.KVM
    own: Mapping[str, attributes.OwnEffect] = field(default_factory=dict)
    live: tuple[str, ...] = ()
    changes_context: Callable[[Mapping[str, str]], bool] = lambda _os: True
    hardware_version: int = 0
    ends_at_reboot: str = ""
    judges_context: bool = False
    moves: tuple[str, ...] = ()
    system_snapshots: bool = False

    @property
    def grows(self) -> bool:
        """Return whether its machines are started with the most memory and processors that they may come to."""
        return GROWTH in self.live

    def live_of(self, os: Mapping[str, str]) -> tuple[str, ...]:
        """Return what is changed on a running machine with this OS."""
        return (*self.live, CONTEXT) if self.changes_context(os) else self.live

    def format_of(self, word: str) -> str:
        """Return the format that a word of DISK/DRIVER means, "" for a word that this hypervisor would stumble over."""
        return self.words.get(word.strip().lower(), "")
