# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets up a host's part in OVN: Open vSwitch, its bridges, and ovn-controller."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from ...dataclass import dataclass
from ...errors import Conflict, ForeignObject, InvalidValue, MissingDependency, NotFound, TimedOut, Unsupported
from ...host.command import run
from ...host.files import make_directory, read_limited, remove_file, write_atomically
from .. import host_routes, links
from ..links import Link
from . import bridges_at_boot, certificates, chassis, checksum_offload, daemons, openvswitch_settings
from .daemons import Daemons, has_kernel_datapath
from .openvswitch_settings import Bridge, BridgeMapping, Switch, Wanted
from .paths import Change, Places

TIMEOUT = 60
CONNECT_SECONDS = 30.0
# What another chassis at this host's address is waited for to go, as it does if the name of this one was changed.
HELD_SECONDS = 3.0
_SSH = 22
_ESTABLISHED = "01"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


@dataclass
class Outcome:
    """Says what came of it.
    connected: whether ovn-controller is connected, and the southbound database has this host at its address
    held_by: the chassis that the database has there instead"""

    items: list[Change]
    warnings: list[str]
    encap_ip: str = ""
    inner_mtu: int = 0
    connected: bool = False
    managed: bool = True
    held_by: str = ""


class Host:
    """Sets up this host's part in OVN. name: the host's name in OVN."""

    def __init__(self, root: str, places: Places, catalog: str, name: str, act: bool) -> None:
        certificates.check_name(name)
        self.root, self.places, self.catalog, self.name, self.act = root, places, catalog, name, act
        self.daemons = Daemons(places, name)
        self.boot = bridges_at_boot.Boot(root, catalog)

    def observe(self) -> Switch:
        return openvswitch_settings.observe(self.places, self.daemons)

    # --- what is refused ----------------------------------------------------------------------------------------------

    def refuse_foreign(self, found: Switch, remote: str = "") -> None:
        """Raise ForeignObject if Open vSwitch is set up for an OVN that is not this catalog's."""
        asked = f"Open vSwitch of host {self.name}"
        if found.mark == self.catalog:
            return
        if found.mark:
            raise ForeignObject(
                asked,
                f"it carries the mark of catalog {found.mark}, and this is catalog {self.catalog or '(none yet)'}",
                "Take it back by that catalog's inventory first (nebula_ovn_state: absent)",
            )
        theirs = found.external_ids.get("ovn-remote", "")
        if theirs:
            raise ForeignObject(
                asked,
                f"external-ids:ovn-remote is {theirs}, set by somebody else",
                "Name that OVN with nebula_ovn_remote to use it, or remove that key if nothing needs it",
            )
        system_id = found.external_ids.get("system-id", "")
        # The package's scripts make a UUID when they are first run.
        if system_id not in ("", self.name) and not _UUID.match(system_id):
            raise ForeignObject(
                asked,
                f"external-ids:system-id is {system_id}, set by somebody else",
                f"Name the host so in the inventory, or remove {self.places.system_id} and that key",
            )

    def refuse_bridges(self, found: Switch, wanted: Wanted, present: Mapping[str, Link]) -> None:
        """Raise ForeignObject, NotFound or Conflict for what can't be made, before anything is made."""
        for name in (openvswitch_settings.INTEGRATION, *(each.bridge for each in wanted.mappings)):
            there = found.bridges.get(name)
            if there is not None and there.mark != self.catalog and not self._is_made_by_itself(there):
                whose = f"carries the mark of catalog {there.mark}" if there.mark else "was made by somebody else"
                raise ForeignObject(
                    f"bridge {name} of host {self.name}",
                    f"the bridge of that name {whose}",
                    f"Choose another name for it, or remove it: ovs-vsctl del-br {name}",
                )
            if there is None and name in present:
                raise ForeignObject(
                    f"bridge {name} of host {self.name}",
                    "there is an interface of that name that this collection did not make",
                    "Choose another name",
                )
        if found.ssl and found.ssl_mark != self.catalog and wanted.tls and wanted.tls.as_dict() != found.ssl:
            raise ForeignObject(
                f"TLS of Open vSwitch of host {self.name}",
                f"somebody else has set it to {found.ssl['certificate']}, and ovn-controller takes it from there",
                "Remove it if nothing needs it: ovs-vsctl del-ssl",
            )
        for mapping in wanted.mappings:
            if mapping.interface:
                self._refuse_interface(found, mapping, present)

    def _is_made_by_itself(self, bridge: Bridge) -> bool:
        """Return whether installing its package made the bridge: it starts ovn-controller, for no OVN at all yet."""
        untouched = bridge.fail_mode == "secure" and not bridge.mark and not bridge.ports
        return bridge.name == openvswitch_settings.INTEGRATION and untouched and self.daemons.running("controller")

    def _refuse_interface(self, found: Switch, mapping: BridgeMapping, present: Mapping[str, Link]) -> None:
        asked = f"interface {mapping.interface} for bridge {mapping.bridge} of host {self.name}"
        link = present.get(mapping.interface)
        if link is None:
            raise NotFound(asked, "there is no such interface", f"There are {', '.join(sorted(present))}")
        bridge = found.bridges.get(mapping.bridge)
        if bridge is not None and bridge.ports.get(mapping.interface) == self.catalog:
            return
        for other in found.bridges.values():
            if mapping.interface in other.ports:
                raise ForeignObject(
                    asked, f"it is a port of bridge {other.name} already", "Take it out there, or name another"
                )
        for name, other_link in present.items():
            # What carries a vhost or another kind of datapath shows ovs-system as its master.
            if mapping.interface in other_link.ports and name != "ovs-system":
                raise ForeignObject(asked, f"it is a port of {name}", "Take it out there, or name another")
        why = carries_host(link)
        if why:
            raise Conflict(
                asked,
                f"{why}: within the bridge it would be cut off",
                "Name an interface that the host itself does not need; moving this one is not done",
            )
        others = [address for address in (*link.addresses, *link.addresses6) if address != mapping.address]
        if others:
            raise Conflict(
                asked,
                f"it has the addresses {', '.join(others)}, which have no effect within a bridge",
                "Remove them, or give the one that is to be kept as address of the bridge",
            )

    def refuse_datapath(self, datapath: str, found: Switch) -> None:
        if datapath == "system" and not has_kernel_datapath():
            raise Unsupported(
                f"nebula_ovn_datapath: system on host {self.name}",
                "its kernel has no module openvswitch",
                "Install a kernel that has it and load it (modprobe openvswitch), or set nebula_ovn_datapath: netdev",
            )
        other = [
            b.name for b in found.bridges.values() if b.mark == self.catalog and (b.datapath or "system") != datapath
        ]
        if other and any(found.bridges[name].ports for name in other):
            raise Conflict(
                f"nebula_ovn_datapath: {datapath} on host {self.name}",
                f"its bridges ({', '.join(sorted(other))}) are of the other kind and have ports",
                "End the machines on it and take OVN back there (nebula_ovn_state: absent), then set it up anew",
            )

    # --- what is done -------------------------------------------------------------------------------------------------

    def ensure(self, wanted: Wanted, mtu: int, restart: bool, coming: Sequence[str] = ()) -> Outcome:
        """Set the host's part in OVN up. coming: TLS files that a real run writes before, and check mode may lack."""
        if not daemons.is_installed("switch") or not daemons.is_installed("controller"):
            if self.act:
                daemons.require_installed("switch")
                daemons.require_installed("controller")
            outcome = Outcome(
                [Change(f"host {self.name}", None, openvswitch_settings.desired_view(wanted))], [], wanted.encap_ip
            )
            # In check mode the program that tells of interfaces may be missing, too.
            with contextlib.suppress(MissingDependency):
                self._check_tunnel(wanted, links.observe(), mtu, outcome)
            return outcome
        found, present = self.observe(), links.observe()
        theirs = found.external_ids.get("ovn-remote", "")
        if (
            found.mark != self.catalog
            and theirs
            and theirs == wanted.remote
            and openvswitch_settings.INTEGRATION in found.bridges
        ):
            # Somebody else has set the host up for the very OVN that is to be used.
            return Outcome(
                [], [], found.external_ids.get("ovn-encap-ip", ""), connected=self.daemons.connected(), managed=False
            )
        self.refuse_foreign(found)
        self.refuse_datapath(wanted.datapath, found)
        self.refuse_bridges(found, wanted, present)
        outcome = Outcome([], [], wanted.encap_ip)
        self._check_tunnel(wanted, present, mtu, outcome)
        # In check mode nothing may be signed yet.
        if wanted.tls is not None and (self.act or (found.mark == self.catalog and not coming)):
            certificates.check_readable(f"TLS of host {self.name}", wanted.tls)
        before, after = self._shown(found, present), self._expected(wanted)
        started = before["daemons"] != after["daemons"]
        outcome.items.append(Change(f"host {self.name}", before if found.mark == self.catalog else None, after))
        if self.act and before != after:
            self._act(wanted, found, present)
        if restart and not started:
            outcome.items.append(Change("ovn-controller", {"restarted": False}, {"restarted": True}))
            if self.act:
                self.daemons.restart_controller()
        if self.act and (before != after or restart):
            log = os.path.join(self.places.ovn_log, "ovn-controller.log")
            asked = f"ovn-controller of host {self.name} towards {wanted.remote}"
            daemons.wait_until(self.daemons.connected, asked, "it has no connection", log, CONNECT_SECONDS)
        outcome.connected = self.daemons.running("controller") and self.daemons.connected()
        # In check mode the files by which the database is asked may be missing.
        if outcome.connected and (self.act or (before == after and not coming)):
            self._check_registration(wanted, outcome)
        elif not outcome.connected and before == after:
            outcome.warnings.append(
                f"host {self.name}: ovn-controller has no connection to {wanted.remote}. Traffic goes on as it is; "
                f"what is changed in OVN does not reach this host. See {self.places.ovn_log}/ovn-controller.log"
            )
        return outcome

    def _check_registration(self, wanted: Wanted, outcome: Outcome) -> None:
        """Note whether the southbound database has this chassis at this address. ovn-controller does not say so."""

        def held_by() -> str:
            return chassis.chassis_at(wanted.remote, wanted.tls, wanted.encap_type, wanted.encap_ip)

        begun, found, restarted = time.monotonic(), held_by(), False
        while self.act and found != self.name:
            waited = time.monotonic() - begun
            if waited > (HELD_SECONDS if found else CONNECT_SECONDS):
                break
            if not found and waited > HELD_SECONDS and not restarted:
                # Its connection still is that of the certificate with its former name.
                self.daemons.restart_controller()
                restarted = True
            time.sleep(0.1)
            found = held_by()
        if found == self.name:
            return
        if self.act and not found:
            raise TimedOut(
                f"chassis of host {self.name} at {wanted.encap_ip}",
                f"the southbound database has none after {CONNECT_SECONDS:g} s",
                f"See {self.places.ovn_log}/ovn-controller.log",
            )
        outcome.connected, outcome.held_by = False, found
        place = f"chassis at {wanted.encap_ip}"
        outcome.items.append(Change(f"host {self.name}", {place: found or None}, {place: self.name}))
        whose = f"has chassis {found} at {wanted.encap_ip}" if found else f"has no chassis at {wanted.encap_ip}"
        outcome.warnings.append(
            f"host {self.name}: ovn-controller is connected, but the southbound database {whose}, so that no packets "
            "of machines pass between this host and others"
        )

    def _act(self, wanted: Wanted, found: Switch, present: Mapping[str, Link]) -> None:
        made = self.daemons.what_start_changes(found.there)
        if read_id(self.places) != self.name:
            make_directory(os.path.dirname(self.places.system_id), 0o755)
            write_atomically(self.places.system_id, self.name + "\n", mode=0o644)
        if not self.daemons.running("switch") or not self.daemons.starts_with_host("switch"):
            self.daemons.start("switch")
            started = self.observe()
            if started.mark != self.catalog and not found.external_ids:
                found = started
        moved = {a: name for name, link in present.items() for a in (*link.addresses, *link.addresses6)}
        down = [name for name, link in present.items() if not link.up]
        words = openvswitch_settings.commands(found, wanted, moved, down, made)
        former = bridges_at_boot.addresses(found.bridges, self.catalog)
        if words:
            self._vsctl(words)
        kept = {openvswitch_settings.INTEGRATION, *(each.bridge for each in wanted.mappings)}
        self._give_links_back([bridge for name, bridge in found.bridges.items() if name not in kept])
        self._set_links(wanted, former, links.observe())
        self.boot.keep(wanted.mappings)
        if self.daemons.by_units:
            daemons.keep_drop_ins({daemons.DROP_IN: daemons.desired_drop_in()})
        if not self.daemons.running("controller") or not self.daemons.starts_with_host("controller"):
            self.daemons.start("controller")

    def _vsctl(self, words: Sequence[str]) -> None:
        argv = ["ovs-vsctl", f"--db=unix:{self.places.switch_socket}", f"--timeout={TIMEOUT}", "--", *words]
        run(argv, timeout=TIMEOUT + 10, env=self.places.environment)

    def _set_links(self, wanted: Wanted, former: Mapping[str, str], present: Mapping[str, Link]) -> None:
        steps = []
        for mapping in wanted.mappings:
            old = former.get(mapping.bridge, "")
            here = present.get(mapping.bridge, Link(mapping.bridge))
            if old and old != mapping.address and old in _addresses(here):
                steps.append(f"address delete {old} dev {mapping.bridge}")
            if not here.up:
                steps.append(f"link set dev {mapping.bridge} up")
            if mapping.interface:
                link = present[mapping.interface]
                if mapping.address and mapping.address in _addresses(link):
                    steps.append(f"address delete {mapping.address} dev {mapping.interface}")
                if not link.up:
                    steps.append(f"link set dev {mapping.interface} up")
            if mapping.address and mapping.address not in _addresses(here):
                steps.append(f"address add {mapping.address} dev {mapping.bridge}")
        links.run_batch(steps)
        if wanted.datapath == "netdev":
            for mapping in wanted.mappings:
                if mapping.address:
                    checksum_offload.switch_off(mapping.bridge)

    def remove(self) -> list[Change]:
        """Take away what is this catalog's; what is somebody else's stays, and so do the packages."""
        if not daemons.is_installed("switch"):
            return self._remove_files(None)
        found = self.observe()
        ours = found.mark == self.catalog or any(b.mark == self.catalog for b in found.bridges.values())
        if not ours:
            return self._remove_files(None)
        before = {**openvswitch_settings.view(found, self.catalog), "boot": self.boot.view()}
        former_id = found.external_ids.get(openvswitch_settings.FORMER_ID, "")
        others = [name for name, bridge in found.bridges.items() if bridge.mark != self.catalog]
        made = found.external_ids.get(openvswitch_settings.MADE, "")
        self._refuse_machines(found)
        if self.act:
            if daemons.is_installed("controller"):
                if self.daemons.by_units:
                    daemons.remove_drop_ins([daemons.DROP_IN])
                self.daemons.stop("controller")
            if not self.daemons.running("switch"):
                self.daemons.start("switch")
            words = openvswitch_settings.removal_commands(found, self.catalog)
            if words:
                self._vsctl(words)
            self._give_links_back(list(found.bridges.values()))
            if former_id:
                write_atomically(self.places.system_id, former_id + "\n", mode=0o644)
            elif made == "database" or (
                read_id(self.places) == self.name and openvswitch_settings.FORMER_ID in found.external_ids
            ):
                remove_file(self.places.system_id)
            if not others:
                self.daemons.switch_off(made)
        return self._remove_files(before)

    def _remove_files(self, before: Mapping[str, Any] | None) -> list[Change]:
        left = self.boot.view()
        if self.act:
            self.boot.remove()
        gone = certificates.remove(self.root, "host", self.act)
        if before is None and not gone and not left:
            return []
        return [Change(f"host {self.name}", {**(before or {}), "files": [*left, *gone]}, None)]

    def _refuse_machines(self, found: Switch) -> None:
        ports = (
            sorted(found.bridges[openvswitch_settings.INTEGRATION].ports)
            if openvswitch_settings.INTEGRATION in found.bridges
            else []
        )
        # Tunnels are OVN's own.
        ports = [port for port in ports if not port.startswith("ovn-")]
        if ports:
            raise Conflict(
                f"take OVN back on host {self.name}",
                f"attached to {openvswitch_settings.INTEGRATION} are {', '.join(ports[:10])}",
                "End the machines that use it first",
            )

    def _give_links_back(self, bridges: Sequence[Bridge]) -> None:
        """Give addresses of bridges that are gone back to the interfaces from which they came."""
        ours = [bridge for bridge in bridges if bridge.mark == self.catalog]
        present = links.observe() if ours else {}
        steps = []
        for bridge in ours:
            source, address = (
                bridge.external_ids.get(openvswitch_settings.FROM, ""),
                bridge.external_ids.get(openvswitch_settings.ADDRESS, ""),
            )
            if source in present and address and address not in _addresses(present[source]):
                steps.append(f"address add {address} dev {source}")
            was_down = bridge.external_ids.get(openvswitch_settings.DOWN, "")
            if was_down in present and present[was_down].up:
                steps.append(f"link set dev {was_down} down")
        links.run_batch(steps)

    # --- what is compared ---------------------------------------------------------------------------------------------

    def _shown(self, found: Switch, present: Mapping[str, Link]) -> dict[str, Any]:
        running = {name: self.daemons.running(name) for name in ("switch", "controller")}
        starts = all(self.daemons.starts_with_host(name) for name in running) if all(running.values()) else False
        set_up: dict[str, Any] = {}
        for name, bridge in sorted(found.bridges.items()):
            if bridge.mark == self.catalog and name != openvswitch_settings.INTEGRATION:
                link = present.get(name, Link(name))
                address = bridge.external_ids.get(openvswitch_settings.ADDRESS, "")
                up = link.up and all(present[port].up for port in bridge.ports if port in present)
                set_up[name] = {"up": up, "address": address if address in _addresses(link) else ""}
                if address and bridge.datapath == "netdev":
                    set_up[name]["checksums"] = "left to it" if checksum_offload.is_on(name) else "made by the kernel"
        view = {
            **openvswitch_settings.view(found, self.catalog),
            "daemons": {**running, "start_with_host": starts},
            "links": set_up,
            "system_id_file": read_id(self.places),
            "boot": self.boot.view(),
        }
        if self.daemons.by_units:
            view["restarts_without_a_cut"] = daemons.read_drop_in() == daemons.desired_drop_in()
        return view

    def _expected(self, wanted: Wanted) -> dict[str, Any]:
        set_up: dict[str, Any] = {}
        for each in sorted(wanted.mappings, key=lambda each: each.bridge):
            set_up[each.bridge] = {"up": True, "address": each.address}
            if each.address and wanted.datapath == "netdev":
                set_up[each.bridge]["checksums"] = "made by the kernel"
        view = {
            **openvswitch_settings.desired_view(wanted),
            "daemons": {"switch": True, "controller": True, "start_with_host": True},
            "links": set_up,
            "system_id_file": self.name,
            "boot": self.boot.expected(wanted.mappings),
        }
        if self.daemons.by_units:
            view["restarts_without_a_cut"] = True
        return view

    def _check_tunnel(self, wanted: Wanted, present: Mapping[str, Link], mtu: int, outcome: Outcome) -> None:
        """Raise InvalidValue without the tunnels' address; note what tunnels leave for the machines' packets."""
        six = ":" in wanted.encap_ip
        carriers = [link for link in present.values() if wanted.encap_ip in [a.split("/")[0] for a in _addresses(link)]]
        coming = [m for m in wanted.mappings if m.address and str(ip_interface(m.address).ip) == wanted.encap_ip]
        if not carriers and not coming:
            raise InvalidValue(
                f"nebula_ovn_encap_ip: {wanted.encap_ip} on host {self.name}",
                "the host has no such address",
                "Give one that it has and the other hosts reach",
            )
        names = [coming[0].interface or coming[0].bridge] if coming else [carriers[0].name]
        underlay = mtu_of(names[0])
        outcome.inner_mtu = (
            underlay - openvswitch_settings.OVERHEAD[wanted.encap_type] - (openvswitch_settings.SIX if six else 0)
        )
        if underlay and outcome.inner_mtu < mtu:
            outcome.warnings.append(
                f"host {self.name}: interface {names[0]} has an MTU of {underlay}, of which {wanted.encap_type} leaves "
                f"{outcome.inner_mtu} for the machines' packets, and {mtu} are asked for (nebula_ovn_mtu). Larger ones "
                f"vanish: give the interface and its switches an MTU of {mtu + underlay - outcome.inner_mtu}, or the "
                f"networks one of {outcome.inner_mtu}"
            )


