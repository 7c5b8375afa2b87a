# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running machine gets at once and what at its next start, whatever was decided before."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.model import waiting_changes
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain, to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.device_matching import DISK, NIC, MachineDevice
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.model.template_changes import changes
from ansible_collections.nebula.provision.plugins.module_utils.model.waiting_changes import DeviceIds, Waiting

LIVE = ("DISK", "NIC", "DISK/SIZE")
OWN = "02:00:0a:42:00:0a"


class Machine:
    """A running machine whose list changes from one step to the next, with NICs and disks that are told apart."""

    def __init__(self, live=LIVE, **attributes):
        self.live, self.waits = live, {}
        self.template = Template.from_mapping(attributes)
        self.ids = {name: list(range(len(self.template.vectors(name)))) for name in (DISK, NIC)}

    def becomes(self, removes=False, **attributes):
        new = Template.from_mapping(attributes)
        has = {
            name: [MachineDevice(dict(vector), own=name == DISK) for vector in self.template.vectors(name)]
            for name in (DISK, NIC)
        }
        found = changes(self.template, new, self.live, has)
        stays = {name: waiting_changes.pair_devices(name, self.template, new, has).stays for name in (DISK, NIC)}
        first = {name: max(self.ids[name], default=-1) + 1 for name in (DISK, NIC)}
        coming = {name: [n for n, index in enumerate(each) if index is None] for name, each in stays.items()}
        fresh = {name: {n: first[name] + place for place, n in enumerate(each)} for name, each in coming.items()}
        ids = DeviceIds(self.ids, fresh)
        self.waits = waiting_changes.waiting_after(
            self.waits, (self.template, new), found, has, ids, self.live, removes
        )
        self.ids = {
            name: [fresh[name][n] if index is None else self.ids[name][index] for n, index in enumerate(each)]
            for name, each in stays.items()
        }
        self.template = new
        # As the catalog keeps it.
        self.waits = {part: from_plain(Waiting, to_plain(each)) for part, each in self.waits.items()}
        return {part: (each.found, each.wanted) for part, each in self.waits.items()}


def test_a_value_waits_until_it_is_what_the_machine_runs_with():
    machine = Machine(MEMORY="128", CPU="1")
    assert machine.becomes(MEMORY="256", CPU="2") == {"MEMORY": ("128", "256")}
    assert machine.becomes(MEMORY="512", CPU="2") == {"MEMORY": ("128", "512")}
    assert waiting_changes.running_number(machine.waits, "MEMORY", 512) == 128
    assert waiting_changes.running_number(machine.waits, "VCPU", None) is None
    assert machine.becomes(MEMORY="512", CPU="2", DESCRIPTION="a") == {"MEMORY": ("128", "512")}
    assert machine.becomes(MEMORY="128", CPU="2") == {}


def test_what_the_hypervisor_changes_at_once_waits_for_nothing():
    assert Machine(live=("MEMORY",), MEMORY="128").becomes(MEMORY="256") == {}


def test_secrets_are_kept_and_never_shown():
    machine = Machine(GRAPHICS={"TYPE": "vnc", "PASSWD": "s3cr3t-1"})
    shown = machine.becomes(GRAPHICS={"TYPE": "vnc", "PASSWD": "s3cr3t-2"})
    assert "s3cr3t" not in str(shown) and shown["GRAPHICS"][1] == "[ PASSWD = (another secret) ]"
    assert machine.becomes(GRAPHICS={"TYPE": "vnc", "PASSWD": "s3cr3t-1"}) == {}


def test_text_of_which_only_the_length_is_shown_waits_too():
    machine = Machine(RAW={"TYPE": "kvm", "DATA": "<a/>"})
    assert "RAW" in machine.becomes(RAW={"TYPE": "kvm", "DATA": "<b/>"})


def nic(**more):
    return {"NETWORK": "net", "MAC": OWN, **more}


def test_each_device_waits_by_itself():
    machine = Machine(NIC=[nic(), {"NETWORK": "other"}])
    assert machine.becomes(NIC=[nic(MODEL="e1000"), {"NETWORK": "other"}]) == {
        "NIC 0": ("nothing of it", "[ MODEL = e1000 ]")
    }
    # One that comes at once, and one that goes at once.
    assert list(machine.becomes(NIC=[nic(MODEL="e1000"), {"NETWORK": "third"}], removes=True)) == ["NIC 0"]
    assert machine.becomes(NIC=[nic(), {"NETWORK": "third"}]) == {}


def test_devices_that_come_and_go_with_the_next_start_wait_for_it():
    machine = Machine(live=(), NIC=[nic()])
    assert machine.becomes(NIC=[nic(), {"NETWORK": "more"}]) == {"NIC 1": ("nothing", "network more")}
    # The running machine never had it.
    assert machine.becomes(NIC=[nic()]) == {}
    assert machine.becomes(NIC=[{"NETWORK": "more"}]) == {
        "NIC 0": ("network net", "nothing"),
        "NIC 1": ("nothing", "network more"),
    }
    assert waiting_changes.without_devices_that_fit(machine.waits) == {}


def test_a_disk_that_comes_while_another_is_moved_waits_for_its_target():
    first, last = {"IMAGE": "base", "TARGET": "vda"}, {"IMAGE": "data", "TARGET": "vdb"}
    machine = Machine(DISK=[first, last])
    moved = dict(last, TARGET="vdx")
    expected = {"DISK 1": ("[ TARGET = vdb ]", "[ TARGET = vdx ]"), "DISK 2": ("nothing", "image more")}
    assert machine.becomes(DISK=[first, moved, {"IMAGE": "more"}]) == expected
    # So does one that a later list has.
    later = machine.becomes(DISK=[first, moved, {"IMAGE": "more"}, {"IMAGE": "most"}])
    assert later == {**expected, "DISK 3": ("nothing", "image most")}


def test_a_disk_that_grows_at_the_next_start_says_from_what():
    machine = Machine(live=("DISK", "NIC"), DISK=[{"IMAGE": "a", "TARGET": "vda", "SIZE": "8"}])
    assert machine.becomes(DISK=[{"IMAGE": "a", "TARGET": "vda", "SIZE": "9"}]) == {
        "DISK 0": ("[ SIZE = 8 ]", "[ SIZE = 9 ]")
    }


def test_another_owner_waits_where_the_guest_reads_its_context_at_its_start():
    waits = waiting_changes.with_owner({}, "ann", "bob")
    assert {part: (each.found, each.wanted) for part, each in waits.items()} == {"owner": ("ann", "bob")}
    assert waiting_changes.with_owner(waits, "bob", "ann") == {}


_VALUES = st.fixed_dictionaries(
    {
        "MEMORY": st.sampled_from(["64", "128"]),
        "VCPU": st.sampled_from(["1", "2"]),
        "NIC": st.lists(st.sampled_from(["", "e1000", "virtio"]), min_size=1, max_size=1),
    }
)


@settings(max_examples=60)
@given(_VALUES, st.lists(_VALUES, min_size=1, max_size=5))
def test_back_where_it_began_nothing_waits(first, steps):
    def attributes(values):
        return {**values, "NIC": [nic(MODEL=model) for model in values["NIC"]]}

    machine = Machine(**attributes(first))
    for step in steps:
        shown = machine.becomes(**attributes(step))
        assert set(shown) == {
            part
            for part, differs in (
                ("MEMORY", step["MEMORY"] != first["MEMORY"]),
                ("VCPU", step["VCPU"] != first["VCPU"]),
                ("NIC 0", step["NIC"] != first["NIC"]),
            )
            if differs
        }
    assert machine.becomes(**attributes(first)) == {}
