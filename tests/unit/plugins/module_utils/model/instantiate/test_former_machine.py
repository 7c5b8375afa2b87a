# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.former_machine import FormerMachine
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.growth import growth_of
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse


def test_a_machine_of_an_older_version_has_neither_and_keeps_that() -> None:
    stored = parse("MEMORY = 512 MEMORY_MAX = 1024")
    former = FormerMachine(stored, stored, stored, stored)
    assert (former.topology, former.growth, former.hardware_version) == (None, None, 0)
    assert growth_of(stored, "kvm", "VM web", former) is None