def encap_ip(remote: str) -> str:
    """Return the address by which this host reaches the first server of a connection string."""
    for each in remote.split(","):
        host = each.split(":", 1)[1].rsplit(":", 1)[0].strip("[]") if each.count(":") >= 2 else ""
        if host:
            # UnicodeError: what can't be a name at all.
            with contextlib.suppress(OSError, UnicodeError):
                for _family, _type, _protocol, _name, address in socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM):
                    found = daemons.own_address_towards(str(address[0]))
                    if found:
                        return found
    raise InvalidValue(
        f"nebula_ovn_encap_ip for {remote}",
        "this host has no way there",
        "See its addresses and routes, or give nebula_ovn_encap_ip",
    )


def read_id(places: Places) -> str:
    with contextlib.suppress(NotFound):
        return read_limited(places.system_id, 4096).decode("utf-8", "replace").strip()
    return ""


def mtu_of(name: str) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(Path(f"/sys/class/net/{name}/mtu").read_text(encoding="ascii"))
    return 0


def carries_host(link: Link) -> str:
    """Return why the host itself needs the interface, "" if it does not."""
    for route in host_routes.observe():
        if route.destination.prefixlen == 0 and link.name in route.device.split(",") and not route.table:
            return f"the host's default route leads over it ({route})"
    addresses = {address.split("/")[0] for address in _addresses(link)}
    carried = sorted(addresses & ssh_addresses())
    return f"it has the address {carried[0]} of a connection by ssh" if carried else ""


