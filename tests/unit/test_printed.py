# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text of guests, hosts and strangers goes through one door to a terminal or a page: module_utils/printable.py. No
other code decides how a character is shown, and neither plugins nor messages of roles and playbooks go by the door."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import jinja2.nodes
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "plugins"
HOME = "module_utils/printable.py"

# --- one table -------------------------------------------------------------------------------------------------------

# What decides by character: whether it prints, what it is, and what stands in its place.
DECIDING = {"isprintable", "translate", "maketrans", "category", "bidirectional", "unicode_escape", "backslashreplace"}
# Characters of control, invisible ones, and those that turn the direction of text, as code writes them.
# NUL alone ends a name.
_ESCAPES = r"\\x(?:00-|0[1-8ef]|1[0-9a-f]|7f|[89][0-9a-f])|\\u(?:00[01]|00[7-9]|20[0-6]|feff|fff|061c)|\\U000e"
HIDDEN = re.compile(
    f"[\\x01-\\x08\\x0e-\\x1f\\x7f-\\xa0\\u200b-\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ufeff]|{_ESCAPES}"
)
# Where, what, and what it is for: none of these decides how text is shown.
DECIDES = {
    ("module_utils/model/object_names.py", "isprintable"): "it refuses a name",
    ("module_utils/model/object_names.py", "table"): "it refuses a name",
    ("module_utils/model/owner.py", "isprintable"): "it refuses an owner",
    ("module_utils/model/disk_targets.py", "isprintable"): "it refuses a path",
    ("module_utils/model/instantiate/shared_directories.py", "isprintable"): "it refuses a path",
    ("module_utils/context/files_attribute.py", "isprintable"): "it refuses the name of a file",
    ("module_utils/host/urls.py", "isprintable"): "it refuses a URL",
    ("module_utils/reconcile/images/prepare_image.py", "isprintable"): "it refuses a time zone",
    (
        "module_utils/install/install_item.py",
        "isprintable",
    ): "it makes the name of an image, which has fewer characters",
    ("module_utils/context/guest_settings.py", "table"): "it writes YAML, which has escapes of its own",
    ("module_utils/context/iso9660.py", "table"): "it refuses names that a file system cannot have",
    ("module_utils/text/template_syntax.py", "table"): "it takes the mark off a file's begin",
    (
        "module_utils/hypervisors/openvz/openvz_declaration.py",
        "table",
    ): "it refuses values that OpenVZ's shell would obey",
    ("module_utils/host/console/console_log.py", "table"): "it takes a terminal's sequences out of what a console had",
    ("module_utils/host/console/console_log.py", "backslashreplace"): "it makes text of bytes",
    ("module_utils/host/confined_process.py", "backslashreplace"): "it makes bytes of text",
    ("module_utils/storage/foreign_disks.py", "backslashreplace"): "it makes text of bytes",
    ("module_utils/storage/file_signatures.py", "table"): "it takes the mark off a file's begin",
    ("module_utils/storage/tar_reader.py", "backslashreplace"): "it makes text of bytes",
    ("plugin_utils/guest/use_console.py", "table"): "it types, and takes a terminal's sequences out of what it read",
    ("plugin_utils/topology/text_width.py", "category"): "it measures how wide a character is",
}


def decided(tree: ast.AST) -> Iterator[str]:
    """What of a file decides about characters: functions, and tables of characters that nobody sees."""
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in DECIDING:
            yield node.attr
        elif isinstance(node, ast.ImportFrom) and node.module == "unicodedata":
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            if node.value in DECIDING:
                yield node.value
            elif HIDDEN.search(node.value):
                yield "table"


