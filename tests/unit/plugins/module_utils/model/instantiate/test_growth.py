# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate import growth
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.former_machine import FormerMachine
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.validate import validate
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Growth
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

SMALL = "MEMORY = 512 VCPU = 2"
MODULES = "MEMORY_RESIZE_MODE = HOTPLUG"


def of(text: str, hypervisor: str = "kvm") -> Growth | None:
    return growth.growth_of(parse(f"{SMALL} {text}"), hypervisor, "VM web")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", None),
        ("MEMORY_SLOTS = 4", None),
        (MODULES, None),
        ("MEMORY_MAX = 1024", Growth(memory=1024)),
        ("MEMORY_MAX = 512", Growth(memory=512)),
        ("VCPU_MAX = 4", Growth(vcpu=4)),
        (f"VCPU_MAX = 4 {MODULES}", Growth(vcpu=4)),
        ("MEMORY_MAX = 1024 VCPU_MAX = 4 MEMORY_RESIZE_MODE = ballooning", Growth(1024, 4)),
        (f"MEMORY_MAX = 1024 {MODULES}", Growth(1024, 0, 16)),
        (f"MEMORY_MAX = 1024 MEMORY_SLOTS = 3 {MODULES}", Growth(1024, 0, 3)),
        ('MEMORY_MAX = 1024 FEATURES = [ ACPI = "no" ]', Growth(1024)),
    ],
)  # fmt: skip
def test_how_far_a_new_machine_may_grow(text: str, wanted: Growth | None) -> None:
    assert of(text) == wanted


@pytest.mark.parametrize("hypervisor", ["xen", "xen-libvirt", "lxc", "openvz"])
def test_elsewhere_nothing_is_set_aside_whatever_is_said(hypervisor: str) -> None:
    assert of("MEMORY_MAX = 1 VCPU_MAX = x", hypervisor) is None


@pytest.mark.parametrize(
    ("text", "asked", "words"),
    [
        ("MEMORY_MAX = 511", "VM web: MEMORY = 512", "MEMORY_MAX is 511"),
        ("VCPU_MAX = 1", "VM web: VCPU = 2", "VCPU_MAX is 1"),
        ("VCPU_MAX = 0", "VM web: VCPU_MAX = '0'", "at least 1"),
        ("MEMORY_MAX = 1G", "VM web: MEMORY_MAX = '1G'", "not a whole number"),
        ("MEMORY_MAX = 1024 MEMORY_SLOTS = 0", "VM web: MEMORY_SLOTS = '0'", "at least 1"),
        ("MEMORY_MAX = 1024 MEMORY_SLOTS = 257", "VM web: MEMORY_SLOTS = 257", "256 at most"),
        ("MEMORY_MAX = 1024 MEMORY_RESIZE_MODE = DIMM", "VM web: MEMORY_RESIZE_MODE = DIMM", "no such word"),
        (f"MEMORY_MAX = 1000 {MODULES}", "VM web: MEMORY = 512, MEMORY_MAX = 1000", "modules of 128 MB"),
        (f'MEMORY_MAX = 1024 {MODULES} FEATURES = [ ACPI = "NO" ]', "VM web: FEATURES: ACPI = NO", "HOTPLUG needs it"),
        ('VCPU_MAX = 4 FEATURES = [ ACPI = "NO" ]', "VM web: FEATURES: ACPI = NO", "VCPU_MAX needs it"),
    ],
)  # fmt: skip
def test_what_no_machine_can_have(text: str, asked: str, words: str) -> None:
    with pytest.raises(InvalidValue, match=words) as caught:
        of(text)
    assert caught.value.asked == asked
    stored = parse(f"{SMALL} {text}")
    # A stored template says it with a warning, and a new one is refused.
    assert any(words in warning for warning in validate(stored, where="template web", hypervisors=("kvm",)))
    growth.refuse_in_template(stored, stored, "template web")
    with pytest.raises(InvalidValue, match=words):
        growth.refuse_in_template(stored, parse(SMALL), "template web")


