# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What NetworkManager, systemd-networkd, netplan, ifupdown and the kernel make of what the guest program writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.nebula.provision.tests.integration.guests.managers import STARTS, boot

pytestmark = pytest.mark.root
EACH = pytest.mark.parametrize("renderer", sorted(STARTS))
ETH0 = {"NETWORK": "YES", "ETH0_MAC": "02:00:0a:42:00:0a"}
ETH1 = {"ETH1_MAC": "02:00:c0:a8:46:96"}
# The second interface shows that routers are heard: what eth0 is to leave alone has reached it before.
HEARS = {**ETH1, "ETH1_METHOD": "skip", "ETH1_IP6_METHOD": "auto"}


ADVERTISED = "any((r['to'], r['dev']) == ('default', 'eth0') and 'fe80' in (r['via'] or '') for r in seen['routes'])"


def default(to: str, via: str) -> str:
    return f"any(r['to'] == '{to}' and r['via'] == '{via}' for r in seen['routes'])"


@EACH
def test_addresses_and_mtu(tmp_path: Path, renderer: str) -> None:
    context = {
        **ETH0,
        "ETH0_IP": "10.66.0.10",
        "ETH0_MTU": "1400",
        "ETH0_ALIAS0_IP": "10.66.0.11",
        "ETH0_ALIAS0_MASK": "255.255.255.0",
        "ETH0_IP6": "2001:db8:77::5",
        "ETH0_IP6_ULA": "fd00::5",
    }
    wanted = {"10.66.0.10/24", "10.66.0.11/24", "2001:db8:77::5/64", "fd00::5/64"}
    until = " and ".join([*(f"'{address}' in str(seen)" for address in wanted), "seen['mtu']['eth0'] == 1400"])
    seen = boot(tmp_path, renderer, context, until)
    assert seen.met, seen
    assert seen.faults == ""


@EACH
def test_addresses_by_dhcpv6(tmp_path: Path, renderer: str) -> None:
    context = {**ETH0, "ETH0_IP": "10.66.0.10", "ETH0_IP6_METHOD": "dhcp"}
    until = f"'2001:db8:5::1' in str(seen['addresses']) and {ADVERTISED}"
    seen = boot(tmp_path, renderer, context, until, managed=True, timeout=20)
    assert seen.met, seen
    assert any(address.startswith("2001:db8:5::1") for address in seen.of("eth0"))
    assert seen.faults == ""


FAR = {
    "/32 and /128": (
        {"ETH0_MASK": "255.255.255.255", "ETH0_IP6_PREFIX_LENGTH": "128"},
        ("198.51.100.1", "2001:db8:1::1"),
    ),
    "/30 and /126": (
        {"ETH0_MASK": "255.255.255.252", "ETH0_IP6_PREFIX_LENGTH": "126", "ETH0_METRIC": "70"},
        ("203.0.113.81", "2001:db8:77::9"),
    ),
    "in the prefix, by a bit": (
        {"ETH0_MASK": "255.255.255.240", "ETH0_IP6_PREFIX_LENGTH": "125"},
        ("203.0.113.78", "2001:db8:77::7"),
    ),
}


@EACH
@pytest.mark.parametrize("where", sorted(FAR))
def test_routers_outside_of_the_prefix(tmp_path: Path, renderer: str, where: str) -> None:
    more, (router, router6) = FAR[where]
    context = {
        **ETH0,
        **more,
        "ETH0_IP": "203.0.113.77",
        "ETH0_GATEWAY": router,
        "ETH0_IP6": "2001:db8:77::5",
        "ETH0_IP6_GATEWAY": router6,
        "ETH0_ROUTES": f"198.51.100.128/25 via {router}, 192.0.2.0/24 via 198.51.100.9, "
        f"2001:db8:8::/48 via {router6}, 2001:db8:9::/48 via 2001:db8:2::9",
    }
    routes = {
        "default": {router, router6},
        "198.51.100.128/25": {router},
        "192.0.2.0/24": {"198.51.100.9"},
        "2001:db8:8::/48": {router6},
        "2001:db8:9::/48": {"2001:db8:2::9"},
    }
    until = " and ".join(default(to, via) for to, routers in routes.items() for via in routers)
    seen = boot(tmp_path, renderer, context, until)
    assert seen.met, seen
    assert seen.faults == ""
    for to, routers in routes.items():
        assert {via for via, _metric in seen.route(to)} >= routers
    if "ETH0_METRIC" in context:
        assert (router, 70) in seen.route("default")


