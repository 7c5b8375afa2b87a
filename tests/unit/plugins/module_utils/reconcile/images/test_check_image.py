# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images to be checked are found by name or path, judged by what their guests said, and written on one page."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    InUse,
    InvalidValue,
    NebulaError,
    NotFound,
    Unsupported,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.checks.image_facts import Facts
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.item_reader import read_item
from ansible_collections.nebula.provision.plugins.module_utils.model.specifications.image_check import KEYS
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import check_image as image_checks
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images.check_image import (
    BOTH,
    LIVE,
    OFFLINE,
    check,
    console_texts,
    refuse_twins,
    target_of,
    write_report,
)

SECRET = "7b3a5d1c-0f3e-4a52-9a43-1f6a4a0c1d11"
CONSOLE = (
    "[    0.000000] Linux version 6.1.0\n"
    "nebula-check: begin\n"
    "nebula-check: hostname=web-0.example.org\n"
    "nebula-check: key_user=root\nnebula-check: login=ok\n"
    "nebula-check: storage=no such disk\n"
)


def stored(engine: EmbeddedEngine, *states: ImageState, **fields: Any) -> Image:
    with engine.session():
        image = engine.images.allocate(Image(None, "demo", **{"format": "qcow2", **fields}))
        for state in (ImageState.READY, *states):
            image = engine.images.update("demo", state=state)
    return image


def item(**keys: Any) -> dict[str, Any]:
    return read_item(keys, KEYS, "image demo")


