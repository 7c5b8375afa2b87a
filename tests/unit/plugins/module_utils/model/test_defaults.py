# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each default is written once in Python; what is YAML says the same: roles, and the documentation.

A value of YAML that is in no table here, and looks like one of these, is found too: a new one needs its line."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.nebula.provision.plugins.module_utils.model import defaults, hypervisor_rules
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.demands import demands
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Graphics, Os
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

ROOT = Path(__file__).resolve().parents[5]
SOURCE = ROOT / "plugins/module_utils/model/defaults.py"

# A role's variable → the name of its default.
VARIABLES = {
    "nebula_awx_timeout": "AWX_PROJECT_SECONDS",
    "nebula_cpu_overcommit": "CPU_OVERCOMMIT",
    "nebula_destroy_limit": "DESTROY_LIMIT",
    "nebula_hypervisor": "HYPERVISOR",
    "nebula_image_check_timeout": "IMAGE_CHECK_SECONDS",
    "nebula_image_max_size": "IMAGE_MAX_SIZE",
    "nebula_image_min_speed": "DOWNLOAD_MIN_KIB_PER_SECOND",
    "nebula_image_timeout": "DOWNLOAD_STALL_SECONDS",
    "nebula_image_wait_timeout": "IMAGE_WAIT_SECONDS",
    "nebula_machine_backup_at_once": "BACKUPS_AT_ONCE",
    "nebula_machine_backup_directory": "MACHINE_BACKUPS",
    "nebula_machine_backup_keep": "KEPT_MACHINE_BACKUPS",
    "nebula_memory_overcommit": "MEMORY_OVERCOMMIT",
    "nebula_package_cache_seconds": "PACKAGE_CACHE_SECONDS",
    "nebula_reserved_memory": "RESERVED_MEMORY",
    "nebula_root": "ROOT",
    "nebula_detach_timeout": "DETACH_SECONDS",
    "nebula_hotplug_slots": "HOTPLUG_SLOTS",
    "nebula_move_timeout": "MOVE_SECONDS",
    "nebula_verify_timeout": "VERIFY_SECONDS",
}
# An option of a module, or of a fragment of documentation that modules share → likewise.
OPTIONS = {
    "nebula_backup.directory": "BACKUPS",
    "nebula_backup.keep": "KEPT_BACKUPS",
    "nebula_deploy.hypervisor": "HYPERVISOR",
    "nebula_host.hypervisor": "HYPERVISOR",
    "nebula_image.max_size": "IMAGE_MAX_SIZE",
    "nebula_image.min_speed": "DOWNLOAD_MIN_KIB_PER_SECOND",
    "nebula_image.timeout": "DOWNLOAD_STALL_SECONDS",
    "nebula_image.wait_timeout": "IMAGE_WAIT_SECONDS",
    "nebula_image_prepare.wait_timeout": "PREPARE_WAIT_SECONDS",
    "nebula_install_wait.hypervisor": "HYPERVISOR",
    "nebula_machine_backup.at_once": "BACKUPS_AT_ONCE",
    "nebula_machine_backup.directory": "MACHINE_BACKUPS",
    "nebula_machine_backup.hypervisor": "HYPERVISOR",
    "nebula_machine_restore.hypervisor": "HYPERVISOR",
    "nebula_node.hypervisor": "HYPERVISOR",
    "nebula_packages.cache_seconds": "PACKAGE_CACHE_SECONDS",
    "nebula_restore.directory": "BACKUPS",
    "nebula_verify.timeout": "VERIFY_SECONDS",
    "nebula_vm.move_timeout": "MOVE_SECONDS",
    "nebula_vm.destroy_limit": "DESTROY_LIMIT",
    "nebula_vm.min_speed": "DOWNLOAD_MIN_KIB_PER_SECOND",
    "nebula_vm.shutdown_timeout": "SHUTDOWN_SECONDS",
    "nebula_deploy.detach_timeout": "DETACH_SECONDS",
    "nebula_vm.timeout": "DOWNLOAD_STALL_SECONDS",
    "engine.root": "ROOT",
    "guest.answer_timeout": "GUEST_ANSWER_SECONDS",
    "guest.max_fetch": "GUEST_MAX_FETCH",
}
OF_CONNECTIONS = {option: name for option, name in OPTIONS.items() if option.startswith("guest.")}
# Words by which a value of YAML is known to be one that belongs into defaults.py.
LOOKS_LIKE_ONE = re.compile(
    r"(timeout|seconds|_size|speed|overcommit|reserved_memory|hypervisor|destroy_limit|^nebula_root)$"
)


def of_roles() -> Iterator[tuple[str, str, Any]]:
    """(where, variable, value) of defaults/main.yml and of the options of meta/argument_specs.yml."""
    for role in sorted((ROOT / "roles").iterdir()):
        path = role / "defaults/main.yml"
        if path.is_file():
            for name, value in (yaml.safe_load(path.read_text()) or {}).items():
                yield str(path.relative_to(ROOT)), name, value
        path = role / "meta/argument_specs.yml"
        for entry in yaml.safe_load(path.read_text())["argument_specs"].values():
            for name, option in (entry.get("options") or {}).items():
                if "default" in option:
                    yield str(path.relative_to(ROOT)), name, option["default"]


