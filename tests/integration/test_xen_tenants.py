# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tenant on OVN by site.yml where a real dom0 is front-end, node and OVN's central host: what PV guests reach, as
they themselves see it, and what a teardown leaves. A part of `make test-xen`."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "tools"))

from xen_host import MoreXenHost  # noqa: E402

from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for  # noqa: E402
from ansible_collections.nebula.provision.tests.integration.site_runs import Site, changed_tasks  # noqa: E402
from ansible_collections.nebula.provision.tests.integration.tenants_site import (  # noqa: E402
    EXTERNAL,
    GATEWAY,
    LEASE,
    MTU,
    OUTSIDE,
    Guest,
    router,
    tenant,
)

NEBULA_ROOT = "/var/lib/nebula"
DEMO = "/var/tmp/demo"
FLOATING = "203.0.113.110"
TEMPLATE = """
CPU = 0.1
MEMORY = 160
OS = [ MACHINE = "xenpv", KERNEL_DS = "$FILE[IMAGE=\\"kernel\\"]", INITRD_DS = "$FILE[IMAGE=\\"initrd\\"]",
       KERNEL_CMD = "console=hvc0 quiet net.ifnames=0 mitigations=off" ]
NIC = [ NETWORK = "blue" ]
CONTEXT = [ NETWORK = "YES", SET_HOSTNAME = "$NAME" ]
"""
# Types a line on a machine's terminal, and prints who connects thereupon, and what he sends.
SERVE = """
import os, socket, sys
address, terminal, line = sys.argv[1:]
with socket.create_server((address, 7777)) as server:
    server.settimeout(120)
    os.write(os.open(terminal, os.O_WRONLY | os.O_NOCTTY), line.encode())
    connection, (peer, _port) = server.accept()
    print(peer, connection.makefile().readline().strip())
"""
READ = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=60).read().decode().strip())"
# What a teardown has to leave as it was. The first time that systemd is asked to wait, and Ansible, leave something.
STATE = """
find /etc /var/lib /root /run/openvswitch /run/ovn /var/log/openvswitch /var/log/ovn -xdev 2> /dev/null | sort
ip -json link | python3 -c 'import json, sys; print(*sorted(each["ifname"] for each in json.load(sys.stdin)))'
nft --stateless --terse list ruleset
cat /proc/sys/net/ipv4/ip_forward
systemctl list-unit-files --no-legend --plain '*openvswitch*' 'ovs*' 'ovn*' 'nebula*' 'xen*'
systemctl list-units --no-legend --plain --state=active '*openvswitch*' 'ovs*' 'ovn*' 'nebula*' | awk '{print $1}'
pgrep -a '^(ovs|ovn|ovsdb)' | cut -d ' ' -f 2-
xl list | awk '{print $1}'
"""
# The packages' daemons leave logs and directories for their sockets.
NOISE = re.compile(r"/var/lib/(systemd|apt|dpkg)/|/root/\.ansible|/etc/\.pwd\.lock|/(var/log|run)/(ovn|openvswitch)")

pytestmark = [
    pytest.mark.skipif(os.environ.get("NEBULA_XEN") != "all", reason="make test-xen: NEBULA_XEN=all"),
    pytest.mark.timeout(7200),
]


