# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of a registered image is brought to its place, or its failure is noted; it goes with a removed image."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from raw_disks import BOOT

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    ChecksumMismatch,
    ImageRefused,
    NoSpace,
    NotFound,
    TimedOut,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.open import image_overlay
from ansible_collections.nebula.provision.plugins.module_utils.host import files
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import (
    image_files_stored as image_storing,
)
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images.image_item import spec_of
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images.image_progress import (
    Settings,
    Work,
)
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images.image_view import image_view
from ansible_collections.nebula.provision.plugins.module_utils.storage import final_names, image_files
from ansible_collections.nebula.provision.plugins.module_utils.storage.checksum import Checksum
from ansible_collections.nebula.provision.plugins.module_utils.storage.importer import Request
from ansible_collections.nebula.provision.plugins.module_utils.sync import Item

MIB = 1024 * 1024
CONTENT = BOOT + b"a kernel " * 10_000
SECRET = "7b3a5d1c-0f3e-4a52-9a43-1f6a4a0c1d11"
needs_qemu_img = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="needs qemu-utils")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "vmlinuz"
    path.write_bytes(CONTENT)
    return path


def registered(engine: EmbeddedEngine, type: ImageType = ImageType.KERNEL, **fields: Any) -> Image:
    """An image whose file is to be stored; one of a kernel is not looked into."""
    with engine.session():
        return engine.images.allocate(Image(None, "demo", type=type, **fields))


def store(engine: EmbeddedEngine, image: Image, keys: dict[str, Any], **settings: Any) -> Work:
    spec = spec_of({"name": "demo", "remote_src": True, **keys})
    work = Work(Item("demo", changed=False), spec, image)
    image_storing.store(engine, work, Settings(**settings))
    return work


def beside(image: Image) -> list[str]:
    """What lies in the datastore."""
    directory = os.path.dirname(image.source)
    return sorted(os.listdir(directory)) if os.path.isdir(directory) else []


def mode(image: Image) -> int:
    return os.stat(image.source).st_mode & 0o222


# -- stored -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["present", "disabled"])
def test_a_registered_image_is_stored(engine: EmbeddedEngine, source: Path, state: str) -> None:
    image = registered(engine)
    work = store(engine, image, {"path": str(source), "state": state})
    digest = hashlib.sha256(CONTENT).hexdigest()
    now = engine.images.info("demo")
    assert work.item.error is None and work.item.is_changed and work.todo == "again"
    assert now.state == (ImageState.DISABLED if state == "disabled" else ImageState.READY)
    assert (now.size, now.format, now.sha256, now.checksum) == (1, "raw", digest, f"sha256:{digest}")
    assert work.item.after == image_view(now)
    assert Path(now.source).read_bytes() == CONTENT and mode(now) == 0
    assert beside(now) == [os.path.basename(now.source)]
    assert source.exists()


def test_an_empty_disk_takes_no_room(engine: EmbeddedEngine) -> None:
    image = registered(engine, ImageType.DATABLOCK, persistent=True)
    work = store(engine, image, {"size": 5, "type": "DATABLOCK"})
    now = engine.images.info("demo")
    assert work.item.error is None and (now.state, now.size, now.sha256) == (ImageState.READY, 5, "")
    found = os.stat(now.source)
    assert (found.st_size, found.st_blocks) == (5 * MIB, 0)
    # Machines write to it.
    assert mode(now) != 0


def test_a_copy_of_another_image_has_its_hashes(engine: EmbeddedEngine, source: Path) -> None:
    store(engine, registered(engine), {"path": str(source)})
    made_of = engine.images.info("demo")
    with engine.session():
        clone = engine.images.clone("demo", Image(None, "copy", type=ImageType.KERNEL, datastore_id=1))
    work = Work(Item("copy", changed=False), spec_of({"name": "copy", "clone_of": "demo"}), clone)
    image_storing.store(engine, work, Settings())
    now = engine.images.info("copy")
    assert work.item.error is None and now.state == ImageState.READY
    assert (now.sha256, now.checksums, now.operation) == (made_of.sha256, made_of.checksums, None)
    assert Path(now.source).read_bytes() == CONTENT and now.source != made_of.source
    assert engine.images.info("demo").state == ImageState.READY


def test_what_another_run_stored_meanwhile_is_not_stored_again(engine: EmbeddedEngine, source: Path) -> None:
    image = registered(engine)
    with engine.session():
        engine.images.update("demo", state=ImageState.READY, size=7)
    work = store(engine, image, {"path": str(source)})
    assert work.item.error is None and not work.item.is_changed and work.todo == "again"
    assert work.item.after is not None and work.item.after["size"] == 7
    assert beside(image) == []


def test_what_another_run_is_storing_is_left_to_it(engine: EmbeddedEngine, source: Path) -> None:
    image = registered(engine)
    files.make_directory(os.path.dirname(image.source), 0o711)
    with final_names.locked_destination(image.source, 0):
        work = store(engine, image, {"path": str(source)}, wait_timeout=0)
    assert isinstance(work.item.error, TimedOut) and work.todo == ""
    assert engine.images.info("demo") == image


