# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A context ISO is compared with what is at its place, its owner and mode included; what cannot be, or is somebody
else's, is told in full."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.context import iso9660
from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject, InvalidValue, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.isos import KEYS, apply, refuse_twins, view
from ansible_collections.nebula.provision.plugins.module_utils.sync import Item


@pytest.fixture
def dest(tmp_path: Path) -> str:
    return str(tmp_path / "context.iso")


def make(dest: str, check_mode: bool = False, **keys: Any) -> Item:
    """The item; nothing is warned of."""
    warnings: list[str] = []
    done = apply({"dest": dest, **keys}, check_mode, warnings)
    assert warnings == [] and set(keys) <= set(KEYS)
    return done


def made(dest: str, **keys: Any) -> dict[str, Any]:
    done = make(dest, **keys)
    assert done.error is None and done.is_changed and done.after is not None
    return dict(done.after)


# -- what is there ----------------------------------------------------------------------------------------------------


def test_an_iso_is_shown_by_names_and_sizes(dest: str, tmp_path: Path) -> None:
    (tmp_path / "init.sh").write_text("true\n")
    facts = made(dest, context={"password": "hunter2", "N": "é"}, files=[str(tmp_path / "init.sh")], mode="0600")
    content = Path(dest).read_bytes()
    assert facts == {
        "format": "opennebula",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "mode": "0600",
        "variables": {"PASSWORD": "7 bytes", "N": "2 bytes"},
        "files": {"init.sh": "5 bytes"},
    }
    again = make(dest, context={"password": "hunter2", "N": "é"}, files=[str(tmp_path / "init.sh")], mode="0600")
    assert not again.is_changed and again.after == {"size": facts["size"], "sha256": facts["sha256"]}
    assert view(again) == {"dest": dest, "changed": False, "size": facts["size"], "sha256": facts["sha256"]}


def test_what_is_there_is_what_was_made(dest: str) -> None:
    first = made(dest, context={"A": "1"})
    second = make(dest, context={"A": "22"})
    assert second.before == first and second.after != first
    gone = make(dest, state="absent")
    assert gone.is_changed and gone.after is None and gone.before is not None
    assert second.after is not None and gone.before["sha256"] == second.after["sha256"]
    assert not os.path.exists(dest)
    nothing = make(dest, state="absent")
    assert not nothing.is_changed and view(nothing) == {"dest": dest, "changed": False, "size": None, "sha256": None}


@pytest.mark.parametrize(
    ("format", "context", "name", "written"),
    [
        ("opennebula", {"DNS": "192.0.2.1,192.0.2.2"}, "DNS", "192.0.2.1 192.0.2.2"),
        ("nocloud", {"START_SCRIPT": "#!/bin/sh\r\nid\r\n"}, "START_SCRIPT", "#!/bin/sh\nid\n"),
    ],
)
def test_values_are_written_as_readers_take_them_and_what_is_there_stays(
    dest: str, format: str, context: dict[str, str], name: str, written: str
) -> None:
    made(dest, context=context, format=format)
    assert iso9660.read_iso(dest)[0][name] == written
    assert not make(dest, context=context, format=format).is_changed
    # As a former release has written it.
    with iso9660.build_iso(context, format=format) as iso:
        iso.save(dest, iso9660.MODE, None, None)
    before = Path(dest).read_bytes()
    assert not make(dest, context=context, format=format).is_changed
    assert Path(dest).read_bytes() == before
    assert make(dest, context={**context, "A": "1"}, format=format).is_changed
    assert iso9660.read_iso(dest)[0][name] == written


def test_a_host_name_that_no_guest_can_have_is_told(dest: str) -> None:
    warnings: list[str] = []
    assert apply({"dest": dest, "context": {"SET_HOSTNAME": "a" * 64}}, False, warnings).is_changed
    assert len(warnings) == 1 and "has 63 at most" in warnings[0]


def test_a_context_may_be_json(dest: str) -> None:
    made(dest, context=json.dumps({"A": 1}))
    assert iso9660.read_iso(dest)[0] == {"A": "1"}
    assert not make(dest, context={"A": "1"}).is_changed
    refused = make(dest, context='{"A": "s3cret"')
    assert "option context: it is not JSON (character" in str(refused.error) and "s3cret" not in str(refused.error)


@pytest.mark.parametrize("key", ["owner", "group"])
def test_an_owner_is_a_difference(dest: str, key: str) -> None:
    made(dest, context={})
    own = os.geteuid() if key == "owner" else os.stat(dest).st_gid
    for same in (own, str(own), None):
        assert not make(dest, context={}, **{key: same}).is_changed
    foreseen = make(dest, check_mode=True, context={}, **{key: own + 1})
    assert foreseen.error is None and foreseen.is_changed


def test_a_mode_is_a_difference_and_the_content_the_same(dest: str) -> None:
    before = made(dest, context={})
    assert before["mode"] == "0640"
    foreseen = make(dest, check_mode=True, context={}, mode="0600")
    assert foreseen.is_changed and os.stat(dest).st_mode & 0o777 == 0o640
    after = made(dest, context={}, mode="0600")
    assert {key for key in before if before[key] != after[key]} == {"mode"}
    assert os.stat(dest).st_mode & 0o777 == 0o600


