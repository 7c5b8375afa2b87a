# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tunnels leave for packets is a number of bytes, or not known."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.answers.tunnel_mtu import inner_mtu


@pytest.mark.parametrize("size", [0, 1392, 65535])
def test_a_number_of_bytes(size):
    assert inner_mtu({"host": {"inner_mtu": size}}) == size


@pytest.mark.parametrize("size", [-1, 65536, 10**30, "1392", True, 1.5, None, [1392], {}])
def test_what_is_none(size):
    assert inner_mtu({"host": {"inner_mtu": size}}) == 0


@pytest.mark.parametrize("answer", [None, "x", 5, {}, {"host": "x"}, {"host": [1]}, {"host": {}}])
def test_what_is_no_answer(answer):
    assert inner_mtu(answer) == 0
