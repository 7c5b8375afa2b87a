# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processors, memory and huge pages of hosts are given to one machine only, for as long as it has them."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmOrders, VmRequest
from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, InUse, InvalidValue, Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.model.host import (
    Host,
    HostHardware,
    HostNode,
    PciDevice,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.host_placement import HostPlace
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.numa_placement import NumaPlace
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, ObservedVm, VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Numa, NumaNode
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.conftest import obey, row
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.vms.conftest import (
    ERROR,
    record,
    say,
)

NODE = HostNode(0, 8192, ((0, 4), (1, 5), (2, 6), (3, 7)), {"2": 256}, (10,))


def template(said: str, vcpu: int = 2, memory: int = 128) -> Template:
    topology = f"TOPOLOGY = [ {said} ]" if said else ""
    return parse(f'CPU = 0.5 VCPU = {vcpu} MEMORY = {memory} DISK = [ IMAGE = "demo" ] {topology}')


CORE, THREAD, PAGES = 'PIN_POLICY = "CORE"', 'PIN_POLICY = "THREAD"', "HUGEPAGE_SIZE = 2"


@pytest.fixture
def host(inside):
    """An engine whose one host has four cores of two threads."""
    inside.hosts.update("node1", hardware=HostHardware((NODE,)), memory=8192, cpu=16.0)
    return inside


def make(engine, *templates, **values):
    first = engine.store.rows("SELECT count(*) AS count FROM vms")[0]["count"]
    return engine.vms.instantiate([VmRequest(f"m{n}", each, **values) for n, each in enumerate(templates, first)])


def cpus(engine, vm_id):
    return [node["cpus"] for node in json.loads(row(engine, vm_id)["body"])["numa"]["nodes"]]


def held(engine, vm_id=0):
    found = json.loads(row(engine, vm_id)["held"])
    return found["numa"]["nodes"][0]["cpus"] if found.get("numa") else found and []


def run(engine):
    obey(engine, engine.vms.plans())


def test_machines_of_one_list_share_nothing(host):
    make(host, template(CORE), template(THREAD), template(CORE, 1))
    assert [cpus(host, number) for number in range(3)] == [[[0, 1]], [[2, 6]], [[3]]]
    # Each of its processors is promised as a whole, whatever CPU says.
    assert [record(host, number).cpu for number in range(3)] == [2.0, 2.0, 1.0]
    assert host.hosts.info("node1").cpu_used == 5.0
    topology = json.loads(row(host, 1)["body"])["topology"]
    assert topology == {"sockets": 1, "cores": 1, "threads": 2}
    with pytest.raises(InUse) as caught:
        host.vms.instantiate([VmRequest("more", template(CORE, 1))])
    said = str(caught.value)
    assert "node1: of whole cores that no other machine has, it has 0 on node 0" in said
    assert "what these had is free once they are gone" in said


def test_another_host_takes_what_the_first_has_not(host):
    small = HostHardware((HostNode(0, 4096, ((0,),)),))
    host.hosts.allocate(Host(None, "node2", state=HostState.MONITORED, memory=4096, cpu=16.0, hardware=small))
    made = make(host, template(CORE, 4), template(CORE, 1))
    assert [each.host for each in made] == ["node1", "node2"]
    # A host that tells nothing of its processors takes none of them.
    host.hosts.update("node2", hardware=HostHardware())
    with pytest.raises(InUse, match="node2: it gives no machine processors or memory of one place"):
        host.vms.instantiate([VmRequest("more", template(CORE, 1))])


def test_huge_pages_are_no_memory_that_a_host_has_beside(host):
    make(host, template(PAGES, memory=512))
    found = host.hosts.info("node1")
    assert (found.memory_used, record(host, 0).memory) == (0, 512)
    with pytest.raises(InUse, match="of huge pages of 2 MB, of which 64 are asked for, it has left: 0 on node 0"):
        host.vms.instantiate([VmRequest("more", template(PAGES))])


def test_what_a_machine_had_is_free_once_it_is_gone(host):
    make(host, template(CORE, 4))
    run(host)
    host.vms.action(0, "DONE", VmOrders())
    # Its host has not ended it yet.
    with pytest.raises(InUse), host.attempt():
        host.vms.instantiate([VmRequest("more", template(CORE, 1))])
    run(host)
    made = host.vms.instantiate([VmRequest("more", template(CORE, 1))])
    assert cpus(host, made[0].id) == [[0]]


def test_a_running_machine_holds_what_it_has_until_its_next_start(host):
    make(host, template(CORE, 2), template(CORE, 1))
    run(host)
    host.vms.update(0, template(THREAD, 2))
    assert cpus(host, 0) == [[0, 4]]
    assert held(host) == [0, 1]
    assert [each["part"] for each in record(host).waits] == ["TOPOLOGY"]
    # Core 1 is not given away before.
    run(host)
    (made,) = host.vms.instantiate([VmRequest("next", template(CORE, 1))])
    assert cpus(host, made.id) == [[3]]
    with pytest.raises(InUse), host.attempt():
        host.vms.instantiate([VmRequest("more", template(CORE, 1))])
    # Another change: it still runs with the first.
    host.vms.update(0, template(THREAD, 1))
    assert held(host) == [0, 1]
    run(host)
    host.vms.action(0, "POWEROFF", VmOrders())
    run(host)
    (last,) = host.vms.instantiate([VmRequest("last", template(CORE, 1))])
    assert cpus(host, last.id) == [[1]]


def test_a_machine_that_stays_as_it_is_keeps_what_it_has(host):
    make(host, template(CORE, 1), template(CORE, 1))
    run(host)
    host.vms.action(0, "DONE", VmOrders())
    run(host)
    host.vms.update(1, record(host, 1).request.merged(Template.from_mapping({"DESCRIPTION": "of the web"})))
    assert cpus(host, 1) == [[1]] and host.vms.plans() == {}
    host.vms.update(1, template(CORE, 1, memory=256))
    assert cpus(host, 1) == [[0]] and held(host, 1) == [1]
    # It runs with what its list says again: so it keeps that.
    host.vms.update(1, template(CORE, 1))
    assert cpus(host, 1) == [[1]] and held(host, 1) == {} and record(host, 1).waits == []
    made = make(host, template(CORE, 3))
    assert cpus(host, made[0].id) == [[0, 2, 3]]


def test_what_can_not_be_had_changes_nothing(host):
    make(host, template(CORE, 2), template(CORE, 2))
    run(host)
    before = dict(row(host))
    with pytest.raises(InUse) as caught, host.attempt():
        host.vms.update(0, template(CORE, 3))
    assert str(caught.value).startswith("VM m0: TOPOLOGY on host node1: of whole cores that no other machine has")
    with pytest.raises(InvalidValue, match="VCPU is 2"), host.attempt():
        host.vms.update(0, template(f"{CORE}, CORES = 5"))
    assert dict(row(host)) == before


def test_a_machine_that_is_made_anew_gets_what_it_asks_for(host):
    make(host, template(CORE, 2))
    run(host)
    host.vms.recreate(0, template("", 2))
    assert json.loads(row(host)["body"])["numa"] is None
    host.vms.recreate(0, template(CORE, 4))
    assert cpus(host, 0) == [[0, 1, 2, 3]]
    assert host.hosts.info("node1").cpu_used == 4.0


def test_processors_that_a_host_keeps_for_itself(host):
    host.hosts.update("node1", attributes={"ISOLCPUS": "0, 4,1"})
    make(host, template(CORE, 3))
    assert cpus(host, 0) == [[5, 2, 3]]


def test_a_machine_that_was_made_before_it_acted_is_told_so(host):
    make(host, template(CORE, 2))
    run(host)
    body = json.loads(row(host)["body"])
    body = {**body, "numa": None, "hardware_version": 1}
    host.store.db.execute("UPDATE vms SET body = ?", (json.dumps(body),))
    host.vms.update(0, record(host).request.merged(Template.from_mapping({"DESCRIPTION": "of the web"})))
    assert json.loads(row(host)["body"])["numa"] is None
    host.vms.update(0, template(THREAD, 2))
    assert cpus(host, 0) == [[0, 4]]
    assert [each["part"] for each in record(host).waits] == ["TOPOLOGY"]


GPU = PciDevice("0000:01:00.0", "10de", "1eb8", "0302", "vfio-pci")
CARDS = (
    GPU,
    PciDevice("0000:02:00.0", "10de", "1eb8", "0302"),
    PciDevice("0000:03:00.0", "8086", "1572", "0200", "ice"),
)


def card(text, vcpu=1):
    return parse(f'VCPU = {vcpu} MEMORY = 128 DISK = [ IMAGE = "demo" ] {text}')


def addresses(engine, vm_id):
    return [device["address"] for device in json.loads(row(engine, vm_id)["body"])["host_devices"]]


@pytest.fixture
def cards(inside):
    """An engine whose one host has devices for machines."""
    inside.hosts.update("node1", hardware=HostHardware(iommu=True, devices=CARDS), memory=8192, cpu=16.0)
    return inside


def test_a_device_is_one_machines(cards):
    any_gpu = card('PCI = [ VENDOR = "10de", CLASS = "0302" ]')
    make(cards, card('PCI = [ CLASS = "0302" ] PCI = [ SHORT_ADDRESS = "01:00.0" ]'))
    assert addresses(cards, 0) == ["0000:02:00.0", "0000:01:00.0"]
    with pytest.raises(InUse, match="each of its devices with vendor 10de, class 0302, or of their groups, is another"):
        cards.vms.instantiate([VmRequest("more", any_gpu)])
    run(cards)
    cards.vms.update(0, card('PCI = [ SHORT_ADDRESS = "02:00.0" ]'))
    assert addresses(cards, 0) == ["0000:02:00.0"]
    assert [each["part"] for each in record(cards).waits] == ["PCI"]
    with pytest.raises(InUse), cards.attempt():
        cards.vms.instantiate([VmRequest("more", any_gpu)])
    run(cards)
    cards.vms.action(0, "POWEROFF", VmOrders())
    run(cards)
    (made,) = cards.vms.instantiate([VmRequest("more", any_gpu)])
    assert addresses(cards, made.id) == ["0000:01:00.0"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('PCI = [ CLASS = "0200" ]', "itself: 0000:03:00.0 (driver ice). Set these aside"),
        ('PCI = [ SHORT_ADDRESS = "0000:03:00.0" ]', "driverctl set-override 0000:03:00.0 vfio-pci"),
        ('PCI = [ DEVICE = "ffff" ]', "it has no device with device ffff behind its IOMMU"),
        ('MEMORY_ENCRYPTION = [ TYPE = "SEV" ]', "it encrypts no memory by SEV (known there: none)"),
    ],
)
def test_what_a_host_does_not_have(cards, text, said):
    with pytest.raises(InUse) as caught:
        make(cards, card(text))
    assert said in str(caught.value)


