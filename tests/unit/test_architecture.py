# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of docs/architecture.md and CONTRIBUTING.md that a program can check.

A rule is a function (path of a file below the root, its syntax tree) → complaints. Each is tried on bad samples too,
so that none passes by being blind."""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = PurePosixPath("plugins")
MODULE_UTILS = PLUGINS / "module_utils"
PACKAGE = "ansible_collections.nebula.provision."

# --- layers ----------------------------------------------------------------------------------------------------------

# From left to right in docs/architecture.md: a part imports from its own layer and those before it.
LAYERS = [
    ("printable", "errors", "deps", "compiled", "dataclass", "imported_by_name"),
    (
        "model",
        "hypervisors/declarations",
        "hypervisors/FOLDER/declaration",
        *(f"install/{name}" for name in ("answer_addresses", "answer_files", "answer_values", "windows_names")),
        "install/installation_end",
        "install/next_step",
        "guest_disk/checks",
        "guest_disk/repair/repair_steps",
        *(f"network/northbound/{name}" for name in ("ovsdb_tables", "desired_rows", "logical_switches", "port_groups")),
        *(f"network/northbound/{name}" for name in ("logical_routers", "render", "row_differences", "desired_checks")),
        *(f"network/northbound/{name}" for name in ("taken_by_others", "route_checks", "bridge_mappings")),
        "network/northbound/moving_ports",
    ),
    ("text",),
    ("host", "install/watch_machines"),
    ("storage", "guest_disk", "network", "context", "install/installer_iso"),
    ("engines", "hypervisors"),
    ("arguments", "sync", "runner", "object_lists"),
    ("reconcile", "install"),
    ("calls", "looking"),
]
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}
# Neighbours that must not know each other: a module joins them.
STRANGERS = {frozenset({"engines", "hypervisors"})}
PURE = {"printable", "errors", *LAYERS[1], *LAYERS[2]}
# What neither acts, nor looks at the clock, nor draws random numbers.
PURE_LIBRARY = {
    "__future__", "abc", "base64", "binascii", "bisect", "collections", "copy", "dataclasses", "decimal", "difflib",
    "enum", "functools", "hashlib", "ipaddress", "itertools", "json", "math", "numbers", "operator", "re", "shlex",
    "string", "struct", "textwrap", "types", "typing", "unicodedata", "uuid", "xml", "zlib",
}  # fmt: skip
IMPURE_CALLS = {"open", "input", "print", "uuid1", "uuid4"}
# deps respawns into an interpreter that has a library; the others are Ansible's face.
KNOW_ANSIBLE = {"deps", "arguments", "sync", "runner", "looking"}
# May be missing on a target: imported where they are used, so that the miss is one clear error.
OPTIONAL_LIBRARIES = {"libvirt", "libvirt_qemu", "libvirt_lxc", "pycdlib", "ovs"}
HYPERVISORS = {"kvm", "qemu", "xen", "openvz", "lxc"}


def part_of(path: PurePosixPath) -> str:
    """The part of the table of layers that a file below module_utils belongs to ("" for the package itself)."""
    inner = path.relative_to(MODULE_UTILS).with_suffix("")
    return "" if inner.parts[0] == "__init__" else named_part(inner.parts)


def named_part(parts: Sequence[str]) -> str:
    """The longest beginning of a path that a layer names, else its first part. What a hypervisor declares of itself is
    one part, whatever its folder is called."""
    if parts[0] == "hypervisors" and len(parts) > 2 and parts[2].endswith("_declaration"):
        return "hypervisors/FOLDER/declaration"
    beginnings = ("/".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((name for name in beginnings if name in RANK), parts[0])


def in_module_utils(path: PurePosixPath) -> bool:
    return MODULE_UTILS in path.parents


@functools.lru_cache(maxsize=1)
def nodes(tree: ast.AST) -> list[ast.AST]:
    """All of a file, which one rule after another goes through."""
    return [*ast.walk(tree)]


def imports(path: PurePosixPath, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of everything imported; ours begin with "plugins."."""
    package = list(path.parent.parts)
    for node in nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.removeprefix(PACKAGE)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base += node.module.split(".") if node.module else []
            for alias in node.names:
                yield node.lineno, ".".join([*base, alias.name]).removeprefix(PACKAGE)


