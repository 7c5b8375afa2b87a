# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Yes and no as people write them."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.flags import flag


@pytest.mark.parametrize("value", [True, 1, "yes", "True", " on ", "Y"])
def test_yes(value: object) -> None:
    assert flag(value, "VM a: hard") is True


@pytest.mark.parametrize("value", [False, 0, "no", "FALSE", "off", "n"])
def test_no(value: object) -> None:
    assert flag(value, "VM a: hard") is False


@pytest.mark.parametrize("value", ["", "perhaps", 2, 1.5, None, []])
def test_neither(value: object) -> None:
    with pytest.raises(InvalidValue, match="VM a: hard"):
        flag(value, "VM a: hard")
