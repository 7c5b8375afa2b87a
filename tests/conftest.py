# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests have in common: their umask, and which of them may run beside which (pytest -n 2)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

# Of tests/integration: those that ask nothing of the machine but files, namespaces and programs of their own.
BESIDE = {
    "test_ansible", "test_at_once", "test_boot", "test_cloud_init", "test_context_iso", "test_context_sh",
    "test_demo_image", "test_disks", "test_download", "test_formats", "test_guest_context", "test_hostile_archives",
    "test_hostile_downloads", "test_hostile_images", "test_image_life", "test_image_recipes",
    "test_images", "test_installer_iso", "test_nebula_context_iso", "test_nebula_image", "test_nebula_template",
    "test_progress", "test_role_network", "test_saving",
}  # fmt: skip
MACHINE = "machine"


def group(nodeid: str) -> str:
    """What runs in one process, one after another: the tests that share worlds, loop devices or the machine as a whole,
    or the file's own."""
    path = Path(nodeid.split("::", maxsplit=1)[0])
    alone = path.parts[:2] == ("tests", "integration") and path.stem not in BESIDE
    return MACHINE if alone or path.stem == "test_molecule" else str(path)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes longest begins at once. The tools come first of the others: the oldest Ansible, which tests of these
    need, is installed by one of them."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: group(item.nodeid) != MACHINE)


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
