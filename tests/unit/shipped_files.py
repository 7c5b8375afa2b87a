# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files of ours Ansible ships with a module: those that import statements name, wherever they stand."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
MODULE_UTILS = PurePosixPath("plugins/module_utils")
PACKAGE = "ansible_collections.nebula.provision."
CALLS = sorted(path.stem for path in (ROOT / MODULE_UTILS / "calls").glob("[!_]*.py"))


@functools.cache
def shipped_with(name: str) -> frozenset[PurePosixPath]:
    """The files that come with one of module_utils, which is named without its ending; with the file itself."""
    found: set[PurePosixPath] = set()
    left = [MODULE_UTILS / f"{name}.py"]
    while left:
        path = left.pop()
        if path not in found:
            found.add(path)
            left += imported_files(path)
    return frozenset(found)


@functools.cache
def imported_files(path: PurePosixPath) -> frozenset[PurePosixPath]:
    return frozenset(_imported(path, ast.parse((ROOT / path).read_text(encoding="utf-8"))))


def _imported(path: PurePosixPath, tree: ast.AST) -> Iterator[PurePosixPath]:
    package = list(path.parent.parts)
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        base = package[: len(package) - node.level + 1] if node.level else []
        base += (node.module or "").removeprefix(PACKAGE).split(".") if node.module else []
        for alias in node.names:
            for parts in ([*base, alias.name], base):
                file = PurePosixPath(*parts).with_suffix(".py") if parts else PurePosixPath("none")
                if file.is_relative_to(MODULE_UTILS) and (ROOT / file).is_file():
                    yield file
                    break
