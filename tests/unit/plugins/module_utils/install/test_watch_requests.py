# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node watches is made of the installations and of the machines that are there, and is shown when it ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.install.watch_machines import Ending, Watched
from ansible_collections.nebula.provision.plugins.module_utils.install.watch_requests import ending_view, watched_of

WAIT = {
    "name": "debian", "machine": "install-debian", "size": 4000, "end": "pattern", "pattern": "done", "marker": True,
    "failures": ["E:"], "keys": True, "fresh": True, "timeout": 60,
}  # fmt: skip
VM = {
    "id": 0,
    "name": "install-debian",
    "console": "/var/lib/nebula/datastores/0/0/console.log",
    "directory": "/var/lib/nebula/datastores/0/0",
    "access": "virsh console one-0",
}
SEEN = Watched(
    name="debian",
    vm_id=0,
    machine="install-debian",
    console=VM["console"],  # type: ignore[arg-type]
    disk="/var/lib/nebula/datastores/0/0/disk.0",
    size=4000,
    end="pattern",
    pattern="done",
    failures=("E:",),
    marker=True,
    keys=True,
    fresh=True,
    timeout=60.0,
    access="virsh console one-0",
)


def test_an_installation_is_watched_at_its_machine() -> None:
    assert watched_of([WAIT], [VM]) == [SEEN]


def test_looking_once_takes_no_time() -> None:
    (watched,) = watched_of([WAIT], [VM], now=True)
    assert watched.timeout == 0.0 and watched.name == "debian"


def test_what_is_not_said_has_its_default() -> None:
    bare = {"name": "debian", "machine": "install-debian"}
    (watched,) = watched_of([bare], [{"id": 7, "name": "install-debian", "console": "/c"}])
    assert watched == Watched("debian", 7, "install-debian", "/c", "disk.0", 0, timeout=0.0)
    assert (watched.end, watched.failures, watched.marker, watched.fresh) == ("poweroff", (), False, False)


@pytest.mark.parametrize(
    "vms",
    [
        [],
        [{**VM, "name": "install-other"}],
        # As check mode predicts it.
        [{**VM, "console": ""}],
        [{**VM, "console": None}],
    ],
)
def test_a_machine_that_is_not_here_is_not_watched(vms: list[dict[str, Any]]) -> None:
    assert watched_of([WAIT], vms) == []


def test_each_is_watched_at_its_own_machine_in_the_order_of_the_list() -> None:
    waits = [{**WAIT, "name": name, "machine": f"install-{name}"} for name in ("b", "a", "c")]
    vms = [{**VM, "id": number, "name": f"install-{name}"} for number, name in enumerate("ab")]
    assert [(each.name, each.vm_id) for each in watched_of(waits, vms)] == [("b", 1), ("a", 0)]


@pytest.mark.parametrize(
    ("wait", "vm"),
    [({"name": None}, {}), ({"name": 5}, {}), ({"end": "never"}, {}), ({}, {"id": "0"}), ({}, {"id": None})],
)
def test_what_is_no_installation_is_refused_by_its_number(wait: dict[str, Any], vm: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue) as caught:
        watched_of([WAIT, {**WAIT, "machine": "b", **wait}], [VM, {**VM, "name": "b", **vm}])
    assert str(caught.value) == (
        "option installs, item 1: it is no installation. Give the list `waits` of nebula_install, and the machines of "
        "role vm"
    )


def test_an_ending_is_shown_as_plain_data() -> None:
    ending = Ending(SEEN, True, "its guest ended the machine", 61.26, 40, ("one", "two"))
    view = ending_view(ending)
    assert (
        json.loads(json.dumps(view))
        == view
        == {
            "name": "debian",
            "vm_id": 0,
            "installed": True,
            "how": "its guest ended the machine",
            "seconds": 61.3,
            "percent": 40,
            "last_lines": ["one", "two"],
        }
    )
