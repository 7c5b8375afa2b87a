# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts show the shared datastores that they are to have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.datastore import Datastore, DatastoreType
from ansible_collections.nebula.provision.plugins.module_utils.model.shared_datastores import (
    REMEDY,
    datastore_of,
    faults,
    is_common,
    learned,
    named_by,
    remedy_for,
    strangers,
)

CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
MARK, OTHER, FOREIGN = f"{CATALOG}.{'a' * 32}", f"{CATALOG}.{'b' * 32}", f"11111111.{'a' * 32}"
NFS = Datastore(100, "nfs", DatastoreType.SYSTEM, shared=True, hosts=("node1", "node2"), mark=MARK)
SAN = replace(NFS, id=101, name="san", hosts=("node3",), mark=OTHER)
ITEM = {"name": "nfs", "type": "system", "shared": True, "hosts": ["node1"]}


def test_a_host_has_the_datastore_that_names_it():
    assert [datastore_of((NFS, SAN), host) for host in ("node2", "node3", "node4")] == [NFS, SAN, None]
    assert is_common((NFS, SAN), "node1", "node2")
    assert not is_common((NFS, SAN), "node1", "node3")
    assert not is_common((NFS, SAN), "node4", "node4")


@pytest.mark.parametrize(
    ("mark", "found"),
    [
        ("", "has no mark of one, as where nothing is mounted"),
        (OTHER, "is shared datastore san"),
        (FOREIGN, "is one of catalog 11111111"),
        (f"{CATALOG}.{'c' * 32}", "is another directory than that of its other hosts"),
    ],
)
def test_a_host_that_does_not_show_it_is_named_with_what_it_shows(mark, found):
    text = f"does not show shared datastore nfs: its system datastore {found}"
    assert faults((NFS, SAN), CATALOG, {"node1": MARK, "node2": mark}) == {"node2": text}


def test_a_mark_that_was_replaced_is_not_taken_for_another_directory_than_that_of_others():
    """All hosts show the same, which a run has written where there was none."""
    new = f"{CATALOG}.{'c' * 32}"
    found = faults((NFS, SAN), CATALOG, {"node1": new, "node2": new})
    text = "has another mark than the one by which that is known, which no host shows"
    assert found == dict.fromkeys(
        ("node1", "node2"), f"does not show shared datastore nfs: its system datastore {text}"
    )


def test_it_is_said_how_a_lost_mark_is_made_anew():
    command = f"as root: echo {MARK} ><nebula_root>/datastores/0/.nebula-datastore"
    assert remedy_for((NFS, SAN), "node2").endswith(command)
    for datastores, host in (((replace(NFS, mark=""),), "node2"), ((NFS,), "node4")):
        assert remedy_for(datastores, host) == REMEDY.capitalize()


def test_of_hosts_that_do_not_answer_and_those_of_none_nothing_is_said():
    assert faults((NFS,), CATALOG, {"node1": MARK, "node4": ""}) == {}


def test_nobody_has_a_datastore_that_no_host_has_shown():
    assert set(faults((replace(NFS, mark=""),), CATALOG, {"node1": "", "node2": ""})) == {"node1", "node2"}


def test_a_host_that_shows_one_without_being_of_it():
    assert strangers((NFS, SAN), {"node1": MARK, "node4": MARK, "node5": "", "node2": OTHER}) == {"node4": "nfs"}


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ({"node1": MARK, "node2": f"{CATALOG}.{'c' * 32}"}, MARK),
        ({"node2": MARK}, MARK),
        ({"node4": MARK}, ""),
        ({"node1": FOREIGN}, ""),
        # It is another's: both have mounted the same directory.
        ({"node1": OTHER}, ""),
        ({}, ""),
    ],
)
def test_it_is_known_by_what_the_first_of_its_hosts_shows(shown, expected):
    new = replace(NFS, mark="")
    assert learned(new, (new, SAN), CATALOG, shown) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "nfs"),
        ({"type": "SYSTEM", "shared": "yes"}, "nfs"),
        ({"hosts": ["node2"]}, ""),
        ({"shared": False}, ""),
        ({"state": "absent", "hosts": None}, ""),
        ({"type": "image"}, ""),
        ({"type": "disk"}, ""),
        ({"hosts": 7}, ""),
    ],
)
def test_a_list_names_the_datastore_of_a_host(changes, expected):
    assert named_by(["nfs", None, {"name": "fast"}, {**ITEM, **changes}], "node1") == expected
