# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible ships with a module is all that the module may come to use of an engine, and no more. Ansible follows
import statements; the engine imports its ports by name."""

from __future__ import annotations

import ast
import re
from pathlib import PurePosixPath

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.base import PORTS
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded import engine as embedded
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.vms.vms_port import Vms
from ansible_collections.nebula.provision.tests.unit.shipped_files import CALLS, ROOT, imported_files, shipped_with

ENGINES = PurePosixPath("plugins/module_utils/engines")
SHIPPED = ENGINES / "shipped"
# Verbs of the engine itself that have a file of their own.
PARTS = {**dict.fromkeys(("ledger", "repair"), "catalog_checks"), **{port: port for port in PORTS}}
# Verbs that need another part, too: decisions about machines are shipped by themselves, and machines go with their
# host.
DECISIONS = [verb for verb, done in vars(Vms).items() if getattr(done, "__name__", "") == "decide"]
OF_OTHERS = {
    **{("vms", verb): {"vm_decisions"} for verb in DECISIONS},
    **{("hosts", verb): {"vms"} for verb in ("forget", "gone")},
}
# They take results of other modules, in check mode, and put them into the catalog for a while.
TAKE_ANYTHING_DECLARED = {"vm", "vm_round"}


def parts_used(path: PurePosixPath) -> set[str]:
    """The parts of an engine that a file asks for, as `engine.images`."""
    used = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Attribute):
            continue
        if isinstance(node.value, ast.Name) and node.value.id == "engine" and node.attr in PARTS:
            used.add(PARTS[node.attr])
        elif isinstance(node.value, ast.Attribute) and ast.unparse(node.value.value) == "engine":
            used |= OF_OTHERS.get((node.value.attr, node.attr), set())
    return used


def parts_shipped(call: str) -> set[str]:
    return {path.stem for path in shipped_with(f"calls/{call}") if path.parent == SHIPPED} - {"__init__"}


@pytest.mark.parametrize("call", CALLS)
def test_a_module_ships_the_parts_of_an_engine_that_it_uses(call: str) -> None:
    used = {part for path in shipped_with(f"calls/{call}") if SHIPPED not in path.parents for part in parts_used(path)}
    if call in TAKE_ANYTHING_DECLARED:
        used |= set(embedded._DECLARED)
    assert parts_shipped(call) == used


@pytest.mark.parametrize("kind", PORTS)
def test_the_file_of_a_port_is_the_one_that_is_shipped(kind: str) -> None:
    file, _name = embedded._PORTS[kind]
    path = ENGINES / "embedded" / (file.replace(".", "/") + ".py")
    assert path in imported_files(SHIPPED / f"{kind}.py")


def test_what_the_engine_imports_by_name_comes_with_what_asks_for_it() -> None:
    assert ENGINES / "embedded/ledger.py" in imported_files(SHIPPED / "catalog_checks.py")
    # Machines have contexts, and these name files.
    files = PurePosixPath("plugins/module_utils/context/files_on_frontend.py")
    assert files in shipped_with("engines/shipped/vms")


def test_what_drivers_import_by_name_comes_with_modules_that_make_machines() -> None:
    drivers = sorted((ROOT / "plugins/module_utils/hypervisors").rglob("*.py"))
    named = {name for path in drivers for name in re.findall(r'file_named\("([\w.]+)"\)', path.read_text("utf-8"))}
    files = {PurePosixPath("plugins/module_utils", *name.split(".")).with_suffix(".py") for name in named}
    assert files == imported_files(PurePosixPath("plugins/module_utils/hypervisors/shipped_with_plans.py"))
    for call in ("deploy", "node"):
        assert files <= shipped_with(f"calls/{call}")
    for call in ("install_wait", "verify"):
        assert not files & shipped_with(f"calls/{call}")


def test_nothing_else_ships_a_part_of_an_engine() -> None:
    """Otherwise all modules would have it."""
    shared = shipped_with("object_lists") | shipped_with("engines/registry")
    assert not {path for path in shared if path.is_relative_to(ENGINES / "embedded")} - {
        ENGINES / "embedded/__init__.py",
        *(ENGINES / "embedded" / f"{name}.py" for name in ("engine", "store", "schema")),
    }


def test_a_part_that_is_missing_is_seen(tmp_path) -> None:
    asks = ("repair()", "vms.plans([])", "hosts.forget('node1')", "images.pool()")
    file = tmp_path / "reading.py"
    file.write_text("\n".join(f"engine.{each}" for each in asks), encoding="utf-8")
    assert parts_used(file) == {"catalog_checks", "hosts", "images", "vm_decisions", "vms"}
