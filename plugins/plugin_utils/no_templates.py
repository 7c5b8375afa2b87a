# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Marks what comes out of a plugin as data: whatever looks like a template in it stays text, and nobody runs it.

What a plugin is given has been templated by then, so nothing of it is a template any more that somebody wrote as one;
but it may hold what guests, hosts and files say. ansible-core before 2.19 templates each string again that is not
marked, and JSON, formatting and joining lose the mark. Since 2.19 templates are marked instead, and no string that a
plugin makes is one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from ansible import template
from jinja2 import Environment, TemplateSyntaxError, nodes

T = TypeVar("T")
# What an Ansible plugin of filters says that it has.
Filters = dict[str, Callable[..., Any]]


def without_templates(value: T) -> T:
    """Return the same value, none of whose strings Ansible takes for a template."""
    if hasattr(template, "trust_as_template"):
        return value
    from ansible.utils.unsafe_proxy import wrap_var

    wrapped: T = wrap_var(value)
    return wrapped


# A string without a brace is the same whether Ansible takes it for a template or not, unless it says by this word what
# else begins a template, or is the result of a template that is a condition, which Ansible evaluates once more.
_OVERRIDES = "#jinja2"
_TRUSTED: Callable[[str], Any] = getattr(template, "trust_as_template", str)


def as_template(text: str) -> Any:
    """Return a template that is ours, and that Ansible fills in where a variable is used."""
    return _TRUSTED(text)


class Judged(dict[str, Any]):
    """Holds what became of each string that an inventory was given, so that each is judged, marked and kept once:
    machines share most of theirs."""

    def __missing__(self, text: str) -> Any:
        marked = self[text] = without_templates(text) if _has_a_meaning(text) else _TRUSTED(text)
        return marked


def for_inventory(value: Any, judged: Judged | None = None) -> Any:
    """Return the same value, none of whose strings Ansible takes for a template. Strings that could not be one are
    plain strings.

    ansible-inventory prints each string that is marked as no template as an object, and AWX keeps that.
    judged: the same for all values of an inventory."""
    judged = Judged() if judged is None else judged
    if isinstance(value, str):
        return judged[value]
    if isinstance(value, dict):
        return {
            for_inventory(key, judged): judged[each] if isinstance(each, str) else for_inventory(each, judged)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [for_inventory(each, judged) for each in value]
    return value


def _has_a_meaning(text: str) -> bool:
    """Return whether Ansible could find more in a string than text: a template, or an expression that calls something.
    A sentence with brackets is only text."""
    if "{" in text or "}" in text or _OVERRIDES in text:
        return True
    if "(" not in text and "|" not in text:
        return False
    try:
        parsed = Environment(autoescape=True).parse(f"{{{{ {text} }}}}")
        return any(True for _each in parsed.find_all((nodes.Call, nodes.Filter)))
    except TemplateSyntaxError:
        return False
    except (RecursionError, ValueError):
        # Too deep for a parser, or a number that is too long for it.
        return True


def returns_no_templates(plugin: Callable[..., Any]) -> Callable[..., Any]:
    """Return the same filter; Ansible takes nothing in its result for a template."""

    @functools.wraps(plugin)
    def marked(*arguments: Any, **options: Any) -> Any:
        return without_templates(plugin(*arguments, **options))

    return marked