def test_without_an_iommu_no_machine_gets_a_device(inside):
    with pytest.raises(InUse) as caught:
        make(inside, card('PCI = [ CLASS = "0302" ]'))
    assert "node1: it has no IOMMU that would keep a machine's device from the memory of others" in str(caught.value)


def test_encryption_where_the_host_has_it(inside):
    inside.hosts.update("node1", hardware=HostHardware(encryption=("SEV",)))
    make(inside, card('MEMORY_ENCRYPTION = [ TYPE = "sev" ] MEMORY_TUNE_OFFSET = 512'))
    assert json.loads(row(inside)["body"])["encryption"] == {"type": "SEV", "offset": 512}
    assert inside.hosts.info("node1").cpu_used == 1.0


@pytest.mark.parametrize("text", ['PCI = [ CLASS = "0302" ]', 'MEMORY_ENCRYPTION = [ TYPE = "SEV" ]'])
def test_memory_that_can_not_be_saved_is_not(inside, text):
    inside.hosts.update("node1", hardware=HostHardware(iommu=True, devices=CARDS, encryption=("SEV",)))
    make(inside, card(text))
    run(inside)
    with pytest.raises(Unsupported, match="Power it off instead"), inside.attempt():
        inside.vms.action(0, "SUSPENDED", VmOrders())
    assert record(inside).wanted == "RUNNING"


