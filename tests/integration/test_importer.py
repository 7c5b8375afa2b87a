# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From files and URLs to files of a datastore, with the real programs, in bounded memory."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import web_server
from raw_disks import BOOT

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    ChecksumMismatch,
    DownloadFailed,
    ImageRefused,
    InvalidValue,
    NoSpace,
    NotFound,
    TimedOut,
)
from ansible_collections.nebula.provision.plugins.module_utils.storage import datastore_layout, final_names, importer
from ansible_collections.nebula.provision.plugins.module_utils.storage.checksum import ALGORITHMS, Checksum
from ansible_collections.nebula.provision.plugins.module_utils.storage.importer import Request

MIB = 1024 * 1024
ROOT = Path(__file__).resolve().parents[2]
PACKERS = {"gz": ["gzip", "-1c"], "xz": ["xz", "-1c"], "bz2": ["bzip2", "-1c"], "zst": ["zstd", "-q", "-c"]}
# Boot code, content, a hole, content that ends within a block.
RAW = BOOT + random.Random(1).randbytes(2 * MIB - 512) + bytes(3 * MIB) + b"end" * 100_000


@pytest.fixture
def store_directory(tmp_path):
    path = tmp_path / "datastores" / "1"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def store(store_directory):
    def run(source, **options):
        destination = str(store_directory / "image")
        with final_names.locked_destination(destination, 0):
            said = options.pop("say", None)
            return importer.store(Request("image demo", str(source), **options), destination, said)

    return run


@pytest.fixture
def site(monkeypatch, no_proxy):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with web_server.serve() as served:
        yield served


@pytest.fixture
def raw(tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(RAW)
    return path


def pack(path, packing) -> Path:
    packed = path.with_name(path.name + "." + packing)
    packed.write_bytes(subprocess.run([*PACKERS[packing], path], check=True, capture_output=True).stdout)
    return packed


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def check_stored(store_directory, stored):
    image = store_directory / "image"
    assert image.read_bytes() == RAW
    assert os.listdir(store_directory) == ["image"]
    assert image.stat().st_mode & 0o777 == 0o440
    assert image.stat().st_blocks * 512 < len(RAW) - 2 * MIB
    assert (stored.format, stored.size, stored.sha256, stored.bytes) == ("raw", 6, sha256(RAW), len(RAW))


def test_a_path(store, store_directory, raw):
    stored = store(raw)
    check_stored(store_directory, stored)
    assert stored.checksums == {"sha256": sha256(RAW)}
    assert raw.read_bytes() == RAW


@pytest.mark.parametrize("packing", PACKERS)
def test_a_packed_path(store, store_directory, raw, packing):
    packed = pack(raw, packing)
    stored = store(packed, checksum=Checksum.parse("sha256:" + sha256(packed.read_bytes()), "x"))
    check_stored(store_directory, stored)
    assert stored.checksums == {"sha256": sha256(packed.read_bytes())}


@pytest.mark.parametrize("packing", ["", *PACKERS])
def test_a_url(store, store_directory, site, raw, packing):
    data = (pack(raw, packing) if packing else raw).read_bytes()
    site.files["/image"] = data
    site.breaks = [len(data) // 2]
    said = []
    stored = store(site.url + "/image", checksum=Checksum.parse("sha256:" + sha256(data), "x"), say=said.append)
    check_stored(store_directory, stored)
    assert said[-1].startswith("100 % at ")


@pytest.mark.parametrize("packing", ["", "gz"])
def test_an_upload_is_taken_and_not_copied(store, store_directory, raw, packing):
    upload = store_directory / ".upload-1"
    upload.write_bytes((pack(raw, packing) if packing else raw).read_bytes())
    inode = upload.stat().st_ino
    stored = store(upload, upload=True)
    assert (store_directory / "image").read_bytes() == RAW
    assert os.listdir(store_directory) == ["image"]
    assert ((store_directory / "image").stat().st_ino == inode) == (packing == "")
    assert stored.sha256 == sha256(RAW)


def test_a_qcow2(store, store_directory, raw):
    disk = raw.with_name("disk.qcow2")
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, disk], check=True)
    stored = store(disk)
    assert (stored.format, stored.size, stored.sha256) == ("qcow2", 6, sha256(disk.read_bytes()))


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_checksums_of_every_algorithm(store, raw, algorithm):
    digest = hashlib.new(algorithm, RAW).hexdigest()
    stored = store(raw, checksum=Checksum.parse(f"{algorithm}:{digest.upper()}", "x"))
    assert stored.checksums == {algorithm: digest, "sha256": sha256(RAW)}


