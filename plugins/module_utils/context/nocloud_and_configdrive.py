# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a context in three forms: OpenNebula's own, the config drive of OpenStack, and cloud-init's NoCloud. Pure.

Whatever the form, context.sh is on the ISO too: a guest may have scripts of its own beside cloud-init."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..dataclass import dataclass
from ..errors import InvalidValue
from ..text import context_sh
from .guest_nics import Nic, Route, as_kernel_shows
from .guest_settings import VARIABLES, Guest, yaml

# For the identity of an ISO that is given none: the same variables are the same instance.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "nebula.provision")
_OWN_MAC = re.compile(r"ETH[0-9]{1,5}(?:_ALIAS[0-9]{1,5})?_MAC\Z")


@dataclass(frozen=True)
class Format:
    """Describes a form. label: the ISO's, by which guests find it. paths: files that it may have beside context.sh."""

    label: str
    paths: tuple[str, ...] = ()

    def reserved(self) -> frozenset[str]:
        """Return the names at the top of the ISO that only we may use."""
        return frozenset(path.partition("/")[0] for path in (VARIABLES, *self.paths))


_LATEST = "openstack/latest/"
FORMATS: Mapping[str, Format] = {
    "opennebula": Format("CONTEXT"),
    "configdrive": Format("config-2", tuple(_LATEST + f for f in ("meta_data.json", "network_data.json", "user_data"))),
    "nocloud": Format("cidata", ("meta-data", "network-config", "user-data")),
}
DEFAULT = "opennebula"


def format_of_name(name: str, where: str = "format") -> Format:
    """Return the format of this name. Raise InvalidValue if there is none."""
    if name not in FORMATS:
        raise InvalidValue(f"{where} {name!r}", "no such format", f"Known are {', '.join(FORMATS)}")
    return FORMATS[name]


def of_label(label: str) -> str:
    """Return the name of the format with this label, "" if none has it."""
    return next((name for name, known in FORMATS.items() if known.label == label), "")


def documents_of_iso(
    format: str, variables: Mapping[str, str], identity: str = "", files: Collection[str] = ()
) -> tuple[str, dict[str, bytes]]:
    """Return the label of an ISO, and what is on it beside the user's files, as bytes by path. Raise InvalidValue for
    variables with wrong values, and for files with a name that the format needs.
    variables: with all expressions replaced.
    identity: of the guest, such as its machine's UUID, or "" to derive one from the variables. cloud-init carries out
    its user data once for each identity.
    files: paths of the user's files on the ISO."""
    made = format_of_name(format)
    _refuse_reserved(format, made, files)
    variables = {name: as_kernel_shows(value) if _OWN_MAC.match(name) else value for name, value in variables.items()}
    text = context_sh.render(variables)
    found = {VARIABLES: text.encode()}
    if made.paths:
        given = {name: value for name, value in variables.items() if value.strip()}
        guest = Guest(given, identity or str(uuid.uuid5(_NAMESPACE, text)), made.label, files)
        found.update(_config_drive(guest) if format == "configdrive" else _nocloud(guest))
    return made.label, found


def _refuse_reserved(format: str, made: Format, files: Iterable[str]) -> None:
    # Windows does not tell names apart by case.
    for path in files:
        if path.partition("/")[0].lower() in made.reserved():
            raise InvalidValue(
                f"FILES: {path!r}",
                f"an ISO of format {format} has a file of that name by itself",
                "Give it another name: source:name",
            )


def _nocloud(guest: Guest) -> dict[str, bytes]:
    meta: dict[str, Any] = {"instance-id": guest.identity}
    if guest.hostname:
        meta["local-hostname"] = guest.hostname
    if guest.keys:
        meta["public-keys"] = guest.keys
    found = {"meta-data": yaml(meta), "user-data": guest.user_data}
    # Without it cloud-init asks for an address by DHCP.
    if guest.nics or guest.knows_nics:
        found["network-config"] = yaml({"version": 2, "ethernets": {nic.name: _ethernet(nic) for nic in guest.nics}})
    return dict(sorted(found.items()))


