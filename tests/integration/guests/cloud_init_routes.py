# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which routes cloud-init makes of a network configuration: cloud_init_routes.py FORMAT <FILE

It runs with a cloud-init on its path, and no other part of this project. FORMAT is configdrive or nocloud. Printed is
JSON: for each renderer the routes that the files hold which it writes, as [destination, gateway, metric or null]; or a
text that says what in them no reader of such files takes for a route."""

from __future__ import annotations

import importlib
import ipaddress
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SYSCONFIG = {
    "control": "etc/sysconfig/network",
    "flavor": "rhel",
    "iface_templates": "%(base)s/network-scripts/ifcfg-%(name)s",
    "route_templates": {
        "ipv4": "%(base)s/network-scripts/route-%(name)s",
        "ipv6": "%(base)s/network-scripts/route6-%(name)s",
    },
}
RENDERERS: dict[str, Any] = {
    "eni": {"eni_path": "etc/network/interfaces", "eni_header": None},
    "networkd": None,
    "sysconfig": SYSCONFIG,
    "network_manager": None,
    "netplan": None,
}
Route = tuple[str, str, "int | None"]


def default(gateway: str) -> str:
    return "::/0" if ":" in gateway else "0.0.0.0/0"


def route(to: str, gateway: str, metric: object = None) -> Route:
    to = default(gateway) if to == "default" else str(ipaddress.ip_network(to))
    if (":" in to) != (":" in gateway):
        raise ValueError(f"{to} via {gateway}")
    return to, gateway, None if metric is None else int(str(metric))


def after(words: list[str], *names: str) -> str | None:
    return next((words[words.index(name) + 1] for name in names if name in words), None)


def eni(name: str, text: str) -> Iterator[Route]:
    for words in map(str.split, text.splitlines()):
        if words[:1] == ["gateway"]:
            yield route("default", words[1])
        elif words[:1] == ["post-up"] and "route" in words:
            to = next(word for word in words if word == "default" or "/" in word)
            yield route(to, str(after(words, "gw", "via")), after(words, "metric"))


def sections(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    for part in re.split(r"^\[", text, flags=re.MULTILINE)[1:]:
        name, _bracket, lines = part.partition("]")
        pairs = [line.split("=", 1) for line in lines.splitlines() if "=" in line]
        if name == "Route" and len(dict(pairs)) != len(pairs):
            raise ValueError(f"two routes in one section: {pairs}")
        yield name, {key.strip(): value.strip() for key, value in pairs}


def networkd(name: str, text: str) -> Iterator[Route]:
    for section, values in sections(text):
        if section in ("Network", "Route") and "Gateway" in values:
            yield route(values.get("Destination", "default"), values["Gateway"], values.get("Metric"))


def network_manager(name: str, text: str) -> Iterator[Route]:
    for section, values in sections(text):
        for key, value in values.items():
            words = value.split(",")
            gateway = (
                value if key == "gateway" else words[1] if re.match(r"(route|address)\d+$", key) and words[1:] else ""
            )
            if gateway:
                if section != ("ipv6" if ":" in gateway else "ipv4"):
                    raise ValueError(f"{key} = {value} in section {section}")
                to = words[0] if key.startswith("route") else "default"
                yield route(to, gateway, words[2] if words[2:] else None)


def sysconfig(name: str, text: str) -> Iterator[Route]:
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if "/ifcfg-" in name:
        for key, metric in (("GATEWAY", "METRIC"), ("IPV6_DEFAULTGW", "IPV6_ROUTE_METRIC")):
            if key in values:
                yield route("default", values[key].partition("%")[0], values.get(metric))
    elif "/route-" in name:
        for number in (key[7:] for key in values if key.startswith("ADDRESS")):
            to = f"{values['ADDRESS' + number]}/{values['NETMASK' + number]}"
            yield route(to, values["GATEWAY" + number], values.get("METRIC" + number))
    elif "/route6-" in name:
        for words in map(str.split, text.splitlines()):
            if words and not words[0].startswith("#"):
                yield route(words[0], str(after(words, "via")), after(words, "metric"))


def netplan(name: str, text: str) -> Iterator[Route]:
    import yaml

    for nic in yaml.safe_load(text)["network"].get("ethernets", {}).values():
        for key in ("gateway4", "gateway6"):
            if key in nic:
                yield route("default", nic[key])
        for one in nic.get("routes", ()):
            yield route(one["to"], one["via"], one.get("metric"))


def rendered(format: str, given: dict[str, Any], renderer: str) -> list[Route] | str:
    from cloudinit.net import network_state  # type: ignore[import-not-found]
    from cloudinit.sources.helpers import openstack  # type: ignore[import-not-found]

    if format == "configdrive":
        known = {link["ethernet_mac_address"]: link["id"] for link in given["links"]}
        given = openstack.convert_net_json(given, known_macs=known)
    made = importlib.import_module(f"cloudinit.net.{renderer}").Renderer(RENDERERS[renderer])
    state = network_state.parse_net_config_data(given, renderer=made)
    with tempfile.TemporaryDirectory() as root:
        try:
            made.render_network_state(state, target=root)
        except FileNotFoundError:
            # Programs that would be told; the files are written before.
            if not any(Path(root).rglob("*")):
                raise
        files = {str(path): path.read_text() for path in Path(root).rglob("*") if path.is_file()}
    read = globals()[renderer]
    try:
        return sorted({found for name, text in files.items() for found in read(name, text)}, key=str)
    except ValueError as error:
        return str(error)


if __name__ == "__main__":
    document = json.load(sys.stdin)
    print(json.dumps({renderer: rendered(sys.argv[1], document, renderer) for renderer in RENDERERS}))
