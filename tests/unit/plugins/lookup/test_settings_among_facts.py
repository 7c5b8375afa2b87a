# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a host is left out. tests/unit/plugins/plugin_utils/test_forged_facts.py has hosts with such facts."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.lookup.settings_among_facts import LookupModule


def found(facts, **variables):
    return LookupModule().run([], {"inventory_hostname": "kvm1", "ansible_facts": facts, **variables})


def test_a_host_with_a_setting_among_its_facts_is_named_with_it() -> None:
    (sentence,) = found({"nebula_vms": [], "hostname": "kvm1", "remote_tmp": "/x"})
    assert sentence.startswith("kvm1: its facts have the names of settings (ansible_remote_tmp, nebula_vms). ")


def test_many_names_are_counted_and_none_controls_a_terminal() -> None:
    facts = {f"nebula_{number}": 1 for number in range(9)} | {"nebula_\x1b[2J": 1, "nebula_" + "x" * 1000: 1}
    (sentence,) = found(facts)
    assert "and 6 more" in sentence and sentence.isprintable() and len(sentence) < 700


def test_a_name_that_is_a_fact_is_not_the_hosts() -> None:
    (sentence,) = found({"inventory_hostname": "kvm2"})
    assert sentence.startswith("This host: its facts have the names of settings (inventory_hostname). ")


def test_other_facts_are_nothing_to_say() -> None:
    assert found({}) == found({"hostname": "kvm1"}) == []


def test_a_variable_that_a_setting_refers_to_is_a_setting() -> None:
    (sentence,) = found({"webs": [], "hostname": "kvm1"}, nebula_vms="{{ webs }}", webs=[])
    assert "(webs)" in sentence
