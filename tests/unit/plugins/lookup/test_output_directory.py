# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lookup over plugin_utils/control_node_paths.py, whose tests have the rules."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleError

from ansible_collections.nebula.provision.plugins.lookup.output_directory import LookupModule


@pytest.fixture
def lookup():
    return LookupModule()


def test_absolute_paths_in_the_order_given(lookup, tmp_path):
    found = lookup.run(["backups", f"{tmp_path}/x"], {"inventory_dir": str(tmp_path)})
    assert found == [f"{tmp_path}/backups", f"{tmp_path}/x"]


def test_what_can_not_be_written_is_ansibles_error(lookup, tmp_path):
    (tmp_path / "backups").touch()
    with pytest.raises(AnsibleError, match=r"is no directory\. Give another path"):
        lookup.run(["backups"], {"inventory_dir": str(tmp_path)})
