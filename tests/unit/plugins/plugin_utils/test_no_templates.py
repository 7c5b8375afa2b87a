# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every plugin that hands data on returns is data to the ansible-core that runs these tests, whatever it was
given: `make matrix` runs them by the oldest, ours and the newest. test_ansible.py has playbooks try it."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import outside
import pytest
from ansible import template
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader

from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import (
    Judged,
    as_template,
    for_inventory,
    returns_no_templates,
    without_templates,
)

ROOT = Path(__file__).resolve().parents[4]
EVIL = "{{ lookup('pipe', 'touch /nowhere') }}"
GIVEN = outside.filters(EVIL)
# By the names by which playbooks call them: one file may have several.
FILTERS = {
    name: each
    for path in (ROOT / "plugins/filter").glob("*.py")
    for name, each in importlib.import_module(f"ansible_collections.nebula.provision.plugins.filter.{path.stem}")
    .FilterModule()
    .filters()
    .items()
}


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from strings(key)
            yield from strings(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


def is_data(text: str) -> bool:
    """Whether this ansible-core never takes the string for a template."""
    if hasattr(template, "is_trusted_as_template"):
        return not template.is_trusted_as_template(text)
    return getattr(text, "__UNSAFE__", False) is True


def test_each_filter_is_tried():
    assert set(GIVEN) == set(FILTERS)


@pytest.mark.parametrize("name", sorted(GIVEN))
def test_a_filter_returns_data(name):
    found = list(strings(FILTERS[name](*GIVEN[name])))
    assert name in outside.STRICT or any(EVIL in text for text in found), "nothing came through, so nothing is shown"
    assert [text for text in found if not is_data(text)] == []


def test_what_is_no_string_stays_what_it_is():
    value = {"a": [1, None, True, 0.5], "b": {}}
    assert without_templates(value) == value and returns_no_templates(lambda given, more: [given, more])(
        1, more=None
    ) == [1, None]


def test_a_filter_keeps_its_name():
    def some_filter(value):
        return value

    assert returns_no_templates(some_filter).__name__ == "some_filter"


@pytest.mark.parametrize(
    "text",
    [
        "{{ 1 + 1 }}",
        "{% if true %}x{% endif %}",
        "#jinja2:variable_start_string:'[[',variable_end_string:']]'\n[[ 1 + 1 ]]",
        "#jinja2: block_start_string:'(%', block_end_string:'%)'\n(% if true %)x(% endif %)",
        "plain",
    ],
)
def test_what_an_inventory_hands_on_is_text(text: str) -> None:
    """Also where it is a part of what is templated."""
    value = for_inventory({"a": [text]})["a"][0]
    assert value == text
    templar = template.Templar(loader=DataLoader(), variables={"given": value})
    assert templar.template(value) == text
    assert templar.template(as_template("{{ given }}")) == text


@pytest.mark.parametrize("text", ["{{ 1 + 1 }}", "lookup('pipe', 'true')", "plain", ""])
def test_what_was_judged_once_is_handed_on_as_it_was(text: str) -> None:
    judged = Judged()
    first = for_inventory({text: ["".join(["", text])]}, judged)
    second = for_inventory([text, 1, None], judged)
    assert first == {text: [text]} and second == [text, 1, None]
    assert first[text][0] is second[0] and judged == {text: text}
    assert is_data(second[0]) is is_data(for_inventory(text))


def is_true(templar: Any, variables: dict[str, Any], condition: str) -> bool:
    if hasattr(templar, "evaluate_conditional"):
        return bool(templar.evaluate_conditional(as_template(condition)))
    from ansible.playbook.conditional import Conditional

    conditional = Conditional(loader=DataLoader())
    conditional.when = [condition]
    return bool(conditional.evaluate_conditional(templar, variables))


@pytest.mark.parametrize(
    "text",
    [
        "lookup('pipe', 'touch MARKER') == ''",
        "query ('pipe', 'touch MARKER') | length > 0 or 9" + "9" * 5000,
        "lookup('pipe', 'touch MARKER') == '' %} True",
        "(" * 2000 + "lookup('pipe', 'touch MARKER')" + ")" * 2000,
    ],
)
def test_what_an_inventory_hands_on_is_no_condition(tmp_path: Path, text: str) -> None:
    """Ansible evaluates the result of a template that is a condition once more."""
    marker = tmp_path / "marker"
    variables = for_inventory({"given": {"a": text.replace("MARKER", str(marker))}})
    with contextlib.suppress(AnsibleError, RecursionError, ValueError):
        is_true(template.Templar(loader=DataLoader(), variables=variables), variables, "{{ given.a }}")
    assert not marker.exists() and is_data(variables["given"]["a"])


@pytest.mark.parametrize(
    "text", ["it can't start (status 1)", "web (old)?", "(secret)", "a, b", "node_access == 'all'"]
)
def test_a_sentence_is_printed_as_a_string(text: str) -> None:
    assert not is_data(for_inventory(text))
