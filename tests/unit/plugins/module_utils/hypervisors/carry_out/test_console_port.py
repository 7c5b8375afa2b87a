# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A port that a stranger has taken is told before a machine starts."""

from __future__ import annotations

import socket

from memory_node import Node, machine, told

from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Graphics


def test_a_port_that_another_program_has_taken_is_said_before_the_start(here: Node) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        vm = machine(graphics=Graphics(port=port))
        outcome = here.one("RUNNING", 1, vm)
        assert told(outcome) == ("BOOT_FAILURE", True, "NoCapacity")
        assert outcome.error is not None and f"port {port} on 127.0.0.1" in outcome.error["asked"]
        assert "another program listens" in outcome.error["found"] and "GRAPHICS PORT" in outcome.error["remedy"]
        assert "start" not in here.driver.names()
    assert told(here.one("RUNNING", 2, vm)) == ("RUNNING", True, "")
    assert here.record().port == port


def test_an_address_that_this_node_does_not_have_is_left_to_the_hypervisor(here: Node) -> None:
    outcome = here.one("RUNNING", vm=machine(graphics=Graphics(port=5999, listen="192.0.2.1")))
    assert (outcome.state, outcome.error) == ("RUNNING", None)
