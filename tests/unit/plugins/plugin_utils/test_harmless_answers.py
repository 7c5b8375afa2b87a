# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing that a host answers controls a terminal, turns the direction in which a message is read, or is a line like
Ansible's own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from forging import adding, answering

from ansible_collections.nebula.provision.plugins.action import nebula_install_wait
from ansible_collections.nebula.provision.plugins.plugin_utils import background_modules, harmless_answers
from ansible_collections.nebula.provision.plugins.plugin_utils.guest.problems import sentence_about
from ansible_collections.nebula.provision.plugins.plugin_utils.harmless_answers import (
    DEEPEST,
    OF_THE_TASK,
    harmless_answer,
    harmless_output,
    message,
)

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


def test_data_stays_data() -> None:
    answer = {"msg": "é\t", "content": "\x1b[2J\r\nok: [kvm1]", "changed": True, "rc": 0}
    assert harmless_answer(dict(answer)) == answer


@pytest.mark.parametrize("name", ["failed", "unreachable", "rc"])
@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: f"{ord(text[0]):x}")
def test_all_of_a_failure_prints(name: str, text: str) -> None:
    found = harmless_answer({name: 1, f"a{text}": {"results": [{f"b{text}": [f"c{text}"]}], "d": 1, "e": None}})
    assert all(each.isprintable() for each in texts({str(key): value for key, value in found.items()}))
    ((key, value),) = [item for item in found.items() if item[0] != name]
    assert key.isprintable() and (value["d"], value["e"]) == (1, None)
    assert all(each.isprintable() for each in value["results"][0])


def test_a_failure_keeps_the_lines_of_its_data() -> None:
    answer = {"failed": True, "msg": "é", "links": [{"content": "a\nb\n"}], "diff": [{"before": "a\nb\n", "after": ""}]}
    assert harmless_answer(dict(answer)) == answer


FORGED = "ended\nPLAY RECAP ****\r\nkvm1 : ok=1\n\tok: [kvm1]\n"


@pytest.mark.parametrize(
    "name",
    [
        *("msg", "reason", "exception", "stdout", "stderr", "module_stdout", "module_stderr", "warnings"),
        *("deprecations", "error", "errors", "differs", "differences", "refused_answers", "consistency", "repaired"),
    ],
)
def test_no_line_of_an_answer_is_one_of_ansible(name: str) -> None:
    for value in (FORGED, [FORGED], {"host": FORGED}, [{"sentence": FORGED, "event": {"msg": FORGED}}]):
        for found in texts(harmless_answer({name: value})[name]):
            assert found in ("host", "sentence", "event", "msg") or len(found.splitlines()) == 5
            assert all(line.startswith("    ") for line in found.splitlines()[1:])


def test_the_heading_of_a_difference_is_no_line_of_ansible() -> None:
    (found,) = harmless_answer({"diff": [{"before_header": FORGED, "prepared": FORGED, "before": FORGED}]})["diff"]
    for text in (found["before_header"], found["prepared"]):
        assert all(line.startswith("    ") for line in text.splitlines()[1:])
    assert found["before"] == FORGED.replace("\r", r"\r")


@pytest.mark.parametrize("name", ["_ansible_no", "_ansible_\n", "add_host", "add_group"])
def test_what_ansible_takes_out_with_a_warning_is_one_line(name: str) -> None:
    ((key, value),) = harmless_answer({name: FORGED}).items()
    assert key.isprintable() and value.isprintable() and "PLAY RECAP" in value


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"a": 1}', '{"a": 1}'),
        ('{"a": 1}\n', '{"a": 1}\n'),
        ("Traceback\nok: [kvm1]\n", "Traceback\n    ok: [kvm1]\n    "),
        ("[1]\nok: [kvm1]", "[1]\n    ok: [kvm1]"),
        ('{"msg": "a\\nok: [kvm1]"}', '{"msg": "a\\n    ok: [kvm1]"}'),
        ('hello\n{"msg": "a"}\nok: [kvm1]', '{"msg": "a"}'),
        ("{" * 50000, "{" * 50000),
    ],
)
def test_what_a_module_printed(text: str, shown: str) -> None:
    assert harmless_output(text) == shown


