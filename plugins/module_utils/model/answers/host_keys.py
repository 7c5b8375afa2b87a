# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what a node answers when it is made ready (nebula_node), as far as the front-end goes by it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MOST_KEYS = 16
# A key of RSA of 16,384 bits has 2,800 characters.
LONGEST_KEY = 4096
_KEY = re.compile(r"(?:ssh|ecdsa|sk)-[a-z0-9@.-]{1,60} [A-Za-z0-9+/]+={0,2}(?: [\x20-\x7e]*)?")


def host_keys(answer: Any) -> list[str]:
    """Return the public host keys in the registered result of nebula_node; none where it does not answer so. A marker
    such as @cert-authority, or a second line, is no key."""
    node = answer.get("node") if isinstance(answer, Mapping) else None
    keys = node.get("host_keys") if isinstance(node, Mapping) else None
    if not isinstance(keys, (list, tuple)) or len(keys) > MOST_KEYS:
        return []
    is_fine = all(isinstance(key, str) and len(key) <= LONGEST_KEY and _KEY.fullmatch(key) for key in keys)
    return [*keys] if is_fine else []