def _ethernet(nic: Nic) -> dict[str, Any]:
    # The NIC is matched by its MAC address alone: the guest chooses its name.
    entry: dict[str, Any] = {"match": {"macaddress": nic.mac}}
    if nic.mtu is not None:
        entry["mtu"] = nic.mtu
    if nic.dhcp4:
        entry["dhcp4"] = True
        if nic.metric is not None:
            entry["dhcp4-overrides"] = {"route-metric": nic.metric}
    if nic.dhcp6:
        entry["dhcp6"] = True
    if nic.router_advertisements is not None:
        entry["accept-ra"] = nic.router_advertisements
    if nic.addresses:
        entry["addresses"] = [str(address) for address in nic.addresses]
    routes = []
    for route in nic.routes:
        entry_of = _route(nic, route)
        key = f"gateway{route.to.version}"
        if route.to.prefixlen or "on-link" in entry_of or "metric" in entry_of or key in entry:
            routes.append(entry_of)
        else:
            entry[key] = entry_of["via"]
    if routes:
        entry["routes"] = routes
    names = {"addresses": nic.dns, "search": nic.search}
    if nic.dns or nic.search:
        entry["nameservers"] = {key: value for key, value in names.items() if value}
    return entry


def _route(nic: Nic, route: Route) -> dict[str, Any]:
    """Return one entry of the NIC's routes.

    Releases of cloud-init before 23.1 take ::/0 as ::/64 here, so default routes are written as the NIC's gateway where
    that is possible. Releases since 24.4 fail on a metric of IPv6 if they configure NetworkManager, and the guest then
    has no network: so IPv6 has no metric here."""
    entry: dict[str, Any] = {"to": str(route.to), "via": str(route.via)}
    if route.metric is not None and route.to.version != 6:
        entry["metric"] = route.metric
    if nic.addresses and not route.via.is_link_local and not any(route.via in own.network for own in nic.addresses):
        entry["on-link"] = True
    return entry


def _config_drive(guest: Guest) -> dict[str, bytes]:
    meta: dict[str, Any] = {"uuid": guest.identity}
    if guest.hostname:
        meta.update(hostname=guest.hostname, name=guest.hostname.partition(".")[0])
    if guest.keys:
        meta["public_keys"] = {f"key-{number}": key for number, key in enumerate(guest.keys)}
    # cloudbase-init sets it for the account that is named, or for its own.
    if guest.password:
        meta["admin_pass"] = guest.password
    about = {**guest.other, **({"admin_username": guest.username} if guest.username else {})}
    if about:
        meta["meta"] = about
    found = {"meta_data.json": _json(meta), "user_data": guest.user_data}
    if guest.nics or guest.knows_nics:
        found["network_data.json"] = _json(_network_data(guest.nics))
    return {_LATEST + name: content for name, content in sorted(found.items())}


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def _network_data(nics: Sequence[Nic]) -> dict[str, Any]:
    links = []
    networks: list[dict[str, Any]] = []
    for nic in nics:
        link: dict[str, Any] = {"id": nic.name, "type": "phy", "ethernet_mac_address": nic.mac}
        if nic.mtu is not None:
            link["mtu"] = nic.mtu
        links.append(link)
        own = list(_networks(nic))
        for route in nic.routes:
            # It goes to the first network of its family, else to the first one: guests add it to the NIC anyway.
            place = next((entry for entry in own if f"ipv{route.to.version}" in entry["type"]), own[0])
            place.setdefault("routes", []).append(_network_route(route))
        # OpenStack has no key for this; cloud-init reads it here.
        if nic.search:
            own[0]["dns_search"] = nic.search
        networks += [{"id": f"network{len(networks) + at}", "link": nic.name, **entry} for at, entry in enumerate(own)]
    servers = dict.fromkeys(server for nic in nics for server in nic.dns)
    return {
        "links": links,
        "networks": networks,
        "services": [{"type": "dns", "address": server} for server in servers],
    }


def _networks(nic: Nic) -> Iterator[dict[str, Any]]:
    if nic.dhcp4:
        yield {"type": "ipv4_dhcp"}
    if nic.dhcp6:
        yield {"type": "ipv6_dhcpv6-stateful"}
    elif nic.router_advertisements:
        yield {"type": "ipv6_slaac"}
    for own in nic.addresses:
        yield {"type": f"ipv{own.version}", "ip_address": str(own.ip), "netmask": str(own.netmask)}


def _network_route(route: Route) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "network": str(route.to.network_address),
        "netmask": str(route.to.netmask),
        "gateway": str(route.via),
    }
    if route.metric is not None:
        entry["metric"] = route.metric
    return entry
