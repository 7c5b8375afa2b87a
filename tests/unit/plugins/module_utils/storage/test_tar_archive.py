# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives as several programs write them are known for root file systems; others, and broken ones, are refused."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hostile import bounded

from ansible_collections.nebula.provision.plugins.module_utils.errors import ImageRefused
from ansible_collections.nebula.provision.plugins.module_utils.storage import tar_archive


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name in ("etc", "usr/bin", "var/lib"):
        (root / name).mkdir(parents=True)
    (root / "etc/hostname").write_text("web\n")
    (root / "bin").symlink_to("usr/bin")
    (root / "usr/bin/sh").write_bytes(b"x" * 3000)
    # A name that no header of 1988 holds, one that is no UTF-8, and a file with a hole.
    (root / "var/lib" / ("long" * 50)).write_text("y")
    Path(bytes(root / "var/lib").decode() + "/line\nbreak").write_text("z")
    with (root / "var/sparse").open("wb") as file:
        file.write(b"a")
        file.seek(3 << 20)
        file.write(b"b")
    return root


@pytest.mark.parametrize("format", ["gnu", "oldgnu", "pax", "ustar", "v7"])
@pytest.mark.parametrize("sparse", [[], ["--sparse"]])
@pytest.mark.parametrize("top", ["./", "."])
def test_those_of_tar_are_known(tree: Path, tmp_path: Path, format: str, sparse: list[str], top: str) -> None:
    if format in ("ustar", "v7"):
        # They can't say it.
        (tree / "var/lib" / ("long" * 50)).unlink()
        sparse = []
    archive = tmp_path / "root.tar"
    argv = ["tar", f"--format={format}", *sparse, "-cf", str(archive), "-C", str(tree), top]
    subprocess.run(argv, check=True)
    assert tar_archive.check(str(archive), "image web") == archive.stat().st_size


def test_those_of_python_are_known(tree: Path, tmp_path: Path) -> None:
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
        if format == tarfile.USTAR_FORMAT:
            (tree / "var/lib" / ("long" * 50)).unlink()
        archive = tmp_path / "root.tar"
        with tarfile.open(archive, "w", format=format) as tar:
            tar.add(tree, arcname="")
        assert tar_archive.check(str(archive), "image web")


def made(tmp_path: Path, *names: str, size: int = 0) -> Path:
    archive = tmp_path / "made.tar"
    with tarfile.open(archive, "w") as tar:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = size
            tar.addfile(entry, io.BytesIO(bytes(size)))
    return archive


@pytest.mark.parametrize("names", [["disk.raw"], ["root/etc/x", "root/usr/x"], ["etc/x"], ["usr/x", "bin/x"]])
def test_what_has_no_root_file_system_at_its_top_is_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(ImageRefused, match="no root file system"):
        tar_archive.check(str(made(tmp_path, *names)), "image web")


def test_a_part_of_one_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    whole = made(tmp_path, "etc/x", "usr/x", size=700).read_bytes()
    cut = tmp_path / "cut.tar"
    for length in (1, 100, 511, 512, 600, 1024, 1535, 1536, 2048, 3071):
        cut.write_bytes(whole[:length])
        with pytest.raises(ImageRefused, match=r"cut off|no tar archive"):
            tar_archive.check(str(cut), "image web")


@pytest.mark.parametrize("content", [b"", b"\0" * 1024, b"x" * 5000, b"QFI\xfb" + bytes(2000)])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(ImageRefused):
        tar_archive.check(str(path), "image web")


def test_numbers_that_are_none_are_no_crash(tmp_path: Path) -> None:
    whole = bytearray(made(tmp_path, "etc/x", "usr/x").read_bytes())
    for place in (100, 124, 125, 148, 150, 156, 257):
        for byte in (0x00, 0x2D, 0x39, 0x80, 0xFF):
            broken = bytearray(whole)
            broken[place] = byte
            path = tmp_path / "broken.tar"
            path.write_bytes(broken)
            try:
                tar_archive.check(str(path), "image web")
            except ImageRefused as error:
                assert error.remedy


def entry_with(size: bytes, kind: bytes, content: bytes = b"") -> bytes:
    """A header whose sum is right, with this in place of its size, and what follows."""
    head = bytearray(tarfile.TarInfo("etc").tobuf(tarfile.USTAR_FORMAT))
    head[124:136], head[156:157], head[148:156] = size.ljust(12, b"\0"), kind, b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + content + bytes(-len(content) % 512 + 1024)


@pytest.mark.parametrize("kind", [b"0", b"5", b"S", b"x", b"L"])
@pytest.mark.parametrize("size", [b"-1000", b"-77777777777", b"+1000", b"1_0", b"word", b"9"])
def test_a_size_that_is_none_is_refused_and_leads_nowhere(tmp_path: Path, size: bytes, kind: bytes) -> None:
    path = tmp_path / "broken.tar"
    path.write_bytes(entry_with(size, kind))
    with bounded(repr(size)), pytest.raises(ImageRefused, match="no number"):
        tar_archive.check(str(path), "image web")


def test_attributes_may_say_any_number_of_digits(tmp_path: Path) -> None:
    for digits in (19, 20, 5000, 500_000):
        attributes = b"99 size=" + b"9" * digits + b"\n"
        path = tmp_path / "broken.tar"
        path.write_bytes(entry_with(b"%o" % len(attributes), b"x", attributes)[:-1024] + entry_with(b"0", b"0"))
        with bounded(f"{digits} digits"), pytest.raises(ImageRefused, match="cut off"):
            tar_archive.check(str(path), "image web")


def test_attributes_without_end_take_no_memory(tmp_path: Path) -> None:
    archive = made(tmp_path, "etc/x", "usr/x")
    entry = tarfile.TarInfo("pax")
    entry.type, entry.size = tarfile.XHDTYPE, 1 << 33
    archive.write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + archive.read_bytes())
    with pytest.raises(ImageRefused, match="bytes of attributes"):
        tar_archive.check(str(archive), "image web")
