# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Xen's tools print, as they printed it on a host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import HypervisorError, NoCapacity
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen import xl

LIST = """\
Name                                        ID   Mem VCPUs\tState\tTime(s)   UUID                            Reason-Code\tSecurity Label
Domain-0                                     0  1536     1     r-----     153.1 00000000-0000-0000-0000-000000000000        -                -
one-1                                        7   160     1     -b----       5.2 5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d01        -                -
a name with blanks                           8    64     2     --p---       0.0 5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d02        -                -
(null)                                       9     0     1     --ps-d       1.4 5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d03        1                -
"""  # noqa: E501 (as it is printed)
NO_MEMORY = """\
ended with code 3: libxl: error: libxl_dom.c:586:libxl__build_dom: xc_dom_boot_mem_init failed: Cannot allocate memory
libxl: error: libxl_create.c:1640:domcreate_rebuild_done: Domain 3:cannot (re-)build domain: -3
libxl: error: libxl_domain.c:1183:libxl__destroy_domid: Domain 3:Non-existant domain
libxl: error: libxl_domain.c:1137:domain_destroy_callback: Domain 3:Unable to destroy guest
libxl: error: libxl_domain.c:1064:domain_destroy_cb: Domain 3:Destruction of domain failed
"""


def test_list() -> None:
    found = {domain.name: domain for domain in xl.parse_list(LIST)}
    assert found["one-1"] == xl.ListedDomain("one-1", 7, 160, 1, "-b----", 5.2, "5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d01")
    assert found["a name with blanks"].vcpus == 2 and found["(null)"].flags == "--ps-d"
    assert len(found) == 4


def test_what_it_says_is_the_cause_alone() -> None:
    error = xl.error_of_xl("starting virtual machine 1", NO_MEMORY)
    assert isinstance(error, NoCapacity) and error.found == "xc_dom_boot_mem_init failed: Cannot allocate memory"
    # Where there is nothing else, it is shown.
    error = xl.error_of_xl(
        "a", "libxl: error: libxl_domain.c:1137:domain_destroy_callback: Domain 3:Unable to destroy guest"
    )
    assert error.found == "Unable to destroy guest"


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ('Error: block device type "raw" is invalid', "DRIVER"),
        ("Device 51728 (vbd) could not be connected. disk.2 is not a block device.", "recreate"),
        ("xc: error: panic: xg_dom_core.c:5: f: segment kernel too large (0x2e00): Out of memory", "more MEMORY"),
        ("libxl: error: x.c:1:f: xc_dom_parse_image failed", "OS KERNEL"),
        ('libxl: error: libxl_create.c:1:f: Domain 3:Domain with name "one-3" already exists.', "will not be touched"),
        ("/etc/xen/one-1.cfg:17: config parsing error near `'", "RAW"),
        ("libxl: error: libxl_device.c:1:f: script: no such VLAN; hotplug", "xen-hotplug.log"),
        (
            "vif-bridge online exited with error status 1\nscript: ip link set vif3.0 name one-1-0 failed",
            "ip link delete",
        ),
        ("libxl: error: libxl_device.c:1:f: script: RTNETLINK answers: File exists; hotplug", "ip link delete"),
        ("could not configure /dev/net/tun (one-1-0-emu): Device or resource busy", "ip -details link show"),
        ("Could not find bridge, and none was specified", "nebula.provision.network"),
    ],
)
def test_remedies(text: str, remedy: str) -> None:
    error = xl.error_of_xl("a", text)
    assert isinstance(error, HypervisorError) and remedy in error.remedy
    assert not error.found.startswith(("libxl:", "xc:"))


def test_what_ends_with_a_full_stop_has_one() -> None:
    said = str(xl.error_of_xl("a", 'Domain with name "one-3" already exists.'))
    assert said.startswith('a: Domain with name "one-3" already exists. End or')


def test_the_cause_is_shown_however_far_above_the_end_it_is() -> None:
    """As it is with both hosts of a migration speaking."""
    cause = "xc: error: Failed to enable logdirty: 95,22,0 (22 = Invalid argument): Internal error"
    more = [f"libxl: error: libxl_stream_read.c:{number}:f: more {number}" for number in range(20)]
    error = xl.error_of_xl("a", "\n".join(["migration target: Ready to receive domain.", cause, *more]))
    assert "can't follow what a PV machine writes" in error.remedy
    assert error.found.splitlines() == [
        "Failed to enable logdirty: 95,22,0 (22 = Invalid argument): Internal error",
        *(f"more {number}" for number in range(15, 20)),
    ]


def test_what_the_hypervisor_itself_said_of_them() -> None:
    log = (
        "(XEN) d3v0 Triple fault\n(XEN) d33v0 other\n(XEN) Domain 3 (vcpu#0) crashed on cpu#0:\n(XEN) Dom0 has 1 VCPU\n"
    )
    assert xl.lines_of_hypervisor(NO_MEMORY, log) == [
        "(XEN) d3v0 Triple fault",
        "(XEN) Domain 3 (vcpu#0) crashed on cpu#0:",
    ]
    assert xl.lines_of_hypervisor("nothing of a domain", log) == []


def test_the_lock_of_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xl, "LOCK", tmp_path / "xl")
    assert xl.lock_holder() == 0
    (tmp_path / "xl").touch()
    assert xl.lock_holder() == 0


@pytest.mark.skipif(os.path.exists("/proc/xen/capabilities"), reason="this is a host of Xen")
def test_this_is_no_host_of_xen() -> None:
    with pytest.raises(HypervisorError, match=r"booted without Xen.*xen-system-amd64"):
        xl.require_dom0()
