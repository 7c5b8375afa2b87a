# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest program in roots laid out as each distribution has them, run for real in namespaces of their own.

What a distribution's network tool makes of these files is seen in the guests of scenario context, as far as there are
guests of it; the tools themselves are stand-ins here, which note how they were called."""

from __future__ import annotations

import base64
import configparser
import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from ansible_collections.nebula.provision.plugins.module_utils.text import context_sh
from ansible_collections.nebula.provision.tests.integration.guests.layouts import (
    LAYOUTS,
    PROGRAM,
    RECORDER,
    SHELLS,
    Layout,
    layout,
)

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/fixtures/guest_context"
# The digest of what each version writes.
VERSIONS = ROOT / "tests/fixtures/guest_context_versions.json"
NETWORK = {
    "ETH0_MAC": "02:00:0a:42:00:0a",
    "ETH0_IP": "10.66.0.10",
    "ETH0_MASK": "255.255.240.0",
    "ETH0_GATEWAY": "10.66.0.1",
    "ETH0_DNS": "10.66.0.1 2001:db8::53",
    "ETH0_SEARCH_DOMAIN": "example.org",
    "ETH0_ROUTES": "10.9.0.0/16 via 10.66.0.9, 10.8.0.0/16 via 10.66.0.8",
    "ETH0_MTU": "1400",
    "ETH0_METRIC": "7",
    # As a template may have written it.
    "ETH1_MAC": "02:00:C0:A8:46:96",
    "ETH1_IP": "192.168.70.150",
    "ETH1_ALIAS0_IP": "192.168.70.151",
    # Not the guest's.
    "ETH1_ALIAS1_IP": "192.168.70.152",
    "ETH1_ALIAS1_EXTERNAL": "YES",
    "ETH1_IP6": "2001:db8::5",
    "ETH1_IP6_ULA": "fd00::5/48",
    "ETH1_IP6_GATEWAY": "2001:db8::1",
    "ETH1_DNS": "10.66.0.1 192.168.70.1",
}
CONTEXT = {**NETWORK, "NETWORK": "YES", "SET_HOSTNAME": "web_1.example.org"}
# Written by the program's own housekeeping, or by the namespaces.
OWN = ("proc", "sys", "run", "dev", "var/lib/nebula-context", "var/log", "context", "calls")

pytestmark = pytest.mark.root


def files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink() and not str(path.relative_to(root)).startswith(OWN)
    }


def written(guest: Layout, *arguments: str) -> dict[str, bytes]:
    """What a run changed among the guest's files."""
    before = files(guest.root)
    done = guest.run(*arguments)
    assert done.returncode == 0, done.stderr
    return {name: content for name, content in files(guest.root).items() if before.get(name) != content}


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_each_distribution_finds_its_own_files(tmp_path: Path, name: str) -> None:
    guest = layout(tmp_path, name)
    guest.context(context_sh.render(CONTEXT))
    found = written(guest, "network")
    assert guest.faults() == ""
    assert found["etc/hostname"] == b"web-1\n"
    assert b"127.0.1.1\tweb-1.example.org web-1\n" in found["etc/hosts"]
    golden = GOLDEN / name
    if os.environ.get("REGENERATE"):
        shutil.rmtree(golden, ignore_errors=True)
        for path, content in found.items():
            (golden / path).parent.mkdir(parents=True, exist_ok=True)
            (golden / path).write_bytes(content)
    assert found == files(golden)
    # At boot the network is not up yet: it reads what was written by itself.
    assert not (guest.root / "calls").exists() or guest.read("calls") == "netplan generate\n"


def test_what_is_written_otherwise_has_another_version() -> None:
    """Guests write their files anew where the program has another version than that which wrote them."""
    program = (ROOT / "roles/guest_context/files/nebula-context").read_text(encoding="utf-8")
    version = re.search(r"^version=(\d+)$", program, re.MULTILINE)
    assert version
    digest = hashlib.sha256()
    for path in sorted(path for path in GOLDEN.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(GOLDEN)}\n".encode() + path.read_bytes())
    versions = json.loads(VERSIONS.read_text(encoding="utf-8"))
    if os.environ.get("REGENERATE") and version[1] not in versions:
        versions[version[1]] = digest.hexdigest()
        VERSIONS.write_text(json.dumps(versions, indent=1) + "\n", encoding="utf-8")
    assert versions.get(version[1]) == digest.hexdigest(), f"raise version={version[1]}, then REGENERATE=1"


@pytest.mark.parametrize(
    ("name", "calls"),
    [
        ("interfaces", ["ifdown eth0", "ifdown eth1", "ifup eth0", "ifup eth1"]),
        ("netplan", ["netplan generate", "netplan apply"]),
        ("networkd", ["networkctl reload", "networkctl reconfigure eth0", "networkctl reconfigure eth1"]),
        ("scripts", ["ifdown eth0", "ifdown eth1", "ifup eth0", "ifup eth1"]),
        ("nm", ["nmcli connection reload", *[f"nmcli connection up nebula-context-eth{n}" for n in (0, 1)]]),
        ("wicked", ["wicked ifreload eth0", "wicked ifreload eth1"]),
    ],
)
def test_a_network_that_is_up_is_made_anew_only_when_it_changed(tmp_path: Path, name: str, calls: list[str]) -> None:
    # busybox's shell takes its own ifup before any other.
    guest = layout(tmp_path, name, "dash")
    guest.context(context_sh.render(CONTEXT))
    written(guest, "all")
    assert guest.read("calls").splitlines() == calls
    assert written(guest, "all") == {}
    assert guest.read("calls").splitlines() == calls
    guest.context(context_sh.render({**CONTEXT, "ETH0_IP": "10.66.0.11"}))
    assert written(guest, "all")
    assert guest.read("calls").splitlines() == calls * 2


