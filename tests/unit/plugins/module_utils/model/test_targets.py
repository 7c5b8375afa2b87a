# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of devices. What machines make of them: test_instantiate.py."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.targets import letter_index


@pytest.mark.parametrize(
    ("target", "index"), [("sda", 0), ("sdz", 25), ("sdaa", 26), ("sdaz", 51), ("sdba", 52), ("vdb", 1), ("hdc", 2)]
)
def test_letters(target: str, index: int) -> None:
    assert letter_index(target) == index