# -- what goes wrong --------------------------------------------------------------------------------------------------


def test_what_fails_is_in_the_catalog_with_its_reason(engine: EmbeddedEngine, tmp_path: Path) -> None:
    image = registered(engine)
    work = store(engine, image, {"path": str(tmp_path / "gone")})
    now = engine.images.info("demo")
    assert isinstance(work.item.error, NotFound) and work.item.is_changed
    assert now.state == ImageState.ERROR and now.error == str(work.item.error)
    assert now.error.startswith(f"image demo: path {tmp_path}/gone") and work.item.after == image_view(now)
    assert beside(now) == []


def test_what_is_removed_before_it_is_stored_is_told(engine: EmbeddedEngine, source: Path) -> None:
    image = registered(engine)
    with engine.session():
        engine.images.delete("demo")
    work = store(engine, image, {"path": str(source)})
    assert str(work.item.error) == ("image demo: store: another run removed it meanwhile. Run again if it is wanted")
    assert isinstance(work.item.error, WrongState)
    assert work.item.after is not None and work.item.after["state"] == "DELETE"


def test_nothing_is_left_of_what_is_removed_while_it_is_stored(engine: EmbeddedEngine, source: Path) -> None:
    def remove(_text: str) -> None:
        with engine.session():
            if engine.images.pool():
                engine.images.delete("demo")

    image = registered(engine)
    work = store(engine, image, {"path": str(source)}, say=remove)
    assert isinstance(work.item.error, WrongState) and "another run removed it meanwhile" in str(work.item.error)
    assert beside(image) == [] and engine.images.pool() == []


@pytest.mark.parametrize("refused", [True, False])
def test_an_upload_is_kept_unless_it_is_itself_wrong(engine: EmbeddedEngine, source: Path, refused: bool) -> None:
    image = registered(engine)
    keys = {"path": "/play/vmlinuz", "remote_src": False}
    if refused:
        keys["checksum"] = "sha256:" + "0" * 64
    else:
        # Where the datastore is to be.
        Path(os.path.dirname(image.source)).parent.mkdir(parents=True, exist_ok=True)
        Path(os.path.dirname(image.source)).write_bytes(b"")
    work = store(engine, image, keys, uploads={"demo": str(source)})
    assert isinstance(work.item.error, ChecksumMismatch) is refused and work.item.error is not None
    assert source.exists() is not refused
    assert engine.images.info("demo").state == ImageState.ERROR


@needs_qemu_img
def test_what_is_not_encrypted_is_not_had_under_a_secret(engine: EmbeddedEngine, source: Path) -> None:
    image = registered(engine, ImageType.OS, luks_secret=SECRET)
    work = store(engine, image, {"path": str(source), "luks_secret": SECRET})
    assert str(work.item.error) == (
        f"image demo: luks_secret {SECRET}: it is not encrypted. "
        "Leave luks_secret out, or give luks_passphrase too, by which it is encrypted here"
    )
    assert engine.images.info("demo").state == ImageState.ERROR and beside(image) == []


def test_an_empty_disk_has_to_fit_as_a_whole_where_the_datastore_says_so(engine: EmbeddedEngine) -> None:
    image = registered(engine, ImageType.DATABLOCK)
    files.make_directory(os.path.dirname(image.source), 0o711)
    huge = 1 << 40
    with pytest.raises(NoSpace, match="image demo: its disk in datastore default"):
        image_storing.require_capacity(engine, image, huge, "image demo: its disk")
    image_storing.require_capacity(engine, image, 1, "image demo: its disk")
    with engine.session():
        engine.datastores.update(image.datastore_id, capacity_check=False)
    image_storing.require_capacity(engine, image, huge, "image demo: its disk")


# -- looked at again --------------------------------------------------------------------------------------------------


