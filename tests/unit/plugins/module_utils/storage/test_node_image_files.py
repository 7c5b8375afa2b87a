# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the front-end sends is checked and kept, what machines wrote goes back, and each step can be done again.

The user that the front-end comes as is whoever runs this, and os.chown, the seam to the operating system, does nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import stat
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    Conflict,
    InvalidValue,
    NotFound,
    StorageFailed,
)
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file, rsync
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan
from ansible_collections.nebula.provision.plugins.module_utils.model.transfer import (
    BASE,
    ENDED,
    OWN,
    SAVED,
    PlannedImage,
)
from ansible_collections.nebula.provision.plugins.module_utils.storage import disk_saving, node_image_files

NAME = "5f0d1f0e-91c3-4d3f-8b58-0d1f0e2ac003-2"
OTHER = "5f0d1f0e-91c3-4d3f-8b58-0d1f0e2ac004-0"
CONTENT = b"a disk" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def no_owners(monkeypatch):
    monkeypatch.setattr(os, "chown", lambda *_arguments: None)
    monkeypatch.setattr(rsync, "USER", pwd.getpwuid(os.geteuid()).pw_name)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "nebula"
    path.mkdir()
    node_image_files.make_places(str(path))
    (path / "datastores" / "0").mkdir(parents=True)
    return path


def image(kind: str = BASE, name: str = NAME, sha256: str = DIGEST) -> PlannedImage:
    return PlannedImage(kind, name, "demo", f"/front/{name}", sha256)


def plan(*images: PlannedImage, **values) -> Plan:
    return Plan("catalog", 5, "host1", images=images, **values)


def came(root: Path, content: bytes = CONTENT, name: str = NAME, **told) -> None:
    """What the front-end leaves: the file, then what it has to be."""
    (root / node_image_files.IN / name).write_bytes(content)
    told = {"size": len(CONTENT), "sha256": DIGEST, **told}
    (root / node_image_files.IN / f"{name}.json").write_text(json.dumps(told))


def link(root: Path, number: int, name: str, disk: int = 0) -> Path:
    """A machine whose disk is a file of the cache."""
    directory = root / "datastores" / "0" / str(number)
    directory.mkdir(exist_ok=True)
    (directory / f"disk.{disk}").symlink_to(root / "cache" / name)
    return directory


def names(root: Path) -> dict[str, list[str]]:
    return {
        place: sorted(os.listdir(root / place))
        for place in (node_image_files.CACHE, node_image_files.IN, node_image_files.OUT)
    }


# -- places ----------------------------------------------------------------------------------------------------------


def test_the_places_are_made_once_and_closed(tmp_path):
    assert node_image_files.make_places(str(tmp_path)) == ["cache", "transfer", "transfer/in", "transfer/out"]
    # Without root, what is to be root's belongs to whoever runs this, and is found so again.
    assert node_image_files.make_places(str(tmp_path)) == ([] if os.geteuid() == 0 else ["cache", "transfer"])
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("cache", "transfer/in", "transfer/out")]
    assert modes == [0o711, 0o700, 0o711]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (BASE, f"cache/{NAME}"),
        (OWN, f"cache/own-{NAME}"),
        (ENDED, f"cache/own-{NAME}"),
        (SAVED, f"cache/.saving-{NAME}"),
    ],
)
def test_where_a_file_of_the_front_end_is(kind, expected):
    assert node_image_files.path_of("/root", image(kind)) == f"/root/{expected}"


def test_only_what_has_the_name_of_an_image_is_told_of(root):
    for name in (NAME, f"own-{OTHER}", ".coming-x", "notes", f"{NAME}.bak"):
        (root / "cache" / name).write_bytes(b"")
    (root / node_image_files.OUT / NAME).write_bytes(bytes(4096))
    (root / node_image_files.OUT / f".{NAME}.x").write_bytes(b"x")
    assert node_image_files.kept_files(str(root)) == tuple(sorted((NAME, f"own-{OTHER}")))
    assert list(node_image_files.returning_sizes(str(root))) == [NAME]
    assert node_image_files.returning_lengths(str(root)) == {NAME: 4096}
    os.truncate(root / node_image_files.OUT / NAME, 1 << 30)
    assert node_image_files.returning_lengths(str(root)) == {NAME: 1 << 30}
    assert node_image_files.returning_sizes(str(root))[NAME] < 1 << 20
    assert node_image_files.free_mib(str(root)) > 0


