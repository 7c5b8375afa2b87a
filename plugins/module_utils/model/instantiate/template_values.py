# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads numbers, flags and words of a template, or raises InvalidValue, which says what may stand there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Union

from ...errors import InvalidValue
from ..flags import FALSE, TRUE
from ..object_names import known_are
from ..template import Template

# A name, or an id.
Ref = Union[str, int]
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def is_uuid(text: str) -> bool:
    return bool(_UUID.fullmatch(text.lower()))


def read_whole(text: str, where: str, remedy: str, lowest: int = 0) -> int:
    """Return the whole number, at least `lowest`; raise InvalidValue with `where` and the remedy."""
    digits = text.strip()
    if digits.isascii() and digits.isdigit() and len(digits) <= 12 and int(digits) >= lowest:
        return int(digits)
    found = "it is not a whole number" + (f" of at least {lowest}" if lowest else "")
    if digits.isascii() and digits.isdigit() and len(digits) > 12:
        found = "nothing is that large"
    raise InvalidValue(f"{where} = {text!r}", found, remedy)


def read_flag(vector: Mapping[str, str], key: str, where: str) -> bool:
    """Return whether the key says YES. A vector that does not have it says NO."""
    text = vector.get(key, "").strip().upper()
    if text not in TRUE + FALSE:
        raise InvalidValue(f"{where}/{key} = {vector[key]!r}", "it is neither YES nor NO", "Write YES or NO")
    return text in TRUE


def read_word(template: Template, name: str, known: Sequence[str], where: str) -> str:
    """Return one of the words in lower case, the first unless the template says another."""
    text = template.get(name).strip()
    found = text.lower() or known[0]
    if found not in known:
        raise InvalidValue(f"{where}: {name} = {text}", "no such word", known_are(found, known, "{}"))
    return found
