# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An `ansible` of its own reads a catalog of this machine, and no setting of the user's changes what it prints."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.text.packed_json import pack, unpack
from ansible_collections.nebula.provision.plugins.plugin_utils import catalog_reader
from ansible_collections.nebula.provision.plugins.plugin_utils.harmless_answers import DEEPEST

HERE = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
SECRET = "s3cr3t {{ lookup('pipe', 'touch RAN') }} # : \\ \" '"


def read(root: Path, timeout: int = 60, **variables: Any) -> dict[str, Any]:
    return catalog_reader.read("front", {**HERE, **variables}, ["vms"], {"root": str(root)}, timeout)


def test_read_whatever_the_user_has_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, ran = tmp_path / "log", tmp_path / "ran"
    for key, value in {
        "ANSIBLE_STDOUT_CALLBACK": "default",
        "ANSIBLE_LOG_PATH": str(log),
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
        "ANSIBLE_FORCE_COLOR": "true",
        "ANSIBLE_VERBOSITY": "3",
        "ANSIBLE_INVENTORY_ENABLED": "ini",
    }.items():
        monkeypatch.setenv(key, value)
    secret = SECRET.replace("RAN", str(ran))
    answer = read(tmp_path / "none", ansible_become_password=secret, deep={"a": [secret, 1, None, True]})
    assert (answer["catalog"], answer["vms"]) == ("", [])
    assert not ran.exists() and not log.exists()


def test_files_of_the_working_directory_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars/all.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n")
    (tmp_path / "ansible.cfg").write_text(f"[defaults]\nlog_path = {tmp_path}/log\n")
    monkeypatch.chdir(tmp_path)
    assert read(tmp_path / "none")["vms"] == [] and not (tmp_path / "log").exists()


def test_no_module_is_taken_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ansible").mkdir()
    for name in ("ansible/__init__.py", "runpy.py", "json.py", "yaml.py", "sitecustomize.py"):
        (tmp_path / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nraise SystemExit(1)\n")
    monkeypatch.chdir(tmp_path)
    assert read(tmp_path / "none")["vms"] == [] and not (tmp_path / "ran").exists()


def test_what_takes_too_long_is_ended(tmp_path: Path) -> None:
    python = tmp_path / "slow python"
    python.write_text("#!/bin/sh\nexec sleep 4711.25\n")
    python.chmod(0o755)
    with pytest.raises(catalog_reader.CatalogNotRead):
        read(tmp_path, 4, ansible_python_interpreter=str(python))
    # What was killed is gone once the kernel has come to it.
    limit = time.monotonic() + 10
    while left := [path for path in Path("/proc").glob("[0-9]*/cmdline") if b"4711.25" in arguments(path)]:
        assert time.monotonic() < limit, f"left behind: {left}"
        time.sleep(0.05)


def arguments(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize(
    ("variables", "timeout", "words"),
    [
        ({"ansible_python_interpreter": "/nowhere/python"}, 60, "/nowhere/python"),
        ({"ansible_connection": "nowhere.such.connection"}, 60, "nowhere.such.connection"),
        ({}, 0, "no answer within 0 s (option timeout)"),
    ],
)
def test_what_fails_says_why(tmp_path: Path, variables: dict[str, Any], timeout: int, words: str) -> None:
    with pytest.raises(catalog_reader.CatalogNotRead) as caught:
        read(tmp_path, timeout, ansible_become_password=SECRET, **variables)
    assert words in str(caught.value) and "s3cr3t" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("out", "err"),
    [
        ('front | FAILED! => {"msg": "a\\u009b2J\\u202eb", "module_stderr": "x\\nok: [kvm1]\\u2028"}', ""),
        ("front | UNREACHABLE! a\x1b[2J", ""),
        ("", "first\nERROR! a\x9b2J\u2066b\rok: [kvm1]"),
    ],
)
def test_what_it_says_is_one_line_that_prints(out: str, err: str) -> None:
    with pytest.raises(catalog_reader.CatalogNotRead) as caught:
        catalog_reader._answer(subprocess.CompletedProcess([], 1, out, err))
    assert str(caught.value).isprintable()


def answered(packed: str) -> dict[str, Any]:
    out = f"front | SUCCESS => {json.dumps({'packed': packed})}"
    return catalog_reader._answer(subprocess.CompletedProcess([], 0, out, ""))


def test_what_is_packed_is_the_answer() -> None:
    given = {"catalog": "c", "vms": [{"name": "\u00fc{{ 1 }}", "id": 0, "cpu": 0.5, "vcpu": None}]}
    assert answered(pack(given)) == given


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        ("", "ends too early"),
        ("not packed", "its answer is none of module nebula.provision.nebula_info"),
        (pack([]), "says nothing of a catalog"),
        (pack({"vms": []}), "says nothing of a catalog"),
        (pack({"catalog": "c", "vms": json.loads("[" * DEEPEST + "]" * DEEPEST)}), "too deep"),
    ],
)
def test_an_answer_that_no_module_of_ours_gives_is_refused(packed: str, words: str) -> None:
    with pytest.raises(catalog_reader.CatalogNotRead, match=words):
        answered(packed)


