# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Image files that were made to harm: refused, or plain data; in bounded time and memory; and no file that one of them
names is ever opened, which strace tells."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile import fuzzed
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import ImageRefused, NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.customize import recipes
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.inspect import inspection
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.open import image_overlay
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.storage import (
    datastore_audit,
    disk_creation,
    disk_formats,
    disk_saving,
    image_files,
    importer,
    qcow2_header,
    qemu_img,
)

MIB = 1024 * 1024
# Named by every image here; read by nothing but us.
TARGET = "/etc/profile"
ROOT = Path(__file__).resolve().parents[2]


def qcow2(**changes: int) -> bytes:
    """A header of version 3, and some clusters of nothing."""
    fields = {
        "magic": 0x514649FB, "version": 3, "backing_offset": 0, "backing_size": 0, "cluster_bits": 16, "size": 8 * MIB,
        "crypt": 0, "l1_size": 1, "l1_offset": 3 << 16, "refcount_offset": 1 << 16, "refcount_clusters": 1,
        "snapshots": 0, "snapshots_offset": 0, "incompatible": 0, "compatible": 0, "autoclear": 0,
        "refcount_order": 4, "length": 112,
    } | changes  # fmt: skip
    head = struct.pack(">IIQIIQIIQQIIQQQQII", *fields.values())
    return head.ljust(512, b"\0") + TARGET.encode().ljust(4 * 65536, b"\0")


DESCRIPTOR = f"""# Disk DescriptorFile
version=1
CID=1
parentCID=ffffffff
createType="monolithicFlat"
RW 8 FLAT "{TARGET}" 0
""".encode()
HEADERS: dict[str, Callable[[], bytes]] = {
    "backing file": lambda: qcow2(backing_offset=512, backing_size=len(TARGET)),
    "backing file beyond the end": lambda: qcow2(backing_offset=1 << 62, backing_size=1 << 31),
    "data file": lambda: qcow2(incompatible=4),
    "encrypted": lambda: qcow2(crypt=2),
    "version 99": lambda: qcow2(version=99),
    "version 1": lambda: qcow2(version=1),
    "huge first table": lambda: qcow2(l1_size=0x7FFFFFFF),
    "huge table of references": lambda: qcow2(refcount_clusters=0x7FFFFFFF),
    "many snapshots": lambda: qcow2(snapshots=0x7FFFFFFF, snapshots_offset=1 << 16),
    "size of all addresses": lambda: qcow2(size=(1 << 64) - 1),
    "size of 2^63": lambda: qcow2(size=1 << 63),
    "clusters of 2^31": lambda: qcow2(cluster_bits=31),
    "clusters of 1": lambda: qcow2(cluster_bits=0),
    "long header": lambda: qcow2(length=0xFFFFFFFF),
    "all that is incompatible": lambda: qcow2(incompatible=(1 << 64) - 1),
    "bitmaps": lambda: qcow2(autoclear=1)[:112] + struct.pack(">IIIIQQ", 0x23852875, 24, 65535, 0, 1 << 30, 1 << 16),
    "vmdk descriptor": lambda: DESCRIPTOR,
    "vmdk": lambda: b"KDMV" + bytes(1020),
    "vdi": lambda: b"x" * 64 + b"\x7f\x10\xda\xbe" + bytes(1000),
    "vhdx": lambda: b"vhdxfile" + bytes(1020),
    "qed": lambda: b"QED\0" + bytes(1020),
    "parallels": lambda: b"WithoutFreeSpace" + bytes(1020),
    "nothing": lambda: b"",
}  # fmt: skip
INSPECT = """
import sys
sys.path.insert(0, sys.argv[1] + "/collections")
from ansible_collections.nebula.provision.plugins.module_utils.errors import ImageRefused
from ansible_collections.nebula.provision.plugins.module_utils.storage import disk_creation, disk_formats, qemu_img
for path in sys.argv[2:]:
    try:
        disk_formats.inspect(path)
        print("taken", path)
    except ImageRefused as error:
        print("refused", error)
"""


