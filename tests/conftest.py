# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests have in common: their umask, and which of them may run beside which (pytest -n 2 --dist loadgroup)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# Of tests/integration: those that ask nothing of the machine but files, namespaces and programs of their own.
BESIDE = {
    "test_ansible", "test_at_once", "test_boot", "test_cloud_init", "test_context_iso", "test_context_sh",
    "test_demo_image", "test_disks", "test_download", "test_formats", "test_guest_context", "test_hostile_archives",
    "test_hostile_downloads", "test_hostile_images", "test_image_life", "test_image_recipes",
    "test_images", "test_installer_iso", "test_nebula_context_iso", "test_nebula_image", "test_nebula_template",
    "test_progress", "test_role_network", "test_saving",
}  # fmt: skip
MACHINE = "machine"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that share worlds, loop devices or the machine as a whole are one group, which takes longest and begins at
    once; every other file is a group. The tools are before all of these: they make the oldest Ansible's environment."""
    if not getattr(config.option, "loadgroup", False):
        return
    groups = {item: _group(item.path) for item in items}
    for item, group in groups.items():
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: groups[item] != MACHINE)


def _group(path: Path) -> str:
    parts = path.relative_to(HERE).parts
    alone = parts[0] == "integration" and path.stem not in BESIDE
    return MACHINE if alone or path.stem == "test_molecule" else "/".join(parts)


@pytest.fixture(autouse=True)
def same_umask():
    """Modules close the files they make by the umask of their process; here that process is everybody's."""
    before = os.umask(0o022)
    yield
    os.umask(before)
