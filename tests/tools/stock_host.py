#!/usr/bin/env python3
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stock host: Debian with systemd, AppArmor and libvirt as its packages leave it. See emulated_host.py."""

from __future__ import annotations

import sys

from emulated_host import BOOT_SECONDS, EmulatedHost, main


class StockHost(EmulatedHost):
    name = "stock"
    # Of libvirt and QEMU nothing but the packages.
    packages = (
        *("apparmor", "linux-image-cloud-amd64", "dmidecode", "netcat-openbsd"),
        *("libvirt-daemon-system", "libvirt-clients", "dnsmasq-base", "qemu-system-x86", "python3-libvirt"),
    )
    # `max` shows a processor's virtualisation too, and Linux would make a /dev/kvm that is slower than none.
    append = (
        "root=/dev/vda rw console=ttyS0,115200 quiet net.ifnames=0 mitigations=off apparmor=1 security=apparmor "
        "module_blacklist=kvm_amd,kvm_intel"
    )
    hardware = ("-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "max", "-smp", "2", "-m", "2048")

    def warm_up(self) -> None:
        # libvirt looks at its emulators once, for seconds.
        self.sudo(["virsh", "list"], timeout=BOOT_SECONDS)


class FullStockHost(StockHost):
    """With what a host of containers and of OVN has as well, and an interface beside the one of ssh: eth1."""

    name = "stock-full"
    packages = (
        *(*StockHost.packages, "libvirt-daemon-driver-lxc", "ethtool", "rsync"),
        *("openvswitch-switch", "ovn-host", "ovn-central", "python3-openvswitch"),
    )
    hardware = (
        *StockHost.hardware,
        # To another host, where there is one: see `links`.
        *("-device", "virtio-net-pci,netdev=link,romfile=,addr=0x10"),
    )
    links = ("hubport,id=link,hubid=0",)


if __name__ == "__main__":
    main(StockHost, *sys.argv[1:])
