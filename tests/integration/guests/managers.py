# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A root of Debian with NetworkManager, systemd-networkd, netplan and ifupdown, entered in namespaces of its own: the
guest program writes the configuration there, and the tool itself carries it out.

Behind the guest's first interface is a host that answers DHCP and advertises itself as a router of IPv6."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.text import context_sh

from .cache import cached
from .layouts import INTERFACES, PROGRAM
from .sources import codename, mmdebstrap

PACKAGES = [
    *("systemd", "dbus", "iproute2", "procps", "python3-minimal", "busybox", "dnsmasq-base"),
    *("network-manager", "netplan.io", "ifupdown", "isc-dhcp-client"),
]
HOOKS = ['rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/usr/share/doc "$1"/usr/share/man']
# After what systemd's tmpfiles make.
_NETWORKD = """
install -d -o systemd-network /run/systemd/netif /run/systemd/netif/links /run/systemd/netif/leases
/lib/systemd/systemd-networkd > /run/tool.log 2>&1 &
"""
_NM = """
mkdir -p /run/dbus
dbus-daemon --system --fork
NetworkManager --debug > /run/tool.log 2>&1 &
"""
# What starts each tool after the files are there, as its service does at boot. The tools that stay are ended with the
# namespace. netplan's files are for systemd-networkd; a link of the kernel alone has no permanent address.
STARTS: Mapping[str, str] = {
    "plain": ":",
    "interfaces": "mkdir -p /run/network; ifup -a",
    "networkd": _NETWORKD,
    "netplan": "sed -i s/PermanentMACAddress/MACAddress/ /run/systemd/network/*.network\n" + _NETWORKD,
    "netplan by NetworkManager": _NM,
    "nm": _NM,
}
# As Ubuntu's desktops have it.
BY_NM = "network:\n  version: 2\n  renderer: NetworkManager\n"
_ENTER = r"""
set -e
mount -t overlay overlay -o lowerdir={lower},upperdir={upper},workdir={work} {root}
mount -t proc proc {root}/proc
mount -t tmpfs tmpfs {root}/run
mount -t tmpfs tmpfs /run
: > {root}/run/peer
ip netns add peer
mount --bind /run/netns/peer {root}/run/peer
{links}
# Read-only, as containers have it: then nobody waits for udev.
mount -t sysfs -o ro sys {root}/sys
mount -t tmpfs tmpfs {root}/dev
for name in null zero random urandom; do : > {root}/dev/$name; mount --bind /dev/$name {root}/dev/$name; done
exec chroot {root} /bin/bash /inside.sh
"""
_LINK = r"""
ip link add {name} address {mac} type veth peer name {name} netns peer
ip netns exec peer ip link set {name} up
"""
_INSIDE = r"""
peer() {{ nsenter --net=/run/peer "$@"; }}
ip link set lo up
peer ip link set lo up
peer ip address add 10.66.0.1/24 dev eth0
peer ip address add 2001:db8:5::1/64 dev eth0 nodad
peer dnsmasq --conf-file=/dev/null --port=0 --interface=eth0 --bind-dynamic --dhcp-leasefile=/run/leases --user=root \
    --no-ping --dhcp-range=2001:db8:5::100,2001:db8:5::1ff,64 \
    --dhcp-range=10.66.0.100,10.66.0.150,255.255.255.0 --dhcp-option=option:router,10.66.0.1 \
    --dhcp-option=option:dns-server,10.66.0.53 --log-facility=/run/dnsmasq.log
peer python3 /advertise.py {managed} &
sh /nebula-context network > /run/said 2>&1
{start}
exec python3 /seen.py
"""
# On each link a router of its own advertises a prefix.
_ADVERTISE = """
import socket, struct, sys, time
def packet(prefix):
    head = struct.pack("!BBHBBHII", 134, 0, 0, 64, int(sys.argv[1]), 1800, 0, 0)
    return head + struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + socket.inet_pton(socket.AF_INET6, prefix)
while True:
    for name, prefix in (("eth0", "2001:db8:5::"), ("eth1", "2001:db8:6::")):
        out = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        index = socket.if_nametoindex(name)
        out.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        out.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        try:
            out.sendto(packet(prefix), ("ff02::1", 0, 0, index))
        except OSError:
            pass
    time.sleep(0.1)
"""
_SEEN = """
import glob, json, subprocess, time
def ip(*words):
    return json.loads(subprocess.run(["ip", "-j", *words], capture_output=True, text=True).stdout or "[]")
def text(*patterns):
    return "".join(open(path).read() for pattern in patterns for path in sorted(glob.glob(pattern)))
def look():
    return {{
        "addresses": [[link["ifname"], a["local"] + "/" + str(a["prefixlen"])] for link in ip("address")
                      if link["ifname"] != "lo" for a in link.get("addr_info", []) if a.get("scope") == "global"],
        "routes": [dict(to=r["dst"], via=r.get("gateway"), dev=r.get("dev"), metric=r.get("metric"))
                   for r in ip("-4", "route") + ip("-6", "route")],
        "mtu": {{link["ifname"]: link["mtu"] for link in ip("link")}},
        "resolver": text("/etc/resolv.conf", "/run/systemd/netif/links/*"),
        "faults": text("/run/nebula-context/faults"),
        "log": text("/run/said", "/run/tool.log")[-6000:],
    }}
end = time.monotonic() + {timeout}
while True:
    seen = look()
    met = bool({until})
    if met or time.monotonic() > end:
        break
    time.sleep(0.1)
print(json.dumps(dict(seen, met=met)))
"""


