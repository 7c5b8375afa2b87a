# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Beancounters: both units of memory, and what is no limit."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model import beancounters

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("PRIVVMPAGES", "65536:69632", (256 * MIB, 272 * MIB)),
        ("PHYSPAGES", "0:unlimited", (0, None)),
        ("PHYSPAGES", "infinite", (None, None)),
        ("SWAPPAGES", "0:1024M", (0, 1024 * MIB)),
        ("SWAPPAGES", "0:262144", (0, 1024 * MIB)),
        ("SWAPPAGES", "0:262144P", (0, 1024 * MIB)),
        ("SWAPPAGES", "0:1048576", (0, 4096 * MIB)),
        ("SWAPPAGES", "0:1g", (0, 1024 * MIB)),
        ("KMEMSIZE", "14372700:14790164", (14372700, 14790164)),
        ("KMEMSIZE", "14M", (14 * MIB, 14 * MIB)),
        ("NUMPROC", "240", (240, 240)),
    ],
)
def test_amounts_are_bytes_in_either_unit(name: str, text: str, found: tuple[object, object]) -> None:
    assert beancounters.barrier_and_limit(name, text, "VM a") == found


@pytest.mark.parametrize("text", ["", "1:", ":1", "1:2:3", "x", "-1", "1.5M", "1 M", "٣", "1MB"])
def test_what_vzctl_would_skip_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="VM a: PHYSPAGES"):
        beancounters.barrier_and_limit("PHYSPAGES", text, "VM a")


def test_things_are_counted_without_a_unit() -> None:
    with pytest.raises(InvalidValue, match="NUMFILE = '1K'"):
        beancounters.barrier_and_limit("NUMFILE", "1K", "VM a")


def test_memory_is_the_smaller_limit_and_a_part_of_a_mib_is_one() -> None:
    assert beancounters.memory_mib({"PHYSPAGES": "0:64M", "PRIVVMPAGES": "0:128M"}, "x") == 64
    assert beancounters.memory_mib({"PHYSPAGES": "0:unlimited", "PRIVVMPAGES": "0:257"}, "x") == 2
    assert beancounters.memory_mib({"PRIVVMPAGES": "1"}, "x") == 1
    with pytest.raises(InvalidValue, match="neither PHYSPAGES nor PRIVVMPAGES"):
        beancounters.memory_mib({"NUMPROC": "1"}, "VM a: MEMORY")


def test_no_name_is_of_two_units() -> None:
    assert len(beancounters.NAMES) == len(set(beancounters.NAMES)) == 22
    with pytest.raises(InvalidValue, match="MEMORY/RAM = 1: there is no such beancounter"):
        beancounters.check({"RAM": "1"}, "VM a: MEMORY")


def test_what_is_read_of_others_may_be_upside_down_and_what_is_given_may_not() -> None:
    assert beancounters.memory_mib({"PHYSPAGES": "1G:512M"}, "container") == 512
    with pytest.raises(InvalidValue, match="MEMORY: PHYSPAGES = '1G:512M': its barrier is above its limit"):
        beancounters.check({"PHYSPAGES": "1G:512M"}, "VM a: MEMORY")
    # The kernel's word for it, as conf has it.
    assert beancounters.barrier_and_limit("VMGUARPAGES", "6144:9223372036854775807", "x") == (6144 * 4096, None)
    with pytest.raises(InvalidValue, match="no kernel counts to"):
        beancounters.barrier_and_limit("VMGUARPAGES", "6144:9223372036854775808", "x")