@EACH
@pytest.mark.parametrize("method", ["static", "dhcp"])
def test_ip6_that_is_disabled_is_not_taken_from_any_router(tmp_path: Path, renderer: str, method: str) -> None:
    static = {"ETH0_IP": "10.66.0.10", "ETH0_GATEWAY": "10.66.0.1"}
    context = {
        **ETH0,
        **HEARS,
        **static,
        "ETH0_METHOD": method,
        "ETH0_IP6_METHOD": "disable",
        "ETH0_IP6": "2001:db8::5",
    }
    seen = boot(tmp_path, renderer, context, f"{default('default', '10.66.0.1')} and '2001:db8:6::' in str(seen)")
    assert seen.met, seen
    assert seen.faults == ""
    assert [address for address in seen.of("eth0") if ":" in address] == []
    assert [route for route in seen.routes if route["dev"] == "eth0" and ":" in f"{route['to']}{route['via']}"] == []


@EACH
def test_dhcp_with_values_of_the_context(tmp_path: Path, renderer: str) -> None:
    own = {
        "ETH0_METHOD": "dhcp",
        "ETH0_METRIC": "50",
        "ETH0_DNS": "192.0.2.53",
        "ETH0_SEARCH_DOMAIN": "corp.example",
        "ETH0_ROUTES": "198.51.100.0/24 via 10.66.0.9",
        "ETH0_IP6_METHOD": "skip",
    }
    wanted = [
        default("default", "10.66.0.1"),
        default("198.51.100.0/24", "10.66.0.9"),
        *(f"'{word}' in seen['resolver']" for word in ("192.0.2.53", "corp.example")),
    ]
    seen = boot(tmp_path, renderer, {**ETH0, **own}, " and ".join(wanted))
    assert seen.met, seen
    assert seen.faults == ""
    assert [found for found in seen.route("default") if ":" not in str(found)] == [("10.66.0.1", 50)]


@pytest.mark.parametrize("renderer", ["nm", "networkd", "netplan", "plain"])
def test_two_interfaces_by_dhcp_where_nothing_is_said_of_ip6(tmp_path: Path, renderer: str) -> None:
    """IPv6 takes the method of IPv4 then, and nobody here answers it."""
    own = {"ETH0_METHOD": "dhcp", "ETH0_METRIC": "50", "ETH0_DNS": "192.0.2.53", **ETH1}
    seen = boot(
        tmp_path, renderer, {**ETH0, **own}, f"{default('default', '10.66.0.1')} and '192.0.2.53' in seen['resolver']"
    )
    assert seen.met, seen
    assert seen.faults == ""
    assert ("10.66.0.1", 50) in seen.route("default")


@EACH
def test_what_a_router_advertises_with_values_of_the_context(tmp_path: Path, renderer: str) -> None:
    own = {
        "ETH0_IP": "10.66.0.10",
        "ETH0_GATEWAY": "10.66.0.1",
        "ETH0_DNS": "2001:db8::53",
        "ETH0_SEARCH_DOMAIN": "corp.example",
        "ETH0_IP6_METHOD": "auto",
        "ETH0_IP6_METRIC": "61",
        "ETH0_ROUTES": "2001:db8:8::/48 via 2001:db8:5::9",
    }
    wanted = [
        default("default", "10.66.0.1"),
        default("2001:db8:8::/48", "2001:db8:5::9"),
        ADVERTISED,
        *(f"'{word}' in seen['resolver']" for word in ("2001:db8::53", "corp.example")),
    ]
    wanted.append("any(name == 'eth0' and '2001:db8:5:' in address for name, address in seen['addresses'])")
    if renderer != "netplan":
        # The kernel may have taken a first packet by itself, whose route goes when the tool takes over.
        wanted.append(
            "all(r['metric'] == 61 for r in seen['routes'] if r['dev'] == 'eth0' and 'fe80' in (r['via'] or ''))"
        )
    seen = boot(tmp_path, renderer, {**ETH0, **own}, " and ".join(wanted))
    assert seen.met, seen
    told = "ETH0: netplan has no metric for what a router advertises\n" if renderer == "netplan" else ""
    assert seen.faults == told


