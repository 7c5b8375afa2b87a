# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hypervisor's daemons are started by systemd or by ourselves, known by their sockets, and only ours are ended.

The daemons are small programs of the test's own; where systemd is meant to be there, a program that notes its calls
stands in for `systemctl`."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from stand_ins import Programs

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    CommandFailed,
    HypervisorError,
    MissingDependency,
    TimedOut,
)
from ansible_collections.nebula.provision.plugins.module_utils.host import (
    hypervisor_daemons,
    node_file,
    processes,
    systemd_units,
)
from ansible_collections.nebula.provision.plugins.module_utils.host.hypervisor_daemons import Service

# Its parent ends once it listens, as a daemon's does.
DAEMON = """#!{python} -IS
import os, socket
ready, told = os.pipe()
if os.fork():
    os._exit(0 if os.read(ready, 1) else 1)
with open({place!r} + "/pid", "w") as file:
    file.write(str(os.getpid()))
with open({place!r} + "/seen", "w") as file:
    print(os.getcwd(), oct(os.umask(0)), sorted(os.environ), file=file)
server = socket.socket(socket.AF_UNIX)
server.bind({place!r} + "/run/sock")
server.listen()
os.write(told, b"x")
while True:
    server.accept()[0].close()
"""


@pytest.fixture(autouse=True)
def without_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd's directories are the test's own."""
    monkeypatch.setattr(systemd_units, "RUNS", str(tmp_path / "systemd"))
    monkeypatch.setattr(systemd_units, "PLACE", str(tmp_path / "etc"))


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(
        "testd",
        str(tmp_path / "testd"),
        (str(tmp_path / "run" / "sock"),),
        ("testd.socket", "testd-old.service"),
        at_boot=("testd.service",),
        family=("testd*",),
    )


@contextlib.contextmanager
def listening(path: Path) -> Iterator[None]:
    path.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        yield


def program(path: str, text: str) -> None:
    Path(path).write_text(text, encoding="utf-8")
    os.chmod(path, 0o755)


# -- who answers ------------------------------------------------------------------------------------------------------
def test_a_daemon_is_the_process_that_listens(service: Service, tmp_path: Path) -> None:
    assert hypervisor_daemons.daemon_pid(service) is None
    with listening(tmp_path / "run" / "sock"):
        assert hypervisor_daemons.daemon_pid(service) == os.getpid()
        assert hypervisor_daemons.is_running(service)
    # Its socket's file is still there, and nobody answers on it.
    assert (tmp_path / "run" / "sock").exists()
    assert hypervisor_daemons.daemon_pid(service) is None
    assert not hypervisor_daemons.is_running(service)


def test_any_of_its_sockets_will_do(service: Service, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "sock").touch()
    both = replace(service, sockets=(*service.sockets, str(tmp_path / "run" / "other")))
    with listening(tmp_path / "run" / "other"):
        assert hypervisor_daemons.is_running(both)
        assert not hypervisor_daemons.is_running(service)


def test_missing_is_what_does_not_run(service: Service, tmp_path: Path) -> None:
    silent = replace(service, sockets=(str(tmp_path / "none"),))
    with listening(tmp_path / "run" / "sock"):
        assert hypervisor_daemons.not_running([service, silent]) == [silent]


def test_missing_is_also_what_would_not_start_with_its_host(
    service: Service, tmp_path: Path, programs: Programs
) -> None:
    (tmp_path / "systemd").mkdir()
    along = replace(service, at_boot=())
    with listening(tmp_path / "run" / "sock"):
        for state, found in (("disabled", [service]), ("enabled", [])):
            programs.answer("systemctl", "is-enabled testd.service", f"{state}\n", code=state == "disabled")
            assert hypervisor_daemons.not_running([service, along]) == found


def test_where_nothing_starts_daemons_they_need_not_start_with_the_host(service: Service) -> None:
    assert hypervisor_daemons.starts_with_host(service)


@pytest.mark.parametrize(
    ("said", "version"), [("libvirtd (libvirt) 9.0.0\n", "9.0.0"), ("libvirtd 11.3\n", "11.3"), ("what?\n", "")]
)
def test_the_version_of_libvirt(programs: Programs, said: str, version: str) -> None:
    assert hypervisor_daemons.libvirt_version() == ""
    programs.answer("libvirtd", "--version", said)
    assert hypervisor_daemons.libvirt_version() == version


# -- without systemd --------------------------------------------------------------------------------------------------
@pytest.fixture
def daemon(service: Service, tmp_path: Path) -> Iterator[Path]:
    """The program of a service that works. What it leaves is ended by its own pid."""
    program(service.program, DAEMON.format(python=sys.executable, place=str(tmp_path)))
    yield tmp_path
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


@pytest.mark.parametrize("is_there", [False, True])
def test_a_log_that_a_daemon_of_ours_began_goes_with_it(
    service: Service, daemon: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    monkeypatch.setattr(hypervisor_daemons, "_LOGS", str(daemon))
    log = daemon / "testd.log"
    if is_there:
        log.write_text("of another start\n")
    started = hypervisor_daemons.start(service, str(daemon))
    assert isinstance(started, node_file.Daemon)
    log.touch()
    assert hypervisor_daemons.stop(started) and log.exists() == is_there


def test_a_daemon_of_ours_is_started_found_and_ended(
    service: Service, daemon: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hypervisor_daemons, "_LOGS", str(daemon))
    (daemon / "testd.log").touch()
    root = str(daemon / "nebula")
    started = hypervisor_daemons.start(service, root)
    assert isinstance(started, node_file.Daemon)
    assert (started.name, started.boot_id) == ("testd", node_file.boot_id())
    assert started.pid == int((daemon / "pid").read_text()) == hypervisor_daemons.daemon_pid(service)
    assert started.start == processes.start_time(started.pid)
    # It got nothing of this process.
    assert (daemon / "seen").read_text() == "/ 0o22 ['LC_ALL', 'NEBULA_ROOT', 'PATH']\n"
    # Even a run that remembers nothing knows it by what it was started for.
    assert hypervisor_daemons.started_for(service, root) == started
    assert hypervisor_daemons.started_for(service, root[:-1]) is None
    assert hypervisor_daemons.stop(started)
    assert not hypervisor_daemons.is_running(service)
    assert hypervisor_daemons.started_for(service, root) is None
    assert not hypervisor_daemons.stop(started)


@pytest.mark.parametrize(("before", "then"), [(0o700, 0o755), (0o750, 0o750), (0o711, 0o711), (0o755, 0o755)])
def test_others_get_through_the_directory_of_its_socket(
    service: Service, daemon: Path, monkeypatch: pytest.MonkeyPatch, before: int, then: int
) -> None:
    monkeypatch.setattr(hypervisor_daemons, "_LOGS", str(daemon))
    place = Path(service.sockets[0]).parent
    place.mkdir(exist_ok=True)
    place.chmod(before)
    started = hypervisor_daemons.start(service, str(daemon))
    assert isinstance(started, node_file.Daemon)
    assert place.stat().st_mode & 0o777 == then
    assert hypervisor_daemons.stop(started)


def test_a_daemon_that_somebody_else_started_is_not_ours(service: Service, tmp_path: Path) -> None:
    with listening(tmp_path / "run" / "sock"):
        assert hypervisor_daemons.started_for(service, str(tmp_path)) is None


def test_a_daemon_that_runs_already_is_taken_as_it_is(service: Service, tmp_path: Path) -> None:
    program(service.program, "#!/bin/sh\necho 'another one runs' >&2\nexit 1\n")
    with listening(tmp_path / "run" / "sock"):
        started = hypervisor_daemons.start(service, str(tmp_path))
    assert isinstance(started, node_file.Daemon) and started.pid == os.getpid()


@pytest.mark.parametrize(
    ("script", "found"),
    [("echo 'no access to /dev/xen' >&2; exit 1", "no access to /dev/xen"), ("exit 3", "it ended with code 3")],
)
def test_a_daemon_that_does_not_start_is_explained(service: Service, script: str, found: str) -> None:
    program(service.program, f"#!/bin/sh\n{script}\n")
    with pytest.raises(HypervisorError) as caught:
        hypervisor_daemons.start(service)
    assert str(caught.value) == (f"starting testd: {found}. Run `{service.program}` by hand to see what is wrong")


def test_a_program_that_is_not_there_is_named(service: Service, programs: Programs) -> None:
    with pytest.raises(MissingDependency, match="Install the package libvirt-daemon-system"):
        hypervisor_daemons.start(replace(service, program="libvirtd"))


def test_a_daemon_that_never_answers_is_waited_for_no_longer(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is the test's own: each pause takes as long as all of the waiting may."""
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda _seconds: now.append(now.pop() + 61))
    monkeypatch.setattr(hypervisor_daemons, "time", clock)
    program(service.program, "#!/bin/sh\nexit 0\n")
    with pytest.raises(TimedOut) as caught:
        hypervisor_daemons.start(service)
    assert caught.value.asked == "service testd"
    assert caught.value.found == f"its socket {service.sockets[0]} does not answer after 60 s"


