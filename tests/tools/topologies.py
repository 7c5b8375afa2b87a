# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sites to draw, as nebula_info returns them: small and large, empty, odd, and with what a catalog may have later."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

FOUND = {"catalog": "7b6f4fd8-6a3c-4a44-9d3b-7f2ec1d92f11", "as_of": 1764094115}
# What somebody may call a machine, and what must not become anything but text.
ODD = (
    "<script>document.title = 'taken'</script>",
    "</title></svg></style><img src=x onerror=\"document.title = 'taken'\">",
    "\u202eevil\u202c name",
    "x" * 200,
    "W" * 60,
    "{{ lookup('pipe', 'id') }} {% raw %}",
    "שלום עולם",
    "数据库服务器-一二三四五六七八九十",
    "😀" * 40,
    "Z\u0301\u0302\u0303\u0304\u0305\u0306algo",
    "a\nb\tc\x00\x1b[31m\ud800\ufffe",
    "\ufdfd" * 3,
    "&lt;b&gt; & \"quotes' ",
    "",
)


def nic(network: str, ip: str, **more: Any) -> dict[str, Any]:
    mac = "02:00:" + ":".join(f"{int(byte):02x}" for byte in ip.split("."))
    return {"network": network, "ip": ip, "ip6": "", "mac": mac, "nic_id": 0, **more}


