# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the front-end waits for a host; what it takes then is in test_giving.py."""

from __future__ import annotations

import time

import pytest
from move_pairs import Beside, free_port, key_pair

from ansible_collections.nebula.provision.plugins.module_utils.errors import OtherHostFailed
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.backups.taking import Activity, Taking
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import BackupPassage


def test_a_host_is_waited_for_as_long_as_anything_else_goes_on() -> None:
    """Ansible may act on it only when it is done with another one."""
    certificate, key = key_pair("source")
    passage = BackupPassage("t", False, "node1", "127.0.0.1", free_port(), certificate, certificate, key, meeting=0)
    activity = Activity()
    with activity.going_on():
        waiting = Beside(Taking(passage, activity).meet)
        time.sleep(0.5)
        assert activity.idle_seconds() == 0.0
        assert waiting._thread.is_alive()
    with pytest.raises(OtherHostFailed, match=r"was not met at 127\.0\.0\.1"):
        waiting.result()
