# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debian with nothing but its own cloud-init boots from each format of our ISO; what arrived is seen from inside."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.context import cloud_init_warnings as readers
from ansible_collections.nebula.provision.plugins.module_utils.context import iso9660, nocloud_and_configdrive
from ansible_collections.nebula.provision.plugins.module_utils.context.files_attribute import context_file
from ansible_collections.nebula.provision.plugins.module_utils.host.console.expected_guest import Wanted
from ansible_collections.nebula.provision.plugins.module_utils.host.console.guest_wait import Verdict, wait
from ansible_collections.nebula.provision.tests.integration.guests import cloud_init
from ansible_collections.nebula.provision.tests.integration.guests.qemu import running

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFAKEfakeFAKEfakeFAKEfakeFAKEfakeFAKEfakeFAKE test"
CRYPTED = "$6$salt$" + "x" * 86
# A line per fact. It runs in the guest as the user data that each datasource takes.
FACTS = """#!/bin/bash
say() { printf 'fact %s %s\\n' "$1" "$2" > /dev/console; }
say hostname "$(cat /proc/sys/kernel/hostname)"
say datasource "$(cat /var/lib/cloud/instance/datasource)"
say instance "$(cat /var/lib/cloud/data/instance-id)"
ip -o addr show scope global | while read -r line; do say address "$line"; done
ip -o route | while read -r line; do say route "$line"; done
ip -6 -o route | while read -r line; do say route6 "$line"; done
ip -o link | while read -r line; do say link "$line"; done
grep -h -e DNS= -e Domains= /etc/systemd/network/* | while read -r line; do say names "$line"; done
for file in /home/*/.ssh/authorized_keys; do
    while read -r line; do say key "$file $line"; done < "$file"
done
for user in debian admin; do say password "$(getent shadow $user | cut -d: -f1,2)"; done
say complaints "$(grep -c -i -e 'schema validation' -e 'failed to parse' -e 'unhandled' /var/log/cloud-init.log)"
cloud-init schema --system 2>&1 | while read -r line; do say schema "$line"; done
"""
CONTEXT = {
    "ETH0_DNS": "10.66.0.1",
    "ETH0_GATEWAY": "10.66.0.1",
    "ETH0_IP": "10.66.0.10",
    "ETH0_IP6": "2001:db8:66::10",
    "ETH0_MAC": "02:00:0a:42:00:0a",
    "ETH0_MASK": "255.255.0.0",
    "ETH0_MTU": "1400",
    "ETH0_SEARCH_DOMAIN": "example.org",
    "GREETING": "it's $HOME",
    "NETWORK": "YES",
    "SET_HOSTNAME": "web-0",
    "SSH_PUBLIC_KEY": KEY,
    "START_SCRIPT": "printf 'fact start-script %s\\n' \"$0\" > /dev/console\n",
    "USERDATA_ENCODING": "base64",
    "USER_DATA": base64.b64encode(FACTS.encode()).decode(),
}
INIT = "printf 'fact init.sh %s\\n' \"$GREETING\" > /dev/console\n"
BEYOND = {"ETH0_ROUTES": "10.67.0.0/16 via 10.66.0.2"}
VARIABLES: Mapping[str, dict[str, str]] = {
    "opennebula": CONTEXT,
    "configdrive": {**CONTEXT, **BEYOND, "PASSWORD": "correct horse"},
    "nocloud": {**CONTEXT, **BEYOND, "USERNAME": "admin", "CRYPTED_PASSWORD": CRYPTED},
}
# More would only share the processors of the smallest machine that this is to run on.
AT_ONCE = 2


@dataclass
class Guest:
    verdict: Verdict
    console: str = field(repr=False)

    def facts(self, about: str) -> list[str]:
        # The prompt of a login may stand before it.
        return re.findall(rf"\bfact {re.escape(about)} (.*?)\r?$", self.console, re.MULTILINE)


def boot(place: Path, format: str) -> Guest:
    init = place / "init.sh"
    init.write_text(INIT)
    iso = place / "seed.iso"
    iso9660.write_iso(str(iso), VARIABLES[format], [context_file(str(init))], format=format)
    image = cloud_init.image()
    kernel = ["-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", image.append]
    wanted = Wanted(7, "web-0", str(place / "console.log"), hostname="web-0", addresses=("10.66.0.10",))
    with running(place, image.disk, iso, memory=768, kernel=kernel) as machine:
        console = machine.wait_for(" finished at ", timeout=400)
        (verdict,) = wait([wanted], timeout=60)
        return Guest(verdict, console)


@pytest.fixture(scope="module")
def guests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Guest]:
    cloud_init.image()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        booting = {
            name: pool.submit(boot, tmp_path_factory.mktemp(name), name) for name in nocloud_and_configdrive.FORMATS
        }
        return {name: guest.result() for name, guest in booting.items()}


