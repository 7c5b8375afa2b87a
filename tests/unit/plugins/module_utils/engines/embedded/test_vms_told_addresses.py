# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest is told of its addresses is what verify waits for."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.vms import _told_addresses


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({}, []),
        ({"ETH0_IP": "10.0.0.1", "ETH0_METHOD": "", "ETH0_IP6": ""}, ["10.0.0.1"]),
        ({"ETH0_IP": "10.0.0.1", "ETH0_METHOD": "dhcp", "ETH1_IP": "10.0.1.1"}, ["10.0.1.1"]),
        ({"ETH0_IP6": "2001:db8::1", "ETH0_IP6_ULA": "fd00::1", "ETH0_METHOD": "DHCP"}, []),
        ({"ETH0_IP": "10.0.0.1", "ETH0_IP6": "2001:db8::1", "ETH0_METHOD": "skip", "ETH0_IP6_METHOD": ""}, []),
        (
            {"ETH0_IP6": "2001:db8::1", "ETH0_IP6_ULA": "fd00::1", "ETH0_METHOD": "skip", "ETH0_IP6_METHOD": "Static"},
            ["2001:db8::1", "fd00::1"],
        ),
        (
            {"ETH0_IP": "10.0.0.1", "ETH0_METHOD": "static", "ETH0_IP6": "2001:db8::1", "ETH0_IP6_METHOD": "auto"},
            ["10.0.0.1"],
        ),
        ({"ETH0_GATEWAY": "10.0.0.254", "ETH0_VROUTER_IP": "10.0.0.9", "MY_ETH0_IP": "10.0.0.8"}, []),
    ],
)
def test_told_addresses(variables: dict[str, str], told: list[str]) -> None:
    assert _told_addresses(variables) == told
