# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the variables can't be read, by this ansible-core's own templates."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible import template
from ansible.parsing.dataloader import DataLoader

from ansible_collections.nebula.provision.plugins.lookup.unresolved import LookupModule

ROOT = Path(__file__).resolve().parents[4]
trusted = getattr(template, "trust_as_template", str)
VARIABLES = {
    "good": ["s3cret", {"a": trusted("{{ other }}")}],
    "other": "x",
    "bad": [{"word": "s3cret", "a": trusted("{{ missing }}"), "b": [trusted("{{ other.key }}")]}],
    "whole": trusted("{{ ['s3cret'] + missing }}"),
    "through": {"a": trusted("{{ whole }}")},
}


def unresolved(*names: str, role: str = "", **variables: object) -> list[str]:
    loader = DataLoader()
    known = VARIABLES | variables
    templar = template.Templar(loader=loader, variables=known)
    return LookupModule(loader=loader, templar=templar).run(list(names), variables=known, role=role)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["good", "other", "nowhere"], []),
        (
            ["good", "bad"],
            ["bad[0].a: variable missing is undefined", "bad[0].b[0]: there is no key in what is there"],
        ),
        (["whole"], ["whole: variable missing is undefined"]),
        (["through"], ["through.a: variable missing is undefined"]),
    ],
)
def test_what_is_said(names, said):
    assert unresolved(*names) == said


def test_a_roles_variables_are_those_that_it_describes():
    bad = [{"context": {"PASSWORD": "s3cret", "TOKEN": trusted("{{ missing }}")}}]
    said = unresolved(role="vm", nebula_vms=bad, nebula_root=trusted("{{ nowhere }}"), nebula_images=bad)
    assert sorted(said) == [
        "nebula_root: variable nowhere is undefined",
        "nebula_vms[0].context.TOKEN: variable missing is undefined",
    ]


def test_the_variables_of_each_role_are_checked_before_ansible_looks_at_them():
    checked, wanted = set(), set()
    for path in (ROOT / "roles").iterdir():
        meta = yaml.safe_load((path / "meta/main.yml").read_text())
        for dependency in meta["dependencies"]:
            assert dependency == {"role": "nebula.provision.values", "vars": {"__nebula_values_of": path.name}}
            checked.add(path.name)
        specification = yaml.safe_load((path / "meta/argument_specs.yml").read_text())["argument_specs"]
        options = (specification.get("main") or {}).get("options") or {}
        if options:
            wanted.add(path.name)
    assert checked == wanted
