# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host tells of its hardware is data like any other."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.answers.host_hardware import read_hardware
from ansible_collections.nebula.provision.plugins.module_utils.model.host import HostHardware, HostNode, PciDevice

NODE: dict[str, Any] = {"number": 0, "memory": 4096, "cores": [[0, 2], [1, 3]], "pages": {"2": 5}, "distances": [10]}


CARD: dict[str, Any] = {"address": "0000:01:00.0", "vendor": "10de", "device": "1eb8", "device_class": "0302"}


def test_what_a_host_says() -> None:
    said = {"nodes": [NODE], "iommu": True, "devices": [{**CARD, "driver": "vfio-pci"}], "encryption": ["SEV"]}
    assert read_hardware(said, "host a") == HostHardware(
        (HostNode(0, 4096, ((0, 2), (1, 3)), {"2": 5}, (10,)),),
        True,
        (PciDevice("0000:01:00.0", "10de", "1eb8", "0302", "vfio-pci"),),
        ("SEV",),
    )
    assert read_hardware({}, "host a") == HostHardware()


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("many", "it is a str"),
        ({"nodes": "many"}, "it is a str, not a list"),
        ({"nodes": [{**NODE, "number": -1}]}, "number is -1"),
        ({"nodes": [{**NODE, "memory": 1 << 40}]}, "memory is"),
        ({"nodes": [{**NODE, "cores": [[0], [0]]}]}, "it has a processor twice"),
        ({"nodes": [NODE, NODE]}, "it has a node twice"),
        ({"nodes": [{**NODE, "cores": [[]]}]}, "a core without processors"),
        ({"nodes": [{**NODE, "cores": [[9000]]}]}, "the number of a processor is 9000"),
        ({"nodes": [{**NODE, "cores": "all"}]}, "it is a str, not a list"),
        ({"nodes": [{**NODE, "pages": {"two": 5}}]}, "huge pages of 'two' MiB"),
        ({"nodes": [{**NODE, "pages": {"2": -5}}]}, "the number of huge pages is -5"),
        ({"nodes": [{**NODE, "pages": {str(2 << n): 1 for n in range(9)}}]}, "it has huge pages of 9 sizes"),
        ({"nodes": [{**NODE, "distances": [1000]}]}, "a distance is 1000"),
        ({"nodes": [{**NODE, "distances": [10] * 1025}]}, "it has 1025 distances"),
        ({"nodes": [{**NODE, "more": 1}]}, "not known to this version"),
        ({"nodes": [{"memory": 5}]}, "missing"),
        ({"nodes": [{**NODE, "number": number, "cores": []} for number in range(1025)]}, "it has 1025 nodes"),
        ({"devices": [CARD, CARD]}, "it has a device twice"),
        ({"devices": [{**CARD, "address": "01:00.0; reboot"}]}, "at '01:00.0; reboot', which is no address"),
        ({"devices": [{**CARD, "vendor": "10DE"}]}, "what it says of device 0000:01:00.0 is not what a host says"),
        ({"devices": [{**CARD, "driver": "a b"}]}, "has no name of one"),
        ({"devices": [CARD] * 4097}, "it has 4097 devices"),
        ({"encryption": ["ROT13"]}, "in a way that there is not"),
        ({"iommu": "yes"}, "it is a str, not a bool"),
    ],
)
def test_what_no_host_is(said: Any, found: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        read_hardware(said, "host a: hardware")
    assert found in str(caught.value) and str(caught.value).startswith("host a: hardware")
