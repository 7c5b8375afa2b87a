# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides what the kernel does by itself on a bridge: what it takes for its own from packets that come in, and for
which of the node's addresses it answers. By its defaults whoever is attached gives the node an address and a
default route by a router advertisement, and reaches the node's services by link-local addresses."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ..errors import CommandFailed
from ..host.files import opened

PROC = Path("/proc/sys/net")
# No bridge of ours has an IPv6 address of its own, so that none needs IPv6. The others count should somebody switch it
# on again. IPv6 goes first: nothing is to come in meanwhile.
_ALWAYS = {
    "ipv6/disable_ipv6": "1",
    "ipv6/accept_ra": "0",
    "ipv6/autoconf": "0",
    "ipv6/accept_redirects": "0",
    "ipv4/accept_redirects": "0",
    "ipv4/send_redirects": "0",
}
_ARP = "ipv4/arp_ignore"
# Answer for the addresses of the interface that was asked alone; for none at all.
_OWN_ADDRESSES, _NO_ADDRESS = "1", "8"
# On bridges of others: what would have the node take a route from a guest.
TRUSTING = ("ipv6/accept_ra", "ipv6/accept_redirects", "ipv4/accept_redirects")
_SEEN = (*_ALWAYS, _ARP, "ipv6/forwarding")


def desired(gateway: bool) -> dict[str, str]:
    """Return the settings of a bridge of ours, as far as this kernel has them: without IPv6 it has none of its
    settings. gateway: whether the bridge carries the gateway's address."""
    values = {**_ALWAYS, _ARP: _OWN_ADDRESSES if gateway else _NO_ADDRESS}
    families = [family for family in ("ipv4", "ipv6") if os.path.isdir(f"{PROC}/{family}")]
    return {name: value for name, value in values.items() if name.partition("/")[0] in families}


def observe(bridge: str) -> dict[str, str]:
    found = {}
    for name in _SEEN:
        try:
            found[name] = _read(_path(bridge, name))
        except OSError:
            # The kernel has no IPv6, or the bridge an MTU that is too small for it; or it has just vanished.
            continue
    return found


def differing(seen: Mapping[str, str], gateway: bool) -> dict[str, str]:
    """Return the settings of a bridge of ours that are to be changed, with the wanted values."""
    return {name: value for name, value in desired(gateway).items() if seen.get(name, value) != value}


def trusts_guests(seen: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of a bridge of somebody else by which the node believes what a guest says of routes, with
    the value that ends it."""
    if not seen:
        return {}
    found = [name for name in TRUSTING if seen.get(name, "0") != "0"]
    if seen.get("ipv6/disable_ipv6") == "1":
        found = [name for name in found if not name.startswith("ipv6/")]
    # A router believes other routers only if it is told to in so many words.
    if seen.get("ipv6/accept_ra") == "1" and seen.get("ipv6/forwarding", "0") != "0":
        found = [name for name in found if name != "ipv6/accept_ra"]
    return dict.fromkeys(found, "0")


def doubts(network: str, bridge: str, seen: Mapping[str, str]) -> list[str]:
    """Return a sentence, if there is something to say, about a bridge of others for the machines of a network."""
    found = trusts_guests(seen)
    if not found:
        return []
    observed = ", ".join(f"{key(bridge, name)} = {seen[name]}" for name in found)
    commands = " && ".join(command(bridge, name, value) for name, value in found.items())
    doubt = (
        f"network {network}: bridge {bridge} is this host's own and is left as it is ({observed}): a machine on it "
        f"that speaks as a router gives this host addresses and routes. Unless a router is to do so: {commands}"
    )
    return [doubt]


def existing(interface: str, values: Mapping[str, str]) -> dict[str, str]:
    """Return those of these settings that the kernel has for the interface."""
    return {name: value for name, value in values.items() if os.path.exists(_path(interface, name))}


def write_new(interface: str, values: Mapping[str, str]) -> None:
    """Set these settings, as far as the kernel has them, of an interface that has just been made. As it has the
    kernel's defaults, they are not read before."""
    for name, value in values.items():
        try:
            _write(_path(interface, name), value)
        except FileNotFoundError:
            continue
        except OSError:
            # Where it is read-only, it may be as it is to be.
            if observe(interface).get(name) != value:
                write(interface, {name: value})


def write(bridge: str, values: Mapping[str, str]) -> None:
    for name, value in values.items():
        try:
            _write(_path(bridge, name), value)
        except OSError as error:
            raise CommandFailed(
                f"set {key(bridge, name)} to {value}",
                f"{_path(bridge, name)}: {error.strerror}",
                "In a container it may be read-only: make this node's networks on the host itself",
            ) from error


def key(bridge: str, name: str) -> str:
    """Return the name of a setting as `sysctl` has it. A dot in the bridge's name would be taken for a level."""
    family, setting = name.split("/")
    mark = "/" if "." in bridge else "."
    return mark.join(("net", family, "conf", bridge, setting))


def command(bridge: str, name: str, value: str) -> str:
    return f"sysctl -w {key(bridge, name)}={value}"


def lines(bridge: str, gateway: bool) -> list[str]:
    """Return each path below /proc/sys/net with its value, for programs that set a bridge's settings themselves."""
    return [f"{place(bridge, name)} {value}" for name, value in desired(gateway).items()]


def lines_of(interface: str, values: Mapping[str, str]) -> list[str]:
    """Return lines like those of lines(), for these settings of an interface that is no bridge."""
    return [f"{place(interface, name)} {value}" for name, value in existing(interface, values).items()]


def place(bridge: str, name: str) -> str:
    """Return the path of a setting below /proc/sys/net."""
    family, setting = name.split("/")
    return f"{family}/conf/{bridge}/{setting}"


def _path(bridge: str, name: str) -> str:
    """Return the path of a setting as text: of hundreds of bridges, pathlib would take most of the time."""
    return f"{PROC}/{place(bridge, name)}"


def _read(path: str) -> str:
    """Read a setting by its descriptor: of hundreds of bridges, Python's own files would take most of the time."""
    with opened(path, os.O_RDONLY) as fd:
        return os.read(fd, 100).decode("ascii").strip()


def _write(path: str, value: str) -> None:
    with opened(path, os.O_WRONLY) as fd:
        os.write(fd, f"{value}\n".encode("ascii"))
