# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.vms import generated_passwords
from ansible_collections.nebula.provision.plugins.module_utils.model.console_passwords import LENGTHS
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Graphics, Vm

OPEN = Graphics(made_up=True)


def machine(graphics):
    return Vm(vm_id=1, uuid="u", name="web", hypervisor="kvm", cpu=1.0, memory=64, graphics=graphics)


@pytest.mark.parametrize("kind", ["vnc", "spice"])
def test_a_password_that_nobody_chose(kind):
    found = {
        generated_passwords.with_console_password(machine(replace(OPEN, type=kind))).graphics.password
        for _ in range(100)
    }
    assert len(found) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9]+", each) for each in found)
    # All of it counts.
    assert {len(each) for each in found} == {generated_passwords.LENGTHS[kind]} and generated_passwords.LENGTHS[
        kind
    ] <= LENGTHS[kind]


@pytest.mark.parametrize("graphics", [None, Graphics(), Graphics(password="chosen")])
def test_what_is_left_as_it_is(graphics):
    vm = machine(graphics)
    assert generated_passwords.with_console_password(vm) is vm
    assert generated_passwords.with_console_password(vm, replace(OPEN, password="abcdefgh")) is vm


def test_a_machine_keeps_the_one_that_it_has():
    had = replace(OPEN, password="abcdefgh")
    assert generated_passwords.with_console_password(machine(OPEN), had).graphics == had
    assert generated_passwords.with_console_password(machine(had)).graphics == had
    # One that somebody chose for it is not what was made up, and that of VNC is too short for SPICE.
    for other in (Graphics(password="abcdefgh"), replace(had, type="spice")):
        assert generated_passwords.with_console_password(machine(OPEN), other).graphics.password != "abcdefgh"


def test_one_of_a_version_that_made_none_up():
    closed = generated_passwords.with_console_password_at_last(machine(Graphics()), made_up=True)
    assert closed.graphics.made_up and len(closed.graphics.password) == 8
    for vm, made_up in ((machine(Graphics()), False), (machine(Graphics(password="x")), True), (machine(None), True)):
        assert generated_passwords.with_console_password_at_last(vm, made_up) is vm
