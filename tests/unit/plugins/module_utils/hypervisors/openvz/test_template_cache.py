# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OS templates in vzctl's cache: placed once, and never over somebody else's."""

from __future__ import annotations

import gzip
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from openvz_host import CATALOG, OTHER, Host, make_tar

from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, ImageRefused
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz import template_cache


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def test_a_template_is_the_images_file_under_the_images_name(host: Host) -> None:
    placed = template_cache.place(str(host.tar), "debian-12", CATALOG)
    assert placed == host.cache / "debian-12.tar.gz" and placed.read_bytes() == host.tar.read_bytes()
    assert placed.stat().st_mode & 0o777 == 0o600


def test_it_is_placed_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    first = template_cache.place(str(host.tar), "debian-12", CATALOG).stat()
    monkeypatch.setattr(template_cache, "_digest", lambda path: pytest.fail(f"{path} is read again"))
    assert template_cache.place(str(host.tar), "debian-12", CATALOG).stat().st_ino == first.st_ino


def test_a_new_generation_of_the_image_takes_its_place(host: Host, tmp_path: Path) -> None:
    template_cache.place(str(host.tar), "debian-12", CATALOG)
    newer = tmp_path / "newer"
    newer.write_bytes(gzip.decompress(host.tar.read_bytes()))
    assert template_cache.place(str(newer), "debian-12", CATALOG) == host.cache / "debian-12.tar"
    assert not (host.cache / "debian-12.tar.gz").exists()


@pytest.mark.parametrize("ending", [".tar.gz", ".tar", ".tar.xz"])
def test_another_file_of_that_name_is_refused_and_stays(host: Host, ending: str) -> None:
    there = host.cache / f"debian-12{ending}"
    there.write_bytes(b"an administrator's")
    with pytest.raises(Conflict, match=r"OS template debian-12: .*a file of that name is there"):
        template_cache.place(str(host.tar), "debian-12", CATALOG)
    assert there.read_bytes() == b"an administrator's" and not (host.cache / ".debian-12.nebula").exists()
    assert not template_cache.give_back() or there.exists()


def test_the_same_content_is_taken_as_it_is_and_never_removed(host: Host) -> None:
    there = host.cache / "debian-12.tar.gz"
    there.write_bytes(host.tar.read_bytes())
    before = there.stat()
    assert template_cache.place(str(host.tar), "debian-12", CATALOG) == there
    assert there.stat().st_ino == before.st_ino
    template_cache.give_back()
    assert there.exists()


def test_one_of_ours_that_somebody_changed_is_theirs(host: Host, tmp_path: Path) -> None:
    template_cache.place(str(host.tar), "debian-12", CATALOG).write_bytes(b"changed")
    newer = make_tar(tmp_path / "newer", {"etc/x": "y"})
    with pytest.raises(Conflict):
        template_cache.place(str(newer), "debian-12", CATALOG)
    template_cache.give_back()
    assert (host.cache / "debian-12.tar.gz").read_bytes() == b"changed"


def test_one_of_another_catalog_is_not_replaced(host: Host, tmp_path: Path) -> None:
    template_cache.place(str(host.tar), "debian-12", OTHER)
    newer = make_tar(tmp_path / "newer", {"etc/x": "y"})
    with pytest.raises(Conflict, match=f"it is that of catalog {OTHER}"):
        template_cache.place(str(newer), "debian-12", CATALOG)


def test_what_was_placed_goes_with_the_node(host: Host) -> None:
    template_cache.place(str(host.tar), "debian-12", CATALOG)
    assert template_cache.give_back() and os.listdir(host.cache) == []
    assert not template_cache.give_back()


def test_a_link_in_its_place_is_not_written_through(host: Host, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"x")
    (host.cache / "debian-12.tar.gz").symlink_to(victim)
    with pytest.raises(Conflict):
        template_cache.place(str(host.tar), "debian-12", CATALOG)
    assert victim.read_bytes() == b"x"


@pytest.mark.parametrize("content", [b"", b"QFI\xfb" + bytes(600)])
def test_what_is_no_tar_is_refused(host: Host, tmp_path: Path, content: bytes) -> None:
    image = tmp_path / "other"
    image.write_bytes(content)
    with pytest.raises(ImageRefused, match="it is no tar: known are plain ones, gzip, bzip2, xz and zstd"):
        template_cache.place(str(image), "debian-12", CATALOG)
    assert not host.cache.exists() or not [name for name in os.listdir(host.cache) if name.startswith("debian")]


def zstd(host: Host, tmp_path: Path) -> Path:
    image = tmp_path / "image.zst"
    plain = gzip.decompress(host.tar.read_bytes())
    image.write_bytes(subprocess.run(["zstd", "-c"], input=plain, capture_output=True, check=True).stdout)
    return image


def test_what_vzctl_can_not_read_is_packed_anew_once(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = zstd(host, tmp_path)
    placed = template_cache.place(str(image), "debian-12", CATALOG)
    assert placed == host.cache / "debian-12.tar.gz" and template_cache.size_of("debian-12") == len("image\n")
    with tarfile.open(placed) as tar:
        content = tar.extractfile("etc/hostname")
        assert content is not None and content.read() == b"image\n"
    monkeypatch.setattr(template_cache, "_digest", lambda path: pytest.fail(f"{path} is read again"))
    assert template_cache.place(str(image), "debian-12", CATALOG) == placed
    assert template_cache.give_back() and os.listdir(host.cache) == []


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("point", ["remove_file", "_write_mark", "rename"])
def test_the_next_run_finishes_what_a_killed_one_began(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, packed: bool
) -> None:
    """At each step of a new generation taking the place of an older one."""
    template_cache.place(str(host.tar), "debian-12", CATALOG)
    newer = zstd(host, tmp_path) if packed else make_tar(tmp_path / "newer", {"etc/x": "y"})
    with monkeypatch.context() as patch:

        def killed(*_words: object, **_named: object) -> None:
            # Nothing cleans up behind it.
            patch.setattr(template_cache, "remove_file", lambda _path: False)
            raise KeyboardInterrupt

        patch.setattr(os if point == "rename" else template_cache, point, killed)
        with pytest.raises(KeyboardInterrupt):
            template_cache.place(str(newer), "debian-12", CATALOG)
    placed = template_cache.place(str(newer), "debian-12", CATALOG)
    assert placed == host.cache / "debian-12.tar.gz" and tarfile.is_tarfile(placed)
    assert template_cache.give_back() and os.listdir(host.cache) == []


def test_a_hostile_one_is_not_placed(host: Host, tmp_path: Path) -> None:
    image = tmp_path / "hostile"
    with tarfile.open(image, "w") as tar:
        link = tarfile.TarInfo("etc/hosts")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hosts"
        tar.addfile(link)
    with pytest.raises(ImageRefused, match="which leads out of it"):
        template_cache.place(str(image), "debian-12", CATALOG)
    assert os.listdir(host.cache) == [".nebula.lock"]
