# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.live_values import (
    DISK,
    ELEMENT,
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
    assert (change.kind, change.text) == (ELEMENT, '<graphics type="vnc" passwd="new" port="5901" keymap="de" />')
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


NIC_XML = (
    "<domain><devices><interface type='bridge'><mac address='02:00:00:00:00:01'/>{}<target dev='one-1-0'/>"
    "</interface></devices></domain>"
)


@pytest.mark.parametrize(
    ("had", "wanted", "becomes"),
    [
        ("", "", None),
        ("<link state='up'/>", "", None),
        ("<link state='down'/>", "<link state='down'/>", None),
        ("", "<link state='down'/>", "<link state='down'/>"),
        ("<link state='down'/>", "", "<link state='up'/>"),
        # What libvirt adds says nothing new.
        ("<vlan trunk='yes'><tag id='4'/></vlan>", "<vlan><tag id='4'/></vlan>", None),
        ("<vlan><tag id='4'/></vlan>", "<vlan><tag id='5'/></vlan>", "<vlan><tag id='5'/></vlan><link state='up'/>"),
        (
            "<vlan><tag id='4'/></vlan><link state='down'/>",
            "<vlan trunk='yes'><tag id='4' nativeMode='untagged'/><tag id='7'/></vlan><link state='down'/>",
            "<vlan trunk='yes'><tag id='4' nativeMode='untagged'/><tag id='7'/></vlan><link state='down'/>",
        ),
    ],
)
def test_vlans_and_links_of_nics(had: str, wanted: str, becomes: str | None) -> None:
    changes = plan_values(NIC_XML.format(had), NIC_XML.format(wanted))
    if becomes is None:
        assert changes == []
        return
    (change,) = changes
    assert (change.kind, change.target) == (ELEMENT, "one-1-0")
    nic = ET.fromstring(change.text)
    assert "".join(ET.tostring(each, encoding="unicode") for each in nic if each.tag in ("vlan", "link")) == "".join(
        ET.tostring(each, encoding="unicode") for each in ET.fromstring(f"<a>{becomes}</a>")
    )
    assert [each.tag for each in nic][:2] == ["mac", "target"]


def test_a_link_and_a_limit_together() -> None:
    """libvirt would set the former limit again with what it is told of the link."""
    limit = "<bandwidth><inbound average='{}'/></bandwidth>"
    changes = plan_values(NIC_XML.format(limit.format(5)), NIC_XML.format(limit.format(9) + "<link state='down'/>"))
    (element,) = [each for each in changes if each.kind == ELEMENT]
    assert 'average="9"' in element.text and 'average="5"' not in element.text
    assert [dict(each.limits)["inbound.average"] for each in changes if each.kind == NIC] == [9]
