#!/usr/bin/env python3
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Xen host: Debian as dom0 of its own Xen, as its packages leave it. See emulated_host.py."""

from __future__ import annotations

import gzip
import io
import sys
import tarfile
from pathlib import Path
from typing import Any

from emulated_host import BOOT_SECONDS, EmulatedHost, main

from ansible_collections.nebula.provision.tests.integration.guests import demo

ROOT = Path(__file__).resolve().parents[2]


class Xen:
    """What both of them are."""

    # Each package is a minute of CI where nothing is cached: what few tests need is MoreXenHost's.
    packages = (
        *("linux-image-amd64", "xen-hypervisor-4.17-amd64", "xen-utils-4.17", "xenstore-utils", "bridge-utils"),
        *("qemu-system-xen", "seabios", "rsync"),
    )
    # A session of logind for each command by ssh is a second of an emulated processor.
    after = ('sed -i /pam_systemd/d "$1/etc/pam.d/common-session"', 'chroot "$1" systemctl mask systemd-logind')
    size = "6G"
    append = "console=hvc0 root=/dev/vda rw quiet net.ifnames=0 mitigations=off"
    # With the first of what is taken from its processor dom0 crashes early, and with the second PVH guests do. With the
    # others, or where Xen switches their registers when they are needed only, programs of dom0 find wrong ones. With a
    # second processor each fifth guest in hardware virtualisation ends by a triple fault.
    hardware = (
        *("-accel", "tcg,tb-size=512", "-machine", "q35", "-cpu", "max,-smap,-rdtscp,-xsave,-avx,-avx2,-f16c"),
        *("-smp", "1", "-m", "3072"),
        # To another one, where there is one: see `links`.
        *("-device", "virtio-net-pci,netdev=link,romfile=,addr=0x10"),
    )
    links = ("hubport,id=link,hubid=0",)
    # Scrubbing memory takes an emulated machine a minute.
    hypervisor = "dom0_mem=1536M,max:1536M console=com1 com1=115200,8n1 bootscrub=0 spec-ctrl=no,eager-fpu xpti=0"

    @classmethod
    def boots(cls, place: Path) -> list[str]:
        modules = f"{place / 'vmlinuz'} {cls.append},{place / 'initrd'}"
        return ["-kernel", str(place / "xen"), "-append", cls.hypervisor, "-initrd", modules]

    @classmethod
    def take(cls, root: Path, place: Path) -> None:
        super().take(root, place)
        packed = next((root / "boot").glob("xen-*.gz"))
        # QEMU starts what multiboot calls a kernel, and that is not compressed.
        (place / "xen").write_bytes(gzip.decompress(packed.read_bytes()))

    @classmethod
    def guest(cls) -> dict[str, Path]:
        return {**super().guest(), **demo.parts()}

    def load(self: Any, place: str, *programs: Path) -> None:
        """Bring the collection's module_utils, programs and the guest to a new directory, which is the PYTHONPATH of
        these programs."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for path in sorted((ROOT / "plugins" / "module_utils").rglob("*.py")):
                archive.add(path, f"ansible_collections/nebula/provision/{path.relative_to(ROOT)}")
            for path in programs:
                archive.add(path, path.name)
            for name, path in self.guest().items():
                archive.add(path, f"demo/{name}")
        self.put(packed.getvalue(), ["sh", "-c", f"mkdir {place} && tar -xf - -C {place}"])

    def prepare(self: Any, place: str) -> None:
        """What role node does: what machines say is kept."""
        program = (
            "from ansible_collections.nebula.provision.plugins.module_utils.host.node_file import Changes, NodeFile\n"
            "from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen.driver import XenDriver\n"
            "XenDriver.prepare(Changes(False), lambda change: NodeFile())\n"
        )
        self.sudo(["env", f"PYTHONPATH={place}", "python3", "-c", program])

    def warm_up(self: Any) -> None:
        self.sudo(["xl", "info"], timeout=BOOT_SECONDS)


class XenHost(Xen, EmulatedHost):
    name = "xen"


class MoreXenHost(Xen, EmulatedHost):
    """With the other way to the same machines, libvirt's xen:///system, with what two of them can share, and with Open
    vSwitch and OVN."""

    name = "more-xen"
    packages = (
        *Xen.packages,
        *("libvirt-daemon-system", "libvirt-clients", "libvirt-daemon-driver-xen", "python3-libvirt"),
        *("nfs-kernel-server", "nfs-common"),
        *("openvswitch-switch", "ovn-central", "ovn-host", "python3-openvswitch"),
    )
    after = (
        *Xen.after,
        # This processor, emulated by Xen, lacks what libvirt takes for granted of each.
        'sed -i "/name=\'vme\'/d" "$1/usr/share/libvirt/cpu_map/x86_486.xml"',
        'chroot "$1" systemctl disable nfs-server rpcbind rpcbind.socket nfs-blkmap nfs-client.target',
        'chroot "$1" systemctl disable libvirt-guests',
        'chroot "$1" systemctl disable openvswitch-switch ovn-central ovn-host',
    )


if __name__ == "__main__":
    main(XenHost, *sys.argv[1:])
