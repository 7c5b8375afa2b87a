# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe of KVM: that its guest is what its source says and runs emulated, what a finding is kept for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.host import kvm_probe

T = TypeVar("T")
SOURCE = Path(__file__).parents[4] / "fixtures" / "accelerator" / "probe.s"
needs_qemu = pytest.mark.skipif(shutil.which(kvm_probe.EMULATOR) is None, reason="needs qemu-system-x86")
# A boot sector that never ends.
HANGING = b"\xfa\xf4\xeb\xfd".ljust(510, b"\0") + b"\x55\xaa"


def test_the_guest_is_its_source(tmp_path: Path) -> None:
    subprocess.run(["as", str(SOURCE), "-o", str(tmp_path / "probe.o")], check=True)
    link = ["ld", "-m", "elf_x86_64", "-Ttext", "0x7c00", "--oformat", "binary"]
    subprocess.run([*link, str(tmp_path / "probe.o"), "-o", str(tmp_path / "probe.bin")], check=True)
    assert (tmp_path / "probe.bin").read_bytes() == kvm_probe.GUEST


@needs_qemu
def test_the_guest_gets_through_emulated() -> None:
    found = kvm_probe.boot("tcg", 60)
    assert found.problem == ""
    assert found.seconds > 0


@needs_qemu
def test_a_guest_that_hangs_is_ended_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm_probe, "GUEST", HANGING)
    made = []

    class Recorded(tempfile.TemporaryDirectory):
        def __init__(self, **options: str) -> None:
            super().__init__(**options)
            made.append(self.name)

    monkeypatch.setattr(kvm_probe.tempfile, "TemporaryDirectory", Recorded)
    found = kvm_probe.boot("tcg", 0.5)
    assert "did not get through within 0.5 s" in found.problem
    assert len(made) == 1 and not os.path.exists(made[0])


@needs_qemu
def test_a_guest_that_hangs_ends_with_whoever_is_killed_while_it_waits() -> None:
    program = f"""
from {kvm_probe.__name__.rpartition(".")[0]} import kvm_probe
kvm_probe.GUEST = {HANGING!r}
kvm_probe.boot("tcg", 600)
"""
    probe = subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    try:
        (qemu,) = wait_for(lambda: [pid for pid in children(probe.pid) if b"-nodefaults" in words_of(pid)])
    finally:
        probe.kill()
        probe.wait()
    wait_for(lambda: is_gone(qemu))


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def words_of(pid: int) -> list[bytes]:
    """Of its command; none of a program that has ended, or is about to begin."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []
    return words if os.path.basename(words[0]) == kvm_probe.EMULATOR.encode() else []


def is_gone(pid: int) -> bool:
    return not words_of(pid)


def wait_for(condition: Callable[[], T]) -> T:
    limit = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < limit
        time.sleep(0.02)
    return found


@needs_qemu
def test_what_qemu_says_is_told() -> None:
    found = kvm_probe.boot("nosuch", 20)
    assert "nosuch" in found.problem


@needs_qemu
@pytest.mark.skipif(not os.path.exists(kvm_probe.DEVICE), reason="there is no /dev/kvm")
def test_the_probe_answers_in_time_with_a_reason() -> None:
    chosen, reason = kvm_probe.probe(2)
    assert chosen in ("kvm", "qemu")
    assert ("booted with it" in reason) == (chosen == "kvm")


def test_no_device_no_kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm_probe, "DEVICE", "/nonexistent/kvm")
    assert kvm_probe.probe() == ("qemu", "there is no /nonexistent/kvm")


def test_a_finding_is_kept_for_its_circumstances(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []

    def probe() -> tuple[str, str]:
        found.append(1)
        return "kvm", "it booted"

    monkeypatch.setattr(kvm_probe, "probe", probe)
    first = kvm_probe.choose("auto", {})
    assert (first["accelerator"], first["reason"]) == ("kvm", "it booted")
    assert kvm_probe.choose("auto", first) == first
    assert kvm_probe.choose("", first) == first
    assert len(found) == 1
    monkeypatch.setattr(kvm_probe, "circumstances", lambda: "after a reboot")
    assert kvm_probe.choose("auto", first)["key"] == "after a reboot"
    assert len(found) == 2


def test_what_is_set_is_not_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm_probe, "probe", lambda: pytest.fail("probed"))
    chosen = kvm_probe.choose("kvm", {})
    assert chosen["accelerator"] == "kvm"
    # A deployment takes over what the node was set to.
    assert kvm_probe.choose("", chosen) == chosen


@pytest.mark.parametrize(
    ("text", "user"),
    [('user = "root"\n', "root"), ('#user = "root"\n  user = "+0"', "0"), ('user = "a"\nuser = "root"', "root")],
)
def test_the_user_of_qemu(text: str, user: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "qemu.conf").write_text(text, encoding="utf-8")
    monkeypatch.setattr(kvm_probe, "QEMU_CONF", str(tmp_path / "qemu.conf"))
    name, account = kvm_probe.qemu_user()
    assert name == user
    assert account is not None
    assert account.pw_uid == 0


def test_no_such_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm_probe, "QEMU_CONF", str(tmp_path / "none"))
    monkeypatch.setattr(kvm_probe, "QEMU_USERS", ("nobody-of-this-name",))
    assert kvm_probe.qemu_user() == ("root", None)