def test_what_is_written_is_what_its_readers_read(tmp_path: Path) -> None:
    plan = yaml.safe_load((GOLDEN / "netplan/etc/netplan/90-nebula-context.yaml").read_text())
    eth0, eth1 = (plan["network"]["ethernets"][name] for name in ("eth0", "eth1"))
    assert eth0["addresses"] == ["10.66.0.10/20"]
    assert {"to": "0.0.0.0/0", "via": "10.66.0.1", "metric": 7} in eth0["routes"]
    assert {"to": "10.8.0.0/16", "via": "10.66.0.8"} in eth0["routes"]
    assert eth1["addresses"] == ["192.168.70.150/24", "192.168.70.151/24", "2001:db8::5/64", "fd00::5/48"]
    keyfile = configparser.ConfigParser()
    keyfile.read(GOLDEN / "nm/etc/NetworkManager/system-connections/nebula-context-eth1.nmconnection")
    assert keyfile["ethernet"]["mac-address"] == "02:00:c0:a8:46:96"
    assert keyfile["ipv4"]["address2"] == "192.168.70.151/24"
    assert keyfile["ipv6"]["gateway"] == "2001:db8::1"
    # It reads nothing that others can read or write.
    guest = layout(tmp_path, "nm")
    guest.context(context_sh.render(CONTEXT))
    written(guest, "network")
    place = guest.root / "etc/NetworkManager/system-connections/nebula-context-eth0.nmconnection"
    assert place.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("shell", sorted(SHELLS))
def test_values_that_a_network_file_would_obey_are_left_out(tmp_path: Path, shell: str) -> None:
    guest = layout(tmp_path, "interfaces" if shell == "busybox" else "scripts", shell)
    hostile = {
        "ETH0_MASK": "a[$(touch /pwned)]",
        "ETH0_METRIC": "5\n    up touch /pwned",
        "ETH0_MTU": "1400; touch /pwned",
        "ETH0_ROUTES": "10.0.0.0/8;reboot via 10.66.0.1",
        "ETH0_SEARCH_DOMAIN": "$(touch /pwned)",
        "ETH1_ALIAS0_IP": "10.0.0.6/24;reboot",
    }
    guest.context(context_sh.render({**CONTEXT, **hostile}))
    found = written(guest, "network")
    text = b"".join(content for name, content in found.items() if "network" in name)
    assert b"10.66.0.10" in text
    assert b"pwned" not in text
    assert b"reboot" not in text
    assert not (guest.root / "pwned").exists()
    for name in hostile:
        assert f"{name} holds what it can't" in guest.faults()


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_where_nothing_is_said_of_the_network_it_stays(tmp_path: Path, name: str) -> None:
    guest = layout(tmp_path, name)
    guest.context(context_sh.render({**CONTEXT, "ETH0_METHOD": "skip", "ETH0_IP6_METHOD": "skip",
                                     "ETH1_METHOD": "skip", "ETH1_IP6_METHOD": "skip", "ETH0_DNS": "", "ETH1_DNS": "",
                                     "ETH0_SEARCH_DOMAIN": ""}))  # fmt: skip
    assert set(written(guest, "network")) == {"etc/hostname", "etc/hosts"}


def test_dhcp_and_what_is_left_alone(tmp_path: Path) -> None:
    guest = layout(tmp_path, "networkd")
    methods = {"ETH0_METHOD": "dhcp", "ETH0_IP6_METHOD": "auto", "ETH1_METHOD": "skip", "ETH1_IP6_METHOD": "skip"}
    guest.context(context_sh.render({**CONTEXT, **methods}))
    found = written(guest, "network")
    assert b"DHCP=ipv4\nIPv6AcceptRA=yes\n" in found["etc/systemd/network/05-nebula-context-eth0.network"]
    assert "etc/systemd/network/05-nebula-context-eth1.network" not in found


@pytest.mark.parametrize("name", sorted(LAYOUTS))
@pytest.mark.parametrize(
    ("method", "method6", "there"),
    [
        ("dhcp", "auto", ()),
        ("skip", "static", ("2001:db8::5", "fd00::5", "2001:db8::1")),
        ("static", "skip", ("192.168.70.150", "192.168.70.151")),
        ("static", "disable", ("192.168.70.150", "192.168.70.151")),
    ],
)
def test_a_family_that_is_not_static_gets_no_address_of_the_context(
    tmp_path: Path, name: str, method: str, method6: str, there: tuple[str, ...]
) -> None:
    """OpenNebula's contexts have the leased address whatever the method is."""
    guest = layout(tmp_path, name)
    own = {"ETH0_METHOD": "skip", "ETH1_METHOD": method, "ETH1_IP6_METHOD": method6}
    own.update(ETH1_GATEWAY="192.168.70.1", ETH1_DNS="")
    guest.context(context_sh.render({**CONTEXT, **own}))
    found = written(guest, "network").items()
    text = b"\n".join(content for file, content in found if file not in ("etc/hosts", "etc/resolv.conf")).decode()
    known = ("192.168.70.150", "192.168.70.151", "192.168.70.1", "2001:db8::5", "fd00::5", "2001:db8::1")
    allowed = {*there, *(("192.168.70.1",) if method == "static" else ())}
    words = {word.strip("\"'[],;").split("/")[0] for word in re.split(r"[\s=,\"']+", text)}
    assert words & set(known) <= allowed
    # Where nothing manages the network, it is in no file.
    assert name == "plain" or set(there) <= words


FAR = {
    "NETWORK": "YES",
    "ETH0_MAC": "02:00:0a:42:00:0a",
    "ETH0_IP": "203.0.113.77",
    "ETH0_MASK": "255.255.255.255",
    "ETH0_GATEWAY": "198.51.100.1",
    "ETH0_METRIC": "7",
    "ETH0_IP6_METHOD": "disable",
    "ETH0_ROUTES": "10.9.0.0/16 via 198.51.100.1, 10.8.0.0/16 via 198.51.100.8",
}
BY_DHCP = {
    "NETWORK": "YES",
    "ETH0_MAC": "02:00:0a:42:00:0a",
    "ETH0_METHOD": "dhcp",
    "ETH0_METRIC": "50",
    "ETH0_DNS": "192.0.2.53",
    "ETH0_SEARCH_DOMAIN": "corp.example",
    "ETH0_ROUTES": "10.9.0.0/16 via 10.66.0.9",
}


