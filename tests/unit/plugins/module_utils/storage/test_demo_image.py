# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pure parts of building the demo image. What comes out is booted in tests/integration/test_demo_image.py."""

from __future__ import annotations

import json
import shutil
import stat
import struct
import subprocess
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.storage import demo_guest, demo_image


def module(place: Path, name: str, depends: str = "") -> Path:
    path = place / f"{name}.ko"
    path.write_bytes(b"\x7fELF\0license=GPL\0depends=" + depends.encode() + b"\0name=" + name.encode() + b"\0")
    return path


def test_modules_come_after_what_they_need_and_each_once(tmp_path: Path) -> None:
    sources = {
        "disk": module(tmp_path, "disk", "ring,core"),
        "net": module(tmp_path, "net", "ring"),
        "ring": module(tmp_path, "ring", "core-part"),
        "core": module(tmp_path, "core"),
        "core_part": module(tmp_path, "core-part"),
        "unwanted": module(tmp_path, "unwanted"),
    }
    order = demo_image.module_order([("net", "speed=1"), ("disk", ""), ("builtin", ""), ("core", "x=y")], sources)
    assert order == [("core_part", ""), ("ring", ""), ("net", "speed=1"), ("core", "x=y"), ("disk", "")]


TREE = {
    "etc": demo_image.directory(),
    "etc/motd": demo_image.file(b"hello\n"),
    "init": demo_image.link("bin/busybox"),
    "bin": demo_image.directory(0o750),
    "bin/empty": demo_image.file(b"", 0o755),
}


def test_the_archive_is_what_cpio_reads(tmp_path: Path) -> None:
    archive = demo_image.cpio(TREE)
    subprocess.run(["cpio", "-idm", "--quiet"], input=archive, cwd=tmp_path, check=True)
    assert (tmp_path / "etc/motd").read_bytes() == b"hello\n"
    assert (tmp_path / "bin/empty").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "bin").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "init").readlink() == Path("bin/busybox")


def test_nobody_but_root_writes_to_the_guests_files(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/busybox").write_bytes(b"busybox")
    modes = {path: entry.mode for path, entry in demo_image.guest_tree(tmp_path).items()}
    assert [path for path, mode in modes.items() if mode & 0o022 and not stat.S_ISLNK(mode)] == ["tmp"]
    programs = {path for path, mode in modes.items() if stat.S_ISREG(mode) and stat.S_IMODE(mode) == 0o755}
    assert programs == {"bin/busybox", "etc/acpi/PWRF/00000080", "etc/nebula/boot", "etc/nebula/shell"}


def test_the_archive_is_the_same_for_the_same_tree() -> None:
    assert demo_image.cpio(TREE) == demo_image.cpio(dict(reversed(TREE.items())))
    assert len(demo_image.cpio(TREE)) % 4 == 0


def test_the_partition_table_names_one_active_partition() -> None:
    table = demo_image.partition_table(40960)
    assert len(table) == 512
    assert table[510:] == b"\x55\xaa"
    active, kind, start, length = struct.unpack("<B3xB3xII", table[446:462])
    assert (active, kind, start, start + length) == (0x80, 0x0E, 2048, 40960)
    assert not any(table[462:510])


def test_only_what_was_recorded_is_believed(tmp_path: Path) -> None:
    dest = tmp_path / "demo.qcow2"
    assert demo_image.read_record(dest) is None
    dest.write_bytes(b"image")
    assert demo_image.read_record(dest) is None
    record = dict(demo_image.inputs("amd64"), sha256=demo_image.sha256_of(dest))
    demo_image.record_path(dest).write_text(json.dumps(record))
    assert demo_image.read_record(dest) == record
    dest.write_bytes(b"imagf")
    assert demo_image.read_record(dest) is None
    demo_image.record_path(dest).write_text("[]")
    assert demo_image.read_record(dest) is None


def test_inputs_change_with_the_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    before = demo_image.inputs("amd64")
    assert before == demo_image.inputs("amd64")
    monkeypatch.setattr(demo_guest, "BOOT", demo_guest.BOOT + "\n")
    assert demo_image.inputs("amd64") != before


def test_another_architecture_is_refused() -> None:
    with pytest.raises(Unsupported, match="arm64"):
        demo_image.kernel_package("arm64")


def test_removing_takes_only_what_building_left(tmp_path: Path) -> None:
    cache, dest = tmp_path / "cache", tmp_path / "demo.qcow2"
    cache.mkdir()
    for name in ("linux-image-6.1_1_amd64.deb", "busybox-static_1_amd64.deb", "keep.deb"):
        (cache / name).touch()
    dest.touch()
    demo_image.remove(demo_image.leftovers(dest, cache), cache)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["cache", "keep.deb"]
    (cache / "keep.deb").unlink()
    demo_image.remove(demo_image.leftovers(dest, cache), cache)
    assert not cache.exists()


@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.parametrize("text", [demo_guest.BOOT, demo_guest.PROFILE, demo_guest.POWER_BUTTON])
def test_the_guests_scripts_are_posix(shell: str, text: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    subprocess.run([shell, "-n"], input=text, text=True, check=True)


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_packages_are_unpacked_from_no_directory_that_others_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    """What apt has compared there, another user could exchange before it is unpacked."""
    monkeypatch.setattr(demo_image, "_require_debian", lambda _dest: None)
    monkeypatch.setattr(demo_image, "missing_tools", list)
    monkeypatch.setattr(demo_image, "fetch", lambda *_arguments: pytest.fail("something was fetched"))
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(mode)
    with pytest.raises(InvalidValue, match=r"cache: everybody may write to .*, and could put other files"):
        demo_image.build(tmp_path / "demo.qcow2", cache)
    assert not list(cache.iterdir())
