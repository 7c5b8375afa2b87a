# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/variables.md out of the roles' argument_specs, where variables are documented once.
usage: variables.py          writes the page
       variables.py --check  exits with 1 if the page is not what it would write"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/variables.md"
# In the order in which site.yml runs them, then those that are used by themselves.
ROLES = [
    *("frontend", "demo_image", "node", "network", "ovn", "image", "template", "vm", "verify", "guest_context"),
    *("image_prepare", "image_check", "install_os", "machine_backup", "machine_restore", "project", "awx"),
]
HEAD = """# Variables

Every variable of every role, made from `meta/argument_specs.yml` of each by `make variables`. Set them in the
`group_vars` of your inventory. Units are in the text. The keys of a list are shown below it. The first list has the
variables by what you want to do, with the page that explains it.
"""
TASKS = Path(__file__).with_name("variables_by_task.yml")


def prose(description: Any) -> str:
    """The markup of Ansible's documentation as Markdown, on one line of a table."""
    text = " ".join(description) if isinstance(description, list) else str(description or "")
    text = re.sub(r"[OVCI]\(([^)]*)\)", lambda m: f"`{m[1]}`", text)
    text = re.sub(r"[MPR]\(([^)#]*)[^)]*\)", lambda m: f"`{m[1].strip()}`", text)
    text = re.sub(r"B\(([^)]*)\)", r"**\1**", text)
    return text.replace("|", "\\|").replace("\n", " ")


def default(option: dict[str, Any]) -> str:
    if option.get("required"):
        return "required"
    value = option.get("default")
    if value is None:
        return ""
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    return "`" + (shown or "''").replace("|", "\\|") + "`"


def kind(option: dict[str, Any]) -> str:
    name = option.get("type", "str")
    # Lists of items are raw to Ansible, so that the modules themselves refuse a bad one by its name.
    elements = "dict" if option.get("options") else option.get("elements")
    return f"list of {elements}" if elements else name


def rows(options: dict[str, Any], depth: int = 0) -> list[str]:
    lines = []
    for name, option in options.items():
        shown = "&nbsp;&nbsp;&nbsp;&nbsp;" * depth + f"`{name}`"
        text = prose(option.get("description"))
        if option.get("choices"):
            text += " One of " + ", ".join(f"`{choice}`" for choice in option["choices"]) + "."
        lines.append(f"| {shown} | {kind(option)} | {default(option)} | {text} |")
        lines += rows(option.get("options") or {}, depth + 1)
    return lines


def by_task(tasks: list[dict[str, str]], roles: dict[str, str]) -> str:
    """roles: of each variable, the first role that has it."""
    lines = []
    for each in tasks:
        where = each["page"]
        shown = [
            f"[`{name}`](#role-{roles[name]})" if name in roles else f"`-e {name}=…`"
            for name in each["variables"].split()
        ]
        lines.append(f"- **{each['task']}** ([{where.partition('#')[0]}]({where})): {', '.join(shown)}")
    return "## By task\n\n" + "\n".join(lines) + "\n"


def options_of(role: str) -> dict[str, Any]:
    spec = yaml.safe_load((ROOT / "roles" / role / "meta/argument_specs.yml").read_text(encoding="utf-8"))
    main: dict[str, Any] = spec["argument_specs"]["main"]
    return main


def page() -> str:
    roles: dict[str, str] = {}
    # Role demo_image only looks at the images of another.
    for role in sorted(ROLES, key=lambda role: role == "demo_image"):
        for name in options_of(role).get("options") or {}:
            roles.setdefault(name, role)
    tasks = yaml.safe_load(TASKS.read_text(encoding="utf-8"))
    missing = sorted({*roles} - {name for each in tasks for name in each["variables"].split()})
    if missing:
        raise SystemExit(f"{', '.join(missing)}: say in {TASKS.name} what somebody does by it")
    parts = [HEAD, by_task(tasks, roles)]
    for role in ROLES:
        main = options_of(role)
        parts.append(f"## Role `{role}`\n\n{main['short_description']}.\n")
        table = rows(main.get("options") or {})
        parts.append("| variable | type | default | meaning |\n|---|---|---|---|\n" + "\n".join(table) + "\n")
    return "\n".join(parts)


def main() -> int:
    text = page()
    if "--check" in sys.argv[1:]:
        if PAGE.read_text(encoding="utf-8") != text:
            print(f"{PAGE.relative_to(ROOT)} is not what the argument_specs say: run `make variables`")
            return 1
        return 0
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