def test_ifcfg_files_of_rhel(tmp_path: Path) -> None:
    """By their documented form: there are no such tools here. The other tools are run in test_guest_network.py."""
    guest = layout(tmp_path, "scripts")
    place = "etc/sysconfig/network-scripts"
    guest.context(context_sh.render(FAR))
    written(guest, "network")
    text = guest.read(f"{place}/ifcfg-eth0")
    # ifup leaves out a GATEWAY that is in another network than IPADDR.
    assert "GATEWAY" not in text
    assert "\nIPV6INIT=no\nIPV6_DISABLED=yes\n" in text
    assert guest.read(f"{place}/route-eth0").splitlines() == [
        "198.51.100.1/32 dev eth0",
        "198.51.100.8/32 dev eth0",
        "default via 198.51.100.1 dev eth0 metric 7",
        "10.9.0.0/16 via 198.51.100.1 dev eth0",
        "10.8.0.0/16 via 198.51.100.8 dev eth0",
    ]
    guest.context(context_sh.render(BY_DHCP))
    written(guest, "network")
    lines = guest.read(f"{place}/ifcfg-eth0").splitlines()
    assert {"BOOTPROTO=dhcp", "METRIC=50", "DNS1=192.0.2.53", 'DOMAIN="corp.example"'} <= set(lines)
    assert guest.read(f"{place}/route-eth0") == "10.66.0.9/32 dev eth0\n10.9.0.0/16 via 10.66.0.9 dev eth0\n"
    assert not any("IPV6_DISABLED" in line for line in lines)


def test_ifcfg_files_of_wicked(tmp_path: Path) -> None:
    guest = layout(tmp_path, "wicked")
    place = "etc/sysconfig/network"
    (guest.root / place / "config").write_text('NETCONFIG_DNS_STATIC_SEARCHLIST=""\nNETCONFIG_DNS_STATIC_SERVERS=""\n')
    guest.context(context_sh.render(FAR))
    written(guest, "network")
    assert guest.read(f"{place}/ifroute-eth0").splitlines() == [
        "198.51.100.1/32 - - eth0",
        "198.51.100.8/32 - - eth0",
        "default 198.51.100.1 - eth0 metric 7",
        "10.9.0.0/16 198.51.100.1 - eth0",
        "10.8.0.0/16 198.51.100.8 - eth0",
    ]
    assert "net.ipv6.conf.eth0.disable_ipv6 = 1\n" in guest.read(f"{place}/ifsysctl-eth0")
    guest.context(context_sh.render(BY_DHCP))
    written(guest, "network")
    assert {"BOOTPROTO='dhcp'", "DHCLIENT_ROUTE_PRIORITY='50'"} <= set(guest.read(f"{place}/ifcfg-eth0").splitlines())
    assert guest.read(f"{place}/ifroute-eth0") == "10.66.0.9/32 - - eth0\n10.9.0.0/16 10.66.0.9 - eth0\n"
    assert guest.read(f"{place}/config") == (
        'NETCONFIG_DNS_STATIC_SEARCHLIST="corp.example"\nNETCONFIG_DNS_STATIC_SERVERS="192.0.2.53"\n'
    )
    assert not (guest.root / place / "ifsysctl-eth0").exists()


def test_routers_within_and_outside_of_the_prefix_where_busybox_is_all_there_is(tmp_path: Path) -> None:
    """Its awk may know less than others."""
    guest = layout(tmp_path, "wicked")
    routes = "192.0.2.7 via 10.66.0.9, 198.51.100.77/25 via 198.51.100.1, 172.16.0.0/255.240.0.0 via 10.66.1.8"
    own = {
        "ETH0_MAC": "02:00:0a:42:00:0a",
        "ETH0_IP": "10.66.0.10",
        "ETH0_GATEWAY": "10.66.0.1",
        "ETH0_MASK": "255.255.254.0",
    }
    guest.context(context_sh.render({**own, "ETH0_ROUTES": routes}))
    guest.run("network")
    assert guest.faults() == ""
    assert guest.read("etc/sysconfig/network/ifroute-eth0").splitlines() == [
        "198.51.100.1/32 - - eth0",
        "default 10.66.0.1 - eth0",
        "192.0.2.7/32 10.66.0.9 - eth0",
        "198.51.100.0/25 198.51.100.1 - eth0",
        "172.16.0.0/12 10.66.1.8 - eth0",
    ]


BRIDGE = "auto br0\niface br0 inet dhcp\n    bridge_ports {0}\n"
STATIC = {"ETH0_MAC": "02:00:0a:42:00:0a", "ETH0_IP": "10.66.0.10"}


def test_a_bridge_of_an_earlier_life_does_not_take_the_interface(tmp_path: Path) -> None:
    guest = layout(tmp_path, "interfaces")
    for name, ports in {"ours": "eth1 eth0", "other": "eth1 eth00 peth0"}.items():
        (guest.root / "etc/network/interfaces.d" / name).write_text(BRIDGE.format(ports))
    guest.context(context_sh.render(STATIC))
    found = written(guest, "network")["etc/network/interfaces"].decode()
    assert "source /etc/network/interfaces.d/other\n" in found
    assert "interfaces.d/ours" not in found


def test_a_bridge_goes_on_without_the_interface_where_another_tool_has_it(tmp_path: Path) -> None:
    guest = layout(tmp_path, "nm")
    (guest.root / "etc/nebula-context.conf").write_text("renderer=nm\n")
    (guest.root / "etc/network/interfaces.d").mkdir(parents=True)
    file = guest.root / "etc/network/interfaces.d/br0"
    file.write_text(BRIDGE.format("eth1 eth0") + "auto eth0:1\niface eth0:1 inet dhcp\n")
    guest.context(context_sh.render(STATIC))
    guest.run("network")
    assert file.read_text() == BRIDGE.format("eth1")