@EACH
@pytest.mark.parametrize("method", ["static", "dhcp"])
def test_of_two_routers_that_of_the_first_interface_goes_before(tmp_path: Path, renderer: str, method: str) -> None:
    second = {**ETH1, "ETH1_IP": "10.67.0.10", "ETH1_GATEWAY": "10.67.0.1", "ETH1_IP6_METHOD": "disable"}
    first = {"ETH0_IP": "10.66.0.10", "ETH0_GATEWAY": "10.66.0.1", "ETH0_METHOD": method, "ETH0_IP6_METHOD": "skip"}
    until = f"{default('default', '10.66.0.1')} and {default('default', '10.67.0.1')}"
    seen = boot(tmp_path, renderer, {**ETH0, **first, **second}, until)
    assert seen.met, seen
    metrics = {via: metric or 0 for dev in ("eth0", "eth1") for via, metric in seen.route("default", dev)}
    assert metrics["10.66.0.1"] < metrics["10.67.0.1"] == 2
    assert seen.faults == ""


@EACH
def test_a_network_of_a_route_may_be_written_in_each_way(tmp_path: Path, renderer: str) -> None:
    context = {
        **ETH0,
        "ETH0_IP": "10.66.0.10",
        "ETH0_IP6": "2001:db8:77::5",
        "ETH0_ROUTES": "192.0.2.7 via 10.66.0.9, 198.51.100.77/25 VIA 10.66.0.9,172.16.0.0/255.240.0.0 via 10.66.0.8,"
        " 10.99.0.0/255.0.255.0 via 10.66.0.1, 10.98.0.0/16 via fe80::1, 203.0.113.0/24 via 10.66.0.9 10.66.0.8,"
        "2001:DB8:9::1 via 2001:db8:77::9, 2001:db8:8::5/48 via fe80::9",
    }
    wanted = {
        "192.0.2.7": "10.66.0.9",
        "198.51.100.0/25": "10.66.0.9",
        "172.16.0.0/12": "10.66.0.8",
        "2001:db8:9::1": "2001:db8:77::9",
        "2001:db8:8::/48": "fe80::9",
    }
    seen = boot(tmp_path, renderer, context, " and ".join(default(*each) for each in wanted.items()))
    assert seen.met, seen
    assert {str(route["to"]) for route in seen.routes if route["via"]} - {"default"} == set(wanted)
    assert seen.faults == (
        "ETH0_ROUTES: what is left out is no route, which is written as '10.0.0.0/8 via 10.66.0.1': "
        "10.99.0.0/255.0.255.0 via 10.66.0.1, 10.98.0.0/16 via fe80::1, 203.0.113.0/24 via 10.66.0.9 10.66.0.8\n"
    )


@EACH
@pytest.mark.parametrize("first", ["skip", "none"])
def test_what_is_said_of_no_interface_is_for_the_first_that_is_configured(
    tmp_path: Path, renderer: str, first: str
) -> None:
    context = {
        **ETH0,
        **({"ETH0_METHOD": "skip", "ETH0_IP": "10.66.0.10"} if first == "skip" else {}),
        **ETH1,
        "ETH1_IP": "10.67.0.10",
        "DNS": "192.0.2.53",
        "SEARCH_DOMAIN": "corp.example",
    }
    seen = boot(tmp_path, renderer, context, "all(word in seen['resolver'] for word in ('192.0.2.53', 'corp.example'))")
    assert seen.met, seen
    assert seen.faults == ""
    written = "".join(path.read_text() for path in (tmp_path / "upper/etc").rglob("*nebula-context*") if path.is_file())
    assert "192.0.2.53" in written or renderer in ("interfaces", "plain")


@EACH
def test_what_is_no_address_does_not_take_the_rest_with_it(tmp_path: Path, renderer: str) -> None:
    context = {
        **ETH0,
        "ETH0_IP": "10.66.0.10",
        "ETH0_GATEWAY": "10.66.0.1",
        "ETH0_IP6": "2001:db8:77::5",
        "ETH0_IP6_GATEWAY": "2001:db8:77:::1",
        "ETH0_DNS": "192.0.2.53,10.66.0.300;2001:db8::53 abc",
        "ETH0_ROUTES": "10.67.0.0/16 via 10.66.0.9, 10.68.0.0/16 via 10.66.0.999, 2001:db8:9::/48 via 2001:db8::77::9",
    }
    wanted = [default("default", "10.66.0.1"), default("10.67.0.0/16", "10.66.0.9")]
    wanted += [f"'{server}' in seen['resolver']" for server in ("192.0.2.53", "2001:db8::53")]
    seen = boot(tmp_path, renderer, context, " and ".join(wanted))
    assert seen.met, seen
    told = [f"ETH0: {word} is no address" for word in ("2001:db8:77:::1", "10.66.0.300", "abc")]
    told.append("10.68.0.0/16 via 10.66.0.999, 2001:db8:9::/48 via 2001:db8::77::9")
    assert len(seen.faults.splitlines()) == len(told)
    assert all(text in line for text, line in zip(told, seen.faults.splitlines()))