class Dom0(Site):
    """One host, which is all of it."""

    # Emulated, with a guest in it.
    seconds = 1800

    def __init__(self, host: MoreXenHost, directory: Path) -> None:
        self.host, self.directory, self.environment = host, directory, {}
        self.variables: dict[str, Any] = {
            **host.inventory(),
            "nebula_hypervisor": "xen",
            "nebula_reserved_memory": 0,
            # On one emulated processor; Xen's tools wait 40 s for a script of theirs, whatever else the host does.
            "nebula_deploy_threads": 1,
            "nebula_verify_timeout": 900,
            "nebula_ovn": True,
            # What QEMU gives its only guest, and no default route with it.
            "nebula_ovn_address": "10.0.2.15",
            # This dom0 is the host outside, too.
            "nebula_ovn_bridge_mappings": [
                {"bridge": "br-ex", "interface": "eth1", "network": "physnet", "address": f"{OUTSIDE}/24"}
            ],
            "nebula_images": [
                {"name": name, "type": kind, "path": f"{DEMO}/{name}", "remote_src": True}
                for name, kind in (("kernel", "KERNEL"), ("initrd", "RAMDISK"))
            ],
            "nebula_templates": [{"name": "pv", "template": TEMPLATE}],
            "nebula_networks": [tenant("blue"), EXTERNAL],
            "nebula_routers": [router("blue", floating=[{"ip": FLOATING, "vm": "one"}])],
            "nebula_vms": [{"name": name, "template": "pv"} for name in ("one", "two")],
        }

    def done(self, playbook: str, *arguments: str, **changes: Any) -> str:
        code, output = self.run(playbook, *arguments, **changes)
        assert code == 0, output
        return output

    def says(self, *argv: str) -> str:
        return self.host.sudo(argv, timeout=self.seconds).stdout.strip()

    def state(self) -> list[str]:
        return [line for line in self.says("sh", "-c", STATE).splitlines() if not NOISE.search(line)]

    def info(self, *kinds: str) -> dict[str, Any]:
        command = [str(self.programs / "ansible"), "-i", str(self.inventory()), "node1"]
        arguments = f"gather={','.join(kinds)} root={NEBULA_ROOT}"
        code, output = self.execute([*command, "-m", "nebula.provision.nebula_info", "-a", arguments])
        assert code == 0, output
        found: dict[str, Any] = json.loads(output[output.index("{") :])
        return found


class PvGuest(Guest):
    boot_seconds = 600

    def __init__(self, site: Dom0, vm: dict[str, Any]) -> None:
        self.site, self.name, self.ip, self.mac, self.vm = site, vm["name"], vm["ip"], vm["mac"], vm
        self.node, self.domain, self.number = self, vm["domain"], itertools.count()

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return self.site.host.sudo(argv)

    def said(self) -> str:
        return self.site.says("cat", f"{NEBULA_ROOT}/datastores/0/{self.vm['id']}/console.log")

    def terminal(self) -> str:
        domid = self.site.says("xl", "domid", self.domain)
        return self.site.says("xenstore-read", f"/local/domain/{domid}/console/tty")

    def does(self, command: str, seconds: float = 120) -> tuple[int, str]:
        return super().does(command, max(seconds, 120))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Dom0]:
    with MoreXenHost(tmp_path / "xen") as host:
        for name, path in MoreXenHost.guest().items():
            if name in ("kernel", "initrd"):
                host.put(path.read_bytes(), ["sh", "-c", f"mkdir -p {DEMO} && cat > {DEMO}/{name}"])
        yield Dom0(host, tmp_path)


def test_a_tenant_of_a_xen_host(site):
    before = site.state()
    site.done("site.yml")
    again = site.done("site.yml")
    assert changed_tasks(again) == [], again
    guests = {vm["name"]: PvGuest(site, vm) for vm in site.info("vms")["vms"]}
    for guest in guests.values():
        guest.up()
    reach(site, guests["one"], guests["two"])
    for playbook in ("status", "audit"):
        output = site.done(f"playbooks/{playbook}.yml")
        print(output)
    site.done("playbooks/teardown.yml")
    after = site.state()
    differing = [f"{'+' if line in after else '-'} {line}" for line in sorted({*after} ^ {*before})]
    assert not differing, differing


def reach(site: Dom0, one: PvGuest, two: PvGuest) -> None:
    assert one.reaches(two.ip, tries=20) and one.reaches(GATEWAY, tries=5)
    # What DHCP gives is what the catalog has.
    code, text = two.does(LEASE)
    assert code == 0, text
    assert text.split() == ["lease", two.ip, "255.255.255.0", GATEWAY, "9.9.9.9", str(MTU)]
    # Out as the router or as its own floating address, and in by that.
    gateway = site.info("routers")["routers"][0]["gateway"]["ip"]
    for guest, source in ((one, FLOATING), (two, gateway)):
        line = f"hostname | nc -w 5 {OUTSIDE} 7777\n"
        assert site.says("python3", "-c", SERVE, OUTSIDE, guest.terminal(), line) == f"{source} {guest.name}"
    one.does("mkdir -p /run/www; hostname > /run/www/name; httpd -p 80 -h /run/www")
    assert site.says("python3", "-c", READ, f"http://{FLOATING}/name") == "one"
    # What says to come from somebody else does not leave its port.
    one.does("ip address add 192.168.0.77/24 dev eth0")
    assert not one.reaches(f"-I 192.168.0.77 {two.ip}", tries=2)
    wait_for(lambda: one.reaches(two.ip), "the other machine", 30)
