# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files written into real disks: by libguestfs, and by a loop device. The third way, qemu-nbd, is beside the
stock host: this machine's kernel may have no network block devices."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scratch import left

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    CommandFailed,
    ImageRefused,
    InvalidValue,
    MissingDependency,
    NotFound,
)
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk import file_injection as injection
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.customize import context_program
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.file_injection import Entry, inject
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.open import guestfish, nbd
from ansible_collections.nebula.provision.plugins.module_utils.host import sandbox, unsandboxed_programs
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.injected_files import Injected
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import machine_disks as make_disks
from ansible_collections.nebula.provision.tests.integration.image_runs import sh

ROOT = Path(__file__).resolve().parents[2]
WHAT = "disk 0 of web"
OFFSET = 1 << 20
SECRET = b"a word for nobody\0\xff\n"
ENTRIES = [
    Entry("/etc/motd", b"hello\n"),
    Entry("/srv/new/deep/key", SECRET, 0o600, 33, 34),
    Entry("/etc/a name with 'quotes\" and \\ and \u00e4", b"odd"),
    # Through links of the guest's, which are absolute there, or climb; the last is replaced.
    Entry("/absolute/in", b"absolute"),
    Entry("/climbing/in", b"climbing"),
    Entry("/link", b"no link any more"),
]
DIRECT = {"via": "loop", "trusted": True}

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """What links in the guest would lead to on the host."""
    top = tmp_path_factory.mktemp("outside")
    (top / "victim").write_text("whole")
    return top


