# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo image, built and booted: what its guest reports is what it was told, on every bus that it may meet."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.storage.demo_image import PARTITION_START
from ansible_collections.nebula.provision.plugins.modules import nebula_demo_image
from ansible_collections.nebula.provision.tests.integration.guests import demo
from ansible_collections.nebula.provision.tests.integration.guests.qemu import context_iso, running

READY = "nebula-guest: ready"
CONTEXT = {
    "ETH0_DNS": "10.66.0.1 10.66.0.2",
    "ETH0_GATEWAY": "10.66.0.1",
    "ETH0_IP": "10.66.0.10",
    "ETH0_IP6": "2001:db8::10",
    "ETH0_MAC": "02:00:0A:42:00:0a",
    "ETH0_MASK": "255.255.0.0",
    "ETH0_METHOD": "",
    "ETH1_ALIAS0_IP": "10.67.0.77",
    "ETH1_IP": "10.67.0.10",
    "ETH1_MAC": "02:00:0a:43:00:0a",
    "SET_HOSTNAME": "web-0",
    "SSH_PUBLIC_KEY": "ssh-ed25519 AAAA a\nssh-ed25519 BBBB it's b",
    "START_SCRIPT_BASE64": base64.b64encode(b"#!/bin/bash\necho started on $SET_HOSTNAME").decode(),
    "START_SCRIPT": "echo the other one",
    # Names that a shell script had better not trip over.
    "PATH": "/nowhere",
    "IFS": "0",
    "HOSTNAME": "not-this",
}
INIT_SH = b". /mnt/context.sh\necho \"init.sh sees $ETH0_IP\"\nset -u\nprintf 'no line end'\nexit 3\n"


@pytest.fixture(scope="module")
def image() -> Path:
    return demo.image()


def test_its_boot_loader_reads_it_fast(image: Path, tmp_path: Path) -> None:
    """Large clusters, and nothing that each small read would unpack anew."""
    blocks = json.loads(subprocess.check_output(["qemu-img", "map", "--output=json", "-f", "qcow2", image]))
    assert blocks and not any(block.get("compressed") for block in blocks)
    raw = tmp_path / "raw"
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, raw], check=True)
    told = subprocess.check_output(["minfo", "-i", f"{raw}@@{PARTITION_START * 512}"], text=True)
    assert "cluster size: 64 sectors" in told


def snapshot(place: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_mode)
        for path in place.rglob("*")
        if "lists" not in path.parts
    }


def test_a_life_each_step_predicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check mode says before each step what the step then does, and does nothing itself. apt knows nothing at first."""
    lists = tmp_path / "lists"
    (lists / "partial").mkdir(parents=True)
    configuration = tmp_path / "apt.conf"
    configuration.write_text(f'Dir::State::lists "{lists}";\nAPT::Sandbox::User "root";\n')
    monkeypatch.setenv("APT_CONFIG", str(configuration))
    dest = tmp_path / "new/demo.qcow2"
    options = {"dest": str(dest), "cache": str(tmp_path / "cache"), "arch": "amd64", "state": "present", "force": False}
    steps: list[tuple[dict[str, object], bool]] = [
        ({}, True),
        ({}, False),
        ({"force": True}, False),
        ({"damage": True}, True),
        ({}, False),
        ({"state": "absent"}, True),
        ({"state": "absent"}, False),
    ]
    for changes, changed in steps:
        if changes == {"damage": True}:
            with dest.open("r+b") as file:
                file.write(b"x")
        now = {**options, **{key: value for key, value in changes.items() if key in options}}
        before = snapshot(tmp_path)
        predicted = nebula_demo_image.call.run(now, True)
        assert snapshot(tmp_path) == before
        done = nebula_demo_image.call.run(now, False)
        # What `force` brings is not known before it is there; the same packages make the same image.
        assert done.changed is changed, changes
        assert predicted.changed is (changed or "force" in changes), changes
        assert (done.diff() == []) is not changed
    assert [path for path in tmp_path.rglob("*") if path.name.startswith((".", "demo", "linux-image"))] == []


def facts(text: str) -> list[str]:
    """The guest's lines since its last boot."""
    last = text[text.rindex("nebula-guest: booting") :]
    return re.findall(r"^nebula-guest: (.*?)\r?$", last, re.MULTILINE)