def opened(tmp_path: Path, *command: str) -> str:
    """What the command and all that it starts opens or asks the state of."""
    trace = tmp_path / "trace"
    subprocess.run(
        ["strace", "-f", "-qq", "-e", "trace=open,openat,openat2", "-o", str(trace), *command],
        check=True,
        capture_output=True,
    )
    return trace.read_text(errors="replace")


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_was_made_to_harm(name: str, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(HEADERS[name]())
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.thread_time()
    with pytest.raises(ImageRefused) as caught:
        disk_formats.inspect(str(path), what="image evil")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert caught.value.asked == "image evil"
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime + time.thread_time() - began
    assert took < 10
    assert after.ru_maxrss * 1024 < 2 * qemu_img.MEMORY


def test_no_file_that_an_image_names_is_opened(tmp_path: Path) -> None:
    for name, content in HEADERS.items():
        (tmp_path / name.replace(" ", "-")).write_bytes(content())
    paths = sorted(str(path) for path in tmp_path.iterdir())
    found = opened(tmp_path, sys.executable, "-S", "-c", INSPECT, str(ROOT), *paths)
    assert all(path in found for path in paths)
    assert f'"{TARGET}"' not in found


def test_the_tracing_would_see_it(tmp_path: Path) -> None:
    """What the one above is about: qemu-img that may find the format out by itself opens the file that is named."""
    path = tmp_path / "disk"
    subprocess.run(["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", TARGET, path, "1M"], check=True)
    assert f'"{TARGET}"' in opened(tmp_path, "qemu-img", "convert", "-O", "raw", str(path), str(tmp_path / "out"))


def test_a_raw_disk_in_which_its_guest_wrote_a_header(tmp_path: Path) -> None:
    """All that is done with a persistent disk afterwards takes it for the raw one that the catalog says it is."""
    disk = tmp_path / "disk"
    disk.write_bytes(HEADERS["backing file"]().ljust(2 * MIB, b"\0"))
    script = (
        INSPECT.partition("for path")[0]
        + """
path = sys.argv[2]
disk_formats.inspect(path, "raw")
disk_creation.virtual_size(path, "raw")
disk_creation.create_overlay(path + ".overlay", path, "raw", 4 << 20)
disk_creation.copy(path, "raw", path + ".copy", "raw")
disk_creation.copy(path, "raw", path + ".qcow2", "qcow2")
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.storage import qemu_img
overlay = DiskFiles(path + ".overlay", "qcow2", ((path, "raw"),))
qemu_img.run("convert", "-O", "raw", disk=overlay, new=path + ".whole")
disk_creation.resize(path, "raw", 4 << 20)
"""
    )
    found = opened(tmp_path, sys.executable, "-S", "-c", script, str(ROOT), str(disk))
    assert f'"{TARGET}"' not in found and f"{disk}.whole" in found
    target = Path(TARGET).read_bytes()[:64]
    for suffix in ("", ".copy", ".whole"):
        content = Path(f"{disk}{suffix}").read_bytes()
        assert content.startswith(b"QFI\xfb") and target not in content
    with pytest.raises(ImageRefused, match="names another file"):
        disk_formats.inspect(str(disk))


# -- headers that QEMU's user has written into disks of ours ----------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


KINDS = ("data file", "backing file", "network")


def tampered(kind: str, place: Path, listener: socket.socket) -> Path:
    """A disk of 1 MiB by QEMU's own hand, whose header names a file of the host, or somebody in a network."""
    disk, victim = place / "disk", place / "victim"
    port = listener.getsockname()[1]
    options = {
        "data file": ["-o", f"data_file={victim},data_file_raw=on"],
        "backing file": ["-u", "-F", "raw", "-b", str(victim)],
        "network": ["-u", "-F", "raw", "-b", f"nbd://127.0.0.1:{port}/x"],
    }
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *options[kind], disk, "1M"], check=True)
    victim.write_bytes(VICTIM)
    return disk


VICTIM = b"of the host alone".ljust(MIB, b"!")


def chain(disk: str) -> DiskFiles:
    """As the catalog has it: an overlay of a base that is beside it."""
    base = Path(disk).parent / "base"
    if not base.exists():
        base.write_bytes(bytes(MIB))
    return DiskFiles(disk, "qcow2", ((str(base), "raw"),))


def audited(disk: str) -> None:
    os.chmod(disk, 0o440)
    image = Image(id=1, name="evil", state=ImageState.READY, source=disk, format="qcow2", size=1, type=ImageType.OS)
    found = [each.found for each in datastore_audit.findings([image], str(Path(disk).parents[2]))]
    if not any("is damaged: " in each for each in found):
        raise AssertionError(found)
    raise ImageRefused("audit", found[0])


def saved(disk: str) -> None:
    # A file system that may be too small, so that what the disk takes is measured, too.
    disk_saving._measure(chain(disk), "qcow2", "x", False)


def edited(disk: str) -> None:
    with image_overlay.begin(image_overlay.locate_catalogued(disk, "qcow2", "image evil")):
        raise AssertionError("it was begun")