def test_one_module_decides_how_characters_are_shown() -> None:
    found = {
        (str(path.relative_to(PLUGINS)), what)
        for path in sorted(PLUGINS.rglob("*.py"))
        if str(path.relative_to(PLUGINS)) != HOME
        for what in decided(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found - set(DECIDES) == set(), f"use {HOME}, or say here what else it is for"
    assert set(DECIDES) - found == set(), "no longer there"


@pytest.mark.parametrize(
    "code",
    [
        "''.join(c if c.isprintable() else '?' for c in text)",
        "text.encode('unicode_escape').decode()",
        "text.translate({0x202e: None})",
        "import unicodedata\nx = unicodedata.category(c)",
        "from unicodedata import category",
        r"re.sub(r'[\x00-\x1f]', ' ', text)",
        r"re.sub(r'[\u202a-\u202e]', ' ', text)",
        "text.replace('\\x1b', '')",
        "text.replace('\\u200b', '')",
        "data.decode('utf-8', 'backslashreplace')",
    ],
)
def test_a_table_of_characters_is_seen(code: str) -> None:
    assert list(decided(ast.parse(code)))


# --- what plugins print ----------------------------------------------------------------------------------------------

DOOR = {
    "printable",
    "harmless",
    "shown_line",
    "sentence_about",
    "refusal_of_host",
    "_refusal",
    "printable_line",
    "message",
}
PRINTING = {"display", "warning", "deprecated", "error", "banner", "v", "vv", "vvv", "vvvv", "debug", "warn"}
# Where, what, and why it may go by the door.
PRINTED = {
    ("action/nebula_table.py", "line"): "it is made of cells and notes, which are printable",
    ("connection/guest.py", "f'EXEC {cmd}'"): "the user's own command, and with -vvv only",
    ("connection/guest.py", "f'PUT {in_path} TO {out_path}'"): "the user's own paths, and with -vvv only",
    ("connection/guest.py", "f'FETCH {in_path} TO {out_path}'"): "the user's own paths, and with -vvv only",
    (
        "module_utils/deps.py",
        "f\"respawn in {interpreter}: {sys.executable} lacks {', '.join(names)}\"",
    ): "our own words",
}
# Files whose errors say what the user who runs Ansible has written: variables, files and options of the control node.
OF_THE_USER = {
    *("action/nebula_table.py", "action/nebula_template.py", "filter/packed.py"),
    *("filter/topology_page.py", "lookup/answer.py", "lookup/install_answers.py", "lookup/output_directory.py"),
    *("lookup/secret.py", "plugin_utils/upload.py"),
}


def is_printable(node: ast.AST) -> bool:
    """Whether all of an expression went through the door, or is ours."""
    if isinstance(node, ast.Call):
        called = node.func
        return (called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")) in DOOR
    if isinstance(node, ast.JoinedStr):
        return all(is_printable(each.value) for each in node.values if isinstance(each, ast.FormattedValue))
    return isinstance(node, ast.Constant) or (isinstance(node, ast.Name) and node.id.isupper())


def printed(tree: ast.AST) -> Iterator[str]:
    """What is printed by the door: by Ansible's display, and as a module's warning."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in PRINTING):
            continue
        if (
            re.search(r"isplay|\bmodule$", ast.unparse(node.func.value))
            and node.args
            and not is_printable(node.args[0])
        ):
            yield ast.unparse(node.args[0])


def raised(tree: ast.AST) -> Iterator[str]:
    """Errors of Ansible's that show what did not go through the door."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)):
            continue
        if re.match(r"Ansible|CatalogNotRead|HarmlessLookupError", ast.unparse(node.exc.func)):
            yield from (ast.unparse(each) for each in node.exc.args if not is_printable(each))


def test_plugins_print_through_the_door() -> None:
    found = set()
    for path in sorted(PLUGINS.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found |= {(str(path.relative_to(PLUGINS)), text) for text in printed(tree)}
    assert found - set(PRINTED) == set(), f"use {HOME}, or say here whose words they are"
    assert set(PRINTED) - found == set(), "no longer there"


def test_errors_of_plugins_go_through_the_door() -> None:
    found = {
        str(path.relative_to(PLUGINS)): texts
        for path in sorted(PLUGINS.rglob("*.py"))
        if (texts := list(raised(ast.parse(path.read_text(encoding="utf-8")))))
    }
    assert {path: texts for path, texts in found.items() if path not in OF_THE_USER} == {}
    assert OF_THE_USER - set(found) == set(), "no longer there"


@pytest.mark.parametrize(
    ("code", "is_seen"),
    [
        ("display.warning(f'{host}: {text}')", True),
        ("self._display.display(text)", True),
        ("Display().display('a' + text)", True),
        ("display.warning(f'{printable(host)}: {text}')", True),
        ("module.warn(text)", True),
        ("raise AnsibleError(f'{path}: {error}')", True),
        ("raise AnsibleActionFail(str(error))", True),
        ("display.warning('plain')", False),
        ("display.warning(printable(f'{host}: {text}', ONE_LINE))", False),
        ("display.warning(f'{LIMIT}: {harmless(text)}')", False),
        ("raise AnsibleError(said.printable(text))", False),
        ("log.warning(text)", False),
    ],
)
def test_what_is_printed_beside_the_door_is_seen(code: str, is_seen: bool) -> None:
    assert bool([*printed(ast.parse(code)), *raised(ast.parse(code))]) is is_seen


# --- what roles and playbooks say ------------------------------------------------------------------------------------

SAYING = {f"{prefix}{name}" for prefix in ("", "ansible.builtin.") for name in ("fail", "assert", "debug", "pause")}
SAID = ("msg", "fail_msg", "success_msg", "prompt")
# A number, and JSON in ASCII, have nothing that is not printable.
FILTERS = {"nebula.provision.printable", "length", "to_json"}
# The inventory's own names, which Ansible prints with each of its lines.
NAMES = {"inventory_hostname", "groups['nebula_frontend'][0]"}
ENVIRONMENT = jinja2.Environment()


class Loader(yaml.SafeLoader):
    """Ansible's YAML has tags of its own."""


Loader.add_multi_constructor("!", lambda loader, _suffix, node: loader.construct_scalar(node))


def tasks(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from tasks(each)


def unprintable(text: str) -> Iterator[str]:
    """The expressions of a template whose value does not go through the door."""
    known = {ast.unparse(ast.parse(name, mode="eval")) for name in NAMES}
    expressions = [expression.strip() for expression in re.findall(r"\{\{(.*?)\}\}", text, re.DOTALL)]
    for expression in expressions:
        (output,) = ENVIRONMENT.parse(f"{{{{ {expression} }}}}").find_all(jinja2.nodes.Output)
        (node,) = output.nodes
        is_filtered = isinstance(node, jinja2.nodes.Filter) and node.name in FILTERS
        if not is_filtered and not isinstance(node, jinja2.nodes.Const) and expression not in known:
            yield expression


def said(documents: Any) -> Iterator[str]:
    """What of messages of tasks does not go through the door."""
    for task in tasks(documents):
        for module in SAYING & set(task):
            options = task[module] if isinstance(task[module], dict) else {}
            if "var" in options or not isinstance(task[module], dict):
                yield f"{module}: {task[module]}"
            for name in SAID:
                yield from unprintable(str(options.get(name, "")))
        # Ansible prints the names of tasks and plays, too.
        if isinstance(task.get("name"), str) and {"tasks", "block", "when", *SAYING} & set(task):
            yield from unprintable(task["name"])


def files() -> list[Path]:
    found = [*(ROOT / "roles").rglob("*.yml"), *(ROOT / "playbooks").glob("*.yml"), ROOT / "site.yml"]
    return sorted(path for path in found if "files" not in path.parts and "templates" not in path.parts)


def test_messages_of_roles_and_playbooks_go_through_the_door() -> None:
    found = {}
    for path in files():
        if texts := list(said(yaml.load(path.read_text(encoding="utf-8"), Loader))):
            found[str(path.relative_to(ROOT))] = texts
    assert found == {}, "end the expression with | nebula.provision.printable"


@pytest.mark.parametrize(
    ("task", "is_seen"),
    [
        ({"ansible.builtin.fail": {"msg": "{{ answer.msg }}"}}, True),
        ({"ansible.builtin.fail": {"msg": "{{ answers | join('\n') }}"}}, True),
        ({"ansible.builtin.assert": {"that": "x", "fail_msg": "{{ 'a' ~ b | nebula.provision.printable }}"}}, True),
        ({"ansible.builtin.debug": {"msg": "{% if a %}{{ b }}{% endif %}"}}, True),
        ({"ansible.builtin.debug": {"var": "answer"}}, True),
        ({"block": [{"fail": {"msg": "{{ (a if b else c) }}"}}]}, True),
        ({"name": "Ask {{ answer.name }}", "when": "x"}, True),
        ({"ansible.builtin.fail": {"msg": "{{ (a ~ b) | nebula.provision.printable }}"}}, False),
        ({"ansible.builtin.fail": {"msg": "{{ a | map(attribute='b') | nebula.provision.printable(c) }}"}}, False),
        ({"ansible.builtin.fail": {"msg": "{{ a | length }} of {{ inventory_hostname }}: {{ a | to_json }}"}}, False),
        ({"ansible.builtin.set_fact": {"msg": "{{ a }}"}}, False),
    ],
)
def test_a_message_beside_the_door_is_seen(task: dict[str, Any], is_seen: bool) -> None:
    assert bool(list(said([task]))) is is_seen