def test_a_node_without_places_has_nothing(tmp_path):
    assert (node_image_files.kept_files(str(tmp_path)), node_image_files.returning_sizes(str(tmp_path))) == ((), {})


# -- what comes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "local"), [(BASE, NAME), (OWN, f"own-{NAME}")])
def test_what_came_whole_is_kept_once(root, kind, local):
    came(root)
    found = node_image_files.check_and_keep(str(root), plan(image(kind)))
    assert (found.faults, found.new) == ({}, {local})
    assert names(root) == {"cache": [local], "transfer/in": [], "transfer/out": []}
    mode = (root / "cache" / local).stat().st_mode
    assert (root / "cache" / local).read_bytes() == CONTENT and bool(mode & 0o200) == (kind == OWN)
    assert node_image_files.check_and_keep(str(root), plan(image(kind))) == node_image_files.Arrivals()


@pytest.mark.parametrize(
    ("content", "told", "sha256"),
    [
        (CONTENT[:-1], {}, DIGEST),
        (CONTENT[:-1] + b"X", {}, DIGEST),
        (CONTENT, {"size": 1}, DIGEST),
        (CONTENT, {}, "0" * 64),
    ],
    ids=["cut off", "changed", "another size", "not what the catalog has"],
)
def test_what_is_not_as_it_is_to_be_is_removed_and_sent_anew(root, content, told, sha256):
    came(root, content, **told)
    found = node_image_files.check_and_keep(str(root), plan(image(sha256=sha256)))
    error = found.faults[NAME]
    assert isinstance(error, StorageFailed) and not found.new
    assert error.found.startswith(f"{len(content)} bytes came with SHA-256 {hashlib.sha256(content).hexdigest()}; ")
    assert "Run again: it is sent anew" in error.remedy
    assert names(root) == {"cache": [], "transfer/in": [], "transfer/out": []}


def test_what_a_machine_wrote_to_is_held_to_what_the_front_end_says_alone(root):
    came(root)
    assert node_image_files.check_and_keep(str(root), plan(image(OWN, sha256=""))).new == {f"own-{NAME}"}


@pytest.mark.parametrize("there", [[], [NAME], [f"{NAME}.json"]])
def test_what_did_not_come_is_told(root, there):
    came(root)
    for name in os.listdir(root / node_image_files.IN):
        if name not in there:
            (root / node_image_files.IN / name).unlink()
    error = node_image_files.check_and_keep(str(root), plan(image())).faults[NAME]
    assert isinstance(error, NotFound) and error.asked == "image demo on this node"
    assert error.found == "it did not come here"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"size": "x", "sha256": ""}', '{"size": null, "sha256": ""}'])
def test_what_it_has_to_be_cannot_be_read(root, text):
    came(root)
    (root / node_image_files.IN / f"{NAME}.json").write_text(text)
    error = node_image_files.check_and_keep(str(root), plan(image())).faults[NAME]
    assert isinstance(error, StorageFailed) and f"{NAME}.json can't be read: " in error.found
    # So that it is sent again.
    assert names(root)["transfer/in"] == [NAME]


def test_a_link_in_the_place_of_a_file_is_not_followed(root, tmp_path):
    came(root)
    (tmp_path / "secret").write_bytes(CONTENT)
    (root / node_image_files.IN / NAME).unlink()
    (root / node_image_files.IN / NAME).symlink_to(tmp_path / "secret")
    assert "a symbolic link is there" in str(node_image_files.check_and_keep(str(root), plan(image())).faults[NAME])
    assert names(root)["cache"] == []


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_named_pipe_or_a_directory_is_told_and_not_waited_for(root, make):
    came(root)
    (root / node_image_files.IN / NAME).unlink()
    make(root / node_image_files.IN / NAME)
    error = node_image_files.check_and_keep(str(root), plan(image())).faults[NAME]
    assert isinstance(error, InvalidValue) and "is no file" in error.found


