# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host is asked to restore gets there as it is, and its key is not shown."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain, to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_restore import MachineToRestore
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm


def test_it_comes_as_it_went() -> None:
    vm = Vm(7, "u", "web-7", "kvm", 1.0, 64)
    wanted = MachineToRestore("c", vm, 3, "/backups", "latest", (0, 2), "a key")
    assert from_plain(MachineToRestore, to_plain(wanted)) == wanted
    assert "a key" not in repr(wanted)