def points(view: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {point["point"]: (point["result"], point["why"]) for point in view["points"]}


# -- which file -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [{}, {"name": "demo", "path": "/srv/demo"}, {"name": "", "path": ""}])
def test_an_image_is_named_once(keys: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue, match=r"an image: it needs either a name or a path. Give name for one of the"):
        target_of(None, item(**keys), OFFLINE)


def test_a_path_is_taken_as_it_is_given() -> None:
    target = target_of(None, item(path="/srv/demo.raw", format="raw"), OFFLINE)
    assert (target.label, target.what, target.path, target.format, target.name) == (
        "/srv/demo.raw", "image /srv/demo.raw", "/srv/demo.raw", "raw", "",
    )  # fmt: skip


@pytest.mark.parametrize("states", [(), (ImageState.DISABLED,)])
def test_of_an_image_of_the_catalog_the_catalog_knows_file_and_format(
    engine: EmbeddedEngine, states: tuple[ImageState, ...]
) -> None:
    image = stored(engine, *states)
    target = target_of(engine, item(name="demo", format="raw"), OFFLINE)
    assert (target.label, target.path, target.format, target.name) == ("demo", image.source, "qcow2", "demo")


@pytest.mark.parametrize(
    ("states", "fields", "error", "words"),
    [
        (
            [ImageState.ERROR],
            {"error": "the disk was full"},
            WrongState,
            ["it is in state ERROR (the disk was full)", "run nebula_image"],
        ),
        ([ImageState.LOCKED], {}, WrongState, ["it is in state LOCKED.", "Store it first"]),
        ([], {"type": ImageType.CDROM}, InvalidValue, ["it is of type CDROM", "Only disks (OS, DATABLOCK)"]),
        ([], {"luks_secret": SECRET}, Unsupported, ["it is encrypted", "Check it with mode: live"]),
    ],
)
def test_what_can_not_be_looked_into_is_refused(
    engine: EmbeddedEngine, states: list[ImageState], fields: dict[str, Any], error: type[NebulaError], words: list[str]
) -> None:
    stored(engine, *states, **fields)
    with pytest.raises(error) as caught:
        target_of(engine, item(name="demo"), BOTH)
    said = str(caught.value)
    assert said.startswith("image demo: ") and [word for word in words if word not in said] == [], said


def test_what_a_machine_writes_to_is_not_read_meanwhile(engine: EmbeddedEngine) -> None:
    stored(engine, persistent=True)
    with engine.session():
        engine.store.db.execute(
            "INSERT INTO vms (id, name, uuid, state, lcm_state, wanted, cpu, memory, request, body, stime) "
            "VALUES (0, 'vm', 'uuid', 3, 1, 'RUNNING', 1, 64, '', '', 0)"
        )
        engine.images.uses.acquire(0, 0, 0, writable=True)
    for mode in (OFFLINE, LIVE):
        with pytest.raises(InUse, match="image demo: it is persistent, and a machine writes to it"):
            target_of(engine, item(name="demo"), mode)


def test_an_encrypted_image_is_asked_by_its_guest(engine: EmbeddedEngine) -> None:
    stored(engine, luks_secret=SECRET)
    assert target_of(engine, item(name="demo"), LIVE).name == "demo"


def test_a_name_needs_a_catalog(engine: EmbeddedEngine) -> None:
    with pytest.raises(NotFound, match=r"image demo: there is no catalog. Give its path"):
        target_of(None, item(name="demo"), OFFLINE)
    with pytest.raises(NotFound, match="'demo'"):
        target_of(engine, item(name="demo"), OFFLINE)


# -- what is found ----------------------------------------------------------------------------------------------------


def test_what_a_guest_said_decides_the_live_points(engine: EmbeddedEngine) -> None:
    stored(engine)
    said = {"demo": {"console": CONSOLE, "host_name": "web-0", "snapshot": "skipped: it is a container"}}
    found, view = check(engine, {"name": "demo"}, LIVE, said, check_mode=False)
    assert found.error is None and not found.is_changed and found.name == "demo"
    told = points(view)
    assert told["console-log"][0] == told["context-ran"][0] == told["host-name"][0] == told["key-login"][0] == "pass"
    assert told["attached-storage"] == ("fail", "no such disk")
    assert told["snapshot"] == ("not applicable", "it is a container")
    # Nobody looked into it.
    assert told["fstab"] == ("not tested", "the image was not looked into")
    assert view["os"] == "" and view["name"] == "demo" and view["path"] is None and "error" not in view
    assert view["counts"]["pass"] == 4 and view["counts"]["fail"] == 1 and view["fit"] is False
    assert sum(view["counts"].values()) == len(view["points"]) and "not_tested" in view["counts"]


def test_it_is_fit_if_something_passes_and_nothing_fails(engine: EmbeddedEngine) -> None:
    stored(engine)
    good = CONSOLE.replace("storage=no such disk", "storage=ok vdb")
    _item, view = check(engine, {"name": "demo"}, LIVE, {"demo": {"console": good, "host_name": "web-0"}}, False)
    assert view["counts"]["fail"] == 0 and view["fit"] is True
    # Where nobody was asked, nothing is known.
    _item, view = check(engine, {"name": "demo"}, LIVE, {}, False)
    assert view["counts"]["fail"] == 0 and view["counts"]["pass"] == 0 and view["fit"] is False


def test_why_no_guest_was_asked_is_told(engine: EmbeddedEngine) -> None:
    stored(engine)
    said = {"demo": {"why_not": "no host has room", "console": CONSOLE}}
    _item, view = check(engine, {"name": "demo"}, LIVE, said, False)
    assert points(view)["context-ran"] == ("not tested", "no host has room")


def test_a_word_that_a_guest_says_reaches_no_terminal(engine: EmbeddedEngine) -> None:
    stored(engine)
    said = {"demo": {"console": "nebula-check: begin\nnebula-check: storage=\x1b[2J" + "x" * 5000}}
    _item, view = check(engine, {"name": "demo"}, LIVE, said, False)
    why = points(view)["attached-storage"][1]
    assert why.startswith("\\x1b[2J") and len(why) < 1100


def test_what_is_said_of_it_has_known_keys(engine: EmbeddedEngine) -> None:
    stored(engine)
    found, view = check(engine, {"name": "demo"}, LIVE, {"demo": {"consol": ""}}, False)
    assert "option said: demo: key 'consol': no such key. Did you mean 'console'? Known are console," in str(
        found.error
    )
    assert view["error"] == str(found.error) and view["points"] == [] and view["fit"] is False
    # What is said of it is no matter where nobody is asked for it.
    found, _view = check(engine, {"name": "gone"}, OFFLINE, {"gone": {"consol": ""}}, False)
    assert isinstance(found.error, NotFound)


def test_what_an_image_of_the_catalog_names_is_never_opened(
    engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The appliance that looks into images is not there: what it would be told is."""
    asked = []

    def look(*arguments: Any) -> Facts:
        asked.append(arguments)
        return Facts(os="linux", name="Debian 12")

    monkeypatch.setattr(image_checks.inspection, "inspect_file", look)
    image = stored(engine)
    for keys in ({"name": "demo"}, {"path": "/srv/x.raw", "format": "raw", "timezone": "Europe/Berlin"}):
        found, view = check(engine, {**keys, "trusted": True}, OFFLINE, {}, False)
        assert found.error is None and view["os"] == "Debian 12"
        assert points(view)["context-ran"] == ("not tested", "no machine was booted from it")
    assert asked == [
        (image.source, "qcow2", False, "image demo", "UTC"),
        ("/srv/x.raw", "raw", True, "image /srv/x.raw", "Europe/Berlin"),
    ]


@pytest.mark.parametrize("keys", [{"path": "/nowhere/x.raw"}, {"name": "later"}])
def test_in_check_mode_an_earlier_task_may_be_about_to_bring_it(engine: EmbeddedEngine, keys: dict[str, str]) -> None:
    label = keys.get("name") or keys["path"]
    found, view = check(engine, keys, OFFLINE, {}, check_mode=True)
    assert found.error is None and not found.is_changed and view["points"] == [] and "error" not in view
    found, view = check(engine, keys, OFFLINE, {}, check_mode=False)
    assert isinstance(found.error, NotFound) and label in str(found.error) and view["error"] == str(found.error)


def test_check_mode_hides_no_other_error(engine: EmbeddedEngine) -> None:
    stored(engine, ImageState.ERROR)
    for keys in ({"name": "demo"}, {"path": "relative.raw"}, {"path": "/dev/null"}, {"name": "x", "format": "vmdk"}):
        found, _view = check(engine, keys, OFFLINE, {}, check_mode=True)
        assert found.error is not None and not isinstance(found.error, NotFound), keys


def test_two_items_of_one_image_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    refuse_twins([{"name": "a"}, {"path": "/a"}, {"name": "b"}, {"path": str(tmp_path / "a")}])
    # Each of these is told for itself.
    refuse_twins([{"path": None}, {"name": "", "path": ""}, {}, {"path": os.getcwd()}])
    with pytest.raises(InvalidValue, match=r"option images: name a: two items are this image. Name it once"):
        refuse_twins([{"name": "a"}, {"name": "a", "format": "raw"}])
    with pytest.raises(InvalidValue, match=f"option images: path {tmp_path}/a: two items are this image"):
        refuse_twins([{"path": str(tmp_path / "a")}, {"path": str(tmp_path / "link")}])


# -- consoles and the page --------------------------------------------------------------------------------------------


def test_consoles_are_heard_from_their_ends(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"boot\xff\r\n")
    (tmp_path / "long").write_bytes(b"first" + b"." * (4 << 20) + b"last")
    (tmp_path / "link").symlink_to(tmp_path / "short")
    found = console_texts({name: tmp_path / name for name in ("short", "long", "link", "gone")})
    assert found["short"] == "boot\ufffd\r\n"
    assert len(found["long"]) == 4 << 20 and found["long"].endswith("last") and "first" not in found["long"]
    # Neither is a log that the hypervisor writes.
    assert found["link"] == found["gone"] == ""


def test_what_is_no_file_is_no_console_and_keeps_nothing_of_the_others(tmp_path: Path) -> None:
    (tmp_path / "console").write_bytes(b"boot\r\n")
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    before = len(os.listdir("/proc/self/fd"))
    others = ["directory", "pipe", "a\0b", "console/x"]
    found = console_texts({name: tmp_path / name for name in [*others, "console"]})
    assert found == {**dict.fromkeys(others, ""), "console": "boot\r\n"}
    assert len(os.listdir("/proc/self/fd")) == before
    # It is not waited for one that writes, either.
    with (tmp_path / "pipe").open("r+b", buffering=0):
        assert console_texts({"pipe": tmp_path / "pipe"}) == {"pipe": ""}


def view(**keys: Any) -> dict[str, Any]:
    point = {"point": "fstab", "title": "Clean fstab", "result": "pass", "why": "<b>it is</b>", "remedy": ""}
    return {"name": "demo", "path": None, "os": "Debian", "fit": True, "counts": {}, "points": [point], **keys}


def test_the_page_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    predicted = write_report(str(path), [view()], check_mode=True)
    assert predicted.is_changed and predicted.before is None and not path.exists()
    written = write_report(str(path), [view()], check_mode=False)
    assert written.is_changed and written.after == predicted.after == {"images": ["demo"]}
    text = path.read_text(encoding="utf-8")
    assert "Clean fstab" in text and "<b>it is</b>" not in text
    assert path.stat().st_mode & 0o777 == 0o644
    inode = path.stat().st_ino
    for check_mode in (True, False):
        assert not write_report(str(path), [view()], check_mode).is_changed
        assert path.stat().st_ino == inode
    other = view(name=None, path="/srv/x", points=[])
    changed = write_report(str(path), [other], check_mode=False)
    assert changed.is_changed and changed.before is not None and changed.after == {"images": ["/srv/x"]}
    json.dumps(changed.after)


@pytest.mark.parametrize("path", ["report.html", "/nowhere/at/all/report.html"])
def test_a_page_that_can_not_be_written_is_told(path: str) -> None:
    found = write_report(path, [view()], check_mode=False)
    assert found.error is not None and path in str(found.error) and not found.is_changed
    assert found.name == f"report {path}"
