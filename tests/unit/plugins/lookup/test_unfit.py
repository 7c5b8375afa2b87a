# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a role can't take is told by name and kind, and what Ansible takes is taken."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible import template
from ansible.parsing.dataloader import DataLoader

from ansible_collections.nebula.provision.plugins.lookup.unfit import LookupModule, misfit

ROOT = Path(__file__).resolve().parents[4]
SECRET = "s3cret"
trusted = getattr(template, "trust_as_template", str)


def unfit(role: str, **variables: object) -> list[str]:
    loader = DataLoader()
    templar = template.Templar(loader=loader, variables=variables)
    return LookupModule(loader=loader, templar=templar).run([], variables=variables, role=role)


@pytest.mark.parametrize(
    ("value", "option", "said"),
    [
        ([], {"type": "list", "elements": "raw"}, ""),
        ([SECRET, 5], {"type": "list", "elements": "raw"}, ""),
        ('[{"name": "a"}]', {"type": "list", "elements": "raw"}, ""),
        ({"a": SECRET}, {"type": "list", "elements": "raw"}, "it is a dict. Give a list of dicts"),
        (5, {"type": "list", "elements": "raw"}, "it is a number. Give a list of dicts"),
        (None, {"type": "list", "elements": "raw", "default": []}, "it is empty. Give a list of dicts"),
        (
            SECRET,
            {"type": "list", "elements": "raw"},
            "it is text, and not JSON (character 0 of 6). Give a list of dicts, or its JSON",
        ),
        ('"a"', {"type": "list", "elements": "raw"}, "it is JSON of text. Give a list of dicts, or its JSON"),
        ("a,b", {"type": "list", "elements": "str"}, ""),
        ({}, {"type": "list", "elements": "path"}, "it is a dict. Give a list"),
        ("yes", {"type": "bool"}, ""),
        (SECRET, {"type": "bool"}, "it is text. Give true or false"),
        ("7", {"type": "int"}, ""),
        ([7], {"type": "int"}, "it is a list. Give a whole number"),
        (True, {"type": "dict"}, "it is true or false. Give a dict"),
        (1.5, {"type": "float"}, ""),
        ("/a", {"type": "path"}, ""),
        (None, {"type": "str"}, ""),
        ("a,b", {"type": "list", "elements": "str", "choices": ["a", "b"]}, ""),
        (["a", SECRET], {"type": "list", "choices": ["a"]}, "there is no such choice. Known are a"),
        ("warn", {"type": "str", "choices": ["fail", "warn"]}, ""),
        ("all", {"type": "str", "choices": ["", "list"]}, "there is no such choice. Known are list, or leave it out"),
        (
            "wran",
            {"type": "str", "choices": ["fail", "warn"]},
            "there is no such choice. Did you mean 'warn'? Known are fail, warn",
        ),
    ],
)
def test_by_kind(value: object, option: dict[str, object], said: str) -> None:
    assert misfit(value, option) == said


def test_of_a_role_each_variable_is_told_and_no_value() -> None:
    said = unfit("vm", nebula_vms={"name": SECRET}, nebula_on_difference="wran", nebula_owner=[SECRET], nebula_images=5)
    assert sorted(said) == [
        "nebula_on_difference: there is no such choice. Did you mean 'warn'? Known are fail, warn",
        "nebula_owner: it is a list. Give a dict",
        "nebula_vms: it is a dict. Give a list of dicts",
    ]


def test_what_can_not_be_filled_in_is_left_to_others() -> None:
    assert unfit("network", nebula_networks=trusted("{{ missing }}")) == []
    assert unfit("network", nebula_networks=trusted("{{ {} }}")) == [
        "nebula_networks: it is a dict. Give a list of dicts"
    ]


@pytest.mark.parametrize("role", sorted(path.name for path in (ROOT / "roles").iterdir()))
def test_the_defaults_of_each_role_fit(role: str) -> None:
    defaults = yaml.safe_load((ROOT / "roles" / role / "defaults/main.yml").read_text()) or {}
    assert (
        unfit(role, **{name: trusted(value) if isinstance(value, str) else value for name, value in defaults.items()})
        == []
    )
