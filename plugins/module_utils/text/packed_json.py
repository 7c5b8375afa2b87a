# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packs a large answer into one short text: Ansible looks at each value of an answer some ten times on its way."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

# Bytes of an answer, as JSON. Ten thousand machines have a twentieth of it; a host that answers what it likes could
# fill the memory with few bytes that unpack to many.
LONGEST = 256 * 1024 * 1024


def pack(value: Any) -> str:
    """Return the value as text of printable characters."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode("utf-8", "replace"))).decode("ascii")


def unpack(text: str) -> Any:
    """Return the value that pack() has packed. Raise ValueError for any other text, and for a value that is too large
    or too deep."""
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(base64.b64decode(text, validate=True), LONGEST).decode("utf-8")
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not stream.eof:
        raise ValueError(f"it ends too early, or holds more than {LONGEST} bytes")
    try:
        value = json.loads(content)
    except RecursionError:
        raise ValueError("it is too deep") from None
    if "\\u" in content:
        # Only JSON's own escapes can have half of a character, which nothing prints.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value
