# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every list of objects has the same words for the same mistake, each with the place and what to write instead, and the
items beside it are done."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.model.specification import Key
from ansible_collections.nebula.provision.plugins.module_utils.model.specifications import (
    datastore,
    host,
    image,
    install,
    network,
    router,
    security_group,
    template,
    vm,
)
from ansible_collections.nebula.provision.plugins.modules import (
    nebula_datastore,
    nebula_host,
    nebula_image,
    nebula_install,
    nebula_network,
    nebula_router,
    nebula_security_group,
    nebula_template,
    nebula_vm,
)

SPECIFICATIONS = Path(image.__file__).parent
# The module, its list, what an item is called in errors, its keys, and one of them that is true or false, if there is.
LISTS: list[tuple[ModuleType, str, str, dict[str, Key], str]] = [
    (nebula_datastore, "datastores", "datastore", datastore.KEYS, "capacity_check"),
    (nebula_host, "hosts", "host", host.KEYS, "gone"),
    (nebula_image, "images", "image", image.KEYS, "remote_src"),
    (nebula_install, "installs", "install", install.KEYS, "keep"),
    (nebula_network, "networks", "network", network.KEYS, "nat"),
    (nebula_router, "routers", "router", router.KEYS, ""),
    (nebula_security_group, "security_groups", "security group", security_group.KEYS, ""),
    (nebula_template, "templates", "template", template.KEYS, "strict"),
    (nebula_vm, "vms", "VM", vm.KEYS, "recreate"),
]
# What is done with an image or an ISO, which has no name of its own and no state.
WORK = {"guest_image", "image_check", "image_prepare"}


@pytest.fixture
def errors(tmp_path: Path):
    """What a module says of the items of its list."""

    def said(module: ModuleType, plural: str, *items: Any) -> list[str]:
        root = str(tmp_path)
        EmbeddedEngine(root, create=True).close()
        checked = ArgumentSpecValidator(**module.call.ARGUMENTS).validate({"root": root, plural: list(items)})
        assert checked.error_messages == []
        return [str(item.error) for item in module.call.run(checked.validated_parameters, False).errors]

    return said


def test_every_specification_of_an_object_is_here() -> None:
    assert {path.stem for path in SPECIFICATIONS.glob("*.yml")} - WORK == {
        module.__name__.rpartition("nebula_")[2] for module, *_rest in LISTS
    }


@pytest.mark.parametrize(("module", "plural", "kind", "keys", "flag"), LISTS)
def test_one_mistake_has_one_wording(errors, module, plural, kind, keys, flag) -> None:
    known = ", ".join(sorted(keys))
    absent = {"name": "gone", "state": "absent"}
    assert errors(module, plural, {"name": "a", "colour": 1}, absent) == [
        f"{kind} a: key 'colour': no such key. Known are {known}"
    ]
    assert errors(module, plural, "a", absent) == [f"{plural}[0]: it is a str. Give a dict with {', '.join(keys)}"]
    given = {"name": "a", flag: "perhaps", **({"template": "MEMORY = 1"} if kind == "template" else {})}
    assert not flag or errors(module, plural, given, absent) == [
        f"{kind} a: {flag} 'perhaps': it is neither true nor false. Give true or false"
    ]
    choices = ", ".join(keys["state"].choices)
    assert errors(module, plural, {"name": "a", "state": "abesnt"}, absent) == [
        f"{kind} a: state 'abesnt': there is no such state. Did you mean 'absent'? Known are {choices}"
    ]
    # Neither is done: one of them may be to remove what the other is to have.
    twice = errors(module, plural, absent, absent, {"name": "other", "state": "absent"})
    assert twice == [f"{kind} gone: the list has it twice. Keep one of the two"] * 2


@pytest.mark.parametrize(("module", "plural", "kind", "keys", "flag"), LISTS)
def test_a_state_that_is_left_blank_is_the_usual_one(errors, module, plural, kind, keys, flag) -> None:
    assert not [text for text in errors(module, plural, {"name": "a", "state": ""}) if "state" in text]


@pytest.mark.parametrize(("module", "plural", "kind", "keys", "flag"), LISTS)
def test_what_is_wrong_with_an_object_does_not_keep_it(errors, module, plural, kind, keys, flag) -> None:
    """The entry that went wrong is given state: absent, with all that it said."""
    read = {"name", "renamed_from", "template", "state", "gone", "count", "hard", "shutdown_timeout", "save_as"}
    wrong = {
        name: ["what", 1] for name, key in keys.items() if name not in read and key.type in ("int", "float", "dict")
    }
    assert wrong or kind in ("template", "security group")
    assert errors(module, plural, {**wrong, "name": "a", "state": "absent"}) == []


@pytest.mark.parametrize(("module", "plural", "kind", "keys", "flag"), LISTS)
@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_no_file_takes_is_an_error_of_its_item(errors, module, plural, kind, keys, flag, text) -> None:
    if text == "\ud800" and plural not in ("hosts", "datastores", "networks", "routers", "security_groups"):
        pytest.skip("the list is JSON, which can't hold that, and is refused as a whole")
    plain = next(
        name for name, key in keys.items() if key.type in ("str", "path") and not key.choices and name != "name"
    )
    (told,) = errors(module, plural, {"name": "a", plain: text}, {"name": "gone", "state": "absent"})
    assert told.startswith(f"{kind} a")