ANY = "TYPE=Ethernet\nBOOTPROTO=dhcp\nNAME='Wired connection 1'\nAUTOCONNECT_PRIORITY=120\n"


@pytest.mark.parametrize("name", ["scripts", "nm"])
@pytest.mark.parametrize(
    ("file", "text", "aside"),
    [
        ("ifcfg-Wired_connection_1", ANY, True),
        ("ifcfg-ens3", 'DEVICE="ens3"\nTYPE="Ethernet"\n', False),
        ("ifcfg-br0", "TYPE=Bridge\nBOOTPROTO=dhcp\n", False),
        ("ifcfg-x", "TYPE=Ethernet\nHWADDR=02:00:0A:42:00:0A\n", True),
    ],
)
def test_ifcfg_files_are_set_aside_by_what_they_match(
    tmp_path: Path, name: str, file: str, text: str, aside: bool
) -> None:
    guest = layout(tmp_path, name)
    place = guest.root / "etc/sysconfig/network-scripts"
    place.mkdir(parents=True, exist_ok=True)
    (place / file).write_text(text)
    guest.context(context_sh.render(STATIC))
    guest.run("network")
    assert (place / file).exists() != aside
    assert (guest.root / "var/lib/nebula-context/before/etc/sysconfig/network-scripts" / file).exists() == aside


@pytest.mark.parametrize(
    ("name", "file", "text", "left"),
    [
        (
            "scripts",
            "etc/sysconfig/network",
            "NETWORKING=yes\nGATEWAY=192.0.2.1\nGATEWAYDEV=eth0\nNOZEROCONF=yes\nIPV6_DEFAULTGW=fe80::1%eth0\n",
            "NETWORKING=yes\nNOZEROCONF=yes\n",
        ),
        (
            "wicked",
            "etc/sysconfig/network/routes",
            "default 192.0.2.1 - -\n10.9.0.0/16 192.0.2.9 - eth0\n10.8.0.0/16 192.0.2.9 - eth00\n",
            "10.8.0.0/16 192.0.2.9 - eth00\n",
        ),
    ],
)
def test_routers_of_no_certain_interface_are_set_aside(
    tmp_path: Path, name: str, file: str, text: str, left: str
) -> None:
    guest = layout(tmp_path, name)
    (guest.root / file).write_text(text)
    guest.context(context_sh.render(STATIC))
    guest.run("network")
    assert (guest.faults(), guest.read(file)) == ("", left)
    assert guest.read(f"var/lib/nebula-context/before/{file}") == text


@pytest.mark.parametrize("enabled", ["etc/systemd/system/multi-user.target.wants/dhcpcd.service", ""])
def test_the_daemon_dhcpcd_is_denied_what_the_context_configures(tmp_path: Path, enabled: str) -> None:
    guest = layout(tmp_path, "nm")
    settings = guest.root / "etc/dhcpcd.conf"
    before = "hostname\ninterface eth0\nstatic ip_address=10.66.0.77/24\n"
    settings.write_text(before)
    if enabled:
        (guest.root / enabled).parent.mkdir(parents=True, exist_ok=True)
        (guest.root / enabled).symlink_to("/lib/systemd/system/dhcpcd.service")
    first = "# Written by nebula-context at boot: it configures these.\ndenyinterfaces{0}\n" if enabled else ""
    guest.context(context_sh.render(STATIC))
    guest.run("network")
    assert settings.read_text() == first.format(" eth0") + before
    guest.context(context_sh.render({**STATIC, "ETH1_MAC": "02:00:c0:a8:46:96", "ETH1_IP": "10.67.0.10"}))
    guest.run("network")
    assert settings.read_text() == first.format(" eth0 eth1") + before


def test_what_is_not_said_of_ip6_is_as_it_is_for_ip4(tmp_path: Path) -> None:
    guest = layout(tmp_path, "networkd")
    own = {"ETH1_GATEWAY": "192.168.70.1", "ETH1_METRIC": "9"}
    guest.context(context_sh.render({**CONTEXT, **own, "ETH0_METHOD": "skip", "ETH0_IP6": "2001:db8::7"}))
    found = written(guest, "network")
    assert "etc/systemd/network/05-nebula-context-eth0.network" not in found
    assert b"Gateway=2001:db8::1\nMetric=9\n" in found["etc/systemd/network/05-nebula-context-eth1.network"]


@pytest.mark.parametrize("shell", sorted(SHELLS))
def test_every_shell_does_the_same(tmp_path: Path, shell: str) -> None:
    guest = layout(tmp_path, "plain", shell)
    script = 'echo "$QUOTED" > /tmp/quoted; ip -o -4 address; ip route; hostname'
    guest.context(
        context_sh.render({**CONTEXT, "QUOTED": "it's `touch /pwned` $(touch /pwned) \\ ä", "START_SCRIPT": script}),
        {"init.sh": '#!/bin/sh\n. /context/context.sh\necho "init $SET_HOSTNAME"\n'},
    )
    done = guest.run("all")
    assert (done.returncode, guest.faults()) == (0, ""), done.stderr
    assert guest.read("tmp/quoted") == "it's `touch /pwned` $(touch /pwned) \\ ä\n"
    assert not (guest.root / "pwned").exists()
    said = guest.read("var/log/nebula-context.log")
    assert "inet 10.66.0.10/20" in said
    assert "inet 192.168.70.151/24" in said
    assert "default via 10.66.0.1 dev eth0  metric 7" in said
    assert "\nweb-1\ninit web_1.example.org\n" in said
    report = guest.read("dev/console")
    assert "nebula-guest: hostname=web-1\nnebula-guest: eth0 mac=02:00:0a:42:00:0a ip=10.66.0.10/20\n" in report
    assert report.endswith("nebula-guest: ready\n")
    # Nothing that others can read holds what may be a secret.
    assert not (guest.root / "run/nebula-context/context.sh").exists()
    for place in ("run/nebula-context", "var/lib/nebula-context"):
        assert (guest.root / place).stat().st_mode & 0o077 == 0
    assert (guest.root / "var/log/nebula-context.log").stat().st_mode & 0o077 == 0


