# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the port of a NIC of Xen in Open vSwitch is to be, and where that is kept. That the real tools make it so is
tested in tests/integration/test_xen_switches.py."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Site
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen import (
    config,
    switch_ports,
    xen_domain_xml,
)
from ansible_collections.nebula.provision.plugins.module_utils.model import vlan_trunks
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic, interface_id
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os, Vm
from ansible_collections.nebula.provision.plugins.module_utils.network.openvswitch_state import SwitchPort, port_of

UUID = "5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d01"
SITE = Site("/0/1", "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10", 3, {}, "xen")
RENDERERS = pytest.mark.parametrize("renderer", [config, xen_domain_xml])


def nic(driver: str = "", number: int = 0, **values: Any) -> Nic:
    network = {"VN_MAD": driver} if driver else {}
    network.update(values.pop("network_values", {}))
    mac = f"02:00:0A:00:00:{number:02x}"
    return Nic(number, 3, "Tenant", "br-int" if driver == "ovn" else "ovsbr0", mac, network_values=network, **values)


def machine(*nics: Nic, **os_: Any) -> Vm:
    return Vm(1, UUID, "web", "xen", 1.0, 64, os=Os(**os_) if os_ else Os(kernel="/boot/vmlinuz"), nics=nics)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(switch_ports, "PORTS", tmp_path / "ports")
    return tmp_path / "ports" / UUID


def test_a_record_names_the_nic_its_bridge_and_its_interface_id() -> None:
    (first, third) = switch_ports.records(machine(nic("ovn"), nic(number=1), nic("ovn", number=2)))
    assert first == f"02:00:0a:00:00:00 br-int {interface_id(UUID, 0)}"
    assert third == f"02:00:0a:00:00:02 br-int {interface_id(UUID, 2)}"
    assert switch_ports.records(machine(nic(), nic("dummy"))) == []


@pytest.mark.parametrize(
    ("values", "columns"),
    [
        ({"VLAN_ID": "10"}, ["tag=10"]),
        ({"VLAN_ID": "10", "VLAN_TAGGED_ID": "20-21"}, ["tag=10", "trunks=10,20,21", "vlan_mode=native-untagged"]),
        ({"VLAN_TAGGED_ID": "40"}, ["trunks=0,40"]),
        ({}, ["trunks=0"]),
    ],
)
def test_a_port_has_the_vlans_that_one_of_kvm_has(values: dict[str, str], columns: list[str]) -> None:
    (record,) = switch_ports.records(machine(nic("ovswitch", network_values=values)))
    assert record.split()[3:] == columns
    given = dict(column.split("=") for column in columns)
    numbers = tuple(int(number) for number in given.get("trunks", "").split(",") if number)
    there = SwitchPort(int(given["tag"]) if "tag" in given else None, numbers, given.get("vlan_mode", ""))
    assert there == port_of(vlan_trunks.port_of(values, {}))


def test_vlans_are_of_bridges_that_have_them() -> None:
    (record,) = switch_ports.records(machine(nic("ovn", network_values={"VLAN_ID": "10"})))
    assert len(record.split()) == 3


@RENDERERS
def test_other_vlans_are_another_deployment_file(renderer: Any) -> None:
    """So that a machine gets them at its next start, though nothing that Xen's tools read of it has changed."""
    texts = [
        renderer.render(machine(nic("ovswitch", network_values={"VLAN_ID": number})), SITE) for number in ("10", "11")
    ]
    assert texts[0].digest != texts[1].digest


@RENDERERS
def test_only_a_nic_on_open_vswitch_has_the_script(renderer: Any) -> None:
    text = renderer.render(machine(nic(options={"SCRIPT": "vif-route"}), nic("ovn", number=1)), SITE).text
    assert text.count(switch_ports.SCRIPT) == 1 and text.count("vif-route") == 1
    needs = renderer.needs_of(text)
    assert (needs.bridges, needs.switches) == (("ovsbr0",), ("br-int",))
    plain = renderer.needs_of(renderer.render(machine(nic()), SITE).text)
    assert (plain.bridges, plain.switches) == (("ovsbr0",), ())


@RENDERERS
def test_what_such_a_nic_can_not_be_is_refused(renderer: Any) -> None:
    hvm = {"machine": "xenfv"}
    for vm, site, words in (
        (machine(nic("ovn", options={"SCRIPT": "vif-x"})), SITE, "SCRIPT = vif-x: network Tenant is one of Open"),
        (machine(nic("ovswitch")), replace(SITE, userspace_switch=True), "TCP would hang.*the module openvswitch"),
        (machine(nic("ovn", model="e1000"), **hvm), SITE, "Xen's own NIC only.*Leave MODEL out"),
        (machine(nic("ovn", boot_order=1), **hvm), SITE, "Xen's own NIC only"),
    ):
        with pytest.raises(InvalidValue, match=words):
            renderer.render(vm, site)
    for vm in (
        machine(nic("ovn", model="virtio"), **hvm),
        machine(nic("ovswitch", model="e1000", boot_order=1), **hvm),
        machine(nic("ovn", model="e1000", boot_order=1)),
    ):
        renderer.render(vm, SITE)
    renderer.render(machine(nic()), replace(SITE, userspace_switch=True))


def test_an_emulated_nic_is_beside_xens_where_open_vswitch_itself_learns_who_is_where() -> None:
    nics = nic("ovn", model="virtio"), nic("ovswitch", number=1, model="e1000")
    vm = machine(*nics, machine="xenfv")
    kinds = [entry.partition(",")[0] for entry in config.devices_of(vm, SITE).nics.values()]
    assert kinds == ["type=vif", "model=e1000"]
    models = [
        each.find("model") for each in xen_domain_xml.devices_of(xen_domain_xml.render(vm, SITE).text).nics.values()
    ]
    assert [model.get("type") for model in models if model is not None] == ["netfront", "e1000"]


def test_what_is_kept_is_there_as_long_as_the_machine_has_such_nics(kept: Path) -> None:
    switch_ports.write_ports_file(machine(nic("ovn"), nic("ovswitch", number=1, network_values={"VLAN_ID": "10"})))
    assert kept.read_text(encoding="ascii") == (
        f"02:00:0a:00:00:00 br-int {interface_id(UUID, 0)}\n02:00:0a:00:00:01 ovsbr0 {interface_id(UUID, 1)} tag=10\n"
    )
    assert [stat.S_IMODE(path.stat().st_mode) for path in (kept.parent, kept)] == [0o700, 0o600]
    switch_ports.write_ports_file(machine(nic("ovn")))
    assert len(kept.read_text(encoding="ascii").splitlines()) == 1
    switch_ports.write_ports_file(machine(nic()))
    assert list(kept.parent.iterdir()) == []
    switch_ports.write_ports_file(machine(nic("ovn")))
    switch_ports.remove_ports_file("")
    assert kept.exists()
    for _again in range(2):
        switch_ports.remove_ports_file(UUID)
        assert not kept.exists()


def test_a_machine_without_such_nics_leaves_no_trace(kept: Path) -> None:
    switch_ports.write_ports_file(machine(nic()))
    assert not kept.parent.exists()