def test_a_damaged_iso_of_ours_is_made_anew(dest: str) -> None:
    """That much of it is left that tells whose it is."""
    after = made(dest, context={"A": "1"})
    os.truncate(dest, 18 * 2048)
    done = make(dest, context={"A": "1"})
    assert done.is_changed and done.after == after
    assert done.before is not None and done.before["variables"] == {} and done.before["size"] == 18 * 2048
    assert iso9660.read_iso(dest)[0] == {"A": "1"}


# -- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"dest": ""}, "dest '': it is not an absolute path. Name the ISO from / on"),
        ({"dest": "a.iso"}, "dest 'a.iso': it is not an absolute path. Name the ISO from / on"),
        ({"state": "gone"}, "ISO /a.iso: state 'gone': no such state. Known are present and absent"),
        ({"mode": "0999"}, "ISO /a.iso: mode '0999': it is no octal number up to 0777. Write it in quotes"),
        ({"mode": 0o1000}, "ISO /a.iso: mode 512: it is no octal number up to 0777"),
        ({"mode": -1}, "ISO /a.iso: mode -1: it is no octal number"),
        ({"mode": "-0"}, "ISO /a.iso: mode '-0': it is no octal number"),
        ({"mode": True}, "ISO /a.iso: mode True: it is no octal number"),
        ({"files": [{"src": "/a", "name": "b"}]}, "ISO /a.iso: files: {'src': '/a', 'name': 'b'} is no file. Give a"),
        ({"files": [5]}, "ISO /a.iso: files: 5 is no file. Give a path, or a dict with src and target"),
        ({"context": {"A": {}}}, "ISO /a.iso"),
        ({"format": "vmware"}, "ISO /a.iso: format 'vmware': no such format. Known are"),
    ],
)
def test_what_can_not_be_meant_is_refused(keys: dict[str, Any], words: str) -> None:
    for check_mode in (True, False):
        done = make(**{"dest": "/a.iso", "check_mode": check_mode, **keys})
        assert isinstance(done.error, InvalidValue) and str(done.error).startswith(words), str(done.error)
        assert not done.is_changed and done.name == (keys.get("dest", "/a.iso") or "?")


@pytest.mark.parametrize("owner", ["nobody-of-this-name", 0xFFFFFFFF, "4294967295", "-1", "10" * 20])
def test_nobody_is_no_owner(dest: str, owner: Any) -> None:
    """The largest number stands for leaving it as it is, where files are given away."""
    made(dest, context={})
    done = make(dest, context={}, owner=owner)
    assert done.error is not None and f"user {owner}" in str(done.error) and not done.is_changed


def test_a_file_of_somebody_else_stays(dest: str) -> None:
    Path(dest).write_text("precious")
    for keys, words in (
        ({"context": {}}, "a file that is no context ISO is there. Name another file, or remove that one"),
        ({"state": "absent"}, "what is there was not made by nebula.provision. Remove it by hand"),
    ):
        for check_mode in (True, False):
            done = make(dest, check_mode=check_mode, **keys)
            assert isinstance(done.error, ForeignObject) and str(done.error) == f"ISO {dest}: {words}"
    assert Path(dest).read_text() == "precious"


def test_a_directory_is_not_made(tmp_path: Path) -> None:
    dest = str(tmp_path / "later" / "a.iso")
    done = make(dest, context={})
    assert isinstance(done.error, NotFound)
    assert str(done.error) == f"ISO {dest}: there is no directory {tmp_path}/later. Make it first"
    # An earlier task may be about to make it.
    foreseen = make(dest, check_mode=True, context={})
    assert foreseen.is_changed and foreseen.after is not None and foreseen.after["size"] > 0
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_to_come_is_told_in_check_mode(dest: str) -> None:
    warnings: list[str] = []
    done = apply({"dest": dest, "context": {}, "files": ["/nowhere/init.sh"]}, True, warnings)
    assert done.error is None and view(done) == {"dest": dest, "changed": True, "size": None, "sha256": None}
    (warning,) = warnings
    assert warning.startswith("In check mode, taken as about to come: ") and "/nowhere/init.sh" in warning
    assert isinstance(make(dest, context={}, files=["/nowhere/init.sh"]).error, NotFound)


def test_two_isos_of_one_place_are_refused() -> None:
    refuse_twins([{"dest": "/a/b"}, {"dest": "/a/c"}, {"dest": None}, {"dest": ""}, {"dest": "."}, {}])
    with pytest.raises(InvalidValue) as caught:
        refuse_twins([{"dest": "/a/b"}, {"dest": "/a/./x/..//b"}])
    assert str(caught.value) == "option isos: dest /a/b: two ISOs have it. Give each a file of its own"


def test_twins_are_refused_also_behind_one_that_names_no_file() -> None:
    with pytest.raises(InvalidValue, match="two ISOs have it"):
        refuse_twins([{}, {"dest": "/a/b.iso"}, {"dest": "/a//b.iso"}])
