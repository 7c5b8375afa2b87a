# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests that what integration tests set in place of a function of ours can be called as the product calls it. They run
seldom, and would notice a new parameter late."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from inspect import Parameter, Signature
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
TESTS = sorted((ROOT / "tests/integration").rglob("*.py"))
PRODUCT = sorted((ROOT / "plugins").rglob("*.py"))


class Call(NamedTuple):
    place: str
    positional: int
    named: list[str]


class StandIn(NamedTuple):
    place: str
    stands_for: tuple[str, str]
    signature: Signature

    def takes(self, call: Call) -> bool:
        try:
            self.signature.bind(*range(call.positional), **dict.fromkeys(call.named))
        except TypeError:
            return False
        return True


def signature(arguments: ast.arguments) -> Signature:
    """Return what a function can be called with, as far as numbers and names of arguments go."""
    plain = [*arguments.posonlyargs, *arguments.args]
    needed = len(plain) - len(arguments.defaults)
    made = []
    for number, each in enumerate(plain):
        kind = Parameter.POSITIONAL_ONLY if each in arguments.posonlyargs else Parameter.POSITIONAL_OR_KEYWORD
        made.append(Parameter(each.arg, kind, default=Parameter.empty if number < needed else None))
    if arguments.vararg is not None:
        made.append(Parameter(arguments.vararg.arg, Parameter.VAR_POSITIONAL))
    for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults):
        made.append(Parameter(each.arg, Parameter.KEYWORD_ONLY, default=Parameter.empty if default is None else None))
    if arguments.kwarg is not None:
        made.append(Parameter(arguments.kwarg.arg, Parameter.VAR_KEYWORD))
    return Signature(made)


def calls(paths: list[Path]) -> dict[tuple[str, str], list[Call]]:
    """Return the calls by the function's module, which is known by its file's name, and by its name."""
    found = defaultdict(list)
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or _leaves_open(node):
                continue
            call = Call(f"{path.name}:{node.lineno}", len(node.args), [str(each.arg) for each in node.keywords])
            if isinstance(node.func, ast.Name):
                found[(path.stem, node.func.id)].append(call)
            elif isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
                found[(node.func.value.id, node.func.attr)].append(call)
    return found


def _leaves_open(call: ast.Call) -> bool:
    return any(isinstance(each, ast.Starred) for each in call.args) or any(each.arg is None for each in call.keywords)


def stand_ins(path: Path) -> Iterator[StandIn]:
    """Yield what a file sets in place of a module's function, by assignment or by monkeypatch."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for scope in [tree, *(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))]:
        within = {node.name: node.args for node in ast.walk(scope) if isinstance(node, ast.FunctionDef)}
        for node in ast.walk(scope):
            for target, value in _set(node):
                if isinstance(value, ast.Lambda):
                    arguments = value.args
                elif isinstance(value, ast.Name) and value.id in within:
                    arguments = within[value.id]
                else:
                    continue
                yield StandIn(f"{path.name}:{node.lineno}", target, signature(arguments))  # type: ignore[attr-defined]


def _set(node: ast.AST) -> Iterator[tuple[tuple[str, str], ast.expr]]:
    """Yield module and name of what a statement sets, and what it sets it to."""
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
        yield (_last(node.targets[0].value), node.targets[0].attr), node.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setattr":
        if len(node.args) == 3 and isinstance(node.args[1], ast.Constant):
            yield (_last(node.args[0]), str(node.args[1].value)), node.args[2]
        elif len(node.args) == 2 and isinstance(node.args[0], ast.Constant):
            module, _point, name = str(node.args[0].value).rpartition(".")
            yield (module.rpartition(".")[2], name), node.args[1]


def _last(of: ast.expr) -> str:
    """Return the last part of a name with points."""
    return of.attr if isinstance(of, ast.Attribute) else of.id if isinstance(of, ast.Name) else ""


CALLS = calls(PRODUCT)
OURS = {path.stem for path in PRODUCT}


def test_stand_ins_take_what_the_product_gives() -> None:
    wrong = {
        f"{each.place} stands for {'.'.join(each.stands_for)} and doesn't take what {call.place} gives"
        for path in TESTS
        for each in stand_ins(path)
        for call in CALLS.get(each.stands_for, [])
        if each.stands_for[0] in OURS and not each.takes(call)
    }
    assert sorted(wrong) == []


@pytest.mark.parametrize(
    ("stand_in", "call", "is_wrong"),
    [
        ("def make(*given): pass\nplace.disks.make = make", "disks.make(1, key=2)", True),
        ("def make(*given, **named): pass\nplace.disks.make = make", "disks.make(1, key=2)", False),
        ("def make(one): pass\nmonkeypatch.setattr(disks, 'make', make)", "disks.make(1, 2)", True),
        ("monkeypatch.setattr('a.disks.make', lambda one: None)", "disks.make(1, 2)", True),
        ("monkeypatch.setattr('a.disks.make', lambda one, key=None: None)", "disks.make(1, key=2)", False),
        ("def make(one): pass\nother.make = make", "disks.make(1, 2)", False),
    ],
)
def test_what_does_not_fit_is_found(stand_in: str, call: str, is_wrong: bool, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(stand_in)
    (tmp_path / "product.py").write_text(call)
    product = calls([tmp_path / "product.py"])
    found = [each.takes(one) for each in stand_ins(tmp_path / "test_it.py") for one in product.get(each.stands_for, [])]
    assert (False in found) == is_wrong