def imported_part(name: str) -> str | None:
    """The part of module_utils that a dotted name leads into, None if it leads elsewhere."""
    parts = name.split(".")
    if parts[:2] != ["plugins", "module_utils"] or len(parts) == 2:
        return None
    return named_part(parts[2:])


def layers_go_left(path: PurePosixPath, tree: ast.AST) -> Iterator[str]:
    if not in_module_utils(path) or not part_of(path):
        return
    mine = part_of(path)
    if mine not in RANK:
        yield f"{mine} is in no layer: name it in docs/architecture.md and in LAYERS"
        return
    for line, name in imports(path, tree):
        if name.split(".")[0] == "plugins" and not name.startswith("plugins.module_utils"):
            yield f"line {line}: module_utils imports {name}, which is not sent to a target"
        theirs = imported_part(name)
        if theirs is None or theirs == mine:
            continue
        if theirs not in RANK:
            yield f"line {line}: {theirs} is in no layer"
        elif RANK[theirs] > RANK[mine]:
            yield f"line {line}: {mine} imports {theirs}, which is right of it"
        elif frozenset({mine, theirs}) in STRANGERS:
            yield f"line {line}: {mine} imports {theirs}; a module joins them"


def pure_layers_are_pure(path: PurePosixPath, tree: ast.AST) -> Iterator[str]:
    if not in_module_utils(path) or part_of(path) not in PURE:
        return
    for line, name in imports(path, tree):
        top = name.split(".")[0]
        if top not in PURE_LIBRARY | {"plugins"}:
            yield f"line {line}: a pure layer imports {top}"
    for node in nodes(tree):
        called = node.func if isinstance(node, ast.Call) else None
        name = called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""
        if name in IMPURE_CALLS:
            yield f"line {node.lineno}: a pure layer calls {name}"


def only_the_face_knows_ansible(path: PurePosixPath, tree: ast.AST) -> Iterator[str]:
    if not in_module_utils(path):
        return
    for line, name in imports(path, tree):
        if name.split(".")[0] == "ansible" and part_of(path) not in KNOW_ANSIBLE:
            yield f"line {line}: {name} below Ansible's face"


def targets_need_the_standard_library_only(path: PurePosixPath, tree: ast.AST) -> Iterator[str]:
    if not (in_module_utils(path) or path.parent == PLUGINS / "modules"):
        return
    functions = [node for node in nodes(tree) if isinstance(node, ast.FunctionDef)]
    late = {id(node) for function in functions for node in ast.walk(function)}
    known = set(sys.stdlib_module_names) | {"plugins", "ansible"} | OPTIONAL_LIBRARIES
    for node in nodes(tree):
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        for line, name in imports(path, ast.Module([node], [])):
            top = name.split(".")[0]
            if top not in known:
                yield f"line {line}: {top} is not on a target"
            elif top in OPTIONAL_LIBRARIES and id(node) not in late:
                yield f"line {line}: {top} may be missing; import it where it is used"


def ansible_module_only_in_modules_and_runner(path: PurePosixPath, tree: ast.AST) -> Iterator[str]:
    if path.parent == PLUGINS / "modules" or path == MODULE_UTILS / "runner.py":
        return
    for node in nodes(tree):
        named = (isinstance(node, ast.Name) and node.id == "AnsibleModule") or (
            isinstance(node, ast.alias) and node.name == "AnsibleModule"
        )
        if named:
            yield f"line {node.lineno}: AnsibleModule; only modules and runner.py know it"


# --- what no plugin does ---------------------------------------------------------------------------------------------


def no_assert(path: PurePosixPath, tree: ast.AST) -> Iterator[str]:
    for node in nodes(tree):
        if isinstance(node, ast.Assert):
            yield f"line {node.lineno}: assert, which python -O leaves out"


# A closing or empty tag, or one with attributes. "<name>" alone is how messages show a placeholder.
XML = re.compile(r"</[\w\0:.-]+>|<[\w\0:.-]+[^<>]*/>|<[\w\0:.-]+\s+[\w\0:.-]+=['\"]")


