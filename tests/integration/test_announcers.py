# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nftables drops of a machine that announces itself as a router, at the interface that a switch has of it. The
switch is a Linux bridge here, which as Open vSwitch's datapath of the kernel has a packet after that."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from frames import Cable, advertisement, behind, datagram, destination_options, ip6_parts, llc
from in_world import in_bare_world

from ansible_collections.nebula.provision.plugins.module_utils.calls import node_network
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.nic_filters import NicFilters
from ansible_collections.nebula.provision.plugins.module_utils.model import ethertypes
from ansible_collections.nebula.provision.plugins.module_utils.model.nic_filter_rules import Guard
from ansible_collections.nebula.provision.plugins.module_utils.model.nic_filter_rules import pack as packed_guards
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan, VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.network import nat
from ansible_collections.nebula.provision.plugins.module_utils.network.nic_filter import link_local
from ansible_collections.nebula.provision.plugins.module_utils.network.router_advertisements import (
    Announcers,
    desired_chains,
)

CATALOG = "0b1c2d3e-0000-4000-8000-000000000001"
MACS = {1: "02:00:0a:42:00:0a", 2: "02:00:0a:42:00:0b"}
PREFIX = "2001:db8:bad::"


def of(number: int, filter_ip: bool = True) -> Guard:
    addresses = (f"10.0.0.{number}", f"2001:db8::{number}")
    return Guard(
        number, 0, f"one-{number}-0", MACS[number], addresses, filter_mac=True, filter_ip=filter_ip, on_ovn=True
    )


@contextlib.contextmanager
def plugged(number: int) -> Iterator[Cable]:
    cable = Cable(f"one-{number}-0")
    try:
        subprocess.run(["ip", "link", "set", cable.device, "master", "br0"], check=True)
        # A port forwards nothing before the bridge has seen that it has a carrier.
        argv = ["bridge", "-d", "link", "show", "dev", cable.device]
        for _try in range(200):
            if "state forwarding" in subprocess.run(argv, check=True, capture_output=True, text=True).stdout:
                break
        yield cable
    finally:
        cable.close()


@contextlib.contextmanager
def bridge() -> Iterator[None]:
    subprocess.run(["ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0"], check=True)
    subprocess.run(["ip", "link", "set", "br0", "up"], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "link", "del", "br0"], check=True)


def heard(sender: Cable, receiver: Cable, *announced: bytes) -> bool:
    """Whether an announcement is, the first of these frames, which come before something that is."""
    macs, addresses = (MACS[1], MACS[2]), ("2001:db8::1", "2001:db8::2")
    frames = announced or (advertisement(MACS[1], link_local(MACS[1]), PREFIX),)
    for frame in frames:
        sender.send(frame)
    sender.send(datagram(macs, addresses, (5000, 5001), b"honest"))
    found: list[bool] = []

    def last(frame: bytes) -> bool:
        found.append(frame.startswith(frames[0].rstrip(b"\0")))
        return b"honest" in frame

    receiver.hear(last)
    return any(found)


def tables() -> str:
    return subprocess.run(["nft", "list", "ruleset", "netdev"], capture_output=True, text=True, check=True).stdout


@in_bare_world
def test_an_announcement_is_dropped_whatever_becomes_of_the_interface() -> None:
    with tempfile.TemporaryDirectory() as place, bridge(), plugged(2) as two:
        announcers = Announcers(place, CATALOG)
        with plugged(1) as one:
            assert heard(one, two)
            assert announcers.ensure(desired_chains([of(1)], CATALOG), ()) == (True, [])
            assert not heard(one, two)
            assert announcers.ensure(desired_chains([of(1)], CATALOG), ()) == (False, [])
            # Somebody has flushed it.
            subprocess.run(["nft", "flush", "table", "netdev", nat.table_name(CATALOG)], check=True)
            assert heard(one, two)
            assert announcers.ensure(desired_chains([of(1)], CATALOG), ()) == (True, [])
            assert not heard(one, two)
        # As after the machine was started again; udev does this where it is.
        with plugged(1) as one:
            subprocess.run(["nft", "-f", str(Path(place, "announcers", "one-1-0"))], check=True)
            assert not heard(one, two)
            # One that is a router itself.
            assert announcers.ensure(desired_chains([of(1, filter_ip=False)], CATALOG), ()) == (True, [])
            assert heard(one, two)
        assert nat.table_name(CATALOG) not in tables()


def disguised() -> dict[str, list[bytes]]:
    """The announcement as Open vSwitch or a machine reads it, and a rule for it alone does not."""
    whole = advertisement(MACS[1], link_local(MACS[1]), PREFIX)
    return {
        "SNAP": [llc(whole)],
        "LLC": [llc(whole, snap=False)],
        "a tag": [behind(whole, (0x8100, b"\0\5"))],
        "one part": ip6_parts(whole),
        "two parts": ip6_parts(whole, 24),
        "the first with options alone": ip6_parts(whole, 8, first=destination_options(58)),
        "the first with half of the options": ip6_parts(whole, 8, first=destination_options(58, 24)),
    }


