# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds templates in a variable that cannot be filled in, and reports them without the variable's value.

ansible-core's own message has, before 2.19, the whole value of a variable whose template fails, and since then the
lines of the file around it: passwords among them, whatever no_log says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ansible.errors import AnsibleLookupError

# Only these words of a message are shown: they are names, and never values.
_UNDEFINED = re.compile(r"'(\w{1,60})' is undefined|has no attribute '(\w{1,60})'")
_VAULT = re.compile(r"vault|decrypt", re.IGNORECASE)


class HarmlessError(Exception):
    """Is an error of this collection whose text may be shown: it holds no value that could be a secret."""


class HarmlessLookupError(HarmlessError, AnsibleLookupError):
    """Is the error of a lookup of this collection. Its text may be shown: it holds no value that could be a secret."""


def reason_of(error: BaseException) -> str:
    """Return why a template cannot be filled in; only names are taken over from Ansible's message."""
    for each in _chain(error):
        if isinstance(each, HarmlessError):
            return str(each)
    text = str(getattr(error, "message", "") or error)
    found = list(_UNDEFINED.finditer(text))
    if found:
        name, attribute = found[-1].groups()
        return f"variable {name} is undefined" if name else f"there is no {attribute} in what is there"
    if _VAULT.search(text):
        return "it can't be decrypted: give the vault's password"
    return f"a template in it can't be filled in ({type(error).__name__})"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and its causes. Ansible wraps errors of lookups, each version in its own way."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = getattr(error, "orig_exc", None) or error.__cause__ or error.__context__


def faulty_templates(value: Any, where: str, fill_in: Callable[[Any], Any]) -> Iterator[str]:
    """Yield place and reason of each template below the value (as it was written) that cannot be filled in."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from faulty_templates(item, f"{where}.{key}", fill_in)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from faulty_templates(item, f"{where}[{index}]", fill_in)
    else:
        try:
            fill_in(value)
        except Exception as error:
            # The value is left out by `default(omit)`.
            if type(error).__name__ != "AnsibleValueOmittedError":
                yield f"{where}: {reason_of(error)}"