@pytest.mark.parametrize("packing", ["", "xz"])
def test_another_checksum(store, store_directory, raw, packing):
    source = pack(raw, packing) if packing else raw
    with pytest.raises(ChecksumMismatch) as caught:
        store(source, checksum=Checksum("sha256", "0" * 64))
    assert "0" * 64 in caught.value.asked
    assert sha256(source.read_bytes()) in caught.value.found
    assert os.listdir(store_directory) == []


@pytest.mark.parametrize("text", ["", "abc", "sha256:", "sha256:xyz", "sha999:" + "0" * 64, "md5:" + "0" * 64])
def test_what_is_no_checksum(text):
    with pytest.raises(InvalidValue, match="image demo: checksum"):
        Checksum.parse(text, "image demo")


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_damaged_archives(store, store_directory, raw, packing, damage):
    packed = pack(raw, packing)
    data = bytearray(packed.read_bytes())
    if damage == "cut":
        del data[len(data) * 2 // 3 :]
    else:
        data[len(data) // 2] ^= 0xFF
    packed.write_bytes(data)
    with pytest.raises(ImageRefused, match="damaged or truncated"):
        store(packed)
    assert os.listdir(store_directory) == []


@pytest.mark.parametrize("packing", PACKERS)
def test_several_streams_and_padding(store, store_directory, tmp_path, packing):
    parts = []
    for index, part in enumerate((RAW[: 3 * MIB], RAW[3 * MIB :])):
        piece = tmp_path / f"part{index}"
        piece.write_bytes(part)
        parts.append(pack(piece, packing).read_bytes())
    joined = tmp_path / "joined"
    joined.write_bytes(b"".join(parts) + (b"" if packing == "zst" else bytes(512)))
    check_stored(store_directory, store(joined))


def test_a_window_that_needs_too_much_memory(store, tmp_path):
    source = tmp_path / "disk"
    with source.open("wb") as file:
        file.truncate(MIB)
    big = {
        "xz": ["xz", "-c", "--lzma2=dict=512MiB,mode=fast,mf=hc3,nice=8"],
        "zst": ["zstd", "-q", "-c", "--long=30", "--zstd=wlog=30"],
    }
    # Read from a pipe, they can't know that the window is larger than the file.
    for name, command in big.items():
        try:
            with source.open("rb") as file:
                packed = subprocess.run(command, stdin=file, check=True, capture_output=True).stdout
        except subprocess.CalledProcessError as error:
            pytest.skip(f"{name} can't make it here: {error.stderr!r}")
        (tmp_path / name).write_bytes(packed)
        with pytest.raises(ImageRefused, match="needs more than 256 MiB of memory"):
            store(tmp_path / name)


@pytest.mark.parametrize("source", ["raw", "gz"])
def test_the_size_limit_ends_a_bomb(store, store_directory, tmp_path, source):
    bomb = tmp_path / "bomb"
    with bomb.open("wb") as file:
        file.truncate(64 * MIB)
    if source != "raw":
        bomb = pack(bomb, source)
        assert bomb.stat().st_size < MIB
    with pytest.raises(ImageRefused, match=r"the limit is 16 MiB.*nebula_image_max_size"):
        store(bomb, max_size=16 * MIB)
    assert os.listdir(store_directory) == []


def test_a_qcow2_that_claims_too_much(store, tmp_path):
    disk = tmp_path / "disk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "4T"], check=True)
    with pytest.raises(ImageRefused, match="the limit is"):
        store(disk)


def test_too_little_room_is_seen_before(store, store_directory, raw, monkeypatch):
    monkeypatch.setattr(datastore_layout, "free_space", lambda directory: MIB)
    with pytest.raises(NoSpace, match=r"image demo: storing it: 5\.3 MiB.*1\.0 MiB are free"):
        store(raw)
    assert os.listdir(store_directory) == []


def test_a_file_system_that_fills_up(tmp_path, raw):
    """A real one, full: what is packed does not say what it holds."""
    packed = pack(raw, "gz")
    small = tmp_path / "small"
    small.mkdir()
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from ansible_collections.nebula.provision.plugins.module_utils.storage "
        "import datastore_layout, final_names, importer\n"
        "datastore_layout.RESERVE = 0; d = sys.argv[3] + '/image'\n"
        "try:\n"
        "    with final_names.locked_destination(d, 0):\n"
        "        importer.store(importer.Request('image demo', sys.argv[2]), d)\n"
        "except Exception as e: print(type(e).__name__, e)\n"
    )
    command = 'mount -t tmpfs -o size=2200k none "$1" && shift && exec "$@"'
    python = [sys.executable, "-c", program, str(ROOT / "collections"), str(packed), str(small)]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", command, "sh", str(small), *python], capture_output=True, text=True
    )
    assert done.stdout.startswith("NoSpace image demo: storing it in"), done
    assert "is full after 5 MiB" in done.stdout


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda p: p.mkdir(), InvalidValue, "it is a directory"),
        (os.mkfifo, InvalidValue, "not a regular file"),
        (lambda p: None, NotFound, "No such file"),
        (lambda p: p.write_bytes(b""), ImageRefused, "it is empty"),
        (lambda p: p.write_bytes(b"KDMV" + bytes(1000)), ImageRefused, "its header of VMDK is cut off|format is VMDK"),
        (lambda p: p.write_bytes(b"PK\3\4" + bytes(1000)), ImageRefused, "archive"),
        (lambda p: p.write_bytes(bytes(257) + b"ustar" + bytes(1000)), ImageRefused, "archive"),
    ],
)
def test_what_is_no_image(store, store_directory, tmp_path, make, error, text):
    make(tmp_path / "thing")
    with pytest.raises(error, match=rf"image demo.*{text}"):
        store(tmp_path / "thing")
    assert os.listdir(store_directory) == []


