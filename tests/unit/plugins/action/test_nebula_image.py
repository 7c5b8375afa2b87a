# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of the control node are found, sent once and told to the module, and what is lost is told with the rest."""

from __future__ import annotations

import base64
import json
import os

import pytest
import yaml
from action_stand_in import made
from ansible.errors import AnsibleActionFail

from ansible_collections.nebula.provision.plugins.action import nebula_image
from ansible_collections.nebula.provision.plugins.action.nebula_image import ITEM_KEYS, ActionModule, _items
from ansible_collections.nebula.provision.plugins.modules import nebula_image as module
from ansible_collections.nebula.provision.plugins.plugin_utils.upload import LocalFile


@pytest.fixture
def files(tmp_path):
    (tmp_path / "web.qcow2").write_bytes(b"disk")
    (tmp_path / "app.deb").write_bytes(b"package")
    (tmp_path / "motd").write_bytes(b"\xffhello")
    return tmp_path


def ran(arguments, files, answer=None, **options):
    """The plugin after its run, its result, and the images and hidden option of each call of the module."""
    action = made(ActionModule, arguments, answer=answer or (lambda _arguments: {"missing": []}), **options)
    result = action.run(task_vars={"inventory_hostname": "front", "inventory_dir": str(files)})
    calls = [each["module_args"] for each in action.ran]
    images = [json.loads(each["images"]) if "images" in each else None for each in calls]
    return result, images, [json.loads(each["_upload"]) for each in calls]


# --- which files are meant -------------------------------------------------------------------------------------------


def test_a_file_is_asked_for_by_its_identity(files):
    _result, images, uploads = ran({"images": [{"name": "web", "path": "web.qcow2"}]}, files)
    identity = LocalFile.of(str(files / "web.qcow2")).identity
    assert images[0] == [{"name": "web", "path": f"{files}/web.qcow2"}]
    assert uploads == [{"ask": {"web": identity}}, {"use": {}}]


@pytest.mark.parametrize("transport", ["local", "ansible.builtin.local"])
def test_with_a_local_connection_the_path_is_the_hosts_own(files, transport):
    _result, images, uploads = ran({"images": [{"name": "web", "path": "web.qcow2"}]}, files, transport=transport)
    assert images[0] == [{"name": "web", "path": f"{files}/web.qcow2", "remote_src": True}] and uploads[0] == {
        "ask": {}
    }


@pytest.mark.parametrize(
    "item",
    [
        {"name": "web", "path": "https://example.org/web.qcow2"},
        {"name": "web", "path": "gone.qcow2", "remote_src": "yes"},
        {"name": "web", "path": "gone.qcow2", "remote_src": True},
        # The module refuses these.
        {"name": "web", "path": "web.qcow2", "remote_src": "yess"},
        {"name": "web", "path": "web.qcow2", "remote_src": 2},
        {"name": "web", "from": "debian", "packages": ["a.deb"], "remote_src": "yess"},
        {"name": "web", "from": "debian", "files": [{"src": "web.qcow2", "path": "/x", "remote_src": "yess"}]},
        {"name": "web", "path": "gone.qcow2", "state": "absent"},
        {"name": "web", "path": ""},
        {"name": "web", "path": 5},
        {"name": "web", "size": 100},
        "web",
    ],
)
def test_what_is_not_on_the_control_node_stays_as_it_is(files, item):
    _result, images, uploads = ran({"images": [item]}, files)
    assert images[0] == [item] and uploads[0] == {"ask": {}}


def nowhere(files):
    return (
        f"neither beside the inventory ({files}), nor beside the playbook (which is of this collection), nor in the "
        f"working directory ({os.getcwd()})"
    )


def test_a_file_that_is_lost_is_told_with_the_others(files):
    (files / "directory").mkdir()
    items = [
        {"name": "web", "path": "web.qcow2"},
        {"name": "gone", "path": "gone.qcow2"},
        {"name": "no file", "path": "directory"},
    ]
    _result, _images, uploads = ran({"images": items}, files)
    assert uploads[0]["lost"] == {
        "gone": f"it is not on the control node: {nowhere(files)}",
        "no file": "it is not a regular file on the control node",
    }
    assert list(uploads[0]["ask"]) == ["web"] and uploads[1]["lost"] == uploads[0]["lost"]


