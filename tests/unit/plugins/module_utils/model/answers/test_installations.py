# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node says of installations is read as it is written, or refused with the node's name."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.install.watch_machines import Ending, Watched
from ansible_collections.nebula.provision.plugins.module_utils.install.watch_requests import ending_view
from ansible_collections.nebula.provision.plugins.module_utils.model.answers import installations

WATCHED = Watched("debian", 3, "install-debian", "/c", "/d", 4)
REAL = ending_view(Ending(WATCHED, True, "its guest ended the machine", 11.52, 12, ("line",)))


def read(**changes: Any) -> Any:
    return installations.read([{"host": "node1", "waited": [{**REAL, **changes}]}])


def test_what_the_module_returns():
    found, refused = read()
    (told,) = found["node1"]
    assert refused == {}
    assert (told.name, told.vm_id, told.installed, told.how) == ("debian", 3, True, "its guest ended the machine")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"mood": 1}, "key 'mood'"),
        ({"name": 5}, "name: it is a int"),
        ({"vm_id": "3"}, "vm_id: it is a str"),
        ({"vm_id": -1}, "the id of a machine is -1"),
        ({"vm_id": 1 << 31}, "the id of a machine"),
        ({"vm_id": None}, "of which machine"),
        ({"installed": "yes"}, "installed: it is a str"),
        ({"percent": 101}, "percent is 101"),
        ({"seconds": -1}, "seconds is -1"),
        ({"seconds": 1e300}, "seconds is"),
        ({"last_lines": ["x"] * 101}, "101 last lines"),
        ({"last_lines": "x"}, "last_lines: it is a str"),
    ],
)
def test_what_it_never_returns(changes, why):
    found, refused = read(**changes)
    assert found == {} and why in refused["node1"]
    assert refused["node1"].startswith("host node1: ")


def test_an_installation_is_told_of_once():
    found, refused = installations.read([{"host": "node1", "waited": [REAL, REAL]}])
    assert found == {} and "twice" in refused["node1"]


def test_what_no_node_is_named_for_need_not_be_complete():
    found, _refused = installations.read([{"name": "debian", "installed": True}])
    assert found[""][0].installed and found[""][0].vm_id is None
