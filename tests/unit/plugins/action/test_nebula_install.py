# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ISOs of the control node are looked at before the module runs, and what is wrong with one is told with the others.

Two installations of one name are in tests/unit/plugins/module_utils/install/test_steps_in_turn.py."""

from __future__ import annotations

import json

import pytest
from action_stand_in import made

from ansible_collections.nebula.provision.plugins.action import nebula_install
from ansible_collections.nebula.provision.plugins.action.nebula_install import ActionModule, _local_path
from ansible_collections.nebula.provision.plugins.module_utils.errors import ImageRefused
from ansible_collections.nebula.provision.plugins.module_utils.install.installer_iso import Facts


@pytest.fixture
def files(tmp_path):
    (tmp_path / "debian.iso").write_bytes(bytes(5000))
    return tmp_path


def local(installs, files, **options):
    action = made(ActionModule, {"installs": installs, "root": "/srv"}, **options)
    action.run(task_vars={"inventory_dir": str(files)})
    arguments = action.ran[0]["module_args"]
    assert arguments["root"] == "/srv"
    return json.loads(arguments["_local"]) if "_local" in arguments else None


@pytest.mark.parametrize(
    ("install", "path"),
    [
        ({"iso": "a.iso"}, "a.iso"),
        ({"iso": {"path": "a.iso"}}, "a.iso"),
        ({"iso": {"path": "a.iso", "remote_src": False}}, "a.iso"),
        ({"iso": {"path": "a.iso", "remote_src": "no"}}, "a.iso"),
        ({"iso": {"path": "a.iso", "remote_src": True}}, ""),
        ({"iso": {"path": "a.iso", "remote_src": "Yes"}}, ""),
        ({"iso": {"path": "a.iso", "remote_src": "yess"}}, ""),
        ({"iso": "https://example.org/a.iso"}, ""),
        ({"iso": {"path": 5}}, ""),
        ({"iso": {}}, ""),
        ({"iso": None}, ""),
        ({"iso": "a.iso", "state": "absent"}, ""),
        ({}, ""),
        ("a.iso", ""),
        (None, ""),
    ],
)
def test_which_path_is_on_the_control_node(install, path):
    assert _local_path(install) == path


def test_what_is_in_an_iso_is_told_with_its_size(files, monkeypatch):
    """What a real ISO tells is in the tests of module_utils/install/installer_iso.py."""
    monkeypatch.setattr(nebula_install.installer_iso, "read_facts", lambda _path, _what: Facts("debian"))
    found = local([{"name": "web", "iso": "debian.iso"}], files)["web"]
    assert (found["path"], found["remote"], found["size"]) == (f"{files}/debian.iso", False, 5000)
    assert "debian" in found["facts"].values()


def test_what_is_wrong_with_an_iso_is_told_and_the_others_go_on(files, monkeypatch):
    """The ISO is said to be damaged."""

    def look(_path, what):
        raise ImageRefused(what, "it is truncated", "Get a whole copy")

    monkeypatch.setattr(nebula_install.installer_iso, "read_facts", look)
    found = local([{"name": "web", "iso": "debian.iso"}, {"name": "db", "iso": "an image"}], files)
    assert found["web"] == {"path": f"{files}/debian.iso", "problem": "it is truncated", "remedy": "Get a whole copy"}
    # What is no file may be an image's name.
    assert found["db"]["lost"].startswith("it is not on the control node: neither beside the inventory")


def test_a_file_that_is_no_iso_is_a_problem(files):
    found = local([{"name": "web", "iso": "debian.iso"}], files)["web"]
    assert found["problem"] and "facts" not in found


@pytest.mark.parametrize("transport", ["local", "ansible.builtin.local"])
def test_with_a_local_connection_the_path_is_enough(files, transport):
    found = local([{"name": "web", "iso": "debian.iso"}], files, transport=transport)
    assert found == {"web": {"path": f"{files}/debian.iso", "remote": True}}


@pytest.mark.parametrize("installs", [None, [], "[]", '{"name": "web"}', [5, None, "debian.iso"]])
def test_what_names_no_iso_of_an_installation(files, installs):
    assert local(installs, files) == {}


def test_what_is_no_json_is_the_modules_to_refuse(files):
    assert local("[{", files) is None


def test_answers_go_as_text(files):
    action = made(ActionModule, {"installs": [], "answers": [{"password": "s3cret"}]})
    action.run(task_vars={})
    assert action.ran[0]["module_args"]["answers"] == '[{"password": "s3cret"}]'
