# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt itself takes every golden: defined, and turned into QEMU's arguments. The schema lets pairs of bus and
machine through that this refuses."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from in_world import in_world

FIXTURES = Path(__file__).parents[1] / "fixtures" / "deployment" / "kvm"
UNDEFINE_NVRAM = 4
CASES = sorted(path.stem for path in FIXTURES.glob("*.xml"))


def connect():
    import libvirt

    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    return libvirt.open("qemu:///system")


def secret(connection, uuid):
    """One that a disk is opened with."""
    made = connection.secretDefineXML(f"<secret ephemeral='no' private='yes'><uuid>{uuid}</uuid></secret>")
    made.setValue(b"open")
    return made


@pytest.mark.parametrize("case", CASES)
@in_world
def test_golden(case: str) -> None:
    connection = connect()
    text = (FIXTURES / f"{case}.xml").read_text(encoding="utf-8")
    secrets = [secret(connection, uuid) for uuid in sorted(set(re.findall(r'<secret .*uuid="([^"]+)"', text)))]
    domain = connection.defineXML(text)
    try:
        assert f"guest={domain.name()}," in connection.domainXMLToNative("qemu-argv", text, 0)
    finally:
        domain.undefineFlags(UNDEFINE_NVRAM)
        for each in secrets:
            each.undefine()
        connection.close()


@pytest.mark.parametrize("golden", sorted(FIXTURES.parent.glob("xen/*.xml")), ids=lambda path: path.stem)
def test_the_schema_lets_machines_of_xen_through(golden: Path) -> None:
    """That its driver does, too, is tested where it runs: test_xen_libvirt.py."""
    told = subprocess.run(["virt-xml-validate", golden, "domain"], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr


@in_world
def test_what_the_schema_lets_through_and_libvirt_refuses() -> None:
    import libvirt

    connection = connect()
    text = (FIXTURES / "boot_order_disks_and_nics_pc.xml").read_text(encoding="utf-8").replace('"pc"', '"q35"')
    with pytest.raises(libvirt.libvirtError, match="IDE"):
        connection.domainXMLToNative("qemu-argv", text, 0)
    connection.close()
