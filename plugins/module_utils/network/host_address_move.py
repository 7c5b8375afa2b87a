# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves the addresses and routes of this host from an interface to the bridge that it becomes a port of.

Ansible's own connection may go by that interface. So a program of the host's own waits from before anything is
changed until somebody who has connected anew gives a second word; without it, it puts all of it back by itself."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..dataclass import dataclass
from ..errors import Conflict, InUse, NebulaError, TimedOut
from ..host import processes, systemd_units
from ..host.command import run
from ..host.files import make_directory, read_limited, write_atomically
from . import bridge_sysctls, host_routes, links, nat
from .links import VXLAN_KIND, Link

# Until the next boot, as what is moved.
PLACE = "/run/nebula-provision-moves"
# What a move waits for its second word.
SECONDS = 60
# What it takes to put everything back, or to notice the word.
_END_SECONDS = 30.0
_UNIT = "nebula-move-"
_SCRIPT = "back.sh"
# Whoever makes the directory `ended` first has the last word: this program, or who keeps what was done.
PROGRAM = """#!/bin/sh
# Puts the addresses of this host back where they were, unless somebody makes the directory `ended` in time.
cd "$1" || exit 1
PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin
left=$2
while [ "$left" -gt 0 ] && [ ! -e at-once ] && [ ! -e ended ]; do
    sleep 1
    left=$((left - 1))
done
mkdir ended 2>/dev/null || exit 0
ip -force -batch links
while read -r name value; do
    [ ! -e "/proc/sys/net/$name" ] || echo "$value" >"/proc/sys/net/$name"
done <settings
ip -4 -force -batch routes4
ip -6 -force -batch routes6
[ ! -s rules ] || nft -f rules
date >restored
"""
# What the kernel makes by itself with an address, or tells of a route's state.
_OF_KERNEL = ("proto 2", "proto kernel")
_STATES = ("linkdown", "dead", "offload", "trap", "rt_offload", "rt_trap", "notify")
_EVERY = 4294967295


@dataclass(frozen=True)
class HostAddresses:
    """Holds what an interface has of the host's: lines for `ip`, without the interface. routes: by family."""

    addresses: tuple[str, ...] = ()
    routes4: tuple[str, ...] = ()
    routes6: tuple[str, ...] = ()

    def address_lines(self, name: str, taken: bool = False) -> list[str]:
        verb = "delete" if taken else "replace"
        return [f"address {verb} {each.partition(' ')[0] if taken else each} dev {name}" for each in self.addresses]

    def routed(self, name: str) -> Iterator[tuple[str, list[str]]]:
        """Yield the routes of each family. Routes that others lead by come first."""
        for family, lines in (("-4", self.routes4), ("-6", self.routes6)):
            ordered = sorted(lines, key=lambda line: " via " in line)
            yield family, [f"route replace {line} dev {name}" for line in ordered]


def observe(name: str) -> HostAddresses:
    """Return what the interface has, without the kernel's own addresses and routes, which come and go with it."""
    found = [_address(info) for info in _infos(name)]
    found_routes = {}
    for family in ("-4", "-6"):
        argv = ["ip", family, "-N", "route", "show", "table", "all", "dev", name]
        done = run(argv, timeout=links.TIMEOUT, check=family == "-4")
        found_routes[family] = tuple(
            filter(None, map(_route, done.stdout.splitlines() if done.returncode == 0 else ()))
        )
    return HostAddresses(tuple(found), found_routes["-4"], found_routes["-6"])


def _infos(name: str) -> list[Mapping[str, Any]]:
    """Return the interface's addresses as `ip` shows them, without those that the kernel makes of its own."""
    entries = json.loads(run(["ip", "-json", "address", "show", "dev", name], timeout=links.TIMEOUT).stdout or "[]")
    infos = [info for entry in entries for info in entry.get("addr_info", ())]
    return [info for info in infos if (info.get("family"), info.get("scope")) != ("inet6", "link")]


def _address(info: Mapping[str, Any]) -> str:
    local, length = info["local"], info["prefixlen"]
    text = f"{local} peer {info['address']}/{length}" if info.get("address") else f"{local}/{length}"
    if info.get("broadcast"):
        text += f" broadcast {info['broadcast']}"
    if info.get("scope") not in (None, "global"):
        text += f" scope {info['scope']}"
    if info.get("metric"):
        text += f" metric {info['metric']}"
    # Of IPv6: nobody else had it on the link a moment ago, and the connection can't wait.
    text += " noprefixroute" if info.get("noprefixroute") else ""
    return text + (" nodad" if info.get("family") == "inet6" else "")


def _route(line: str) -> str:
    text = " ".join(word for word in line.split() if word not in _STATES)
    is_kernels = any(f" {mark} " in f"{text} " for mark in _OF_KERNEL)
    # Of a type, as numbers: local, broadcast, anycast, multicast.
    return "" if is_kernels or text.partition(" ")[0] in ("2", "3", "4", "5") else text


