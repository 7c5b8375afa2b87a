# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.live_values import (
    CONSOLE,
    DISK,
    NIC,
    ValueChange,
    plan_values,
)


def domain(*devices: str) -> str:
    return f"<domain><devices>{''.join(devices)}</devices></domain>"


def disk(limits: str = "", path: str = "/disk.0", target: str = "vda") -> str:
    tuned = f"<iotune>{limits}</iotune>" if limits else ""
    return f"<disk><source file='{path}'/><target dev='{target}'/>{tuned}</disk>"


def nic(bandwidth: str = "") -> str:
    shaped = f"<bandwidth>{bandwidth}</bandwidth>" if bandwidth else ""
    return f"<interface><mac address='02:00:00:00:00:01'/><target dev='one-1-0'/>{shaped}</interface>"


def console(password: str, more: str = "", kind: str = "vnc") -> str:
    return f"<graphics type='{kind}' passwd='{password}'{more}/>"


def test_limits_of_disks_come_change_and_go() -> None:
    live = domain(disk("<total_iops_sec>500</total_iops_sec><total_iops_sec_max>900</total_iops_sec_max>"))
    wanted = domain(disk("<total_iops_sec>500</total_iops_sec><read_bytes_sec>9</read_bytes_sec>", target="vdb"))
    # At the target that it has as it runs.
    assert plan_values(live, wanted) == [
        # All of them: those that libvirt is not told it takes away.
        ValueChange(DISK, "vda", {"read_bytes_sec": 9, "total_iops_sec": 500, "total_iops_sec_max": 0})
    ]
    assert plan_values(live, live) == plan_values(domain(), wanted) == plan_values(live, domain()) == []


def test_limits_of_nics_come_change_and_go() -> None:
    live = domain(nic("<inbound average='10' peak='20'/>"))
    wanted = domain(nic("<inbound average='10'/><outbound average='5' burst='7'/>"))
    inbound = {"inbound.average": 10, "inbound.peak": 0, "inbound.burst": 0}
    limits = {**inbound, "outbound.average": 5, "outbound.peak": 0, "outbound.burst": 7}
    assert plan_values(live, wanted) == [ValueChange(NIC, "one-1-0", limits)]


def test_a_console_gets_another_password_and_stays_as_it_runs_otherwise() -> None:
    live, wanted = domain(console("old", " port='5901' keymap='de'")), domain(console("new", " port='-1' keymap='de'"))
    (change,) = plan_values(live, wanted)
    assert (change.kind, change.text) == (CONSOLE, '<graphics type="vnc" passwd="new" port="5901" keymap="de" />')
    assert "new" not in repr(change)


@pytest.mark.parametrize(
    "wanted",
    [
        domain(),
        domain(console("old")),
        domain(console("")),
        domain(console("new", kind="spice")),
        domain(console("new", " keymap='de'")),
    ],
)
def test_no_console_gets_what_it_was_not_started_for(wanted: str) -> None:
    assert plan_values(domain(console("old")), wanted) == []
    assert plan_values(domain(console("")), domain(console("new"))) == []
