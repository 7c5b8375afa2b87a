# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real guests are believed, or not, for what they themselves say. Those of cloud-init are in test_cloud_init.py."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from in_world import in_bare_world, in_world

from ansible_collections.nebula.provision.plugins.module_utils.host.console.console_log import NAME, mark_start
from ansible_collections.nebula.provision.plugins.module_utils.host.console.expected_guest import Wanted
from ansible_collections.nebula.provision.plugins.module_utils.host.console.guest_wait import wait
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os, Vm
from ansible_collections.nebula.provision.plugins.module_utils.network.address_probe import Presence, Target
from ansible_collections.nebula.provision.plugins.modules import nebula_verify
from ansible_collections.nebula.provision.tests.integration.guests import demo
from ansible_collections.nebula.provision.tests.integration.guests.qemu import context_iso, running
from ansible_collections.nebula.provision.tests.integration.kvm_node import Node, a_node, wait_for

CONTEXT = {
    "ETH0_DNS": "10.66.0.1",
    "ETH0_GATEWAY": "10.66.0.1",
    "ETH0_IP": "10.66.0.10",
    "ETH0_MAC": "02:00:0a:42:00:0a",
    "ETH0_MASK": "255.255.255.0",
    "NETWORK": "YES",
    "SET_HOSTNAME": "web-0",
    "SSH_PUBLIC_KEY": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFAKEfakeFAKEfakeFAKEfakeFAKEfakeFAKEfakeFAKE test",
}


def wanted(place: Path, hostname: str = "web-0") -> Wanted:
    return Wanted(7, "web-0", str(place / "console.log"), hostname=hostname, addresses=("10.66.0.10",))


def test_the_contextualised_demo_guest_is_believed(tmp_path: Path) -> None:
    iso = context_iso(tmp_path / "context.iso", CONTEXT)
    with running(tmp_path, demo.image(), iso):
        (verdict,) = wait([wanted(tmp_path)], timeout=60)
    assert verdict.verified, verdict.error
    assert (verdict.evidence, verdict.text) == ("console", "nebula-guest: web-0, 10.66.0.10/24")


def test_a_guest_that_ignores_its_iso_is_not(tmp_path: Path) -> None:
    iso = context_iso(tmp_path / "context.iso", CONTEXT)
    with running(tmp_path, demo.ignoring_image(), iso) as guest:
        guest.wait_for("plain login:")
        (verdict,) = wait([wanted(tmp_path)], timeout=1)
        assert verdict.missing == ("hostname web-0 (it says plain)", "address 10.66.0.10 (none said)")
        assert "All services started." in verdict.last_lines
        assert "plain login:" in str(verdict.error)
        # Its prompt is believed where it has the name that is wanted, and is no report of its context.
        machine = wanted(tmp_path, hostname="plain")
        assert wait([machine], timeout=0)[0].evidence == "login"
        assert not wait([replace(machine, by=("console",))], timeout=0)[0].verified


DOMAIN = """<domain type="qemu"><name>one-7</name><memory unit="MiB">128</memory>
<os><type arch="x86_64" machine="q35">hvm</type></os><features><acpi/></features>
<devices><disk type="file" device="disk"><driver name="qemu" type="qcow2"/><source file="{place}/disk.0"/>
<target dev="vda" bus="virtio"/></disk>
<disk type="file" device="cdrom"><driver name="qemu" type="raw"/><source file="{place}/disk.1"/>
<target dev="sda" bus="scsi"/><readonly/></disk><controller type="scsi" index="0" model="virtio-scsi"/>
<serial type="pty"><log file="{place}/console.log" append="on"/></serial></devices></domain>"""
# More than virtlogd keeps in one file.
FLOOD = "yes 0123456789abcdefghijklmnopqrstuvwxyz0123456789 | head -c 2300000"


@in_world
def test_a_console_that_virtlogd_rotates_and_goes_on_with_is_followed() -> None:
    import libvirt

    place = Path(os.environ["NEBULA_WORLD"], "verify")
    place.mkdir(mode=0o711)
    shutil.copy(demo.image(), place / "disk.0")
    context_iso(place / "disk.1", {"SET_HOSTNAME": "web-0", "START_SCRIPT": FLOOD})
    subprocess.run(["chmod", "0666", str(place / "disk.0"), str(place / "disk.1")], check=True)
    log = place / NAME
    machine = Wanted(7, "web-0", str(log), hostname="web-0")
    connection = libvirt.open("qemu:///system")
    try:
        domain = connection.defineXML(DOMAIN.format(place=place))
        domain.create()
        (verdict,) = wait([machine], timeout=120)
        assert verdict.verified, verdict.error
        assert Path(f"{log}.0").stat().st_size > 2_000_000
        # Read anew, the boot lies in the rotated file.
        assert wait([machine], timeout=30)[0].verified
        # Killed and started again, the log goes on: what it says of the first start is not believed of the second.
        domain.destroy()
        context_iso(place / "disk.1", {"SET_HOSTNAME": "web-0"})
        mark_start(str(log))
        domain.create()
        assert not wait([machine], timeout=0)[0].verified
        (verdict,) = wait([machine], timeout=120)
        assert verdict.verified, verdict.error
    finally:
        for left in connection.listAllDomains():
            if left.isActive():
                left.destroy()
            left.undefine()
        connection.close()
        shutil.rmtree(place)


