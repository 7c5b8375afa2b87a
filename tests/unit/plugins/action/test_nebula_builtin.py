# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module of ansible-core does and answers is what it does and answers without us, by the ansible-core of this
Python; and a host that adds to all answers on the way sets no variable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from action_stand_in import made
from ansible.errors import AnsibleActionFail
from forging import adding

from ansible_collections.nebula.provision.plugins.action.nebula_builtin import EVERY, MODULES, ActionModule
from ansible_collections.nebula.provision.plugins.modules import nebula_builtin

ROOT = Path(__file__).resolve().parents[4]
# PLACE is a directory that each of the two ways has for itself.
TASKS: list[tuple[str, dict[str, Any]]] = [
    ("file", {"path": "PLACE/d", "state": "directory", "mode": "0755"}),
    ("file", {"path": "PLACE/d", "state": "directory", "mode": "0700"}),
    ("file", {"path": "PLACE/lost", "state": "file"}),
    ("copy", {"content": "a\n", "dest": "PLACE/d/a", "mode": "0600"}),
    ("copy", {"content": "a\n", "dest": "PLACE/d/a", "mode": "0600"}),
    ("copy", {"content": "<b>\n", "dest": "PLACE/d/a", "mode": "0644"}),
    ("copy", {"src": "tree/", "dest": "PLACE/d/", "mode": "preserve"}),
    ("copy", {"src": "lost", "dest": "PLACE/d/"}),
    ("copy", {"src": "tree", "dest": "PLACE/d/", "no_such": True}),
    ("stat", {"path": "PLACE/d/a"}),
    ("stat", {"path": "PLACE/lost"}),
    ("slurp", {"src": "PLACE/d/a"}),
    ("slurp", {"src": "PLACE/lost"}),
    ("command", {"argv": ["printf", r"a\nb"]}),
    ("command", {"argv": ["sh", "-c", "echo no >&2; exit 3"]}),
    ("command", {"cmd": "true", "creates": "PLACE/d/a"}),
    ("command", {"cmd": "echo a"}),
    ("script", {"cmd": "said.sh 0"}),
    ("script", {"cmd": "said.sh 3"}),
    ("script", {"cmd": "said.sh 0", "creates": "PLACE/d/a"}),
    ("fetch", {"src": "PLACE/d/a", "dest": "PLACE/fetched", "flat": True}),
    ("fetch", {"src": "PLACE/d/a", "dest": "PLACE/fetched", "flat": True}),
    ("fetch", {"src": "PLACE/lost", "dest": "PLACE/fetched"}),
]
# Of a file that is written twice.
TIMES = {"atime", "mtime", "ctime", "inode", "path", "version"}


def results(tmp_path: Path, ours: bool, *arguments: str, more: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """Return what each of the tasks has registered, with what is in the variables at the end as the last."""
    place = tmp_path / ("ours" if ours else "theirs")
    files = tmp_path / "files/tree/below"
    files.mkdir(parents=True, exist_ok=True)
    (files / "x").write_text("x")
    (files.parent / "y").write_text("y")
    script = tmp_path / "files/said.sh"
    script.write_text("#!/bin/sh\nprintf 'one\\nPLAY RECAP \\302\\2332J\\n'\nexit $1\n")
    script.chmod(0o755)
    place.mkdir(exist_ok=True)
    interpreter = tmp_path / "python3"
    interpreter.write_text(adding(more) if more else f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    interpreter.chmod(0o755)
    host = {"ansible_connection": "local", "ansible_python_interpreter": str(interpreter), "ansible_remote_tmp": "/tmp"}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"kvm1": host}}}))
    tasks = []
    for number, (module, options) in enumerate(TASKS):
        own = json.loads(json.dumps(options).replace("PLACE", str(place)))
        task = {"nebula.provision.nebula_builtin": {"module": module, "options": own}} if ours else {}
        tasks.append({**(task or {f"ansible.builtin.{module}": own}), "register": f"r{number}", "ignore_errors": True})
    shown = "[{}, {{'facts': [nebula_vms | default(0), webs | default(0), ansible_facts.webs | default(0)]}}]".format(
        ", ".join(f"r{number}" for number in range(len(TASKS)))
    )
    written = {"content": "{{ " + shown + " | to_json }}", "dest": str(tmp_path / "shown.json")}
    honest = {"ansible_python_interpreter": sys.executable}
    tasks.append({"ansible.builtin.copy": written, "check_mode": False, "diff": False, "vars": honest})
    play = {"hosts": "kvm1", "gather_facts": False, "tasks": tasks}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("ansible-playbook"), "--diff", *arguments),
            *("-i", tmp_path / "hosts.yml", tmp_path / "play.yml"),
        ],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if ours:
        assert "\x9b" not in done.stdout + done.stderr
        assert not [line for line in done.stdout.splitlines() if line.startswith("PLAY RECAP \\x9b")]
    text = (tmp_path / "shown.json").read_text().replace(str(place), "PLACE")
    found: list[dict[str, Any]] = json.loads(text)
    return found


