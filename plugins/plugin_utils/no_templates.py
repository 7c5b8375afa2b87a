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


def for_inventory(value: Any, judged: dict[str, Any] | None = None) -> Any:
    """Return the same value, none of whose strings Ansible takes for a template. Strings that could not be one are
    plain strings.

    ansible-inventory prints each string that is marked as no template as an object, and AWX keeps that.
    judged: what became of strings that were met before. Machines share most of theirs, so one dict for all of them
    saves most of the time and memory."""
    judged = {} if judged is None else judged
    if isinstance(value, str):
        found = judged.get(value)
        if found is None:
            found = judged[value] = without_templates(value) if _has_a_meaning(value) else _TRUSTED(value)
        return found
    if isinstance(value, dict):
        return {for_inventory(key, judged): for_inventory(each, judged) for key, each in value.items()}
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