def test_ordinary_memory_is_held_until_the_next_start(host):
    make(host, template("", memory=512))
    run(host)
    host.vms.update(0, template(PAGES, memory=512))
    (planned,) = host.vms.plans()["node1"].vms
    assert (host.hosts.info("node1").memory_used, planned.gives_memory) == (512, 0)
    run(host)
    host.vms.action(0, "POWEROFF", VmOrders())
    run(host)
    assert host.hosts.info("node1").memory_used == 0
    host.vms.action(0, "RUNNING", VmOrders())
    run(host)
    # A machine on huge pages holds no ordinary memory besides.
    host.vms.update(0, template(PAGES, memory=256))
    assert (host.hosts.info("node1").memory_used, row(host)["kept_memory"]) == (0, 0)


def test_one_that_comes_gets_what_one_that_goes_had_by_the_next_run(host):
    make(host, template(CORE, 4))
    run(host)
    host.templates.allocate("pinned", template(CORE, 4))
    items = [{"name": "m0", "state": "absent"}, {"name": "b", "template": "pinned"}]
    outcomes, _warnings = reconcile(host, items, None)
    assert [outcome.error is None for outcome in outcomes] == [True, False]
    assert isinstance(outcomes[1].error, InUse)
    obey(host, host.vms.plans())
    outcomes, _warnings = reconcile(host, items, None)
    assert [outcome.error for outcome in outcomes if outcome.error] == [] and outcomes[-1].name == "b"