@pytest.mark.parametrize(
    ("sentences", "heading", "shown"),
    [
        ([], "", ""),
        (["a\nb"], "", "a\n    b"),
        (["a", "ok: [kvm1]"], "", "- a\n- ok: [kvm1]"),
        (["a"], "found\x07:", "found\\x07:\n- a"),
    ],
)
def test_a_message_of_several_sentences(sentences: list[str], heading: str, shown: str) -> None:
    assert message(sentences, heading) == shown


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: f"{ord(text[0]):x}")
def test_a_guests_words_in_an_error_print(text: str) -> None:
    for problem in ("failed", "login", "silent", "libvirt"):
        said = sentence_about({"problem": problem, "found": f"a{text}b"}, "one-1", "kvm1", "run", "", console=True)
        assert said.isprintable() and "one-1" in said


def shown_of(monkeypatch: pytest.MonkeyPatch, report: str) -> list[str]:
    """Return the lines that are displayed of the progress of installations."""
    lines: list[str] = []
    monkeypatch.setattr(nebula_install_wait, "Display", lambda: SimpleNamespace(display=lines.append))
    say = nebula_install_wait._Lines().say
    action = SimpleNamespace(_low_level_execute_command=None)
    background_modules._Job(action, "/x", lambda text: say(f"nebula_install: {text}"))._show(report)
    return lines


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: f"{ord(text[0]):x}")
def test_a_line_of_progress_prints(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    lines: list[str] = []
    monkeypatch.setattr(background_modules, "Display", lambda: SimpleNamespace(display=lines.append))
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
    background_modules.run_with_progress(action, "m", {}, {}, "nebula_deploy")
    (line,) = lines
    assert line.isprintable() and text not in line and line.endswith("b c")


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: f"{ord(text[0]):x}")
def test_a_line_that_json_hides_prints(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (line,) = shown_of(monkeypatch, json.dumps({"web": f"a{text}b\nc"}))
    assert line.isprintable() and text not in line


def test_the_lines_of_many_installations_are_shown_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    report = {f"install-{number}": f"{number}: waiting for the installer" for number in range(100)}
    assert shown_of(monkeypatch, json.dumps(report)) == [f"nebula_install: {line}" for line in report.values()]


LINE = "kvm1 : ok=9 changed=0 unreachable=0 failed=0"


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_an_error_that_a_host_answers_is_printed_without_its_escapes_and_lines(tmp_path: Path, form: str) -> None:
    interpreter = tmp_path / "python3"
    answer = {"failed": True, "msg": f"lost \x1b[2J\u202ereversed\n{LINE}", "warnings": ["\x1b]0;owned\x07"]}
    answer |= {
        "exception": f"Traceback\n{LINE}",
        "module_stdout": f"\x9b2J\n{LINE}",
        "else\x9b": [f"\x9b\u2066\n{LINE}"],
    }
    interpreter.write_text(adding({**answer, "_ansible_else": f"\x9b\n{LINE}"}))
    interpreter.chmod(0o755)
    host = {"ansible_connection": "local", "ansible_python_interpreter": str(interpreter)}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"kvm1": host}}}))
    tasks = [{"nebula.provision.nebula_packages": {"names": ["dpkg"]}}]
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "kvm1", "gather_facts": False, "tasks": tasks}]))
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", tmp_path / "hosts.yml", tmp_path / "play.yml"],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": form},
        capture_output=True,
        text=True,
        check=False,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 2 and "reversed" in printed and "owned" in printed
    assert not {"\x1b", "\u202e", "\x07", "\x9b", "\u2066", "\r"} & {*printed}
    assert "kvm1 : ok=9" in printed and not [line for line in printed.splitlines() if line.startswith("kvm1 : ok=9")]


# --- what Ansible goes by --------------------------------------------------------------------------------------------


def nested(depth: int, inner: str = "1") -> str:
    """A list within lists, as JSON: Python itself writes none that is very deep."""
    return "[" * depth + inner + "]" * depth


# Of each kind that JSON has, as it writes them.
KINDS = ("null", "true", "0", "1.5", '"x"', '"no"', "[]", "[1]", "{}", '{"a": 1}', "NaN", nested(20))
# What each key that Ansible goes by may have, of these.
GOOD = {
    **{name: {"true"} for name in ("changed", "failed", "skipped", "unreachable")},
    **{name: {'"x"', '"no"'} for name in ("stdout", "stderr")},
    **{name: {"[]", "[1]", nested(20)} for name in ("warnings", "deprecations")},
    "rc": {"0"},
    "ansible_facts": {"{}", '{"a": 1}'},
}
REFUSED = "kvm1: the answer of m has in {} what no module says there. It was not taken. See what answers in the "


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", GOOD)
def test_what_ansible_goes_by_is_of_its_kind(name: str, kind: str) -> None:
    text = f'{{"x": 1, "{name}": {kind}}}'
    answer = json.loads(harmless_output(text, "kvm1: the answer of m"))
    if kind in GOOD[name]:
        assert answer == json.loads(text)
    else:
        assert answer["failed"] is True and answer["changed"] is False and "x" not in answer
        assert answer["msg"].startswith(REFUSED.format(name))


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    warnings: list[str] = []
    monkeypatch.setattr(harmless_answers, "Display", lambda: SimpleNamespace(warning=warnings.append))
    return warnings


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", sorted(OF_THE_TASK))
def test_what_only_ansible_adds_is_taken_out(warned: list[str], name: str, kind: str) -> None:
    assert json.loads(harmless_output(f'{{"x": 1, "{name}": {kind}}}', "kvm1: the answer of m")) == {"x": 1}
    assert [text.startswith(f"kvm1: the answer of m had {name}, which only Ansible") for text in warned] == [True]


