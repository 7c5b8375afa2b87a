# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests have in common: their umask, and which of them may run beside which (pytest -n 2)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

# Those that look at all loop devices and at what killed runs left, measure memory, have the stock host, or load the
# machine as much as it bears: one after another. What the others need they have in worlds, namespaces and directories
# of their own.
ALONE = {
    "test_capacity", "test_file_injection", "test_guest_context_offline", "test_image_check", "test_image_edits",
    "test_image_reworks", "test_importer", "test_inject", "test_kills", "test_late_runs", "test_molecule",
    "test_power_cut", "test_runs_at_once", "test_stock_host", "test_stock_injection", "test_world",
}  # fmt: skip
MACHINE = "machine"
# What takes minutes begins before what takes seconds: else one of the two processes waits at the end for the other.
LONG = (
    "test_tools", "test_install", "test_site", "test_bad_input", "test_image_check_live", "test_cloud_init",
    "test_ansible", "test_image_life", "test_role_install_os", "test_disk_full", "test_secrets", "test_demo_image",
)  # fmt: skip


def group(nodeid: str) -> str:
    """What runs in one process, one after another: those of ALONE, or a file's own."""
    path = _file(nodeid)
    return MACHINE if path.stem in ALONE else str(path)


def _file(nodeid: str) -> Path:
    return Path(nodeid.split("::", maxsplit=1)[0])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes longest begins at once. The tools come first of the others: the oldest Ansible, which tests of these
    need, is installed by one of them."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _turn(item.nodeid))


def _turn(nodeid: str) -> int:
    """What has the machine to itself, then the long ones in their order, then all others."""
    if group(nodeid) == MACHINE:
        return -1
    stem = _file(nodeid).stem
    return LONG.index(stem) if stem in LONG else len(LONG)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    # The groups in the order of their tests, not of their sizes.
    config.option.loadscopereorder = False
    return Groups(config, log)


@pytest.fixture(autouse=True)
def same_umask():
    """Modules close the files they make by the umask of their process; here that process is everybody's."""
    before = os.umask(0o022)
    yield
    os.umask(before)
