# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which machines a host that boots starts by itself."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.nebula.provision.plugins.module_utils.model import installation_marks
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm


def test_only_machines_that_install_do_not_start_with_their_host() -> None:
    vm = Vm(1, "u", "web", "kvm", 1.0, 64)
    assert installation_marks.starts_with_host(vm, "RUNNING") and not installation_marks.starts_with_host(
        vm, "POWEROFF"
    )
    assert not installation_marks.starts_with_host(
        replace(vm, attributes={installation_marks.MARK: "debian"}), "RUNNING"
    )
