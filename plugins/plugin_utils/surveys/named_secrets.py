# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds secrets by their names in a dict, or in what somebody typed into a credential of AWX, one secret in each line.

A value is everything after `name:`, to the end of its line: a password may have any character, so this is not YAML. As
in YAML, quotes around a value are no part of it, and the lines below `name: |` are one value if they are indented."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from typing import Any

import yaml

FORM = "Write one secret in each line, as 'name: value'"
_LINE = re.compile(r"(?P<name>[A-Za-z_][\w.-]*)[ \t]*:(?:[ \t]+(?P<value>.*?))?[ \t]*")


class NoSecret(Exception):
    """Says that there is no secret of that name, or nothing that has secrets. Its text never holds a value."""


def secret_of(given: Any, name: str) -> str:
    """Return the secret called name. Raise NoSecret if there is none. given: the value of nebula_secrets."""
    if given is None or given == "":
        raise NoSecret(
            f"Secret {name}: nebula_secrets is not set. In AWX, add a credential with secrets to the job template; "
            "elsewhere set it in a vaulted file of variables"
        )
    secrets = given if isinstance(given, Mapping) else _secrets_of_text(str(given))
    if name not in secrets:
        names = ", ".join(sorted(map(str, secrets))) or "none"
        raise NoSecret(f"Secret {name}: nebula_secrets has no secret of this name; it has {names}")
    value = secrets[name]
    if not isinstance(value, str):
        kind = "nothing" if value is None else f"a {type(value).__name__}"
        raise NoSecret(f"Secret {name}: in nebula_secrets it is {kind}, and no text. Put it in quotes")
    if not value:
        raise NoSecret(f"Secret {name}: in nebula_secrets it is empty. {FORM}")
    return str(value)


def _secrets_of_text(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    lines = text.replace("\r\n", "\n").split("\n")
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parts = _LINE.fullmatch(line)
        if parts is None:
            raise NoSecret(f"nebula_secrets: line {number} is no secret. {FORM}")
        name, value = parts["name"], parts["value"] or ""
        if name in found:
            raise NoSecret(f"nebula_secrets: {name} is there twice. Take one of the two out")
        if value in ("|", "|-", ">", ">-"):
            block = []
            while number < len(lines) and (not lines[number].strip() or lines[number][0] in " \t"):
                block.append(lines[number])
                number += 1
            value = textwrap.dedent("\n".join(block)).strip("\n") + ("" if value.endswith("-") else "\n")
        found[name] = _unquoted(value)
    return found


def _unquoted(value: str) -> str:
    """Return the value without its quotes, if the whole value is in quotes."""
    if len(value) < 2 or value[0] != value[-1] or value[0] not in "'\"":
        return value
    try:
        inner = yaml.safe_load(value)
    except yaml.YAMLError:
        return value
    return inner if isinstance(inner, str) else value
