# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any


def gone_wrong(result: Any) -> bool:
    """Return whether a registered result tells of a failure or an unreachable host, also under failed_when: false."""
    if not hasattr(result, "get") or result.get("skipped"):
        return False
    # The last is what newer versions of Ansible leave of an exception under failed_when: false.
    signs = ("unreachable", "failed", "msg", "exception", "failed_when_suppressed_exception")
    return any(result.get(sign) for sign in signs)


class TestModule:
    def tests(self) -> dict[str, Callable[[Any], bool]]:
        return {"gone_wrong": gone_wrong}
