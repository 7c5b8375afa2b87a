# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The NICs of a container's definition; tests/integration/test_lxc.py has how they come and go."""

from __future__ import annotations

import os
from xml.etree import ElementTree as ET

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc import live_nics
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc.live_nics import LiveNic

DOMAIN = """<domain type='lxc'><devices>
<interface type='bridge'><mac address='02:00:0A:01:00:0a'/><source bridge='nbr0'/><target dev='one-5-0'/>
<guest dev='eth0'/></interface>
<interface type='ethernet'><mac address='02:00:0a:01:00:0b'/></interface>
<filesystem type='mount'><source dir='/x'/><target dir='/'/></filesystem>
</devices></domain>"""


def test_nics_are_known_by_their_addresses_whatever_their_case() -> None:
    found = live_nics.nics_of(DOMAIN)
    assert set(found) == {"02:00:0a:01:00:0a", "02:00:0a:01:00:0b"}
    first, second = found.values()
    assert (first.host, first.guest, second.host, second.guest) == ("one-5-0", "eth0", "", "")
    source = ET.fromstring(first.text).find("source")
    assert source is not None and source.get("bridge") == "nbr0"


def test_an_end_that_is_not_there_is_not_looked_for_in_the_container() -> None:
    nowhere = {"02:00:0a:01:00:0a": LiveNic("one-none", "eth0", ""), "02:00:0a:01:00:0b": LiveNic("", "", "")}
    # Init of no container: its network would be this host's.
    assert not live_nics.name_ends(os.getpid(), nowhere, "changing it")