def text_with_holes(node: ast.AST) -> str:
    """The text that an expression puts together, with a NUL where a value goes; "" where none is put in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(v.value) if isinstance(v, ast.Constant) else "\0" for v in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mod, ast.Add)):
        sides = [n.value if isinstance(n, ast.Constant) else "\0" for n in (node.left, node.right)]
        return "".join(side for side in sides if isinstance(side, str)) if "\0" in sides else ""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        return node.func.value.value + "\0" if isinstance(node.func.value, ast.Constant) else ""
    return ""


def no_xml_by_concatenation(path: PurePosixPath, tree: ast.AST) -> Iterator[str]:
    for node in nodes(tree):
        text = text_with_holes(node)
        if "\0" in text and XML.search(text):
            yield f"line {node.lineno}: XML put together as text; ElementTree escapes"


def imports_are_static(path: PurePosixPath, tree: ast.AST) -> Iterator[str]:
    """Ansible sends to a target what it sees imported."""
    if path in (MODULE_UTILS / f"{name}.py" for name in ("deps", "compiled", "imported_by_name")):
        # Libraries of the target's distribution, which nobody sends; the source that was sent, compiled; and what
        # test_shipped.py compares with what is sent.
        return
    for line, name in imports(path, tree):
        if name.split(".")[0] in {"importlib", "pkgutil", "runpy"}:
            yield f"line {line}: {name}; what is imported dynamically is not sent to the target"
    for node in nodes(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in {"__import__", "exec", "eval"}
        ):
            yield f"line {node.lineno}: {node.func.id}()"


def drivers_are_asked_for_capabilities(path: PurePosixPath, tree: ast.AST) -> Iterator[str]:
    if path.name == "registry.py" or MODULE_UTILS / "hypervisors" in path.parents:
        return
    for node in nodes(tree):
        if not isinstance(node, ast.Compare) or not all(isinstance(op, (ast.Eq, ast.NotEq)) for op in node.ops):
            continue
        for side in [node.left, *node.comparators]:
            if isinstance(side, ast.Constant) and isinstance(side.value, str) and side.value in HYPERVISORS:
                yield f"line {node.lineno}: compares with {side.value!r}; ask the driver for a capability"


def names_say_something(path: PurePosixPath, tree: ast.AST) -> Iterator[str]:
    for part in path.parts:
        if part.removesuffix(".py").strip("_") in {"utils", "util", "helpers", "helper", "common", "misc"}:
            yield f"{part} says nothing of what is in it"


NUMBERED = re.compile(r"\?[0-9]")


def placeholders_have_no_number(path: PurePosixPath, tree: ast.AST) -> Iterator[str]:
    """From Python 3.14 on, sqlite3 takes ?1 for a name, and refuses values that are a sequence."""
    if MODULE_UTILS / "engines" not in path.parents:
        return
    for node in nodes(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and NUMBERED.search(node.value):
            yield f"line {node.lineno}: {node.value!r} has a numbered placeholder; write ? and give the value again"


# Verbs that say no more of a value than that somebody uttered it: it is stated, reported, found or answered.
VAGUE = {"said", "told", "wish"}
# An option of nebula_image_check, and the filter that makes its value, have this name for their users.
VAGUE_FOR_USERS = {"image_said"}


def names_are_of_the_field(path: PurePosixPath, tree: ast.AST) -> Iterator[str]:
    for node in nodes(tree):
        name = getattr(node, "id", None) or getattr(node, "arg", None) or getattr(node, "attr", None)
        name = name or (node.name if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else None)
        if name and name not in VAGUE_FOR_USERS and VAGUE & set(name.lower().split("_")):
            yield f"line {getattr(node, 'lineno', 0)}: {name}; name what it is: stated, reported, found, an answer …"


def dataclasses_are_made_later(path: PurePosixPath, tree: ast.AST) -> Iterator[str]:
    """Half of the time that imports took on a target was Python's, making classes that nothing used."""
    if not in_module_utils(path) or path == MODULE_UTILS / "dataclass.py":
        return
    for line, name in imports(path, tree):
        if name == "dataclasses.dataclass":
            yield f"line {line}: take dataclass from module_utils/dataclass.py"
    for node in nodes(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "dataclasses.dataclass":
            yield f"line {node.lineno}: take dataclass from module_utils/dataclass.py"


# Words with which a sentence about a thing begins, and none about what a function does.
NO_VERBS = re.compile(
    "A|An|The|This|That|These|Those|All|Any|Both|Each|Every|Here|It|Neither|No|None|Nothing|One|Only|Other|Our|Same|Some|"
    "Something|Such|There|Two|Several|After|As|At|Before|Below|Beside|Between|By|For|From|In|Into|Of|On|Outside|To|Under|"
    "With|Within|Without|How|If|Until|What|When|Where|Whether|Which|Who|Whom|Whose|Why|True|False"
)


def functions_say_what_they_do(path: PurePosixPath, tree: ast.AST) -> Iterator[str]:
    """Names end with s, as do verbs in the third person; the errors that a function raises come after its verb."""
    for node in nodes(tree):
        text = ast.get_docstring(node) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else None
        first = text.split()[0] if text else "Return"
        verb = re.fullmatch(r"[A-Z][a-z]+(-[a-z]+)?", first) and not re.search(r"[^s]s$", first)
        if not verb or NO_VERBS.fullmatch(first):
            yield f"line {node.lineno}: {first} …; begin with what {node.name} does: Return, Write, Raise, Yield …"


def starts_as_ansible_wants(path: PurePosixPath, tree: ast.AST) -> Iterator[str]:
    if not isinstance(tree, ast.Module) or not tree.body:
        return
    if not any(isinstance(n, ast.ImportFrom) and n.module == "__future__" for n in tree.body):
        yield "no `from __future__ import annotations`: annotations would be evaluated by Python 3.9"


RULES = [
    dataclasses_are_made_later,
    ansible_module_only_in_modules_and_runner,
    drivers_are_asked_for_capabilities,
    functions_say_what_they_do,
    imports_are_static,
    layers_go_left,
    names_are_of_the_field,
    names_say_something,
    no_assert,
    no_xml_by_concatenation,
    only_the_face_knows_ansible,
    placeholders_have_no_number,
    pure_layers_are_pure,
    starts_as_ansible_wants,
    targets_need_the_standard_library_only,
]


def plugin_files() -> list[PurePosixPath]:
    return sorted(PurePosixPath(p.relative_to(ROOT).as_posix()) for p in (ROOT / "plugins").rglob("*.py"))


@pytest.fixture(scope="module")
def complaints():
    """What each rule says of the plugins, each of which is read once for all rules."""
    found = {rule: [] for rule in RULES}
    for path in plugin_files():
        tree = ast.parse((ROOT / path).read_bytes())
        for rule in RULES:
            found[rule] += [f"{path}: {complaint}" for complaint in rule(path, tree)]
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_plugin_keeps(rule, complaints):
    assert not complaints[rule], "\n".join(complaints[rule])


def test_the_rules_see_files():
    assert MODULE_UTILS / "errors.py" in plugin_files()


M = "plugins/module_utils/"
BAD = [
    (layers_go_left, M + "model/vm.py", "from ..text.template import parse"),
    (layers_go_left, M + "model/vm.py", "from .. import text"),
    (layers_go_left, M + "model/vm.py", "import ansible_collections.nebula.provision.plugins.module_utils.host.files"),
    (layers_go_left, M + "text/template_syntax.py", "from ..network.links import bridge"),
    (layers_go_left, M + "model/addresses.py", "from ..host import command"),
    (layers_go_left, M + "host/files.py", "def f():\n    from ..storage import formats"),
    (layers_go_left, M + "engines/embedded/templates.py", "from ...hypervisors.libvirt.kvm import Kvm"),
    (layers_go_left, M + "hypervisors/libvirt/kvm.py", "from ...engines import base"),
    (layers_go_left, M + "engines/base.py", "from ..sync import Result"),
    (layers_go_left, M + "engines/base.py", "from ...plugin_utils.packing import pack"),
    (layers_go_left, M + "surprise/thing.py", "import json"),
    (pure_layers_are_pure, M + "model/vm.py", "import os"),
    (pure_layers_are_pure, M + "model/vm.py", "from datetime import datetime"),
    (pure_layers_are_pure, M + "text/template_syntax.py", "import random"),
    (pure_layers_are_pure, M + "errors.py", "import subprocess"),
    (pure_layers_are_pure, M + "model/addresses.py", "import socket"),
    (pure_layers_are_pure, M + "model/vm.py", "def f(p):\n    return open(p)"),
    (pure_layers_are_pure, M + "model/vm.py", "import uuid\nx = uuid.uuid4()"),
    (only_the_face_knows_ansible, M + "host/download.py", "from ansible.module_utils.urls import open_url"),
    (targets_need_the_standard_library_only, M + "text/template_syntax.py", "import yaml"),
    (targets_need_the_standard_library_only, M + "hypervisors/libvirt/kvm.py", "import libvirt"),
    (targets_need_the_standard_library_only, M + "deps.py", "try:\n    import pycdlib\nexcept ImportError: pass"),
    (targets_need_the_standard_library_only, "plugins/modules/nebula_vm.py", "def f():\n    import requests"),
    (ansible_module_only_in_modules_and_runner, M + "sync.py", "from ansible.module_utils.basic import AnsibleModule"),
    (ansible_module_only_in_modules_and_runner, M + "host/files.py", "def f(module: AnsibleModule): ..."),
    (no_assert, M + "host/files.py", "assert True"),
    (dataclasses_are_made_later, M + "model/vm.py", "from dataclasses import dataclass, field"),
    (dataclasses_are_made_later, M + "model/vm.py", "import dataclasses\n@dataclasses.dataclass\nclass A: pass"),
    (no_xml_by_concatenation, M + "hypervisors/libvirt/kvm.py", "f'<name>{x}</name>'"),
    (no_xml_by_concatenation, M + "hypervisors/libvirt/kvm.py", "f'<{tag}/>'"),
    (no_xml_by_concatenation, M + "hypervisors/libvirt/kvm.py", "'<target dev=\"%s\"/>' % x"),
    (no_xml_by_concatenation, M + "hypervisors/libvirt/kvm.py", "'<boot order=\"{}\">'.format(x)"),
    (no_xml_by_concatenation, M + "hypervisors/libvirt/kvm.py", "'<name>' + x + '</name>'"),
    (imports_are_static, M + "engines/registry.py", "import importlib"),
    (imports_are_static, M + "engines/registry.py", "x = __import__('embedded')"),
    (drivers_are_asked_for_capabilities, "plugins/modules/nebula_deploy.py", "if host.hypervisor == 'kvm': pass"),
    (drivers_are_asked_for_capabilities, M + "engines/embedded/templates.py", "x = 'xen' != y"),
    (names_say_something, M + "host/utils.py", ""),
    (names_say_something, M + "common/files.py", ""),
    (placeholders_have_no_number, M + "engines/embedded/x.py", "sql = 'SELECT ?1'"),
    (names_are_of_the_field, M + "host/files.py", "told = 1"),
    (names_are_of_the_field, M + "host/files.py", "def f(what_was_said): pass"),
    (names_are_of_the_field, M + "host/files.py", "class Wish: pass"),
    (functions_say_what_they_do, M + "host/files.py", "def f():\n    'The lines of a file.'"),
    (functions_say_what_they_do, M + "host/files.py", "def f():\n    'Whether it is there.'"),
    (functions_say_what_they_do, M + "host/files.py", "def f():\n    'NotFound where there is no file.'"),
    (functions_say_what_they_do, M + "host/files.py", "def f():\n    'Returns the lines.'"),
    (functions_say_what_they_do, M + "host/files.py", "class A:\n    def f(self):\n        '(line, name) of each.'"),
    (starts_as_ansible_wants, M + "host/files.py", "import os"),
]
GOOD = [
    (layers_go_left, M + "hypervisors/libvirt/kvm.py", "from ..storage import formats\nfrom .base import Driver"),
    (
        layers_go_left,
        M + "engines/embedded/templates.py",
        "from ...model.addresses import mac\nfrom .store import Store",
    ),
    (layers_go_left, M + "network/links.py", "from ..model.addresses import Address\nfrom . import nat"),
    (pure_layers_are_pure, M + "model/vm.py", "import json\nfrom ..errors import NebulaError"),
    (pure_layers_are_pure, M + "host/files.py", "import os"),
    (placeholders_have_no_number, M + "engines/embedded/x.py", "sql = 'SELECT ? FROM a WHERE b = ?'"),
    (names_are_of_the_field, M + "host/files.py", "stated = 'said'  # told"),
    (only_the_face_knows_ansible, M + "deps.py", "from ansible.module_utils.common.respawn import respawn_module"),
    (targets_need_the_standard_library_only, M + "hypervisors/libvirt/kvm.py", "def f():\n    import libvirt"),
    (imports_are_static, M + "deps.py", "import importlib"),
    (dataclasses_are_made_later, M + "model/vm.py", "from dataclasses import field\nfrom ..dataclass import dataclass"),
    (no_xml_by_concatenation, M + "errors.py", "f'datastores/0/<vmid>/disk.{n}: {a} < {b} > {c}'"),
    (no_xml_by_concatenation, M + "storage/cache.py", "f'cache/<image uuid>-{generation}'"),
    (drivers_are_asked_for_capabilities, M + "hypervisors/libvirt/kvm.py", "x = kind == 'kvm'"),
    (functions_say_what_they_do, M + "host/files.py", "def f():\n    'Pass the lines on.'\ndef g(): pass"),
    (functions_say_what_they_do, M + "host/files.py", "'The module.'\nclass A:\n    'The class.'"),
]


@pytest.mark.parametrize(("rule", "path", "source"), BAD)
def test_a_rule_sees(rule, path, source):
    assert list(rule(PurePosixPath(path), ast.parse(source)))


@pytest.mark.parametrize(("rule", "path", "source"), GOOD)
def test_a_rule_lets_pass(rule, path, source):
    assert not list(rule(PurePosixPath(path), ast.parse(source)))


# --- files and their places ------------------------------------------------------------------------------------------


def packages_without_empty_init(plugins: Path) -> list[str]:
    """Ansible sends __init__.py along: a missing one breaks the import on the target, one with code costs each task."""
    wrong = []
    for base in ("module_utils", "plugin_utils"):
        for directory in [plugins / base, *(plugins / base).rglob("*/")]:
            if directory.is_dir() and any(directory.glob("*.py")):
                init = directory / "__init__.py"
                if not init.is_file() or init.stat().st_size:
                    wrong.append(str(directory))
    return wrong


def test_packages_have_an_empty_init():
    assert not packages_without_empty_init(ROOT / "plugins")


def test_a_package_without_init_is_seen(tmp_path):
    for name, content in [
        ("good/__init__.py", ""),
        ("bare/x.py", ""),
        ("full/__init__.py", "x = 1"),
        ("__init__.py", ""),
    ]:
        file = tmp_path / "module_utils" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    assert {Path(p).name for p in packages_without_empty_init(tmp_path)} == {"bare", "full"}


# Names that mean the same thing in each package: what a package offers, who is in it, and a subject that goes through
# several layers (its data in model, and what is decided, kept and done about it).
MEAN_THE_SAME = {"__init__", "base", "registry"}
MEAN_THE_SAME |= {"audit", "backups", "capacity", "given_up", "inject", "nics", "progress", "transfer", "windows"}
# What users list has a file in each of these packages, and nowhere else one of that name.
OBJECTS = re.compile("(datastore|host|image|network|node|router|security_group|template|vm)s?")
PACKAGES_OF_OBJECTS = {
    "model",
    "model/specifications",
    "text",
    "engines/embedded",
    "engines/shipped",
    "reconcile",
    "network/northbound",
}
# The folders of hypervisors have the same parts.
DRIVERS = re.compile("hypervisors/(libvirt|lxc|openvz|xen)")


def repeated_names(paths: list[PurePosixPath]) -> list[str]:
    places: dict[str, set[str]] = {}
    for path in paths:
        package = path.parent.relative_to(path.parents[-3]).as_posix()
        name = path.stem
        if name in MEAN_THE_SAME or package == "calls":  # where files are called after modules
            continue
        if OBJECTS.fullmatch(name):
            name = name.removesuffix("s")
            package = "those of the catalog's objects" if package in PACKAGES_OF_OBJECTS else package
        places.setdefault(name, set()).add(DRIVERS.sub("hypervisors/FOLDER", package))
    return [f"{name}.py: {', '.join(sorted(each))}" for name, each in sorted(places.items()) if len(each) > 1]


def test_a_files_name_means_one_thing():
    found = repeated_names([p for p in plugin_files() if p.parts[1] in ("module_utils", "plugin_utils")])
    assert not found, "Name each after its own subject:\n" + "\n".join(found)


def test_names_that_mean_several_things_are_seen():
    def found(*names: str) -> list[str]:
        return repeated_names([PurePosixPath("plugins") / name for name in names])

    assert found("module_utils/model/rules.py", "module_utils/hypervisors/xen/rules.py")
    assert found("module_utils/storage/facts.py", "plugin_utils/facts.py") == ["facts.py: ., storage"]
    assert found("module_utils/network/ovn/host.py", "module_utils/engines/embedded/hosts.py")
    assert not found("module_utils/hypervisors/lxc/driver.py", "module_utils/hypervisors/xen/driver.py")
    assert not found("module_utils/model/image.py", "module_utils/calls/image.py", "module_utils/text/image.py")
    assert not found("module_utils/model/audit.py", "module_utils/storage/audit.py")


def test_nothing_of_sanity_is_ignored():
    assert [p.name for p in (ROOT / "tests/sanity").glob("ignore*.txt") if p.read_text().strip()] == []


def test_every_module_is_in_the_action_group():
    # These print on the control node, call others, or are given the roles' options. They take none of those that the
    # group is for.
    others = {"nebula_table", "nebula_changes", "nebula_frontend_look", "nebula_node_look", "nebula_vm_round"}
    others |= {"nebula_builtin", "nebula_call", "nebula_packages"}
    modules = {p.stem for p in (ROOT / "plugins/modules").glob("*.py")} - others
    listed = load(ROOT / "meta/runtime.yml")["action_groups"]["nebula"]
    assert sorted(modules) == listed, "action_groups.nebula in meta/runtime.yml: one line per module, sorted"


# --- docs/architecture.md --------------------------------------------------------------------------------------------

LINES, COLUMNS = 3, 120
FILES = re.compile(r"`([a-z0-9_/]+\.py)`")


def long_cells(page: str) -> list[str]:
    rows = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("|")]
    return [cell.strip()[:60] for row in rows for cell in row if len(cell.strip()) > LINES * COLUMNS]


