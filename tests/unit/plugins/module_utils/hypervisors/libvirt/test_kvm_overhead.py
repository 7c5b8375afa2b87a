# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What QEMU takes beside a machine's memory, in MiB."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.kvm_overhead import BY_KVM, EMULATED


def test_an_emulated_machine_takes_more_and_each_processor_its_share():
    assert BY_KVM.of(64, 1) < EMULATED.of(64, 1) < EMULATED.of(4096, 1) < EMULATED.of(4096, 8)
    assert BY_KVM.of(1024, None) == BY_KVM.of(1024, 1) == 64 + 4 + 4
