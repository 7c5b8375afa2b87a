# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The forms of each object's specification, out of the one file that is written by hand.

plugins/module_utils/model/specifications/OBJECT.yml says what an item of a list of such objects may say. Made of it are
the table beside it, which is what reaches a target, and, between the lines that name the file, the options of the
module, what it returns, and the options of the role.

Out of the roles themselves plugin_utils/role_variables.json is made: which options each of them takes, and, of roles
with calls (docs/architecture.md, "One way to call a module"), their defaults and variables. Plugins read it, no YAML.

Of each key the file says (model/specification.py has the same names):

- type, elements, choices, default, required, options: as in an argument_spec of Ansible. description, version_added: as
  in its documentation.
- option: what of these is different where the key is an option of the module, outside of a list.
- case: "upper" or "lower", for choices that are taken in any case. empty: "" is taken besides the choices.
- unit, least, most: of a whole number. split: text with commas is taken for a list.
- secret: no error shows its value. packed: a single item with it goes to the module as a list, which is not logged.
- changes: when it may change on an object that is there: always, unused (while no machine uses it), rewrite (the same,
  by its file being written anew), never.
- attribute: the attribute in which the catalog keeps it. near: other words by which users mean it.
- internal: this collection's own plugins give it, and no user is shown it. role_only: the role takes it from the item.
usage: specifications.py          writes them
       specifications.py --check  names those that are not what it would write, and exits with 1"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "plugins/module_utils/model/specifications"
# What only documentation has of a key; all else is in the table.
TEXT_ONLY = ("description", "version_added", "options")
# Of a key that the collection's own plugins give: no user is shown it.
INTERNAL = "internal"
# Of a key that the role itself takes from the items: the module does not know it.
ROLE_ONLY = "role_only"
ORDER = ("type", "elements", "choices", "default", "required")
WIDTH = 120
HEAD = '''# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists what an item of a list of {what} may say; made from {source} by `make specifications`."""

from __future__ import annotations

from ..specification import Key

'''

# libyaml's, which takes a tenth of the time, where PyYAML was built with it; Ansible does the same.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def sources() -> list[Path]:
    return sorted(SOURCES.glob("*.yml"))


def load(source: Path) -> dict[str, Any]:
    return dict(yaml.load(source.read_text(encoding="utf-8"), Loader=LOADER))


# -- the table ------------------------------------------------------------------------------------------------------