@dataclass(frozen=True)
class Seen:
    """What a guest has come to. met: whether it came to what was waited for."""

    addresses: list[list[str]]
    routes: list[dict[str, Any]]
    mtu: dict[str, int]
    resolver: str
    faults: str
    log: str
    met: bool

    def route(self, to: str, dev: str = "eth0") -> list[tuple[str | None, int | None]]:
        """(router, metric) of each route to that network."""
        return [(route["via"], route["metric"]) for route in self.routes if (route["to"], route["dev"]) == (to, dev)]

    def of(self, dev: str) -> list[str]:
        return [address for name, address in self.addresses if name == dev]


def root() -> Path:
    """The root, which is made once per machine."""
    return (
        cached("managers", [PACKAGES, HOOKS, codename()], lambda place: mmdebstrap(place / "root", PACKAGES, HOOKS))
        / "root"
    )


def boot(
    place: Path,
    renderer: str,
    context: Mapping[str, str],
    until: str,
    *,
    files: Mapping[str, str] | None = None,
    managed: bool = False,
    timeout: float = 20,
) -> Seen:
    """What a guest comes to whose context is configured by that renderer.
    until: a Python expression about `seen`. files: text by path, what the image has before. managed: whether
    the router says that addresses come by DHCPv6."""
    given = {
        "etc/nebula-context.conf": "" if renderer == "netplan by NetworkManager" else f"renderer={renderer}\n",
        "context/context.sh": context_sh.render(context),
        "nebula-context": PROGRAM.read_text(),
        "advertise.py": _ADVERTISE,
        "inside.sh": _INSIDE.format(start=STARTS[renderer], managed=0xC0 if managed else 0),
        "etc/resolv.conf": "",
        # By which systemd-networkd is known to servers.
        "etc/machine-id": f"{1:032x}\n",
        "seen.py": _SEEN.format(until=until, timeout=timeout),
        **({"etc/netplan/01-all.yaml": BY_NM} if renderer == "netplan by NetworkManager" else {}),
        **(files or {}),
    }
    for directory in ("upper", "work", "root"):
        (place / directory).mkdir(parents=True)
    for name, text in given.items():
        path = place / "upper" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o600 if name.endswith(".nmconnection") else 0o644)
    script = _ENTER.format(
        lower=root(),
        **{name: place / name for name in ("upper", "work", "root")},
        links="".join(_LINK.format(name=name, mac=mac) for name, mac in INTERFACES.items()),
    )
    spaces = ["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "--kill-child"]
    done = subprocess.run(
        [*spaces, "sh", "-c", script], capture_output=True, text=True, timeout=timeout + 60, stdin=subprocess.DEVNULL
    )
    last = (done.stdout.splitlines() or [""])[-1]
    if not last.startswith("{"):
        raise AssertionError(f"{done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return Seen(**json.loads(last))