# What a NIC is told, and the routes that it has then.
ONE = {"ETH0_MAC": "02:00:0a:42:00:0a", "ETH0_IP": "10.66.0.10", "ETH0_GATEWAY": "10.66.0.1"}
SIX = {"ETH0_MAC": "02:00:0a:42:00:0a", "ETH0_IP6": "2001:db8:66::10", "ETH0_IP6_GATEWAY": "2001:db8:66::1"}
TO_ONE, TO_SIX = ("0.0.0.0/0", "10.66.0.1"), ("::/0", "2001:db8:66::1")
ROUTED = {
    "IPv4": (ONE, {TO_ONE}),
    "IPv6": (SIX, {TO_SIX}),
    "a router on the link": ({**SIX, "ETH0_IP6_GATEWAY": "fe80::1"}, {("::/0", "fe80::1")}),
    "both": ({**ONE, **SIX}, {TO_ONE, TO_SIX}),
    "metrics": ({**ONE, **SIX, "ETH0_METRIC": "5", "ETH0_IP6_METRIC": "6"}, {TO_ONE, TO_SIX}),
    "more": (
        {**ONE, **SIX, "ETH0_ROUTES": "10.67.0.0/16 via 10.66.0.2"},
        {TO_ONE, TO_SIX, ("10.67.0.0/16", "10.66.0.2")},
    ),
    "more of IPv6": (
        {**SIX, "ETH0_ROUTES": "2001:db8:77::/48 via 2001:db8:66::2"},
        {TO_SIX, ("2001:db8:77::/48", "2001:db8:66::2")},
    ),
}
DOCUMENTS = {"configdrive": "openstack/latest/network_data.json", "nocloud": "network-config"}
ROUTES = Path(__file__).parent / "guests/cloud_init_routes.py"


