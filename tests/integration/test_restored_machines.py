# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups that become images and new machines, by module runs as the playbook makes them; from the directory alone."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from pathlib import Path
from typing import Any

from in_world import in_world
from made_backups import MadeBackups, altered, content_of, random_content

from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import MachineBackup
from ansible_collections.nebula.provision.tests.integration.kvm_node import GUEST
from ansible_collections.nebula.provision.tests.integration.module_flow import HOST, Flow

MIB = 1 << 20
OTHER = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
TEMPLATE: dict[str, Any] = {
    "CPU": "0.01",
    "MEMORY": "32",
    "OS": {"MACHINE": "pc", "BOOT": "disk0", "KERNEL": "/etc/shadow"},
    "DISK": [
        {"IMAGE": "gone", "DEV_PREFIX": "vd", "CACHE": "none"},
        {"TYPE": "FS", "SIZE": "2", "FORMAT": "raw", "DEV_PREFIX": "vd"},
        {"SOURCE": "/etc/shadow", "DEV_PREFIX": "vd"},
    ],
    "NIC": [{"NETWORK": "Old", "IP": "192.0.2.7", "MAC": "02:00:c0:00:02:07"}],
    "CONTEXT": {"NETWORK": "YES", "SET_HOSTNAME": "web-7", "FILES": "/etc/shadow", "ETH0_IP": "192.0.2.7"},
    "RAW": {"TYPE": "kvm", "DATA": "<qemu:commandline/>"},
    "EMULATOR": "/tmp/qemu",
    "SCHED_REQUIREMENTS": "ID=1",
}


class Site:
    def __init__(self, key: str = "") -> None:
        base = Path(os.environ["NEBULA_WORLD"], f"site-{uuid.uuid4().hex[:8]}")
        base.mkdir(mode=0o711)
        base.chmod(0o711)
        # Of the site before.
        subprocess.run(["ip", "link", "delete", "nbr0"], check=False, capture_output=True)
        self.flow = Flow(base / "root", base / "sources")
        for step in self.flow.begin():
            self.flow.take(step)
        self.place = MadeBackups(base / "backups", key)

    def plan(self, **given: Any) -> dict[str, Any]:
        packed = {name: json.dumps(given.pop(name)) for name in ("secrets", "item") if name in given}
        place = str(self.place.directory)
        return self.flow.attempt(
            "nebula_machine_restore", state="planned", name="web-7", directory=place, **packed, **given
        )

    def bring_in(self, planned: dict[str, Any], **given: Any) -> dict[str, Any]:
        assert not planned.get("failed"), planned
        return self.flow.attempt(
            "nebula_machine_restore",
            state="imported",
            name="web-7",
            directory=str(self.place.directory),
            images=json.dumps(planned["images"]),
            **given,
        )

    def names(self, kind: str) -> set[str]:
        found = self.flow.run("nebula_info", gather=[kind])
        return {each["name"] for each in found[kind]}

    def source(self, image: str) -> Path:
        found = self.flow.run("nebula_info", gather=["images"])["images"]
        return Path(next(each["source"] for each in found if each["name"] == image))


def backup(site: Site, **changes: Any) -> tuple[MachineBackup, dict[int, bytes]]:
    disks = {0: GUEST.ljust(65536, b"\0") + random_content(2 * MIB, "0")[65536:], 2: random_content(2 * MIB, "2")}
    given = {"template": TEMPLATE, "images": {0: "gone"}, **changes}
    return site.place.full(7, OTHER, disks, **given), disks


@in_world
def test_a_disk_becomes_an_image() -> None:
    site = Site()
    first, disks = backup(site)
    planned = site.plan(image="mine", disks=[0])
    stored = site.bring_in(planned)
    assert stored["changed"], stored
    assert not site.bring_in(site.plan(image="mine", disks=[0]))["changed"]
    assert content_of(site.source("mine")) == disks[0]
    # Of a chain, and as raw.
    site.place.incremental(first, {2: [(0, b"n" * 65536)]})
    stored = site.bring_in(site.plan(image="second", disks=[2], persistent=True))
    assert not stored.get("failed"), stored
    (image,) = stored["images"]
    assert (image["type"], image["persistent"]) == ("DATABLOCK", True)
    assert content_of(site.source("second"), image["format"]) == b"n" * 65536 + disks[2][65536:]
    assert not [name for name in os.listdir(site.source("second").parent) if name.startswith(".upload")]
    assert not site.bring_in(site.plan(image="second", disks=[2], persistent=True))["changed"]
    assert "one disk becomes one image" in site.plan(image="both")["msg"]
    assert "has an image of that name" in site.plan(image="base", disks=[0])["msg"]
    with altered(site.place.place(first) / first.disks[1].file.name):
        refused = site.bring_in(site.plan(image="third", disks=[2]))
        assert "SHA-256" in refused["msg"], refused
    assert "third" not in site.names("images")