def test_one_that_is_made_anew_holds_what_the_old_one_runs_with(cards):
    make(cards, card('PCI = [ SHORT_ADDRESS = "01:00.0" ]'))
    run(cards)
    cards.vms.recreate(0, card(""))
    with pytest.raises(InUse), cards.attempt():
        make(cards, card('PCI = [ SHORT_ADDRESS = "01:00.0" ]'))
    plans = cards.vms.plans()
    cards.vms.record("node1", [VmOutcome(0, plans["node1"].vms[0].generation, "RUNNING", True, waits=False)])
    make(cards, card('PCI = [ SHORT_ADDRESS = "01:00.0" ]'))


def test_a_machine_of_which_nothing_is_known_holds_what_it_had(cards):
    make(cards, card('PCI = [ SHORT_ADDRESS = "01:00.0" ]'))
    run(cards)
    cards.store.db.execute("UPDATE vms SET state = 3, lcm_state = 16")
    assert record(cards).state == "UNKNOWN"
    cards.vms.update(0, card(""))
    with pytest.raises(InUse), cards.attempt():
        make(cards, card('PCI = [ SHORT_ADDRESS = "01:00.0" ]'))


def test_machines_of_a_host_that_was_given_up_hold_what_they_had(host):
    make(host, template(CORE, 2))
    run(host)
    host.hosts.forget("node1")
    host.hosts.allocate(
        Host(None, "node1", state=HostState.MONITORED, memory=8192, cpu=16.0, hardware=HostHardware((NODE,)))
    )
    (made,) = make(host, template(CORE, 2))
    assert cpus(host, made.id) == [[2, 3]]


def test_another_hypervisor_takes_a_machine_for_which_it_does_nothing(host):
    host.hosts.update("node1", state=HostState.DISABLED)
    host.hosts.allocate(Host(None, "node2", "xen", state=HostState.MONITORED, memory=4096, cpu=16.0))
    (made,) = make(host, template(CORE, 2))
    assert (made.host, made.cpu) == ("node2", 0.5)
    assert json.loads(row(host, made.id)["body"])["numa"] is None


