# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node's networks are made anew from when its host boots: the real module, then the real script over what it
left, with the real `ip` and `nft`, in a network namespace that has lost everything. Whether systemd runs it in time is
for the scenario `stock`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.host import systemd_units
from ansible_collections.nebula.provision.plugins.module_utils.network.networks_at_boot import Boot
from ansible_collections.nebula.provision.tests.integration.test_node_network import (
    CATALOG,
    TABLE,
    WITH_NAT,
    elsewhere,
    network,
)

OTHER_CATALOG = "11111111-2222-3333-4444-555555555555"
pytestmark = pytest.mark.root
# systemd is left out: what lies below the node's root is the same without it.
KEEP = """
import sys
from ansible_collections.nebula.provision.plugins.module_utils.network import links, networks_at_boot
kept = networks_at_boot.Boot(sys.argv[1], sys.argv[2])
kept.write(networks_at_boot.desired_files(sys.argv[2], links.observe()))
"""


class Files:
    def __init__(self, node, root: Path) -> None:
        self.node, self.root = node, root
        self.place = root / "boot" / CATALOG

    def keep(self) -> dict[str, str]:
        self.node.python(KEEP, str(self.root), CATALOG)
        return {path.name: path.read_text() for path in self.place.iterdir()}

    def boot(self) -> subprocess.CompletedProcess[str]:
        """As the unit's ExecStart says."""
        argv = self.node.command("/bin/sh", str(self.place / "networks.sh"), str(self.place), CATALOG, TABLE)
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)

    def lose_everything(self, forwarding: int = 0) -> None:
        for name in ("nbr0", "nbr1"):
            self.node.run("ip", "link", "delete", name, check=False)
        self.node.run("nft", "flush", "ruleset")
        self.node.forwarding(forwarding)


