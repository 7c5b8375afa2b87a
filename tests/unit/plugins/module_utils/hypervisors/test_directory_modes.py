# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories of containers are closed to other users of the host, once, and no others are touched."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from memory_hypervisor import MemoryDriver

from ansible_collections.nebula.provision.plugins.module_utils.host.node_file import Changes
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import directory_modes
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc.driver import LxcDriver
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.machine_record import Record, write_record
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz.driver import OpenvzDriver
from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import id_range

OURS, OTHER = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10", "77777777-8c55-4b0e-9d6a-2f1f3c7d9a10"
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives directories to other groups")


def a_machine(root: Path, vm_id: int, catalog: str = OURS, inner: str = "disk.0") -> Path:
    path = root / "datastores/0" / str(vm_id)
    path.mkdir(parents=True)
    path.chmod(0o711)
    if catalog:
        write_record(str(path), Record(catalog, vm_id, f"uuid-{vm_id}"))
    if inner:
        (path / inner).mkdir()
    return path


def access(path: Path) -> tuple[int, int]:
    return stat.S_IMODE(path.stat().st_mode), path.stat().st_gid


@only_root
def test_those_that_are_there_are_closed_and_the_second_time_nothing_is_done(tmp_path: Path) -> None:
    first, second = a_machine(tmp_path, 3), a_machine(tmp_path, 4)
    foreseen = Changes(True)
    directory_modes.close_directories(LxcDriver, str(tmp_path), OURS, foreseen)
    assert access(first)[0] == 0o711 and foreseen.after
    changes = Changes(False)
    directory_modes.close_directories(LxcDriver, str(tmp_path), OURS, changes)
    assert changes.after
    # The container's root alone gets through.
    assert access(first) == (0o710, id_range(3).start) and access(second) == (0o710, id_range(4).start)
    again = Changes(False)
    directory_modes.close_directories(LxcDriver, str(tmp_path), OURS, again)
    assert not again.after


@only_root
def test_what_is_no_container_of_ours_is_left_alone(tmp_path: Path) -> None:
    others = [a_machine(tmp_path, 1, OTHER), a_machine(tmp_path, 2, ""), a_machine(tmp_path, 5, inner="")]
    (tmp_path / "datastores/0/7").symlink_to(others[0])
    changes = Changes(False)
    directory_modes.close_directories(LxcDriver, str(tmp_path), OURS, changes)
    assert not changes.after and {access(path)[0] for path in others} == {0o711}


@only_root
def test_those_of_openvz_are_closed_to_all_but_root(tmp_path: Path) -> None:
    path = a_machine(tmp_path, 3, inner="images")
    directory_modes.close_directories(OpenvzDriver, str(tmp_path), OURS, Changes(False))
    assert access(path) == (0o700, 0)


def test_where_a_hypervisor_has_users_of_its_own_they_get_through(tmp_path: Path) -> None:
    path = a_machine(tmp_path, 3)
    directory_modes.close_directories(MemoryDriver, str(tmp_path), OURS, Changes(False))
    assert access(path)[0] == 0o711


def test_a_node_without_machines_has_nothing_to_close(tmp_path: Path) -> None:
    directory_modes.close_directories(LxcDriver, str(tmp_path), OURS, Changes(False))
