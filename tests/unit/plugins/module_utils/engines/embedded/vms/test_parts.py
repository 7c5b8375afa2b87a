# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What verbs about machines share."""

from __future__ import annotations


def test_ports_and_capacity_count_what_nodes_said(inside):
    vms = inside.vms
    assert vms.ports.polls is vms.polls and vms.capacity.polls is vms.polls