def ssh_addresses() -> set[str]:
    """Return addresses of this host to which somebody is connected by ssh, or by which this very task came."""
    found = set()
    pid = os.getpid()
    while pid > 1:
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            parent = int(
                Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()[1]
            )
        except (OSError, ValueError, IndexError):
            break
        # sudo clears it for its own children, so that those above are asked, too.
        for each in environment:
            words = each.decode("utf-8", "replace").split()
            if each.startswith(b"SSH_CONNECTION=") and len(words) == 4:
                found.add(words[2])
        pid = parent
    for path, family in (("/proc/net/tcp", socket.AF_INET), ("/proc/net/tcp6", socket.AF_INET6)):
        with contextlib.suppress(OSError):
            for line in Path(path).read_text(encoding="ascii").splitlines()[1:]:
                _number, local, _remote, state = line.split()[:4]
                address, port = local.rsplit(":", 1)
                if state == _ESTABLISHED and int(port, 16) == _SSH:
                    found.add(_read_address(address, family))
    return found


def _read_address(address: str, family: int) -> str:
    """Return an address as text. In /proc/net/tcp it is words of 32 bits in the order of this machine."""
    raw = bytes.fromhex(address)
    words = [raw[i : i + 4][::-1] for i in range(0, len(raw), 4)]
    text = socket.inet_ntop(family, b"".join(words))
    return text[len("::ffff:") :] if text.startswith("::ffff:") else text


def _addresses(link: Link) -> tuple[str, ...]:
    return (*link.addresses, *link.addresses6)
