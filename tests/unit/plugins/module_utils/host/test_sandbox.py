# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a program sees and may do in its sandbox, as whom it runs, and what is said where there can be none."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import CommandFailed, MissingDependency, TimedOut
from ansible_collections.nebula.provision.plugins.module_utils.host import command, sandbox, unsandboxed_programs
from ansible_collections.nebula.provision.plugins.module_utils.host.sandbox import NEW, READ, WRITE

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a sandbox")
MIB = 1024 * 1024
ROOT = Path(__file__).resolve().parents[5]


@pytest.fixture(autouse=True)
def no_sandbox(monkeypatch):
    """Here there is one, and each test finds out anew whether there can be."""
    sandbox.why_unavailable.cache_clear()
    monkeypatch.setattr(unsandboxed_programs, "_without", {})
    yield
    sandbox.why_unavailable.cache_clear()


def told(files: dict[str, str], script: str, **options) -> str:
    return sandbox.run(["sh", "-c", script], files, timeout=60, **options).stdout


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / "an image"
    path.write_text("content")
    (tmp_path / "secret").write_text("nobody else's")
    return str(path)


@needs_root
def test_only_what_is_named_is_there(image):
    place = os.path.dirname(image)
    shown = told({image: READ}, f"cd '{place}'; ls -A; cat '{image}'; echo; ls -A / /etc /dev")
    assert shown.split("\n")[:2] == ["an image", "content"]
    there = shown.split("\n", 2)[2]
    assert not {"root", "home", "proc", "run", "var", "passwd", "shadow", "mem", "stdin"} & set(there.split()), there


@needs_root
def test_what_is_read_is_not_written_and_what_is_written_is(image, tmp_path):
    write = f"echo changed > '{image}' || echo 'not written'"
    assert told({image: READ}, write) == "not written\n" and Path(image).read_text() == "content"
    assert told({image: WRITE}, write) == "" and Path(image).read_text() == "changed\n"
    new = str(tmp_path / "new")
    assert told({image: READ, new: NEW}, f"cp '{image}' {new}; echo >> /usr/x; echo >> /y; true") == ""
    found = os.stat(new)
    assert (Path(new).read_text(), stat.S_IMODE(found.st_mode), found.st_uid) == ("changed\n", 0o600, os.geteuid())


@needs_root
def test_a_program_has_no_network_no_capabilities_and_can_gain_none(image):
    lines = told({image: READ}, "exec cat /proc/self/status", input="x").splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert {
        name: int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb")
    } == dict.fromkeys(("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"), 0)
    assert (status["NoNewPrivs"], status["Pid"]) == ("1", "1")
    assert told({}, "unshare --user true 2>&1 || echo refused").splitlines()[-1] == "refused"
    shown = told({}, "cat /proc/net/dev; echo 1 > /proc/sys/kernel/core_pattern || echo refused", input="x")
    assert [line.split(":")[0].strip() for line in shown.splitlines()[2:]] == ["lo", "refused"]


@needs_root
@pytest.mark.parametrize(
    ("owner", "mode", "use", "expected"),
    [
        ((0, 64055), 0o440, READ, sandbox.USER),
        ((1, 64055), 0o660, WRITE, sandbox.USER),
        ((0, 64055), 0o440, WRITE, -1),
        ((1, 1), 0o644, READ, sandbox.USER),
        ((0, 0), 0o600, WRITE, 0),
        ((1, 1), 0o600, READ, -1),
    ],
)
def test_it_is_a_user_of_its_own_where_the_owners_of_the_files_allow_that(image, owner, mode, use, expected):
    """-1: root that may override what the modes say, and nothing else."""
    os.chown(image, *owner)
    os.chmod(image, mode)
    script = f"exec {'cat' if use == READ else 'tee -a'} '{image}'"
    assert told({image: use}, script) == ("content" if use == READ else "")
    user = sandbox._program_user({image: use}, False)
    assert (user.uid, user.overrides) == ((0, True) if expected == -1 else (expected, False))
    assert told({image: use}, "id -u") == f"{user.uid}\n"


@needs_root
def test_a_file_with_other_rights_than_its_mode_says_is_read_by_root(image, monkeypatch):
    os.chmod(image, 0o644)
    monkeypatch.setattr(os, "getxattr", lambda _path, name: b"acl" if name == "system.posix_acl_access" else b"")
    assert sandbox._program_user({image: READ}, False).uid == os.geteuid()


