# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an answer has Ansible print. Its words may be those of guests, of hosts and of strangers' files, and a host that
was taken over answers what it likes: a control character, or one that turns the direction of writing, is shown as an
escape. What an answer has as data stays as it is.
"""

from __future__ import annotations

import json
import re
from typing import Any

from ansible.module_utils.json_utils import _filter_non_json_lines

from ansible_collections.nebula.provision.plugins.module_utils.errors import harmless

# Parts of an answer that Ansible prints as they are, in one version of it or another.
_PRINTED = (
    *("msg", "reason", "skip_reason", "exception", "warnings", "deprecations", "stdout", "stderr", "stdout_lines"),
    *("stderr_lines", "module_stdout", "module_stderr", "diff", "cmd"),
    # Ours: a task that failed is printed with them, and roles make messages of them.
    *("error", "errors"),
)
# Characters that do not print, as they are, and as JSON writes them.
_SUSPICIOUS = re.compile(r"\\[ubfr]|[^\x20-\x7e\n\t]")
# Characters of one text that are shown. Differences of files may be long.
_LONGEST = 1 << 20


def harmless_answer(result: dict[str, Any]) -> dict[str, Any]:
    """Return a module's answer, in which nothing that Ansible prints controls a terminal."""
    for name in _PRINTED:
        if name in result:
            result[name] = _harmless(result[name])
    return result


def harmless_output(text: str) -> str:
    """Return what a module printed, in which nothing that Ansible prints of it controls a terminal."""
    if not _SUSPICIOUS.search(text):
        return text
    try:
        answer = json.loads(_filter_non_json_lines(text, objects_only=True)[0])
    except (ValueError, RecursionError):
        # It is no answer, and Ansible shows all of it.
        return harmless(text, _LONGEST)
    return json.dumps(harmless_answer(answer)) if isinstance(answer, dict) else harmless(text, _LONGEST)


def _harmless(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isprintable() else harmless(value, _LONGEST)
    if isinstance(value, dict):
        return {_harmless(key): _harmless(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_harmless(each) for each in value]
    return value