def test_a_file_is_measured_in_whole_mib(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for size, mib in ((1, 1), (MIB, 1), (MIB + 1, 2)):
        path.write_bytes(bytes(size))
        assert image_storing.inspect_again(Image(0, "demo", type=ImageType.KERNEL, source=str(path))) == mib


@needs_qemu_img
def test_a_disk_is_never_asked_for_its_format(tmp_path: Path) -> None:
    """What a guest wrote into a raw disk is content, whatever it looks like; a qcow2 has to be one."""
    path = tmp_path / "file"
    path.write_bytes(b"QFI\xfb\0\0\0\3" + b"\xff" * 2 * MIB)
    raw = Image(4, "demo", source=str(path))
    assert image_storing.inspect_again(raw) == 3
    with pytest.raises(ImageRefused, match=r"image demo \(id 4\): it names another file"):
        image_storing.inspect_again(replace(raw, format="qcow2"))


@needs_qemu_img
def test_a_disk_is_no_cd(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(MIB))
    image = Image(4, "demo", type=ImageType.CDROM, source=str(path))
    with pytest.raises(ImageRefused) as caught:
        image_storing.inspect_again(image)
    assert str(caught.value) == (
        "image demo (id 4): type CDROM: it is not an ISO file system (its format is raw). Leave it OS or DATABLOCK"
    )
    path.write_bytes(bytes(16 * 2048 + 1) + b"CD001" + bytes(MIB))
    assert image_storing.inspect_again(image) == 2


# -- removed ----------------------------------------------------------------------------------------------------------


def going(engine: EmbeddedEngine, source: Path) -> Image:
    store(engine, registered(engine), {"path": str(source)})
    with engine.session():
        return engine.images.update("demo", state=ImageState.DELETE)


def remove(engine: EmbeddedEngine, image: Image, **settings: Any) -> Work:
    work = Work(Item("demo", image_view(image), changed=True), spec_of({"name": "demo", "state": "absent"}), image)
    image_storing.remove(engine, work, Settings(**settings))
    return work


def test_an_image_goes_with_all_that_lies_beside_it(engine: EmbeddedEngine, source: Path) -> None:
    image = going(engine, source)
    for end in (final_names.NEW, final_names.NEW + ".raw", image_files.WORK):
        Path(image.source + end).write_bytes(b"left by a run that was killed")
    Path(image.source + final_names.NEW + image_files.BESIDE).mkdir()
    Path(image_overlay.locate_catalogued(image.source, "raw", "image demo").directory).mkdir()
    (Path(image.source).parent / "mine").write_bytes(b"")
    work = remove(engine, image)
    assert work.item.error is None
    assert beside(image) == ["mine"] and engine.images.pool() == []


def test_an_image_whose_datastore_is_gone_goes_from_the_catalog(engine: EmbeddedEngine, source: Path) -> None:
    image = going(engine, source)
    shutil.rmtree(os.path.dirname(image.source))
    assert remove(engine, image).item.error is None
    assert engine.images.pool() == [] and not os.path.exists(os.path.dirname(image.source))


def test_what_was_taken_back_meanwhile_keeps_its_file(engine: EmbeddedEngine, source: Path) -> None:
    image = going(engine, source)
    with engine.session():
        engine.images.update("demo", state=ImageState.READY)
    work = remove(engine, image)
    assert str(work.item.error) == (
        "image demo: state absent: another run has taken it back meanwhile: it is READY. Run again if it is still to go"
    )
    assert work.item.after is not None and work.item.after["state"] == "READY"
    assert Path(image.source).read_bytes() == CONTENT and len(engine.images.pool()) == 1


def test_another_image_of_its_number_stays(engine: EmbeddedEngine, source: Path) -> None:
    """The catalog was restored meanwhile."""
    image = replace(going(engine, source), uuid="another")
    assert remove(engine, image).item.error is None
    assert [each.name for each in engine.images.pool()] == ["demo"]


def test_what_is_being_stored_is_not_removed_under_it(engine: EmbeddedEngine, source: Path) -> None:
    image = going(engine, source)
    with final_names.locked_destination(image.source, 0):
        work = remove(engine, image, wait_timeout=0)
        assert Path(image.source).exists()
    assert isinstance(work.item.error, TimedOut) and "image demo" in str(work.item.error)
    assert engine.images.info("demo").state == ImageState.DELETE


# -- what is asked of the importer ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "type", "expected"),
    [
        ({"size": 4}, ImageType.OS, None),
        ({"clone_of": "base"}, ImageType.OS, None),
        ({"path": "/srv/x", "remote_src": True}, ImageType.OS, {"source": "/srv/x"}),
        ({"path": "/srv/x", "remote_src": True}, ImageType.CDROM, {"source": "/srv/x", "cdrom": True}),
        ({"path": "/srv/x", "remote_src": True}, ImageType.RAMDISK, {"source": "/srv/x", "disk": False}),
        ({"path": "/play/x"}, ImageType.OS, {"source": "/var/tmp/up", "upload": True}),
        # Uploads are of files of the control node alone.
        ({"path": "https://example.org/x"}, ImageType.OS, {"source": "https://example.org/x"}),
        (
            {"path": "/srv/x", "remote_src": True, "format": "qcow2", "luks_secret": SECRET},
            ImageType.OS,
            {"source": "/srv/x", "format": "qcow2", "encrypted": True},
        ),
        (
            {"path": "/srv/x", "remote_src": True, "checksum": "md5:" + "0" * 32},
            ImageType.OS,
            {"source": "/srv/x", "checksum": Checksum("md5", "0" * 32)},
        ),
    ],
)
def test_a_request_says_what_the_item_says(
    keys: dict[str, Any], type: ImageType, expected: dict[str, Any] | None
) -> None:
    settings = Settings(uploads={"demo": "/var/tmp/up"}, max_size=5, validate_certs=False, stall=3.0, min_speed=2)
    found = image_storing.request_of(spec_of({"name": "demo", **keys}), type, settings)
    if expected is None:
        assert found is None
        return
    limits = {"max_size": 5 * MIB, "validate_certs": False, "stall": 3.0, "min_speed": 2048}
    assert found == Request(what="image demo", **{**limits, **expected})