def test_only_what_changed_is_done_again(tmp_path: Path) -> None:
    guest = layout(tmp_path, "interfaces")
    both = {**CONTEXT, "START_SCRIPT": "echo start >> /tmp/ran", "USERNAME": "ann", "SSH_PUBLIC_KEY": "ssh-rsa A a"}
    init = {"init.sh": "echo init >> /tmp/ran\n"}

    def ran() -> str:
        place = guest.root / "tmp/ran"
        text = place.read_text() if place.exists() else ""
        place.unlink(missing_ok=True)
        return text

    guest.context(context_sh.render(both), init)
    written(guest, "all")
    assert ran() == "start\ninit\n"
    assert written(guest, "all") == {}
    assert ran() == ""
    # A script of the ISO is new: it alone.
    guest.context(context_sh.render(both), {"init.sh": "echo other >> /tmp/ran\n"})
    assert set(written(guest, "all")) == {"tmp/ran"}
    assert ran() == "other\n"
    # A variable is: what reads it, and the scripts, which may read any.
    guest.context(context_sh.render({**both, "ETH0_DNS": "10.66.0.2"}), init)
    assert set(written(guest, "all")) == {"etc/network/interfaces", "etc/resolv.conf", "tmp/ran"}
    ran()
    # Asked for, the scripts run at every boot, and a boot is what the kernel says one is.
    guest.context(context_sh.render({**both, "SCRIPTS_EVERY_BOOT": "YES"}), init)
    written(guest, "all")
    assert ran() == "start\ninit\n"
    # Without a context the machine stays what it is.
    shutil.rmtree(guest.root / "context")
    assert written(guest, "all") == {}


def test_a_script_that_fails_is_told_and_tried_again(tmp_path: Path) -> None:
    guest = layout(tmp_path, "plain")
    guest.context(
        context_sh.render({**CONTEXT, "START_SCRIPT": "echo x >> /tmp/ran\nexit 3", "INIT_SCRIPTS": "gone.sh"})
    )
    for times in (1, 2):
        assert guest.run("all").returncode == 0
        assert guest.read("tmp/ran") == "x\n" * times
        assert "nebula-guest: error START_SCRIPT ended with status 3: see /var/log/nebula-context.log\n" in guest.read(
            "dev/console"
        )
        assert "nebula-guest: error INIT_SCRIPTS: gone.sh is not on the context ISO\n" in guest.read("dev/console")


def test_the_address_is_in_the_mac_where_no_context_says_it(tmp_path: Path) -> None:
    guest = layout(tmp_path, "interfaces")
    interfaces = written(guest, "network")["etc/network/interfaces"].decode()
    assert (
        "iface eth0 inet static\n    address 10.66.0.10\n    netmask 255.255.255.0\n    gateway 10.66.0.1\n"
        in interfaces
    )
    # One gateway is enough.
    assert interfaces.endswith("iface eth1 inet static\n    address 192.168.70.150\n    netmask 255.255.255.0\n")


HOSTILE = """# Context variables generated by OpenNebula
ALONE
PATH='/pwned'
BASH_ENV='/pwned'
UID='7'
LD_PRELOAD='/pwned.so'
touch /pwned
A='x'; touch /pwned
B="$(touch /pwned)"
C=`touch /pwned`
D='two
touch /pwned
lines'
E='it'\\''s'
F=$(touch /pwned)
G='x' touch /pwned
target="sdb"
SET_HOSTNAME='fine'
START_SCRIPT='printf "%s|" "$D" "$E" "$A$B$C$F$G" "$TARGET" > /tmp/values'
LAST='never closed
touch /pwned
"""


@pytest.mark.parametrize("shell", sorted(SHELLS))
def test_nothing_of_a_hostile_context_is_run(tmp_path: Path, shell: str) -> None:
    guest = layout(tmp_path, "plain", shell)
    guest.context(HOSTILE)
    assert guest.run("all").returncode == 0
    assert not (guest.root / "pwned").exists()
    assert guest.read("etc/hostname") == "fine\n"
    assert guest.read("tmp/values") == "two\ntouch /pwned\nlines|it's||sdb|"


def test_no_name_that_a_shell_keeps_to_itself_is_taken(tmp_path: Path) -> None:
    for shell in sorted(SHELLS):
        guest = layout(tmp_path, "plain", shell)
        names = [name for name in context_sh.SPECIAL_NAMES if name != "_"]
        hostile = "".join(f"{name}='/nowhere'\n" for name in names)
        guest.context(hostile + context_sh.render({**CONTEXT, "START_SCRIPT": 'echo "$SET_HOSTNAME" > /tmp/ran'}))
        assert guest.run("all").returncode == 0
        assert guest.faults() == ""
        assert guest.read("tmp/ran") == "web_1.example.org\n"
        taken = guest.read("run/nebula-context/names").split()
        assert set(taken) & set(context_sh.SPECIAL_NAMES) == set()


LONG = "a" * 64


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (f"{LONG}.example.org", f"'{LONG}' has 64 characters"),
        (f"web.{LONG}.org", f"'{LONG}' has 64 characters"),
        (".".join(["a" * 50] * 6), "the name has 305 characters"),
        ("--__--", "has no letter and no digit"),
    ],
)
def test_a_name_that_no_host_can_have_is_told_and_not_written(tmp_path: Path, name: str, why: str) -> None:
    guest = layout(tmp_path, "scripts", "dash")
    (guest.root / "etc/hostname").write_text("own\n")
    guest.context(context_sh.render({"SET_HOSTNAME": name}))
    # It is told at each boot.
    for _boot in range(2):
        assert set(written(guest, "network")).isdisjoint({"etc/hostname", "etc/hosts", "etc/sysconfig/network"})
        assert why in guest.faults()


