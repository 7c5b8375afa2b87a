# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each hypervisor is declared once, and its driver is the one that it names."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import registry
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.declarations import (
    DECLARED,
    hypervisors_by_word,
)


def test_each_is_known_by_its_name_and_its_other_words() -> None:
    assert [*DECLARED] == [each.name for each in DECLARED.values()]
    assert {word: each.name for word, each in hypervisors_by_word(DECLARED.values()).items()} == {
        "kvm": "kvm", "qemu": "kvm", "xen": "xen", "xen_libvirt": "xen_libvirt",
        "lxc": "lxc", "openvz": "openvz",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(DECLARED))
def test_each_has_a_driver_a_console_and_packages(name: str) -> None:
    declared, driver = DECLARED[name], registry.DRIVERS[name]
    assert (driver.__module__.partition(".hypervisors.")[2], driver.__name__) == declared.module
    assert driver.name == name and "{domain}" in declared.console and declared.packages
