# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that libvirt calls: which one runs them, that each knows its own, and how they come and go."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject
from ansible_collections.nebula.provision.plugins.module_utils.host.node_file import Changes
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc import disk_hook, hooks, start_hook

FIXTURES = Path(__file__).parents[5] / "fixtures" / "deployment" / "lxc"
WITH_DISKS, ALONE = ((FIXTURES / f"{name}.xml").read_text() for name in ("disks_at_paths", "root_alone"))


def test_each_knows_its_own_and_not_the_other() -> None:
    programs = {each.PROGRAM: each.text() for each in (disk_hook, start_hook)}
    assert len({program.path for program in programs}) == len({program.mark for program in programs}) == 2
    for program, text in programs.items():
        assert [other.mark in text for other in programs] == [other is program for other in programs]
        assert program.path.parent == hooks.HOOKS


def test_they_are_run_by_what_is_there_without_ansible() -> None:
    assert os.access(hooks.python(), os.X_OK)


NEEDED = "<domain><uuid>5c1de0d1-0000-4000-8000-000000000001</uuid><by>whoever needs it</by></domain>"
PROGRAM = hooks.Program("program", "does something", "whoever needs it")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that says what it was called for."""
    monkeypatch.setattr(hooks, "STARTING", str(tmp_path / "starts"))
    path = tmp_path / "program"
    body = "import sys\nprint(sys.argv[2:4], len(sys.stdin.read().strip()))\n"
    path.write_text(hooks.text(PROGRAM, "prepare/begin | started/begin", body), encoding="utf-8")
    path.chmod(0o755)
    return path


def called(program: Path, step: str, xml: str = NEEDED) -> str:
    argv = [str(program), "one-5", step, "begin", "-"]
    done = subprocess.run(argv, input=xml, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def test_one_does_something_at_its_moments_for_those_that_need_it(program: Path) -> None:
    assert called(program, "prepare") == f"['prepare', 'begin'] {len(NEEDED)}\n"
    assert called(program, "started") == f"['started', 'begin'] {len(NEEDED)}\n"
    assert called(program, "start") == called(program, "prepare", "<domain/>") == called(program, "prepare", "") == ""


def test_one_leaves_to_a_run_what_the_run_does_itself(program: Path) -> None:
    uuid = "5c1de0d1-0000-4000-8000-000000000001"
    with hooks.announce_start(uuid):
        assert called(program, "prepare") == called(program, "started") == ""
        assert called(program, "prepare", NEEDED.replace("000000000001", "000000000002")) != ""
    assert called(program, "prepare") != "" and not list(Path(hooks.STARTING).iterdir())
    # A process that got a killed run's number began later than that.
    Path(hooks.STARTING, uuid).write_text(f"{os.getpid()}\n1\n", encoding="ascii")
    assert called(program, "prepare") != ""
    # Of a run of an earlier version the number alone is known.
    Path(hooks.STARTING, uuid).write_text(f"{os.getpid()}\n", encoding="ascii")
    assert called(program, "prepare") == ""
    # What a killed run has left: no process has a number like this.
    Path(hooks.STARTING, uuid).write_text("99999999\n", encoding="ascii")
    assert called(program, "prepare") != ""
    Path(hooks.STARTING, uuid).write_text("", encoding="ascii")
    assert called(program, "prepare") != ""


@pytest.mark.root
def test_what_killed_runs_have_left_is_removed_before_anybody_gets_their_number(program: Path) -> None:
    """The program itself sees only whether there is such a process."""
    argv = ["/usr/bin/python3", "-I", "-c", "import sys; print(flush=True); sys.stdin.read()"]
    Path(hooks.STARTING).mkdir(mode=0o700, exist_ok=True)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=65534, cwd="/") as other:
        assert other.stdout is not None and other.stdin is not None
        other.stdout.readline()
        written = {"own": f"{os.getpid()}\n", "gone": "99999999\n", "anothers": f"{other.pid}\n", "begun": ""}
        written["later"] = f"{os.getpid()}\n1\n"
        for name, text in written.items():
            Path(hooks.STARTING, name).write_text(text, encoding="ascii")
        with hooks.announce_start("now"):
            assert {path.name for path in Path(hooks.STARTING).iterdir()} == {"own", "begun", "now"}
        other.stdin.close()


def test_one_that_fails_keeps_the_container_from_starting(program: Path) -> None:
    program.write_text(hooks.text(PROGRAM, "prepare/begin", "import sys\nsys.exit('no')\n"), encoding="utf-8")
    argv = [str(program), "one-5", "prepare", "begin", "-"]
    done = subprocess.run(argv, input=NEEDED, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "no\n")


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """libvirt's directories are the test's own."""
    monkeypatch.setattr(hooks, "HOOKS", tmp_path / "hooks" / "lxc.d")
    monkeypatch.setattr(hooks, "DEFINED", tmp_path / "lxc")
    monkeypatch.setattr(hooks, "STARTING", str(tmp_path / "starts"))
    for name in ("hooks", "lxc"):
        (tmp_path / name).mkdir()
    return tmp_path


def installed(text: str, check: bool = False) -> dict[str, object]:
    changes = Changes(check)
    hooks.prepare(PROGRAM, text, changes)
    return dict(changes.after)


def test_one_is_installed_once_and_taken_back(places: Path) -> None:
    path, text = PROGRAM.path, f"{PROGRAM.mark}\n"
    assert list(installed(text, True)) == [str(path)] and not path.parent.exists()
    assert list(installed(text)) == [str(path)] and path.stat().st_mode & 0o777 == 0o755
    assert installed(text) == {}
    assert list(installed(f"{text}# another version\n")) == [str(path)] and "another" in path.read_text()
    assert hooks.give_back(PROGRAM, Changes(True)) and path.exists()
    assert hooks.give_back(PROGRAM, Changes(False)) and not path.parent.exists()
    assert not hooks.give_back(PROGRAM, Changes(False))


def test_one_of_its_name_that_is_somebody_elses_is_left_alone(places: Path) -> None:
    PROGRAM.path.parent.mkdir()
    PROGRAM.path.write_text("#!/bin/sh\n", encoding="utf-8")
    with pytest.raises(ForeignObject, match="not ours"):
        installed(PROGRAM.mark)
    assert not hooks.give_back(PROGRAM, Changes(False)) and PROGRAM.path.read_text(encoding="utf-8") == "#!/bin/sh\n"


@pytest.mark.parametrize(
    ("program", "needs_it", "others"),
    [
        (disk_hook.PROGRAM, WITH_DISKS, [ALONE]),
        (start_hook.PROGRAM, ALONE, ["<domain/>", "<domain"]),
    ],
)
def test_one_stays_with_a_machine_of_any_catalog_and_the_programs_of_others_stay(
    places: Path, program: hooks.Program, needs_it: str, others: list[str]
) -> None:
    hooks.prepare(program, program.mark, Changes(False))
    (hooks.HOOKS / "somebodys").touch()
    defined = hooks.DEFINED / "one-3.xml"
    defined.write_text(needs_it, encoding="utf-8")
    assert not hooks.give_back(program, Changes(False)) and program.path.exists()
    for text in others:
        defined.write_text(text, encoding="utf-8")
        assert hooks.give_back(program, Changes(True))
    assert hooks.give_back(program, Changes(False))
    assert [path.name for path in hooks.HOOKS.iterdir()] == ["somebodys"]