def test_one_that_runs_with_nothing_of_it_holds_nothing(host):
    make(host, template("", 2))
    run(host)
    host.vms.update(0, template(CORE, 2))
    host.vms.update(0, template(CORE, 3))
    assert cpus(host, 0) == [[0, 1, 2]] and held(host) == []
    (made,) = make(host, template(CORE, 1))
    assert cpus(host, made.id) == [[3]]


def test_devices_of_one_group_have_one_owner(inside):
    group = [
        PciDevice("0000:01:00.0", "10de", "1eb8", "0302", "", "5"),
        PciDevice("0000:01:00.1", "10de", "10f8", "0403", "", "5"),
        PciDevice("0000:02:00.0", "10de", "1eb8", "0302", "", "6"),
        PciDevice("0000:02:00.1", "10de", "10f8", "0403", "snd_hda_intel", "6"),
    ]
    inside.hosts.update("node1", hardware=HostHardware(iommu=True, devices=tuple(group)), memory=8192, cpu=16.0)
    make(inside, card('PCI = [ CLASS = "0302" ]'))
    assert addresses(inside, 0) == ["0000:01:00.0"]
    for text, said in (
        ('PCI = [ SHORT_ADDRESS = "01:00.1" ]', "or of their groups, is another machine's"),
        ('PCI = [ SHORT_ADDRESS = "02:00.0" ]', "itself: 0000:02:00.1 (driver snd_hda_intel). Set these aside"),
    ):
        with pytest.raises(InUse) as caught, inside.attempt():
            make(inside, card(text))
        assert said in str(caught.value)
    # Both of a group are one machine's.
    inside.vms.recreate(0, card('PCI = [ CLASS = "0302" ] PCI = [ CLASS = "0403" ]'))
    assert addresses(inside, 0) == ["0000:01:00.0", "0000:01:00.1"]


def test_what_two_machines_have_is_not_taken_over(host):
    make(host, template(CORE, 2))
    taken = json.loads(row(host)["body"])["numa"]["nodes"][0]["cpus"]
    numa = Numa("core", (NumaNode(2, 128, "", tuple(taken), 0),))
    with pytest.raises(Conflict, match="it has processors 0, 1, and so has machine 0"):
        host.vms.host_places.refuse_overlap(
            host.hosts.info("node1"), HostPlace(NumaPlace(numa, 1)), 7, "VM b: adopting machine 7"
        )


def poll(engine, vm_id=0, state="RUNNING", waits=False):
    """What a node says of one machine."""
    found = row(engine, vm_id)
    seen = ObservedVm(vm_id, found["uuid"], state, found["generation"], 1.0, 128, waits=waits)
    engine.vms.observe([Observed("node1", catalog=engine.catalog(), vms=(seen,), memory=8192, cpu=16.0)])


def test_what_a_machine_holds_is_not_given_away_where_its_node_could_not_change_it(host):
    make(host, template(CORE, 2))
    run(host)
    host.vms.update(0, template(THREAD, 2))
    say(host, "RUNNING", ERROR)
    poll(host)
    assert held(host) == [0, 1] and record(host).waits != []
    # It was ended by hand.
    poll(host, state="POWEROFF")
    assert held(host) == {} and record(host).waits == []


def test_one_that_could_not_be_made_anew_holds_what_it_had(host):
    make(host, template(CORE, 2))
    run(host)
    host.vms.recreate(0, template(THREAD, 2))
    say(host, "RUNNING", ERROR)
    poll(host)
    assert held(host) == [0, 1]


