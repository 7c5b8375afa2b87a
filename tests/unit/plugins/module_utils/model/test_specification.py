# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options by which a module takes one item, out of the table of its keys."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model import defaults
from ansible_collections.nebula.provision.plugins.module_utils.model.specification import (
    ALWAYS,
    NEVER,
    REWRITE,
    UNUSED,
    Key,
    argument_spec,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.specifications import (
    datastore,
    guest_image,
    host,
    image,
    image_check,
    image_prepare,
    install,
    network,
    template,
    vm,
)

TABLES = [datastore, guest_image, host, image, image_check, image_prepare, install, network, template, vm]


@pytest.mark.parametrize(
    ("key", "option"),
    [
        (Key(), {"type": "str"}),
        (Key(required=True), {"type": "str"}),
        (Key(choices=("a", "b"), default="a"), {"type": "str", "choices": ["a", "b"], "default": "a"}),
        (Key(type="bool", default=False), {"type": "bool", "default": False}),
        (Key(type="list", elements="raw", option={"elements": "str"}), {"type": "list", "elements": "str"}),
        (
            Key(type="list", elements="dict", options={"id": Key(type="int", required=True)}),
            {"type": "list", "elements": "dict", "options": {"id": {"type": "int", "required": True}}},
        ),
        (
            Key(type="list", elements="dict", options={"id": Key()}, option={"type": "json", "no_log": True}),
            {"type": "json", "no_log": True},
        ),
        (Key(type="int", unit="MB", least=1, most=9, changes=ALWAYS, near=("mem",)), {"type": "int"}),
    ],
)
def test_an_option_has_what_ansible_knows_of_a_key(key: Key, option: dict[str, object]) -> None:
    assert argument_spec({"x": key}) == {"x": option}


@pytest.mark.parametrize(
    "keys", [each.KEYS for each in TABLES], ids=[each.__name__.rpartition(".")[2] for each in TABLES]
)
def test_when_a_key_may_change_is_one_of_four_words(keys: dict[str, Key]) -> None:
    assert {key.changes for key in keys.values()} <= {"", ALWAYS, UNUSED, REWRITE, NEVER}


@pytest.mark.parametrize(
    "keys", [each.KEYS for each in TABLES], ids=[each.__name__.rpartition(".")[2] for each in TABLES]
)
def test_no_word_means_two_keys(keys: dict[str, Key]) -> None:
    words = [word for key in keys.values() for word in key.near]
    assert len(words) == len(set(words)) and not set(words) & set(keys)


def test_the_defaults_of_the_product_are_those_of_its_specifications() -> None:
    assert vm.KEYS["shutdown_timeout"].default == defaults.SHUTDOWN_SECONDS
    assert host.KEYS["hypervisor"].option["default"] == defaults.HYPERVISOR
