# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever goes wrong in a module is told in our words: no traceback, no value that may be a secret."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NoSpace
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out, execute
from ansible_collections.nebula.provision.plugins.module_utils.sync import Result


class Failed(Exception):
    pass


class Module:
    """The part of AnsibleModule that execute() uses."""

    check_mode = False
    _diff = False

    def __init__(self, **params: object) -> None:
        self.params = params

    def fail_json(self, **answer: object) -> None:
        raise Failed(answer)


def failure_of(problem: Exception, **params: object) -> dict[str, object]:
    def run(_params: object, _check_mode: bool) -> Result:
        raise problem

    with pytest.raises(Failed) as caught:
        execute(Module(**params), run)
    answer: dict[str, object] = caught.value.args[0]
    return answer


def test_what_nobody_foresaw_names_the_place_and_no_value() -> None:
    answer = failure_of(ValueError("could not convert 's3cr3t'"))
    assert "ValueError" in str(answer["msg"]) and "test_runner.py" in str(answer["msg"])
    assert "s3cr3t" not in str(answer) and "exception" not in answer


def test_errors_of_the_operating_system_are_explained() -> None:
    answer = failure_of(OSError(errno.ENOSPC, "No space left on device", "/srv/nebula/x"))
    assert answer["msg"] == str(
        NoSpace("writing /srv/nebula/x", "No space left on device", "Make room on its file system, then run again")
    )


def test_our_own_are_as_they_are() -> None:
    assert failure_of(InvalidValue("a", "b", "c"))["msg"] == "a: b. c"


@pytest.mark.parametrize("root", ["", "relative/dir", "/", "//", "/.", None])
def test_a_root_that_is_no_directory_of_its_own(root: str | None) -> None:
    answer = failure_of(AssertionError("it was begun all the same"), root=root)
    assert "nebula_root" in str(answer["msg"]) and "/var/lib/nebula" in str(answer["msg"])


def test_warnings_have_no_line_of_ansible() -> None:
    class Exited(Module):
        def warn(self, text: str) -> None:
            warnings.append(text)

        def exit_json(self, **_answer: object) -> None:
            pass

    warnings: list[str] = []
    execute(Exited(), lambda _params, _check_mode: Result(warnings=["a\x1b\nok: [kvm1]"]))
    assert warnings[0] == "a\\x1b\n    ok: [kvm1]"


@pytest.mark.parametrize("needs", [True, False])
def test_libraries_are_looked_for_before_a_call_is_run(monkeypatch: pytest.MonkeyPatch, needs: bool) -> None:
    class Exited(Module):
        def exit_json(self, **_answer: object) -> None:
            steps.append("exit")

    steps: list[str] = []

    def run(_params: object, _check_mode: bool) -> Result:
        steps.append("run")
        return Result()

    libraries = {
        "libraries": lambda params: [params["library"]],
        "respawn": lambda _module, names: steps.extend(names),
    }
    more = libraries if needs else {}
    carry_out(Exited(library="ovs"), SimpleNamespace(run=run, **more))
    assert steps == [*(["ovs"] if needs else []), "run", "exit"]