def test_the_metric_that_netplan_has_no_key_for_is_told(tmp_path: Path) -> None:
    own = {"ETH0_METHOD": "skip", "ETH0_IP6_METHOD": "auto", "ETH0_IP6_METRIC": "61"}
    seen = boot(tmp_path, "netplan", {**ETH0, **own}, ADVERTISED)
    assert seen.met, seen
    assert seen.faults == "ETH0: netplan has no metric for what a router advertises\n"


# What an earlier life of the image left for eth0, by the file's path. Each asks for an address by DHCP.
KEYFILE = (
    "[connection]\nid={0}\ntype=ethernet\nautoconnect-priority=120\n{1}\n[ipv4]\nmethod=auto\n\n[ipv6]\nmethod=auto\n"
)
LEFT = {
    # NetworkManager takes files without an ending too.
    "etc/NetworkManager/system-connections/cloud-init-eth0.nmconnection": KEYFILE.format(
        "cloud-init eth0", "interface-name=eth0\n\n[ethernet]"
    ),
    "etc/NetworkManager/system-connections/Wired": KEYFILE.format("Wired", "autoconnect=true\n"),
    "etc/NetworkManager/system-connections/by-mac.nmconnection": KEYFILE.format(
        "by-mac", "\n[802-3-ethernet]\nmac-address=02:00:0A:42:00:0A"
    ),
    "etc/NetworkManager/system-connections/matched.nmconnection": KEYFILE.format(
        "matched", "\n[match]\ninterface-name=e*0;"
    ),
    "etc/NetworkManager/system-connections/not-eth1.nmconnection": KEYFILE.format(
        "not-eth1", "\n[match]\ninterface-name=!eth1;|eth*;"
    ),
    "etc/systemd/network/00-any.network": "[Match]\nName=e*\n[Network]\nDHCP=yes\n",
    "etc/systemd/network/10-cloud-init-eth0.network": "[Match]\nMACAddress=02:00:0a:42:00:0a\n[Network]\nDHCP=yes\n",
    "etc/netplan/50-cloud-init.yaml": "network: {version: 2, ethernets: {eth0: {dhcp4: true}}}\n",
    "etc/network/interfaces.d/50-cloud-init": "auto eth0\niface\teth0\tinet\tdhcp\n",
    "etc/network/interfaces.d/alias": "auto eth0:1\niface eth0:1 inet static\n  address 10.66.0.77/24\n",
    "etc/network/interfaces": "source /etc/network/interfaces.d/*\nauto lo eth0\niface lo inet loopback\n"
    "allow-hotplug eth0\niface eth0 inet dhcp\n",
}
# What is not for eth0, and stays.
OTHERS = {
    "etc/NetworkManager/system-connections/not-eth0.nmconnection": KEYFILE.format(
        "not-eth0", "\n[match]\ninterface-name=!eth0;&eth*;"
    ),
    "etc/NetworkManager/system-connections/eth1.nmconnection": KEYFILE.format("eth1", "interface-name=eth1"),
    "etc/NetworkManager/system-connections/other.nmconnection": KEYFILE.format(
        "other", "\n[ethernet]\nmac-address=02:00:00:00:00:99"
    ),
    "etc/systemd/network/90-any.network": "[Match]\nName=e*\n[Network]\nDHCP=yes\n",
    "etc/systemd/network/01-eth1.network": "[Match]\nName=eth1\n[Network]\nDHCP=yes\n",
    "etc/netplan/01-renderer.yaml": "network:\n  version: 2\n",
}


