# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host whose Python adds to each answer of a module facts that are named like settings, and what they would do.

The names are those of docs/variables.md, of what roles and playbooks keep, and of all connection, shell and become
plugins of the ansible-core that is asked: a new one is here without being written down."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.nebula.provision.plugins.plugin_utils import forged_facts

ROOT = Path(__file__).resolve().parents[2]
# It starts the Python that it is named for, and adds to what that prints. It needs nothing of an environment itself.
INTERPRETER = """#!{python} -IS
import json, subprocess, sys
given = b"" if sys.stdin.isatty() else sys.stdin.buffer.read()
done = subprocess.run([{python!r}, *sys.argv[1:]], input=given, capture_output=True)
text = done.stdout.decode("utf-8", "surrogateescape")
begin = text.find("{{")
try:
    answer = json.loads(text[begin:])
    if not isinstance(answer, dict):
        raise ValueError
except ValueError:
    sys.stdout.buffer.write(done.stdout)
else:
    # JSON may have a name twice, and Ansible takes the last.
    sys.stdout.write(text[:begin] + json.dumps(answer)[:-1] + ", " + {more!r}[1:] + "\\n")
sys.stderr.buffer.write(done.stderr)
sys.stdout.flush()
sys.exit(done.returncode)
"""
_CONNECTION_VARIABLES = """
import json
from ansible import constants
from ansible.plugins import loader as loaders
from ansible.vars.clean import clean_facts
loaders.init_plugin_loader([])
names = set()
for option in constants.config.get_configuration_definitions().values():
    names |= {each["name"] for each in option.get("vars") or ()}
kinds = ("connection", "become", "shell", "strategy", "callback", "cache", "vars", "lookup", "inventory")
for kind in kinds:
    loader = getattr(loaders, kind + "_loader")
    for path in loader.all(path_only=True):
        name = path.rpartition("/")[2].removesuffix(".py")
        try:
            loader.get(name, class_only=True)
        except ImportError:
            continue  # It needs a library that is not here.
        for option in constants.config.get_configuration_definitions(kind, name).values():
            names |= {each["name"] for each in option.get("vars") or ()}
names = {name for name in names if name.isidentifier() and not name.startswith("_")}
print(json.dumps(sorted(clean_facts(dict.fromkeys(names, 1)))))
"""
_GLOBALS = """
import json
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
print(json.dumps(sorted(Templar(DataLoader()).environment.globals)))
"""


def variables() -> set[str]:
    """Return the variables of the documentation, and those that roles and playbooks keep."""
    found = set(re.findall(r"^\| `(nebula_\w+)` \|", (ROOT / "docs/variables.md").read_text(), re.MULTILINE))
    if not {"nebula_vms", "nebula_restricted_dirs"} <= found:
        raise ValueError("docs/variables.md has another form than this reads")
    for path in (*ROOT.glob("playbooks/*.yml"), *ROOT.glob("roles/*/*/*.yml")):
        found |= set(re.findall(r"(?<![A-Za-z0-9_.])(?:__)?nebula_[a-z]\w*", path.read_text()))
    return found | {"nebula_machine", "nebula_guest_node", "nebula_guest_way", "nebula_guest_executable"}


def connection_variables(python: str = sys.executable) -> set[str]:
    """Return the variables by which an ansible-core reaches a host, and that it would take from facts."""
    # Another Python's own packages are no use to it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", _CONNECTION_VARIABLES], env=environment, capture_output=True, text=True, check=True
    )
    return {*json.loads(done.stdout.splitlines()[-1])} - {"inventory_hostname"}


def globals_of_templates(python: str = sys.executable) -> set[str]:
    """Return the names that templates of an ansible-core have without a variable, and that a variable replaces."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-W", "ignore", "-c", _GLOBALS], env=environment, capture_output=True, text=True, check=True
    )
    return {*json.loads(done.stdout.splitlines()[-1])}


def forged(marker: Path, python: str = sys.executable) -> dict[str, Any]:
    """Return facts that would have the file `marker` made on the control node, or change what is decided."""
    program = f"sh -c 'touch {marker}'"
    found: dict[str, Any] = dict.fromkeys(variables() | globals_of_templates(python) | forged_facts.OF_RUNS, "forged")
    found |= dict.fromkeys(connection_variables(python), program)
    found["nebula_vms"] = [{"name": "web-0", "state": "absent"}, {"name": "forged", "template": "base"}]
    found["nebula_restricted_dirs"] = found["nebula_safe_dirs"] = []
    found["nebula_topology_file"] = str(marker)
    found["nebula_guest_node"] = {"ansible_connection": "local", "ansible_become": True, "ansible_become_exe": program}
    found["nebula_machine"] = {"id": 8, "host": "kvm1"}
    return found


# It reads what it is given to run.
ANSWER = """#!/bin/sh
cat >/dev/null
cat <<'THE END'
{answer}
THE END
"""


def answering(answer: str) -> str:
    """Return the text of a program that stands in a host's Python's place, and gives this answer to whatever it is to
    run.
    answer: JSON, also such that Python does not write."""
    return ANSWER.format(answer=answer)


def adding(more: Mapping[str, Any], python: str = sys.executable) -> str:
    """Return the text of a program that stands in a host's Python's place, and adds to the answers of modules.
    more: an object that is not empty."""
    return INTERPRETER.format(python=python, more=json.dumps(more))