# -- strangers' guests ------------------------------------------------------------------------------------------------
BRIDGE = "nbrverify"


@contextlib.contextmanager
def a_bridge(*addresses: str) -> Iterator[None]:
    """addresses: the node's own there."""
    sh("ip", "link", "add", BRIDGE, "type", "bridge", "stp_state", "0", "forward_delay", "0")
    try:
        sh("sysctl", "-qw", f"net.ipv6.conf.{BRIDGE}.disable_ipv6=1")
        for address in addresses:
            sh("ip", "address", "add", address, "dev", BRIDGE)
        sh("ip", "link", "set", BRIDGE, "up")
        yield
    finally:
        sh("ip", "link", "delete", BRIDGE)


def sh(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def mac(number: int) -> str:
    return f"02:00:0a:42:00:{number:02x}"


def guest(node: Node, number: int, **changes: Any) -> Vm:
    nic = Nic(0, 0, "net", BRIDGE, mac(number), f"10.66.0.{number}", ip6=f"fd00:66::{number}", target=f"one-{number}-0")
    return node.vm(number, **{"nics": (nic,), **changes})


def stranger(node: Node, number: int, words: str) -> Vm:
    """words: what it does, on its kernel's command line."""
    command = f"{demo.STRANGERS_COMMAND_LINE} {words}"
    start = Os(machine="pc", kernel=f"{node.root}/kernel", initrd=f"{node.root}/initrd", kernel_cmd=command)
    return guest(node, number, memory=96, os=start)


def record(node: Node, vm: Vm, hostname: str = "", addresses: Sequence[str] | None = None) -> dict[str, Any]:
    """As role vm leaves it."""
    nics = [{"bridge": nic.bridge, "mac": nic.mac, "ip": nic.ip, "ip6": nic.ip6, "ip6_ula": ""} for nic in vm.nics]
    return {
        "id": vm.vm_id,
        "name": vm.name,
        "uuid": vm.uuid,
        "hypervisor": "kvm",
        "console": str(node.directory(vm) / NAME),
        "hostname": hostname or vm.name,
        "addresses": [nic.ip for nic in vm.nics] if addresses is None else list(addresses),
        "nics": nics,
    }


def attacks() -> bool:
    """Whether the attacker answers by now."""
    presence = Presence([target(11, mac(11), "10.66.0.12")])
    try:
        asked(presence, {11}, 1.0)
        return bool(presence.evidence(11))
    finally:
        presence.close()


def verified(records: Sequence[dict[str, Any]], timeout: int, **options: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """The module's machines and errors."""
    given = {"pattern": "", "patterns": {}, "by": ["console", "login", "agent", "address"], "_progress_file": None}
    result = nebula_verify.call.run({"vms": json.dumps(records), "timeout": timeout, **given, **options}, False)
    return result.payload["vms"], [str(item.error) for item in result.errors]


def test_strangers_are_believed_for_their_address_or_their_prompt() -> None:
    strangers(parts={name: str(path) for name, path in demo.stranger().items()})


@in_world
def strangers(parts: dict[str, str]) -> None:
    with a_node() as node, a_bridge():
        # Where QEMU's user may read them.
        for name, path in parts.items():
            os.chmod(shutil.copy(path, f"{node.root}/{name}"), 0o444)
        # Whoever boots from the disk halts at once, and says nothing.
        halting = Path(node.root, "halting.raw")
        halting.write_bytes((b"\xfa\xf4\xeb\xfd".ljust(510, b"\0") + b"\x55\xaa").ljust(1 << 20, b"\0"))
        os.unlink(node.base)
        sh("qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(halting), node.base)
        os.chmod(node.base, 0o444)
        silent = stranger(node, 10, "ip.address=10.66.0.10/24 ip.address=fd00:66::10/64")
        # It has another's address, too.
        attacker = stranger(node, 11, "my.name=web-11 ip.address=10.66.0.12/24")
        mute = guest(node, 12)
        errors = [outcome.error for outcome in node.bring(silent, attacker, mute)]
        assert errors == [None] * 3, errors
        good = [record(node, silent, addresses=["10.66.0.10", "fd00:66::10"]), record(node, attacker)]
        vms, errors = verified(good, 120)
        assert errors == []
        assert [vm["evidence"] for vm in vms] == ["address", "login"]
        assert vms[0]["said"] == f"address: 10.66.0.10 of {mac(10)}, fd00:66::10 of {mac(10)}"
        assert vms[1]["said"] == "login: web-11"
        assert (node.directory(silent) / NAME).read_bytes() == b""
        wait_for(attacks, "the attacker to be up")

        vms, (error,) = verified([record(node, mute)], 3)
        assert vms[0]["evidence"] == ""
        said = f"10.66.0.12 on {BRIDGE} is answered for by {mac(11)}, and the machine's is {mac(12)}"
        assert vms[0]["tried"]["address"] == said
        for part in (
            "VM 12 (web-12): its guest is up and contextualised: nothing said so within ",
            "console: missing hostname web-12 (none said); address 10.66.0.12 (none said); ",
            "login: no prompt web-12 login:; ",
            "agent: Guest agent is not responding: QEMU guest agent is not connected; ",
            f"address: {said}. ",
            *("nebula_verify_pattern ", "nebula_verify_by", "nebula_verify: false", "console.log is empty"),
        ):
            assert part in error, error
        assert len(verified(good, 0, by=["console"])[1]) == 2, "neither says anything else there"
        # What was on the console before the machine was started anew is of nobody.
        mark_start(str(node.directory(attacker) / NAME))
        assert verified([record(node, attacker)], 0)[1] != []
        for vm in (silent, attacker, mute):
            assert node.one(vm, "DONE", hard=True).error is None


# -- addresses, asked of hosts in namespaces --------------------------------------------------------------------------
@contextlib.contextmanager
def hosts(*addresses: str) -> Iterator[list[str]]:
    """Hosts on the bridge, each with one of these addresses; their MAC addresses."""
    made = []
    try:
        for number, address in enumerate(addresses):
            name = f"host{number}"
            sh("ip", "netns", "add", name)
            made.append(name)
            sh("ip", "link", "add", f"port{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
            sh("ip", "link", "set", f"port{number}", "master", BRIDGE, "up")
            sh("ip", "-n", name, "link", "set", "eth0", "address", mac(100 + number))
            sh("ip", "-n", name, "address", "add", address, "dev", "eth0")
            sh("ip", "-n", name, "link", "set", "eth0", "up")
        yield [mac(100 + number) for number in range(len(made))]
    finally:
        for number, name in enumerate(made):
            # By itself a pair goes some time after its namespace.
            subprocess.run(["ip", "link", "delete", f"port{number}"], check=False, capture_output=True)
            sh("ip", "netns", "delete", name)


def asked(presence: Presence, vm_ids: set[int], until: float = 20.0, start: float = 0.0) -> None:
    """Looks, 0.05 s apart, until all of these are believed or the time is over. start: what the first look is told."""
    began = time.monotonic()
    while time.monotonic() - began < until and not all(presence.evidence(vm_id) for vm_id in vm_ids):
        presence.look(vm_ids | {22, 23}, start + time.monotonic() - began)
        time.sleep(0.05)


def target(vm_id: int, hardware: str, address: str) -> Target:
    return Target(vm_id, BRIDGE, hardware, ip_address(address))


@pytest.mark.parametrize("own", [[], ["10.66.0.1/24"]])
@in_bare_world
def test_the_node_needs_no_address_to_ask(own: list[str]) -> None:
    with a_bridge(*own), hosts("10.66.0.20/24", "fd00:66::21/64", "10.66.0.22/24") as macs:
        presence = Presence([
            target(20, macs[0], "10.66.0.20"),
            # Its address is tentative at first: it has to survive being asked for meanwhile.
            target(21, macs[1], "fd00:66::21"),
            target(22, mac(1), "10.66.0.22"),
            target(23, mac(2), "10.66.0.23"),
        ])  # fmt: skip
        asked(presence, {20, 21})
        assert [bool(presence.evidence(vm_id)) for vm_id in (20, 21, 22, 23)] == [True, True, False, False]
        assert (
            presence.found(22) == f"10.66.0.22 on {BRIDGE} is answered for by {macs[2]}, and the machine's is {mac(1)}"
        )
        assert presence.found(23) == f"nobody answers for 10.66.0.23 on {BRIDGE}"
        presence.close()
        assert "dadfailed" not in sh("ip", "-n", "host1", "address", "show", "dev", "eth0")
        # Nothing of the questions is left on the node.
        shown = sh("ip", "-4", "-o", "address", "show", "dev", BRIDGE).split()
        assert [word for word in shown if "/" in word] == own


@in_bare_world
def test_a_host_that_answers_nobody_whom_it_has_no_way_to_is_asked_without_an_asker() -> None:
    with a_bridge(), hosts("10.66.0.30/24") as macs:
        sh("ip", "netns", "exec", "host0", "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1")
        presence = Presence([target(30, macs[0], "10.66.0.30")])
        asked(presence, {30}, 0.3)
        assert presence.evidence(30) == ""
        asked(presence, {30}, start=10.0)
        assert presence.evidence(30)
        presence.close()
