# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a TPM is read where swtpm has it, and nothing else; test_move_tpm.py has a real one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, ForeignObject
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import tpm_state
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.tpm_state import MOST, TpmState
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Tpm

UUID = "5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d01"
PLACES = {"2.0": "tpm2/tpm2-00.permall", "1.2": "tpm1.2/tpm-00.permall"}


def state(states: Path, version: str = "2.0") -> TpmState:
    return TpmState(UUID, Tpm("tpm-tis", version), str(states))


def write(states: Path, content: bytes) -> None:
    with state(states).writing() as fd:
        os.write(fd, content)


def read(states: Path, version: str = "2.0") -> bytes | None:
    with state(states, version).reading() as fd:
        return None if fd is None else os.read(fd, MOST)


@pytest.mark.parametrize("version", PLACES)
def test_what_was_written_is_read_and_is_nobody_elses(tmp_path: Path, version: str) -> None:
    states = tmp_path / "swtpm"
    assert read(states, version) is None
    assert not tpm_state.is_there(UUID, str(states))
    with state(states, version).writing() as fd:
        os.write(fd, b"state")
    assert read(states, version) == b"state"
    state(states, version).settle()
    file = states / UUID / PLACES[version]
    assert file.read_bytes() == b"state"
    modes = [path.stat().st_mode & 0o777 for path in (file, file.parent, file.parent.parent)]
    assert modes == [0o600, 0o700, 0o711]
    assert tpm_state.is_there(UUID, str(states))
    assert tpm_state.remove(UUID, str(states))
    assert not tpm_state.is_there(UUID, str(states))
    assert not tpm_state.remove(UUID, str(states))
    assert read(states, version) is None


def test_a_uuid_is_one_however_it_is_written(tmp_path: Path) -> None:
    with TpmState(UUID.upper(), Tpm(), str(tmp_path)).writing() as fd:
        os.write(fd, b"state")
    assert read(tmp_path) == b"state"
    assert tpm_state.remove(UUID.upper(), str(tmp_path))


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    write(tmp_path, b"somebody's")
    with pytest.raises(Conflict, match="this host has one of that machine already"):
        write(tmp_path, b"another")
    assert read(tmp_path) == b"somebody's"


def link(file: Path, other: Path) -> None:
    file.symlink_to(other)


def second_name(file: Path, other: Path) -> None:
    file.hardlink_to(other)


def pipe(file: Path, _other: Path) -> None:
    os.mkfifo(file)


def large(file: Path, _other: Path) -> None:
    file.touch()
    os.truncate(file, MOST + 1)


@pytest.mark.parametrize("put", [link, second_name, pipe, large], ids=lambda put: put.__name__)
def test_what_swtpms_user_could_put_there_is_not_read(tmp_path: Path, put: Callable[[Path, Path], None]) -> None:
    states, secret = tmp_path / "swtpm", tmp_path / "secret"
    secret.write_bytes(b"secret")
    write(states, b"")
    file = states / UUID / PLACES["2.0"]
    file.unlink()
    put(file, secret)
    with pytest.raises(Exception, match=r"it is no file of swtpm's own|a symbolic link is there"):
        read(states)
    # It is removed, and what it led to stays.
    assert tpm_state.remove(UUID, str(states))
    assert secret.read_bytes() == b"secret"


def test_a_directory_that_is_a_link_is_not_entered(tmp_path: Path) -> None:
    states, other = tmp_path / "swtpm", tmp_path / "other"
    write(other, b"secret")
    states.mkdir()
    (states / UUID).symlink_to(other / UUID)
    with pytest.raises(Exception, match="Not a directory"):
        read(states)
    with pytest.raises(Conflict):
        write(states, b"x")
    assert tpm_state.remove(UUID, str(states))
    assert read(other) == b"secret"


@pytest.mark.parametrize("uuid", ["", "..", "../qemu", UUID + "/x", "g" + UUID[1:]])
def test_what_is_no_uuid_leads_nowhere(tmp_path: Path, uuid: str) -> None:
    for ask in (tpm_state.is_there, tpm_state.remove, lambda name, place: TpmState(name, Tpm(), place)):
        with pytest.raises(ForeignObject, match="that is no UUID"):
            ask(uuid, str(tmp_path))
