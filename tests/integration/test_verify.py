# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real guests are believed, or not, for what they themselves say. Those of cloud-init are in test_cloud_init.py."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.host.console import NAME, Wanted, mark_start, wait
from ansible_collections.nebula.provision.tests.integration.guests import demo
from ansible_collections.nebula.provision.tests.integration.guests.qemu import context_iso, running

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
    assert verdict.evidence == "nebula-guest: web-0, 10.66.0.10/24"


def test_a_guest_that_ignores_its_iso_is_not(tmp_path: Path) -> None:
    iso = context_iso(tmp_path / "context.iso", CONTEXT)
    with running(tmp_path, demo.ignoring_image(), iso) as guest:
        guest.wait_for("plain login:")
        (verdict,) = wait([wanted(tmp_path)], timeout=1)
        assert verdict.missing == ("hostname web-0 (it says plain)", "address 10.66.0.10 (none said)")
        assert "All services started." in verdict.last_lines
        assert "plain login:" in str(verdict.error)
        # Not even when it happens to have the name that is wanted.
        assert not wait([wanted(tmp_path, hostname="plain")], timeout=0)[0].verified


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
        assert wait([machine], timeout=0)[0].verified
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
