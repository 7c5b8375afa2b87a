# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The value of an expression at the end of a run of Ansible. It is printed: a task that writes it to a file starts two
modules, which takes as long as all else of a small run."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

# In base64 no word of it is found in the output by a test that looks for secrets there, and nothing is escaped.
_MARK = "nebula shows "


def show(expression: str) -> dict[str, Any]:
    """Return a task that prints the value of an expression."""
    return {"ansible.builtin.debug": {"msg": f"{_MARK}{{{{ {expression} | to_json | b64encode }}}}"}}


def shown(output: str) -> Any:
    """Return the value that the task of show() has printed last, and None where it has not."""
    found = re.findall(rf"{_MARK}([A-Za-z0-9+/=]+)", output)
    return json.loads(base64.b64decode(found[-1])) if found else None
