# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused before anything is made, and what is reported of it. The trees themselves are tested in
tests/integration/test_roots.py and test_hostile_roots.py."""

from __future__ import annotations

import os

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, InvalidValue, NoSpace, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import id_range
from ansible_collections.nebula.provision.plugins.module_utils.storage import roots

IDS = id_range(3)


@pytest.mark.parametrize("what", ["missing", "directory", "fifo"])
def test_an_archive_that_is_no_file(what, tmp_path):
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises((InvalidValue, NotFound), match=r"No such file|not a regular file"):
        roots.unpack(str(tmp_path / what), str(tmp_path / "tree"), IDS)
    assert sorted(os.listdir(tmp_path)) == ["directory", "fifo"]


@pytest.mark.parametrize("what", ["file", "link", "directory"])
def test_what_is_there_stays(what, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("missing")
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory/file").write_text("x")
    (tmp_path / "archive").write_bytes(bytes(1024))
    with pytest.raises(Conflict, match="something is there"):
        roots.unpack(str(tmp_path / "archive"), str(tmp_path / what), IDS, what="image demo")
    assert sorted(os.listdir(tmp_path)) == ["archive", "directory", "file", "link"]


def test_warnings():
    assert roots.Unpacked(5, 6, 0, 0).warnings("image demo") == []
    both = roots.Unpacked(5, 6, 7, 8).warnings("image demo")
    assert len(both) == 2 and "7 device nodes" in both[0] and "8 of its files" in both[1]
    assert all(text.startswith("image demo: ") for text in both)


def test_room(tmp_path):
    roots.require_room(str(tmp_path / "tree"), 1, "image demo")
    with pytest.raises(NoSpace, match="image demo"):
        roots.require_room(str(tmp_path / "tree"), 1 << 60, "image demo")


def test_nothing_to_remove(tmp_path):
    assert not roots.remove(str(tmp_path / "tree")) and os.listdir(tmp_path) == []


def test_what_belongs_to_a_root_by_its_name():
    named = {name: roots.root_of(name) for name in ("disk.0", "disk.0.layers", "disk.0.unpacking", "vm.json")}
    assert named == {"disk.0": "disk.0", "disk.0.layers": "disk.0", "disk.0.unpacking": "disk.0", "vm.json": "vm.json"}


def test_a_root_is_there_with_its_files_or_with_its_layers(tmp_path):
    tree, layers = tmp_path / "disk.0", tmp_path / "disk.0.layers"
    assert not roots.is_there(str(tree))
    tree.mkdir()
    assert not roots.is_there(str(tree))
    layers.mkdir()
    assert not roots.is_there(str(tree))
    # Not mounted, but whole.
    (layers / "layers.json").write_text("{}")
    assert roots.is_there(str(tree))
    (tree / "etc").mkdir()
    (layers / "layers.json").unlink()
    layers.rmdir()
    assert roots.is_there(str(tree))


def test_of_what_is_not_there_nothing_is_removed(tmp_path):
    assert roots.prune(str(tmp_path)) == [] and os.listdir(tmp_path) == []
    (tmp_path / "datastores/0/.unpacked").mkdir(parents=True)
    assert roots.prune(str(tmp_path)) == [] and os.listdir(tmp_path / "datastores/0") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives directories to others")
def test_unpacked_images_that_another_user_has_put_there_are_shown_by_nobody(tmp_path):
    """The directory of unpacked images is believed: what is in it becomes the root of containers."""
    cache, archive = tmp_path / ".unpacked", tmp_path / "archive"
    archive.write_bytes(bytes(1024))
    tree = cache / "image-1/root"
    (tree / "bin").mkdir(parents=True)
    (cache / "image-1/base.json").write_text('{"entries": 1, "size": 1, "devices": 0, "lost": 0}')
    os.chown(cache, 12345, 12345)
    cache.chmod(0o700)
    for make in (
        lambda: roots.base(str(cache), str(archive), "image-1"),
        lambda: roots.make(str(cache), str(archive), "image-1", str(tmp_path / "disk.0"), IDS),
    ):
        with pytest.raises(InvalidValue, match="unpacked: user 12345 owns it"):
            make()
    assert not (tmp_path / "disk.0").exists() and (tree / "bin").is_dir()


STEPS = (
    "disk.0.restored",
    "disk.0.unpacking",
    "disk.0.replaced",
    "disk.0.replaced-layers",
    "disk.0.restored.unpacking",
)


def tree(path, text):
    path.mkdir()
    (path / "file").write_text(text)


def shown(path):
    return {each.name: (each / "file").read_text() for each in path.iterdir() if (each / "file").exists()}


@pytest.mark.parametrize("before", ["nothing", "empty", "tree"])
def test_a_restored_root_takes_the_place_of_what_was_there(before, tmp_path):
    directory = tmp_path / "disk.0"
    if before == "tree":
        tree(directory, "old")
    elif before == "empty":
        directory.mkdir()
    tree(tmp_path / "disk.0.restored", "new")
    roots.put_in_place(str(directory))
    old = {"disk.0.replaced": "old"} if before == "tree" else {}
    assert shown(tmp_path) == {"disk.0": "new", **old}
    # Once more, as after a kill: nothing is left to do.
    roots.put_in_place(str(directory))
    assert shown(tmp_path) == {"disk.0": "new", **old}
    assert roots.remove_replaced(str(directory)) == bool(old)
    assert shown(tmp_path) == {"disk.0": "new"} and not roots.remove_replaced(str(directory))


def test_killed_between_the_two_names(tmp_path):
    directory = tmp_path / "disk.0"
    tree(tmp_path / "disk.0.replaced", "old")
    tree(tmp_path / "disk.0.restored", "new")
    roots.put_in_place(str(directory))
    assert shown(tmp_path) == {"disk.0": "new", "disk.0.replaced": "old"}


@pytest.mark.parametrize("step", ["made", "between", "done"])
def test_taken_back(step, tmp_path):
    directory = tmp_path / "disk.0"
    tree(tmp_path / ("disk.0" if step == "made" else "disk.0.replaced"), "old")
    tree(tmp_path / ("disk.0" if step == "done" else "disk.0.restored"), "new")
    for _again in range(2):
        roots.put_back(str(directory))
        assert shown(tmp_path) == {"disk.0": "old"} and os.listdir(tmp_path) == ["disk.0"]


def test_what_a_guest_has_called_like_layers_is_none(tmp_path):
    directory = tmp_path / "disk.0"
    tree(directory, "old")
    (directory / "layers.json").write_text('{"base": "/", "start": 0, "count": 9}')
    tree(tmp_path / "disk.0.restored", "new")
    roots.put_in_place(str(directory))
    roots.put_back(str(directory))
    assert shown(tmp_path) == {"disk.0": "old"} and not roots.shows_image(str(directory))


def test_what_belongs_to_a_restored_root_goes_with_it(tmp_path):
    for name in ("disk.0", *STEPS):
        (tmp_path / name).mkdir()
        assert roots.root_of(name) == "disk.0"
    assert roots.remove(str(tmp_path / "disk.0")) and os.listdir(tmp_path) == []
