# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest is frozen for a moment, and thawed whatever becomes of it. The process that watches over that is the real
one; it imports a library libvirt of the test's own from a directory (by the reference of virDomainFSThaw), which writes
down what it is asked. A guest with a real agent is frozen in tests/integration/test_disk_frozen.py."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from libvirt_stand_in import LibvirtError, install, libvirt

from ansible_collections.nebula.provision.plugins.module_utils.errors import HypervisorError, Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import quiesce

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("libvirt") is not None, reason="the watchdog would import this interpreter's own libvirt"
)
# What thaws it finds that the machine has ended, and goes at once: else it would look twice more, in seconds.
LIBRARY = """\
class libvirtError(Exception):
    pass
def registerErrorHandler(handler, context):
    pass
class Domain:
    def fsThaw(self):
        write("thaw")
        raise libvirtError("the machine has ended")
    def isActive(self):
        return 0
class Connection:
    def lookupByUUIDString(self, uuid):
        write("domain " + uuid)
        return Domain()
def open(uri):
    write("open " + uri)
    return Connection()
def write(text):
    with __builtins__["open"](LOG, "a") as file:
        file.write(text + "\\n")
"""
HELLO = ["open test:///default", "domain uuid-1"]


class Guest:
    """The domain as the run has it, with its agent. count: of file systems that fsFreeze() and fsThaw() tell."""

    def __init__(self) -> None:
        self.did: list[Any] = []
        self.agent = True
        self.freezes: LibvirtError | None = None
        self.count, self.thawed = 2, 2

    def UUIDString(self) -> str:
        return "uuid-1"

    def agent_command(self, _domain: Any, text: str, timeout: int, flags: int) -> str:
        """As libvirt_qemu.qemuAgentCommand()."""
        assert (text, timeout, flags) == ('{"execute": "guest-ping"}', quiesce.PATIENCE, 0)
        if not self.agent:
            raise LibvirtError("Guest agent is not responding: QEMU guest agent is not connected", 86)
        return '{"return": {}}'

    def agentSetResponseTimeout(self, seconds: int) -> None:
        self.did.append(seconds)

    def fsFreeze(self) -> int:
        self.did.append("freeze")
        if self.freezes is not None:
            raise self.freezes
        return self.count

    def fsThaw(self) -> int:
        self.did.append("thaw")
        return self.thawed


class Host:
    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.guest = Guest()
        self.place = place
        self.library = libvirt()
        self.library.__file__ = str(place / "libvirt.py")
        self.write(f"LOG = {str(place / 'log')!r}\n{LIBRARY}")
        install(monkeypatch, self.library, libvirt_qemu=SimpleNamespace(qemuAgentCommand=self.guest.agent_command))

    def write(self, text: str) -> None:
        (self.place / "libvirt.py").write_text(text, encoding="utf-8")

    def frozen(self) -> Any:
        return quiesce.freeze(self.library, "test:///default", self.guest, "disk 0")

    def watched(self) -> list[str]:
        """What the process asked of libvirt."""
        path = self.place / "log"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def test_a_guest_is_frozen_for_the_time_of_the_block(host: Host) -> None:
    with host.frozen():
        assert host.guest.did == [quiesce.PATIENCE, "freeze"]
        assert host.watched() == HELLO
    # An agent is waited for as long as before.
    assert host.guest.did == [quiesce.PATIENCE, "freeze", "thaw", -2]
    assert host.watched() == HELLO


def test_a_guest_without_an_agent_is_left_as_it_is(host: Host) -> None:
    host.guest.agent = False
    with (
        pytest.raises(Unsupported, match=r"disk 0: no guest agent answers \(.*not connected\).*consistency: crash"),
        host.frozen(),
    ):
        pytest.fail("it was not frozen")
    assert host.guest.did == [] and host.watched() == []


def test_file_systems_of_which_some_may_be_frozen_are_thawed(host: Host) -> None:
    host.guest.freezes = LibvirtError("guest agent command timed out")
    with (
        pytest.raises(HypervisorError, match=r"could not be frozen: guest agent command timed out.*agent's log"),
        host.frozen(),
    ):
        pytest.fail("it was not frozen")
    assert host.watched() == [*HELLO, "thaw"]
    assert host.guest.did == [quiesce.PATIENCE, "freeze", -2]


def test_what_fails_meanwhile_does_not_leave_the_guest_frozen(host: Host) -> None:
    with pytest.raises(ZeroDivisionError), host.frozen():
        raise ZeroDivisionError
    assert host.watched() == [*HELLO, "thaw"]


def test_a_thaw_that_fails_is_left_to_the_process_that_watches(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise LibvirtError("the connection broke")

    monkeypatch.setattr(host.guest, "fsThaw", refuse)
    with pytest.raises(quiesce.ThawedTooEarly) as caught, host.frozen():
        pass
    assert host.watched() == [*HELLO, "thaw"]
    assert str(caught.value) == (
        "disk 0: its file systems could not be thawed at once: the connection broke. See the guest agent's log; it is "
        "tried for ten minutes more. Then run again"
    )
    # Where none was frozen, none is to be thawed.
    host.guest.count = 0
    with host.frozen():
        pass


def test_a_thaw_that_fails_since_it_took_too_long_is_told_as_that(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise LibvirtError("the connection broke")

    monkeypatch.setattr(quiesce, "LONGEST", 0.0)
    monkeypatch.setattr(host.guest, "fsThaw", refuse)
    with pytest.raises(HypervisorError, match=r"file systems are frozen for 0 s at most"), host.frozen():
        pass


def test_what_somebody_else_thawed_meanwhile_can_not_be_believed(host: Host) -> None:
    host.guest.thawed = 0
    with (
        pytest.raises(quiesce.ThawedTooEarly, match="disk 0: somebody else has thawed its file systems meanwhile"),
        host.frozen(),
    ):
        pass


def test_a_guest_without_file_systems_to_freeze_needs_no_thaw(host: Host) -> None:
    host.guest.count = host.guest.thawed = 0
    with host.frozen():
        pass
    assert host.watched() == HELLO


def test_nobody_is_frozen_for_longer_than_is_promised(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiesce, "LONGEST", 0.02)
    host.guest.thawed = 0
    with (
        pytest.raises(HypervisorError, match=r"it took \d.* file systems are frozen for 0.02 s at most") as caught,
        host.frozen(),
    ):
        limit = time.monotonic() + 10
        while "thaw" not in host.watched() and time.monotonic() < limit:
            time.sleep(0.005)
        assert host.watched() == [*HELLO, "thaw"]
    # It is not begun anew: it would take as long again.
    assert not isinstance(caught.value, quiesce.ThawedTooEarly)


def test_without_its_watchdog_nothing_is_frozen(host: Host) -> None:
    host.write("raise ImportError('it was built for another Python')")
    with (
        pytest.raises(HypervisorError, match="a watchdog over the freezing of file systems: it did not start"),
        host.frozen(),
    ):
        pytest.fail("it was not frozen")
    assert "freeze" not in host.guest.did


def test_the_watchdog_takes_nothing_from_the_working_directory(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is root, and the directory may be anybody's; so may what the environment names."""
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        for name in ("select", "time", "libvirt", "sitecustomize"):
            (tmp_path / place / f"{name}.py").write_text(f"open({str(tmp_path / 'taken')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "there"))
    with host.frozen():
        assert host.watched() == HELLO
    assert not (tmp_path / "taken").exists()