@pytest.fixture
def files(node, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    return Files(node, tmp_path / "with blank, $dollar and % percent")


def listed(node) -> str:
    return node.run("nft", "--stateless", "list", "ruleset")


@pytest.mark.parametrize("forwarding", [0, 1])
def test_all_comes_back_and_nothing_is_left_to_do(node, files, forwarding):
    both = [WITH_NAT, elsewhere(nat=True), network("Quiet", 3, "nbr2", attributes={}, address_ranges=[])]
    node.ok(*both)
    before = node.snapshot()
    kept = files.keep()
    files.lose_everything(forwarding)
    node.run("ip", "link", "delete", "nbr2")
    done = files.boot()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(node.snapshot()[0]) == sorted(before[0])
    assert node.forwarding() == "1"
    assert not node.ok(*both)["changed"]
    assert files.keep() == {**kept}
    # What forwarding was when the host booted is what it is after a teardown.
    node.ok(state="absent")
    assert (node.forwarding(), listed(node)) == (str(forwarding), "")


def test_what_joins_nodes_comes_back_too(node, files):
    for eth in ("eth1", "eth2"):
        node.run("ip", "link", "add", eth, "type", "veth", "peer", "name", f"{eth}-other")
    node.run("ip", "address", "add", "192.0.2.1/24", "dev", "eth2")
    node.run("ip", "link", "set", "eth2", "up")
    overlay = {"PHYDEV": "eth2", "VLAN_ID": "7", "GUEST_MTU": "1450"}
    both = [
        network(bridge="nbr0", attributes={"PHYDEV": "eth1"}),
        network("Overlay", 2, "nbr1", vn_mad="vxlan", attributes=overlay, address_ranges=[]),
    ]
    node.ok(*both)
    before = node.snapshot()
    kept = files.keep()
    files.lose_everything()
    node.run("ip", "link", "delete", "eth2.7")
    node.run("sh", "-c", "echo 20 >/proc/sys/net/ipv4/igmp_max_memberships")
    done = files.boot()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    # The device itself has an address of its own each time, which nobody sees.
    came, were = (
        sorted(str(link) for link in links if link[0] != "eth2.7") for links in (node.snapshot()[0], before[0])
    )
    assert came == were
    assert node.link("eth2.7")["mtu"] == 1450 and node.run("cat", "/proc/sys/net/ipv4/igmp_max_memberships") == "21\n"
    assert not node.ok(*both)["changed"] and files.keep() == kept
    # Once more, as when an administrator starts the unit again; and with another interface in the device's place.
    assert files.boot().returncode == 0
    files.lose_everything()
    node.run("ip", "link", "delete", "eth2.7")
    node.run("ip", "link", "add", "eth2.7", "type", "bridge")
    done = files.boot()
    assert done.returncode == 1 and "interface eth2.7 is there and is not of catalog" in done.stderr
    assert node.link("eth2.7")["linkinfo"]["info_kind"] == "bridge"


def test_what_guests_said_before_is_parted_from_what_they_say_then(node, files, tmp_path):
    node.ok(WITH_NAT)
    files.keep()
    logs = [files.root / "datastores" / "0" / name / "console.log" for name in ("1", "22")]
    stranger = tmp_path / "theirs"
    stranger.write_text("theirs")
    for log in logs:
        log.parent.mkdir(parents=True)
    logs[0].write_text("nebula-guest: ready\n")
    logs[1].symlink_to(stranger)
    script = files.place / "networks.sh"
    script.write_text(script.read_text().replace("/etc/libvirt/qemu", str(tmp_path)))
    # The machine of another host, which sees the same directory, runs on.
    assert files.boot().returncode == 0
    assert logs[0].read_text() == "nebula-guest: ready\n"
    for name in ("1", "22"):
        (tmp_path / f"one-{name}.xml").touch()
    assert files.boot().returncode == 0
    assert logs[0].read_text() == "nebula-guest: ready\n\nnebula-node: starting\n"
    assert stranger.read_text() == "theirs"


@pytest.mark.parametrize("with_nat", [True, False])
def test_machines_are_kept_from_the_node_from_the_first_moment(node, files, with_nat):
    wanted = network(nat=with_nat)
    node.ok(wanted)
    files.keep()
    node.run("ip", "link", "delete", "nbr0")
    node.run("nft", "flush", "ruleset")
    # What the bridge is when it comes up is what it is told to be before.
    settings = files.place / "bridge-nbr0.settings"
    assert "ipv6/conf/nbr0/disable_ipv6 1\n" in settings.read_text()
    (files.place / "bridge-nbr0.links").write_text(
        "".join(line for line in (files.place / "bridge-nbr0.links").open() if not line.endswith(" up\n"))
    )
    node.forwarding(0)
    assert files.boot().returncode == 0
    assert "UP" not in node.link("nbr0")["flags"]
    read = ["cat", "/proc/sys/net/ipv6/conf/nbr0/disable_ipv6", "/proc/sys/net/ipv4/conf/nbr0/arp_ignore"]
    assert node.run(*read).split() == ["1", "1" if with_nat else "8"]
    assert ('iifname "nbr0" drop' in listed(node), node.forwarding()) == (not with_nat, "1" if with_nat else "0")
    node.run("ip", "link", "set", "nbr0", "up")
    assert not node.ok(wanted, check=True)["changed"]


def test_again_is_nothing(node, files):
    node.ok(WITH_NAT, elsewhere(nat=True))
    files.keep()
    before = node.snapshot()
    assert files.boot().returncode == 0
    assert node.snapshot() == before


def test_what_broke_off_half_way_is_finished(node, files):
    node.ok(WITH_NAT)
    before = node.snapshot()
    files.keep()
    node.run("ip", "address", "flush", "dev", "nbr0")
    node.run("ip", "link", "set", "nbr0", "down")
    assert files.boot().returncode == 0
    assert node.snapshot() == before


def test_an_interface_of_others_is_left_alone_and_named_and_the_others_come_back(node, files):
    node.ok(WITH_NAT, elsewhere(nat=True))
    files.keep()
    files.lose_everything()
    node.run("ip", "link", "add", "nbr0", "type", "bridge")
    foreign = node.link("nbr0")
    done = files.boot()
    assert done.returncode == 1
    assert done.stderr == (
        f"bridge nbr0: an interface of that name that is not of catalog {CATALOG} is there: it is left alone\n"
    )
    assert node.link("nbr0") == foreign
    assert "nbr0" not in listed(node)
    assert node.addresses("nbr1") == ["10.67.0.1/16"]
    assert 'iifname "nbr1"' in listed(node)


def test_a_table_of_others_is_left_alone_and_named(node, files):
    node.ok(WITH_NAT)
    files.keep()
    files.lose_everything()
    node.run("nft", f"add table inet {TABLE}; add chain inet {TABLE} theirs")
    before = listed(node)
    done = files.boot()
    assert done.returncode == 1
    assert f"nftables table inet {TABLE} is not of catalog {CATALOG}: it is left alone" in done.stderr
    assert (listed(node), node.forwarding()) == (before, "0")
    assert node.addresses("nbr0") == ["10.66.0.1/24"]


def test_files_of_networks_that_went_go(node, files):
    node.ok(WITH_NAT, elsewhere(nat=True))
    of_bridges = {f"bridge-nbr{n}.{kind}" for n in (0, 1) for kind in ("links", "settings", "nft")}
    assert set(files.keep()) == {"networks.sh", "nat-0.nft", "nat-1.nft", *of_bridges}
    node.ok(WITH_NAT, known=[WITH_NAT["uuid"]])
    assert set(files.keep()) == {"networks.sh", "nat-0.nft", "nat-1.nft", *(n for n in of_bridges if "nbr0" in n)}
    assert (files.place.stat().st_mode & 0o777, (files.place / "bridge-nbr0.nft").stat().st_mode & 0o777) == (
        0o700,
        0o600,
    )


def test_what_somebody_else_keeps_there_stays(node, files):
    node.ok(WITH_NAT)
    other = Boot(str(files.root), OTHER_CATALOG)
    other.write({"networks.sh": "theirs"})
    theirs = [files.root / "boot" / "grub.cfg", files.root / "boot" / CATALOG / "notes"]
    files.keep()
    for path in theirs:
        path.write_text("theirs")
    files.keep()
    Boot(str(files.root), CATALOG).remove(act=True)
    assert [path.read_text() for path in theirs] == ["theirs", "theirs"]
    assert sorted(path.name for path in files.place.iterdir()) == ["notes"]
    for path in theirs:
        path.unlink()
    Boot(str(files.root), CATALOG).remove(act=True)
    assert not files.place.exists() and (other.place, os.listdir(other.place)) == (
        str(files.root / "boot" / OTHER_CATALOG),
        ["networks.sh"],
    )
    other.remove(act=True)
    assert not (files.root / "boot").exists()


@pytest.mark.skipif(not os.path.exists("/usr/bin/systemd-analyze"), reason="systemd is not installed")
def test_the_unit_means_what_it_says(tmp_path):
    """systemd's own reader of units has nothing to say about it, whatever the root is called."""
    root = tmp_path / 'a "root" with \\ and % and $HOME'
    boot = Boot(str(root), CATALOG)
    boot.write({})
    unit = tmp_path / boot.unit
    unit.write_text(boot.text())
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        f"ExecStart=/bin/sh {systemd_units.quoted_argument(str(root / 'boot' / CATALOG / 'networks.sh'))} "
        in boot.text()
    )
    with pytest.raises(InvalidValue):
        Boot(f"{root}\nExecStart=/bin/false", CATALOG).text()