def test_the_answer_comes_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ansible looks at each value of what is not."""
    seen: list[str] = []

    def unpacked(text: str) -> Any:
        seen.append(text)
        return unpack(text)

    monkeypatch.setattr(catalog_reader, "unpack", unpacked)
    assert read(tmp_path / "none")["vms"] == [] and len(seen) == 1


def test_another_configuration_of_ansible_is_another_question(tmp_path, monkeypatch):
    configuration = tmp_path / "ansible.cfg"
    monkeypatch.setattr(catalog_reader.constants, "CONFIG_FILE", str(configuration))
    found = []
    for text in ("[defaults]\nremote_user = operator\n", "[defaults]\nremote_user = somebody\n"):
        configuration.write_text(text)
        found += [catalog_reader.digest("a.nebula.yml", "front", {}, {})]
    assert len({*found}) == 2 and found[-1] == catalog_reader.digest("./a.nebula.yml", "front", {}, {})


@pytest.mark.parametrize("key", ["DOCKER_HOST", "CONTAINER_HOST", "ANSIBLE_PODMAN_EXTRA_ARGS", "ANSIBLE_BECOME_USER"])
def test_what_decides_which_host_is_reached_is_another_question(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = set()
    for value in ("tcp://a.example:2375", "tcp://b.example:2375"):
        monkeypatch.setenv(key, value)
        found.add(catalog_reader.digest("a.nebula.yml", "front", {}, {}))
    assert len(found) == 2


def test_another_configuration_of_ssh_is_another_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_reader, "SSH_CONFIGURATIONS", (str(tmp_path / "config"),))
    found = [catalog_reader.digest("a.nebula.yml", "front", {}, {})]
    for host in ("prod.example", "staging.example"):
        (tmp_path / "config").write_text(f"Host front\n  HostName {host}\n")
        found.append(catalog_reader.digest("a.nebula.yml", "front", {}, {}))
    assert len({*found}) == 3


@pytest.mark.parametrize(
    ("name", "variables", "own"),
    [
        ("localhost", {"ansible_connection": "local"}, True),
        ("front", {"ansible_connection": "ansible.builtin.local"}, True),
        ("front", {"ansible_host": "127.0.0.1"}, True),
        ("front", {"ansible_host": "::1"}, True),
        ("front", {"ansible_host": "192.0.2.1"}, False),
        ("front", {}, False),
    ],
)
def test_this_machine_is_another_front_end_than_that_of_others(
    name: str, variables: dict[str, str], own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = set()
    for number in ("1", "2"):
        (tmp_path / number).write_text(number)
        monkeypatch.setattr(catalog_reader, "MACHINE_ID", tmp_path / number)
        found.add(catalog_reader.digest("a.nebula.yml", name, variables, {}))
    assert len(found) == 1 + own