def machine(number: int, name: str, state: str, host: str, *nics: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    shown = {"id": number, "name": name, "state": state, "wanted": "RUNNING", "host": host, "error": ""}
    return {**shown, "nics": list(nics), **more}


def host(number: int, name: str, state: str = "MONITORED", **more: Any) -> dict[str, Any]:
    return {"id": number, "name": name, "hypervisor": "kvm", "state": state, "error": "", **more}


def network(number: int, name: str, prefix: str, **more: Any) -> dict[str, Any]:
    attributes = {"NETWORK_ADDRESS": f"{prefix}.0", "NETWORK_MASK": "255.255.255.0", "DNS": "9.9.9.9"}
    shown = {"id": number, "name": name, "bridge": f"onebr{number}", "vn_mad": "bridge", "nat": False, "size": 100}
    ranges = [{"ar_id": 0, "type": "IP4", "ip": f"{prefix}.10", "size": 100, "mac": "", "used": 3}]
    return {
        **shown,
        "used": 3,
        "held": 0,
        "attributes": {**attributes, "GATEWAY": f"{prefix}.1"},
        "address_ranges": ranges,
        **more,
    }


def empty() -> dict[str, Any]:
    return {"catalog": "", "as_of": 0, "hosts": [], "networks": [], "vms": []}


def three() -> dict[str, Any]:
    states = ("RUNNING", "RUNNING", "POWEROFF")
    return {
        **FOUND,
        "hosts": [host(0, "kvm1")],
        "networks": [network(0, "Public", "10.66.0", nat=True)],
        "vms": [machine(n, f"web-{n}", s, "kvm1", nic("Public", f"10.66.0.{10 + n}")) for n, s in enumerate(states)],
    }


def thirty() -> dict[str, Any]:
    """Two tenants with the same network's address, their routers, and a network that nobody routes."""
    tenants = {"vn_mad": "ovn", "bridge": "", "dhcp": True}
    outside = {"vn_mad": "ovn", "bridge": "br-ex", "phydev": "eth1", "external": True}
    states = (*["RUNNING"] * 8, "POWEROFF", "BOOT", "FAILURE", "UNKNOWN")
    machines = [
        machine(
            *(number, f"shop-{number}", state, f"kvm{number % 3 + 1}"),
            nic("red-front", f"10.1.0.{10 + number}"),
            *([nic("red-back", f"10.1.1.{10 + number}")] if number % 3 == 0 else []),
            error="its domain has vanished" if state == "UNKNOWN" else "",
        )
        for number, state in enumerate(states)
    ]
    machines += [
        machine(
            *(20 + n, f"db-{n}", "RUNNING", f"kvm{n % 3 + 1}"),
            nic("red-back", f"10.1.1.{30 + n}", ip6=f"2001:db8:1:2:0:aff:fe01:{n + 1:x}", security_groups=["db"]),
            nic("storage", f"172.16.9.{10 + n}"),
        )
        for n in range(6)
    ]
    machines += [
        machine(
            *(40 + n, f"app-{n}", "RUNNING" if n != 3 else "PROLOG_MIGRATE_FAILURE", f"kvm{n % 2 + 1}"),
            nic("blue", f"10.1.0.{10 + n}"),
        )
        for n in range(10)
    ]
    machines.append(machine(60, "lonely", "PENDING", ""))
    machines.append(machine(61, "batch", "PENDING", "", nic("storage", "172.16.9.90")))
    return {
        **FOUND,
        "hosts": [
            host(0, "kvm1"),
            host(1, "kvm2"),
            host(2, "kvm3", "ERROR", error="ssh: connect to host kvm3 port 22: No route to host"),
            host(3, "kvm4", "DISABLED"),
        ],
        "networks": [
            network(0, "internet", "203.0.113", **outside),
            network(1, "red-front", "10.1.0", tenant="red", mtu=1442, **tenants),
            network(2, "red-back", "10.1.1", tenant="red", **tenants),
            network(3, "blue", "10.1.0", tenant="blue", **tenants),
            network(4, "storage", "172.16.9", vn_mad="802.1Q", phydev="eth2", vlan_id=120),
        ],
        "vms": machines,
        "routers": [
            {
                "name": "red-router",
                "tenant": "red",
                "interfaces": [{"network": "red-front", "ip": "10.1.0.1"}, {"network": "red-back", "ip": "10.1.1.1"}],
                "gateway": {"network": "internet", "ip": "203.0.113.2"},
                "floating": [
                    ["203.0.113.10", "10.1.0.10", "shop-0"],
                    ["203.0.113.11", "10.1.0.11", "shop-1"],
                    {"external": "203.0.113.12", "internal": "10.1.0.12", "vm": "shop-2"},
                ],
            },
            {
                "name": "blue-router",
                "owner": {"name": "blue"},
                "host": "kvm2",
                "interfaces": [{"network": "blue", "ip": "10.1.0.1"}],
                "gateway": {"network": "internet", "ip": "203.0.113.3"},
                "floating": [],
            },
        ],
        "security_groups": [
            {"id": 0, "name": "default", "rules": [{"PROTOCOL": "ALL", "RULE_TYPE": "OUTBOUND"}]},
            {
                "id": 100,
                "name": "db",
                "tenant": "red",
                "rules": [
                    {"PROTOCOL": "TCP", "RULE_TYPE": "INBOUND", "RANGE": "5432", "IP": "10.1.0.0", "SIZE": 256},
                    {"PROTOCOL": "ICMP", "RULE_TYPE": "INBOUND", "ICMP_TYPE": 8},
                ],
            },
        ],
    }


def three_hundred() -> dict[str, Any]:
    """On twelve nodes, with long names."""
    chosen = random.Random(7)
    machines: list[dict[str, Any]] = []
    for name, prefix, count in (
        *(("red-front", "10.1.0", 90), ("red-back", "10.1.1", 60)),
        *(("blue", "10.1.0", 80), ("storage", "172.16.9", 70)),
    ):
        for n in range(count):
            (state,) = chosen.choices(["RUNNING", "POWEROFF", "UNKNOWN", "SUSPENDED", "BOOT"], [90, 5, 1, 2, 2])
            nics = [nic(name, f"{prefix}.{10 + n}")]
            nics += [nic("storage", f"172.16.9.{100 + n}")] if name == "red-back" else []
            node = f"hv-{chosen.randrange(12) + 1:02}.dc1.example.org"
            machines.append(machine(len(machines), f"{name}-{n}.example.org", state, node, *nics))
    return {**thirty(), "hosts": [host(n, f"hv-{n + 1:02}.dc1.example.org") for n in range(12)], "vms": machines}


def crowded() -> dict[str, Any]:
    """Forty tenants with a router each, and one router that is in all networks; many machines on one node."""
    networks = [network(0, "internet", "203.0.113", external=True)]
    routers: list[dict[str, Any]] = []
    for n in range(40):
        networks.append(network(n + 1, f"private-{n}", f"10.{n}.0", tenant=f"tenant-{n}"))
        legs = [{"network": f"private-{n}", "ip": f"10.{n}.0.1"}]
        gateway = {"network": "internet", "ip": f"203.0.113.{n + 2}"}
        routers.append({"name": f"router-{n}", "tenant": f"tenant-{n}", "interfaces": legs, "gateway": gateway})
    legs = [{"network": f"private-{n}", "ip": f"10.{n}.0.2"} for n in range(40)]
    floating = [[f"203.0.113.{60 + n}", f"10.0.0.{10 + n}", f"web-{n}"] for n in range(25)]
    routers.append({"name": "everywhere", "interfaces": legs, "gateway": None, "floating": floating})
    machines = [machine(n, f"web-{n}", "RUNNING", "kvm1", nic("private-0", f"10.0.0.{10 + n}")) for n in range(95)]
    return {**FOUND, "hosts": [host(0, "kvm1")], "networks": networks, "vms": machines, "routers": routers}


def odd() -> dict[str, Any]:
    """Every name and every value is somebody else's text."""
    long6 = "2001:0db8:1111:2222:3333:4444:5555:6666"
    return {
        **FOUND,
        "hosts": [host(n, text, error=text) for n, text in enumerate(ODD)],
        "networks": [
            network(n, text, f"10.{n}.0", tenant=text, bridge=text, phydev=text) for n, text in enumerate(ODD)
        ],
        "vms": [
            machine(
                *(n, text, text if n % 4 == 0 else "RUNNING", text),
                nic(text, f"10.{n}.0.10", ip6=long6, security_groups=[text]),
                nic(ODD[(n + 1) % len(ODD)], f"10.{n}.1.10"),
                error=text,
            )
            for n, text in enumerate(ODD)
        ],
        "routers": [
            {
                "name": text,
                "tenant": text,
                "interfaces": [{"network": text, "ip": text}],
                "gateway": {"network": f"nowhere {text}", "ip": "192.0.2.1"},
                "floating": [[text, text, text]],
            }
            for text in ODD
        ],
        "security_groups": [{"name": text, "rules": [{text: text}]} for text in ODD],
    }


SITES = {make.__name__: make for make in (empty, three, thirty, three_hundred, crowded, odd)}
