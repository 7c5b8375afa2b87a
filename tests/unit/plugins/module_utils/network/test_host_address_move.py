# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an interface has of its host's, and what is refused; programs are stand-ins, but for the shell.
tests/integration/test_forced_phydev.py moves real addresses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, InUse, TimedOut
from ansible_collections.nebula.provision.plugins.module_utils.host import systemd_units
from ansible_collections.nebula.provision.plugins.module_utils.network import bridge_sysctls, host_address_move, nat
from ansible_collections.nebula.provision.plugins.module_utils.network.host_address_move import HostAddresses, Move
from ansible_collections.nebula.provision.plugins.module_utils.network.links import Link

ETH0 = Link("eth0", up=True, addresses=("192.0.2.1/24",), mac="02:00:00:00:00:09")
FOR_EVER = 4294967295
ADDRESSES = [
    {"family": "inet", "local": "192.0.2.1", "prefixlen": 24, "broadcast": "192.0.2.255", "scope": "global"},
    {"family": "inet", "local": "10.9.9.1", "address": "10.9.9.2", "prefixlen": 32, "scope": "link"},
    {"family": "inet6", "local": "2001:db8::1", "prefixlen": 64, "scope": "global", "noprefixroute": True},
    {"family": "inet6", "local": "fe80::1", "prefixlen": 64, "scope": "link"},
]
ROUTES4 = """192.0.2.0/24 proto 2 scope 253 src 192.0.2.1
default via 192.0.2.254 proto 16 metric 5 linkdown
203.0.113.9 proto 4 scope 253
2 192.0.2.1 table 255 proto 2 scope 254 src 192.0.2.1
"""
ROUTES6 = "default via fe80::99 metric 1024 pref medium\nfe80::/64 proto 2 metric 256 pref medium\n"


@pytest.fixture
def host(programs, monkeypatch, tmp_path):
    """What `ip` says of eth0, by its arguments."""
    answers = {
        "-json address show dev eth0": json.dumps([{"addr_info": ADDRESSES}]),
        "-4 -N route show table all dev eth0": ROUTES4,
        "-6 -N route show table all dev eth0": ROUTES6,
        "-json -4 route show table all": json.dumps([{"dst": "default", "gateway": "192.0.2.254", "dev": "eth0"}]),
        "-json -6 route show table all": "[]",
        "-4 -json rule show": json.dumps([{"priority": 0, "src": "all", "table": "local"}]),
        "-6 -json rule show": "[]",
    }

    def answer(**changed):
        for words, text in {**answers, **changed}.items():
            programs.answer("ip", words, text)

    answer()
    monkeypatch.setattr(host_address_move, "PLACE", str(tmp_path / "moves"))
    monkeypatch.setattr(host_address_move, "_manager", lambda name: "")
    return answer


def test_what_the_kernel_makes_by_itself_is_nothing_of_the_hosts(host):
    found = host_address_move.observe("eth0")
    assert found == HostAddresses(
        (
            "192.0.2.1/24 broadcast 192.0.2.255",
            "10.9.9.1 peer 10.9.9.2/32 scope link",
            "2001:db8::1/64 noprefixroute nodad",
        ),
        ("default via 192.0.2.254 proto 16 metric 5", "203.0.113.9 proto 4 scope 253"),
        ("default via fe80::99 metric 1024 pref medium",),
    )
    assert dict(found.routed("nbr0")) == {
        # A gateway is reached by what comes before it.
        "-4": [
            "route replace 203.0.113.9 proto 4 scope 253 dev nbr0",
            "route replace default via 192.0.2.254 proto 16 metric 5 dev nbr0",
        ],
        "-6": ["route replace default via fe80::99 metric 1024 pref medium dev nbr0"],
    }
    assert found.address_lines("nbr0", taken=True)[0] == "address delete 192.0.2.1/24 dev nbr0"


@pytest.mark.parametrize(
    ("words", "text", "error", "part"),
    [
        (
            "-json address show dev eth0",
            json.dumps([{"addr_info": [{**ADDRESSES[0], "dynamic": True, "valid_life_time": 900}]}]),
            Conflict,
            "192.0.2.1/24 for a while only",
        ),
        (
            "-6 -N route show table all dev eth0",
            "default via fe80::99 proto 9 metric 1024 expires 1799sec pref medium",
            Conflict,
            "which a router announced for a while",
        ),
        (
            "-json -4 route show table all",
            json.dumps([{"dst": "default", "nexthops": [{"dev": "eth0"}, {"dev": "eth1"}]}]),
            Conflict,
            "on device eth0,eth1",
        ),
        (
            "-4 -json rule show",
            json.dumps([{"priority": 7, "src": "all", "iif": "eth0", "table": "33"}]),
            Conflict,
            "a rule with priority 7 of eth0",
        ),
    ],
)
def test_what_would_not_stay_or_be_lost_is_refused(host, words, text, error, part):
    host_address_move.refuse("network Lan: eth0", ETH0, {"eth0": ETH0})
    host(**{words: text})
    with pytest.raises(error) as raised:
        host_address_move.refuse("network Lan: eth0", ETH0, {"eth0": ETH0})
    assert part in str(raised.value) and "network Lan: eth0: phydev_forced" in str(raised.value)


