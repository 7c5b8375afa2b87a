# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan has all that a node needs of what was decided about its machines, and nothing that is done or of others."""

from __future__ import annotations

import base64
import zlib

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.vms.plans import files_of
from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmOrders
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context, ContextFile
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.image_operations import Return
from ansible_collections.nebula.provision.plugins.module_utils.model.injected_files import Injected
from ansible_collections.nebula.provision.plugins.module_utils.model.network import Network
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, ObservedVm
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState, ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.model.transfer import (
    BASE,
    ENDED,
    OWN,
    SAVED,
    SHARED,
    SSH,
    name_of,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.conftest import decide, obey

WEB = {"name": "web", "template": "web"}


# -- files -------------------------------------------------------------------------------------------------------------


def file(name):
    return ContextFile(f"/srv/{name}", name)


def test_files_for_disks_are_read_where_disks_are_to_be_made():
    inject = (Injected("/a", file=file("a")), Injected("/b", content="text"))
    disks = (Disk(0, "vda", inject=inject), Disk(1, "vdb", inject=(Injected("/c", file=file("c")),)))
    vm = Vm(0, "u", "web", "kvm", 1.0, 64, disks=disks, context=Context(2, "hda", files=(file("init.sh"),)))
    assert files_of(vm, disks=True) == [file("init.sh"), file("a"), file("c")]
    assert files_of(vm, disks=False) == [file("init.sh")]
    assert files_of(Vm(0, "u", "web", "kvm", 1.0, 64, disks=disks), disks=True) == [file("a"), file("c")]


def test_a_context_is_made_anew_with_its_files_and_not_for_a_machine_that_sleeps_or_ends(inside, tmp_path):
    script = tmp_path / "init.sh"
    script.write_bytes(b"#!/bin/sh\n")
    item = dict(WEB, context={"FILES": str(script)})
    plans = decide(inside, item)
    (entry,) = plans["node1"].sources[str(script)].entries
    assert zlib.decompress(base64.b64decode(plans["node1"].contents[entry.sha256])) == b"#!/bin/sh\n"
    # What the node has is not sent again.
    node = Observed("node1", contents=(entry.sha256,))
    plans = decide(inside, observed=[node])
    assert list(plans["node1"].sources) == [str(script)]
    assert plans["node1"].contents == {}
    obey(inside, plans)
    for state in ("suspended", "absent"):
        assert decide(inside, dict(item, state=state))["node1"].sources == {}


# -- what is planned ---------------------------------------------------------------------------------------------------


def test_a_catalog_in_which_all_is_done_has_no_plans_and_takes_no_number(inside):
    assert decide(inside) == {}
    obey(inside, decide(inside, WEB))
    assert decide(inside, WEB) == {}
    assert inside.store.meta("plan") == "1"


def test_the_plans_of_one_decision_have_one_number_and_each_decision_a_higher_one(inside):
    inside.hosts.allocate(Host(None, "node2", state=HostState.MONITORED, memory=4096, cpu=16.0))
    plans = decide(inside, dict(WEB, name="a", host="node1"), dict(WEB, name="b", host="node2"))
    assert {host: [each.vm.name for each in plan.vms] for host, plan in plans.items()} == {
        "node1": ["a"],
        "node2": ["b"],
    }
    assert {plan.number for plan in plans.values()} == {1}
    assert {plan.catalog for plan in plans.values()} == {inside.catalog()}
    assert [(host, plan.number) for host, plan in decide(inside, hosts=["node2"]).items()] == [("node2", 2)]
    obey(inside, {"node1": plans["node1"]})
    assert list(decide(inside)) == ["node2"]


def test_a_plan_tells_what_machines_may_take(inside):
    inside.hosts.update("node1", memory_overcommit=1.5, reserved_memory=96)
    plan = decide(inside, WEB, observed=[Observed("node1", foreign_memory=70)])["node1"]
    assert (plan.memory, plan.foreign_memory) == (4096 * 1.5 - 96, 70)
    assert decide(inside)["node1"].foreign_memory == 70


def test_a_plan_tells_whose_the_bridges_are_of_machines_that_are_to_run(inside):
    inside.networks.allocate(Network(None, "Office", vn_mad="dummy", bridge="br0", attributes={}))
    inside.networks.allocate(Network(None, "Unused", bridge="nbr9"))
    (public,) = [network for network in inside.networks.pool() if network.name == "Public"]
    plans = decide(inside, dict(WEB, nics=[{"NETWORK": "Public"}]))
    assert plans["node1"].bridges == {"nbr0": public.uuid}
    obey(inside, plans)
    assert decide(inside, dict(WEB, state="absent"))["node1"].bridges == {}


def test_a_machine_is_placed_where_the_bridges_of_its_networks_are(inside):
    inside.hosts.allocate(Host(None, "node2", state=HostState.MONITORED, memory=1024, cpu=16.0))
    (public,) = inside.networks.pool()
    observed = [Observed("node1", networks=()), Observed("node2", networks=(public.uuid,))]
    assert list(decide(inside, dict(WEB, nics=[{"NETWORK": "Public"}]), observed=observed)) == ["node2"]
    outcomes, _warnings = reconcile(inside, [dict(WEB, name="b", nics=[{"NETWORK": "Public"}], host="node1")])
    assert "node1 has no bridge of network Public" in str(outcomes[0].error)


def test_the_orders_of_a_machine_travel(inside):
    obey(inside, decide(inside, WEB))
    generation = inside.vms.pool()[0].generation
    inside.vms.action(0, "POWEROFF", VmOrders(hard=True, shutdown_timeout=7))
    (planned,) = inside.vms.plans()["node1"].vms
    assert (planned.wanted, planned.hard, planned.shutdown_timeout) == ("POWEROFF", True, 7)
    assert (planned.previous, planned.generation, planned.operation) == ("RUNNING", generation + 1, "")
    inside.vms.action(0, "RUNNING", VmOrders(operation="reboot"))
    (planned,) = inside.vms.plans()["node1"].vms
    assert (planned.wanted, planned.hard, planned.operation) == ("RUNNING", False, "reboot")


# -- images on nodes that do not see the datastores --------------------------------------------------------------------


@pytest.fixture
def away(inside):
    inside.hosts.update("node1", transfer=SSH)
    return inside


def kinds(plan):
    return {image.image: image.kind for image in plan.images}


def test_a_node_that_sees_the_datastores_is_sent_no_images(inside):
    plan = decide(inside, WEB)["node1"]
    assert (plan.transfer, plan.images, plan.current, plan.taken) == (SHARED, (), (), ())


def test_a_node_that_does_not_is_told_what_its_machines_rest_on(away):
    other = away.images.allocate(Image(None, "other", type=ImageType.OS))
    plan = decide(away, WEB, dict(WEB, name="more"))["node1"]
    demo = away.images.info("demo")
    (image,) = plan.images
    assert plan.transfer == SSH
    assert (image.kind, image.name, image.image) == (BASE, name_of(demo.uuid, demo.generation), "demo")
    assert (image.path, image.sha256) == (demo.source, demo.sha256)
    # Others of the catalog are worth keeping where they are.
    assert set(plan.current) == {name_of(each.uuid, each.generation) for each in (demo, other)}


def test_what_a_machine_writes_to_is_its_own_until_it_ends(away):
    away.images.update("demo", persistent=True)
    plans = decide(away, WEB)
    assert kinds(plans["node1"]) == {"demo": OWN}
    obey(away, plans)
    plans = decide(away, dict(WEB, state="absent"))
    assert kinds(plans["node1"]) == {"demo": ENDED}
    assert plans["node1"].images[0].local.startswith("own-")


def test_a_machine_that_ends_rests_on_nothing_any_more(away):
    obey(away, decide(away, WEB))
    assert decide(away, dict(WEB, state="absent"))["node1"].images == ()


def test_what_is_on_its_way_back_is_ended_with_any_plan(away):
    """And only from the host where it is."""
    for name, host in (("back", "node1"), ("maybe", "node1"), ("elsewhere", "node2")):
        image = away.images.allocate(Image(None, name))
        away.images.update(image.id, operation=Return(host, ran=name != "maybe"))
    assert kinds(decide(away, WEB)["node1"]) == {"demo": BASE, "back": ENDED, "maybe": ENDED}


def test_what_a_disk_is_saved_as_is_made_there(away):
    obey(away, decide(away, WEB))
    plan = decide(away, dict(WEB, save_as=[{"image": "saved"}]))["node1"]
    assert kinds(plan) == {"demo": BASE, "saved": SAVED}


def test_what_is_back_need_not_be_kept(away):
    """What it was before the image went on to another content, of images that the catalog knows."""
    away.images.update("demo", generation=2)
    demo, unknown = away.images.info("demo").uuid, "01234567-89ab-4cde-8f01-23456789abcd"
    there = tuple(f"own-{name_of(uuid, number)}" for uuid in (demo, unknown) for number in (1, 2, 3))
    node = Observed("node1", images=(*there, name_of(demo, 0)), returns={f"own-{name_of(demo, 0)}": 5})
    plan = decide(away, WEB, observed=[node])["node1"]
    assert plan.taken == tuple(f"own-{name_of(demo, number)}" for number in (0, 1))


def test_a_machine_that_runs_is_not_sent_files_for_its_disk(inside, tmp_path):
    token = tmp_path / "token"
    token.write_bytes(b"t")
    item = dict(WEB, inject=[{"path": "/t", "src": str(token)}])
    plans = decide(inside, item)
    assert list(plans["node1"].sources) == [str(token)]
    obey(inside, plans)
    assert decide(inside, dict(item, state="poweroff"))["node1"].sources == {}
    # Made anew, it gets them again.
    obey(inside, decide(inside, dict(item, state="poweroff")))
    assert list(decide(inside, dict(item, memory=256, recreate=True))["node1"].sources) == [str(token)]


def test_files_that_are_images_are_named_after_them(inside, tmp_path):
    """Only those of type CONTEXT are what machines may read."""
    script = tmp_path / "s.sh"
    script.write_bytes(b"x")
    image = inside.images.allocate(Image(None, "script", type=ImageType.CONTEXT, source=str(script)))
    inside.images.update(image.id, state=ImageState.READY)
    plan = decide(inside, dict(WEB, context={"FILES_DS": '$FILE[IMAGE="script"]'}))["node1"]
    (found,) = plan.vms[0].vm.context.files
    assert (found.image, found.source) == ("script", str(script))
    assert plan.sources[found.key].error is None


def test_a_poll_of_the_machines_does_not_undo_what_is_planned(inside):
    plans = decide(inside, WEB)
    vm = plans["node1"].vms[0].vm
    again = decide(inside, observed=[Observed("node1", vms=(ObservedVm(vm.vm_id, vm.uuid, "POWEROFF"),))])
    assert again["node1"].vms == plans["node1"].vms
