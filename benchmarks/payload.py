# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules as Ansible sends them to a target: one file, with a zip of all that they import, run by its Python."""

from __future__ import annotations

import ast
import base64
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from measure import Finished, MeasurementFailed, run
from setting import CHECKOUT, HERE, SYSTEM_PYTHON, ansible_environment, world

_PARAMS = re.compile(r"^params=(?P<value>.*),$", re.MULTILINE)
_ZIP = re.compile(r"^zip_data='(?P<value>[A-Za-z0-9+/=]*)',?$", re.MULTILINE)


@dataclass(frozen=True)
class Payload:
    """The text of such a file. size: bytes of its zip, which is what grows with each import."""

    module: str
    text: str

    @property
    def size(self) -> int:
        return len(base64.b64decode(self._find(_ZIP)))

    def with_arguments(self, arguments: Mapping[str, Any]) -> str:
        """The same with other arguments, in place of those that it was made with; what Ansible itself adds stays."""
        params = json.loads(ast.literal_eval(self._find(_PARAMS)))
        own = {name: value for name, value in params["ANSIBLE_MODULE_ARGS"].items() if name.startswith("_ansible_")}
        params["ANSIBLE_MODULE_ARGS"] = {**own, "_ansible_check_mode": False, **arguments}
        replacement = f"params={json.dumps(params)!r},"
        return _PARAMS.sub(lambda _found: replacement, self.text, count=1)

    def run(self, arguments: Mapping[str, Any]) -> Finished:
        """On this machine, as a target does it. Raises MeasurementFailed if the module fails."""
        file = world() / f"payload-{self.module}.py"
        file.write_text(self.with_arguments(arguments), encoding="utf-8")
        try:
            return run([SYSTEM_PYTHON, file])
        finally:
            file.unlink()

    def _find(self, pattern: re.Pattern[str]) -> str:
        found = pattern.search(self.text)
        if found is None:
            raise MeasurementFailed(f"module {self.module}: Ansible's wrapper has another form than {pattern.pattern}")
        return found["value"]


def result(done: Finished) -> dict[str, Any]:
    """What the module returned."""
    values: dict[str, Any] = json.loads(done.output.splitlines()[-1])
    return values


def payloads(modules: Sequence[str]) -> dict[str, Payload]:
    """Has Ansible make them: it keeps what it sends, whatever becomes of a task. In check mode: nothing changes."""
    kept = world() / "payloads"
    play = {
        "hosts": "world",
        "gather_facts": False,
        "tasks": [{"name": name, name: {}, "check_mode": True, "ignore_errors": True} for name in modules],
    }
    written = world() / "payloads.yml"
    written.write_text(json.dumps([play]), encoding="utf-8")
    environment = {
        **ansible_environment(),
        "ANSIBLE_REMOTE_TMP": str(kept),
        "ANSIBLE_KEEP_REMOTE_FILES": "1",
        "ANSIBLE_PIPELINING": "0",
    }
    run([CHECKOUT / ".venv/bin/ansible-playbook", "-i", HERE / "inventory", written], environment)
    found = {}
    for file in kept.glob("*/AnsiballZ_*.py"):
        short = file.stem.removeprefix("AnsiballZ_")
        for name in modules:
            if name.rsplit(".", 1)[-1] == short:
                found[name] = Payload(short, file.read_text(encoding="utf-8"))
    shutil.rmtree(kept)
    written.unlink()
    missing = set(modules) - set(found)
    if missing:
        raise MeasurementFailed(f"Ansible made no payload of {', '.join(sorted(missing))}")
    return found
