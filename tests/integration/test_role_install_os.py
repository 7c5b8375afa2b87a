# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbook install_os as a person runs it, on a bare host: foreseen, killed, gone on with, and run again."""

from __future__ import annotations

import io
import os
import re
import signal
import struct
import subprocess
from pathlib import Path

import pycdlib
import yaml
from auditor import assert_consistent
from canaries import ways
from in_world import in_bare_world

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.tests.integration.guests import fake_installer
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.site_runs import Site, changed_tasks, recap

PLAYBOOK = "playbooks/install_os.yml"
SECRET = "s3cr3t-Installed"


def table(output: str) -> dict[str, list[str]]:
    """The last table of installations: words of each row by name."""
    rows = output.rpartition("\nInstallations\n")[2].split("\n\n")[0].splitlines()
    return {row.split()[0]: re.split(r" {2,}", row.strip())[1:] for row in rows[1:] if not row.startswith("ok:")}


def holds(directory: Path, secret: str) -> list[str]:
    # grep passes over the holes of disks, which are of gigabytes, and keeps none of them in memory.
    command = ["grep", "-rlF", "--", secret, str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout.splitlines()


def silent_kernel() -> bytes:
    """A kernel by Linux's boot protocol that says nothing and stays: its machine is there until it is given up."""
    header = struct.pack("<B", 1).ljust(13, b"\0") + b"\x55\xaa" + b"\xeb\x66" + b"HdrS" + struct.pack("<H", 0x200)
    return (bytes(0x1F1) + header).ljust(0x268, b"\0") + b"\xfa\xf4\xeb\xfd".ljust(2048, b"\0")


def silent_iso(path: Path) -> None:
    """An ISO that has it, and something for an initrd, where Ubuntu's installers have theirs."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, rock_ridge="1.09", vol_ident="SILENT")
    iso.add_directory("/CASPER", "casper")
    for name, content in (("vmlinuz", silent_kernel()), ("initrd", bytes(512))):
        iso.add_fp(io.BytesIO(content), len(content), f"/CASPER/{name.upper()}.;1", name)
    iso.write(str(path))
    iso.close()


def on_iso(path: str, *names: str) -> list[str]:
    """Its label and the files that have to be all it has, as programs that are not ours read them."""

    def said(*command: str) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    # Of a file that is not there isoinfo says nothing, as of an empty one.
    assert sorted(said("isoinfo", "-R", "-f", "-i", path).split()) == sorted(f"/{name}" for name in names)
    label = said("blkid", "-p", "-o", "value", "-s", "LABEL", path)
    return [label, *(said("isoinfo", "-R", "-x", f"/{name}", "-i", path) for name in names)]


def media(site: Site) -> dict[str, tuple[str, str]]:
    """Of each image that is there for an installation only, its type and its file."""
    engine = EmbeddedEngine(str(site.root), check_mode=True)
    try:
        images = [image for image in engine.images.pool() if image.name.startswith("install-")]
        return {image.name: (image.type.name, image.source) for image in images}
    finally:
        engine.close()


def check_answers(site: Site) -> None:
    """Installers find their answers by an ISO's label and a file's name, and by nothing else."""
    found = media(site)
    assert {name: kind for name, (kind, _path) in found.items()} == {
        "install-slow-answers": "CDROM",
        "install-seeded-answers": "CDROM",
        "install-seeded-kernel": "KERNEL",
        "install-seeded-initrd": "RAMDISK",
    }
    answers = {path for name, (_kind, path) in found.items() if name.endswith("-answers")}
    assert set(holds(site.root, SECRET)) == answers
    label, kickstart = on_iso(found["install-slow-answers"][1], "ks.cfg")
    assert label == "OEMDRV\n"
    lines = kickstart.splitlines()
    assert f"rootpw --iscrypted {SECRET}" in lines and "network --hostname=fake" in lines, lines
    assert "ignoredisk --only-use=vda" in lines and "poweroff" in lines, lines
    label, user_data, meta_data = on_iso(found["install-seeded-answers"][1], "user-data", "meta-data")
    assert label == "CIDATA\n" and meta_data == "" and user_data.startswith("#cloud-config\n")
    identity = yaml.safe_load(user_data)["autoinstall"]["identity"]
    assert (identity["hostname"], identity["password"]) == ("seeded", SECRET)


@in_bare_world
def test_foreseen_killed_gone_on_with_and_run_again() -> None:
    site = Site("none")
    isos = site.directory / "isos"
    isos.mkdir()
    # Long enough to be killed meanwhile, wherever the machine is.
    fake_installer.build(isos / "slow.iso", wait=18 * 15)
    fake_installer.build(isos / "fast.iso", end="reboot")
    silent_iso(isos / "silent.iso")
    small = {"MEMORY": 64, "CPU": 0.1}
    answers = {"kind": "kickstart", "hostname": "fake", "root_password_hash": SECRET, "user": ""}
    site.variables.update(
        nebula_images=[],
        nebula_networks=[],
        nebula_templates=[],
        nebula_vms=[],
        nebula_manage_packages=False,
        nebula_installs=[
            {
                "name": "slow",
                "iso": str(isos / "slow.iso"),
                "size": 10240,
                "boot": "iso",
                "answers": answers,
                "timeout": 300,
            },
            {
                "name": "fast",
                "iso": str(isos / "fast.iso"),
                "size": 4,
                "end": "reboot",
                "template": small,
                "verify": False,
            },
            {
                "name": "seeded",
                "iso": str(isos / "silent.iso"),
                "size": 5120,
                "answers": {"kind": "autoinstall", "password_hash": SECRET},
            },
            {"name": "never", "iso": str(isos / "never.iso"), "size": 4},
        ],
    )

    code, output = site.run(PLAYBOOK, "--check")
    assert code != 0 and "install never: iso" in output and not site.root.exists(), output
    assert table(output)["slow"][0] == "to be installed", output

    log = site.directory / "killed.log"
    with log.open("w") as file:
        begun = subprocess.Popen(
            [str(site.programs / "ansible-playbook"), "-i", str(site.inventory()), PLAYBOOK],
            cwd=site.checkout,
            env=site.runs_with(),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    told = re.compile(r"nebula_install: slow \d+ % written after \d+:\d\d: fake installer: starting")
    wait_for(lambda: told.search(log.read_text()), "how far the slow installer is", 400)
    os.killpg(begun.pid, signal.SIGKILL)
    begun.wait()
    check_answers(site)

    site.variables["nebula_installs"][2] = {"name": "seeded", "state": "absent"}
    code, output = site.run(PLAYBOOK, "-vvv")
    assert code != 0, output
    assert "install never: iso" in output.rpartition("Report the errors")[2]
    rows = table(output)
    assert rows["slow"][0] == "ready, verified" and rows["fast"][0] == "ready, not verified", rows
    assert rows["slow"][2:4] == ["OS", "READY"] and int(rows["slow"][-1]) > 0, rows
    assert rows["never"][0] == "to be installed"
    assert rows["seeded"][0] == "given up" and media(site) == {}, rows
    assert not ways(SECRET, output)
    assert holds(site.root, SECRET) == [] and holds(site.directory / "home", SECRET) == []
    assert not list((site.root / "datastores/0").iterdir())

    del site.variables["nebula_installs"][3]
    code, output = site.run(PLAYBOOK)
    assert code == 0 and recap(output)["changed"] == 0, output
    assert changed_tasks(output) == []
    assert_consistent(site)

    # The world is other tests' too.
    code, output = site.run("playbooks/teardown.yml")
    assert code == 0, output
    assert not site.root.exists(), sorted(site.root.rglob("*"))


@in_bare_world
def test_step_by_step_with_somebody_in_between() -> None:
    """As workflow "install from ISO" of AWX does it: each run goes up to a step, and is there when it is run again."""
    site = Site("none")
    iso = site.directory / "steps.iso"
    fake_installer.build(iso)
    answers = {"kind": "kickstart", "hostname": "fake", "root_password_hash": SECRET, "user": ""}
    install = {"name": "steps", "iso": str(iso), "size": 10240, "boot": "iso", "answers": answers, "timeout": 300}
    for name in ("nebula_images", "nebula_networks", "nebula_templates", "nebula_vms"):
        site.variables[name] = []
    site.variables |= {"nebula_manage_packages": False, "nebula_installs": [install]}
    found = []
    for until in ("installed", "converted", "verified"):
        code, output = site.run(PLAYBOOK, nebula_install_until=until)
        assert code == 0, output
        step, _image, kind, state = table(output)["steps"][:4]
        found.append((step, kind, state))
        code, output = site.run(PLAYBOOK, nebula_install_until=until)
        assert code == 0 and changed_tasks(output) == [], output
        assert table(output)["steps"][0] == step
        # A later run is not undone by an earlier one, and its machine is gone in any case.
        assert not list((site.root / "datastores/0").iterdir())
    assert [each[1:] for each in found] == [("DATABLOCK", found[0][2]), ("OS", "READY"), ("OS", "READY")], found
    assert [each[0] for each in found[1:]] == ["OS image, its guest is not believed yet", "ready, verified"]
    code, output = site.run(PLAYBOOK, nebula_install_until="installed")
    assert code == 0 and table(output)["steps"][0] == "ready, verified", output
    assert_consistent(site)
    code, output = site.run("playbooks/teardown.yml")
    assert code == 0 and not site.root.exists(), output