@pytest.fixture(scope="module")
def disks(tmp_path_factory, outside):
    top = tmp_path_factory.mktemp("disks")
    tree = top / "tree"
    for name in ("etc", "srv", f".{outside}".lstrip("."), "var/real"):
        (tree / name.lstrip("/")).mkdir(parents=True)
    (tree / "etc/os-release").write_text("ID=small\n")
    (tree / "etc/motd").write_text("old\n")
    (tree / "absolute").symlink_to(str(outside))
    (tree / "climbing").symlink_to("../../../../../../var/real")
    (tree / "link").symlink_to(f"{outside}/victim")
    part = top / "part"
    part.touch()
    os.truncate(part, 16 << 20)
    sh("mkfs.ext4", "-q", "-F", "-L", "root", "-d", tree, part)
    raw = top / "disk.raw"
    with raw.open("wb") as disk:
        disk.truncate(20 << 20)
        disk.seek(OFFSET)
        disk.write(part.read_bytes())
    sh("sfdisk", "-q", raw, input="2048,32768,83\n")
    sh("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, top / "disk.qcow2")
    return top


@pytest.fixture
def disk(disks, tmp_path):
    """An overlay, as machines have it; nothing is left of a run afterwards."""
    before = leftovers()
    path = tmp_path / "disk.0"
    sh("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", disks / "disk.qcow2", path)
    yield path
    assert leftovers() == before


def leftovers():
    loops = [line for line in sh("losetup", "-a").splitlines() if "pytest-of" in line or "(/)" in line]
    return loops, left()


def inside(path, tmp_path, format="qcow2"):
    """Content, mode and owner of what is in the file system, by debugfs and without any mount."""
    raw, part, top = tmp_path / "read.raw", tmp_path / "part", tmp_path / "read"
    sh("qemu-img", "convert", "-f", format, "-O", "raw", path, raw)
    part.write_bytes(raw.read_bytes()[OFFSET : OFFSET + (16 << 20)])
    sh("e2fsck", "-f", "-n", part)
    shutil.rmtree(top, ignore_errors=True)
    top.mkdir()
    sh("debugfs", "-R", f"rdump / {top}", part)
    return top


def expect(top, outside):
    assert (top / "etc/motd").read_bytes() == b"hello\n"
    assert (top / "etc/a name with 'quotes\" and \\ and \u00e4").read_bytes() == b"odd"
    key = top / "srv/new/deep/key"
    found = key.stat()
    assert (key.read_bytes(), stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (SECRET, 0o600, 33, 34)
    assert stat.S_IMODE((top / "srv/new/deep").stat().st_mode) == 0o755
    assert (top / str(outside).lstrip("/") / "in").read_bytes() == b"absolute"
    assert (top / "var/real/in").read_bytes() == b"climbing"
    assert not (top / "link").is_symlink() and (top / "link").read_bytes() == b"no link any more"
    assert [path.name for path in outside.iterdir()] == ["victim"] and (outside / "victim").read_text() == "whole"


@pytest.mark.parametrize("options", [{}, DIRECT], ids=["guestfs", "loop"])
def test_into_an_overlay(disk, disks, tmp_path, outside, options):
    base = (disks / "disk.qcow2").read_bytes()
    assert inject(str(disk), "qcow2", ENTRIES, WHAT, **options) == options.get("via", "guestfs")
    expect(inside(disk, tmp_path), outside)
    assert (disks / "disk.qcow2").read_bytes() == base


def test_the_appliance_has_its_disk_and_nothing_else_of_this_host(disk, disks, tmp_path):
    """Its QEMU while it runs, on a disk and an image that their owners keep to themselves."""
    own, base = tmp_path / "a, disk", tmp_path / "base.qcow2"
    shutil.copy(disks / "disk.qcow2", base)
    sh("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, own)
    for path, owner in ((own, 64055), (base, 1)):
        os.chown(path, owner, owner)
        path.chmod(0o600)
    before = base.read_bytes()
    with injection.scratch() as directory, guestfish.session(str(own), "qcow2", directory, WHAT) as talk:
        talk.ask("mount", "/dev/sda1", "/")
        qemu = child(talk._process.pid)
        status = dict(re.findall(r"^(\w+):\t(.*)$", Path(f"/proc/{qemu}/status").read_text(), re.MULTILINE))
        users = {*status["Uid"].split(), *status["Gid"].split(), *status["Groups"].split()}
        assert len(users) <= 3 and min(map(int, set(status["Uid"].split()))) > sandbox.USER, users
        assert {int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb")} == {0}
        assert status["NoNewPrivs"] == "1"
        for name in ("mnt", "net", "ipc"):
            assert os.readlink(f"/proc/{qemu}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"), name
        # As root within its root: not a matter of modes.
        tried = ["/etc/shadow", str(disk), str(own), str(base), "/proc/self/status", "/root"]
        enter = ["nsenter", f"--mount=/proc/{qemu}/ns/mnt", f"--root=/proc/{qemu}/root", "--"]
        done = subprocess.run([*enter, "ls", "-d", *tried, "/usr"], capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr.count("No such file")) == ("/usr\n", len(tried)), done
        files = {os.readlink(entry.path) for entry in os.scandir(f"/proc/{qemu}/fd")}
        # The root of its sandbox is a directory of ours there; what it has by a name is below that.
        named = [path for path in files if path.startswith("/") and not path.startswith(("/dev/", "/sys/"))]
        assert sorted(named) == sorted(map(str, (own, base)))
        talk.ask("write", "/etc/motd", "hello\n")
    assert unsandboxed_programs.warnings() == []
    assert (inside(own, tmp_path) / "etc/motd").read_bytes() == b"hello\n" and base.read_bytes() == before
    assert [(path.stat().st_uid, path.stat().st_mode & 0o777) for path in (own, base)] == [(64055, 0o600), (1, 0o600)]


def child(process):
    """The QEMU that guestfish has started, which may be in the middle of what starts it."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = re.search(r"^PPid:\t(\d+)$", (entry / "status").read_text(), re.MULTILINE)
                if parent and parent[1] == str(process) and b"-chardev" in (entry / "cmdline").read_bytes():
                    return int(entry.name)
    raise AssertionError("there is none")


def test_into_a_raw_disk_whose_header_is_of_another(disks, tmp_path, outside):
    """The format is what it is known to be: the guest may have written such a header."""
    raw = tmp_path / "disk.raw"
    shutil.copy(disks / "disk.raw", raw)
    with raw.open("r+b") as file:
        # Behind the boot code, which no partition table needs.
        file.write(b"QFI\xfb\0\0\0\3" + b"\0\0\0\0\0\0\0\x68\0\0\0\x0b")
        file.seek(0x68)
        file.write(b"/etc/passwd")
    assert inject(str(raw), "raw", ENTRIES, WHAT, **DIRECT) == "loop"
    expect(inside(raw, tmp_path, "raw"), outside)


def test_what_a_killed_run_left_is_freed(disks, tmp_path, outside):
    """A loop device of the very disk, and what is mounted of it."""
    raw, point = tmp_path / "disk.raw", tmp_path / "point"
    shutil.copy(disks / "disk.raw", raw)
    point.mkdir()
    device = sh("losetup", "--find", "--show", "--offset", OFFSET, raw).strip()
    second = sh("losetup", "--find", "--show", raw).strip()
    sh("mount", device, point)
    dead = Path(injection.SCRATCH, injection.PREFIX + "killed")
    dead.mkdir()
    (dead / "disk").write_text("")
    try:
        assert inject(str(raw), "raw", ENTRIES, WHAT, **DIRECT) == "loop"
        assert not os.path.ismount(point)
        left = sh("losetup", "-a")
        assert f"{device}:" not in left and f"{second}:" not in left and not dead.exists()
    finally:
        subprocess.run(["umount", str(point)], capture_output=True, check=False)
        for each in (device, second):
            if str(raw) in sh("losetup", "-a"):
                subprocess.run(["losetup", "--detach", each], capture_output=True, check=False)
    expect(inside(raw, tmp_path, "raw"), outside)


@pytest.mark.parametrize("options", [{}, DIRECT], ids=["guestfs", "loop"])
def test_killed_meanwhile(disk, tmp_path, options):
    """Whatever shows the disk ends with the run, and the next one can begin."""
    module = "open.kernel_mount" if options else "inspect.root_file_system"
    code = f"""
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.file_injection import Entry, inject
import ansible_collections.nebula.provision.plugins.module_utils.guest_disk.{module} as m
import time
def stop(*given, **more):
    print("there", flush=True)
    time.sleep(100)
m.{"refuse_separate_file_systems" if options else "mount"} = stop
inject({str(disk)!r}, "qcow2", [Entry("/etc/motd", b"x")], {WHAT!r}, **{options!r})
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "collections")}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "there\n"
        process.kill()
    end = time.monotonic() + 20
    while True:
        try:
            assert inject(str(disk), "qcow2", [Entry("/etc/motd", b"y")], WHAT, **DIRECT) == "loop"
            break
        except CommandFailed as error:
            # QEMU of the killed one has it open for a moment still.
            assert "lock" in error.found and time.monotonic() < end, error
            time.sleep(0.1)
    assert (inside(disk, tmp_path) / "etc/motd").read_bytes() == b"y"


def test_the_host_s_kernel_mounts_what_is_trusted_only(disk, monkeypatch):
    before = disk.read_bytes()
    for way in ("loop", "nbd"):
        with pytest.raises(InvalidValue, match="not said to be trusted"):
            inject(str(disk), "qcow2", ENTRIES, WHAT, via=way)
    monkeypatch.setattr(context_program, "present", lambda program: program != "guestfish")
    with pytest.raises(MissingDependency, match="only trusted images"):
        inject(str(disk), "qcow2", ENTRIES, WHAT)
    assert disk.read_bytes() == before
    monkeypatch.setattr(nbd, "why_unusable", lambda: "there is none")
    assert injection.choose("auto", True, WHAT) == "loop"
    monkeypatch.setattr(nbd, "why_unusable", lambda: "")
    assert injection.choose("auto", True, WHAT) == "nbd"


def test_a_kernel_without_network_block_devices(disk):
    if not nbd.why_unusable():
        pytest.skip("this kernel has them; tests/integration/test_stock_injection.py uses them")
    with pytest.raises(MissingDependency, match=r"no network block devices \(module nbd\)"):
        inject(str(disk), "qcow2", ENTRIES, WHAT, via="nbd", trusted=True)


@pytest.mark.parametrize("path", ["etc/motd", "/", "/etc/../motd", "//etc/motd", "/etc/", "/a\0b", ""], ids=repr)
def test_paths_that_are_none(disk, path):
    with pytest.raises(InvalidValue):
        inject(str(disk), "qcow2", [Entry(path, b"")], WHAT, **DIRECT)


def test_a_directory_in_the_place_of_a_file(disk):
    for options in ({}, DIRECT):
        with pytest.raises(CommandFailed, match="writing /etc"):
            inject(str(disk), "qcow2", [Entry("/etc", b"")], WHAT, **options)


def test_no_root_and_no_file_system(tmp_path, disks):
    path = tmp_path / "data.raw"
    path.touch()
    os.truncate(path, 8 << 20)
    for options in ({}, DIRECT):
        with pytest.raises(NotFound):
            inject(str(path), "raw", ENTRIES, WHAT, **options)


def test_what_another_file_system_would_hide(disks, tmp_path):
    """libguestfs mounts those too; a mount of the root alone says so."""
    raw, part = tmp_path / "disk.raw", tmp_path / "part"
    shutil.copy(disks / "disk.raw", raw)
    part.write_bytes(raw.read_bytes()[OFFSET : OFFSET + (16 << 20)])
    (tmp_path / "fstab").write_text("LABEL=root / ext4 defaults 0 1\nLABEL=srv /srv ext4 defaults 0 1\n")
    sh("debugfs", "-w", "-R", f"write {tmp_path / 'fstab'} /etc/fstab", part)
    with raw.open("r+b") as file:
        file.seek(OFFSET)
        file.write(part.read_bytes())
    with pytest.raises(ImageRefused, match="its /srv is on a file system of its own"):
        inject(str(raw), "raw", ENTRIES, WHAT, **DIRECT)


# --- partitions that are named ---------------------------------------------------------------------------------------

MiB = 1 << 20
# Number → (first, size) in MiB.
PARTS = {1: (1, 8), 2: (9, 16), 3: (25, 4)}


@pytest.fixture(scope="module")
def data_disk(tmp_path_factory):
    """No operating system: an EFI partition, a file system, and one that is encrypted."""
    top = tmp_path_factory.mktemp("data")
    (top / "tree").mkdir()
    (top / "tree/kept").write_text("kept\n")
    for number, make in (
        (1, ["mkfs.vfat", "-n", "EFI"]),
        (2, ["mkfs.ext4", "-q", "-F", "-L", "my data", "-d", top / "tree"]),
        (3, None),
    ):
        part = top / f"part{number}"
        part.touch()
        os.truncate(part, PARTS[number][1] * MiB)
        if make:
            sh(*make, part)
        else:
            with part.open("r+b") as file:
                file.write(b"LUKS\xba\xbe\0\1")
    raw = top / "data.raw"
    with raw.open("wb") as disk:
        disk.truncate(31 * MiB)
        for number, (first, _size) in PARTS.items():
            disk.seek(first * MiB)
            disk.write((top / f"part{number}").read_bytes())
    table = "".join(f"start={first}MiB, size={size}MiB\n" for first, size in PARTS.values())
    sh("sfdisk", "-q", "--no-tell-kernel", "-w", "never", "-W", "never", raw, input=f"label: gpt\n{table}")
    return raw


def the_part(raw, number, to):
    first, size = PARTS[number]
    to.write_bytes(raw.read_bytes()[first * MiB : (first + size) * MiB])
    return to


@pytest.fixture
def raw(data_disk, tmp_path):
    before = leftovers()
    path = tmp_path / "data.raw"
    shutil.copy(data_disk, path)
    yield path
    assert leftovers() == before


NAMED = Entry("/srv/deep/key", SECRET, 0o600, 33, 34, partition="LABEL=my data")


@pytest.mark.parametrize("options", [{}, DIRECT], ids=["guestfs", "loop"])
def test_into_a_partition_that_is_named(raw, tmp_path, options):
    """In no disk of these is an operating system. This machine's kernel may not know FAT; libguestfs' own does."""
    efi = [] if options else [Entry("/EFI/nebula.cfg", b"efi", 0o600, 33, 34, partition="1")]
    assert inject(str(raw), "raw", [NAMED, *efi], WHAT, **options) == options.get("via", "guestfs")
    part = the_part(raw, 2, tmp_path / "part2")
    sh("e2fsck", "-f", "-n", part)
    (tmp_path / "read").mkdir()
    sh("debugfs", "-R", f"rdump / {tmp_path / 'read'}", part)
    key = tmp_path / "read/srv/deep/key"
    found = key.stat()
    assert (key.read_bytes(), stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (SECRET, 0o600, 33, 34)
    assert (tmp_path / "read/kept").read_text() == "kept\n"
    if efi:
        # What FAT holds is found as it was written, by its own bytes.
        assert b"nebula" in the_part(raw, 1, tmp_path / "part1").read_bytes().lower()


@pytest.mark.parametrize(
    ("partition", "error", "said"),
    [
        ("4", NotFound, "It has 1: vfat, label EFI, 8 MiB; 2: ext4, label my data, 16 MiB; 3: crypto_LUKS, 4 MiB"),
        ("0", NotFound, "there is no such one in it"),
        ("LABEL=other", NotFound, "there is no such one in it"),
        ("3", ImageRefused, "it is encrypted"),
        ("/dev/vg/data", NotFound, "libguestfs alone"),
    ],
)
def test_partitions_that_can_t_be_meant(raw, partition, error, said):
    before = raw.read_bytes()
    with pytest.raises(error) as caught:
        inject(str(raw), "raw", [Entry("/a", b"1", partition=partition)], WHAT, **DIRECT)
    assert said in str(caught.value) and f"PARTITION = {partition}" in caught.value.asked
    assert raw.read_bytes() == before


def test_a_file_system_that_can_not_be_mounted(raw):
    with raw.open("r+b") as file:
        # Past the name by which it is known.
        file.seek(9 * MiB + 1024 + 4)
        file.write(b"\xff" * 40)
    with pytest.raises((CommandFailed, ImageRefused)) as caught:
        inject(str(raw), "raw", [Entry("/a", b"1", partition="2")], WHAT, **DIRECT)
    assert "can't be mounted" in str(caught.value) or "no file system that is known" in str(caught.value)


def test_a_disk_without_partitions(tmp_path):
    path = tmp_path / "whole.raw"
    path.touch()
    os.truncate(path, 8 * MiB)
    sh("mkfs.ext4", "-q", "-F", path)
    inject(str(path), "raw", [Entry("/a", b"1", partition="0")], WHAT, **DIRECT)
    assert sh("debugfs", "-R", "cat /a", path) == "1"


def an_empty_disk(**values):
    entry = Injected("/seed/key", content="geheim\n", mode=0o600, uid=33, gid=34, partition="0")
    given = {"type": "FS", "driver": "raw", "size": 16, "fs": "ext4", "inject": (entry,), "inject_via": "loop"}
    disk = Disk(disk_id=1, target="vdb", **{**given, **values})
    return Vm(vm_id=7, uuid="u", name="web", hypervisor="kvm", cpu=1, memory=64, disks=(disk,))


@pytest.mark.parametrize("driver", ["raw", "qcow2"])
def test_into_a_disk_that_is_made_with_a_file_system(tmp_path, driver):
    directory, raw = tmp_path / "7", tmp_path / "read.raw"
    directory.mkdir()
    before = leftovers()
    made = make_disks.prepare(an_empty_disk(driver=driver), str(directory))
    assert [path.name for path in directory.iterdir()] == ["disk.1"] and leftovers() == before
    sh("qemu-img", "convert", "-f", driver, "-O", "raw", made[1].path, raw)
    sh("e2fsck", "-f", "-n", raw)
    (tmp_path / "read").mkdir()
    sh("debugfs", "-R", f"rdump / {tmp_path / 'read'}", raw)
    key = tmp_path / "read/seed/key"
    found = key.stat()
    assert (key.read_text(), stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == ("geheim\n", 0o600, 33, 34)


def test_a_disk_that_is_too_small_for_its_files_is_none(tmp_path):
    large = Injected("/large", content="x" * (2 * MiB), partition="0")
    before = leftovers()
    with pytest.raises(CommandFailed, match=r"machine web \(id 7\), disk 1: files for an empty disk: writing /large"):
        make_disks.prepare(an_empty_disk(size=1, inject=(large,)), str(tmp_path))
    assert list(tmp_path.iterdir()) == [] and leftovers() == before