@pytest.mark.parametrize(
    ("name", "short", "whole"),
    [
        ("a" * 63, "a" * 63, "a" * 63),
        (f"web.{'a' * 63}.example.org", "web", f"web.{'a' * 63}.example.org"),
        ("-web-.-example-..org.", "web", "web.example.org"),
    ],
)
def test_names_that_a_host_can_have(tmp_path: Path, name: str, short: str, whole: str) -> None:
    guest = layout(tmp_path, "scripts", "dash")
    (guest.root / "etc/sysconfig/network").write_text("HOSTNAME=own\n")
    guest.context(context_sh.render({"SET_HOSTNAME": name}))
    found = written(guest, "network")
    assert guest.faults() == ""
    assert found["etc/hostname"].decode() == f"{short}\n"
    assert f"127.0.1.1\t{whole}" in found["etc/hosts"].decode()
    assert found["etc/sysconfig/network"].decode() == f"HOSTNAME={whole if len(whole) <= 64 else short}\n"


BLOCK = "{0}for i in 1 2; do\r\n  if [ $i = 2 ]; then\r\n    echo ran $i >> /tmp/ran\r\n  fi\r\ndone\r\n"
WINDOWS = {
    "by its first line": BLOCK.format("#!/bin/sh\r\n"),
    "without one": BLOCK.format(""),
    "but the first line": BLOCK.format("#!/bin/sh\n"),
    "with a mark": BLOCK.format("\ufeff#!/bin/sh -e\r\n"),
    "without an end": BLOCK.format("#! /bin/sh\r\n").rstrip(),
}


@pytest.mark.parametrize("shell", sorted(SHELLS))
@pytest.mark.parametrize("name", sorted(WINDOWS))
def test_scripts_with_lines_of_windows(tmp_path: Path, name: str, shell: str) -> None:
    guest = layout(tmp_path, "plain", shell)
    script = WINDOWS[name]
    for variables, files in (
        ({"START_SCRIPT": script}, {}),
        ({"START_SCRIPT_BASE64": base64.b64encode(script.encode()).decode()}, {}),
        ({}, {"init.sh": script}),
        ({"INIT_SCRIPTS": "one.sh"}, {"one.sh": script}),
    ):
        guest.context(context_sh.render({"GREETING": name, **variables}), files)
        assert guest.run("all").returncode == 0
        assert guest.faults() == ""
        assert guest.read("tmp/ran") == "ran 2\n"
        (guest.root / "tmp/ran").unlink()


def test_a_script_with_bytes_that_no_text_has_stays_as_it_is(tmp_path: Path) -> None:
    guest = layout(tmp_path, "plain")
    archive = b'#!/bin/sh\ntail -n +4 "$0" > /tmp/payload\nexit\n\0one\r\ntwo\r\n'
    guest.context(context_sh.render({"START_SCRIPT_BASE64": base64.b64encode(archive).decode()}))
    assert guest.run("all").returncode == 0
    assert (guest.root / "tmp/payload").read_bytes() == b"\0one\r\ntwo\r\n"


def test_a_script_that_names_no_program_is_run_by_bash(tmp_path: Path) -> None:
    guest = layout(tmp_path, "plain", "bash")
    guest.context(context_sh.render({"START_SCRIPT": 'a=(x y)\necho "${a[1]}" > /tmp/ran\n'}))
    assert guest.run("all").returncode == 0
    assert (guest.faults(), guest.read("tmp/ran")) == ("", "y\n")


def test_large_contexts(tmp_path: Path) -> None:
    guest = layout(tmp_path, "plain")
    many = {f"VARIABLE_{n}": "x" * 20 for n in range(10_000)}
    script = "#" + "x" * 300_000 + '\n[ "$VARIABLE_9999" = xxxxxxxxxxxxxxxxxxxx ] && echo done > /tmp/done'
    guest.context(context_sh.render({**CONTEXT, **many, "START_SCRIPT": script, "BIG": "y" * 200_000}))
    assert guest.run("all").returncode == 0
    assert guest.faults() == ""
    assert guest.read("tmp/done") == "done\n"


def test_keys_of_the_context_come_and_go_and_others_stay(tmp_path: Path) -> None:
    guest = layout(tmp_path, "plain")
    guest.context(context_sh.render({"SSH_PUBLIC_KEY": "ssh-rsa A a\nssh-rsa B b"}))
    written(guest, "all")
    place = guest.root / "root/.ssh/authorized_keys"
    assert place.read_text() == "ssh-rsa A a\nssh-rsa B b\n"
    assert place.stat().st_mode & 0o777 == 0o600
    place.write_text("ssh-rsa OWN own\n" + place.read_text())
    guest.context(context_sh.render({"SSH_PUBLIC_KEY": "ssh-rsa B b\nssh-rsa C c"}))
    written(guest, "all")
    assert place.read_text() == "ssh-rsa OWN own\nssh-rsa B b\nssh-rsa C c\n"
    # The context has none any more.
    guest.context(context_sh.render({"SET_HOSTNAME": "web"}))
    written(guest, "all")
    assert place.read_text() == "ssh-rsa OWN own\n"