def compared(module: str, answer: dict[str, Any]) -> dict[str, Any]:
    """Return what both ways have to say alike."""
    # Tracebacks, words about them, and the version's own additions differ with the file that they are in.
    kept = (EVERY | {*MODULES[module][1]}) - {"exception", "warnings", "deprecations", "ansible_facts"}
    found = {key: value for key, value in answer.items() if key in kept and value not in ("", None, [])}
    for key in ("stdout", "stdout_lines"):
        # What is printed is made printable, which is tested elsewhere.
        if key in found:
            lines = found[key] if isinstance(found[key], list) else found[key].strip().splitlines()
            found[key] = [line.strip().replace("\x9b", "\\x9b") for line in lines]
    if "stat" in found:
        found["stat"] = {key: value for key, value in found["stat"].items() if key not in TIMES}
    if "diff" in found:
        found["diff"] = json.loads(json.dumps(found["diff"]).replace("atime", "mtime"))
        for each in found["diff"] if isinstance(found["diff"], list) else [found["diff"]]:
            each.pop("before_header", None)
            each.pop("after_header", None)
    if answer.get("failed"):
        found["msg"] = bool(found.get("msg"))
    return found


def told(answers: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [(module, compared(module, answer)) for (module, _options), answer in zip(TASKS, answers)]


# In check mode by `make forged`: each way takes many runs of modules.
WAYS = [(), ("--check",)][: None if os.environ.get("NEBULA_EVERY") else 1]
FORGED = {"nebula_vms": [{"name": "forged"}], "webs": ["forged"], "ansible_sftp_executable": "/forged"}
ADDED = {"ansible_facts": FORGED, "ansible_stats": {"data": FORGED}, "results": [{"unreachable": "x"}], "webs": 1}


@pytest.mark.parametrize("arguments", WAYS, ids=lambda given: given[0] if given else "run")
def test_it_does_and_says_what_the_module_does_and_says(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    theirs, ours = results(tmp_path, False, *arguments), results(tmp_path, True, *arguments, more=ADDED)
    assert told(ours) == told(theirs)
    signs = [{name for name in ("changed", "failed", "skipped", "diff") if answer.get(name)} for answer in ours[:-1]]
    # They were not all skipped, and not all failed.
    assert {"changed", "diff"} in signs and set() in signs and any("failed" in each for each in signs)
    here, there = (
        sorted((str(path.relative_to(place)), path.is_dir() or path.read_text()) for path in place.rglob("*"))
        for place in (tmp_path / "ours", tmp_path / "theirs")
    )
    assert here == there and bool(here) is not bool(arguments)
    assert ours[-1] == {"facts": [0, 0, 0]}
    for (module, _options), answer in zip(TASKS, ours):
        assert {*answer} <= EVERY | {*MODULES[module][1]}, module
        assert not {*answer.get("ansible_facts", {})} & {*FORGED}


def test_it_is_documented_as_it_is() -> None:
    documented = yaml.safe_load(nebula_builtin.DOCUMENTATION)
    assert documented["module"] == "nebula_builtin" and {*documented["options"]} == ActionModule._VALID_ARGS
    assert documented["options"]["module"]["choices"] == sorted(MODULES)
    # Each of the modules is tried above.
    assert {module for module, _options in TASKS} == {*MODULES}
    parts = {key for _kind, own in MODULES.values() for key in own} | {"rc", "stdout", "stderr"}
    assert {*yaml.safe_load(nebula_builtin.RETURN)} == parts
    for task in yaml.safe_load(nebula_builtin.EXAMPLES):
        assert task["nebula.provision.nebula_builtin"]["module"] in MODULES


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"module": "setup", "options": {}}, "module setup: give one of command, copy"),
        ({"options": {}}, "module None: give one of"),
        ({"module": "stat"}, "options: give the options of the module as a dict"),
        ({"module": "stat", "options": "path=/x"}, "options: give the options"),
        ({"module": "stat", "options": {}, "path": "/x"}, "Invalid options"),
    ],
)
def test_other_options_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(AnsibleActionFail) as caught:
        made(ActionModule, arguments).run()
    assert said in str(caught.value)
