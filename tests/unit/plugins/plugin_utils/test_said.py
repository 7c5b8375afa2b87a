# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing that a host answers controls a terminal, or turns the direction in which a message is read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from forging import adding

from ansible_collections.nebula.provision.plugins.action import nebula_install_wait
from ansible_collections.nebula.provision.plugins.plugin_utils import progress
from ansible_collections.nebula.provision.plugins.plugin_utils.guest.problems import explained
from ansible_collections.nebula.provision.plugins.plugin_utils.said import harmless_answer

ROOT = Path(__file__).resolve().parents[4]
# Escape sequences of one and of two bytes, a carriage return, bidirectional controls, invisible characters, separators,
# tags, and half of a pair of surrogates.
HOSTILE = (
    *("\x1b[2J", "\x9b2J", "\x07", "\r", "\x08", "\x00", "\u202e", "\u2066", "\u200f", "\u061c", "\u200b", "\ufeff"),
    *("\u2028", "\u2029", "\U000e0041", "\udc80"),
)


def texts(value: Any) -> Iterator[str]:
    """Yield each text in the value as it is: str() of a list would show escapes."""
    if isinstance(value, str):
        yield value
    for each in [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts(each)


@pytest.mark.parametrize(
    "name", ["msg", "warnings", "exception", "stderr", "stdout_lines", "diff", "module_stdout", "errors", "error"]
)
@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: f"{ord(text[0]):x}")
def test_what_is_printed_of_an_answer_prints(name: str, text: str) -> None:
    value = {"msg": f"a{text}b", "warnings": [f"a{text}b"], "stdout_lines": [f"a{text}b"], "exception": f"a{text}b"}
    value |= {"stderr": f"a{text}b", "diff": [{"before": f"a{text}b", "after": {text: text}}]}
    value |= {"errors": [{"found": f"a{text}b"}], "error": {"found": f"a{text}b"}}
    found = [*texts(harmless_answer({name: value.get(name, f"a{text}b"), "data": text})[name])]
    assert any("a" in each for each in found)
    assert all(each.isprintable() and text not in each for each in found)


def test_lines_stay_lines_and_data_stays_data() -> None:
    answer = {"msg": "two\nlines\tand é", "content": "\x1b[2J\r\n", "changed": True}
    assert harmless_answer(dict(answer)) == answer


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: f"{ord(text[0]):x}")
def test_a_guests_words_in_an_error_print(text: str) -> None:
    for problem in ("failed", "login", "silent", "libvirt"):
        said = explained({"problem": problem, "found": f"a{text}b"}, "one-1", "kvm1", "run", "", console=True)
        assert said.isprintable() and "one-1" in said


def shown_of(monkeypatch: pytest.MonkeyPatch, report: str) -> list[str]:
    """Return the lines that are displayed of the progress of installations."""
    lines: list[str] = []
    monkeypatch.setattr(nebula_install_wait, "Display", lambda: SimpleNamespace(display=lines.append))
    say = nebula_install_wait._Lines().say
    action = SimpleNamespace(_low_level_execute_command=None)
    progress._Job(action, "/x", lambda text: say(f"nebula_install: {text}"))._show(report)
    return lines


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: f"{ord(text[0]):x}")
def test_a_line_of_progress_prints(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    lines: list[str] = []
    monkeypatch.setattr(progress, "Display", lambda: SimpleNamespace(display=lines.append))
    shell = SimpleNamespace(tmpdir="/tmp/task", join_path=lambda *parts: "/".join(parts))
    action = SimpleNamespace(
        _task=SimpleNamespace(async_val=0, check_mode=False),
        _connection=SimpleNamespace(_shell=shell),
        _low_level_execute_command=None,
    )

    def execute(**_options: Any) -> dict[str, Any]:
        action._low_level_execute_command.__self__._show(f"a{text}b\nc")
        return {}

    action._execute_module = execute
    progress.run_with_progress(action, "m", {}, {}, "nebula_deploy")
    (line,) = lines
    assert line.isprintable() and text not in line and line.endswith("b c")


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: f"{ord(text[0]):x}")
def test_a_line_that_json_hides_prints(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (line,) = shown_of(monkeypatch, json.dumps({"web": f"a{text}b\nc"}))
    assert line.isprintable() and text not in line


def test_the_lines_of_many_installations_are_shown_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    report = {f"install-{number}": f"{number}: waiting for the installer" for number in range(100)}
    assert shown_of(monkeypatch, json.dumps(report)) == [f"nebula_install: {line}" for line in report.values()]


def test_an_error_that_a_host_answers_is_printed_without_its_escapes(tmp_path: Path) -> None:
    interpreter = tmp_path / "python3"
    interpreter.write_text(
        adding({"failed": True, "msg": "lost \x1b[2J\u202ereversed", "warnings": ["\x1b]0;owned\x07"]})
    )
    interpreter.chmod(0o755)
    host = {"ansible_connection": "local", "ansible_python_interpreter": str(interpreter)}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"kvm1": host}}}))
    tasks = [{"nebula.provision.nebula_packages": {"names": ["dpkg"]}}]
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "kvm1", "gather_facts": False, "tasks": tasks}]))
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", tmp_path / "hosts.yml", tmp_path / "play.yml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 2 and "reversed" in printed and "owned" in printed
    assert not {"\x1b", "\u202e", "\x07"} & {*printed}
