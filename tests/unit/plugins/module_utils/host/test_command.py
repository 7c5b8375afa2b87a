# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    CommandFailed,
    MissingDependency,
    NoSpace,
    TimedOut,
)
from ansible_collections.nebula.provision.plugins.module_utils.host import command


def python(code: str, **options):
    return command.run([sys.executable, "-c", code], timeout=options.pop("timeout", 20), **options)


def test_output_and_input_travel_whole_in_both_directions():
    done = python(
        "import sys; d = sys.stdin.read(); sys.stdout.write(d); sys.stderr.write(str(len(d)))", input="x" * 3_000_000
    )
    assert (len(done.stdout), done.stderr, done.returncode) == (3_000_000, "3000000", 0)


def test_input_that_nobody_reads_is_no_error():
    assert python("pass", input="x" * 1_000_000).returncode == 0


def test_failure_tells_the_code_and_the_last_lines():
    with pytest.raises(CommandFailed) as caught:
        python("import sys; [print(f'line {i}', file=sys.stderr) for i in range(20)]; sys.exit(3)")
    assert "ended with code 3" in caught.value.found
    assert caught.value.found.endswith("line 19")
    assert "line 1\n" not in caught.value.found


def test_failure_falls_back_on_standard_output():
    with pytest.raises(CommandFailed, match="said here"):
        python("import sys; print('said here'); sys.exit(1)")


def test_unchecked_failure_is_returned():
    assert python("import sys; sys.exit(3)", check=False).returncode == 3


def test_a_missing_program_names_its_package(monkeypatch):
    monkeypatch.setattr(command, "_path", lambda: "/nonexistent")
    with pytest.raises(MissingDependency, match="Install the package qemu-utils"):
        command.run(["qemu-img", "--version"], timeout=5)


def test_no_space_is_recognised():
    with pytest.raises(NoSpace):
        command.run(["dd", "if=/dev/zero", "of=/dev/full", "bs=1k", "count=1"], timeout=5)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").split(")")[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_program_that_hangs_is_killed_with_its_children(tmp_path):
    mark = tmp_path / "pid"
    began = time.monotonic()
    with pytest.raises(TimedOut, match=r"not done after 0\.5 s"):
        command.run(["sh", "-c", f"sleep 60 & echo $! > {mark}; wait"], timeout=0.5)
    assert time.monotonic() - began < 5
    child = int(mark.read_text())
    # Killed, which takes effect when it is next scheduled; whether PID 1 has already buried it is not ours.
    limit = time.monotonic() + 10
    while alive(child):
        assert time.monotonic() < limit
        time.sleep(0.01)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="a Python for kernels before 5.3")
def test_the_end_of_a_program_is_not_slept_through(monkeypatch):
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    done = python("import os, time; os.close(1); os.close(2); time.sleep(0.2)")
    assert (done.returncode, slept) == (0, [])
    assert done.seconds >= 0.2


def test_without_the_kernels_help_the_end_of_a_program_is_found(monkeypatch):
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    assert python("print(1)").stdout == "1\n"
    with pytest.raises(TimedOut):
        python("import os, time; os.close(1); os.close(2); time.sleep(60)", timeout=0.5)


def test_a_program_that_closes_its_output_and_hangs_is_killed():
    with pytest.raises(TimedOut):
        python("import os, time; os.close(1); os.close(2); time.sleep(60)", timeout=0.5)


def test_memory_limit():
    with pytest.raises(CommandFailed, match="MemoryError"):
        python("import time; time.sleep(0.2); x = bytearray(1 << 30)", memory=256 << 20)


def test_cpu_limit():
    with pytest.raises(CommandFailed, match="SIGXCPU"):
        python("while True: pass", cpu=1)


def test_endless_output_ends():
    with pytest.raises(CommandFailed, match="more than 16 MiB"):
        command.run(["yes"], timeout=30)
    with pytest.raises(CommandFailed, match="more than 17 MiB"):
        command.run(["yes"], timeout=30, most=17 * command.MIB)


def test_endless_errors_keep_their_end_only():
    done = python("import sys\nfor i in range(200000): print('e', i, file=sys.stderr)")
    assert len(done.stderr) == command.ERROR_LIMIT
    assert done.stderr.endswith("e 199999\n")


def test_messages_are_in_english(monkeypatch):
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    assert python("import os; print(os.environ['LC_ALL'], repr(os.environ['LANGUAGE']))").stdout == "C ''\n"


def test_many_at_once():
    failed = []

    def one():
        try:
            assert python("print('ok')").stdout == "ok\n"
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=one) for _ in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not failed


def test_the_shown_command_is_quoted_and_short():
    assert command.shown(["a b", "c"]) == "'a b' c"
    assert len(command.shown(["x" * 1000])) == 400


def test_bound_to_this_process_and_to_no_other(tmp_path: Path) -> None:
    """What is started while its parent is killed finds another one, and does nothing."""
    assert command.run([*command.words_to_end_with_us(), "echo", "begun"], timeout=20).stdout == "begun\n"
    orphan = (
        f"import subprocess; subprocess.run({[*command.words_to_end_with_us(), 'touch', str(tmp_path / 'begun')]!r})"
    )
    python(orphan)
    assert not (tmp_path / "begun").exists()
    parent = (
        "import os, subprocess\n"
        f"from {command.__name__} import words_to_end_with_us\n"
        "child = subprocess.Popen([*words_to_end_with_us(), 'cat'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "child.stdin.write(b'.'); child.stdin.flush(); child.stdout.read(1)\n"
        "print(child.pid, flush=True)\n"
        # Its end of the pipe is kept open by one that is not bound, so that it is no end of input that ends it.
        "subprocess.Popen(['sleep', '5'], pass_fds=[child.stdin.fileno()], stdout=subprocess.DEVNULL)\n"
        "os._exit(0)\n"
    )
    pid = int(subprocess.run(
        [sys.executable, "-c", parent], stdout=subprocess.PIPE, check=True, timeout=20,
        env={**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path))},
    ).stdout)  # fmt: skip
    end = time.monotonic() + 3
    while Path(f"/proc/{pid}").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < end, "it goes on without its parent"
        time.sleep(0.02)


def test_no_program_is_taken_from_where_others_can_put_one(tmp_path, monkeypatch):
    """The working directory, one that all may write to, and one of another user; below them too."""
    places = {name: tmp_path / name for name in ("own", "open", "other", "open/deep")}
    for place in places.values():
        place.mkdir()
        (place / "nebula-program").write_text("#!/bin/sh\necho taken\n")
        (place / "nebula-program").chmod(0o755)
    places["open"].chmod(0o777)
    wrong = [places["open"], places["open/deep"]]
    if os.geteuid() == 0:
        os.chown(places["other"], 4711, -1)
        wrong.append(places["other"])
    monkeypatch.chdir(places["own"])
    for path in (":".join(map(str, wrong)), ".", "", "./", "../own", str(tmp_path / "missing")):
        monkeypatch.setenv("PATH", path)
        with pytest.raises(MissingDependency):
            command.find("nebula-program")
    monkeypatch.setenv("PATH", f"{wrong[0]}::{places['own']}:{places['own']}")
    assert command.find("nebula-program") == str(places["own"] / "nebula-program")
    done = command.run(["sh", "-c", "echo $PATH"], timeout=5)
    assert done.stdout.strip().split(":")[0] == str(places["own"]) and str(wrong[0]) not in done.stdout
