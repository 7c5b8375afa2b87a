# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hypervisors declare of themselves stands once more where Ansible reads nothing but text: imports of drivers,
choices of options, packages of nodes. REGENERATE=1 writes them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.declarations import DECLARED
from ansible_collections.nebula.provision.plugins.module_utils.model.hypervisor import Hypervisor

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = "plugins/module_utils/hypervisors/registry.py"
PACKAGES = "roles/node/vars/main.yml"
CHOICES = [
    *(f"plugins/modules/nebula_{name}.py" for name in ("node", "deploy", "host", "install_wait")),
    "roles/node/meta/argument_specs.yml",
]
FUNCTION = """def _{name}() -> type[Driver]:
    from .{module} import {driver}

    return {driver}


"""


def with_drivers(text: str, declared: list[Hypervisor]) -> str:
    found = "".join(FUNCTION.format(name=each.name, module=each.module[0], driver=each.module[1]) for each in declared)
    text = re.sub(
        r"(?:def _\w+\(\) -> type\[Driver\]:\n    from [^\n]+\n\n    return \w+\n\n\n)+", lambda _: found, text
    )
    lines = "".join(f"\n        {each.name!r}: _{each.name},".replace("'", '"') for each in declared)
    return re.sub(r"_Drivers\(\s*\{[^}]*\}\s*\)", lambda _: f"_Drivers(\n    {{{lines}\n    }}\n)", text)


def with_choices(text: str, declared: list[Hypervisor]) -> str:
    names = ", ".join(sorted(each.name for each in declared))
    return re.sub(
        r"(\n +(?:nebula_)?hypervisor:\n(?:(?! +choices:).*\n){0,8}? +choices: )\[[^\]]*\]",
        lambda match: f"{match[1]}[{names}]",
        text,
    )


def with_packages(text: str, declared: list[Hypervisor]) -> str:
    lists = ["".join([f"  {each.name}:\n", *(f"    - {name}\n" for name in each.packages)]) for each in declared]
    return re.sub(r"(?<=^__nebula_packages_of:\n)(?: +.*\n)+", lambda _: "".join(lists), text, flags=re.MULTILINE)


TEXTS = [(REGISTRY, with_drivers), (PACKAGES, with_packages), *((path, with_choices) for path in CHOICES)]


@pytest.mark.parametrize(("path", "written"), TEXTS, ids=[path for path, _ in TEXTS])
def test_each_text_says_what_hypervisors_declare(path, written):
    text = (ROOT / path).read_text(encoding="utf-8")
    wanted = written(text, [*DECLARED.values()])
    if os.environ.get("REGENERATE"):
        (ROOT / path).write_text(wanted, encoding="utf-8")
    else:
        assert text == wanted, f"REGENERATE=1 pytest {Path(__file__).relative_to(ROOT)} writes it"


@pytest.mark.parametrize(("path", "written"), TEXTS, ids=[path for path, _ in TEXTS])
def test_another_hypervisor_comes_into_each_text(path, written):
    text = (ROOT / path).read_text(encoding="utf-8")
    toy = Hypervisor(name="toy", module=("toy.driver", "ToyDriver"), packages=("toy-tools",))
    found = written(text, [*DECLARED.values(), toy])
    assert found != text and "toy" in found
    assert written(found, [*DECLARED.values()]) == written(text, [*DECLARED.values()])
