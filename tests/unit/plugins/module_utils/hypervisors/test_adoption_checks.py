# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine that is there, compared with what a plan says of it: each difference is told, and nothing is touched."""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from memory_node import CATALOG, Node, machine

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.adoption_checks import compare
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import ADOPT, Plan
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import PlannedVm as Planned
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Graphics, Vm


def differences(here: Node, vm: Vm, wanted: str = "RUNNING", catalog: str = CATALOG) -> tuple[str, ...]:
    """As they are told; what is there is afterwards as it was before."""

    def files() -> list[tuple[str, int, int]]:
        return [(str(p), p.lstat().st_mtime_ns, p.lstat().st_size) for p in sorted(here.root.rglob("*"))]

    before = files()
    here.driver.names()
    plan = Plan(catalog, 99, "node1", (Planned(vm, 1, wanted, operation=ADOPT), Planned(machine(7), 1, "RUNNING")))
    (compared,) = compare(plan, here.driver, str(here.root))
    assert (compared.vm_id, compared.uuid, compared.generation) == (vm.vm_id, vm.uuid, 1)
    assert here.driver.names() == [] and files() == before
    return compared.differences


def qcow2(size: int, backing: str = "", snapshots: int = 0) -> bytes:
    name = backing.encode()
    head = struct.pack(">4sIQIIQ", b"QFI\xfb", 3, 104 if name else 0, len(name), 16, size << 20)
    return head.ljust(60, b"\0") + struct.pack(">I", snapshots).ljust(44, b"\0") + name


def with_disk(here: Node, **values: Any) -> Vm:
    image = here.root / "image"
    if not image.exists():
        image.write_bytes(bytes(1 << 20))
    values = {"image": "base", "source": str(image), "size": 1, "clone": False, "driver": "raw", **values}
    return machine(disks=(Disk(0, "vda", **values),))


def test_what_is_as_the_plan_says(here: Node) -> None:
    vm = machine(context=Context(1, "hda", variables={"NAME": "web-0"}))
    here.one("RUNNING", vm=vm)
    assert differences(here, vm) == ()


@pytest.mark.parametrize(
    ("values", "says"),
    [({"memory": 65}, "its definition differs"), ({"context": Context(1, "hda")}, "its context has other variables")],
)
def test_what_differs_is_told_without_its_values(here: Node, values: dict[str, Any], says: str) -> None:
    here.one("RUNNING", vm=machine(context=Context(1, "hda", variables={"SECRET": "hunter2"})))
    told = "; ".join(differences(here, machine(**{"context": Context(1, "hda", variables={"SECRET": "x"}), **values})))
    assert says in told and "hunter2" not in told


def test_names_of_elements_are_told(here: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    here.one("RUNNING")
    text = "<domain>\n  <memory>1</memory>\n  <source file='a'/>\n</domain>\n"
    (here.directory() / "deployment.0").write_text(text)
    real = here.driver.render
    monkeypatch.setattr(
        here.driver,
        "render",
        lambda vm, site: replace(real(vm, site), text=text.replace("1</", "2</").replace("'a'", "'b'"), digest="x"),
    )
    assert differences(here, machine()) == ("its definition differs (memory, source)",)


@pytest.mark.parametrize(
    ("had", "wanted", "says"),
    [
        ("", "  <mtu size='9000'/>\n", ()),
        ("  <mtu size='9000'/>\n", "", ("its definition differs (mtu)",)),
        ("  <a/>\n", "  <mtu size='9000'/>\n", ("its definition differs (a, mtu)",)),
    ],
)
def test_an_mtu_that_an_earlier_release_did_not_write_is_no_difference(
    here: Node, monkeypatch: pytest.MonkeyPatch, had: str, wanted: str, says: tuple[str, ...]
) -> None:
    here.one("RUNNING")
    (here.directory() / "deployment.0").write_text(f"<domain>\n{had}</domain>\n")
    real, text = here.driver.render, f"<domain>\n{wanted}</domain>\n"
    monkeypatch.setattr(here.driver, "render", lambda vm, site: replace(real(vm, site), text=text, digest="x"))
    assert differences(here, machine()) == says


def test_the_newest_deployment_file_counts(here: Node) -> None:
    graphics = Graphics(password="first", made_up=True)
    here.one("RUNNING", vm=machine(graphics=graphics), seq=2)
    here.one("RUNNING", 2, vm=machine(graphics=replace(graphics, password="second")), seq=10)
    here.driver.password_in = lambda text: "second" if '"second"' in text else "first"  # type: ignore[method-assign]
    assert differences(here, machine(graphics=replace(graphics, password="made up anew"))) == ()
    # One that the list itself says is compared.
    chosen = replace(graphics, password="other", made_up=False)
    assert differences(here, machine(graphics=chosen)) == ("its definition differs (vm_id)",) or differences(
        here, machine(graphics=chosen)
    )


def test_a_machine_of_somebody_elses(here: Node) -> None:
    here.one("RUNNING")
    assert "vm.json is not its" in differences(here, replace(machine(), uuid="another"))[0]
    assert "vm.json is not its" in differences(here, machine(3))[0]


def test_what_can_not_be_read_is_a_difference(here: Node) -> None:
    here.one("RUNNING")
    (here.directory() / "deployment.0").unlink()
    assert "deployment.0" in differences(here, machine())[0]


def test_one_that_would_not_come_back_with_its_host(here: Node) -> None:
    here.one("RUNNING")
    here.driver.machines[0].autostart = False
    assert differences(here, machine()) == ("whether it starts with its host is not as its state wants it",)


def test_an_image_in_place(here: Node) -> None:
    vm = with_disk(here)
    here.one("RUNNING", vm=vm)
    assert differences(here, vm) == ()
    disk = here.directory() / "disk.0"
    disk.unlink()
    assert differences(here, vm) == (f"disk 0 is not there: {disk}",)
    os.symlink("/elsewhere", disk)
    assert differences(here, vm) == (f"disk 0 is not the file of image base: {disk}",)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda image: qcow2(1, image), ""),
        (lambda image: qcow2(2, image), ""),
        (lambda _image: qcow2(1, "/other"), "rests on /other, and image base is "),
        (lambda _image: qcow2(1), "rests on nothing, and image base is "),
        (lambda image: qcow2(0, image), "has 0 bytes, and the list says 1 MiB"),
        (lambda image: qcow2(1, image, snapshots=2), "holds snapshots"),
    ],
)
def test_an_overlay(here: Node, content: Any, says: str) -> None:
    vm = with_disk(here, clone=True, driver="qcow2", format="raw")
    disk = here.directory() / "disk.0"
    here.one("RUNNING", vm=machine())
    disk.write_bytes(content(str(here.root / "image")))
    told = [each for each in differences(here, vm) if each.startswith("disk 0")]
    assert (says in told[0]) if says else told == []


def test_a_plain_file(here: Node) -> None:
    vm = with_disk(here, clone=True)
    disk = Path(here.directory(), "disk.0")
    here.one("RUNNING", vm=machine())
    disk.write_bytes(bytes(10))
    assert "disk 0 has 10 bytes, and the list says 1 MiB" in differences(here, vm)
    disk.unlink()
    disk.mkdir()
    assert f"disk 0 is no file: {disk}" in differences(here, vm)


def test_such_a_plan_is_not_carried_out(here: Node) -> None:
    outcome = here.one("RUNNING", operation=ADOPT)
    assert outcome.error is not None and "for comparing it only" in outcome.error["found"]
    assert here.driver.names() == [] and not here.directory().exists()
