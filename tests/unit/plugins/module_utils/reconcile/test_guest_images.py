# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The context program is brought into an image by a way that suits its trust, or nothing of the image is changed."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    CommandFailed,
    InvalidValue,
    MissingDependency,
    NotFound,
)
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.customize.context_program import Outcome
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.open import image_overlay
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import guest_images
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.guest_images import apply, refuse_twins, view
from ansible_collections.nebula.provision.plugins.module_utils.storage import final_names
from ansible_collections.nebula.provision.plugins.module_utils.sync import Item

PROGRAM = "#!/bin/sh\necho changed\n"
WANTED = f"installed, sha256 {hashlib.sha256(PROGRAM.encode()).hexdigest()}"
needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-img") is None or shutil.which("qemu-io") is None, reason="needs qemu-utils"
)


class Way:
    """Stands where a way into the image installs the program: it writes a byte of the overlay if it changes it."""

    def __init__(self, changed: bool = True) -> None:
        self.changed = changed
        self.programs: list[str] = []
        self.error: Exception | None = None

    def __call__(self, directory: str, what: str) -> Outcome:
        self.programs.append(Path(directory, "program").read_text(encoding="utf-8"))
        if self.error is not None:
            raise self.error
        if self.changed:
            overlay = os.path.join(directory, final_names.OVERLAY)
            subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -q -P 65 0 512", overlay], check=True)
        return Outcome(self.changed, "Debian 12")


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> dict[str, Way]:
    """The ways into an image need libguestfs, or root: the table of them is exchanged."""
    made = {name: Way() for name in guest_images.WAYS}
    monkeypatch.setattr(guest_images, "WAYS", made)
    return made


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(1 << 20))
    return path


def install(check_mode: bool = False, **keys: Any) -> Item:
    """The item; nothing is warned of."""
    warnings: list[str] = []
    done = apply(keys, PROGRAM, check_mode, warnings)
    assert warnings == []
    return done


def written(disk: Path) -> bool:
    return disk.read_bytes().startswith(b"A")


@needs_qemu
def test_the_program_is_installed_as_check_mode_says(ways: dict[str, Way], disk: Path) -> None:
    foreseen = install(path=str(disk), via="guestfs", check_mode=True)
    assert not written(disk)
    done = install(path=str(disk), via="guestfs")
    assert done == foreseen and done.error is None and done.is_changed and written(disk)
    assert done.before is not None and done.before["nebula_context"] == "not installed, or not as it is now"
    assert done.after == {"how": "guestfs", "os": "Debian 12", "nebula_context": WANTED}
    assert ways["guestfs"].programs == [PROGRAM] * 2 and ways["mount"].programs == []
    assert os.listdir(disk.parent) == ["disk.raw"]


@needs_qemu
def test_nothing_is_changed_where_it_is_so_already(ways: dict[str, Way], disk: Path) -> None:
    ways["guestfs"].changed = False
    done = install(path=str(disk), via="guestfs")
    assert done.error is None and not done.is_changed and done.before == done.after
    assert done.after is not None and done.after["nebula_context"] == WANTED


@needs_qemu
def test_what_fails_leaves_the_image_as_it_was(ways: dict[str, Way], disk: Path) -> None:
    ways["guestfs"].error = CommandFailed("image demo: installing the context program", "no space")
    done = install(path=str(disk), via="guestfs")
    assert done.error is ways["guestfs"].error and not done.is_changed and not written(disk)
    assert os.listdir(disk.parent) == ["disk.raw"]


@needs_qemu
def test_what_a_killed_run_left_is_finished(ways: dict[str, Way], disk: Path) -> None:
    image = image_overlay.locate(str(disk), "raw", False)
    os.mkdir(image.directory)
    image_overlay.make_overlay(image, image.complete)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -q -P 65 0 512", image.complete], check=True)
    ways["guestfs"].changed = False
    foreseen = install(path=str(disk), format="raw", via="guestfs", check_mode=True)
    assert foreseen.is_changed and ways["guestfs"].programs == [] and not written(disk)
    done = install(path=str(disk), format="raw", via="guestfs")
    assert done.error is None and done.is_changed and written(disk)


