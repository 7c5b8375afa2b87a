# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unit tests mirror the tree: each file of the plugins has tests of its name at its place, and each test says by its
name which file it is about."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "tests/unit"
# Modules, and what they declare: test_modules.py tries what is alike in all, and what they call has tests of its own;
# test_shipped.py compares what they ship with what they use.
DECLARATIONS = ("plugins/modules", "plugins/module_utils/calls", "plugins/module_utils/engines/shipped")
NAMES_WHAT_IS_SHIPPED = ("plugins/module_utils/hypervisors/shipped_with_plans.py",)
# What Ansible's documentation takes in: text, which `make docs` reads. And tables that are made from YAML, which
# test_specifications.py compares with that.
TEXT_ONLY = ("plugins/doc_fragments", "plugins/module_utils/model/specifications")


def sources() -> list[Path]:
    """Files of the plugins, from the root of the checkout."""
    found = (path.relative_to(ROOT) for path in (ROOT / "plugins").rglob("*.py") if path.name != "__init__.py")
    return sorted(path for path in found if str(path.parent) not in TEXT_ONLY)


def is_bare(path: Path) -> bool:
    """Whether a file has nothing but imports and classes without a line of their own, as action plugins that only
    call their module."""
    statements = ast.parse(path.read_text(encoding="utf-8")).body
    classes = [statement for statement in statements if isinstance(statement, ast.ClassDef)]
    others = [statement for statement in statements if not isinstance(statement, (ast.ClassDef, ast.ImportFrom))]
    return bool(classes) and not others and all(len(one.body) == 1 and ast.get_docstring(one) for one in classes)


def about(source: Path) -> list[Path]:
    """Return the tests that may be about a file."""
    return [test for test in (UNIT / source.parent).glob("test_*.py") if is_about(test, source)]


def is_about(test: Path, source: Path) -> bool:
    """test_NAME.py, or test_NAME_ASPECT.py where one file is too little."""
    return test.stem == f"test_{source.stem}" or test.stem.startswith(f"test_{source.stem}_")


def test_every_file_has_tests_of_its_name() -> None:
    known = (source for source in sources() if str(source) not in NAMES_WHAT_IS_SHIPPED)
    own = (source for source in known if str(source.parent) not in DECLARATIONS and not is_bare(ROOT / source))
    assert [str(source) for source in own if not about(source)] == []


def test_every_test_is_named_after_a_file() -> None:
    known = sources()
    tests = (path.relative_to(UNIT) for path in (UNIT / "plugins").rglob("test_*.py"))
    astray = [
        str(test)
        for test in tests
        if not any(source.parent == test.parent and is_about(test, source) for source in known)
    ]
    assert astray == []
