# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where secrets come from that a backup was made without."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.stated_secrets import complete, of_item


def test_what_is_given_goes_before_what_is_found() -> None:
    needed = ["CONTEXT/PASSWORD", "CONTEXT/TOKEN", "GRAPHICS/PASSWD"]
    item = of_item({"context": {"token": "of the item", "password": "x"}, "attributes": {"graphics": {"passwd": "g"}}})
    found = complete(needed, {"PASSWORD": "given"}, [{"CONTEXT/PASSWORD": "kept"}, item], "asked")
    assert found == {"CONTEXT/PASSWORD": "given", "CONTEXT/TOKEN": "of the item", "GRAPHICS/PASSWD": "g"}


def test_all_that_are_missing_are_named() -> None:
    with pytest.raises(InvalidValue, match=r"CONTEXT/A, CONTEXT/B.*Nothing was changed"):
        complete(["CONTEXT/A", "CONTEXT/B", "CONTEXT/C"], {"CONTEXT/C": ""}, [of_item(None)], "asked")
