# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of a container's definition; tests/integration/test_lxc_disks.py has how they come and go."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc import live_disks
from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import id_range
from ansible_collections.nebula.provision.plugins.module_utils.storage import mounted_disks

FIXTURES = Path(__file__).parents[5] / "fixtures" / "deployment" / "lxc"


def test_disks_are_found_in_the_definition_with_their_files_owners_and_paths() -> None:
    found = live_disks.disks_of((FIXTURES / "disks_at_paths.xml").read_text(encoding="utf-8"))
    assert {number: (live.target, live.disk.readonly) for number, live in found.items()} == {
        2: ("/media/one-disk.2", False),
        3: ("/srv/data", True),
        4: ("/srv", False),
    }
    assert {live.disk.ids.start for live in found.values()} == {id_range(5).start}
    assert found[3].disk.file.endswith("/datastores/0/5/disk.3")
    assert mounted_disks.parse_mount_point(found[3].disk.point)[1] == 3


def test_a_definition_without_any_has_none() -> None:
    assert live_disks.disks_of((FIXTURES / "root_alone.xml").read_text(encoding="utf-8")) == {}