def table(source: Path) -> str:
    """The module of Python with the keys, and the names of what is shown."""
    specification = load(source)
    text = HEAD.format(what=source.stem.replace("_", " ").replace("vm", "virtual machine") + "s", source=source.name)
    text += f"KEYS: dict[str, Key] = {_keys(specification['keys'])}\n"
    if "shown" in specification:
        text += f"# What results show of one, in this order.\nSHOWN = {tuple(specification['shown'])!r}\n"
    ruff = Path(sys.executable).with_name("ruff")
    command = [str(ruff), "format", "--stdin-filename", str(source.with_suffix(".py")), "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def _keys(keys: Mapping[str, Any]) -> str:
    known = {name: key for name, key in keys.items() if not key.get(ROLE_ONLY)}
    return "{" + "".join(f"{name!r}: {_key(key)},\n" for name, key in known.items()) + "}"


def _key(key: Mapping[str, Any]) -> str:
    given = {name: value for name, value in key.items() if name not in (*TEXT_ONLY, INTERNAL)}
    if given.get("type") == "str":
        del given["type"]
    parts = [f"{field}={_literal(field, each)}" for field, each in given.items()]
    if "options" in key:
        parts.append(f"options={_keys(key['options'])}")
    return f"Key({', '.join(parts)})"


def _literal(field: str, each: Any) -> str:
    return repr(tuple(each) if isinstance(each, list) and field != "default" else each)


# -- documentation --------------------------------------------------------------------------------------------------


def scalar(text: str) -> str:
    """The text as YAML reads it back."""
    try:
        plain = yaml.load(text, Loader=LOADER) == text and ": " not in text and " #" not in text
    except yaml.YAMLError:
        plain = False
    return text if plain else json.dumps(text, ensure_ascii=False)


def value(given: Any) -> str:
    if isinstance(given, str):
        return scalar(given)
    if isinstance(given, (list, tuple)) and given:
        return "[" + ", ".join(value(each) for each in given) + "]"
    return json.dumps(given)


def description(given: Any, indent: int) -> Iterator[str]:
    sentences = [" ".join(each.split()) for each in ([given] if isinstance(given, str) else given)]
    start = " " * indent
    single = f"{start}description: {scalar(sentences[0])}"
    if len(sentences) == 1 and len(single) <= WIDTH:
        yield single
        return
    yield f"{start}description:"
    for sentence in sentences:
        lines = textwrap.wrap(scalar(sentence), WIDTH - indent - 4, break_long_words=False, break_on_hyphens=False)
        yield f"{start}  - {lines[0]}"
        yield from (f"{start}    {line}" for line in lines[1:])


def options(keys: Mapping[str, Any], indent: int, as_option: bool, below: str) -> Iterator[str]:
    """Documentation of the keys. as_option: of the module's own options, which may differ. below: what Ansible calls
    the keys of a part here."""
    for name, key in keys.items():
        if key.get(INTERNAL) or (as_option and key.get(ROLE_ONLY)):
            continue
        yield f"{' ' * indent}{name}:"
        text = key["description"]
        if as_option and "options" in key and key.get("option", {}).get("type") == "json":
            # What is text to Ansible has no suboptions there.
            text = [*([text] if isinstance(text, str) else text), *parts_of(key["options"])]
        yield from description(text, indent + 2)
        fields = {"type": "str", **{field: key[field] for field in ORDER if field in key}}
        own = key.get("option", {}) if as_option else {}
        if as_option and below == "suboptions" and indent == 2:
            fields.pop("required", None)
        fields.update({field: own[field] for field in ORDER if field in own})
        if own.get("type", fields["type"]) not in ("list",):
            fields.pop("elements", None)
        for field in ORDER:
            if fields.get(field) is not None:
                yield f"{' ' * (indent + 2)}{field}: {value(fields[field])}"
        if "version_added" in key and as_option:
            yield f"{' ' * (indent + 2)}version_added: {key['version_added']}"
        if "options" in key and fields["type"] != "json":
            yield f"{' ' * (indent + 2)}{below}:"
            yield from options(key["options"], indent + 4, as_option, below)


def parts_of(keys: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each key of a part."""
    for name, key in keys.items():
        if not key.get(INTERNAL):
            text = key["description"]
            first, *more = [text] if isinstance(text, str) else text
            yield " ".join((f"V({name}) of each - {first}", *more))


def module_options(specification: Mapping[str, Any], _indent: int) -> str:
    return "\n".join(options(specification["keys"], 2, True, "suboptions"))


def shown(specification: Mapping[str, Any], indent: int) -> str:
    """What the module returns of an object."""
    return "\n".join(
        f"{' ' * indent}{name}: {{" + ", ".join(f"{field}: {flow(each)}" for field, each in field_of.items()) + "}"
        for name, field_of in specification["shown"].items()
    )


def flow(given: Any) -> str:
    """A scalar between braces, where a comma ends it."""
    text = str(given)
    return json.dumps(text, ensure_ascii=False) if re.search(r"[,{}\[\]]", text) else scalar(text)


def role_options(specification: Mapping[str, Any], indent: int) -> str:
    """The keys of an item are no options of the role, whatever they are of the module."""
    text = "\n".join(options(specification["keys"], indent, False, "options"))
    return re.sub(r"\bR?[OV]+\((?!nebula)(ignore:)?([a-z_.]+[a-z0-9_.\[\]]*(?:=[^)]*)?)\)", _as_code, text)


def _as_code(found: re.Match[str]) -> str:
    return f"C({found[2]})" if found[0].startswith(("O", "RV")) else found[0]


# -- what plugins know of the roles -----------------------------------------------------------------------------------

ROLE_VARIABLES = ROOT / "plugins/plugin_utils/role_variables.json"
# Of an option, what plugins check a value by.
CHECKED = ("type", "elements", "choices", "default")


def role_variables() -> str:
    """Return the table, each variable in a line of its own."""
    roles = {}
    for path in sorted(ROOT.glob("roles/*/meta/argument_specs.yml")):
        given = (load(path)["argument_specs"].get("main") or {}).get("options") or {}
        checked = {name: {key: option[key] for key in CHECKED if key in option} for name, option in given.items()}
        roles[path.parts[-3]] = {"options": checked, **_of_calls(path.parents[1])}
    text = ",\n".join(
        f" {json.dumps(role)}: {{\n"
        + ",\n".join(
            f"  {json.dumps(part)}: {{\n"
            + ",\n".join(f"   {json.dumps(name)}: {json.dumps(each)}" for name, each in variables.items())
            + "\n  }"
            for part, variables in parts.items()
        )
        + "\n }"
        for role, parts in roles.items()
    )
    return f"{{\n{text}\n}}\n"


def _of_calls(role: Path) -> dict[str, Any]:
    files = {"defaults": role / "defaults/main.yml", "vars": role / "vars/main.yml"}
    if not files["vars"].is_file() or "_call:\n" not in files["vars"].read_text(encoding="utf-8"):
        return {}
    return {name: load(file) for name, file in files.items()}


# -- into files -----------------------------------------------------------------------------------------------------

PARTS = {"keys": module_options, "shown": shown, "items": role_options}


def filled(text: str, source: Path, specification: Mapping[str, Any]) -> str:
    """The text with what stands between the lines `# begin: SOURCE PART` and `# end: SOURCE PART` made anew."""
    for part, make in PARTS.items():
        pattern = rf"^( *)# begin: {source.name} {part}\n(.*?)^ *# end: {source.name} {part}$"
        found = re.search(pattern, text, re.MULTILINE | re.DOTALL)
        if found is not None:
            inner = make(specification, len(found[1]))
            text = text[: found.start(2)] + inner + "\n" + text[found.end(2) :]
    return text


def made() -> dict[Path, str]:
    """Every file with a part that is made, as it is to be."""
    result: dict[Path, str] = {ROLE_VARIABLES: role_variables()}
    for source in sources():
        specification = load(source)
        result[source.with_suffix(".py")] = table(source)
        named = []
        if "module" in specification:
            named.append(ROOT / f"plugins/modules/{specification['module']}.py")
        if "role" in specification:
            named.append(ROOT / f"roles/{specification['role']}/meta/argument_specs.yml")
        for path in named:
            text = result.get(path) or path.read_text(encoding="utf-8")
            result[path] = filled(text, source, specification)
    return result


def main() -> int:
    status = 0
    for path, text in made().items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if "--check" in sys.argv[1:]:
            print(f"{path.relative_to(ROOT)} is not what its specification says: run `make specifications`")
            status = 1
        else:
            path.write_text(text, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