@pytest.mark.parametrize(
    ("machine", "root", "cdrom", "disk"),
    [
        ("pc", "virtio-blk", "ide", "vda"),
        ("q35", "virtio-blk", "virtio-scsi", "vda"),
        ("q35", "virtio-scsi", "virtio-scsi", "sda"),
        ("pc", "virtio-scsi", "ide", "sda"),
    ],
)
def test_the_guest_reports_what_it_was_told(
    image: Path, tmp_path: Path, machine: str, root: str, cdrom: str, disk: str
) -> None:
    iso = context_iso(tmp_path / "context.iso", CONTEXT, {"init.sh": INIT_SH})
    macs = ("02:00:0a:43:00:0a", "02:00:0a:42:00:0a")  # the other way round than ETH0, ETH1
    with running(tmp_path, image, iso, machine=machine, root=root, cdrom=cdrom, macs=macs) as guest:
        said = guest.wait_for(READY)
        guest.power_button()
        assert "nebula-guest: powering off" in guest.text()
    text = iso.read_bytes()
    start = text.index(b"# Context variables")
    context_sh = text[start : text.index(b"\0", start)]
    reported = facts(said)
    assert f"context={hashlib.sha256(context_sh).hexdigest()}" in reported
    assert "hostname=web-0" in reported
    assert "eth0 mac=02:00:0a:43:00:0a ip=10.67.0.10/24 ip=10.67.0.77/24" in reported
    assert "eth1 mac=02:00:0a:42:00:0a ip=10.66.0.10/16 ip=2001:db8::10/64" in reported
    assert [fact for fact in reported if fact.startswith(("gateway=", "dns=", "ssh_keys="))] == [
        "gateway=10.66.0.1",
        "dns=10.66.0.1",
        "dns=10.66.0.2",
        "ssh_keys=2",
    ]
    assert any(fact.startswith(f"disk {disk} bytes=") for fact in reported)
    assert reported[-2:] == ["error init.sh exit 3", "ready"]
    assert said.index("started on web-0") < said.index("init.sh sees 10.66.0.10")
    assert "the other one" not in said


def test_without_an_iso_it_is_up_all_the_same(image: Path, tmp_path: Path) -> None:
    with running(tmp_path, image, memory=96) as guest:
        reported = facts(guest.wait_for(READY))
        assert reported[1] == "no context"
        assert "hostname=localhost" in reported
        guest.power_button()


def test_it_reports_again_after_each_reboot(image: Path, tmp_path: Path) -> None:
    iso = context_iso(tmp_path / "context.iso", {"NAME": "one-7", "ETH0_IP": "10.66.0.300"})
    with running(tmp_path, image, iso) as guest:
        guest.wait_for(READY)
        guest.command("system_reset")
        reported = facts(guest.wait_for(READY, times=2))
    assert "hostname=one-7" in reported
    assert [fact for fact in reported if fact.startswith("error ")] == [
        "error eth0: address 10.66.0.300 mask 255.255.255.0 is not valid"
    ]


@pytest.mark.parametrize(
    ("variables", "files", "errors"),
    [
        (
            {
                "ETH0_MAC": "02:00:00:00:00:01",
                "ETH1_METHOD": "dhcp",
                "ETH1_MAC": "02:00:0a:42:00:0a",
                "INIT_SCRIPTS": "a.sh b.sh",
                "START_SCRIPT": "kill -9 $$",
            },
            {"a.sh": b"exit 0"},
            [
                "ETH0: no interface has mac 02:00:00:00:00:01",
                "ETH1: method dhcp is not known to this guest",
                "START_SCRIPT exit 137",
                "b.sh is not on the context ISO",
            ],
        ),
        ({}, {"context.sh": b"exit 5\n"}, ["context.sh cannot be read by the shell"]),
        ({}, {"context.sh": b"A='1\nset -eu\n"}, ["context.sh cannot be read by the shell"]),
        ({}, {"context.sh": b"set -eu\nSTART_SCRIPT_BASE64='%%%'\n"}, ["START_SCRIPT_BASE64 is not base64"]),
    ],
)
def test_what_goes_wrong_is_reported_and_ends_nothing(
    image: Path, tmp_path: Path, variables: dict[str, str], files: dict[str, bytes], errors: list[str]
) -> None:
    with running(tmp_path, image, context_iso(tmp_path / "context.iso", variables, files)) as guest:
        reported = facts(guest.wait_for(READY))
        assert [fact[len("error ") :] for fact in reported if fact.startswith("error ")] == errors
        guest.wait_for("root shell")
