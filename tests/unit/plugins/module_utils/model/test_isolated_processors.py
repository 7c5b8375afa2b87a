# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which processors of a host no machine gets to itself."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.isolated_processors import read


@pytest.mark.parametrize(
    ("text", "wanted"), [("", ()), ("0", (0,)), ("0, 4,1", (0, 1, 4)), ("0-3,8", (0, 1, 2, 3, 8)), (" 5 7 ", (5, 7))]
)
def test_lists_as_the_kernel_writes_them(text: str, wanted: tuple[int, ...]) -> None:
    assert read(text, "host a") == frozenset(wanted)


@pytest.mark.parametrize("text", ["all", "[0, 1]", "3-1", "0-", "-1", "9000", "9" * 5000, "0-99999", "\u0663"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="it is no list of processors"):
        read(text, "host a")
