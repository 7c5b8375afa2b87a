# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an item of a list of machines wants of disks: read as it is written, and refused where it can't be meant."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageType
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.save_as import (
    DiskSnapshot,
    SaveAs,
    WantedSnapshot,
    disk_snapshots,
    saves,
    system_snapshots,
)

# -- save_as -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("item", [{}, {"save_as": None}, {"save_as": []}, {"save_as": ()}])
def test_an_item_without_them_saves_nothing(item):
    assert saves(item, "VM web") == ()


def test_a_save_says_no_more_than_the_image():
    (save,) = saves({"save_as": [{"image": "saved"}]}, "VM web")
    # The type is that of the disk's own image, which is not known here.
    assert save == SaveAs(0, Image(None, "saved", type=ImageType.CDROM), "agent")


def test_all_that_a_save_may_say_is_kept():
    entry = {"disk": "1", "image": "saved", "type": "datablock", "description": "d", "consistency": "crash"}
    (save,) = saves({"save_as": [entry]}, "VM web")
    assert save == SaveAs(1, Image(None, "saved", type=ImageType.DATABLOCK, description="d"), "crash")


def test_keys_that_are_none_are_as_those_that_are_not_given():
    entry = {"disk": None, "image": "saved", "type": None, "description": None, "consistency": None}
    assert saves({"save_as": [entry]}, "VM web") == saves({"save_as": [{"image": "saved"}]}, "VM web")


def test_one_disk_may_be_saved_as_two_images():
    found = saves({"save_as": [{"image": "a"}, {"image": "b"}]}, "VM web")
    assert [save.image.name for save in found] == ["a", "b"]


@pytest.mark.parametrize(
    ("given", "asked", "says"),
    [
        ("saved", "VM web: save_as", "it is a str. Give a list"),
        ({"image": "saved"}, "VM web: save_as", "it is a dict"),
        ([{"image": "a"}, "b"], "VM web: save_as[1]", "it is a str. Give a dict"),
        ([{"image": "a", "imge": "b"}], "VM web: save_as[0]: key 'imge'", "Did you mean 'image'?"),
        ([{"image": "a", "zzz": 1}], "VM web: save_as[0]: key 'zzz'", "Known are consistency, description, disk"),
        ([{"image": "a", "disk": -1}], "VM web: save_as[0]: disk -1", "it is not a whole number, 0 or more"),
        ([{"image": "a", "disk": True}], "VM web: save_as[0]: disk True", "it is not a whole number, 0 or more"),
        (
            [{"image": "a", "type": "CDROM"}],
            "VM web: save_as[0]: type 'CDROM'",
            "there is no such type. Known are OS, DATABLOCK",
        ),
        (
            [{"image": "a", "type": "KERNEL"}],
            "VM web: save_as[0]: type 'KERNEL'",
            "there is no such type. Known are OS, DATABLOCK",
        ),
        ([{"image": "a", "consistency": "AGENT"}], "VM web: save_as[0]: consistency 'AGENT'", "Known are agent, crash"),
        ([{"image": "a", "consistency": "crsh"}], "VM web: save_as[0]: consistency", "Did you mean 'crash'?"),
    ],
)
def test_a_save_that_can_not_be_meant_names_its_place_and_the_way_out(given, asked, says):
    with pytest.raises(InvalidValue) as caught:
        saves({"save_as": given}, "VM web")
    assert caught.value.asked.startswith(asked)
    assert says in str(caught.value)


@pytest.mark.parametrize("name", [None, "", "a/b", "..", 5])
def test_the_image_needs_a_name_that_it_may_have(name):
    with pytest.raises(InvalidValue, match="image"):
        saves({"save_as": [{"image": name}]}, "VM web")


def test_an_image_is_saved_once():
    with pytest.raises(InvalidValue, match="VM web: save_as: image a: the list has it twice"):
        saves({"save_as": [{"image": "a"}, {"image": "b"}, {"image": "a", "disk": 1}]}, "VM web")


# -- disk_snapshots ----------------------------------------------------------------------------------------------------


def test_a_snapshot_is_to_be_there_unless_its_entry_says_otherwise():
    given = [{"name": "a"}, {"name": "a", "disk": 1}, {"name": "b", "state": "reverted", "disk": "0"}]
    assert disk_snapshots({"disk_snapshots": given}, "VM web") == (
        DiskSnapshot(0, "a", "present"),
        DiskSnapshot(1, "a", "present"),
        DiskSnapshot(0, "b", "reverted"),
    )
    assert disk_snapshots({}, "VM web") == ()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"name": "a", "state": "absnt"}, "Did you mean 'absent'? Known are present, absent, reverted"),
        ({"name": "a", "state": ""}, "disk_snapshots[0]: state '': there is no such state"),
        ({"name": "a", "image": "x"}, "disk_snapshots[0]: key 'image': no such key"),
        ({"disk": 0}, "snapshot: the name is empty"),
        ({"name": "a", "disk": 1.5}, "disk_snapshots[0]: disk 1.5"),
    ],
)
def test_a_snapshot_that_can_not_be_meant_is_refused(given, says):
    with pytest.raises(InvalidValue) as caught:
        disk_snapshots({"disk_snapshots": [given]}, "VM web")
    assert says in str(caught.value)


def test_a_snapshot_of_one_disk_has_one_entry():
    entries = [{"name": "a"}, {"name": "a", "state": "absent"}]
    with pytest.raises(InvalidValue, match="disk_snapshots: snapshot a of disk 0"):
        disk_snapshots({"disk_snapshots": entries}, "VM web")


# -- system_snapshots --------------------------------------------------------------------------------------------------
def test_snapshots_of_the_machine_are_named_and_have_a_state() -> None:
    given = [{"name": "a"}, {"name": "b", "state": "reverted"}, {"name": "c", "state": "absent"}]
    assert system_snapshots({"system_snapshots": given}, "VM web") == (
        WantedSnapshot("a"),
        WantedSnapshot("b", "reverted"),
        WantedSnapshot("c", "absent"),
    )
    assert system_snapshots({}, "VM web") == ()


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([{"name": "a", "disk": 0}], "system_snapshots[0]: key 'disk': no such key"),
        ([{"name": "a", "state": "gone"}], "system_snapshots[0]: state 'gone'"),
        ([{"name": 7}], "system_snapshots[0]: snapshot"),
        ([{"name": "a"}, {"name": "a", "state": "absent"}], "system_snapshots: snapshot a"),
    ],
)
def test_what_is_no_snapshot_of_the_machine_is_refused(entries: list[dict[str, object]], says: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        system_snapshots({"system_snapshots": entries}, "VM web")
    assert says in str(caught.value)