def test_a_disk_waits_for_what_its_last_machine_wrote(root):
    came(root)
    (root / node_image_files.OUT / NAME).write_bytes(b"written")
    assert isinstance(node_image_files.check_and_keep(str(root), plan(image(OWN))).faults[f"own-{NAME}"], Conflict)
    assert node_image_files.check_and_keep(str(root), plan(image(BASE))).new == {NAME}


def test_one_that_did_not_come_does_not_keep_the_others(root):
    came(root)
    found = node_image_files.check_and_keep(str(root), plan(image(name=OTHER), image()))
    assert (list(found.faults), found.new) == ([OTHER], {NAME})


def test_what_was_taken_back_is_removed(root):
    for path in (root / node_image_files.OUT / NAME, root / "cache" / f"own-{OTHER}", root / "notes"):
        path.write_bytes(b"x")
    node_image_files.check_and_keep(str(root), plan(taken=(NAME, f"own-{OTHER}", "../../notes")))
    assert names(root) == {"cache": [], "transfer/in": [], "transfer/out": []} and (root / "notes").exists()


def test_a_plan_without_files_needs_no_places(tmp_path):
    assert node_image_files.check_and_keep(str(tmp_path), plan(image(SAVED))) == node_image_files.Arrivals()
    with pytest.raises(NotFound, match=r"Run role nebula\.provision\.node for this host: it makes it"):
        node_image_files.check_and_keep(str(tmp_path), plan(image()))


# -- what goes back --------------------------------------------------------------------------------------------------


def test_a_machine_gives_up_what_it_does_not_go_on_with(root):
    for name in (f"own-{NAME}", f"own-{OTHER}", NAME):
        (root / "cache" / name).write_bytes(b"written")
    directory = link(root, 7, f"own-{NAME}")
    link(root, 7, f"own-{OTHER}", 1)
    link(root, 7, NAME, 2)
    assert node_image_files.return_files(str(root), str(directory), {f"own-{NAME}"}, [0, 2]) is False
    assert node_image_files.return_files(str(root), str(directory), {f"own-{NAME}"}) is True
    assert names(root) == {"cache": sorted([NAME, f"own-{NAME}"]), "transfer/in": [], "transfer/out": [OTHER]}
    assert node_image_files.return_files(str(root), str(directory), set(), [0]) is True
    assert names(root)["transfer/out"] == sorted([NAME, OTHER])
    # Done again by a run after one that was killed.
    assert node_image_files.return_files(str(root), str(directory), set()) is True
    assert stat.S_IMODE((root / node_image_files.OUT / NAME).stat().st_mode) == 0o600


def test_a_link_to_elsewhere_is_no_file_of_the_cache(root, tmp_path):
    (tmp_path / f"own-{NAME}").write_bytes(b"x")
    directory = link(root, 7, f"../../own-{NAME}")
    (directory / "disk.1").write_bytes(b"its own")
    assert node_image_files.return_files(str(root), str(directory), set()) is False
    assert node_image_files.return_files(str(root), str(root / "gone"), set()) is False


def test_what_was_saved_may_be_fetched(root):
    path = root / node_image_files.CACHE / f".saving-{NAME}"
    path.write_bytes(b"x")
    path.chmod(0o440)
    node_image_files.hand_over_saved(str(root), image(SAVED))
    out = root / node_image_files.OUT / NAME
    assert stat.S_IMODE(out.stat().st_mode) == 0o600 and not path.exists()
    # Again, by a run after one that was killed.
    node_image_files.hand_over_saved(str(root), image(SAVED))
    assert out.read_bytes() == b"x"


def test_what_is_saved_is_written_where_the_front_ends_user_puts_no_link(root, tmp_path):
    host = tmp_path / "host"
    host.write_bytes(b"host's")
    # It owns the directory, and may have a link there for each name that is written.
    for name in (NAME, f"{NAME}.new", f"{NAME}.part"):
        (root / node_image_files.OUT / name).symlink_to(host)
    target = node_image_files.path_of(str(root), image(SAVED))
    assert os.path.dirname(target) == str(root / node_image_files.CACHE)
    with disk_saving.new_image_file(target, "saving") as new:
        Path(new).write_bytes(b"saved")
    node_image_files.hand_over_saved(str(root), image(SAVED))
    assert host.read_bytes() == b"host's" and stat.S_IMODE(host.stat().st_mode) != 0o600
    out = root / node_image_files.OUT / NAME
    assert not out.is_symlink() and out.read_bytes() == b"saved"