@needs_qemu
@pytest.mark.parametrize(
    ("keys", "guestfish", "way"),
    [
        ({}, False, "guestfs"),
        ({"trusted": True}, True, "guestfs"),
        # Without libguestfs this host's kernel mounts what is trusted, and nothing else.
        ({"trusted": True}, False, "mount"),
        ({"trusted": True, "via": "guestfs"}, False, "guestfs"),
        ({"trusted": "yes", "via": "mount"}, True, "mount"),
    ],
)
def test_the_way_suits_what_is_trusted(
    ways: dict[str, Way], disk: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any], guestfish: bool, way: str
) -> None:
    """Whether guestfish is on this host is what is exchanged."""
    monkeypatch.setattr(guest_images.context_program, "present", lambda program: guestfish and program == "guestfish")
    done = install(path=str(disk), **keys)
    assert done.after is not None and done.after["how"] == way
    assert [name for name, each in ways.items() if each.programs] == [way]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"path": "/x", "via": "mount"},
            ["image /x: via mount: the image is not said to be trusted", "Set trusted: true"],
        ),
        ({"path": "/x", "via": "nbd"}, ["image /x: via 'nbd': there is no such via", "auto, guestfs, mount"]),
        ({"path": "/x", "trusted": "perhaps"}, ["image /x: trusted 'perhaps': it is neither true nor false"]),
        ({"path": "relative"}, ["image relative: the path is not absolute", "Give the full path on this host"]),
        ({"path": "/dev/null"}, ["image /dev/null: it is not a regular file"]),
        ({}, ["an image: it has no path. Give the full path on this host"]),
        ({"path": "", "via": "mount"}, ["an image: it has no path"]),
        ({"path": None, "format": "vhd"}, ["an image: it has no path"]),
    ],
)
def test_what_can_not_be_meant_is_refused(keys: dict[str, Any], words: list[str]) -> None:
    for check_mode in (True, False):
        done = install(check_mode, **keys)
        assert isinstance(done.error, InvalidValue) and not done.is_changed
        assert [word for word in words if word not in str(done.error)] == [], str(done.error)
        assert done.name == (keys.get("path") or "?")


def test_in_check_mode_an_earlier_task_may_be_about_to_bring_it() -> None:
    warnings: list[str] = []
    done = apply({"path": "/nowhere/x.raw"}, PROGRAM, True, warnings)
    assert done.error is None and done.is_changed and view(done)["how"] is None
    (warning,) = warnings
    assert warning.startswith("In check mode, taken as about to come: image /nowhere/x.raw: there is no such file")
    assert isinstance(install(path="/nowhere/x.raw").error, NotFound)


@needs_qemu
@pytest.mark.parametrize(("error", "foreseen"), [(MissingDependency, True), (NotFound, False)])
def test_check_mode_takes_a_program_as_about_to_come_and_nothing_of_an_image_that_is_here(
    ways: dict[str, Way], disk: Path, error: Any, foreseen: bool
) -> None:
    ways["guestfs"].error = error("image demo: looking into it", "it is not there", "See to it")
    warnings: list[str] = []
    done = apply({"path": str(disk), "via": "guestfs"}, PROGRAM, True, warnings)
    assert (done.error is None, done.is_changed, len(warnings)) == (foreseen, foreseen, int(foreseen))
    assert install(path=str(disk), via="guestfs").error is ways["guestfs"].error


def test_two_items_of_one_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    refuse_twins([{"path": str(tmp_path / "a")}, {"path": str(tmp_path / "b")}])
    # Each of these is told for itself.
    refuse_twins([{"path": None}, {"path": ""}, {}, {"path": os.getcwd()}])
    with pytest.raises(InvalidValue) as caught:
        refuse_twins([{"path": str(tmp_path / "a")}, {"path": str(tmp_path / "link")}])
    assert str(caught.value) == f"option images: path {tmp_path}/link: two items are this file. Name it once"


def test_an_item_is_shown_by_its_path() -> None:
    assert view(Item("/x", {}, {"how": "mount", "os": "Debian 12"}, changed=True)) == {
        "path": "/x",
        "changed": True,
        "how": "mount",
        "os": "Debian 12",
    }
    assert view(Item("/x", changed=False)) == {"path": "/x", "changed": False, "how": None, "os": None}
