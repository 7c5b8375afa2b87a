# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installations from ISOs as runs of single modules with a real libvirtd: each step is killed, and gone on with."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from auditor import assert_consistent_here
from in_world import in_world

from ansible_collections.nebula.provision.tests.integration.guests import fake_installer, installer_iso
from ansible_collections.nebula.provision.tests.integration.install_runs import Installs, installs
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.module_flow import RUN


@in_world
def test_an_installer_that_reboots_on_its_way() -> None:
    """As Windows does: twice it goes on from the disk, the installer's ISO still in the drive, and is not installed
    again."""
    with installs(reboots=2) as flow:
        for name, act in flow.steps():
            act()
            if name == "wait":
                consoles = [path.read_text() for path in Path(flow.root, "datastores/0").glob("*/console.log")]
                assert sum(console.count(fake_installer.AGAIN) for console in consoles) == 2, consoles
                assert flow.installations() == 1
        flow.assert_ready("one")


STEPS = (
    "begun", "end-stale", "isos", "prepared", "machines", "wait", "recorded", "end", "converted", "trials", "verify",
    "concluded", "end-trials",
)  # fmt: skip


@in_world
def test_a_run_that_ends_after_any_step_is_gone_on_with() -> None:
    """The controller is gone after each step in turn; nothing is installed twice."""
    with installs() as flow:
        ran, kept = 0, None
        said: list[str] = []
        for last in STEPS:
            for name, act in flow.steps():
                act()
                ran = max(ran, flow.installations())
                if name == "machines" and kept is None:
                    kept = flow.identity("one")
                said += [each["step"] for each in flow.call("shown", observed=flow.polled())["installs"]]
                image = flow.image("one")
                if image and (image["unfinished"] or image["type"] == "DATABLOCK"):
                    assert image["state"] != "READY" or not Path(image["source"]).read_bytes().strip(b"\0")
                if name == last:
                    break
        flow.all()
        flow.assert_ready("one")
        assert ran == 1 and flow.identity("one") == kept
        told = [step for step, _same in itertools.groupby(said)]
        assert told == [
            "to be installed",
            "installing",
            "installed, its machine is there still",
            "installed, to become an OS image",
            "OS image, its guest is not believed yet",
            "ready, verified",
        ]


@pytest.mark.parametrize("moment", [0.05, 0.4, 0.8])
@in_world
def test_a_module_that_is_killed_at_any_moment(moment: float) -> None:
    """SIGKILL for whatever runs, in the middle of each step in turn, some way into it."""
    with installs() as flow:
        kept = None
        for last in ("prepared", "machines", "wait", "recorded", "end", "converted", "trials", "concluded"):
            for name, act in flow.steps():
                if name == last:
                    flow.kill_within(moment, act)
                    break
                act()
                if name == "machines" and kept is None:
                    kept = flow.identity("one")
        flow.all()
        flow.assert_ready("one")
        assert flow.identity("one") == kept


@in_world
def test_the_guest_is_at_its_end_before_anybody_has_recorded_its_start() -> None:
    """Killed between act and record: the plan, carried out again, would start the machine again."""
    with installs() as flow:
        for name, act in flow.steps():
            if name == "machines":
                flow.decide(*flow.answers["nebula_install"]["vms"])
                flow.run("nebula_deploy", **flow.plan())
                break
            act()
        wait_for(lambda: flow.polled()[0]["vms"][0]["ended"] == "guest", "the end of the installation")
        flow.all()
        flow.assert_ready("one")


@in_world
def test_a_host_that_crashes_meanwhile_has_it_installed_anew() -> None:
    with installs(wait=300) as flow:
        _until(flow, "machines")
        wait_for(lambda: flow.installations() == 1, "the installer")
        disk = Path(flow.image("one")["source"])
        with disk.open("r+b") as file:
            file.write(b"half")
        first = flow.image("one")["id"]
        name = flow.domain("install-one")
        # A QEMU that is killed is what a crash of its host leaves.
        os.kill(int(Path(f"/run/libvirt/qemu/{name}.pid").read_text()), signal.SIGKILL)
        wait_for(lambda: flow.polled()[0]["vms"][0]["state"] == "POWEROFF", "its end")
        began = flow.call("begun", observed=flow.polled())
        assert [each["step"] for each in began["installs"]] == ["to be installed anew"]
        assert began["vms"] == [{"name": "install-one", "state": "absent", "hard": True}]
        flow.machines(began["vms"])
        assert flow.image("one")["state"] == "ERROR"
        flow.call("prepared", only=began["going"], observed=flow.polled())
        assert flow.image("one")["id"] != first
        assert not Path(flow.image("one")["source"]).read_bytes().strip(b"\0")
        flow.all()
        flow.assert_ready("one")


