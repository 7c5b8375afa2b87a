# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/attributes.md out of the table in model/attributes.py, by which templates are judged.
usage: attributes.py          writes the page
       attributes.py --check  exits with 1 if the page is not what it would write"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/attributes.md"
sys.path.insert(0, str(ROOT / "collections"))

from ansible_collections.nebula.provision.plugins.module_utils.model.attributes import TABLE, AttributeEffects  # noqa: E402

HEAD = """# Attributes of templates

Every attribute of OpenNebula 7.4's templates, those of older ones that are still met, and the collection's own, with
what becomes of each. Made by `make attributes` from the table that the code itself goes by (`model/attributes.py`).

| word | means |
|---|---|
| acts | it makes another machine, or another context |
| refused | a template or machine that asks for it is refused, with the attribute's name |
| no effect | it is kept, and a warning says so each time the template is stored |
| kept | it is kept without a word |

The columns are for hosts that run KVM (emulated, too) and Xen. Attributes in no table are yours: they are kept,
and `$NAME` names them in CONTEXT. One that looks like a slip of a known one gets a warning, and so does each key in
one of these vectors that is not in its table, unless CONTEXT names it (`$NIC[ROLE]`). With `strict: true` they are
errors; a key that the catalog has already stays a warning.

Names of machines and of what they are made of may be freer here than with a real OpenNebula, which takes none with
one of `& | : \\ " ; ' # { } $ < >`, none of more than 128 bytes, and for hosts only names of hosts. A warning says so
when an object gets such a name.
"""
MACHINE = "The machine itself"


def cell(entry: AttributeEffects) -> str:
    names = []
    for name in entry.names:
        shown = f"`{name}`"
        if not name:
            shown = "the vector itself"
        elif name == "*":
            shown = "any" if len(entry.names) == 1 else "anything in it"
        names.append(shown)
    return ", ".join(names)


def row(entry: AttributeEffects) -> str:
    why = entry.why + (f". {entry.instead}" if "refused" in (entry.kvm, entry.xen) else "")
    return f"| {cell(entry)} | {entry.kvm} | {entry.xen} | {why} |"


def page() -> str:
    sections: dict[str, list[AttributeEffects]] = {}
    for entry in TABLE:
        sections.setdefault(entry.vector, []).append(entry)
    parts = [HEAD]
    for vector, entries in sections.items():
        title = f"## {f'`{vector}`' if vector else MACHINE}\n"
        head = "| attribute | KVM | Xen | |\n|---|---|---|---|"
        parts.append("\n".join((title, head, *map(row, entries))) + "\n")
    return "\n".join(parts)


def main() -> int:
    text = page()
    if "--check" in sys.argv[1:]:
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
            print(f"{PAGE.relative_to(ROOT)} is not what the table says: run `make attributes`")
            return 1
        return 0
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
