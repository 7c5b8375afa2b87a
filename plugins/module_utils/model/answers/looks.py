# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a host's answers to a look (nebula_node_look, nebula_frontend_look): those of the modules that it called."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

NO_ANSWER = "the module did not answer as it does"


def read(result: Any, names: Collection[str]) -> tuple[dict[str, Mapping[str, Any]], str]:
    """Return the answer of each call by the name under which it was asked for, and what differs ("" if nothing does).
    Whatever is no such answer differs, so that the roles ask again. What the answers hold is read where they are used,
    as the answer of a role's own call is."""
    differs = result.get("differs") if isinstance(result, Mapping) else None
    if not isinstance(result, Mapping) or differs is None:
        message = result.get("msg") if isinstance(result, Mapping) else None
        return {}, (message if isinstance(message, str) else "") or "the module did not answer"
    answers = result.get("answers")
    if not isinstance(differs, str) or not isinstance(answers, Mapping):
        return {}, NO_ANSWER
    found = {name: answers[name] for name in names if name in answers}
    if not all(isinstance(answer, Mapping) for answer in found.values()):
        return {}, NO_ANSWER
    if not differs and len(found) < len(names):
        return {}, NO_ANSWER
    return found, differs
