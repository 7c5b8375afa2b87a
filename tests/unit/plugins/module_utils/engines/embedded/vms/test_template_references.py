# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What templates name has to be there, and fit."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmRequest
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NotFound, WrongState
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState, ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.conftest import decide
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.vms.conftest import (
    PLAIN,
    record,
)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (PLAIN.with_vector("DISK", {"IMAGE": "nosuch"}), "VM a, DISK 0: image 'nosuch'"),
        (PLAIN.with_vector("NIC", {"NETWORK": "nosuch"}), "VM a, NIC 0: network 'nosuch'"),
        (PLAIN.with_vector("CONTEXT", {"FILES_DS": '$FILE[IMAGE="nosuch"]'}), "image 'nosuch'"),
    ],
)
def test_what_a_template_names_has_to_be_there(inside, template, says):
    with pytest.raises(NotFound, match=says), inside.attempt():
        inside.vms.instantiate([VmRequest("a", template)])


@pytest.mark.parametrize(
    ("kind", "state", "says"),
    [
        (ImageType.OS, ImageState.READY, r"\$FILE of image f: it is of type OS. Name an image of type CONTEXT"),
        (ImageType.CONTEXT, ImageState.ERROR, r"\$FILE of image f: it is in state ERROR \(no room\)"),
    ],
)
def test_a_file_of_a_context_is_an_image_for_that_which_is_ready(inside, kind, state, says):
    made = inside.images.allocate(Image(None, "f", type=kind))
    inside.images.update(made.id, state=state, error="no room")
    template = PLAIN.with_vector("CONTEXT", {"FILES_DS": '$FILE[IMAGE="f"]'})
    with pytest.raises((InvalidValue, WrongState), match=says), inside.attempt():
        inside.vms.instantiate([VmRequest("a", template)])


# -- a host that has a use for the image, whether the template names the hypervisor or not


def refused(engine, item) -> list[str]:
    outcomes, _warnings = reconcile(engine, [item])
    return [str(outcome.error) for outcome in outcomes if outcome.error is not None]


def with_root(engine) -> None:
    image = engine.images.allocate(Image(None, "root"))
    engine.images.update(image.id, state=ImageState.READY, size=16, format="tar")


def test_by_its_image(inside):
    with_root(inside)
    inside.hosts.allocate(Host(None, "lxc1", "lxc", state=HostState.MONITORED, memory=64, cpu=1.0))
    # It is the smaller host, and the only one for a root file system.
    plans = decide(inside, {"name": "box", "template": "web", "disks": [{"IMAGE": "root"}], "memory": 32, "cpu": 0.1})
    assert [planned.vm.hypervisor for planned in plans["lxc1"].vms] == ["lxc"]
    assert record(inside).host == "lxc1"
    # And a machine with a disk does not come there, whatever room it has.
    inside.hosts.update("lxc1", memory=1 << 20, cpu=512.0)
    plans = decide(inside, {"name": "web", "template": "web"})
    assert [planned.vm.name for planned in plans["node1"].vms] == ["web"]


def test_without_such_a_host_it_is_refused_by_name_and_nothing_is_made(inside):
    with_root(inside)
    item = {"name": "box", "template": "web", "disks": [{"IMAGE": "root"}]}
    (message,) = refused(inside, item)
    assert "image root: it is the root file system of a container" in message
    inside.hosts.allocate(Host(None, "lxc1", "lxc", state=HostState.MONITORED, memory=4096, cpu=8.0))
    (message,) = refused(inside, {"name": "web", "template": "web", "host": "lxc1"})
    assert "image demo: it is a disk" in message
    (message,) = refused(inside, {**item, "host": "node1"})
    assert "image root: it is the root file system of a container" in message
    assert inside.vms.pool() == []