@in_world
def test_a_backup_becomes_a_new_machine() -> None:
    site = Site()
    _made, disks = backup(site)
    assert "networks that are not here: Old" in site.plan(new_name="new")["msg"]
    assert site.names("images") == {"base", "packed", "data", "plain"}
    planned = site.plan(new_name="new", networks={"Old": "Public"})
    assert not planned.get("failed"), planned
    told = " ".join(planned["notes"])
    for name in (
        "OS/KERNEL",
        "RAW",
        "EMULATOR",
        "CONTEXT/FILES",
        "CONTEXT/ETH0_IP",
        "NIC/IP",
        "NIC/MAC",
        "DISK SOURCE",
    ):
        assert name in told, (name, told)
    assert "/etc/shadow" not in json.dumps(planned["templates"])
    site.bring_in(planned)
    for _again in range(2):
        stored = site.flow.run("nebula_template", templates=json.dumps(planned["templates"]))
        assert stored["templates"]
        planned = site.plan(new_name="new", networks={"Old": "Public"})
        site.bring_in(planned)
    site.flow.decide(*planned["vms"])
    plan = site.flow.plan()
    assert plan is not None
    answer = site.flow.run("nebula_deploy", **plan)
    assert [outcome["error"] for outcome in answer["outcomes"]] == [None]
    site.flow.record()
    (machine,) = site.flow.run("nebula_info", gather=["vms"])["vms"]
    assert (machine["name"], machine["state"]) == ("new", "RUNNING")
    assert machine["nics"][0]["ip"].startswith("10.66.0.")
    assert machine["hostname"] == "new"
    assert content_of(site.source("new-disk-0")) == disks[0]
    assert content_of(site.source("new-disk-2")) == disks[2]
    site.flow.decide({"name": "new", "state": "absent", "hard": True})
    plan = site.flow.plan()
    assert plan is not None
    site.flow.run("nebula_deploy", **plan)
    site.flow.record()


@in_world
def test_secrets_are_asked_for_or_found() -> None:
    site = Site("a key")
    secrets = {"CONTEXT/PASSWORD": "letmein", "CONTEXT/TOKEN": "t"}
    backup(site, secrets=secrets)
    networks = {"Old": "Public"}
    assert "it is encrypted" in site.plan(new_name="new", networks=networks)["msg"]
    assert "the key is another one" in site.plan(new_name="new", networks=networks, key="no key")["msg"]
    planned = site.plan(new_name="new", networks=networks, key="a key")
    assert not planned.get("failed"), planned
    context = planned["templates"][0]["template"]["CONTEXT"]
    assert (context["PASSWORD"], context["TOKEN"]) == ("letmein", "t")
    stored = site.bring_in(planned, key="a key")
    assert not stored.get("failed"), stored
    # Without a key they were left out.
    plain = Site()
    backup(plain, secrets=secrets)
    told = plain.plan(new_name="new", networks=networks)["msg"]
    assert "CONTEXT/PASSWORD" in told and "CONTEXT/TOKEN" in told
    planned = plain.plan(
        new_name="new", networks=networks, secrets={"CONTEXT/PASSWORD": "one"}, item={"context": {"TOKEN": "two"}}
    )
    assert not planned.get("failed"), planned
    context = planned["templates"][0]["template"]["CONTEXT"]
    assert (context["PASSWORD"], context["TOKEN"]) == ("one", "two")


@in_world
def test_backups_are_listed() -> None:
    site = Site()
    first, _disks = backup(site)
    second = site.place.incremental(first, {})
    (site.place.place(first) / "20261130T050000Z-aaaaaa.json").write_text("{}", encoding="ascii")
    found = site.flow.run("nebula_machine_restore", state="listed", directory=str(site.place.directory))
    assert [(each["id"], each["kind"], each["rests_on"]) for each in found["backups"]] == [
        (second.id, "incremental", first.id),
        (first.id, "full", ""),
    ]
    assert [text for text in found["warnings"] if "20261130T050000Z-aaaaaa" in str(text)], found


@in_world
def test_a_machine_is_restored_in_its_place() -> None:
    site = Site()
    flow = site.flow
    flow.decide({"name": "web-7", "template": "web", "state": "poweroff"})
    flow.run("nebula_deploy", **(flow.plan() or {}))
    flow.record()
    (machine,) = flow.run("nebula_info", gather=["vms"])["vms"]
    place = flow.root / "datastores" / "0" / str(machine["id"])
    assert "there are none of it" in site.plan(frontend=HOST)["msg"]
    catalog = flow.answers["nebula_network"]["catalog"]
    content = GUEST.ljust(MIB, b"\0")
    disks = {0: content, 1: random_content(8 * MIB, "1")}
    made = site.place.full(machine["id"], catalog, disks, name="web-7")
    # Disk 2 is swap, which no backup holds.
    assert "Name front in --limit" in site.plan(frontend="front")["msg"]
    planned = site.plan(frontend=HOST, backup=made.id)
    assert not planned.get("failed"), planned
    foreseen = flow.run("nebula_machine_restore", request=planned["requests"][HOST], _ansible_check_mode=True)
    done = flow.run("nebula_machine_restore", request=planned["requests"][HOST])
    assert foreseen["changed"] and done["restored"]["disks"] == [0, 1]
    assert foreseen["restored"] == done["restored"]
    assert content_of(place / "disk.1") == disks[1]
    flow.decide({"name": "web-7", "template": "web", "state": "running"})
    flow.run("nebula_deploy", **(flow.plan() or {}))
    flow.record()
    assert "it is RUNNING" in site.plan(frontend=HOST)["msg"]
    flow.decide({"name": "web-7", "state": "absent", "hard": True})
    flow.run("nebula_deploy", **(flow.plan() or {}))
    flow.record()
