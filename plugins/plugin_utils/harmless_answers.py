# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes harmless what an answer has Ansible print. Its words may be those of guests, of hosts and of strangers' files,
and a host that was taken over answers what it likes: all that Ansible prints of it is made printable first. The data of
an answer stays as it is, unless the answer is a failure: Ansible prints all of a failure.

What an answer has Ansible do is looked at here as well: its signs are true or false, and it is no deeper than Ansible
can read."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable
from typing import Any

from ansible.module_utils.json_utils import _filter_non_json_lines
from ansible.utils.display import Display

from ansible_collections.nebula.provision.plugins.module_utils.errors import harmless
from ansible_collections.nebula.provision.plugins.module_utils.printable import BLOCK, LINES, ONE_LINE, printable

# Parts of an answer that Ansible prints as they are, in one version of it or another.
_PRINTED = (
    *("msg", "reason", "skip_reason", "exception", "warnings", "deprecations", "stdout", "stderr", "stdout_lines"),
    *("stderr_lines", "module_stdout", "module_stderr", "diff", "cmd"),
    # Ours: a task that failed is printed with them, and roles and playbooks make messages of them.
    *(
        "error",
        "errors",
        "differs",
        "differences",
        "refused_answers",
        "failed_vms",
        "unfinished_vms",
        "consistency",
        "repaired",
    ),
)
# Ansible takes these out of an answer, and prints a warning with what they held.
_INTERNAL = ("_ansible_", "add_host", "add_group")
# Both sides of a difference: Ansible begins each of their lines with a sign.
_SIDES = ("before", "after")
# What Ansible goes by, and of what kind it is. Before 2.19 Ansible's main process, and with it the whole run,
# ends by some other kinds.
_SIGNS = {
    **dict.fromkeys(("changed", "failed", "skipped", "unreachable"), bool),
    **dict.fromkeys(("stdout", "stderr"), str),
    **dict.fromkeys(("warnings", "deprecations"), list),
    "rc": int,
    "ansible_facts": dict,
}
# What Ansible itself adds to an answer for the loop and the conditions of its task, and takes for its own.
OF_THE_TASK = frozenset(
    {
        *("results", "ansible_module_results", "failed_when_result", "failed_when_suppressed_exception", "item"),
        *("ansible_loop", "ansible_loop_var", "ansible_index_var", "attempts", "retries", "include", "include_args"),
    }
)
# Lists and objects within each other. Our own answers have ten; Ansible before 2.19 reads a hundred.
DEEPEST = 50
# Characters that do not print, and line ends, as they are, and as JSON writes them.
_SUSPICIOUS = re.compile(r"\\[ubfrn]|[^\x20-\x7e\t]")
# Characters of one text that are shown. Differences of files may be long.
_LONGEST = 1 << 20


def harmless_answer(result: dict[str, Any]) -> dict[str, Any]:
    """Return a module's answer, of which Ansible prints nothing that controls a terminal or looks like its own line."""
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


def harmless_output(text: str, asked: str = "") -> str:
    """Return what a module printed, in which nothing that Ansible prints of it controls a terminal, or looks like a
    line of Ansible's, and each value that decides what Ansible does is of its type.
    asked: the host and what it was asked, for the beginning of messages."""
    try:
        answer, exact = _read(text)
    except RecursionError:
        return _no_answer(asked, f"is deeper than {DEEPEST} lists and objects within each other")
    if answer is None:
        # It is none, and Ansible shows all of it. What is left of a long text may be one where the whole was not.
        shown = harmless(text, _LONGEST)
        return harmless_output(shown, asked) if shown != text and _may_be_read(shown) else shown
    if is_deep(answer):
        return _no_answer(asked, f"is deeper than {DEEPEST} lists and objects within each other")
    odd = [name for name, kind in _SIGNS.items() if name in answer and not _has_type(kind, answer[name])]
    if odd:
        return _no_answer(asked, f"has in {', '.join(odd)} what no module says there")
    removed = sorted(OF_THE_TASK & {*answer})
    if removed:
        warning = f"{asked} had {', '.join(removed)}, which only Ansible itself adds. It was not taken"
        Display().warning(printable(f"{warning}. {_SEE}", ONE_LINE))
        answer = {name: value for name, value in answer.items() if name not in OF_THE_TASK}
    elif exact and not _SUSPICIOUS.search(text.strip()):
        return text
    return json.dumps(harmless_answer(answer))


_SEE = "See what answers in the module's place on this host"


def _no_answer(asked: str, what: str) -> str:
    """Return the answer that replaces an unusable answer."""
    return json.dumps({"failed": True, "changed": False, "msg": printable(f"{asked} {what}. It was not taken. {_SEE}")})


def _read(text: str) -> tuple[dict[str, Any] | None, bool]:
    """Return the answer that Ansible would read in what a module printed, and whether the text holds nothing else."""
    exact = text.startswith("{")
    if exact:
        with contextlib.suppress(ValueError):
            return json.loads(text), True
    try:
        answer = json.loads(_filter_non_json_lines(text, objects_only=True)[0])
    except ValueError:
        return None, False
    return answer if isinstance(answer, dict) else None, False


def _may_be_read(text: str) -> bool:
    try:
        return _read(text)[0] is not None
    except RecursionError:
        return True


def _has_type(kind: type, value: Any) -> bool:
    """Return whether a value is of that kind. A truth value, which is a number in Python, is no number here."""
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def is_deep(answer: dict[str, Any]) -> bool:
    """Return whether an answer has more lists and objects within each other than DEEPEST."""
    level: list[Any] = [answer]
    for _depth in range(DEEPEST):
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


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