def test_a_relative_path(store):
    with pytest.raises(InvalidValue, match="not absolute"):
        store("disk.raw")


def test_cdrom_images(store, tmp_path):
    (tmp_path / "content").mkdir()
    (tmp_path / "content" / "file").write_text("x")
    disc = tmp_path / "disc.iso"
    subprocess.run(["genisoimage", "-quiet", "-J", "-R", "-o", disc, tmp_path / "content"], check=True)
    assert store(disc, cdrom=True).format == "raw"
    if os.geteuid() == 0:
        options = ["--find", "--show", "--read-only"]
        drive = subprocess.run(["losetup", *options, disc], check=True, capture_output=True, text=True).stdout.strip()
        try:
            assert store(drive, cdrom=True).sha256 == sha256(disc.read_bytes())
            with pytest.raises(InvalidValue, match="not a regular file"):
                store(drive)
        finally:
            subprocess.run(["losetup", "--detach", drive], check=True)
    for content, found in ((b"no iso" * 100_000, "text"), (b"<html>" * 9, "HTML"), (BOOT, "its format is raw")):
        disc.write_bytes(content)
        with pytest.raises(ImageRefused, match=f"not an ISO file system .*{found}"):
            store(disc, cdrom=True)


def test_files_are_kept_as_they_are(store, store_directory, raw):
    """A packed initrd stays packed: only disks are unpacked."""
    packed = pack(raw, "gz")
    stored = store(packed, disk=False)
    assert (store_directory / "image").read_bytes() == packed.read_bytes()
    assert stored.format == "raw"


def test_a_download_that_fails(store, store_directory, site):
    with pytest.raises(DownloadFailed, match="404"):
        store(site.url + "/none")
    assert os.listdir(store_directory) == []


