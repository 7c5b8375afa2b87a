# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installations from ISOs as runs of single modules with a real libvirtd, from the ISO to an image that was tried; and
what is refused. test_install_life.py has what goes wrong on the way."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import web_server
from in_world import in_world

from ansible_collections.nebula.provision.tests.integration.guests import fake_installer
from ansible_collections.nebula.provision.tests.integration.install_runs import TEMPLATE, installs
from ansible_collections.nebula.provision.tests.integration.test_hostile_disks import header, leaks


@in_world
def test_several_at_once_with_both_ends() -> None:
    """Of ISOs that are a file, a URL and an image."""
    with installs() as flow, web_server.serve() as web:
        two = fake_installer.build(flow.isos / "two.iso", end="reboot")
        web.files["/two.iso"] = two.read_bytes()
        flow.add("two", two, end="reboot", format="qcow2")
        flow.list[1].update(verify=False, iso=f"{web.url}/two.iso")
        stored = {"name": "stored", "type": "CDROM", "path": str(flow.isos / "one.iso"), "remote_src": True}
        flow.run("nebula_image", images=json.dumps([stored]))
        flow.add("three", flow.isos / "one.iso", verify=False)
        flow.list[2]["iso"] = {"image": "stored"}
        flow.all()
        flow.assert_ready("one")
        three = flow.image("three")
        assert (three["type"], three["state"]) == ("OS", "READY")
        assert three["attributes"]["INSTALLED_FROM"] == "stored"
        image = flow.image("two")
        assert (image["type"], image["state"], image["format"], image["bus"]) == ("OS", "READY", "qcow2", "virtio")
        assert image["attributes"]["VERIFIED"] == "NO" and image["firmware"] == "BIOS"
        before = flow.run("nebula_info", gather=["images"])["images"]
        assert flow.call("begun", observed=flow.polled())["going"] == []
        flow.all()
        assert flow.run("nebula_info", gather=["images"])["images"] == before


@in_world
def test_what_the_guest_wrote_names_no_file_of_the_host() -> None:
    """Its raw disk begins as a qcow2 whose content would be /etc/passwd; to everybody it is data."""
    hostile = header()
    with installs(sector=hostile[:510]) as flow:
        flow.list[0]["verify"] = False
        flow.all()
        assert not flow.errors, flow.errors
        image = flow.image("one")
        assert (image["type"], image["state"], image["format"]) == ("OS", "READY", "raw")
        assert Path(image["source"]).read_bytes()[:510] == hostile[:510]
        changed = flow.run("nebula_image", name="one", format="qcow2")["image"]
        whole = flow.place / "whole.raw"
        subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", changed["source"], str(whole)], check=True)
        assert whole.read_bytes()[:510] == hostile[:510] and leaks(flow.root) == []