def test_a_user_of_its_own(tmp_path: Path) -> None:
    guest = layout(tmp_path, "plain")
    guest.context(context_sh.render({"USERNAME": "ann", "SSH_PUBLIC_KEY": "ssh-rsa A a"}))
    written(guest, "all")
    assert "ann:x:1000:1000::/home/ann:/bin/sh\n" in guest.read("etc/passwd")
    keys = guest.root / "home/ann/.ssh/authorized_keys"
    assert keys.read_text() == "ssh-rsa A a\n"
    assert (keys.stat().st_uid, keys.parent.stat().st_uid, keys.parent.stat().st_mode & 0o777) == (1000, 1000, 0o700)
    # Whatever the user has made of the place, root writes nothing of somebody else's and shows nothing of it.
    shadow = guest.read("etc/shadow")
    for name in (".new", "authorized_keys"):
        (keys.parent / name).unlink(missing_ok=True)
        (keys.parent / name).symlink_to("/etc/shadow")
        os.lchown(keys.parent / name, 1000, 1000)
    guest.context(context_sh.render({"USERNAME": "ann", "USERNAME_SUDO": "YES", "SSH_PUBLIC_KEY": "ssh-rsa B b"}))
    written(guest, "all")
    assert (guest.read("etc/shadow"), keys.read_text(), keys.is_symlink()) == (shadow, "ssh-rsa B b\n", False)
    guest.context(context_sh.render({"USERNAME": "x; touch /pwned", "SSH_PUBLIC_KEY": "ssh-rsa A a"}))
    assert written(guest, "all") == {}
    assert "USERNAME holds what no user name can" in guest.faults()


# --- growing ---------------------------------------------------------------------------------------------------------
SECTORS = 2048  # of a MiB


def blocks(guest: Layout, devices: dict[str, dict[str, str]], source: str) -> None:
    """A tree as the kernel shows these block devices, of which `source` is the root's.

    It stands for devices that this machine's kernel may not have; LVM's are real in test_guest_growth.py."""
    (guest.root / "proc/mounts").write_text(f"/dev/{source} / ext4 rw 0 0\n")
    for name, files in devices.items():
        place = guest.root / "sys/devices" / files.get("disk", "") / name
        for path, text in files.items():
            if path != "disk":
                (place / path).parent.mkdir(parents=True, exist_ok=True)
                (place / path).write_text(f"{text}\n")
        (guest.root / "sys/class/block").mkdir(parents=True, exist_ok=True)
        (guest.root / "sys/class/block" / name).symlink_to(f"/sys/devices/{files.get('disk', '.')}/{name}")
    os.mknod(guest.root / "dev" / source, 0o600 | 0o060000, os.makedev(253, 0))


def below(guest: Layout, upper: str, place: str, lower: str) -> None:
    link = guest.root / "sys/devices" / upper / place
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(f"/sys/class/block/{lower}")


