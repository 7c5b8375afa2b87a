# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an answer has Ansible print. Its words may be those of guests, of hosts and of strangers' files, and a host that
was taken over answers what it likes: all that Ansible prints of it is made printable first. What an answer has as data
stays as it is, unless the answer is a failure: all of that one is printed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from ansible.module_utils.json_utils import _filter_non_json_lines

from ansible_collections.nebula.provision.plugins.module_utils.errors import harmless
from ansible_collections.nebula.provision.plugins.module_utils.printable import BLOCK, LINES, ONE_LINE, printable

# Parts of an answer that Ansible prints as they are, in one version of it or another.
_PRINTED = (
    *("msg", "reason", "skip_reason", "exception", "warnings", "deprecations", "stdout", "stderr", "stdout_lines"),
    *("stderr_lines", "module_stdout", "module_stderr", "diff", "cmd"),
    # Ours: a task that failed is printed with them, and roles and playbooks make messages of them.
    *("error", "errors", "differs", "differences", "refused_answers", "failed_vms", "consistency", "repaired"),
)
# Ansible takes these out of an answer, and prints a warning with what they held.
_INTERNAL = ("_ansible_", "add_host", "add_group")
# Both sides of a difference: Ansible begins each of their lines with a sign.
_SIDES = ("before", "after")
# Characters that do not print, and line ends, as they are, and as JSON writes them.
_SUSPICIOUS = re.compile(r"\\[ubfrn]|[^\x20-\x7e\t]")
# Characters of one text that are shown. Differences of files may be long.
_LONGEST = 1 << 20


def harmless_answer(result: dict[str, Any]) -> dict[str, Any]:
    """Return a module's answer, in which nothing that Ansible prints controls a terminal, or is a line like
    Ansible's."""
    # As Ansible finds out whether an answer is a failure.
    failed = result.get("failed") or result.get("unreachable") or result.get("rc") not in (None, 0, "0")
    answer: dict[str, Any] = {}
    for name, value in result.items():
        if name == "diff":
            answer[name] = _difference(value)
        elif name in _PRINTED:
            answer[name] = _harmless(value)
        elif name.startswith(_INTERNAL):
            answer[printable(name, ONE_LINE)] = _harmless(value, ONE_LINE)
        elif failed:
            # Lines of these stay within their JSON or YAML, and roles may still hand them on.
            answer[printable(name, ONE_LINE)] = _harmless(value, LINES)
        else:
            answer[name] = value
    return answer


def harmless_output(text: str) -> str:
    """Return what a module printed, in which nothing that Ansible prints of it controls a terminal, or is a line like
    Ansible's."""
    if not _SUSPICIOUS.search(text.strip()) and text.startswith("{"):
        return text
    try:
        answer = json.loads(_filter_non_json_lines(text, objects_only=True)[0])
    except (ValueError, RecursionError):
        # It is no answer, and Ansible shows all of it.
        return harmless(text, _LONGEST)
    return json.dumps(harmless_answer(answer)) if isinstance(answer, dict) else harmless(text, _LONGEST)


def message(sentences: Iterable[Any], heading: str = "") -> str:
    """Return a message of what others said, each sentence an item of a list where there are several, or a heading."""
    texts = [printable(str(each)) for each in sentences]
    if not heading and len(texts) < 2:
        return "".join(texts)
    return "\n".join([*([printable(heading)] if heading else []), *(f"- {text}" for text in texts)])


def _harmless(value: Any, line_end: str = BLOCK) -> Any:
    if isinstance(value, str):
        return harmless(value, _LONGEST, line_end)
    if isinstance(value, dict):
        return {_harmless(key, line_end): _harmless(each, line_end) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_harmless(each, line_end) for each in value]
    return value


def _difference(value: Any) -> Any:
    if isinstance(value, list):
        return [_difference(each) for each in value]
    if isinstance(value, dict):
        return {_harmless(name): _harmless(each, LINES if name in _SIDES else BLOCK) for name, each in value.items()}
    return _harmless(value)
