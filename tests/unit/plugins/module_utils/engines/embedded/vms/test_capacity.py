# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What machines take of their hosts."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import NoCapacity
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.vms.conftest import record


def test_what_a_machine_takes_more_of_has_to_be_there(web):
    with pytest.raises(NoCapacity, match="VM web: 5000 MiB"), web.attempt():
        web.vms.update(0, record(web).request.merged(Template.from_mapping({"MEMORY": "5000"})))
    assert web.hosts.info("node1").memory_used == 128
    # What it has itself counts for it.
    web.vms.update(0, record(web).request.merged(Template.from_mapping({"MEMORY": "4096"})))
    assert web.hosts.info("node1").memory_used == 4096
    # It keeps what it has even where that is more than there is by now.
    web.hosts.update("node1", memory=1000)
    web.vms.update(0, record(web).request.merged(Template.from_mapping({"MEMORY": "2000"})))
    assert web.hosts.info("node1").memory_used == 2000