# -- what is ended ----------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def process(script: str) -> Iterator[subprocess.Popen[bytes]]:
    """A shell that says so when it is ready, and ends with its input."""
    argv = ["/bin/sh", "-c", f"{script}; echo ready; read line"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        try:
            assert started.stdout is not None and started.stdout.readline() == b"ready\n"
            yield started
        finally:
            started.kill()


def as_daemon(pid: int) -> node_file.Daemon:
    start = processes.start_time(pid)
    assert start is not None
    return node_file.Daemon("testd", pid, start, node_file.boot_id())


def test_only_the_process_that_was_started_is_ended() -> None:
    with process(":") as running:
        known = as_daemon(running.pid)
        for other in (replace(known, start=known.start + 1), replace(known, boot_id="of an earlier boot")):
            assert not hypervisor_daemons.stop(other)
        assert running.poll() is None
        assert hypervisor_daemons.stop(known)
        assert running.wait(10) == -signal.SIGTERM


def test_a_daemon_that_does_not_end_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given no time at all."""
    monkeypatch.setattr(hypervisor_daemons, "STOP_SECONDS", 0)
    with process("trap '' TERM") as running:
        with pytest.raises(TimedOut) as caught:
            hypervisor_daemons.stop(as_daemon(running.pid))
        assert running.poll() is None
    assert caught.value.asked == f"stopping testd (process {running.pid})"
    assert "end it by hand" in caught.value.remedy


# -- with systemd -----------------------------------------------------------------------------------------------------
LIST = "list-units --state=active --plain --no-legend --no-pager"


@pytest.fixture
def systemd(tmp_path: Path, programs: Programs) -> Iterator[Programs]:
    """A host whose `systemctl start` makes the service answer, and whose `systemctl enable` makes a link."""
    (tmp_path / "systemd").mkdir()
    wants = tmp_path / "etc" / "multi-user.target.wants"
    link, active, run = wants / "testd.service", tmp_path / "active", tmp_path / "run"
    run.mkdir()
    active.write_text("testd-admin.socket loaded active listening\n")
    programs.answer("systemctl", f"{LIST} testd*", script=f"cat {active}")
    programs.answer("systemctl", "is-enabled testd.service", script=f"test -L {link} && echo enabled || echo disabled")
    programs.answer("systemctl", "enable testd.service", script=f"mkdir -p {wants} && ln -s /lib/testd {link}")
    start = f"echo 'testd.socket loaded active listening' >>{active}; ln -s {tmp_path}/there {run}/sock"
    programs.answer("systemctl", "start testd.socket", script=start)
    programs.answer("systemctl", "daemon-reload")
    with listening(tmp_path / "there"):
        yield programs


def test_a_unit_is_enabled_and_started_and_that_is_told(service: Service, systemd: Programs, tmp_path: Path) -> None:
    started = hypervisor_daemons.start(service, "/var/lib/nebula")
    link = str(tmp_path / "etc" / "multi-user.target.wants" / "testd.service")
    assert started == node_file.Unit("testd", (link,), ("testd.socket",), node_file.boot_id())
    # Again: there is nothing to be undone that this run did.
    assert hypervisor_daemons.start(service, "/var/lib/nebula") is None
    calls = systemd.calls("systemctl")
    assert calls.count("enable testd.service") == calls.count("start testd.socket") == 1


def test_the_first_unit_that_systemd_has_is_started(service: Service, systemd: Programs, tmp_path: Path) -> None:
    start = f"ln -s {tmp_path}/there {tmp_path}/run/sock"
    systemd.answer("systemctl", "start testd.socket", err="Unit testd.socket not found.\n", code=5)
    systemd.answer("systemctl", "start testd-old.service", script=start)
    started = hypervisor_daemons.start(service)
    assert isinstance(started, node_file.Unit) and started.started == ()
    (tmp_path / "run" / "sock").unlink()
    systemd.answer("systemctl", "start testd-old.service", err="Unit testd-old.service is masked.\n", code=1)
    with pytest.raises(CommandFailed, match=r"testd\.socket not found"):
        hypervisor_daemons.start(service)


def test_what_was_switched_on_for_us_is_switched_off(service: Service, systemd: Programs) -> None:
    started = hypervisor_daemons.start(service)
    assert isinstance(started, node_file.Unit)
    systemd.answer("systemctl", "stop testd.socket")
    with_one_that_ended = replace(started, started=("testd-ro.socket", *started.started))
    words = f"{LIST} testd-ro.socket testd.socket"
    systemd.answer("systemctl", words, "testd.socket loaded active listening\n")
    assert hypervisor_daemons.give_back(with_one_that_ended)
    assert not os.path.lexists(started.enabled[0])
    assert systemd.calls("systemctl")[-3:] == ["daemon-reload", words, "stop testd.socket"]


def test_what_was_only_started_before_the_host_was_booted_is_somebody_elses_now(
    service: Service, systemd: Programs
) -> None:
    before = len(systemd.calls("systemctl"))
    assert not hypervisor_daemons.give_back(node_file.Unit("testd", (), ("testd.socket",), "of an earlier boot"))
    assert not hypervisor_daemons.give_back(node_file.Unit("testd", (), (), node_file.boot_id()))
    assert len(systemd.calls("systemctl")) == before