@in_world
def test_what_can_not_be_is_refused_before_anything_is_made() -> None:
    with installs() as flow:
        text = flow.place / "text.iso"
        text.write_bytes(b"no ISO at all" * 5000)
        dead = fake_installer.build(flow.place / "dead.iso", bootable=False)
        flow.run("nebula_image", images=json.dumps([{"name": "taken", "type": "DATABLOCK", "size": 1}]))
        mine = [{"name": "install-media-answers", "type": "DATABLOCK", "size": 1}]
        mine += [{"name": "off.iso", "type": "CDROM", "path": str(flow.isos / "one.iso"), "remote_src": True}]
        flow.run("nebula_image", images=json.dumps(mine))
        flow.run("nebula_image", images=json.dumps([{"name": "off.iso", "state": "disabled"}]))
        for name in ("install-templ", "verify-trial"):
            flow.run("nebula_template", name=name, template='CPU = 1\nMEMORY = 32\nDISK = [ IMAGE = "taken" ]\n')
        before = flow.run("nebula_info", gather=["images"])["images"]
        one = flow.isos / "one.iso"
        flow.add("drivers", one, drivers="virtio")
        flow.add("cd", one, drivers="taken")
        flow.add("host", one, host="nod1")
        flow.add("media", one)
        flow.add("templ", one)
        flow.add("trial", one)
        flow.add("off", one)
        flow.list[-1]["iso"] = {"image": "off.iso"}
        flow.add("broken", one, size=40000, answers={"kind": "autounattend", "password": "x"}, firmware="BIOS")
        flow.list[-1]["template"] = {"CPU": "0.1"}
        flow.rendered = {"broken": {"error": "no_such_variable is undefined"}}
        for place in ("first", "second"):
            (flow.place / place).mkdir()
            flow.add(place, fake_installer.build(flow.place / place / "other.iso"))
        flow.add("text", text)
        flow.add("dead", dead)
        flow.add("uefi", flow.isos / "one.iso", firmware="UEFI")
        flow.add("taken", flow.isos / "one.iso")
        flow.add("small", flow.isos / "one.iso", answers={"kind": "preseed", "password_hash": "x"})
        flow.add(
            "kernel", flow.isos / "one.iso", answers={"kind": "preseed", "password_hash": "x"}, size=9000, template={}
        )
        flow.add("kind", flow.isos / "one.iso", answers={"kind": "preseeed"})
        flow.add("memory", one, template={"MEMORY": 0})
        flow.add("port", one, template={**TEMPLATE, "GRAPHICS": {"PORT": "abc"}})
        flow.add("network", one, template={**TEMPLATE, "NIC": {"NETWORK": "nosuch"}})
        flow.add("said", one, verify={"pattern": "("})
        flow.add("twice", one)
        flow.add("twice", dead)
        del flow.list[0]
        answer = flow.call("begun", observed=flow.polled())
        assert answer["going"] == ["first"] and [each["name"] for each in answer["isos"]] == ["other.iso"]
        said = "\n".join(flow.errors)
        for words in (
            "install drivers: drivers virtio: there is no such image",
            "install cd: drivers taken: that image is of type DATABLOCK",
            "install host: host nod1: there is no such host. Did you mean 'node1'",
            "install media: image install-media-answers: there is one of that name",
            "install templ: template install-templ: there is one of that name",
            "install trial: template verify-trial: there is one of that name",
            "install off: iso off.iso: it is DISABLED",
            "install second: iso other.iso: install first has one of that name with path",
            "install broken: answers: no_such_variable is undefined",
            "install text: iso", "it is not an ISO 9660 file system",
            "install dead: iso dead.iso: it is not bootable", "install uefi: iso one.iso: only a BIOS boots it",
            "install taken: image taken: there is one of that name",
            "needs 2048 MB at least", "it has no installer's kernel at install.amd/vmlinuz",
            "Did you mean 'preseed'?",
            "install memory: template: MEMORY = '0': it is not a whole number of at least 1",
            "install port: template: GRAPHICS/PORT = 'abc'",
            "install network: template: NIC 0: network 'nosuch': the catalog has none",
            "install said: verify: pattern '(': it is not a regular expression",
        ):  # fmt: skip
            assert words in said, (words, said)
        assert said.count("install twice: the list has it twice") == 2
        assert flow.run("nebula_info", gather=["images"])["images"] == before


@in_world
def test_room_is_looked_for_before_anything_is_made() -> None:
    with installs() as flow:
        images = flow.root / "datastores/1"
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m,mode=711", "none", images], check=True)
        try:
            # 64 MB are kept free.
            flow.list[0]["size"] = 20
            flow.add("two", flow.isos / "one.iso", size=20)
            flow.add("three", flow.isos / "one.iso", size=4)
            answer = flow.call("begun", observed=flow.polled())
            assert answer["going"] == ["one", "three"] and len(flow.errors) == 1
            assert "install two: size 20, and those before it in the list" in flow.errors[0]
            assert "are free, besides 64 MiB that are kept so" in flow.errors[0]
            assert flow.run("nebula_info", gather=["images"])["images"] == []
        finally:
            subprocess.run(["umount", images], check=True)


@in_world
def test_what_is_somebodys_own_is_neither_written_over_nor_removed() -> None:
    with installs() as flow:
        flow.list[0]["verify"] = False
        flow.all()
        image = flow.image("one")
        # A copy is not what was installed, and tried.
        flow.run("nebula_image", images=json.dumps([{"name": "copy", "clone_of": "one"}]))
        own = {"name": "one", "type": "DATABLOCK", "persistent": True}
        flow.run("nebula_image", images=json.dumps([own]))
        assert flow.image("copy")["attributes"] == {}
        before = flow.run("nebula_info", gather=["images"])["images"]
        began = flow.call("begun", observed=flow.polled())
        assert began["going"] == [] and "no installation is going on into it" in flow.errors[0]
        flow.list[0]["state"] = "absent"
        flow.errors.clear()
        flow.all()
        assert not flow.errors and flow.run("nebula_info", gather=["images"])["images"] == before
        assert Path(image["source"]).stat().st_mode & 0o222
