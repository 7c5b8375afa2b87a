# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verbs about a machine that is not there."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmOrders
from ansible_collections.nebula.provision.plugins.module_utils.errors import NotFound
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.vms.conftest import PLAIN


@pytest.mark.parametrize("verb", [
    lambda engine: engine.vms.action(99, "RUNNING", VmOrders()),
    lambda engine: engine.vms.update(99, PLAIN),
    lambda engine: engine.vms.recreate(99, PLAIN),
    lambda engine: engine.vms.disk_snapshot(99, 0, "a", "present"),
    lambda engine: engine.vms.disk_save_as(99, 0, Image(None, "a"), "agent"),
])  # fmt: skip
def test_a_machine_that_is_not_there_is_told(inside, verb):
    with pytest.raises(NotFound, match=r"VM 99: the catalog has none of this id\. List them with"):
        verb(inside)
