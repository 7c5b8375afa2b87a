# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter over plugin_utils/topology, whose tests have the picture."""

from __future__ import annotations

import base64

import pytest
import topologies
from ansible.errors import AnsibleFilterError

from ansible_collections.nebula.provision.plugins.filter.topology_page import FilterModule

topology_page = FilterModule().filters()["topology_page"]


def test_a_page_is_drawn_and_stays_as_it_is():
    given = topologies.three()
    page = topology_page(given)
    assert page.startswith("<!DOCTYPE html>\n") and "web-2" in page
    earlier = base64.b64encode(page.encode()).decode()
    assert topology_page({**given, "as_of": 1}, earlier) == page
    assert topology_page(given, None) == page


def test_a_file_that_is_no_text_is_nothing_to_compare_with():
    binary = base64.b64encode(bytes(range(256))).decode()
    assert topology_page(topologies.three(), binary) == topology_page(topologies.three())


def test_what_is_not_slurped_is_refused():
    with pytest.raises(AnsibleFilterError, match="earlier: it is no base64"):
        topology_page(topologies.three(), "<html>")
