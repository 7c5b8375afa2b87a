# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the answers of nodes as modules take them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import InvalidValue
from ...model.answers import observed as heard
from ...model.plan import Observed


def polls_of(answers: Iterable[Mapping[str, Any]]) -> list[Observed]:
    """Return the answers of nodes, each under the name by which it was asked (key `host`); also read bare results of
    polls. A node without an answer counts as not reached if its name is told. So does a node whose answer is
    refused, and no other host is affected."""
    found: dict[str, Observed] = {}
    for answer in answers:
        # All but the name by which a host was asked is its answer.
        bare = isinstance(answer, Mapping) and "host" not in answer
        observed = answer.get("observed", answer) if bare and isinstance(answer, Mapping) else answer
        if not isinstance(observed, Mapping):
            raise InvalidValue(
                "what a node observed", f"it is a {type(observed).__name__}", "Give the registered results of polls"
            )
        name = observed.get("host")
        if not name:
            continue
        if not isinstance(name, str):
            found_out = f"its host is a {type(name).__name__}"
            raise InvalidValue("what a node observed", found_out, "Give the registered results of polls")
        try:
            node = heard.read(name, observed)
        except InvalidValue as error:
            node = heard.as_unreached(name, error)
        if name in found:
            problem = InvalidValue(f"host {name}", "two answers are said to be its own", "Ask each host once")
            node = heard.as_unreached(name, problem)
        found[name] = node
    return [*found.values()]


def refused_answers(observed: Iterable[Observed]) -> dict[str, str]:
    """Return by host name why its answer was refused."""
    return {node.host: why for node in observed if (why := heard.why_refused(node))}