def refuse(asked: str, phydev: Link, present: Mapping[str, Link]) -> None:
    """Raise an error where what the interface has would not stay where it is put, or something depends on it."""
    leased = [
        f"{info['local']}/{info['prefixlen']}"
        for info in _infos(phydev.name)
        if info.get("dynamic") or info.get("valid_life_time", _EVERY) != _EVERY
    ]
    remedy = (
        "Make the bridge by the means of the host's distribution, with the addresses on it, and use vn_mad: dummy; or "
        "give the interface addresses that stay"
    )
    if leased:
        raise Conflict(
            f"{asked}: phydev_forced",
            f"{phydev.name} has {', '.join(leased)} for a while only (DHCP, or a router), and who renews them would "
            "give them to it again",
            remedy,
        )
    manager = _manager(phydev.name)
    if manager:
        raise Conflict(
            f"{asked}: phydev_forced", f"{manager} manages {phydev.name}, and would give it its addresses again", remedy
        )
    led = _immovable_route(phydev.name)
    if led:
        raise Conflict(f"{asked}: phydev_forced", f"on this host there is {led}, which would not move", remedy)
    tunnels = [link.name for link in present.values() if link.kind == VXLAN_KIND and link.parent == phydev.name]
    if tunnels:
        raise InUse(
            f"{asked}: phydev_forced",
            f"{', '.join(tunnels)} sends from its addresses",
            "Use another interface for one of these networks",
        )


def _immovable_route(name: str) -> str:
    """Return what leads packets by the interface and would be lost, or not be found again; "" for nothing."""
    for line in observe(name).routes6:
        if " expires " in line:
            return f"the route {line} on {name}, which a router announced for a while"
    for route in host_routes.observe():
        if "," in route.device and name in route.device.split(","):
            return f"the route {route}"
    for family in ("-4", "-6"):
        done = run(["ip", family, "-json", "rule", "show"], timeout=links.TIMEOUT, check=False)
        for rule in json.loads(done.stdout or "[]") if done.returncode == 0 else ():
            if name in (rule.get("iif"), rule.get("oif")):
                return f"a rule with priority {rule.get('priority')} of {name} (ip {family} rule)"
    return ""


def _manager(name: str) -> str:
    """Return the daemon that sets the interface up; "" if none would do so again."""
    try:
        # Those of the host know nothing of another network namespace.
        if os.readlink("/proc/self/ns/net") != os.readlink("/proc/1/ns/net"):
            return ""
        index = Path("/sys/class/net", name, "ifindex").read_text(encoding="ascii").strip()
    except OSError:
        return ""
    for daemon, path, mark in (
        ("systemd-networkd", f"/run/systemd/netif/links/{index}", "NETWORK_FILE="),
        ("NetworkManager", f"/run/NetworkManager/devices/{index}", "connection-uuid="),
    ):
        with contextlib.suppress(NebulaError):
            if mark in read_limited(path, 1 << 16).decode("utf-8", "replace"):
                return daemon
    return ""


class Move:
    """Moves one interface into one bridge, which is there already or is about to be made.
    former: the bridge as it is"""

    def __init__(self, phydev: Link, bridge: str, former: Link | None) -> None:
        self.phydev, self.bridge, self.former = phydev, bridge, former
        self.directory = _directory(bridge)
        self.belongings = HostAddresses()
        self.settings: dict[str, str] = {}

    def arm(self, table: nat.Table) -> None:
        """Start the program that puts everything back, unless keep() is called in time."""
        _refuse_pending(self.bridge)
        self.belongings = observe(self.phydev.name)
        self.settings = {**bridge_sysctls.observe(self.phydev.name)}
        # Machines are on the bridge, too: nobody there gives the host addresses or routes.
        self.settings.update((name, "0") for name in bridge_sysctls.TRUSTING if name in self.settings)
        back = [
            *self.belongings.address_lines(self.bridge, taken=True),
            f"link set dev {self.phydev.name} nomaster",
            f"link set dev {self.phydev.name} up",
            *self.belongings.address_lines(self.phydev.name),
        ]
        kept: list[str] = []
        if self.former is None:
            back.append(f"link delete dev {self.bridge} type bridge")
        else:
            back.append(f"link set dev {self.bridge} address {self.former.mac} alias {self.former.alias}")
            settings = self.former.settings.items()
            kept = [f"{bridge_sysctls.place(self.bridge, name)} {value}" for name, value in settings]
        routed = dict(self.belongings.routed(self.phydev.name))
        make_directory(PLACE, 0o700)
        make_directory(self.directory, 0o700)
        for name, content in (
            ("links", _text(back)),
            ("routes4", _text(routed["-4"])),
            ("routes6", _text(routed["-6"])),
            ("settings", _text(kept)),
            ("rules", _rules(table)),
            (_SCRIPT, PROGRAM),
        ):
            write_atomically(os.path.join(self.directory, name), content, mode=0o600)
        argv = [*_program(self.directory), str(SECONDS)]
        if systemd_units.has_systemd():
            # Beyond the session that this is part of, which systemd may end as a whole.
            run(["systemd-run", "--quiet", "--collect", f"--unit={_UNIT}{self.bridge}", *argv], timeout=links.TIMEOUT)
            return
        none = subprocess.DEVNULL
        subprocess.Popen(argv, stdin=none, stdout=none, stderr=none, cwd="/", start_new_session=True, close_fds=True)

    def carry_out(self) -> None:
        """Move the addresses and routes to the bridge, which is there, marked and up."""
        name = self.phydev.name
        bridge_sysctls.write(self.bridge, self.settings)
        links.run_batch(
            [
                f"link set dev {self.bridge} address {self.phydev.mac}",
                f"link set dev {name} master {self.bridge}",
                *self.belongings.address_lines(name, taken=True),
                *self.belongings.address_lines(self.bridge),
            ]
        )
        _lead_routes(self.belongings, name, self.bridge)

    def undo(self) -> None:
        """Have everything put back now, and wait until it is."""
        Path(self.directory, "at-once").touch()
        _await(self.directory, "restored")
        shutil.rmtree(self.directory, ignore_errors=True)