@pytest.mark.parametrize("format", sorted(DOCUMENTS))
@pytest.mark.parametrize("told", sorted(ROUTED))
def test_all_that_it_configures_has_the_same_routes(format: str, told: str) -> None:
    """Whichever program a distribution leaves the network to."""
    variables, wanted = ROUTED[told]
    _label, files = nocloud_and_configdrive.documents_of_iso(format, variables)
    done = subprocess.run(
        ["/usr/bin/python3", str(ROUTES), format],
        input=files[DOCUMENTS[format]].decode(),
        env={"PYTHONPATH": str(cloud_init.image().python), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) >= {"eni", "networkd", "sysconfig", "network_manager", "netplan"}
    for renderer, routes in found.items():
        assert not isinstance(routes, str), f"{renderer}: {routes}"
        assert {(to, gateway) for to, gateway, _metric in routes} == wanted, renderer


FORMATS = pytest.mark.parametrize("format", list(nocloud_and_configdrive.FORMATS))
pytestmark = pytest.mark.timeout(900)


@FORMATS
def test_it_is_believed(guests: dict[str, Guest], format: str) -> None:
    verdict = guests[format].verdict
    assert verdict.verified, verdict.error
    assert verdict.text == "cloud-init: web-0, 10.66.0.10, 2001:db8:66::10/64"


@FORMATS
def test_cloud_init_found_it_by_its_label(guests: dict[str, Guest], format: str) -> None:
    names = {"opennebula": "OpenNebula", "configdrive": "ConfigDrive", "nocloud": "NoCloud"}
    (datasource,) = guests[format].facts("datasource")
    assert datasource.startswith(f"DataSource{names[format]}:")
    assert "/dev/sr0" in datasource


@FORMATS
def test_name_and_network_arrive(guests: dict[str, Guest], format: str) -> None:
    guest = guests[format]
    assert guest.facts("hostname") == ["web-0"]
    addresses = " ".join(guest.facts("address"))
    assert " eth0 inet 10.66.0.10/16 " in re.sub(" +", " ", addresses)
    assert " eth0 inet6 2001:db8:66::10/64 " in re.sub(" +", " ", addresses)
    routes = "\n".join(guest.facts("route"))
    assert "default via 10.66.0.1 dev eth0" in routes
    assert ("10.67.0.0/16 via 10.66.0.2 dev eth0" in routes) == (format != "opennebula")
    assert any("eth0" in link and "mtu 1400" in link for link in guest.facts("link"))
    assert guest.facts("names") == ["DNS=10.66.0.1", "Domains=example.org"]


@FORMATS
def test_the_key_arrives(guests: dict[str, Guest], format: str) -> None:
    user = "admin" if "USERNAME" in VARIABLES[format] else "debian"
    assert guests[format].facts("key") == [f"/home/{user}/.ssh/authorized_keys {KEY}"]


def test_passwords_arrive(guests: dict[str, Guest]) -> None:
    passwords = {name: guest.facts("password") for name, guest in guests.items()}
    assert passwords["nocloud"][1] == f"admin:{CRYPTED}"
    assert re.match(r"debian:\$", passwords["configdrive"][0])
    assert not re.match(r"debian:\$", passwords["opennebula"][0])


@pytest.mark.parametrize("format", ["configdrive", "nocloud"])
def test_scripts_run(guests: dict[str, Guest], format: str) -> None:
    """Beside the user data, whose script tells all this; of OpenNebula's format cloud-init runs no other."""
    guest = guests[format]
    assert guest.facts("start-script") == ["/var/lib/cloud/instance/scripts/20-start-script.sh"]
    assert guest.facts("init.sh") == ["it's $HOME"]


@pytest.mark.parametrize("format", ["configdrive", "nocloud"])
def test_cloud_init_has_nothing_to_complain_of(guests: dict[str, Guest], format: str) -> None:
    guest = guests[format]
    assert guest.facts("schema") == ["Valid cloud-config: system userdata"]
    assert guest.facts("complaints") == ["0"]
    assert guest.facts("instance") == [str(uuid.UUID(*guest.facts("instance")))]


# -- OpenNebula's format, as cloud-init reads it -----------------------------------------------------------------------
READER = Path(__file__).parent / "guests/cloud_init_opennebula.py"
MACS = ("02:00:0a:42:00:0a", "02:00:c0:a8:46:96")
TWO = {
    "NETWORK": "YES",
    "ETH0_MAC": MACS[0],
    "ETH0_IP": "10.66.0.10",
    "ETH0_MASK": "255.255.0.0",
    "ETH0_GATEWAY": "10.66.0.1",
    "ETH1_MAC": MACS[1],
    "ETH1_IP": "192.168.70.150",
    "ETH1_IP6": "2001:db8::5",
}


def as_cloud_init_reads(place: Path, variables: Mapping[str, str]) -> dict[str, dict[str, object]]:
    """The configuration of each interface."""
    place.mkdir(exist_ok=True)
    _label, files = nocloud_and_configdrive.documents_of_iso("opennebula", variables)
    (place / "context.sh").write_bytes(files["context.sh"])
    done = subprocess.run(
        ["/usr/bin/python3", str(READER), str(place), *MACS],
        env={"PYTHONPATH": str(cloud_init.image().python), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout)["network"]["ethernets"])


@pytest.mark.parametrize(
    "more",
    [
        {"ETH1_METHOD": "dhcp"},
        {"ETH1_METHOD": "skip"},
        {"ETH1_IP6_METHOD": "auto"},
        {"ETH1_IP6_METHOD": "disable"},
        {"ETH0_METRIC": "5"},
        {"ETH1_IP6_METRIC": "5"},
        {"ETH0_ROUTES": "10.67.0.0/16 via 10.66.0.2"},
        {"ETH0_ALIAS0_IP": "10.66.0.11"},
        {"DNS": "192.0.2.53,192.0.2.54"},
        {"ETH1_DNS": "192.0.2.53, 192.0.2.54"},
        {"SEARCH_DOMAIN": "corp.example,example.org"},
        {"ETH0_SEARCH_DOMAIN": "own.example", "SEARCH_DOMAIN": "corp.example"},
        {"ETH1_MTU": "1400"},
        {"ETH1_IP6_PREFIX_LENGTH": "48"},
        {"ETH1_IP6_GATEWAY": "2001:db8::1"},
        {"ETH1_IP6_ULA": "fd00::5"},
    ],
    ids="+".join,
)
def test_what_cloud_init_takes_of_opennebulas_format(tmp_path: Path, more: dict[str, str]) -> None:
    """What readers.lost names changes nothing for it, and all the rest does."""
    written = readers.written_for_readers("opennebula", {**TWO, **more})
    found = as_cloud_init_reads(tmp_path, written)
    lost = readers.left_out_by_cloud_init("opennebula", written)
    assert set(lost) <= set(more)
    assert (found == as_cloud_init_reads(tmp_path, TWO)) == (lost == list(more))
    for name, key in (("DNS", "addresses"), ("SEARCH_DOMAIN", "search")):
        items = [
            item for given, value in more.items() if given.endswith(name) for item in value.replace(",", " ").split()
        ]
        nic = "eth1" if f"ETH1_{name}" in more else "eth0"
        if items:
            assert set(found[nic]["nameservers"][key]) == set(items)  # type: ignore[index]


def test_cloud_init_makes_up_an_address_where_there_is_none(tmp_path: Path) -> None:
    alone = {name: value for name, value in TWO.items() if name != "ETH1_IP"}
    assert readers.left_out_by_cloud_init("opennebula", alone) == [
        "ETH1_IP (there is none, and cloud-init takes one out of ETH1_MAC)"
    ]
    assert "192.168.70.150/24" in as_cloud_init_reads(tmp_path, alone)["eth1"]["addresses"]  # type: ignore[operator]
