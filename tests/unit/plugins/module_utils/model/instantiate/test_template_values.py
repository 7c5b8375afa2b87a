# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers, flags and words of a template."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate import template_values
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse


def test_a_number_is_read_or_the_error_says_what_may_stand_there() -> None:
    assert template_values.read_whole(" 12 ", "SIZE", "Give MB") == 12
    for text, found in (("x", "not a whole number"), ("0", "at least 1"), ("1" * 13, "nothing is that large")):
        with pytest.raises(InvalidValue, match=found):
            template_values.read_whole(text, "SIZE", "Give MB", lowest=1)


def test_a_flag_that_is_not_there_is_no() -> None:
    assert template_values.read_flag({"READONLY": "yes"}, "READONLY", "DISK")
    assert not template_values.read_flag({}, "READONLY", "DISK")
    with pytest.raises(InvalidValue, match="DISK/READONLY = 'perhaps'"):
        template_values.read_flag({"READONLY": "perhaps"}, "READONLY", "DISK")


def test_the_first_word_is_the_default() -> None:
    assert template_values.read_word(parse("A = 1"), "B", ("one", "two"), "template") == "one"
    assert template_values.read_word(parse("B = TWO"), "B", ("one", "two"), "template") == "two"
    with pytest.raises(InvalidValue, match="Did you mean nocloud"):
        template_values.read_word(parse("B = nocluod"), "B", ("opennebula", "nocloud"), "template")