def test_of_an_image_that_is_there_twice_no_file_is_sent(files):
    """What is sent goes by the image's name: it could be stored for the other item."""
    items = [{"name": "web", "path": "web.qcow2"}, {"name": "web", "path": "motd"}, {"name": "a", "path": "motd"}]
    for listed in (items, [{"name": "web", "path": "gone"}, *items[1:]], [*items[:2], items[0], items[2]]):
        _result, _images, uploads = ran({"images": listed}, files)
        assert list(uploads[0]["ask"]) == ["a"] and list(uploads[0]["lost"]) == ["web"]
    assert uploads[0]["lost"]["web"] == "the list has this image twice, and a file for each"
    # Only one of these has a file.
    _result, _images, uploads = ran({"images": [items[0], {"name": "web", "size": 4}]}, files)
    assert list(uploads[0]["ask"]) == ["web"] and "lost" not in uploads[0]


@pytest.mark.parametrize("name", [None, 5, ""])
def test_an_item_without_a_name_sends_nothing_for_an_image_called_so(files, name):
    items = [{"name": str(name), "path": "web.qcow2"}, {"name": name, "path": "motd"}, {"path": "gone"}]
    _result, _images, uploads = ran({"images": items[1:]}, files)
    assert uploads[0] == {"ask": {}}
    _result, _images, uploads = ran({"images": items}, files)
    asked = {str(name): LocalFile.of(str(files / "web.qcow2")).identity} if name != "" else {}
    assert uploads[0] == {"ask": asked}


# --- what is added to an image ---------------------------------------------------------------------------------------


def added(files, item, **options):
    _result, images, uploads = ran({"images": [{"name": "web", "from": "debian", **item}]}, files, **options)
    return images[0][0], uploads[0].get("lost", {})


def test_packages_and_files_travel_with_the_item(files):
    item, lost = added(files, {
        "packages": ["nginx", "app.deb", "https://example.org/x.deb"],
        "files": [{"src": "motd", "path": "/etc/motd", "mode": "0644"}, {"content": "x", "path": "/a"},
                  {"src": "/srv/x", "remote_src": True, "path": "/b"}],
    })  # fmt: skip
    assert item["packages"] == [
        "nginx",
        {"name": "app.deb", "content_base64": base64.b64encode(b"package").decode()},
        "https://example.org/x.deb",
    ]
    assert item["files"] == [
        {"path": "/etc/motd", "mode": "0644", "content_base64": base64.b64encode(b"\xffhello").decode()},
        {"content": "x", "path": "/a"},
        {"src": "/srv/x", "remote_src": True, "path": "/b"},
    ]
    assert lost == {}


def test_with_a_local_connection_their_paths_do(files):
    item, _lost = added(files, {"packages": ["app.deb"], "files": [{"src": "motd", "path": "/m"}]}, transport="local")
    assert item["packages"] == [f"{files}/app.deb"] and item["files"] == [{"src": f"{files}/motd", "path": "/m"}]


@pytest.mark.parametrize(
    ("item", "lost"),
    [
        ({"packages": ["gone.deb"]}, "gone.deb is not on the control node"),
        ({"files": [{"src": "gone", "path": "/x"}]}, "gone is not on the control node"),
        ({"packages": ["directory.rpm"]}, "directory.rpm can't be read: Is a directory"),
    ],
)
def test_what_can_not_be_added_is_told_and_not_sent(files, item, lost):
    (files / "directory.rpm").mkdir()
    found, told = added(files, item)
    assert (
        list(told) == ["web"] and told["web"].startswith(lost) and (found["packages"], found["files"]) == (None, None)
    )


def test_what_is_too_large_to_travel_so_is_told(files, monkeypatch):
    """The limit is lowered for it."""
    monkeypatch.setattr(nebula_image, "LARGEST", 6)
    _item, lost = added(files, {"packages": ["app.deb"]})
    assert lost["web"] == "app.deb has more than 0 MiB: put it on the front-end"
    assert added(files, {"files": [{"src": "motd", "path": "/m"}]})[1] == {}


# --- what the module gets --------------------------------------------------------------------------------------------