@needs_root
def test_an_input_comes_by_a_pipe_that_nobody_else_reads(image):
    assert told({image: READ}, "cat /dev/stdin; id -u", input="the key\n") == "the key\n0\n"


@needs_root
def test_a_program_that_is_streamed_through_has_nothing_but_its_pipes():
    script = ["sh", "-c", "cat; cat /etc/passwd || echo none; ulimit -v; id -u"]
    before = sandbox.sandbox_words(script[0], 64 * MIB)
    told = command.run(script, before=before, input="what a stranger packed\n", timeout=60).stdout
    assert told == f"what a stranger packed\nnone\n65536\n{sandbox.USER}\n"


@needs_root
def test_limits_hold_inside():
    assert told({}, "ulimit -v; ulimit -t", memory=64 * MIB, cpu=7) == "65536\n7\n"
    with pytest.raises(CommandFailed):
        told({}, "while :; do :; done", cpu=1)
    with pytest.raises(TimedOut, match=r"command sleep 1000: not done after 0.2 s"):
        sandbox.run(["sleep", "1000"], {}, timeout=0.2)


@needs_root
def test_an_error_names_the_program_and_not_what_it_was_started_by(image):
    with pytest.raises(CommandFailed) as caught:
        sandbox.run(["cat", "/etc/passwd"], {image: READ}, timeout=60)
    assert caught.value.asked == "command cat /etc/passwd" and "No such file" in caught.value.found
    with pytest.raises(MissingDependency, match="program nebula-none"):
        sandbox.run(["nebula-none"], {}, timeout=60)
    assert unsandboxed_programs.warnings() == []


@needs_root
def test_a_program_that_lies_elsewhere_is_there_too(tmp_path, monkeypatch):
    program = tmp_path / "qemu-img"
    program.write_text("#!/bin/sh\necho from elsewhere\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert sandbox.run(["qemu-img"], {}, timeout=60).stdout == "from elsewhere\n"


# -- where there can be none -----------------------------------------------------------------------------------------


def test_where_a_host_can_make_none_the_program_runs_and_that_is_said_once(monkeypatch, tmp_path):
    real = command.run

    def run(argv, before=(), **options):
        words = ["sh", "-c", "echo 'unshare: unshare failed: Operation not permitted' >&2; exit 1"]
        return real(words if before else argv, **options)

    monkeypatch.setattr(command, "run", run)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    new = str(tmp_path / "new")
    for _time in range(2):
        assert sandbox.run(["cp", os.devnull, new], {new: NEW}, timeout=60).returncode == 0
    assert stat.S_IMODE(os.stat(new).st_mode) == 0o600 and sandbox.offline_words() == []
    assert sandbox.sandbox_words("cp", MIB) == []
    (warning,) = unsandboxed_programs.warnings()
    assert "cp ran without a sandbox" in warning and "Operation not permitted" in warning and "SYS_ADMIN" in warning


def test_a_host_without_the_programs_makes_none(monkeypatch):
    def missing(_argv, before=(), **_options):
        raise MissingDependency("program unshare", "it is not on this host", "Install the package util-linux")

    monkeypatch.setattr(command, "run", missing)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert sandbox.why_unavailable() == "it is not on this host"


def test_who_is_not_root_has_nothing_to_give_up(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert sandbox.run(["echo", "x"], {}, timeout=60).stdout == "x\n" and unsandboxed_programs.warnings() == []


def test_no_word_of_a_caller_is_part_of_what_a_shell_reads():
    evil = "/x/$(touch y);'\"`"
    before = sandbox._words_before("sh", {evil: READ}, sandbox._User(1, (2,), True))
    assert before.count(sandbox._SCRIPT) == 1 and evil in before and evil not in sandbox._SCRIPT


PROGRAM = """
from ansible_collections.nebula.provision.plugins.module_utils.host import sandbox, unsandboxed_programs
print(sandbox.run(["cat", "/proc/sys/kernel/ostype"], {}, timeout=60).stdout.strip())
print(*unsandboxed_programs.warnings(), sep="\\n")
"""


@needs_root
def test_root_of_a_container_runs_it_as_before_and_hears_of_it():
    """One that may not make namespaces, as most are."""
    argv = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", sys.executable, "-c", PROGRAM]
    told = command.run(argv, timeout=60, env={"PYTHONPATH": str(ROOT / "collections")}).stdout.splitlines()
    assert told[0] == "Linux" and "cat ran without a sandbox" in told[1] and "not permitted" in told[1]
