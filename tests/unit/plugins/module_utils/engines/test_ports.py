# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What engines/ports.py gives to every port that does not do it in a way of its own."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import (
    HostsPort,
    ImagesPort,
    VmOrders,
    VmRecord,
    VmRequest,
    VmsPort,
)
from ansible_collections.nebula.provision.plugins.module_utils.errors import Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template


def blank(port):
    """A port of which nobody has written anything yet: all that it has to have is there, and does nothing."""
    return type("Blank", (port,), dict.fromkeys(port.__abstractmethods__))


@pytest.mark.parametrize("port", [ImagesPort, HostsPort, VmsPort])
def test_a_port_has_to_have_all_of_its_verbs(port):
    with pytest.raises(TypeError, match="abstract"):
        port()


def test_an_engine_without_plans_fetches_no_file_for_anybody():
    with pytest.raises(Unsupported, match=r"image 7: its file from a host: this engine fetches files by its own"):
        blank(ImagesPort)().returned(7)


@pytest.mark.parametrize("verb", [lambda vms: vms.move(7, "node2"), lambda vms: vms.move(7), lambda vms: vms.stay(7)])
def test_an_engine_without_plans_moves_no_machine(verb):
    with pytest.raises(Unsupported, match=r"machine 7: .*: this engine moves no machines"):
        verb(blank(VmsPort)())


def test_a_record_shows_nothing_of_the_template_that_it_was_made_from():
    secret = Template((("PASSWORD", "s3cr3t"),))
    record = VmRecord(0, "web", "u", "RUNNING", "RUNNING", "node1", "kvm", 1, 1.0, None, 64, request=secret)
    assert "s3cr3t" not in repr(record)
    assert record.request is secret
    assert (record.addresses, record.warnings, record.outdated) == (None, (), False)
    assert (record.moving, record.away) == ("", "")


def test_a_machine_that_is_asked_for_runs_anywhere_and_ends_gently():
    request = VmRequest("web", Template())
    assert (request.host, request.wanted, request.position) == ("", "RUNNING", None)
    assert VmOrders() == VmOrders(hard=False, shutdown_timeout=120, operation="")
