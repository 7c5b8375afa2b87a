# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the evidence that convinced of a guest beside its console.

The report of a guest that prints much is rotated away in the end, and no guest prints it twice."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from ...dataclass import replace
from ...errors import NebulaError
from ..files import read_limited, write_atomically
from ..node_file import boot_id
from .console_log import READ_LIMIT, VERIFIED
from .expected_guest import Wanted


def remember(wanted: Wanted, evidence: str) -> None:
    """Keep the evidence until the node starts the machine again, or boots."""
    # A user who may read the console may not be allowed to write beside it: then the console is read each time.
    with contextlib.suppress(NebulaError, OSError):
        write_atomically(wanted.console + VERIFIED, _record_of(wanted, evidence), mode=0o600, sync=False)


def recall(wanted: Wanted) -> str:
    """Return the evidence that convinced of the machine since the node last started it, if the same was wanted then;
    else ""."""
    try:
        text = read_limited(wanted.console + VERIFIED, READ_LIMIT, follow=False).decode()
        evidence = str(json.loads(text)["evidence"])
        if text == _record_of(wanted, evidence) or _is_of_former(json.loads(text), wanted, evidence):
            return evidence
    except (NebulaError, ValueError, KeyError, TypeError, IndexError):
        pass
    return ""


def _is_of_former(data: Any, wanted: Wanted, evidence: str) -> bool:
    """Return whether the evidence convinced when the machine had another name, which its guest still has."""
    if not wanted.former or data["wanted"][3] != wanted.former:
        return False
    before = replace(wanted, name=str(data["wanted"][1]), hostname=wanted.former)
    return bool(data == json.loads(_record_of(before, evidence)))


def _record_of(wanted: Wanted, evidence: str) -> str:
    asked = (wanted.vm_id, wanted.name, wanted.console, wanted.hostname, wanted.addresses, wanted.pattern)
    # After a boot of the host, the machines were started by it.
    return json.dumps({"wanted": asked, "evidence": evidence, "boot": boot_id()}) + "\n"