@in_world
def test_what_is_given_up_leaves_nothing() -> None:
    with installs(wait=600) as flow:
        _until(flow, "machines")
        flow.list[0]["state"] = "absent"
        flow.all()
        assert flow.image("one") == {} and flow.run("nebula_info", gather=["templates"])["templates"] == []
        assert flow.run("nebula_info", gather=["vms"])["vms"] == []


@in_world
def test_a_guest_that_stays_silent_is_not_believed() -> None:
    with installs() as flow:
        flow.list[0]["verify"] = {"pattern": "never said", "timeout": 5}
        flow.all()
        image = flow.image("one")
        assert (image["state"], image["attributes"]["VERIFIED"]) == ("USED", "NO")
        rows = flow.call("shown", observed=flow.polled())["installs"]
        assert [each["step"] for each in rows] == ["OS image, its guest is not believed yet"]
        # To be looked at.
        assert [vm["name"] for vm in flow.run("nebula_info", gather=["vms"])["vms"]] == ["verify-one"]
        kept = flow.identity("one")
        flow.list[0]["verify"] = {"pattern": "fake login", "timeout": 60}
        flow.all()
        flow.assert_ready("one")
        assert flow.identity("one") == kept


@in_world
def test_an_end_without_its_line_is_no_end() -> None:
    """A kernel that panics ends its machine as well."""
    with installs(marker=False) as flow:
        flow.list[0].update(marker=False, end={"pattern": "install: finished$"})
        flow.all()
        assert "the guest ended its machine without the line that is its end" in flow.errors[0], flow.errors
        assert flow.image("one")["state"] == "USED_PERS" and flow.image("one")["type"] == "DATABLOCK"
        flow.errors.clear()
        flow.list[0]["state"] = "absent"
        flow.all()
        assert flow.image("one") == {} and not flow.errors


@in_world
def test_a_machine_that_installs_does_not_start_with_its_host() -> None:
    import libvirt

    with installs(wait=600) as flow:
        _until(flow, "machines")
        with closing(libvirt.open("qemu:///system")) as connection:
            domain = connection.lookupByName(flow.domain("install-one"))
            assert not domain.autostart()
        assert_consistent_here(str(flow.root))
        flow.list[0]["state"] = "absent"
        flow.all()
        assert flow.image("one") == {} and not flow.errors


@in_world
def test_an_end_without_the_word_is_no_end() -> None:
    with installs(marker=False) as flow:
        flow.all()
        assert "the guest ended its machine without having said that it is finished" in flow.errors[0]
        assert "Last lines" in flow.errors[0] and "done" in flow.errors[0]
        assert flow.image("one")["state"] == "USED_PERS"
        flow.errors.clear()
        # Again, with the same answer: nothing is begun anew over it.
        flow.all()
        assert len(flow.errors) == 1 and flow.installations() == 1
        flow.errors.clear()
        flow.list[0]["state"] = "installed"
        flow.all()
        flow.assert_ready("one")


@in_world
def test_an_installation_that_takes_too_long_is_kept_and_waited_for_again() -> None:
    with installs(end="stay") as flow:
        flow.list[0]["timeout"] = 2
        flow.all()
        assert "it has not come to its end within 2 s" in flow.errors[0]
        assert flow.polled()[0]["vms"][0]["state"] == "RUNNING"
        flow.errors.clear()
        # Its console says more than it ends by.
        flow.list[0].update(timeout=60, end={"pattern": "install: finished$"})
        flow.all()
        flow.assert_ready("one")