def missing_files(page: str, root: Path) -> list[str]:
    """Paths begin at the root, in plugins, or in plugins/module_utils."""
    places = [root, root / "plugins", root / "plugins/module_utils"]
    return [name for name in FILES.findall(page) if not any((place / name).is_file() for place in places)]


def test_cells_of_the_architecture_are_short():
    found = long_cells((ROOT / "docs/architecture.md").read_text(encoding="utf-8"))
    assert not found, (
        f"More than {LINES} lines of {COLUMNS} characters: one row for each subject, and why below: {found}"
    )


def test_the_architecture_names_files_that_there_are():
    found = missing_files((ROOT / "docs/architecture.md").read_text(encoding="utf-8"), ROOT)
    assert not found, f"Write the whole path below plugins/module_utils, or plugins: {found}"


def test_a_long_cell_and_a_missing_file_are_seen(tmp_path):
    assert long_cells("| a | " + "b" * 361 + " |") and not long_cells("| a | " + "b" * 360 + " |\n" + "c" * 400)
    (tmp_path / "plugins/module_utils/host").mkdir(parents=True)
    (tmp_path / "plugins/module_utils/host/files.py").touch()
    assert missing_files("`host/files.py`, `files.py` and `FILES`", tmp_path) == ["files.py"]


# --- one floor -------------------------------------------------------------------------------------------------------