@EACH
def test_configuration_of_an_earlier_life_is_set_aside(tmp_path: Path, renderer: str) -> None:
    context = {**ETH0, "ETH0_IP": "10.66.0.10", "ETH0_GATEWAY": "10.66.0.1", "ETH0_IP6_METHOD": "disable"}
    found = boot(tmp_path, renderer, context, default("default", "10.66.0.1"), files={**LEFT, **OTHERS})
    assert found.met, found
    assert (found.faults, found.of("eth0")) == ("", ["10.66.0.10/24"])
    etc = tmp_path / "upper"
    for name in LEFT:
        text = (etc / name).read_text() if (etc / name).is_file() else ""
        # ifupdown's own file is written anew, without what it sourced.
        assert "dhcp" not in text.lower() or (renderer, name.rsplit("/", 1)[-1]) == ("interfaces", "50-cloud-init")
        assert "method=auto" not in text
    for name, text in OTHERS.items():
        assert (etc / name).read_text() == text
    assert (etc / "var/lib/nebula-context/before/etc/NetworkManager/system-connections/Wired").is_file()


# By which an earlier life of the image keeps NetworkManager from eth0.
HERE = f"{default('default', '10.66.0.1')} and any(name == 'eth0' for name, _ in seen['addresses'])"
UNMANAGED = {
    "a device": ("etc/NetworkManager/conf.d/10-eth0.conf", "[keyfile]\nunmanaged-devices=interface-name:eth0\n"),
    "all devices": ("usr/lib/NetworkManager/conf.d/10-none.conf", "[keyfile]\nunmanaged-devices=*,except:type:wifi\n"),
    "by mac": ("etc/NetworkManager/NetworkManager.conf", "[keyfile]\nunmanaged-devices=mac:02:00:0A:42:00:0A;\n"),
    "a section": ("etc/NetworkManager/conf.d/99-x.conf", "[device-x]\nmatch-device=interface-name:e*\nmanaged=0\n"),
    "a stanza": ("etc/network/interfaces", "auto eth0\niface eth0 inet dhcp\n"),
}


@pytest.mark.parametrize("renderer", ["nm", "netplan by NetworkManager"])
@pytest.mark.parametrize("by", sorted(UNMANAGED))
def test_networkmanager_manages_what_it_was_kept_from(tmp_path: Path, renderer: str, by: str) -> None:
    name, text = UNMANAGED[by]
    context = {**ETH0, "ETH0_IP": "10.66.0.10", "ETH0_GATEWAY": "10.66.0.1", "ETH0_IP6_METHOD": "disable"}
    found = boot(tmp_path, renderer, context, HERE, files={name: text})
    assert found.met, found
    assert (found.faults, found.of("eth0")) == ("", ["10.66.0.10/24"])
    # What it was kept from besides stays so.
    if by == "all devices":
        assert found.of("eth1") == []


# For systemd-networkd, by the name of the file: whether it is for eth0.
MATCHES = {
    "any-but-lo": ("Name=!lo", True),
    "any-but-eth": ("Name=!eth* wlan*", False),
    "any-kind-of-link": ("Type=!loopback", True),
    "ethernet": ("Type=ether wlan", True),
    "wireless": ("Type=wlan", False),
    "bridges": ("Name=*\nKind=bridge", False),
    "by-driver": ("Driver=veth virtio_net", True),
    "by-lists": ("Name=lo\nName=eth1 eth0", True),
}


def test_files_of_networkd_are_set_aside_by_what_they_match(tmp_path: Path) -> None:
    place = "etc/systemd/network"
    files = {
        f"{place}/00-{name}.network": f"[Match]\n{match}\n[Network]\nDHCP=yes\n" for name, (match, _) in MATCHES.items()
    }
    files[f"{place}/05-nebula-context-eth0.network.d/more.conf"] = "[Network]\nDHCP=yes\n"
    context = {**ETH0, "ETH0_IP": "10.66.0.10", "ETH0_GATEWAY": "10.66.0.1", "ETH0_IP6_METHOD": "disable"}
    found = boot(tmp_path, "networkd", context, HERE, files=files)
    assert found.met, found
    assert (found.faults, found.of("eth0")) == ("", ["10.66.0.10/24"])
    aside = {
        name
        for name in MATCHES
        if (tmp_path / f"upper/var/lib/nebula-context/before/{place}/00-{name}.network").is_file()
    }
    assert aside == {name for name, (_, ours) in MATCHES.items() if ours}
