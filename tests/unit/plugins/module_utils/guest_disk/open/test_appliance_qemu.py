# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What libguestfs is given to start in place of its QEMU, and what that makes of the words it is called with.

A sandbox takes root, and an appliance seconds: tests/integration/test_file_injection.py has both. Here the script ends
in a program that prints its words, and one that stands for chown, which only root may do."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ImageRefused
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.open import appliance_qemu, guestfish
from ansible_collections.nebula.provision.plugins.module_utils.host import sandbox, unsandboxed_programs

QEMU = "/bin/true"
ASKED = ["-display", "none", "-machine", "accel=kvm:tcg", "-device", "?"]


def qcow2(backing: str = "", format: str = "", incompatible: int = 0) -> bytes:
    """A header of version 3, with the extension that names the format of what is below it."""
    extension = struct.pack(">II", 0x6803F857, 3) + b"abc".ljust(8, b"\0")
    extension += struct.pack(">II", 0xE2792ACA, len(format)) + format.encode().ljust(8, b"\0") + bytes(8)
    offset = 104 + len(extension)
    head = struct.pack(
        ">IIQIIQIIQQIIQQQQII", 0x514649FB, 3, offset if backing else 0, len(backing), 16, 1 << 20, 0, 1, 3 << 16,
        1 << 16, 1, 0, 0, incompatible, 0, 0, 4, 104,
    )  # fmt: skip
    return (head + extension + backing.encode()).ljust(4096, b"\0")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host on which there can be a sandbox: the words that begin it print what follows them."""
    monkeypatch.setattr(appliance_qemu, "why_unconfined", lambda: "")
    monkeypatch.setattr(appliance_qemu, "program", lambda: QEMU)
    monkeypatch.setattr(sandbox, "sandbox_words_without_processes", lambda *_words, **_options: ["printf", "%s\\n"])
    monkeypatch.setattr(unsandboxed_programs, "_without", {})
    (tmp_path / "bin").mkdir()
    chown = tmp_path / "bin/chown"
    chown.write_text(f'#!/bin/sh\necho "$*" > "{tmp_path}/chown"\n')
    chown.chmod(0o755)
    return tmp_path


def words(place: Path, disk: str) -> list[str]:
    """As libguestfs 1.48 calls QEMU, without those that concern nobody here."""
    cache = place / "cache/.guestfs-0/appliance.d"
    cache.mkdir(parents=True, exist_ok=True)
    for name in ("kernel", "initrd", "root"):
        (cache / name).write_text(name)
        (cache / name).chmod(0o600)
    path = place / "sock"
    if not path.exists():
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    return [
        *("-kernel", f"{cache}/kernel", "-initrd", f"{cache}/initrd"),
        *("-drive", f"file={disk.replace(',', ',,')},cache=writeback,format=qcow2,id=hd0,if=none"),
        *("-drive", f"file={cache}/root,snapshot=on,id=appliance,cache=unsafe,if=none,format=raw"),
        *("-chardev", f"socket,path={path},id=channel0", "-append", "a b"),
    ]


def called(environment: dict[str, str], place: Path, *argv: str) -> list[str]:
    path = f"{place}/bin:{os.environ['PATH']}"
    done = subprocess.run(
        [environment[appliance_qemu.VARIABLE], *argv], env={**environment, "PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def sandboxed(place: Path, disk: Path, format: str = "qcow2", **options):
    return appliance_qemu.sandbox_environment(str(disk), format, str(place), str(place / "cache"), **options)


def chain(place: Path) -> Path:
    """An overlay as image_edits.py makes it; its name has what QEMU reads as the end of a word."""
    (place / "base").write_bytes(qcow2())
    node = {"driver": "qcow2", "file": {"driver": "file", "filename": f"{place}/base"}, "backing": None}
    (place / "a, disk").write_bytes(qcow2("json:" + json.dumps(node), "qcow2"))
    return place / "a, disk"


def test_the_appliance_is_handed_over_and_disks_are_open_files(place):
    disk = chain(place)
    with sandboxed(place, disk) as environment:
        told = called(environment, place, *words(place, str(disk)))
    start = told.index("--")
    cache = place / "cache/.guestfs-0/appliance.d"
    handed = told[:start]
    assert handed[1::3] == [f"{cache}/kernel", f"{cache}/initrd", f"{cache}/root", f"{place}/sock"]
    assert handed[0::3] == ["file"] * 4 and handed[2::3] == [sandbox.FILE_READ] * 3 + [sandbox.FILE]
    user = int(told[start + 3])
    assert told[start : start + 6] == ["--", "setpriv", "--reuid", str(user), "--regid", str(sandbox.USER)]
    assert user > sandbox.USER and (place / "chown").read_text() == f"{user} {place}/sock\n"
    assert {(cache / name).stat().st_mode & 0o777 for name in ("kernel", "initrd", "root")} == {0o644}
    rest = told[told.index(QEMU) + 1 :]
    drives = [word for before, word in zip(rest, rest[1:]) if before == "-drive"]
    named = json.loads((drives[0].removeprefix("file=json:").rpartition("},cache=")[0] + "}").replace(",,", ","))
    assert named == {
        "driver": "qcow2",
        "file": {"driver": "file", "filename": "/dev/fdset/1"},
        "backing": {"driver": "qcow2", "file": {"driver": "file", "filename": "/dev/fdset/2"}, "backing": None},
    }
    assert drives[0].endswith("},cache=writeback,format=qcow2,id=hd0,if=none")
    assert rest[-6:] == ["-add-fd", "fd=3,set=1", "-add-fd", "fd=4,set=1", "-add-fd", "fd=5,set=2"]
    assert rest[rest.index("-append") + 1] == "a b" and not [word for word in rest if str(disk) in word]


def test_one_that_is_asked_what_it_can_do_has_nothing(place):
    with sandboxed(place, chain(place)) as environment:
        told = called(environment, place, *ASKED)
    assert told[:3] == ["--", "setpriv", "--reuid"] and told[-len(ASKED) :] == ASKED
    assert "-add-fd" not in told and unsandboxed_programs._without == {}


@pytest.mark.parametrize("lacking", ["-chardev", "-drive", "-initrd"])
def test_words_that_are_not_known_start_it_as_before_and_that_is_said(place, lacking, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    disk = chain(place)
    argv = words(place, str(disk))
    for place_of in [number for number, word in enumerate(argv) if word == lacking]:
        argv[place_of] = "-other"
    monkeypatch.setattr(appliance_qemu, "program", lambda: "/bin/echo")
    with sandboxed(place, disk) as environment:
        (told,) = called(environment, place, *argv)
    assert told == " ".join(argv) and "words that are not known" in unsandboxed_programs._without[appliance_qemu.NAME]


def test_the_script_lies_where_nobody_else_gets_and_stays_the_same(place):
    disk = chain(place)
    with sandboxed(place, disk) as first, sandboxed(place, disk) as again, sandboxed(place, disk, network=True):
        path = Path(first[appliance_qemu.VARIABLE])
    assert again[appliance_qemu.VARIABLE] == str(path) and path.parent == place / "cache"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o700, 0o700)
    assert "@" not in path.read_text().replace('"$@"', "")


def test_another_qemu_has_another_script(tmp_path):
    """libguestfs keeps what it has learned of one by the size and time of the script."""
    qemu = tmp_path / "qemu"
    qemu.write_text("#!/bin/sh\n")
    qemu.chmod(0o755)
    options = {"network": False, "devices": (), "groups": ()}
    before = appliance_qemu.script(str(qemu), "/cache", **options)
    assert before == appliance_qemu.script(str(qemu), "/cache", **options)
    os.utime(qemu, (1, 1))
    assert before != appliance_qemu.script(str(qemu), "/cache", **options)


def test_a_network_is_that_of_guestfish_with_the_names_of_its_servers(tmp_path):
    with_one = appliance_qemu.script("/bin/sh", "/cache", network=True, devices=("/dev/kvm",), groups=(7,))
    without = appliance_qemu.script("/bin/sh", "/cache", network=False, devices=(), groups=())
    assert " --net " in without and " --net " not in with_one
    assert appliance_qemu.RESOLV in with_one and appliance_qemu.RESOLV not in without
    assert "/dev/kvm" in with_one and "--groups 7" in with_one and "--clear-groups" in without


# -- what it rests on ------------------------------------------------------------------------------------------------


def opened(place: Path, content: bytes, format: str = "qcow2") -> dict[str, str]:
    (place / "disk").write_bytes(content)
    with sandboxed(place, place / "disk", format) as environment:
        return environment


def test_an_overlay_as_machines_have_it(place):
    (place / "base").write_bytes(bytes(4096))
    named = opened(place, qcow2(f"{place}/base", "raw"))["NEBULA_NAMED"].replace(",,", ",")
    below = json.loads(named.removeprefix("json:"))["backing"]
    assert below == {"driver": "raw", "file": {"driver": "file", "filename": "/dev/fdset/2"}}


def test_a_raw_disk_is_opened_as_what_it_is(place):
    named = opened(place, qcow2("/etc/shadow", "raw"), "raw")["NEBULA_NAMED"]
    assert "backing" not in named and '"raw"' in named


@pytest.mark.parametrize(
    ("backing", "format"),
    [
        ("nbd://127.0.0.1/x", "raw"),
        ("base", "raw"),
        ("/etc/passwd", "vmdk"),
        ("/etc/passwd", ""),
        ("json:[", ""),
        ('json:{"driver": "nbd", "host": "127.0.0.1"}', "raw"),
        ('json:{"driver": "raw", "file": {"driver": "nbd", "filename": "/x"}}', "raw"),
    ],
)
def test_what_is_not_written_here_is_refused(place, backing, format):
    with pytest.raises(ImageRefused):
        opened(place, qcow2(backing, format))


@pytest.mark.parametrize("base", [qcow2("/etc/shadow", "raw"), qcow2(incompatible=4)])
def test_an_image_below_names_nothing_unless_it_is_trusted(place, base):
    (place / "base").write_bytes(base)
    with pytest.raises(ImageRefused):
        opened(place, qcow2(f"{place}/base", "qcow2"))
    node = {"driver": "qcow2", "file": {"driver": "file", "filename": f"{place}/base"}}
    # As image_edits.below() has it for trusted ones, of which the header counts.
    assert opened(place, qcow2("json:" + json.dumps(node), "qcow2")) == {}
    # And for others, of which it does not.
    closed = opened(place, qcow2("json:" + json.dumps({**node, "backing": None}), "qcow2"))
    assert "/etc/shadow" not in "".join(closed.values()) and closed["NEBULA_NAMED"].count("/dev/fdset/") == 2


# -- where there is none, and KVM ------------------------------------------------------------------------------------


def test_where_there_can_be_none_nothing_is_set_and_that_is_said(place, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(appliance_qemu, "why_unconfined", lambda: "no namespaces")
    assert opened(place, b"") == {}
    (warning,) = unsandboxed_programs.warnings()
    assert warning.startswith("QEMU of libguestfs ran without a sandbox") and "no namespaces" in warning


def test_a_guestfish_that_does_not_tell_its_qemu(place, monkeypatch):
    monkeypatch.setattr(appliance_qemu, "program", lambda: "")
    assert opened(place, b"") == {}


def test_another_kind_of_machine(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(sandbox, "why_unavailable", lambda: "")
    assert appliance_qemu.why_unconfined() == "" or appliance_qemu.platform.machine() != "x86_64"
    monkeypatch.setattr(appliance_qemu.platform, "machine", lambda: "aarch64")
    assert "aarch64" in appliance_qemu.why_unconfined()


@pytest.mark.parametrize(
    ("mode", "gid", "groups"),
    [(0o020660, 36, [36]), (0o020666, 0, []), (0o020666, 36, []), (0o020600, 0, None), (0o020660, 0, None),
     (0o020640, 36, None), (0o100666, 36, None)],
)  # fmt: skip
def test_who_may_use_kvm(place, monkeypatch, mode, gid, groups):
    monkeypatch.setattr(os, "stat", lambda _path: os.stat_result((mode, 1, 1, 1, 0, gid, 0, 0, 0, 0)))
    assert appliance_qemu._groups_for("/dev/kvm") == groups
    assert appliance_qemu.may_use("/dev/kvm") is (groups is not None)


def test_guestfish_is_started_with_it(place, monkeypatch):
    monkeypatch.setattr(guestfish, "CACHE", str(place / "cache"))
    disk = chain(place)
    with guestfish.command_and_environment(disk.name, "qcow2", str(place)) as (argv, environment):
        assert argv[-1] == disk.name and environment["NEBULA_DISK"] == str(disk).replace(",", ",,")
        assert environment["LIBGUESTFS_BACKEND"] == "direct" and appliance_qemu.VARIABLE in environment