def test_an_image_without_secrets_goes_as_options(files):
    action = made(ActionModule, {"name": "web", "size": 100, "root": "/srv"}, answer=lambda _arguments: {"missing": []})
    action.run(task_vars={})
    assert {key: value for key, value in action.ran[0]["module_args"].items() if key != "_upload"} == {
        "name": "web", "size": 100, "root": "/srv",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("option", "value"),
    [("path", "https://user:s3cret@example.org/a"), ("luks_passphrase", "s3cret"), ("commands", ["x"])],
)
def test_one_that_may_hold_secrets_goes_as_text(files, option, value):
    arguments = {"name": "web", option: value, "root": "/srv"}
    action = made(ActionModule, arguments, answer=lambda _arguments: {"missing": [], "images": [{"id": 0}]})
    result = action.run(task_vars={})
    sent = action.ran[0]["module_args"]
    assert json.loads(sent["images"]) == [{"name": "web", option: value}] and set(sent) == {"images", "root", "_upload"}
    # Its result is that of one image all the same.
    assert result["image"] == {"id": 0}


def test_a_list_has_no_single_result(files):
    result, _images, _uploads = ran({"images": [{"name": "web"}]}, files, lambda _arguments: {"images": [{"id": 0}]})
    assert "image" not in result


def test_every_option_of_an_image_is_one_of_the_module():
    options = yaml.safe_load(module.DOCUMENTATION)["options"]
    assert ITEM_KEYS - set(options) <= {"attributes", "state"} and set(nebula_image.PACKED) <= ITEM_KEYS


def test_check_mode_asks_the_module_once(files):
    action = made(ActionModule, {"images": [{"name": "gone", "path": "gone"}]}, check_mode=True)
    assert action.run(task_vars={"inventory_dir": str(files)}) == {"changed": True}
    (found,) = action.ran
    lost = f"it is not on the control node: {nowhere(files)}"
    assert json.loads(found["module_args"]["_upload"]) == {"lost": {"gone": lost}}


@pytest.mark.parametrize(
    "answer", [{"failed": True, "msg": "no"}, {"failed": True, "missing": ["web"]}, {"msg": "old"}]
)
def test_a_module_that_fails_at_once_is_not_asked_again(files, answer):
    result, _images, uploads = ran({"images": [{"name": "web", "path": "web.qcow2"}]}, files, lambda _arguments: answer)
    assert result == answer and len(uploads) == 1


# --- sending ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def sent(monkeypatch):
    """What sends a file in chunks has tests of its own, and is put in place of the real one."""

    class Sender:
        problem, calls = None, []

        def __init__(self, _action, name, root, _task_vars):
            self.to = (name, root)

        def send(self, name, file, received):
            self.calls.append((*self.to, name, file.path, received))
            return self.problem

    Sender.calls = []
    monkeypatch.setattr(nebula_image, "Sender", Sender)
    return Sender


def missing(arguments):
    asks = "ask" in json.loads(arguments["_upload"])
    return {"missing": ["web", "unknown"], "received": {"web": 2}} if asks else {"changed": True, "final": True}


def test_what_is_missing_is_sent_from_where_it_broke_off(files, sent):
    items = [{"name": "web", "path": "web.qcow2"}, {"name": "there", "path": "motd"}]
    result, _images, uploads = ran({"images": items, "root": "/srv"}, files, missing)
    assert sent.calls == [("nebula.provision.nebula_image", "/srv", "web", f"{files}/web.qcow2", 2)]
    assert uploads[1] == {"use": {"web": LocalFile.of(str(files / "web.qcow2")).identity}} and result["final"]


def test_a_file_that_could_not_be_sent_ends_the_task(files, sent):
    sent.problem = {"failed": True, "msg": "no space"}
    result, _images, uploads = ran({"images": [{"name": "web", "path": "web.qcow2"}]}, files, missing)
    assert result == sent.problem and len(uploads) == 1


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "items"),
    [
        ([{"name": "a"}], [{"name": "a"}]),
        ('[{"name": "a"}, 5]', [{"name": "a"}, 5]),
        (({"name": "a"},), [{"name": "a"}]),
    ],
)
def test_a_list_or_its_json(images, items):
    assert _items(images) == items


@pytest.mark.parametrize("images", ["no json", '{"name": "a"}', {"name": "a"}, 5, None])
def test_what_is_no_list_is_refused(images):
    with pytest.raises(AnsibleActionFail, match=r"option images: it is not a list of dicts. Give one, or its JSON"):
        _items(images)


def test_the_tasks_own_items_stay_as_they_are(files):
    item = {"name": "web", "path": "web.qcow2"}
    ran({"images": [item]}, files, transport="local")
    assert item == {"name": "web", "path": "web.qcow2"}