def test_who_manages_the_interface_would_give_it_its_addresses_again(host, monkeypatch):
    monkeypatch.setattr(host_address_move, "_manager", lambda name: "systemd-networkd")
    with pytest.raises(Conflict, match="systemd-networkd manages eth0"):
        host_address_move.refuse("network Lan: eth0", ETH0, {"eth0": ETH0})


def test_tunnels_send_from_its_addresses(host):
    tunnel = Link("eth0.7", "vxlan", parent="eth0")
    with pytest.raises(InUse, match=r"eth0\.7 sends from its addresses"):
        host_address_move.refuse("network Lan: eth0", ETH0, {"eth0": ETH0, "eth0.7": tunnel})


@pytest.fixture
def started(host, monkeypatch):
    """What is run but `ip`, as if systemd were there."""
    found = []
    real = host_address_move.run

    def run(argv, **options):
        if argv[0] == "ip":
            return real(argv, **options)
        found.append(list(argv))
        return None

    monkeypatch.setattr(host_address_move, "run", run)
    monkeypatch.setattr(systemd_units, "has_systemd", lambda: True)
    monkeypatch.setattr(bridge_sysctls, "observe", lambda name: {"ipv6/accept_ra": "1", "ipv4/arp_ignore": "0"})
    return found


def test_systemd_keeps_the_program_beyond_the_session(started):
    move = Move(ETH0, "nbr0", None)
    move.arm(nat.Table("5d2c7a0e-4b1f-4c56-9a3e-0f6f5b0b7c11"))
    (argv,) = started
    assert argv[:4] == ["systemd-run", "--quiet", "--collect", "--unit=nebula-move-nbr0"]
    assert argv[4:] == ["/bin/sh", f"{move.directory}/back.sh", move.directory, "60"]
    # Machines on the bridge give the host no routes.
    assert move.settings == {"ipv6/accept_ra": "0", "ipv4/arp_ignore": "0"}
    back = Path(move.directory, "links").read_text().splitlines()
    assert back[0] == "address delete 192.0.2.1/24 dev nbr0" and back[-1] == "link delete dev nbr0 type bridge"
    assert Path(move.directory, "rules").read_text() == (
        "add table inet nebula_5d2c7a0e\ndelete table inet nebula_5d2c7a0e\n"
    )
    assert os.stat(move.directory).st_mode & 0o777 == 0o700


def test_a_bridge_that_was_there_is_put_back_as_it_was(started):
    former = Link("nbr0", "bridge", "nebula:c:n", mac="06:00:00:00:00:01", settings={"ipv4/arp_ignore": "8"})
    move = Move(ETH0, "nbr0", former)
    move.arm(nat.Table("5d2c7a0e-4b1f-4c56-9a3e-0f6f5b0b7c11"))
    assert Path(move.directory, "links").read_text().splitlines()[-1] == (
        "link set dev nbr0 address 06:00:00:00:00:01 alias nebula:c:n"
    )
    assert Path(move.directory, "settings").read_text() == "ipv4/conf/nbr0/arp_ignore 8\n"


@pytest.mark.root
def test_whoever_looks_at_the_program_is_not_the_program(host):
    directory = Path(host_address_move.PLACE, "nbr0")
    directory.mkdir(parents=True)
    (directory / "back.sh").write_text(host_address_move.PROGRAM)
    waits = "import sys; print(flush=True); sys.stdin.read()"
    argv = [sys.executable, "-c", waits, directory / "back.sh", directory, "60"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert not host_address_move._is_running(str(directory))
        host_address_move._refuse_pending("nbr0")
        process.stdin.close()


def test_the_word_that_comes_first_is_the_last(host, tmp_path):
    directory = Path(host_address_move.PLACE, "nbr0")
    directory.mkdir(parents=True)
    (directory / "back.sh").write_text(host_address_move.PROGRAM)
    process = subprocess.Popen(["/bin/sh", directory / "back.sh", directory, "60"])
    try:
        # The kernel shows its arguments a moment after it was started.
        end = time.monotonic() + 30
        while not host_address_move._is_running(str(directory)) and time.monotonic() < end:
            time.sleep(0.01)
        # While it waits, nobody begins another.
        with pytest.raises(InUse, match="another run has just done so"):
            host_address_move._refuse_pending("nbr0")
        # Its parent, which is this test, sees to it that it does not stay as a zombie.
        host_address_move.confirm("nbr0")
    finally:
        process.kill()
        process.wait()
    assert not directory.exists()
    with pytest.raises(TimedOut, match="no second word came within 60 s"):
        host_address_move.confirm("nbr0")
