# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What guests wrote is searched in a time that grows as its length does: consoles, logs, answers of agents, files of
images. Each regular expression of the files that see such text is tried on texts made from its own parts, again and
again; eight times the text may take eight times as long, and not sixty-four."""

from __future__ import annotations

import ast
import itertools
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

try:
    from re import _parser as sre_parse  # type: ignore[attr-defined]
except ImportError:
    import sre_parse

UTILS = Path(__file__).resolve().parents[2] / "plugins" / "module_utils"
SEE_GUESTS = (
    "host/console/console_log.py", "host/console/expected_guest.py", "host/console/console_evidence.py",
    "host/console/guest_wait.py",
    "install/watch_machines.py", "guest_disk/checks/linux_files.py", "guest_disk/checks/linux_points.py",
    "guest_disk/checks/windows_points.py", "guest_disk/checks/live_points.py", "guest_disk/repair/repair_steps.py",
    "guest_disk/checks/image_facts.py", "guest_disk/inspect/windows_registry.py", "guest_disk/inspect/inspection.py",
    "guest_disk/inspect/initrd.py", "guest_disk/repair/preparation.py", "guest_disk/inspect/root_file_system.py",
    "guest_disk/open/guestfish.py", "guest_disk/open/kernel_mount.py", "guest_disk/customize/context_program.py",
    "hypervisors/xen/xl_logs.py", "hypervisors/libvirt/qemu_logs.py", "hypervisors/xen/xl.py",
    "hypervisors/libvirt/quiesce.py", "errors.py",
)  # fmt: skip
TINY, SHORT, LONG = 128, 1024, 16 * 1024
ATTACKS = 120
# Seconds of processor time below which nothing is concluded about how it grows.
NOTICED = 0.006
# What is linear takes 16 times as long for the long text as for the short one, what is quadratic 256 times.
MOST, QUADRATIC = 64.0, (LONG / SHORT) ** 2
# What is never so long.
BOUNDED = {
    r"^(?P<title>": "lines of an installer of at most SHOWN_LENGTH characters",
    r"(\*|\[!?": "patterns of our own, for names of files",
    r"(?P<name>": "lines of `xl list`, whose names are the host's own",
}
FLAGS = {"MULTILINE": re.M, "M": re.M, "IGNORECASE": re.I, "I": re.I, "DOTALL": re.S, "S": re.S, "VERBOSE": re.X}
WHOLE = {"fullmatch", "match"}


def _flags(node: ast.AST) -> int:
    return sum({FLAGS[each.attr] for each in ast.walk(node) if isinstance(each, ast.Attribute) and each.attr in FLAGS})


def _text(node: ast.AST) -> Any:
    """The pattern, with a letter for what is put into it; None if it is not written there."""
    if isinstance(node, ast.JoinedStr):
        return "".join(each.value if isinstance(each, ast.Constant) else "a" for each in node.values)  # type: ignore[misc]
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)) else None


def expressions(source: str) -> Iterator[tuple[int, re.Pattern[Any], bool]]:
    """(line, expression, whether it is only tried at the beginning of a text)."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        called = node.func if isinstance(node, ast.Call) else None
        if not (isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id == "re"):
            continue
        text = _text(node.args[0]) if node.args else None
        if text is None or called.attr not in {"compile", "search", "match", "fullmatch", "findall", "sub", "split"}:
            continue
        try:
            yield node.lineno, re.compile(text, _flags(node)), called.attr in WHOLE
        except re.error:
            continue


def _sample(kind: Any, value: Any) -> str:
    """A character, or some, that a part of an expression takes."""
    name = str(kind)
    if name == "LITERAL":
        return chr(value)
    if name in ("NOT_LITERAL", "ANY"):
        return "a"
    if name == "CATEGORY":
        return {"SPACE": " ", "DIGIT": "0"}.get(str(value).rpartition("_")[2], "a") if "NOT" not in str(value) else "a"
    if name == "RANGE":
        return chr(value[0])
    if name == "IN":
        return "a" if value and str(value[0][0]) == "NEGATE" else _sample(*value[0])
    return ""