# -- what is of no use -----------------------------------------------------------------------------------------------


@pytest.fixture
def current(root: Path) -> Path:
    """A node that follows the catalog's plan 5, with a file that came for each of two images."""
    node_file.update(str(root), lambda _before: node_file.NodeFile(catalog="catalog", plan=5))
    for name in (NAME, OTHER, ".coming-x", "notes", f"own-{NAME}"):
        (root / "cache" / name).write_bytes(b"x")
    return root


def prune(root: Path, *images: PlannedImage, used: tuple[str, ...] = (), **values) -> None:
    node_image_files.prune(str(root), plan(*images, **values), lambda: set(used))


@pytest.mark.parametrize(
    ("values", "stays"),
    [
        ({}, []),
        ({"used": (NAME,)}, [NAME]),
        ({"current": (OTHER,)}, [OTHER]),
        ({"used": (NAME,), "current": (OTHER, "x")}, [NAME, OTHER]),
    ],
)
def test_a_base_that_nothing_needs_is_removed(current, values, stays):
    """What machines write to is never removed so: it goes back first."""
    prune(current, **values)
    assert names(current)["cache"] == sorted([*stays, "notes", f"own-{NAME}"])


def test_a_base_that_the_plan_names_stays(current):
    prune(current, image(BASE, OTHER))
    assert OTHER in names(current)["cache"] and NAME not in names(current)["cache"]


@pytest.mark.parametrize(
    "known",
    [
        node_file.NodeFile(catalog="another", plan=5),
        node_file.NodeFile(catalog="catalog", plan=6),
        node_file.NodeFile(catalog="catalog", plan=5, given_back=True),
    ],
)
def test_an_older_plan_removes_nothing(current, known):
    before = names(current)
    node_file.update(str(current), lambda _before: known)
    prune(current)
    assert names(current) == before


@pytest.mark.parametrize("used", [True, False])
def test_what_no_machine_has_any_more_goes_back(current, used):
    if used:
        link(current, 7, f"own-{NAME}")
    prune(current, image(ENDED))
    found = names(current)
    assert (f"own-{NAME}" in found["cache"], found[node_image_files.OUT]) == (used, [] if used else [NAME])


def test_what_is_left_of_bringing_goes_when_it_is_here_or_wanted_no_more(current):
    third = OTHER.replace("004-0", "005-1")
    (current / "cache" / OTHER).unlink()
    for name in (NAME, f"{NAME}.json", f".{NAME}.abc", f".{OTHER}.abc", f"{OTHER}.json", third):
        (current / node_image_files.IN / name).write_bytes(b"x")
    prune(current, current=(NAME, OTHER))
    assert names(current)[node_image_files.IN] == sorted([f".{OTHER}.abc", f"{OTHER}.json"])


def test_what_was_to_be_saved_goes_when_no_plan_wants_it_any_more(current):
    for name in (f".saving-{NAME}", f".saving-{NAME}.new", f".saving-{OTHER}"):
        (current / "cache" / name).write_bytes(b"x")
    prune(current, image(SAVED, OTHER))
    assert [name for name in names(current)["cache"] if "saving" in name] == [f".saving-{OTHER}"]


def test_a_node_that_sees_the_datastores_has_nothing_to_prune(tmp_path):
    def never() -> set[str]:
        raise AssertionError("nobody is to be asked")

    node_image_files.prune(str(tmp_path), plan(), never)
    assert os.listdir(tmp_path) == []


def test_a_node_that_is_given_back_keeps_what_has_not_come_back(current):
    for place, name in (
        (node_image_files.IN, NAME),
        (node_image_files.IN, "x"),
        (node_image_files.OUT, NAME),
        (node_image_files.OUT, f".{NAME}.x"),
    ):
        (current / place / name).write_bytes(b"x")
    node_image_files.remove_all(str(current))
    assert names(current) == {"cache": ["notes"], "transfer/in": [], "transfer/out": [NAME]}
    node_image_files.remove_all(str(current / "nowhere"))