@in_world
def test_an_iso_that_asks_for_a_key() -> None:
    """As that of Windows does; the profile's machine, with answers, but for secure boot."""
    with installs(key=True) as flow:
        flow.list[0].update(
            firmware="BIOS", size=40000, template={"CPU": "0.1"}, bus="sata", verify={"pattern": "fake login"},
            answers={"kind": "autounattend", "password": "s3cr3t", "way": "floppy"},
        )  # fmt: skip
        flow.list[0]["drivers"] = "virtio-win.iso"
        drivers = fake_installer.build(flow.isos / "virtio-win.iso", bootable=False)
        stored = {"name": "virtio-win.iso", "type": "CDROM", "path": str(drivers), "remote_src": True}
        source = flow.run("nebula_image", images=json.dumps([stored]))["images"][0]["source"]
        flow.rendered = {"one": "<unattend/>"}
        for name, act in flow.steps():
            act()
            if name == "machines":
                drives = ET.fromstring(flow.definition("install-one")).findall("./devices/disk[@device='cdrom']/source")
                assert source in [drive.get("file") for drive in drives] and len(drives) == 2
        flow.assert_ready("one")
        assert flow.image("one")["bus"] == "sata"
        names = [each["name"] for each in flow.run("nebula_info", gather=["images"])["images"]]
        assert sorted(names) == ["one", "one.iso", "virtio-win.iso"]


@in_world
def test_what_a_killed_run_left_is_cleaned() -> None:
    with installs() as flow:
        flow.list[0]["verify"] = False
        flow.all()
        answers = flow.place / "answers"
        answers.write_bytes(b"s3cr3t".ljust(4096))
        left = {"name": "install-one-initrd", "type": "RAMDISK", "path": str(answers), "remote_src": True}
        ours = 'CPU = 1\nMEMORY = 32\nINSTALLS = one\nDISK = [ IMAGE = "one" ]\n'
        for state in ("present", "absent"):
            flow.run("nebula_image", images=json.dumps([{**left, "attributes": {"INSTALLS": "one"}}]))
            flow.run("nebula_template", name="install-one", template=ours)
            flow.list[0]["state"] = state
            began = flow.call("begun", observed=flow.polled())
            assert began["going"] == ["one"] and began["changed"]
            flow.all()
            assert [each["name"] for each in flow.run("nebula_info", gather=["images"])["images"]] == ["one.iso", "one"]
            assert flow.run("nebula_info", gather=["templates"])["templates"] == []
            assert flow.call("begun", observed=flow.polled())["going"] == [] and not flow.errors


