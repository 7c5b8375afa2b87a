# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NIC and NIC_DEFAULT."""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.demands import demands
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.text.template import parse


def test_nics_get_their_place_and_options(machine: Callable[..., Vm]) -> None:
    vm = machine("""MEMORY = 1 OS = [ BOOT = "nic1,disk0" ] DISK = [ IMAGE = debian ]
        NIC = [ NETWORK = a, MODEL = e1000, TARGET = tap7 ] NIC = [ NETWORK_ID = 0, DNS = "9.9.9.9", MTU = 1400 ]""")
    assert [(n.target, n.model, n.boot_order, n.options) for n in vm.nics] == [
        ("tap7", "e1000", 0, {}),
        ("one-20-1", "", 1, {"DNS": "9.9.9.9", "MTU": "1400"}),
    ]
    assert vm.disks[0].boot_order == 2


def test_nics_have_what_nic_default_says_and_they_do_not(machine: Callable[..., Vm]) -> None:
    text = "MEMORY = 1 DISK = [ IMAGE = debian ] NIC_DEFAULT = [ MODEL = e1000, IP = 10.0.0.7, FILTER = a ]"
    text += ' NIC = [ NETWORK = a, MODEL = rtl8139 ] NIC = [ NETWORK = a, IP = 10.0.0.8, FILTER = "" ]'
    assert [(nic.ip, nic.mac) for nic in demands(parse(text)).nics] == [("10.0.0.7", ""), ("10.0.0.8", "")]
    first, second = machine(text).nics
    assert (first.model, first.options["FILTER"]) == ("rtl8139", "a")
    assert (second.model, second.options["FILTER"]) == ("e1000", "")
