# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container goes through plans like any machine: its template, its context, its states, its root as an image. vzctl
is a stand-in."""

from __future__ import annotations

import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from memory_node import Node, told
from openvz_host import CTID, Host

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.forecast import Forecast
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.poll import poll
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.build import build
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import SAVE_AS, DiskTask, Plan, PlannedVm
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import datastore_layout
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

UUID = "5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d01"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path / "host", monkeypatch)


@pytest.fixture
def here(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    monkeypatch.setattr(datastore_layout, "protect", lambda _path, writable: False)
    monkeypatch.setattr(datastore_layout, "hypervisor_group", lambda: -1)
    root = tmp_path / "root"
    root.mkdir()
    node = Node(root)
    node.driver = host.driver  # type: ignore[assignment]
    return node


def machine(host: Host, more: str = "") -> Vm:
    """From a template in words, of a file of the host that is no image."""
    source = host.tar.with_name("debian-12.tar.gz")
    if not source.exists():
        os.link(host.tar, source)
    text = f'MEMORY = 64 DISK = [ SOURCE = "{source}" ] DISK = [ TYPE = swap, SIZE = 32 ] CONTEXT = [ A = "b" ] {more}'
    vm = build(parse(text), vm_id=7, uuid=UUID, name="web", hypervisor="openvz", images={}, nics=[])
    assert vm.context is not None
    # Which the engine sets.
    return replace(vm, context=replace(vm.context, variables={"A": "b"}))


def test_a_life_by_plans(host: Host, here: Node) -> None:
    vm, place = machine(host), here.directory(7)
    assert told(here.one("RUNNING", 1, vm)) == ("RUNNING", True, "")
    assert told(here.one("RUNNING", 1, vm)) == ("RUNNING", False, "")
    plan = Plan(here.record(7).catalog, here.number, "node1", (PlannedVm(vm, 1, "RUNNING"),))
    assert not Forecast(plan, host.driver, str(here.root)).would_change(plan.vms[0])
    private = place / "images/private"
    assert "A='b'" in (private / "mnt/context.sh").read_text(encoding="utf-8")
    # The only disks are its root and its swap space: neither is a file.
    assert sorted(name for name in os.listdir(place) if name.startswith("disk.")) == ["disk.2"]
    assert 'SWAPPAGES="0:32M"' in host.conf.read_text(encoding="utf-8")
    (seen,) = poll(host.driver, str(here.root), "node1", here.record(7).catalog).vms
    assert (seen.vm_id, seen.state, seen.memory) == (7, "RUNNING", 64)
    assert host.driver.starts_with_host(host_mark(here)) is True
    assert told(here.one("POWEROFF", 2, vm)) == ("POWEROFF", True, "")
    assert tarfile.is_tarfile(place / "disk.0") and host.driver.starts_with_host(host_mark(here)) is False
    assert told(here.one("RUNNING", 3, vm)) == ("RUNNING", True, "") and not (place / "disk.0").exists()
    assert told(here.one("SUSPENDED", 4, vm)) == ("SUSPENDED", True, "") and (place / "checkpoint").exists()
    assert told(here.one("RUNNING", 5, vm)) == ("RUNNING", True, "") and not (place / "checkpoint").exists()
    assert told(here.one("DONE", 6, vm)) == ("DONE", True, "")
    assert not place.exists() and os.listdir(host.etc / "conf") == []


def host_mark(here: Node) -> Any:
    from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Mark

    return Mark(here.record(7).catalog, 7, UUID)


def test_another_number_of_memory_is_another_definition(host: Host, here: Node) -> None:
    here.one("RUNNING", 1, machine(host))
    changed = machine(host, "ONBOOT = yes CPUUNITS = 500")
    assert told(here.one("RUNNING", 2, changed)) == ("RUNNING", True, "")
    text = host.conf.read_text(encoding="utf-8")
    assert 'CPUUNITS="500"' in text and 'ONBOOT="yes"' in text


def test_a_machine_that_is_made_anew_has_a_new_root(host: Host, here: Node) -> None:
    vm = machine(host)
    here.one("RUNNING", 1, vm)
    written = here.directory(7) / "images/private/etc/written"
    written.touch()
    outcome = here.one("RUNNING", 2, vm, operation="recreate")
    assert told(outcome) == ("RUNNING", True, "") and not written.exists()


@pytest.mark.parametrize("state", ["RUNNING", "POWEROFF"])
def test_its_root_becomes_an_image_if_the_name_tells_what_is_in_it(host: Host, here: Node, state: str) -> None:
    vm, images = machine(host), here.root / "datastores/1"
    images.mkdir(parents=True)
    here.one("RUNNING", 1, vm)
    task = DiskTask(SAVE_AS, "t1", 0, image="web", target=str(images / "abc"), format="tar")
    refused = here.one(state, 2, vm, tasks=(task,))
    assert refused.error is not None and "begins with no distribution" in refused.error["found"]
    assert os.listdir(images) == []
    named = DiskTask(SAVE_AS, "t2", 0, image="debian-web", target=str(images / "abc"), format="tar")
    saved = here.one(state, 3, vm, tasks=(named,))
    assert saved.error is None and [(each.token, each.format) for each in saved.tasks] == [("t2", "tar")]
    with tarfile.open(images / "abc") as tar:
        assert "./etc/hostname" in tar.getnames()


def test_somebody_elses_container_stops_the_machine_before_anything_is_made(host: Host, here: Node) -> None:
    host.conf.write_text('ONBOOT="no"\nVE_PRIVATE="/elsewhere"\n', encoding="utf-8")
    outcome = here.one("RUNNING", 1, machine(host))
    assert outcome.error is not None and outcome.error["kind"] == "ForeignObject"
    assert f"container {CTID}" in outcome.error["asked"] and not (here.directory(7) / "images").exists()


def test_a_file_that_is_not_there_is_named(host: Host, here: Node) -> None:
    vm = machine(host)
    host.tar.with_name("debian-12.tar.gz").unlink()
    outcome = here.one("RUNNING", 1, vm)
    assert outcome.error is not None and "debian-12.tar.gz on this node" in outcome.error["asked"]
    assert "Correct SOURCE" in outcome.error["remedy"]