def _lead_routes(belongings: HostAddresses, former: str, name: str) -> None:
    """Have the routes lead by the other interface. Some went with the addresses, and it does not matter which."""
    for family, lines in belongings.routed(name):
        if lines:
            text = _text(f"route delete {line} dev {former}" for line in getattr(belongings, f"routes{family[1]}"))
            run(["ip", family, "-force", "-batch", "-"], input=text, timeout=links.TIMEOUT, check=False)
            run(["ip", family, "-batch", "-"], input=_text(lines), timeout=links.TIMEOUT)


def move_back(bridge: Link, port: str) -> None:
    """Move what the bridge has of the host's to its port, which leaves it."""
    belongings = observe(bridge.name)
    links.run_batch(
        [
            f"link set dev {port} nomaster",
            *belongings.address_lines(bridge.name, taken=True),
            *belongings.address_lines(port),
        ]
    )
    _lead_routes(belongings, bridge.name, port)
    shutil.rmtree(_directory(bridge.name), ignore_errors=True)


def confirm(bridge: str) -> None:
    """Give the second word. Raise TimedOut if everything was put back before."""
    directory = _directory(bridge)
    try:
        os.mkdir(os.path.join(directory, "ended"))
    except OSError as error:
        if os.path.isdir(directory):
            with contextlib.suppress(TimedOut):
                _await(directory, "restored")
        shutil.rmtree(directory, ignore_errors=True)
        raise TimedOut(
            f"bridge {bridge}: keep what was moved to it",
            f"no second word came within {SECONDS} s by a new connection, and the host put its addresses back",
            "See whether the bridge's port is the interface that leads to this host, then run again",
        ) from error
    # Its program notices by itself; nothing is left of either.
    _await(directory, "")
    shutil.rmtree(directory, ignore_errors=True)


def _refuse_pending(bridge: str) -> None:
    directory = _directory(bridge)
    if os.path.isdir(directory) and _is_running(directory):
        raise InUse(
            f"bridge {bridge}: move addresses of this host to it",
            "another run has just done so, and has not given its second word yet",
            f"Run again after {SECONDS} s",
        )
    shutil.rmtree(directory, ignore_errors=True)


def _await(directory: str, name: str) -> None:
    """Wait for the file of this name in the directory; without a name, for the end of the program."""
    end = time.monotonic() + _END_SECONDS
    while not os.path.exists(os.path.join(directory, name)) if name else _is_running(directory):
        if time.monotonic() > end:
            raise TimedOut(
                f"{directory}: the program that puts addresses back",
                f"it has not ended after {_END_SECONDS:.0f} s",
                f"Look at it: ps ax | grep {directory}",
            )
        time.sleep(0.1)


def _is_running(directory: str) -> bool:
    wanted = [word.encode() for word in _program(directory)]
    return any(True for _each in processes.of_root(lambda words: words[: len(wanted)] == wanted))


def _program(directory: str) -> list[str]:
    """Return the command that is run, but for its last argument: the seconds."""
    return ["/bin/sh", os.path.join(directory, _SCRIPT), directory]


def _rules(table: nat.Table) -> str:
    """Return lines for nft that make the table what it is now."""
    text = f"add table inet {table.name}\ndelete table inet {table.name}\n"
    if table.exists:
        argv = ["nft", "--stateless", "list", "table", "inet", table.name]
        text += run(argv, timeout=links.TIMEOUT).stdout
    return text


def _text(lines: Iterator[str] | Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _directory(bridge: str) -> str:
    return os.path.join(PLACE, bridge)
