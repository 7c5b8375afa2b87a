# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is alike in all modules: their form, and options that are documented as they are."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.nebula.provision.plugins.doc_fragments import attributes, engine, progress

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
PACKAGE = "ansible_collections.nebula.provision.plugins"
# Those without it are their action plugins.
MODULES = sorted(path.stem for path in (PLUGINS / "modules").glob("*.py") if "def main" in path.read_text("utf-8"))
# They call other modules.
LOOKS = ["nebula_frontend_look", "nebula_node_look", "nebula_vm_round"]
FORM = '''"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from {package}.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from {package}.module_utils.calls import {name} as call
from {package}.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
'''
FRAGMENTS = {"attributes": attributes, "engine": engine, "progress": progress}
# What a module's options and its documentation both say of each.
STATED = ("type", "elements", "required", "default", "choices")


def documented(module: ModuleType) -> dict[str, Any]:
    """Return the options by name, those of fragments included."""
    found = yaml.safe_load(module.DOCUMENTATION)
    options = dict(found.get("options") or {})
    for name in found.get("extends_documentation_fragment") or ():
        fragment, _dot, part = name.removeprefix("nebula.provision.").partition(".")
        text = getattr(FRAGMENTS[fragment].ModuleDocFragment, part.upper() or "DOCUMENTATION")
        options.update(yaml.safe_load(text).get("options") or {})
    return options


def essence(options: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, option in options.items():
        found[name] = {key: option[key] for key in STATED if option.get(key) not in (None, False)}
        for key in ("choices", "default"):
            if isinstance(found[name].get(key), (list, tuple)):
                found[name][key] = sorted(found[name][key], key=str)
        inner = option.get("options") or option.get("suboptions")
        if inner:
            found[name]["options"] = essence(inner)
    return found


@pytest.mark.parametrize("name", MODULES)
def test_options_are_documented_as_they_are(name: str) -> None:
    module = importlib.import_module(f"{PACKAGE}.modules.{name}")
    given = getattr(module, "call", module).ARGUMENTS["argument_spec"]
    assert essence(given) == essence(documented(module))
    for text in (module.EXAMPLES, module.RETURN):
        assert yaml.safe_load(text) is not None or "#" in text


@pytest.mark.parametrize("name", sorted({*MODULES} - {*LOOKS}))
def test_a_module_is_its_documentation_and_the_main_of_all(name: str) -> None:
    text = (PLUGINS / f"modules/{name}.py").read_text(encoding="utf-8")
    form = FORM.format(package=PACKAGE, name=name.removeprefix("nebula_"))
    assert text.endswith(form), f"options and run go to module_utils/calls/, and the module ends with:\n{form}"


@pytest.mark.parametrize("name", LOOKS)
def test_a_look_calls_the_modules_that_its_documentation_names(name: str) -> None:
    look = importlib.import_module(f"{PACKAGE}.module_utils.calls.{name.removeprefix('nebula_')}").LOOK
    text = yaml.safe_load(importlib.import_module(f"{PACKAGE}.modules.{name}").DOCUMENTATION)
    named = re.findall(r"C\((nebula_\w+)\)", text["options"]["calls"]["description"][1])
    assert all("root" in look.call_of(each).ARGUMENTS["argument_spec"] for each in named)
    assert {*look.at_once, *look.only_asked} < {*named}
    with pytest.raises(KeyError):
        look.call_of("nebula_backup")


LISTS = {"datastore": "datastores", "host": "hosts", "router": "routers", "security_group": "security_groups"}


@pytest.mark.parametrize(
    ("name", "given", "problem"),
    [
        *((name, {}, f"one of the following is required: name, {plural}") for name, plural in LISTS.items()),
        *((name, {"name": "a", plural: []}, "mutually exclusive") for name, plural in LISTS.items()),
        ("vm", {}, "one of the following is required: name, vms"),
        ("vm", {"name": "a", "vms": "[]"}, "mutually exclusive"),
        ("template", {}, "one of the following is required: name, template, template_file, templates"),
        ("template", {"name": "a", "templates": "[]"}, "mutually exclusive"),
        ("image", {}, "one of the following is required: name, images, _upload"),
        ("image", {"name": "a", "images": "[]"}, "mutually exclusive: name|images"),
        ("image", {"name": "a", "path": "/a", "clone_of": "b"}, "mutually exclusive: path|clone_of|from"),
        ("image_check", {}, "one of the following is required: name, path, images, listen"),
        ("image_check", {"name": "a", "path": "/a"}, "mutually exclusive"),
        ("image_prepare", {}, "one of the following is required: name, path, images"),
        ("image_prepare", {"name": "a", "path": "/a"}, "mutually exclusive"),
        ("guest_context", {"path": "/a"}, "missing required arguments: program"),
        ("guest_context", {"program": "x"}, "one of the following is required: path, images"),
        ("guest_context", {"program": "x", "path": "/a", "images": []}, "mutually exclusive"),
        ("demo_image", {}, "missing required arguments: dest"),
        ("install", {}, "missing required arguments: installs"),
        ("install_wait", {}, "missing required arguments: catalog, installs, vms"),
        ("restore", {}, "missing required arguments: observed"),
        ("transfer", {"hosts": {}}, "missing required arguments: state"),
        ("transfer", {"state": "sent"}, "missing required arguments: hosts"),
        ("transfer", {"state": "sent", "hosts": {}}, "state is sent but all of the following are missing: transfers"),
        ("transfer", {"state": "fetched", "hosts": {}}, "all of the following are missing: observed"),
        ("deploy", {}, "missing required arguments: host"),
        ("deploy", {"host": "n", "state": "applied"}, "state is applied but all of the following are missing: plan"),
        ("node_network", {"networks": []}, "missing required arguments: catalog"),
        ("node_network", {"catalog": "c"}, "state is present but all of the following are missing: networks"),
        ("ovn_central", {"name": "c"}, "missing required arguments: catalog"),
        ("ovn_host", {"name": "n", "catalog": "c"}, "all of the following are missing: southbound"),
    ],
)
def test_what_is_missing_or_too_much_is_named(name: str, given: dict[str, Any], problem: str) -> None:
    call = importlib.import_module(f"{PACKAGE}.module_utils.calls.{name}")
    messages = " ".join(ArgumentSpecValidator(**call.ARGUMENTS).validate(given).error_messages)
    assert problem in messages
