# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one word means in one place it means in all: options that module_defaults sets for the whole action group, and
keys of items in modules' lists and in roles' variables."""

from __future__ import annotations

import importlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.nebula.provision.plugins.module_utils.model import owner
from ansible_collections.nebula.provision.plugins.module_utils.model.specifications import (
    datastore,
    guest_image,
    image,
    image_check,
    image_prepare,
    install,
    network,
    router,
    security_group,
    template,
    vm,
)

ROOT = Path(__file__).resolve().parents[2]
GROUP = yaml.safe_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))["action_groups"]["nebula"]
DEFAULTS = {"root": "/srv/nebula", "engine": "embedded"}


def declared(name: str) -> dict[str, Any]:
    """Return the options that a module declares."""
    module = importlib.import_module(f"ansible_collections.nebula.provision.plugins.modules.{name}")
    return dict(module.call.ARGUMENTS["argument_spec"])


@pytest.mark.parametrize("name", GROUP)
def test_each_module_of_the_group_takes_what_is_set_for_all(name):
    """Such tasks have module_defaults: {group/nebula.provision.nebula: {root: …, engine: …}}."""
    result = ArgumentSpecValidator(declared(name)).validate(dict(DEFAULTS))
    assert not result.unsupported_parameters
    assert {key: result.validated_parameters[key] for key in DEFAULTS} == DEFAULTS


# Role, variable, the keys that the module takes, and those that are the role's own.
LISTS: list[tuple[str, str, Collection[str], Collection[str]]] = [
    ("vm", "nebula_vms", vm.KEYS, ()),
    ("vm", "nebula_owner", owner.KEYS, ()),
    ("image", "nebula_images", image.KEYS, ()),
    ("image", "nebula_datastores", datastore.KEYS, ()),
    ("network", "nebula_networks", network.KEYS, ()),
    ("network", "nebula_routers", router.KEYS, ()),
    ("network", "nebula_security_groups", security_group.KEYS, ()),
    ("template", "nebula_templates", template.KEYS, ()),
    ("install_os", "nebula_installs", install.KEYS, ()),
    ("image_check", "nebula_image_checks", image_check.KEYS, ("template", "disk", "context", "context_format")),
    ("image_prepare", "nebula_image_prepares", image_prepare.KEYS, ()),
    ("guest_context", "nebula_guest_images", guest_image.KEYS, ()),
]


def described(role: str) -> dict[str, Any]:
    specs = yaml.safe_load((ROOT / "roles" / role / "meta/argument_specs.yml").read_text(encoding="utf-8"))
    # A role that others depend on may have none.
    return dict(specs["argument_specs"].get("main", {}).get("options", {}))


@pytest.mark.parametrize(("role", "variable", "keys", "own"), LISTS, ids=[each[1] for each in LISTS])
def test_a_role_describes_every_key_of_an_item(role, variable, keys, own):
    assert set(described(role)[variable]["options"]) == {*keys, *own}


def test_every_list_with_described_items_is_compared():
    found = {
        (path.parents[1].name, variable)
        for path in (ROOT / "roles").glob("*/meta/argument_specs.yml")
        for variable, option in described(path.parents[1].name).items()
        if option.get("options")
    }
    assert found == {each[:2] for each in LISTS}


@pytest.mark.parametrize(
    ("role", "variable", "module"),
    [
        ("vm", "nebula_vms", "nebula_vm"),
        ("image", "nebula_images", "nebula_image"),
        ("image", "nebula_datastores", "nebula_datastore"),
        ("network", "nebula_networks", "nebula_network"),
        ("network", "nebula_routers", "nebula_router"),
        ("network", "nebula_security_groups", "nebula_security_group"),
        ("template", "nebula_templates", "nebula_template"),
    ],
)
def test_the_choices_of_an_item_are_the_modules(role, variable, module):
    spec = declared(module)
    items = described(role)[variable]["options"]
    shown = {key: sorted(option["choices"]) for key, option in items.items() if option.get("choices")}
    wanted = {key: sorted(option["choices"]) for key, option in spec.items() if option.get("choices") and key in items}
    assert shown == wanted
