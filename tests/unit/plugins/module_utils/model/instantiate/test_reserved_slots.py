# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate import reserved_slots
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.former_machine import FormerMachine
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

PLAIN, STATED = parse("MEMORY = 64"), parse("MEMORY = 64 HOTPLUG_SLOTS = 24")


def slots(template, former=None, unsaid=0, hypervisor="kvm"):
    return reserved_slots.slots_of(template, hypervisor, "VM web", former, unsaid)


def test_a_machine_that_is_made_has_those_of_its_template_or_of_the_run() -> None:
    assert [slots(PLAIN), slots(PLAIN, unsaid=8), slots(STATED), slots(STATED, unsaid=8)] == [0, 8, 24, 24]
    assert slots(STATED, unsaid=8, hypervisor="lxc") == 0


def test_a_machine_that_is_there_keeps_its_own_until_its_template_says_others() -> None:
    had = FormerMachine(PLAIN, PLAIN, PLAIN, PLAIN, hotplug_slots=8)
    assert [slots(PLAIN, had, 16), slots(STATED, had, 16)] == [8, 24]
    # One of a version in which the attribute did not act.
    assert slots(STATED, FormerMachine(STATED, STATED, STATED, STATED)) == 0
    assert slots(PLAIN, FormerMachine(STATED, STATED, STATED, STATED, hotplug_slots=24), 16) == 0


@pytest.mark.parametrize(("text", "words"), [("x", "not a whole number"), ("-1", "not a whole"), ("65", "64 at most")])
def test_what_no_machine_can_have(text: str, words: str) -> None:
    wrong = parse(f'HOTPLUG_SLOTS = "{text}"')
    with pytest.raises(InvalidValue, match=words):
        slots(wrong)
    for before in (None, STATED):
        with pytest.raises(InvalidValue, match=f"template web: HOTPLUG_SLOTS.*{words}"):
            reserved_slots.refuse_in_template(wrong, before, "template web")
    reserved_slots.refuse_in_template(wrong, wrong, "template web")