def test_a_remedy_is_a_number_that_is_taken() -> None:
    with pytest.raises(InvalidValue, match=r"such as MEMORY_MAX = 1024;"):
        of(f"MEMORY_MAX = 1000 {MODULES}")
    assert of(f"MEMORY_MAX = 1024 {MODULES}") is not None


def test_a_template_may_leave_memory_to_its_machines() -> None:
    growth.refuse_in_template(parse("MEMORY_MAX = 1024"), None, "template web")


def test_a_machine_keeps_what_it_was_made_with_until_its_maxima_change() -> None:
    had = parse(f"{SMALL} MEMORY_MAX = 1024")
    for known in (None, Growth(1024)):
        former = FormerMachine(had, had, had, had, growth=known)
        same = parse("MEMORY = 768 VCPU = 2 memory_max = 01024")
        assert growth.growth_of(same, "kvm", "VM web", former) == known
        assert growth.growth_of(parse(f"{SMALL} MEMORY_MAX = 2048"), "kvm", "VM web", former) == Growth(2048)
        assert growth.growth_of(parse(SMALL), "kvm", "VM web", former) is None
    with pytest.raises(InvalidValue, match="MEMORY_MAX is 1024"):
        growth.growth_of(parse("MEMORY = 2048 MEMORY_MAX = 1024"), "kvm", "VM web", former)


def test_what_its_host_has_to_have_for_it() -> None:
    assert growth.most_of(512, None, None) == (512, None)
    assert growth.most_of(512, None, Growth(memory=1024)) == (1024, None)
    assert growth.most_of(512, None, Growth(vcpu=4)) == (512, 4)
    assert growth.most_of(2048, 8, Growth(1024, 4)) == (2048, 8)


@pytest.mark.parametrize(
    ("known", "after", "waiting", "wanted"),
    [
        (Growth(1024, 4), "MEMORY = 1024 VCPU = 4", (), ["MEMORY", "VCPU"]),
        (Growth(1024), "MEMORY = 1024 VCPU = 4", (), ["MEMORY"]),
        (Growth(1024, 4), "MEMORY = 1025 VCPU = 5", (), []),
        (Growth(1024, 4), "MEMORY = 768", (), ["MEMORY", "VCPU"]),
        (Growth(1024, 4), "MEMORY = 768", ("VCPU",), ["MEMORY"]),
        # What each depends on changes, or waits.
        (Growth(1024, 4), "MEMORY = 768", ("MEMORY_MAX",), ["VCPU"]),
        (Growth(1024, 4), "MEMORY = 768 VCPU_MAX = 8", (), ["MEMORY"]),
        (Growth(1024, 4), "MEMORY = 768 MEMORY_RESIZE_MODE = HOTPLUG", (), ["VCPU"]),
        # A default that is said is none.
        (Growth(1024), "MEMORY = 768 MEMORY_RESIZE_MODE = BALLOONING MEMORY_SLOTS = 16", (), ["MEMORY"]),
        (None, "MEMORY = 768", (), []),
    ],
)  # fmt: skip
def test_what_is_changed_while_it_runs(
    known: Growth | None, after: str, waiting: tuple[str, ...], wanted: list[str]
) -> None:
    assert growth.changed_at_once(known, parse(SMALL), parse(after), waiting) == wanted


def test_a_machine_that_was_made_before_is_told_how_it_gets_that() -> None:
    text = parse(f"{SMALL} MEMORY_MAX = 1024 VCPU_MAX = 4")
    assert "MEMORY_MAX and VCPU_MAX do not act on it" in str(growth.doubt_of_machine("kvm", None, text))
    assert "VCPU_MAX does not act on it" in str(growth.doubt_of_machine("kvm", None, parse(f"{SMALL} VCPU_MAX = 4")))
    assert growth.doubt_of_machine("kvm", Growth(1024), text) is None
    assert growth.doubt_of_machine("lxc", None, text) is None
    assert growth.doubt_of_machine("kvm", None, parse(SMALL)) is None