@in_world
def test_two_runs_at_once_on_one_name() -> None:
    with installs() as flow:
        _until(flow, "isos")
        told = flow.told_to(
            "nebula_install",
            {"state": "prepared", "installs": json.dumps(flow.list), "only": ["one"], "observed": flow.polled()},
        )
        command = [sys.executable, "-c", RUN, "nebula_install"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        runs = [subprocess.Popen(command, env=flow.surroundings({}), **pipes) for _run in range(3)]
        for run in runs:
            assert run.stdin is not None
            run.stdin.write(told)
            run.stdin.close()
            run.stdin = None
        answers = [json.loads(run.communicate(timeout=120)[0]) for run in runs]
        assert not any(answer.get("failed") for answer in answers), answers
        # Nobody has removed what another made.
        assert {answer["installs"][0]["image"] for answer in answers} == {flow.image("one")["id"]}
        flow.all()
        flow.assert_ready("one")
        # A run that comes late with what it heard.
        late = [{"name": "one", "vm_id": 0, "installed": True, "how": "its guest ended the machine"}]
        flow.call("recorded", only=["one"], waited=late)
        assert "another run has gone on with the installation" in flow.errors[0]


@in_world
def test_an_end_that_nobody_can_tell_is_asked_for() -> None:
    with installs() as flow:
        _until(flow, "machines")
        wait_for(lambda: flow.polled()[0]["vms"][0]["ended"] == "guest", "the end of the installation")
        observed = flow.polled()
        observed[0]["vms"][0]["ended"] = "unknown"
        # Its console can tell.
        assert [each["due"] for each in flow.call("begun", observed=observed)["installs"]] == ["wait"]
        flow.list[0]["marker"] = False
        began = flow.call("begun", observed=observed)
        assert began["vms"] == [] and began["going"] == []
        assert "nothing tells whether its guest ended it" in flow.errors[0] and "state: installed" in flow.errors[0]
        flow.errors.clear()
        # Another firmware, or another disk, is another installation.
        flow.list[0].update(bus="sata")
        flow.call("begun", observed=flow.polled())
        assert "install one: bus sata: it is being installed with bus virtio" in flow.errors[0]
        flow.errors.clear()
        del flow.list[0]["bus"]
        flow.all()
        flow.assert_ready("one")
        before = flow.run("nebula_info", gather=["images"])["images"]
        shown = flow.call("shown")
        assert not shown["changed"] and [each["due"] for each in shown["installs"]] == ["done"]
        assert flow.run("nebula_info", gather=["images"])["images"] == before


@pytest.mark.parametrize("carried_out", [True, False])
@in_world
def test_a_machine_that_is_removed_takes_no_humans_work_with_it(carried_out: bool) -> None:
    """Installed by hand, switched off, and removed: by a run that did so, or by one that was killed before it could."""
    with installs() as flow:
        flow.list[0].update(end="manual", marker=False)
        _until(flow, "machines")
        kept = flow.identity("one")
        wait_for(lambda: flow.polled()[0]["vms"][0]["ended"] == "guest", "the end of the installation")
        gone = {"name": "install-one", "state": "absent", "hard": True}
        flow.bring(gone) if carried_out else flow.decide(gone)
        flow.all()
        assert "its machine is gone, or going" in flow.errors[0] and "state: installed" in flow.errors[0], flow.errors
        assert flow.identity("one") == kept and flow.image("one")["type"] == "DATABLOCK"
        flow.errors.clear()
        flow.list[0]["state"] = "installed"
        flow.all()
        flow.assert_ready("one")
        assert flow.identity("one") == kept


@in_world
def test_what_is_heard_to_be_installed_is_not_asked_to_switch_off() -> None:
    """Killed between the record of that and the end of its machine, which obeys no power button."""
    with installs(end="stay", marker=False) as flow:
        flow.list[0].update(end={"pattern": "^done"}, marker=False)
        _until(flow, "machines")
        kept = flow.identity("one")
        console = next(Path(flow.root, "datastores/0").glob("*/console.log"))
        wait_for(lambda: "done" in console.read_text(), "the end of the installation")
        # What the node says once all is silent.
        vm_id = flow.polled()[0]["vms"][0]["vm_id"]
        heard = [{"name": "one", "vm_id": vm_id, "installed": True, "how": "its console said 'done'"}]
        (ended,) = flow.call("recorded", only=["one"], waited=heard)["vms"]
        assert ended["hard"]
        assert flow.call("begun", observed=flow.polled())["vms"] == [ended]
        # Of what a human says only, nobody knows whether it is still written to.
        flow.list[0]["state"] = "installed"
        assert flow.call("begun", observed=flow.polled())["vms"] == [{**ended, "hard": False}]
        flow.list[0]["state"] = "present"
        flow.all()
        flow.assert_ready("one")
        assert flow.identity("one") == kept


@in_world
def test_what_is_finished_stays_so_without_its_inputs() -> None:
    with installs() as flow:
        small = flow.place / "small.template"
        small.write_text("CPU = 0.1\nMEMORY = 32\n")
        flow.list[0].update(template=None, template_file=str(small))
        flow.all()
        flow.assert_ready("one")
        small.unlink()
        flow.run("nebula_image", images=json.dumps([{"name": "one.iso", "state": "absent"}]))
        # As a file that the play had.
        flow.list[0]["iso"] = "one.iso"
        before = flow.run("nebula_info", gather=["images"])["images"]
        began = flow.call("begun", observed=flow.polled())
        assert not began["changed"] and began["going"] == [] and not flow.errors, flow.errors
        flow.all()
        assert [each["step"] for each in flow.call("shown")["installs"]] == ["ready, verified"]
        assert not flow.errors and flow.run("nebula_info", gather=["images"])["images"] == before


def test_an_installers_kernel_is_booted_directly_and_once() -> None:
    if os.geteuid() != 0:
        pytest.skip("a world needs root")
    # Outside of the world, which has no network.
    by_its_kernel(iso=str(installer_iso.build("reboot")))


@in_world
def by_its_kernel(iso: str) -> None:
    """With answers in its initrd, and an end that is a reboot: the kernel would be booted again."""
    with installs() as flow:
        flow.list.clear()
        flow.add(
            "one", Path(iso), size=2048, template={"CPU": "0.5"}, end="reboot", timeout=240,
            answers={"kind": "preseed", "root_password_hash": "s3cr3t"},
            verify={"pattern": "login:|nebula-guest: ready"},
        )  # fmt: skip
        flow.rendered = {"one": "d-i s3cr3t/answer string\n"}
        for name, act in flow.steps():
            act()
            if name == "prepared":
                images = {each["name"]: each for each in flow.run("nebula_info", gather=["images"])["images"]}
                initrd = Path(images["install-one-initrd"]["source"])
                assert b"preseed.cfg" in initrd.read_bytes()[-1024:] and initrd.stat().st_mode & 0o007 == 0
            if name == "machines":
                assert "<on_reboot>destroy</on_reboot>" in flow.definition("install-one")
                assert "preseed/file=/preseed.cfg" in flow.definition("install-one")
            if name == "trials":
                later = flow.definition("verify-one")
                assert "<kernel>" not in later and "<on_reboot>destroy" not in later and "cdrom" not in later
        assert not flow.errors, flow.errors
        left = flow.run("nebula_info", gather=["images"])["images"]
        assert [(each["name"], each["type"]) for each in left] == [(Path(iso).name, "CDROM"), ("one", "OS")]
        assert left[1]["attributes"]["VERIFIED"] == "YES"


def test_a_real_installer_that_fails_or_stays() -> None:
    if os.geteuid() != 0:
        pytest.skip("a world needs root")
    # Outside of the world, which has no network.
    fails_or_stays(fail=str(installer_iso.build("fail")), stay=str(installer_iso.build("stay")))


@in_world
def fails_or_stays(fail: str, stay: str) -> None:
    """One fails, and its machine is kept; the other one is installed when somebody says so."""
    with installs() as flow:
        flow.list.clear()
        common: dict[str, Any] = {"size": 512, "template": {"CPU": "0.5", "MEMORY": 256}}
        flow.add("failing", Path(fail), timeout=240, **common)
        flow.add("by-hand", Path(stay), end="manual", marker=False, **common, verify={"pattern": "login:"})
        flow.list[1]["timeout"] = 1
        flow.all()
        said = {name: next(text for text in flow.errors if name in text) for name in ("failing", "by-hand")}
        assert "its console says 'nebula-install: failed: as it was told to'" in said["failing"]
        assert "Last lines" in said["failing"] and "file system is made" in said["failing"]
        assert "it has not come to its end within 1 s" in said["by-hand"], flow.errors
        assert re.search(r"Its console: virsh console one-\d+, VNC 127\.0\.0\.1:59\d\d", said["by-hand"]), said[
            "by-hand"
        ]
        assert {vm["state"] for vm in flow.polled()[0]["vms"]} == {"RUNNING"}
        assert flow.image("failing")["state"] == "USED_PERS"
        flow.list[0]["state"] = "absent"
        flow.errors.clear()
        console = Path(
            next(vm for vm in flow.run("nebula_info", gather=["vms"])["vms"] if "hand" in vm["name"])["console"]
        )
        wait_for(lambda: installer_iso.FINISHED.encode() in console.read_bytes(), "the end", 240)
        # The plug is pulled: nobody knows what that is, but who did it.
        flow.bring({"name": "install-by-hand", "state": "poweroff", "hard": True})
        flow.all()
        assert "say state: installed if it is finished" in flow.errors[0] and flow.image("failing") == {}
        flow.errors.clear()
        flow.list = [{**flow.list[1], "state": "installed", "timeout": 240}]
        flow.all()
        assert not flow.errors, flow.errors
        image = flow.image("by-hand")
        assert (image["type"], image["state"], image["attributes"]["VERIFIED"]) == ("OS", "READY", "YES")


def _until(flow: Installs, last: str) -> None:
    for name, act in flow.steps():
        act()
        if name == last:
            return