@pytest.mark.parametrize("state", ["SUSPENDED", "UNKNOWN"])
def test_other_changes_of_a_machine_that_holds_something_let_nothing_go(host, state):
    make(host, template(CORE, 2))
    run(host)
    host.vms.update(0, template(THREAD, 2))
    run(host)
    if state == "UNKNOWN":
        host.store.db.execute("UPDATE vms SET state = 3, lcm_state = 16")
    else:
        host.vms.action(0, "SUSPENDED", VmOrders())
        run(host)
    assert record(host).state == state
    host.vms.update(0, record(host).request.merged(Template.from_mapping({"DESCRIPTION": "of the web"})))
    assert held(host) == [0, 1] and [each["part"] for each in record(host).waits] == ["TOPOLOGY"]
    host.vms.action(0, "RUNNING", VmOrders())
    assert host.vms.plans()["node1"].vms[0].waits


def test_a_guest_that_keeps_a_device_gets_no_cores_of_others(host):
    disks = 'DISK = [ IMAGE = "demo" ] NIC = [ NETWORK = "Public" ]'

    def with_nic(said, vcpu):
        return parse(f"CPU = 1 VCPU = {vcpu} MEMORY = 128 {disks} TOPOLOGY = [ {said} ]")

    make(host, with_nic(CORE, 1))
    run(host)
    host.vms.update(0, with_nic(CORE, 2))
    run(host)
    assert cpus(host, 0) == [[0, 1]] and held(host) == [0]
    host.vms.update(0, template(THREAD, 1), agreed=True)
    say(host, "RUNNING", ERROR, stays=("NIC 0",))
    make(host, template(CORE, 2))
    taken = [*cpus(host, 0)[0], *held(host)]
    assert not set(taken) & set(cpus(host, 1)[0])


@pytest.mark.parametrize("ended", [False, True])
def test_what_a_machine_held_when_its_host_was_given_up(host, ended):
    make(host, template(CORE, 2))
    run(host)
    host.vms.update(0, template(CORE, 1))
    run(host)
    assert cpus(host, 0) == [[0]] and held(host) == [0, 1]
    host.hosts.forget("node1")
    again = HostHardware((NODE,))
    host.hosts.allocate(Host(None, "node1", state=HostState.MONITORED, memory=8192, cpu=16.0, hardware=again))
    if ended:
        host.vms.given_ups.ended(0)
        host.store.drop()
    (made,) = make(host, template(CORE, 2))
    assert cpus(host, made.id) == ([[0, 1]] if ended else [[2, 3]])


def test_what_counts_on_one_hypervisor_does_not_on_another(host):
    host.hosts.allocate(Host(None, "node2", "xen", state=HostState.MONITORED, memory=4096, cpu=16.0))
    host.hosts.update("node1", cpu=1.0)
    # Pinned, it takes four processors, of which the host of KVM has one.
    (made,) = make(host, template(CORE, 4))
    assert (made.host, host.hosts.info("node1").cpu_used, host.hosts.info("node2").cpu_used) == ("node2", 0.0, 0.5)
    host.hosts.update("node1", cpu=16.0, memory=700)
    host.hosts.update("node2", memory=10)
    (paged,) = make(host, template(PAGES, memory=500))
    assert (paged.host, host.hosts.info("node1").memory_used) == ("node1", 0)


def test_directories_of_two_guests_are_not_in_each_other(host):
    def shared(path):
        return parse(f'MEMORY = 64 DISK = [ IMAGE = "demo" ] DISK = [ TYPE = FILESYSTEM, SOURCE = "{path}" ]')

    make(host, shared("/srv/x/a"))
    make(host, shared("/srv/x/a"), shared("/srv/x/ab"))
    for path in ("/srv/x/a/b", "/srv/x", "/srv"):
        with pytest.raises(Conflict, match="could lead the other elsewhere"), host.attempt():
            make(host, shared(path))
    twice = 'DISK = [ TYPE = FILESYSTEM, SOURCE = "/mnt/a" ] DISK = [ TYPE = FILESYSTEM, SOURCE = "/mnt/a/b" ]'
    with pytest.raises(Conflict, match=r"its DISK 1 has /mnt/a,|its DISK 2 has /mnt/a/b,"), host.attempt():
        make(host, parse(f'MEMORY = 64 DISK = [ IMAGE = "demo" ] {twice}'))
