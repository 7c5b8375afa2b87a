# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.kvm import (
    REMEDIES,
    TRAY_CLOSED,
    lost_the_race_for_cgroups,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt_domains import explained


@pytest.mark.parametrize(
    ("message", "lost"),
    [
        # As libvirt 9.0 said it.
        ("Unable to write to '/sys/fs/cgroup/cpuset/machine/cpuset.memory_migrate': No such file or directory", True),
        (
            "Unable to write to '/sys/fs/cgroup/cpuset/machine/qemu-3-one-0/emulator/tasks': No space left on device",
            True,
        ),
        ("Unable to write to '/var/lib/libvirt/qemu/save/one-0.save': No space left on device", False),
        ("Cannot access storage file '/var/lib/nebula/datastores/0/0/disk.0': No such file or directory", False),
        ("Unable to write to '/sys/fs/cgroup/cpuset/machine/cpuset.mems': Permission denied", False),
    ],
)
def test_only_the_race_for_the_common_group_is_tried_twice(message, lost):
    assert lost_the_race_for_cgroups(message) is lost


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        # As libvirt 9.0 said it where swtpm was not installed, and where a secret was not there.
        ("unsupported configuration: TPM version '2.0' is not supported", "swtpm-tools"),
        (
            "Secret not found: no secret with matching uuid '9a3f5d0e-6a2f-4a57-8f2e-0d5d6f3f8a11'",
            "nebula_luks_secrets",
        ),
        # Where ovmf was not installed: the one of a machine whose firmware libvirt chooses, the other of an older one.
        ("operation failed: Unable to find any firmware to satisfy 'efi'", "ovmf"),
        ("operation failed: Unable to find 'efi' firmware that is compatible with the current configuration", "ovmf"),
    ],
)
def test_what_is_missing_is_named(message, remedy):
    assert remedy in explained("starting it", message, REMEDIES).remedy


@pytest.mark.parametrize(
    ("message", "closed"),
    [
        # As QEMU 7.2 said it, of a device that it knows by a name and of one that it does not.
        ("unable to execute QEMU command 'blockdev-remove-medium': Tray of device 'ide0-0-0' is not open", True),
        ("unable to execute QEMU command 'blockdev-remove-medium': Tray of the device is not open", True),
        ("unable to execute QEMU command 'blockdev-open-tray': Device 'ide0-0-0' is locked", False),
    ],
)
def test_a_tray_that_the_guest_has_drawn_in_is_opened_again(message, closed):
    assert bool(TRAY_CLOSED.search(message)) is closed
