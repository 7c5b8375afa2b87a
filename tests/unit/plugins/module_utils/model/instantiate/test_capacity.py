# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CPU, CPULIMIT and MEMORY."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.demands import Demands, demands
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.validate import validate
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

PVH = "MEMORY = 64 DISK = [ IMAGE = a ] OS = [ MACHINE = xenpvh, KERNEL = /k ]"


def test_half_a_processor() -> None:
    assert demands(parse("CPU = 0.5 MEMORY = 128")) == Demands(cpu=0.5, vcpu=None, memory=128)


def test_memory_is_needed_for_a_machine() -> None:
    with pytest.raises(InvalidValue, match="VM web: MEMORY: it is not set"):
        demands(parse("DISK = [ IMAGE = a ]"), "VM web")


def test_a_limit_is_acted_on_where_it_can_be(machine: Callable[..., Vm]) -> None:
    limited = PVH + " CPULIMIT = 80"
    assert validate(parse(limited), hypervisors=("xen",)) == []
    assert validate(parse("MEMORY = 64 DISK = [ IMAGE = a ] CPULIMIT = 80")) == []
    assert machine("MEMORY = 1 DISK = [ IMAGE = debian ] CPULIMIT = 80", hypervisor="xen").cpu_limit == 80
    assert machine("MEMORY = 1 DISK = [ IMAGE = debian ]", hypervisor="xen").cpu_limit == 0
    with pytest.raises(InvalidValue, match=r"CPULIMIT = 'half'.*percents"):
        validate(parse(limited.replace("80", "half")))
