# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's answer about an interface; the real switch is thrown in tests/integration/test_ovn.py."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.network.ovn import checksum_offload


def test_what_is_not_there_leaves_nothing_to_anybody():
    assert not checksum_offload.is_on("nebula-none")


def test_what_is_not_there_can_not_be_switched_off():
    with pytest.raises(OSError, match="No such device"):
        checksum_offload.switch_off("nebula-none")
