# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model import console_passwords


@pytest.mark.parametrize(
    ("kind", "password", "first"),
    [
        ("vnc", "", ""),
        ("vnc", "12345678", "12345678"),
        ("vnc", "123456789", "12345678"),
        # libvirt counts bytes, and the half of a character is none.
        ("vnc", "ü234567", "ü234567"),
        ("vnc", "ü2345678", "ü234567"),
        ("vnc", "1234567ü", "1234567"),
        # What no file can hold is refused elsewhere, and not dropped here.
        ("vnc", "\ud800", "\ud800"),
        ("other", "s" * 99, "s" * 99),
        ("spice", "s" * 59, "s" * 59),
        ("spice", "s" * 60, "s" * 59),
    ],
)
def test_how_much_of_a_password_counts(kind: str, password: str, first: str) -> None:
    assert console_passwords.used_part(kind, password) == first
    assert console_passwords.is_cut(kind, password) == (first != password)