def grown(guest: Layout, *programs: str) -> list[str]:
    """The calls of these programs that the guest program made, which all went well."""
    for program in programs:
        (guest.root / "bin" / program).unlink(missing_ok=True)
        (guest.root / "sbin" / program).write_text(RECORDER)
        (guest.root / "sbin" / program).chmod(0o755)
    command = ["unshare", "--uts", "--net", "--mount", "chroot", str(guest.root), "/bin/sh", "/nebula-context", "rest"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    calls = guest.root / "calls"
    return calls.read_text().splitlines() if calls.exists() else []


DISK = {"size": str(1600 * SECTORS)}
PARTITION = {"disk": "sda", "partition": "1", "start": "2048", "size": str(800 * SECTORS)}
GROWN = {**PARTITION, "size": str(1599 * SECTORS)}
CRYPT = {"dm/uuid": "CRYPT-LUKS2-0123-root", "dm/name": "root", "size": str(784 * SECTORS)}


def test_what_is_encrypted_grows_with_its_partition(tmp_path: Path) -> None:
    guest = layout(tmp_path, "plain", "dash")
    guest.context(context_sh.render({"A": "b"}))
    blocks(guest, {"sda": DISK, "sda1": GROWN, "dm-0": CRYPT}, "dm-0")
    below(guest, "dm-0", "slaves/sda1", "sda1")
    assert grown(guest, "growpart", "cryptsetup", "resize2fs") == ["cryptsetup resize root", "resize2fs /dev/dm-0"]
    assert guest.faults() == ""


def test_a_partition_below_it_is_grown_first(tmp_path: Path) -> None:
    guest = layout(tmp_path, "plain")
    guest.context(context_sh.render({"A": "b"}))
    blocks(guest, {"sda": DISK, "sda1": PARTITION, "dm-0": CRYPT}, "dm-0")
    below(guest, "dm-0", "slaves/sda1", "sda1")
    # These do nothing here, so that there is no room for what is encrypted.
    assert grown(guest, "growpart", "cryptsetup", "resize2fs") == ["growpart /dev/sda 1", "resize2fs /dev/dm-0"]


def test_an_array_grows_with_its_smallest_member(tmp_path: Path) -> None:
    guest = layout(tmp_path, "plain")
    guest.context(context_sh.render({"A": "b"}))
    array = {"size": str(780 * SECTORS), "md/component_size": str(780 * 1024), "md/dev-sda1/offset": "2048"}
    blocks(guest, {"sda": DISK, "sda1": GROWN, "md0": array}, "md0")
    below(guest, "md0", "slaves/sda1", "sda1")
    below(guest, "md0", "md/dev-sda1/block", "sda1")
    assert grown(guest, "growpart", "mdadm", "resize2fs") == ["mdadm --grow /dev/md0 --size=max", "resize2fs /dev/md0"]


@pytest.mark.parametrize(
    ("uuid", "step"),
    [
        ("CRYPT-LUKS2-0123-root", "'cryptsetup resize root' is left to be done, and there is no cryptsetup here"),
        ("LVM-0123", "pvresize and lvextend are left to be done for /dev/mapper/root, and there is no pvresize here"),
    ],
)
def test_the_step_that_is_left_is_told(tmp_path: Path, uuid: str, step: str) -> None:
    guest = layout(tmp_path, "plain")
    guest.context(context_sh.render({"A": "b"}))
    blocks(guest, {"sda": DISK, "sda1": GROWN, "dm-0": {**CRYPT, "dm/uuid": uuid}}, "dm-0")
    below(guest, "dm-0", "slaves/sda1", "sda1")
    grown(guest, "growpart", "resize2fs")
    assert f"the root file system is not grown: {step}" in guest.faults()


@pytest.mark.parametrize(("device", "told"), [("3276800", True), ("1640448", False)])
def test_a_thin_volume_is_told_where_there_is_room(tmp_path: Path, device: str, told: bool) -> None:
    guest = layout(tmp_path, "plain")
    guest.context(context_sh.render({"A": "b"}))
    volume = {**CRYPT, "dm/uuid": "LVM-0123"}
    blocks(guest, {"sda": DISK, "sda1": GROWN, "dm-0": volume, "dm-1": {**CRYPT, "dm/uuid": "LVM-0123-tpool"}}, "dm-0")
    below(guest, "dm-0", "slaves/dm-1", "dm-1")
    below(guest, "dm-1", "slaves/sda1", "sda1")
    (guest.root / "sbin/pvs").write_text(f"#!/bin/sh\necho '  {device} 1638400'\n")
    (guest.root / "sbin/pvs").chmod(0o755)
    grown(guest, "growpart", "resize2fs")
    assert ("whose pool is left to be grown" in guest.faults()) == told


def test_a_map_whose_name_is_none_of_the_kernels_is_found_by_its_number(tmp_path: Path) -> None:
    """Without udev, /dev/mapper has devices instead of links."""
    guest = layout(tmp_path, "plain")
    guest.context(context_sh.render({"A": "b"}))
    blocks(guest, {"sda": DISK, "sda1": GROWN, "dm-0": CRYPT}, "dm-0")
    below(guest, "dm-0", "slaves/sda1", "sda1")
    (guest.root / "dev/mapper").mkdir()
    os.mknod(guest.root / "dev/mapper/root", 0o600 | 0o060000, os.makedev(253, 0))
    (guest.root / "proc/mounts").write_text("/dev/mapper/root / ext4 rw 0 0\n")
    (guest.root / "proc/self").mkdir()
    (guest.root / "proc/self/mountinfo").write_text("1 0 253:0 / / rw - ext4 /dev/mapper/root rw\n")
    (guest.root / "sys/dev/block").mkdir(parents=True)
    (guest.root / "sys/dev/block/253:0").symlink_to("/sys/devices/dm-0")
    assert grown(guest, "growpart", "cryptsetup", "resize2fs") == ["cryptsetup resize root", "resize2fs /dev/dm-0"]


# --- installing ------------------------------------------------------------------------------------------------------
INITS = {
    "systemd": ["lib/systemd/systemd", "sbin/init -> /lib/systemd/systemd"],
    "openrc": ["sbin/openrc-run", "etc/runlevels/boot/", "etc/runlevels/default/"],
    "sysv": ["etc/init.d/networking", "etc/rcS.d/S10networking -> ../init.d/networking", "etc/rc2.d/", "etc/rc3.d/"],
    "busybox": ["etc/inittab"],
    "rc_local": ["etc/rc.local"],
}
TEXTS = {
    "etc/inittab": "# own\n::sysinit:/etc/rc\ntty1::respawn:/bin/sh\n",
    "etc/rc.local": "#!/bin/sh -e\n# own\nexit 0\n",
}


def system(root: Path, init: str) -> Path:
    (root / "etc").mkdir(parents=True)
    for entry in INITS[init]:
        name, _arrow, target = entry.partition(" -> ")
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if target:
            (root / name).symlink_to(target)
        elif name.endswith("/"):
            (root / name).mkdir()
        else:
            (root / name).write_text(TEXTS.get(name, ""))
            (root / name).chmod(0o755)
    return root


@pytest.mark.parametrize("init", sorted(INITS))
def test_it_is_started_at_boot(tmp_path: Path, init: str) -> None:
    root = system(tmp_path / "root", init)

    def install(*options: str) -> str:
        command = ["sh", str(PROGRAM), "--root", str(root), *options, "install"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert f"started at boot by {init}" in done.stderr or options
        return done.stdout

    nothing = sorted(root.rglob("*"))
    assert install("--check") == "changed\n"
    assert sorted(root.rglob("*")) == nothing
    assert install() == "changed\n"
    assert install("--check") == "unchanged\n"
    program = root / "usr/local/sbin/nebula-context"
    assert program.read_bytes() == PROGRAM.read_bytes()
    assert program.stat().st_mode & 0o777 == 0o755
    before = {path: path.lstat().st_mtime_ns for path in root.rglob("*") if not path.is_dir()}
    assert install() == "unchanged\n"
    assert {path: path.lstat().st_mtime_ns for path in root.rglob("*") if not path.is_dir()} == before
    expected = {
        "systemd": "etc/systemd/system/sysinit.target.wants/nebula-context-network.service",
        "openrc": "etc/runlevels/boot/nebula-context-network",
        # Sorted before the network of the same number.
        "sysv": "etc/rcS.d/S10nebula-context-network",
    }
    if init in expected:
        link = root / expected[init]
        target = os.readlink(link)
        where = root / target.lstrip("/") if target.startswith("/") else link.parent / target
        assert where.is_file()
    if init == "busybox":
        lines = (root / "etc/inittab").read_text().splitlines()
        assert lines == [
            "# own",
            "::sysinit:/etc/rc",
            "::sysinit:/usr/local/sbin/nebula-context all",
            "tty1::respawn:/bin/sh",
        ]
    if init == "rc_local":
        assert (
            root / "etc/rc.local"
        ).read_text() == "#!/bin/sh -e\n# own\n/usr/local/sbin/nebula-context all\nexit 0\n"


def test_a_directory_that_is_no_system_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", str(PROGRAM), "--root", str(tmp_path), "install"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{tmp_path} is no system" in done.stderr


def test_shellcheck_has_nothing_to_say() -> None:
    done = subprocess.run(["shellcheck", "-s", "sh", str(PROGRAM)], capture_output=True, text=True, check=False)
    assert done.stdout == ""
