# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests have in common: their umask, which of them may run beside which (pytest -n 2), and what is left out
where time runs out (NEBULA_DEADLINE)."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

# Those that look at all loop devices and at what killed runs left, measure memory, have the stock host, or load the
# machine as much as it bears: one after another. What the others need they have in worlds, namespaces and directories
# of their own.
ALONE = {
    "test_capacity", "test_disks", "test_file_injection", "test_guest_context_offline", "test_image_check",
    "test_image_edits", "test_image_reworks", "test_importer", "test_inject", "test_kills", "test_late_runs",
    "test_molecule", "test_power_cut", "test_runs_at_once", "test_stock_host", "test_stock_injection", "test_world",
}  # fmt: skip
MACHINE = "machine"
# What takes ten minutes and more begins first, else one of the two processes waits at the end for the other; then what
# takes seconds; what takes minutes last. Where there is a deadline, it comes too early for the last of these, if any.
LONGEST = ("test_tools", "test_xen", "test_install", "test_role_transfer", "test_site")
LONG = (
    "test_bad_input", "test_transfer_lives", "test_image_check_live", "test_ansible", "test_secrets", "test_image_life",
    "test_role_install_os", "test_cloud_init", "test_disk_full", "test_demo_image",
)  # fmt: skip
# Of those of ALONE the first and the last.
SCENARIOS = "test_molecule"
TORTURES = ("test_stock_injection", "test_stock_host", "test_power_cut", "test_kills")
# Minutes that one test may take on a slow machine, with what it sets up: those of the tables above 6, all others 3, but
MINUTES = {
    "test_bad_input": 8, "test_cloud_init": 9, "test_install": 9, "test_kills": 15, "test_molecule": 20,
    "test_role_install_os": 9, "test_role_transfer": 12, "test_stock_host": 9, "test_xen": 8,
}  # fmt: skip
DEADLINE = float(os.environ.get("NEBULA_DEADLINE") or "inf")


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


def _turn(nodeid: str) -> tuple[int, int]:
    """What has the machine to itself, the longest, all others, the long ones; each in the order above."""
    stem = _file(nodeid).stem
    if group(nodeid) == MACHINE:
        return 0, -1 if stem == SCENARIOS else TORTURES.index(stem) + 1 if stem in TORTURES else 0
    if stem in LONGEST:
        return 1, LONGEST.index(stem)
    return (3, LONG.index(stem)) if stem in LONG else (2, 0)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A run that is ended from outside says nothing of what it found."""
    stem = _file(item.nodeid).stem
    minutes = MINUTES.get(stem, 6 if stem in {*ALONE, *LONGEST, *LONG} else 3)
    if time.time() + 60 * minutes > DEADLINE:
        pytest.skip("no time left for it before NEBULA_DEADLINE")


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
