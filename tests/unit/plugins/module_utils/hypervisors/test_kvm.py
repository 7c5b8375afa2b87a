# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.kvm import lost_the_race_for_cgroups


@pytest.mark.parametrize(
    ("message", "lost"),
    [
        # As libvirt 9.0 said it.
        ("Unable to write to '/sys/fs/cgroup/cpuset/machine/cpuset.memory_migrate': No such file or directory", True),
        ("Cannot access storage file '/var/lib/nebula/datastores/0/0/disk.0': No such file or directory", False),
        ("Unable to write to '/sys/fs/cgroup/cpuset/machine/cpuset.mems': Permission denied", False),
    ],
)
def test_only_the_race_for_the_common_group_is_tried_twice(message, lost):
    assert lost_the_race_for_cgroups(message) is lost
