# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a host is left out. tests/unit/plugins/plugin_utils/test_forged_facts.py has hosts with such facts."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.filter.settings_among import settings_among


def test_a_host_with_a_setting_among_its_facts_is_named_with_it() -> None:
    (sentence,) = settings_among({"nebula_vms": [], "hostname": "kvm1", "remote_tmp": "/x"}, "kvm1")
    assert sentence.startswith("kvm1: its facts have the names of settings (ansible_remote_tmp, nebula_vms). ")


def test_many_names_are_counted_and_none_controls_a_terminal() -> None:
    facts = {f"nebula_{number}": 1 for number in range(9)} | {"nebula_\x1b[2J": 1, "nebula_" + "x" * 1000: 1}
    (sentence,) = settings_among(facts, "kvm1")
    assert "and 6 more" in sentence and sentence.isprintable() and len(sentence) < 700


def test_other_facts_are_nothing_to_say() -> None:
    assert settings_among({}, "kvm1") == settings_among({"hostname": "kvm1"}, "kvm1") == []
