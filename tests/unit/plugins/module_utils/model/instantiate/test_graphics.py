# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The console, and who chooses its password."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.graphics import wants_made_up_password
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Graphics, Vm
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse


def test_graphics(machine: Callable[..., Vm]) -> None:
    disk = "MEMORY = 1 DISK = [ IMAGE = debian ] "
    vm = machine(disk + 'GRAPHICS = [ TYPE = "VNC", PASSWD = "a" ]', vnc_port=5920)
    assert vm.graphics == Graphics("vnc", "127.0.0.1", 5920, "a", "")
    vm = machine(disk + "GRAPHICS = [ TYPE = spice, PORT = 6000, LISTEN = 0.0.0.0 ]")
    assert vm.graphics == Graphics("spice", "0.0.0.0", 6000, "", "", made_up=True, companions=True)
    assert "a-secret" not in repr(machine(disk + "GRAPHICS = [ PASSWD = a-secret ]"))


@pytest.mark.parametrize(
    ("words", "made_up"),
    [
        ("TYPE = vnc", True),
        ("TYPE = spice, RANDOM_PASSWD = YES", True),
        ('TYPE = vnc, RANDOM_PASSWD = "", PASSWD = ""', True),
        ("TYPE = vnc, RANDOM_PASSWD = NO", False),
        ("TYPE = vnc, RANDOM_PASSWD = YES, PASSWD = chosen", False),
    ],
)
def test_whose_password_is_left_to_the_catalog(words: str, made_up: bool) -> None:
    assert wants_made_up_password(parse(f"GRAPHICS = [ {words} ]")) is made_up


def test_no_graphics_have_no_password() -> None:
    assert not wants_made_up_password(parse("CPU = 1"))