@in_bare_world
def test_an_announcement_is_dropped_in_parts_and_in_other_frames_too() -> None:
    honest = datagram((MACS[1], MACS[2]), ("2001:db8::1", "2001:db8::2"), (5000, 5002), b"y" * 60)
    four = datagram((MACS[1], MACS[2]), ("10.0.0.1", "10.0.0.2"), (5000, 5002), b"y" * 60)
    with tempfile.TemporaryDirectory() as place, bridge(), plugged(2) as two, plugged(1) as one:
        announcers = Announcers(place, CATALOG)
        assert all(heard(one, two, *frames) for frames in disguised().values())
        # As an earlier version made it.
        before = dict(desired_chains([of(1)], CATALOG))
        assert announcers.ensure(before, ()) == (True, [])
        table = nat.table_name(CATALOG)
        subprocess.run(["nft", "flush", "chain", "netdev", table, "nic_1_0"], check=True)
        rule = ["icmpv6", "type", "nd-router-advert", "drop"]
        subprocess.run(["nft", "add", "rule", "netdev", table, "nic_1_0", *rule], check=True)
        passing = {what for what, frames in disguised().items() if heard(one, two, *frames)}
        assert passing == {"SNAP", "LLC", "the first with options alone", "the first with half of the options"}
        assert announcers.ensure(desired_chains([of(1)], CATALOG), ()) == (True, [])
        assert announcers.ensure(desired_chains([of(1)], CATALOG), ()) == (False, [])
        assert [what for what, frames in disguised().items() if heard(one, two, *frames)] == []
        for frame in (honest, four, *ip6_parts(honest, 40), *ip6_parts(honest, 24, first=destination_options(17))):
            assert heard(one, two, frame)
        # What the network names besides passes, as it is.
        named = replace(of(1), ethertypes=ethertypes.read("pppoe llc", ""))
        assert announcers.ensure(desired_chains([named], CATALOG), ()) == (True, [])
        assert announcers.ensure(desired_chains([named], CATALOG), ()) == (False, [])
        passing = [what for what, frames in disguised().items() if heard(one, two, *frames)]
        assert passing == ["SNAP", "LLC"]
        assert not heard(one, two)
        assert announcers.ensure({}, ()) == (True, []) and nat.table_name(CATALOG) not in tables()


@in_bare_world
def test_the_network_s_own_run_mends_it_and_takes_it_away() -> None:
    with tempfile.TemporaryDirectory() as place, bridge(), plugged(2) as two:

        def done(state: str = "present", check_mode: bool = False, silent: bool = True) -> list[str]:
            params = {
                "state": state,
                "networks": [],
                "guards": packed_guards([of(1, silent)], [1]),
                "catalog": CATALOG,
                "root": place,
                "node": False,
                "ignore_forward_drop": False,
                "known": None,
                "moved": [],
                "as_of": time.time(),
            }
            found = node_network.run(params, check_mode)
            assert not any(item.error for item in found.items) and not found.warnings
            return [item.name for item in found.items if item.is_changed]

        with plugged(1) as one:
            (what,) = done(check_mode=True)
            assert heard(one, two)
            assert done() == [what] and not heard(one, two)
            assert done() == done(check_mode=True) == []
            subprocess.run(["nft", "delete", "table", "netdev", nat.table_name(CATALOG)], check=True)
            assert done(check_mode=True) == [what] and heard(one, two)
            assert done() == [what] and not heard(one, two)
            assert done(silent=False) == [what] and heard(one, two)
            assert done() == [what]
            # As long as machines are there.
            assert done("absent") == [] and not heard(one, two)
        assert done("absent") == [what]
        assert os.listdir(place) == [] and nat.table_name(CATALOG) not in tables()


@in_bare_world
def test_a_plan_has_its_machines_silent_from_their_start_to_their_end() -> None:
    def work(number: int, *wanted: Guard) -> NicFilters:
        return NicFilters(
            Plan(CATALOG, number, "node", machines=(1, 2), guards=wanted, guarded_at=float(number)), place
        )

    with tempfile.TemporaryDirectory() as place, bridge(), plugged(2) as two:
        started = work(1, of(1), of(2))
        started.begin()
        with plugged(1) as one:
            started.end([])
            assert not heard(one, two)
            # What is done with other machines changes nothing of this one.
            work(2, of(1), of(2)).begin()
            work(2, of(1), of(2)).end([])
            assert not heard(one, two)
        work(3, of(2)).end([VmOutcome(1, 1, "DONE", True, None)])
        assert set(Announcers(place, CATALOG).found()) == {"one-2-0", "one-2-0-emu"}
        work(4).end([VmOutcome(2, 1, "DONE", True, None)])
        assert Announcers(place, CATALOG).found() == {} and nat.table_name(CATALOG) not in tables()