def committed(disk: str) -> None:
    """Its header is changed while the image is being edited."""
    place = Path(disk).parent
    image = place / "image"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "1M"], check=True)
    with image_overlay.begin(found := image_overlay.locate_catalogued(str(image), "qcow2", "image evil")):
        os.replace(disk, image)
        image_overlay.commit(found)


def looked_into(disk: str) -> None:
    with inspection.file_injection.scratch() as directory:
        shutil.copy(disk, f"{directory}/disk")
        with inspection.guestfish.session(disk, "qcow2", directory, "image evil"):
            raise AssertionError("there is an appliance")


CALLERS: dict[str, Callable[[str], Any]] = {
    "resize": lambda disk: disk_creation.resize(disk, "qcow2", 2 * MIB),
    "copy": lambda disk: disk_creation.copy(disk, "qcow2", disk + ".new", "raw"),
    "rewrite": lambda disk: disk_creation.rewrite(disk, "qcow2", disk + ".new", "qcow2"),
    "room": lambda disk: disk_creation.room_for(disk, "qcow2", "raw"),
    "rework": lambda disk: image_files.rewrite(disk, "qcow2", "qcow2", 2 * MIB, True, "", ""),
    "grow": lambda disk: image_files.grow(disk, "qcow2", 2 * MIB, ""),
    "import": lambda disk: importer.store(importer.Request("image evil", disk), disk + ".new"),
    "inspect": lambda disk: disk_formats.inspect(disk, "qcow2"),
    "audit": audited,
    "save_as": lambda disk: disk_saving.flatten(chain(disk), disk + ".new", False, "x"),
    "save_as, measured": saved,
    "save_as, verified": lambda disk: disk_saving.verify(disk, "qcow2", MIB, False, "x"),
    "snapshots": lambda disk: disk_saving.snapshot_tags(chain(disk)),
    "snapshot": lambda disk: disk_saving.create_snapshot(chain(disk), "a"),
    "revert": lambda disk: disk_saving.revert(chain(disk), "a", "x"),
    "prepare": edited,
    "prepare, at its end": committed,
    "image check": lambda disk: image_overlay.locate_for_reading(disk, "qcow2", False, "image evil"),
    "overlay": lambda disk: image_overlay.make_overlay(
        image_overlay.locate_catalogued(disk, "qcow2", "image evil"), disk + ".new"
    ),
    "recipe": lambda disk: recipes.add(recipes.Recipe(commands=("true",)), disk, "qcow2", "image evil"),
}


def untouched(place: Path, listener: socket.socket) -> None:
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert (place / "victim").read_bytes() == VICTIM
    assert [
        path
        for path in place.rglob("*")
        if path.is_file() and path.name != "victim" and VICTIM[:17] in path.read_bytes()
    ] == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("caller", CALLERS)
def test_a_header_of_a_disk_of_ours_is_refused_by_whoever_opens_it(caller, kind, tmp_path, listener) -> None:
    place = tmp_path / "datastores" / "1"
    place.mkdir(parents=True)
    disk = tampered(kind, place, listener)
    with pytest.raises(ImageRefused):
        CALLERS[caller](str(disk))
    untouched(place, listener)


def test_an_appliance_is_not_started_on_a_data_file(tmp_path, listener) -> None:
    disk = tampered("data file", tmp_path, listener)
    with pytest.raises(ImageRefused):
        looked_into(str(disk))
    untouched(tmp_path, listener)


@pytest.mark.root
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("caller", ["resize", "copy", "room", "save_as", "snapshot"])
def test_a_header_that_is_changed_after_it_was_looked_at_reaches_nothing(
    caller, kind, tmp_path, listener, monkeypatch
) -> None:
    """By a QEMU that was taken over and still runs: what was looked at says nothing then, and the sandbox holds."""
    disk = tampered(kind, tmp_path, listener)
    monkeypatch.setattr(qcow2_header, "refuse_unexpected", lambda *_arguments, **_options: None)
    monkeypatch.setattr(qemu_img, "block_node", lambda files, *_more, **_named: f"{files.path}")
    with contextlib.suppress(NebulaError, AssertionError):
        CALLERS[caller](str(disk))
    untouched(tmp_path, listener)


@fuzzed(25)
@given(st.data())
def test_any_damage_to_a_header(data: st.DataObject) -> None:
    import tempfile

    content = bytearray(qcow2())
    for _change in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(4, 111))
        content[place : place + 4] = data.draw(st.binary(min_size=4, max_size=4))
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        try:
            facts = disk_formats.inspect(file.name)
        except NebulaError as error:
            assert isinstance(error, ImageRefused), error
        else:
            assert not facts.backing_file
