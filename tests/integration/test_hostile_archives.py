# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small files that unpack to much, or want much memory for it, and checksums that are none: refused, nothing left."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import pytest
from raw_disks import BOOT

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import image_list_decision

MIB = 1024 * 1024
ROOT = Path(__file__).resolve().parents[2]
PART = bytes(64 * MIB)
PACK = {
    "gz": lambda data: gzip.compress(data, 9),
    "bz2": lambda data: bz2.compress(data, 9),
    "xz": lambda data: lzma.compress(data, preset=0),
    "zst": lambda data: subprocess.run(["zstd", "-qc"], input=data, capture_output=True, check=True).stdout,
}


def apply(root, limit: int = 64, **item):
    root.mkdir(exist_ok=True)
    engine = EmbeddedEngine(str(root), create=True)
    try:
        done = image_list_decision.apply(
            engine, [{"name": "demo", "remote_src": True, **item}], image_list_decision.Settings(max_size=limit)
        )
        return done[0][0], engine.images.pool()
    finally:
        engine.close()


def nothing_left(root) -> None:
    assert os.listdir(root / "datastores" / "1") == []
    assert not [thread for thread in threading.enumerate() if thread.name == "unpacking"]
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
    assert not [pid for pid in children if Path(f"/proc/{pid}/comm").read_text() == "zstd\n"]


