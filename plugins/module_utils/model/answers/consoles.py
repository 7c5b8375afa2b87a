# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what a node answers about consoles of machines (nebula_image_check's `heard`), before it is judged."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from . import answer_bounds

# Characters of one console: nebula_image_check returns no more bytes of it.
LONGEST = 4 << 20


def read(host: str, answer: Any, own: Collection[str]) -> dict[str, str]:
    """Return the text of each console in a node's registered result, by the machine's name; none where it did not
    answer. Raise InvalidValue if there is anything else, or a console of a machine that is not on this host.
    own: the names of the machines that are on this host."""
    what = f"host {host}: what it answered of consoles"
    found = answer.get("heard") if isinstance(answer, Mapping) else None
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise answer_bounds.refusal(what, f"it is a {type(found).__name__}, and not a dict")
    for name, text in found.items():
        if name not in own:
            raise answer_bounds.refusal(what, "it tells of a machine that is not on this host")
        if not isinstance(text, str) or len(text) > LONGEST:
            raise answer_bounds.refusal(what, f"the console of {name} is no text, or longer than {LONGEST} characters")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise answer_bounds.refusal(what, f"the console of {name} has half of a surrogate pair")
    return {str(name): str(text) for name, text in found.items()}