def of_variables_md() -> Iterator[tuple[str, str, Any]]:
    """The rows of docs/variables.md that are variables of roles and have a default."""
    for line in (ROOT / "docs/variables.md").read_text().splitlines():
        row = re.match(r"\| `(nebula_\w+)` \| ([^|]*) \| `([^`]*)` \|", line)
        if row and row[1] in VARIABLES:
            yield "docs/variables.md", row[1], row[3] if row[2] == "str" else yaml.safe_load(row[3])


def texts(path: Path) -> Iterator[str]:
    """The pieces of YAML in a module or a fragment."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            name = getattr(node.targets[0], "id", "")
            if name not in ("EXAMPLES", "RETURN") and "options:" in str(node.value.value):
                yield str(node.value.value)


def of_modules() -> Iterator[tuple[str, str, Any]]:
    """(where, module.option, value) of the documentation of modules, of fragments and of connection plugins."""
    for path in sorted(
        path for kind in ("modules", "doc_fragments", "connection") for path in ROOT.glob(f"plugins/{kind}/*.py")
    ):
        for text in texts(path):
            for name, option in (yaml.safe_load(text).get("options") or {}).items():
                if "default" in option:
                    yield str(path.relative_to(ROOT)), f"{path.stem}.{name}", option["default"]


def wrong(found: Iterator[tuple[str, str, Any]], table: dict[str, str]) -> list[str]:
    """What differs; values are compared with their types: 1 is neither true nor "1"."""
    complaints = []
    for where, name, value in found:
        constant = table.get(name)
        if constant is None:
            if LOOKS_LIKE_ONE.search(name) and value not in ("", 0, None):
                complaints.append(f"{where}: {name} has default {value!r}, which is in no line of model/defaults.py")
        elif repr(value) != repr(getattr(defaults, constant)):
            complaints.append(f"{where}: {name} is {value!r}, and {constant} is {getattr(defaults, constant)!r}")
    return complaints


def test_roles_have_the_defaults_of_the_product() -> None:
    assert wrong(of_roles(), VARIABLES) == []


def test_the_page_of_variables_has_them() -> None:
    found = list(of_variables_md())
    assert {name for _where, name, _value in found} & set(VARIABLES)
    assert wrong(iter(found), VARIABLES) == []


def test_the_documentation_of_modules_has_them() -> None:
    assert wrong(of_modules(), OPTIONS) == []


def test_every_option_of_the_table_is_there() -> None:
    assert set(OPTIONS) - {name for _where, name, _value in of_modules()} == set()


def test_what_differs_is_named() -> None:
    found = [
        ("here", "nebula_root", "/srv"),
        ("there", "nebula_new_timeout", 7),
        ("there", "nebula_reserved_memory", 512),
    ]
    assert wrong(iter(found), VARIABLES) == [
        "here: nebula_root is '/srv', and ROOT is '/var/lib/nebula'",
        "there: nebula_new_timeout has default 7, which is in no line of model/defaults.py",
    ]


def names() -> list[str]:
    return [name for name in vars(defaults) if name.isupper()]


@pytest.mark.parametrize("name", names())
def test_each_is_used_and_has_a_source(name: str) -> None:
    used = any(f"defaults.{name}" in path.read_text() for path in (ROOT / "plugins").rglob("*.py"))
    assert used or name in {*VARIABLES.values(), *OF_CONNECTIONS.values()}
    above = SOURCE.read_text().split(f"\n{name} = ")[0].rsplit("\n\n", 1)[-1]
    assert "# " in above, f"{name}: a comment says where it is from"


def test_a_machine_has_them() -> None:
    assert (hypervisor_rules.rules_of(defaults.HYPERVISOR).machine, hypervisor_rules.rules_of("xen").driver) == (
        "q35",
        "raw",
    )
    assert (Os().arch, Graphics().listen, Graphics().type) == ("x86_64", "127.0.0.1", "vnc")
    assert demands(parse("MEMORY = 1")).cpu == 1


@pytest.mark.parametrize("option", [name for name in sorted(OPTIONS) if name.startswith("nebula_")])
def test_no_module_says_one_in_figures(option: str) -> None:
    """An argument_spec reads its default from here."""
    module, name = option.split(".")
    source = Path(importlib.util.find_spec(f"ansible_collections.nebula.provision.plugins.modules.{module}").origin)
    code = re.sub(r'"""[\s\S]*?"""', "", source.read_text())
    for written in re.findall(rf'"?\b{name}\b"?\s*[:=]\s*\{{[^}}]*"default":\s*([^,}}]+)', code):
        assert written.startswith("defaults."), f"{module}: {name} has default {written}"