ALONE = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import image_list_decision
engine = EmbeddedEngine(sys.argv[2], create=True)
item = {"name": "demo", "path": sys.argv[3], "remote_src": True}
done = image_list_decision.apply(engine, [item], image_list_decision.Settings(max_size=256))[0][0]
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
# Not its own ru_maxrss: that of the program that started this one is carried over.
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0], used[1].ru_maxrss)
print(sum(one.ru_utime + one.ru_stime for one in used), done.after["state"], done.error)
"""


def alone(root, file):
    """What a process of its own takes for an image of at most 256 MiB: KiB, also of those that it begins, and seconds
    of a processor; and the state and error of the image."""
    run = [sys.executable, "-c", ALONE, str(ROOT / "collections"), str(root), str(file)]
    said = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    own, children, seconds, state, error = said.split(maxsplit=4)
    return int(own), int(children), float(seconds), state, error


@pytest.mark.parametrize("streams", ["many", "one in another"])
@pytest.mark.parametrize("packing", PACK)
def test_ten_gigabytes_in_little(packing, streams, tmp_path):
    """In the peak of a process of its own, and in its processor time: at the limit, not at the end."""
    bomb = tmp_path / "bomb"
    packed = PACK[packing](PART)
    # Only the outer one is unpacked: what is in it is content, and small.
    bomb.write_bytes(packed * 160 if streams == "many" else PACK[packing](packed))
    assert bomb.stat().st_size < 12 * MIB
    if streams == "one in another":
        done, _pool = apply(tmp_path, path=str(bomb))
        assert done.after["state"] == "ERROR" and "it is a file that is compressed by" in str(done.error)
        return
    own, children, seconds, state, error = alone(tmp_path, bomb)
    assert state == "ERROR" and "the limit is 256 MiB" in error and "nebula_image_max_size" in error
    assert own < 96 * 1024 and children < 96 * 1024 and seconds < 30
    nothing_left(tmp_path)


def xz_with_dictionary(code: int) -> bytes:
    """A sound xz file whose header asks for another dictionary; making one for real takes 16 GB of memory."""
    data = bytearray(lzma.compress(b"x" * 65536, preset=0))
    length = (data[12] + 1) * 4
    place = data.index(b"\x21\x01", 12, 12 + length) + 2
    data[place] = code
    data[12 + length - 4 : 12 + length] = zlib.crc32(data[12 : 12 + length - 4]).to_bytes(4, "little")
    return bytes(data)


ZST = b"\x28\xb5\x2f\xfd"
BLOCK = (65536 << 3 | 1).to_bytes(3, "little") + b"x" * 65536
WINDOWS = {
    "xz, 384 MiB": xz_with_dictionary(33),
    "xz, 1536 MiB": xz_with_dictionary(37),
    "xz, 4 GiB": xz_with_dictionary(40),
    "zst, --long=29": ZST + bytes((0, 19 << 3)) + BLOCK,
    "zst, --long=31": ZST + bytes((0, 21 << 3)) + BLOCK,
    "zst, 3.75 TiB": ZST + bytes((0, 255)) + BLOCK,
    "zst, a content of 16 EiB": ZST + b"\xe0" + b"\xff" * 8 + BLOCK,
}


@pytest.mark.parametrize("what", WINDOWS)
def test_a_window_that_takes_too_much_memory(what, tmp_path):
    (tmp_path / "image").write_bytes(WINDOWS[what])
    own, children, _seconds, state, error = alone(tmp_path, tmp_path / "image")
    assert state == "ERROR" and "needs more than 256 MiB of memory" in error
    assert own < 96 * 1024
    assert children < 512 * 1024
    nothing_left(tmp_path)


def test_the_largest_window_that_is_taken(tmp_path):
    for number, data in enumerate((xz_with_dictionary(29), ZST + bytes((0, 17 << 3)) + BLOCK)):
        (tmp_path / "image").write_bytes(data)
        done, _pool = apply(tmp_path / str(number), path=str(tmp_path / "image"), format="raw")
        assert (done.after["state"], done.after["size"]) == ("READY", 1), done.error


@pytest.mark.parametrize("packing", PACK)
def test_streams_with_nothing_in_them(packing, tmp_path):
    """Each is a few bytes, and a decoder of its own."""
    (tmp_path / "image").write_bytes(PACK[packing](BOOT * 128) + (PACK[packing](b"") * 400_000)[: 4 * MIB])
    began = time.process_time()
    done, _pool = apply(tmp_path, path=str(tmp_path / "image"))
    assert time.process_time() - began < 10
    # Cut off within one, which may be told.
    assert done.after["state"] in ("READY", "ERROR")
    assert done.error is None or "damaged or truncated" in str(done.error)


DIGEST = "0123456789abcdef" * 4
NO_CHECKSUMS = [
    "sha256", DIGEST, f"sha256:{DIGEST}0", f"sha256:{DIGEST[:-1]}", f"sha256:{DIGEST[:-1]}g", f"sha512:{DIGEST}",
    f"sha256: {DIGEST}", f"sha256:{DIGEST}  disk.raw", f"sha256:{DIGEST}\n{DIGEST}", f"sha256:{DIGEST}\0",
    f"sha256:{DIGEST[:-1]}\u0663", f"sha256:{DIGEST[:-1]}\uff11", f"\uff53ha256:{DIGEST}", "sha256:0x" + DIGEST[2:],
    "shake_128:00", f"blake2b:{DIGEST}", "crc32:00000000", f"__class__:{DIGEST}", f"md5-sha1:{DIGEST}", ":", "::",
    "https://127.0.0.1:1/SHA256SUMS", "sha256:https://127.0.0.1:1/SHA256SUMS", "sha256:file:///dev/zero", "/dev/zero",
    "sha256:/dev/zero", "sha256:@/dev/zero", "$(touch /tmp/x)", "sha256:$(touch /tmp/x)", "`id`",
    "{{ lookup('pipe', 'id') }}", "\x1b[2J:" + DIGEST,
    "sha256:" + "0" * 10**6, "a" * 10**6 + ":" + DIGEST, ["sha256:" + DIGEST], {"sha256": DIGEST},
    256, True, 1.5,
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(NO_CHECKSUMS)))
def test_what_is_no_checksum(number, tmp_path):
    """Refused before anything is read, registered or fetched, and never more than its beginning is shown."""
    checksum = NO_CHECKSUMS[number]
    (tmp_path / "image").write_bytes(b"x" * 65536)
    done, pool = apply(tmp_path, path=str(tmp_path / "image"), checksum=checksum)
    assert type(done.error).__name__ == "InvalidValue" and "image demo" in str(done.error)
    assert len(str(done.error)) < 13_000 and str(done.error).isprintable()
    assert pool == [] and not (tmp_path / "datastores" / "1").exists()


def test_the_checksum_of_another_file(tmp_path):
    (tmp_path / "image").write_bytes(BOOT * 128)
    for text in ("sha256:" + DIGEST, "md5:" + DIGEST[:32], "SHA512:" + DIGEST * 2):
        done, _pool = apply(tmp_path, path=str(tmp_path / "image"), checksum=text)
        assert done.after["state"] == "ERROR" and type(done.error).__name__ == "ChecksumMismatch"
        nothing_left(tmp_path)
    done, pool = apply(tmp_path, path=str(tmp_path / "image"))
    assert done.after["state"] == "READY" and len(pool) == 1
