# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.dataclass import replace
from ansible_collections.nebula.provision.plugins.module_utils.errors import Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.live_capacity import (
    Resizing,
    has_begun,
    plan_resizing,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Growth, Vm

BALLOON, MODULES = Growth(memory=1024, vcpu=4), Growth(memory=1024, vcpu=4, slots=2)


def a_vm(memory: int, vcpu: int | None, growth: Growth | None) -> Vm:
    return Vm(1, "u", "web", "kvm", 1, memory, vcpu=vcpu, growth=growth)


def running(
    most: int = 1024, current: int = 512, vcpu: str = "<vcpu current='2'>4</vcpu>", slots: int = 0, sizes: Any = ()
) -> str:
    """A running definition. sizes: MiB of its modules of memory."""
    modules = "".join(
        f"<memory model='dimm'><target><size unit='KiB'>{size * 1024}</size></target>"
        f"<alias name='dimm{number}'/></memory>"
        for number, size in enumerate(sizes)
    )
    maximum = f"<maxMemory slots='{slots}' unit='KiB'>{1024 * 1024}</maxMemory>" if slots else ""
    cell = f"<cpu><numa><cell id='0' memory='{512 * 1024}' unit='KiB'/></numa></cpu>" if slots else ""
    return (
        f"<domain>{maximum}<memory unit='KiB'>{most * 1024}</memory>"
        f"<currentMemory unit='KiB'>{current * 1024}</currentMemory>{vcpu}{cell}<devices>{modules}</devices></domain>"
    )


@pytest.mark.parametrize(
    ("vm", "live", "removes", "wanted"),
    [
        (a_vm(768, 3, BALLOON), running(), False, Resizing(vcpu=3, balloon=768)),
        (a_vm(768, 2, BALLOON), running(), False, Resizing(balloon=768)),
        # Nothing says a number of processors where there is one.
        (a_vm(512, None, BALLOON), running(), True, Resizing(vcpu=1, balloon=512)),
        (a_vm(512, None, BALLOON), running(), False, Resizing(balloon=512)),
        # It has all it may come to, and its definition says no more than that.
        (a_vm(512, 3, BALLOON), running(1024, 1024, "<vcpu>4</vcpu>"), True, Resizing(vcpu=3, balloon=512)),
        # An older machine, and one that only its next start makes what it is to be.
        (a_vm(768, 3, None), running(512, 512, "<vcpu>2</vcpu>"), True, Resizing()),
        (a_vm(1024, 3, BALLOON), running(512, 512, "<vcpu>2</vcpu>"), True, Resizing()),
        (a_vm(512, 2, MODULES), running(), True, Resizing()),
        (a_vm(512, 2, BALLOON), running(slots=2), True, Resizing()),
        (a_vm(512, 2, Growth(vcpu=4)), running(), True, Resizing()),
        # While it is to have other maxima, of which the running one knows nothing.
        (a_vm(768, 3, Growth(memory=2048, vcpu=8)), running(), True, Resizing()),
        (a_vm(768, 3, Growth(memory=2048, vcpu=4)), running(), True, Resizing(vcpu=3)),
    ],
)  # fmt: skip
def test_what_it_gets_and_loses(vm: Vm, live: str, removes: bool, wanted: Resizing) -> None:
    assert plan_resizing(live, vm, removes) == wanted


def modules(memory: int, sizes: Any, removes: bool = True) -> list[tuple[str, str]]:
    steps = plan_resizing(running(slots=3, sizes=sizes), a_vm(memory, 2, MODULES), removes).modules
    return [(step.name, step.alias) for step in steps]


def test_memory_comes_in_a_module_of_what_is_lacking() -> None:
    step = plan_resizing(running(slots=2, sizes=(128,)), a_vm(896, 2, MODULES), False).modules[0]
    assert (step.name, step.alias) == ("256 MB of memory, added", "")
    assert '<size unit="KiB">262144</size><node>0</node>' in step.text
    assert modules(640, (128,)) == []


def test_memory_goes_by_whole_modules_as_few_as_there_are() -> None:
    assert modules(768, (128, 128, 256)) == [("256 MB of memory, taken", "dimm2")]
    assert modules(512, (128, 256)) == [("128 MB of memory, taken", "dimm0"), ("256 MB of memory, taken", "dimm1")]
    assert modules(512, (128, 256), removes=False) == []


@pytest.mark.parametrize(
    ("memory", "sizes", "words"),
    [
        (640, (256,), r"would lose 128 MB, and memory goes by whole modules, of .* since its start: 256"),
        (384, (), "since its start: none"),
        (1024, (128, 128, 128), r"all of its 3 slots for modules of memory are taken \(MEMORY_SLOTS\)"),
    ],
)  # fmt: skip
def test_what_no_modules_make_is_refused(memory: int, sizes: Any, words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        modules(memory, sizes)


@pytest.mark.parametrize(
    ("running", "defined", "wanted", "begun"),
    [
        ((1, 256), (1, 256), (1, 512), False),
        # Of a run that was broken off, in part or whole.
        ((1, 384), (1, 256), (1, 512), True),
        ((2, 256), (1, 256), (2, 256), True),
        ((2, 512), (3, 512), (1, 512), True),
        # It waits for the next start; and a guest without a driver keeps all that it was started with.
        ((2, 256), (4, 256), (4, 256), False),
        ((1, 512), (1, 256), (1, 256), False),
    ],
)
def test_what_a_run_has_begun_is_what_the_definition_does_not_say_yet(
    running: tuple[int, int], defined: tuple[int, int], wanted: tuple[int, int], begun: bool
) -> None:
    texts = [
        f"<domain><vcpu current='{vcpu}'>4</vcpu><currentMemory>{memory * 1024}</currentMemory></domain>"
        for vcpu, memory in (running, defined)
    ]
    vm = Vm(1, "u", "web", "kvm", 1.0, wanted[1], vcpu=wanted[0], growth=Growth(memory=1024, vcpu=4))
    assert has_begun(*texts, vm) is begun
    assert not has_begun(*texts, replace(vm, growth=None))