def load(path: Path):
    return yaml.safe_load(path.read_text())


def only(pattern: str, text: str) -> str:
    found = set(re.findall(pattern, text))
    assert len(found) == 1, f"{pattern} found {len(found)} times"
    return found.pop()


def test_one_floor_of_targets():
    sanity = only(r"^>=(3\.\d+)$", load(ROOT / "tests/config.yml")["modules"]["python_requires"])
    ruff = only(r'target-version = "py3(\d+)"', (ROOT / "pyproject.toml").read_text())
    assert sanity == f"3.{ruff}"


def test_one_floor_of_control_nodes():
    runtime = only(r"^>=(2\.\d+)\.0$", load(ROOT / "meta/runtime.yml")["requires_ansible"])
    lint = load(ROOT / ".ansible-lint")["supported_ansible_also"]
    roles = {load(p)["galaxy_info"]["min_ansible_version"] for p in (ROOT / "roles").glob("*/meta/main.yml")}
    assert lint == [runtime]
    assert roles <= {runtime}


# --- roles -----------------------------------------------------------------------------------------------------------

ROLES = sorted(p.name for p in (ROOT / "roles").glob("*") if p.is_dir())
ROLE_FILES = ["defaults/main.yml", "meta/argument_specs.yml", "meta/main.yml", "tasks/main.yml", "README.md"]