def parts(pattern: Any) -> Iterator[list[str]]:
    """Characters that each way through an expression takes, in their order: of all branches, with each repeated part
    once."""
    ways: list[list[str]] = [[]]
    for kind, value in pattern:
        name = str(kind)
        if name == "BRANCH":
            inner = [way for branch in value[1] for way in parts(branch)]
        elif name == "SUBPATTERN":
            inner = list(parts(value[3]))
        elif name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            inner = list(parts(value[2]))
        elif name in ("AT", "ASSERT", "ASSERT_NOT", "GROUPREF"):
            continue
        else:
            inner = [[_sample(kind, value)]]
        ways = [way + more for way in ways[:4] for more in inner[:6]]
    yield from ways


def attacks(expression: re.Pattern[Any], length: int) -> Iterator[str]:
    text = expression.pattern if isinstance(expression.pattern, str) else expression.pattern.decode("latin-1")
    flags = expression.flags & ~re.UNICODE
    seen: set[str] = set()
    for way in parts(sre_parse.parse(text, flags)):
        for place in range(len(way) + 1):
            begun = "".join(way[:place])
            # In one order, whatever the hash seed is: only the first ones are tried.
            repeated = (*way[max(place - 1, 0) : place + 1], begun, "".join(way), begun + "\n", " ", "\n", "\n ", "a")
            for again in dict.fromkeys(repeated):
                for text in (begun + again * (length // max(len(again), 1)), "\n" + begun + again * 40):
                    attack = (text * (length // max(len(text), 1) + 1))[:length] + "\x01"
                    if attack not in seen:
                        seen.add(attack)
                        yield attack


def took(expression: re.Pattern[Any], text: str, whole: bool) -> float:
    data: Any = text if isinstance(expression.pattern, str) else text.encode("latin-1")
    began = time.thread_time()
    if whole:
        expression.match(data)
    else:
        for _found in zip(range(len(text)), expression.finditer(data)):
            pass
    return time.thread_time() - began


def worst(expression: re.Pattern[Any], whole: bool = False) -> str:
    """A text by which the time grows faster than it does, "" if none is found."""
    for tiny, short, long in itertools.islice(zip(*(attacks(expression, n) for n in (TINY, SHORT, LONG))), ATTACKS):
        # What is slow already when it is short is not tried longer: that may take for ever.
        if (
            took(expression, tiny, whole) > NOTICED
            and min(took(expression, tiny, whole) for _time in range(3)) > NOTICED
        ):
            return tiny
        # A quadratic expression that is noticed with the long text takes at least this with the short one.
        if took(expression, short, whole) < NOTICED / QUADRATIC:
            continue
        if took(expression, long, whole) > NOTICED and grows(expression, short, long, whole):
            return short
    return ""


def grows(expression: re.Pattern[Any], short: str, long: str, whole: bool) -> bool:
    """The best of some times, as this machine may do something else meanwhile."""
    before = min(took(expression, short, whole) for _time in range(3))
    return min(took(expression, long, whole) for _time in range(2)) > MOST * before


CASES = [
    pytest.param(expression, whole, id=f"{name}:{line}")
    for name in SEE_GUESTS
    for line, expression, whole in expressions((UTILS / name).read_text(encoding="utf-8"))
    if not str(expression.pattern).startswith(tuple(BOUNDED))
]


@pytest.mark.parametrize(("expression", "whole"), CASES)
def test_what_guests_wrote_is_searched_in_time(expression, whole):
    found = worst(expression, whole)
    assert not found, f"{expression.pattern!r} takes the square of the length of {found[:60]!r}…"


@pytest.mark.parametrize("text", [r"ci-info: \|(.*)\|\s*$", r"(?m)^\s*append\s+(.*)$", r"[^\s].*?\s+\.\.\."])
def test_the_search_finds_what_takes_too_long(text):
    # What else the machine does may hide it once.
    assert any(worst(re.compile(text)) for _attempt in range(5))


@pytest.mark.parametrize("text", [r"^[ \t]*append[ \t]+", r"\d{1,4}", r"a[^\n]*$", r"DataSource\w+"])
def test_the_search_leaves_what_is_fast_alone(text):
    assert not worst(re.compile(text, re.MULTILINE))
