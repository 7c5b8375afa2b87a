# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which devices of a host a machine gets. What machines share of them is the subject of test_host_places.py."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.host import HostHardware, PciDevice
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.host_devices import described, give
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.host_placement import Taken
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.numa_placement import NoPlaceError
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import HostDevice

FIRST, SECOND = "0000:01:00.0", "0000:02:00.0"
HARDWARE = HostHardware(
    iommu=True, devices=(PciDevice(FIRST, "10de", "1eb8", "0302", "nouveau"), PciDevice(SECOND, "10de", "1eb8", "0302"))
)
GPU = HostDevice("", "10de", "", "0302")


def test_one_that_its_machine_has_is_its_own_whatever_drives_it_meanwhile() -> None:
    own = Taken(None, 0, (HostDevice(FIRST),))
    assert give([GPU], HARDWARE, [], []) == (HostDevice(SECOND, "10de", "", "0302"),)
    assert give([GPU], HARDWARE, [], [own]) == (HostDevice(FIRST, "10de", "", "0302"),)
    assert give([], HostHardware(), [], []) == ()
    with pytest.raises(NoPlaceError, match="driver nouveau"):
        give([GPU, GPU], HARDWARE, [], [])


@pytest.mark.parametrize(
    ("device", "text"),
    [
        (HostDevice(FIRST), f"at {FIRST}"),
        (GPU, "with vendor 10de, class 0302"),
        (HostDevice("", "", "1eb8"), "with device 1eb8"),
    ],
)
def test_how_a_device_is_called(device: HostDevice, text: str) -> None:
    assert described(device) == text