def documented_defaults(specs: dict) -> dict:
    """Every option of every entry point that has a default."""
    return {
        name: option["default"]
        for entry in specs["argument_specs"].values()
        for name, option in (entry.get("options") or {}).items()
        if "default" in option
    }


def differences(defaults: dict, documented: dict) -> list[str]:
    """Values are compared with their types: 1 is neither true nor "1"."""
    wrong = [f"{name} is in defaults/main.yml only" for name in sorted(defaults.keys() - documented.keys())]
    wrong += [f"{name} is in meta/argument_specs.yml only" for name in sorted(documented.keys() - defaults.keys())]
    for name in sorted(defaults.keys() & documented.keys()):
        if repr(defaults[name]) != repr(documented[name]):
            wrong.append(f"{name}: default {defaults[name]!r}, documented {documented[name]!r}")
    return wrong


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_its_files(role):
    assert [name for name in ROLE_FILES if not (ROOT / "roles" / role / name).is_file()] == []


@pytest.mark.parametrize("role", ROLES)
def test_a_role_documents_its_defaults(role):
    defaults = load(ROOT / "roles" / role / "defaults/main.yml") or {}
    documented = documented_defaults(load(ROOT / "roles" / role / "meta/argument_specs.yml"))
    assert not differences(defaults, documented)