def test_no_module_of_ours_says_what_is_taken_out() -> None:
    for path in ROOT.glob("plugins/modules/nebula_*.py"):
        (text,) = re.findall(r'^RETURN = r"""(.*?)"""', path.read_text(), re.MULTILINE | re.DOTALL)
        assert not OF_THE_TASK & {*(yaml.safe_load(text) or ())}, path.name


@pytest.mark.parametrize("depth", [DEEPEST, 100, 400, 3000, 100_000])
@pytest.mark.parametrize("before", ["", "hello\n"])
def test_what_is_too_deep_is_a_failure(before: str, depth: int) -> None:
    answer = json.loads(harmless_output(f'{before}{{"x": {nested(depth)}}}', "kvm1: the answer of m"))
    assert answer["failed"] is True
    assert answer["msg"].startswith(f"kvm1: the answer of m is deeper than {DEEPEST} lists and objects")


def test_what_is_less_deep_is_an_answer() -> None:
    text = f'{{"x": {nested(DEEPEST - 1)}}}'
    assert harmless_output(text) == text


def test_what_is_left_of_a_long_text_is_looked_at() -> None:
    """The whole is no JSON, and what is left after the middle was taken out is."""
    text = '{"failed": "x", "msg": "\\u001b[2J"}\n' + "x\n" * 400_000 + "}\n" + "x\n" * 400_000
    assert harmless_output(text).count("\\u001b") == 0


ODD = {
    **{f"{name}{number}": f'"{name}": {kind}' for name in GOOD for number, kind in enumerate(('"x"', '{"a": [1]}'))},
    **{f"results{number}": f'"results": {kind}' for number, kind in enumerate(('[{"unreachable": "x"}]', "5", "null"))},
    "deep": f'"x": {nested(400)}',
    "deeper": f'"x": {nested(3000)}',
    "deep-message": f'"msg": {nested(400)}',
    "results-of-conditions": '"results": [{"failed_when_result": {"a": 1}}], "failed_when_result": {"a": 1}',
    "differences": '"diff": [5, {"before": {"a": 1}}], "changed": true',
    "almost-deep": f'"x": {nested(DEEPEST - 1)}',
}
TAKEN = {"almost-deep", "differences", "ansible_facts1", "stdout0", "stderr0"} | {
    name for name in ODD if "results" in name
}


def test_no_answer_ends_the_run_of_other_hosts(tmp_path: Path) -> None:
    found: dict[str, Any] = {"honest": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}}
    for name, more in ODD.items():
        interpreter = tmp_path / f"python3-{name}"
        # JSON may have a name twice, and Ansible takes the last.
        interpreter.write_text(answering(f'{{"catalog": "", "changed": false, {more}}}'))
        interpreter.chmod(0o755)
        found[name] = {"ansible_connection": "local", "ansible_python_interpreter": str(interpreter)}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": found}}))
    asked = {"nebula.provision.nebula_info": {"gather": [], "root": str(tmp_path / "root")}, "register": "info"}
    shown = {"ansible.builtin.debug": {"msg": "WENT ON {{ inventory_hostname }} {{ info.catalog == '' }}"}}
    play = {"hosts": "all", "gather_facts": False, "tasks": [asked, shown]}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("ansible-playbook"), "-v", "--diff", "-f", "2"),
            *("-i", tmp_path / "hosts.yml", tmp_path / "play.yml"),
        ],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 2, printed
    assert {*re.findall(r"WENT ON (\S+) True", printed)} == {"honest", *TAKEN}, printed
    for name in {*ODD} - TAKEN:
        assert f"{name}: the answer of nebula.provision.nebula_info " in printed
    assert "Traceback" not in printed and "RecursionError" not in printed and "Unexpected" not in printed