@pytest.mark.parametrize("packing", ["", "gz", "zst"])
def test_a_download_that_ends_too_early_leaves_no_thread(store, store_directory, site, raw, packing, monkeypatch):
    data = (pack(raw, packing) if packing else raw).read_bytes()
    site.files["/image"] = data
    site.breaks = [len(data) // 2] + [0] * 20
    with pytest.raises(DownloadFailed, match="the connection ended after"):
        store(site.url + "/image")
    assert os.listdir(store_directory) == []
    assert not [thread for thread in threading.enumerate() if thread.name == "unpacking"]


def test_another_run_at_the_same_image(store, store_directory, raw):
    with final_names.locked_destination(str(store_directory / "image"), 0), pytest.raises(TimedOut):
        store(raw)


def test_what_a_killed_run_left_is_replaced(store, store_directory, raw):
    for name in ("image.part", "image.new"):
        (store_directory / name).write_bytes(b"x" * 10 * MIB)
    check_stored(store_directory, store(raw))


@pytest.mark.parametrize(("format", "fs"), [("raw", ""), ("qcow2", ""), ("raw", "ext4"), ("qcow2", "ext4")])
def test_empty_images(store_directory, format, fs):
    destination = str(store_directory / "image")
    with final_names.locked_destination(destination, 0):
        stored = importer.make_empty(destination, 64, format, fs)
    assert (stored.format, stored.size) == (format, 64)
    assert os.listdir(store_directory) == ["image"]
    info = subprocess.run(["qemu-img", "info", "--output=json", destination], capture_output=True, check=True)
    assert json.loads(info.stdout)["virtual-size"] == 64 * MIB


def test_a_file_system_with_shared_blocks_copies_nothing(tmp_path):
    """A real XFS in a file: import and a machine's own raw disk take no room."""
    mount = tmp_path / "mount"
    mount.mkdir()
    volume = tmp_path / "volume"
    with volume.open("wb") as file:
        file.truncate(400 * MIB)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", volume], check=True)
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); os.chdir(sys.argv[2])\n"
        "from ansible_collections.nebula.provision.plugins.module_utils.storage "
        "import disk_creation, final_names, importer\n"
        "def free():\n"
        "    os.sync(); found = os.statvfs('.'); return found.f_bfree * found.f_frsize\n"
        "content = bytes(510) + b'\\x55\\xaa' + os.urandom(40 << 20)\n"
        "open('source', 'wb').write(content)\n"
        "before = free()\n"
        "here = os.getcwd()\n"
        "with final_names.locked_destination(here + '/image', 0):\n"
        "    stored = importer.store(importer.Request('x', here + '/source'), here + '/image')\n"
        "disk_creation.copy(here + '/image', 'raw', here + '/disk', 'raw')\n"
        "print(before - free() < 4 << 20, open('image', 'rb').read() == open('disk', 'rb').read() == content)\n"
    )
    python = [sys.executable, "-c", program, str(ROOT / "collections"), str(mount)]
    # The mount, and with it the loop device, ends with its namespace.
    command = 'mount -o loop "$1" "$2" && shift 2 && exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", command, "sh", str(volume), str(mount), *python], capture_output=True, text=True
    )
    assert done.stdout == "True True\n", done


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.nebula.provision.plugins.module_utils.storage import final_names, importer
destination = sys.argv[3] + "/image"
with final_names.locked_destination(destination, 0):
    importer.store(importer.Request("image demo", sys.argv[2]), destination)
# Not ru_maxrss: that of the program that started this one is carried over.
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""


@pytest.mark.parametrize("packing", ["", "gz", "zst", "bz2"])
def test_memory_does_not_grow_with_the_image(tmp_path, store_directory, site, packing):
    """2 GiB by http: little of it is content, all of it passes through."""
    part, parts = 512 * MIB, 4 if packing != "bz2" else 1
    image = tmp_path / "large"
    with image.open("wb") as file:
        file.write(RAW[: 2 * MIB])
        file.truncate(part if packing else part * parts)
    source = str(image)
    if packing:
        # Streams of one file after each other are one file.
        site.files["/image"] = pack(image, packing).read_bytes() * parts
        source = site.url + "/image"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(ROOT / "collections"), source, str(store_directory)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout) < 64 * 1024
    assert (store_directory / "image").stat().st_size == part * parts