def test_roles_share_one_vocabulary():
    seen: dict[str, dict[str, object]] = {}
    for role in ROLES:
        for name, value in (load(ROOT / "roles" / role / "defaults/main.yml") or {}).items():
            seen.setdefault(name, {})[role] = value
    assert [name for name in seen if not name.startswith("nebula_")] == []
    differing = {name: roles for name, roles in seen.items() if len({repr(value) for value in roles.values()}) > 1}
    assert not differing, f"one variable, one default: {differing}"


def test_differing_defaults_are_seen():
    specs = {
        "argument_specs": {
            "main": {"options": {"a": {"default": 1}, "b": {"default": "x"}, "c": {"required": True}}},
            "other": {"options": {"d": {"default": []}}},
        }
    }
    documented = documented_defaults(specs)
    assert documented == {"a": 1, "b": "x", "d": []}
    assert not differences({"a": 1, "b": "x", "d": []}, documented)
    assert len(differences({"a": True, "b": "x", "e": 0}, documented)) == 3


@pytest.mark.parametrize("path", sorted((ROOT / "plugins/module_utils/model").rglob("*.py")), ids=lambda p: p.name)
def test_fields_of_the_model_can_be_evaluated_by_python_3_9(path):
    """model/dataclass_json.py evaluates them; `X | None` would only fail on an old target."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            for field in node.body:
                if isinstance(field, ast.AnnAssign):
                    unions = [n for n in ast.walk(field.annotation) if isinstance(n, ast.BinOp)]
                    assert not unions, f"{node.name}.{ast.unparse(field.target)}: write Optional[…] or Union[…]"


def test_every_hypervisor_has_a_way_in():
    from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import console_access, registry

    assert set(console_access.CONSOLES) == set(registry.DRIVERS)
