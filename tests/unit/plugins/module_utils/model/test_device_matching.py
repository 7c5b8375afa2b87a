# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk is known by what it holds, a NIC by its address, and neither by its place in the list."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.model import device_matching
from ansible_collections.nebula.provision.plugins.module_utils.model.device_matching import (
    CATALOG,
    HOTPLUG,
    LIVE,
    POWEROFF,
    RECREATE,
    MachineDevice,
    Pairing,
    kind_of_empty,
    machine_devices,
    pair_vectors,
    refuse_sizes,
)


def image(name: str, **more: str) -> dict[str, str]:
    return {"IMAGE": name, **more}


def empty(size: int, **more: str) -> dict[str, str]:
    return {"TYPE": "fs", "SIZE": str(size), **more}


def network(name: str, **more: str) -> dict[str, str]:
    return {"NETWORK": name, **more}


def disk(**values: Any) -> MachineDevice:
    own = values.pop("own", True)
    flags = {key: values.pop(key) for key in ("boots", "encrypted", "snapshots") if key in values}
    return MachineDevice({key: str(value) for key, value in values.items()}, own=own, **flags)


OS = disk(IMAGE="os", TARGET="vda", SIZE=10, boots=True)
# A machine with its system and three empty disks of one kind.
FOUR = (OS, *(disk(TARGET=f"vd{letter}", SIZE=5) for letter in "bcd"))
LIST = [image("os"), empty(5), empty(5), empty(5)]


def disks(
    new: list[dict[str, str]], old: list[dict[str, str]] = LIST, has: tuple[MachineDevice, ...] = FOUR
) -> Pairing:
    return pair_vectors("DISK", old, new, has)


# -- disks -------------------------------------------------------------------------------------------------------------
def test_the_middle_one_of_three_disks_is_the_one_that_goes() -> None:
    found = disks([image("a"), image("c")], [image("a"), image("b"), image("c")], ())
    assert (found.stays, found.gone, found.doubtful, found.how) == ((0, 2), (1,), (), HOTPLUG)


def test_of_disks_that_nothing_tells_apart_none_is_known_to_go() -> None:
    found = disks([image("os"), empty(5), empty(5)])
    assert (found.gone, found.doubtful) == ((3,), (3,))


@pytest.mark.parametrize(("letters", "gone"), [("bc", 3), ("bd", 2), ("cd", 1), ("dc", 1)])
def test_a_target_says_which_of_them_stays(letters: str, gone: int) -> None:
    found = disks([image("os"), *(empty(5, TARGET=f"vd{letter}") for letter in letters)])
    assert (found.gone, found.doubtful, found.moved) == ((gone,), (), ())


def test_a_target_that_the_disk_has_already_changes_nothing() -> None:
    found = disks([image("os", TARGET="vda"), empty(5, TARGET="vdb"), empty(5), empty(5, TARGET="vdd")])
    assert (found.stays, found.how) == ((0, 1, 2, 3), CATALOG)


@pytest.mark.parametrize("said", ["vdb", "xvdb", "xvdb:disk"])
def test_a_target_may_be_said_in_the_words_of_either_hypervisor(said: str) -> None:
    old, has = [image("os"), image("data")], (OS, disk(IMAGE="data", TARGET="xvdb"))
    for new in (image("data", TARGET=said), image("data", DEV_PREFIX=said[:-1] if said.endswith("b") else "vd")):
        assert disks([image("os"), new], old, has).how == CATALOG


def test_where_all_alike_go_there_is_no_doubt() -> None:
    assert disks([image("os")]).doubtful == ()


def test_disks_of_other_sizes_are_told_apart() -> None:
    has = (OS, disk(TARGET="vdb", SIZE=5), disk(TARGET="vdc", SIZE=6), disk(TARGET="vdd", SIZE=7))
    found = disks([image("os"), empty(5), empty(7)], [image("os"), empty(5), empty(6), empty(7)], has)
    assert (found.gone, found.doubtful) == ((2,), ())
    # It could have grown from either.
    found = disks([image("os"), empty(5), empty(9)], [image("os"), empty(5), empty(6), empty(7)], has)
    assert (found.gone, found.doubtful) == ((3,), (3,))


@pytest.mark.parametrize(
    ("old", "new", "how"),
    [
        (empty(5), empty(5, FS="ext4"), HOTPLUG),
        (empty(5, FORMAT="raw"), empty(5, FORMAT="qcow2"), HOTPLUG),
        # The same in other words.
        (empty(5, FORMAT="ext4"), empty(5, FS="ext4", FORMAT="raw"), CATALOG),
        (empty(5), image("data"), HOTPLUG),
        (image("data"), image("other"), HOTPLUG),
        (image("data", CACHE="none"), image("data", CACHE="writeback"), POWEROFF),
        (image("data"), image("data", DEV_PREFIX="sd"), POWEROFF),
        (image("data"), image("data", DEV_PREFIX="vd"), CATALOG),
        (image("data", DEV_PREFIX="vd"), image("data"), CATALOG),
        (image("data"), image("data", TARGET="vdx"), POWEROFF),
        (image("data", SIZE="5"), image("data", SIZE="6"), HOTPLUG),
        (image("data", SIZE="5"), image("data"), CATALOG),
        (image("data"), {"IMAGE_ID": "7"}, CATALOG),
        (image("data", DRIVER="qcow2"), image("data", DRIVER="raw"), RECREATE),
    ],
)
def test_what_a_change_of_a_disk_takes(old: dict[str, str], new: dict[str, str], how: str) -> None:
    has = (OS, disk(IMAGE="data", IMAGE_ID=7, TARGET="vdb", SIZE=5))
    assert disks([image("os"), new], [image("os"), old], has).how == how


def test_a_disk_that_grows_is_told_with_its_size() -> None:
    found = disks([image("os", SIZE="20"), *LIST[1:]])
    assert (found.grown, found.moved, found.how) == ({0: 20}, (), HOTPLUG)


def test_disks_in_another_order_stay() -> None:
    found = disks([image("b"), image("a")], [image("a"), image("b")], ())
    assert (found.stays, found.how) == ((1, 0), POWEROFF)


@pytest.mark.parametrize("new", [[], [image("other"), *LIST[1:]]])
def test_the_system_goes_only_with_the_whole_machine(new: list[dict[str, str]]) -> None:
    assert disks(new).how == RECREATE


def test_a_system_that_is_an_images_own_file_may_go() -> None:
    has = (disk(IMAGE="os", SIZE=10, boots=True, own=False),)
    assert disks([image("other")], [image("os")], has).how == HOTPLUG


def test_what_a_machine_has_is_told_by_its_disks_and_nics() -> None:
    has = machine_devices(
        [
            {"type": "CDROM", "image": "iso", "image_id": 0, "target": "hda", "size": 9, "boot_order": 1},
            {"type": "FILE", "image": "data", "image_id": 1, "target": "vda", "size": 5, "save": True},
            {"type": "FILE", "image": "os", "target": "vdb", "size": 7, "boot_order": 2, "snapshots": [{"id": 0}]},
            {"type": "FS", "image": "", "target": "vdc", "size": 3, "luks_secret": ""},
            {"type": "FILE", "image": "shut", "target": "vdd", "size": 3, "luks_secret": "9a3f"},
        ],
        [{"network": "Public", "network_id": 0, "mac": "02:00", "ip": "10.0.0.1", "ip6": ""}],
    )
    assert [each.own for each in has["DISK"]] == [False, False, True, True, True]
    assert [each.boots for each in has["DISK"]] == [False, False, True, False, False]
    assert [each.snapshots for each in has["DISK"]] == [False, False, True, False, False]
    assert [each.encrypted for each in has["DISK"]] == [False, False, False, False, True]
    # Nobody changes the size of a CDROM.
    assert [each.size for each in has["DISK"]] == [0, 5, 7, 3, 3]
    assert has["NIC"][0].values == {"NETWORK": "Public", "NETWORK_ID": "0", "MAC": "02:00", "IP": "10.0.0.1"}


@pytest.mark.parametrize(
    ("vector", "kind"),
    [
        ({"TYPE": "fs"}, ("fs", "raw", "")),
        ({"TYPE": "FS", "FORMAT": "ext4", "DRIVER": "qcow2"}, ("fs", "qcow2", "ext4")),
        ({"TYPE": "swap", "FORMAT": "QCOW2"}, ("swap", "qcow2", "")),
        ({"TYPE": "fs", "FORMAT": "ext4", "FS": "xfs"}, ("fs", "ext4", "xfs")),
    ],
)
def test_the_kind_of_an_empty_disk(vector: dict[str, str], kind: tuple[str, str, str]) -> None:
    assert kind_of_empty(vector) == kind


# -- sizes that no disk can have ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("size", "has", "error", "says"),
    [
        (4, {}, InvalidValue, "VM web: DISK 0: SIZE = 4: the disk has 5 MB, and would lose what lies behind that"),
        (6, {"encrypted": True}, Unsupported, "is encrypted, and no host changes it without its secret"),
        (6, {"snapshots": True}, Unsupported, "snapshots of that size. Delete its snapshots first"),
    ],
)
def test_a_size_that_the_disk_can_not_get_is_refused(
    size: int, has: dict[str, bool], error: type[Exception], says: str
) -> None:
    had, new = [disk(IMAGE="data", SIZE=5, **has)], [image("data", SIZE=str(size))]
    with pytest.raises(error, match=says):
        refuse_sizes(new, had, pair_vectors("DISK", [image("data")], new, had), "VM web")


@pytest.mark.parametrize("new", [image("data", SIZE="5"), image("data"), image("other", SIZE="1")])
def test_what_no_disk_loses_is_not_refused(new: dict[str, str]) -> None:
    had = [disk(IMAGE="data", SIZE=5, encrypted=True, snapshots=True)]
    refuse_sizes([new], had, pair_vectors("DISK", [image("data")], [new], had), "VM web")


# -- NICs --------------------------------------------------------------------------------------------------------------
NICS = (
    MachineDevice({"NETWORK": "Public", "NETWORK_ID": "0", "MAC": "02:00:0a:42:00:0a", "IP": "10.66.0.10"}),
    MachineDevice({"NETWORK": "Public", "NETWORK_ID": "0", "MAC": "02:00:0a:42:00:0b", "IP": "10.66.0.11"}),
    MachineDevice({"NETWORK": "Inner", "NETWORK_ID": "1", "MAC": "02:00:0a:43:00:0a", "IP": "10.67.0.10"}),
)
HAD = [network("Public"), network("Public"), network("Inner")]


@pytest.mark.parametrize(
    ("new", "stays", "gone", "how"),
    [
        (HAD, (0, 1, 2), (), CATALOG),
        ([network("Inner")], (2,), (0, 1), HOTPLUG),
        ([network("Public"), network("Inner")], (0, 2), (1,), HOTPLUG),
        ([network("Inner"), network("Public"), network("Public")], (2, 0, 1), (), POWEROFF),
        # What it asks for is what one has.
        ([network("Public", IP="10.66.0.11"), network("Inner")], (1, 2), (0,), HOTPLUG),
        ([network("Public", MAC="02:00:0a:42:00:0b"), network("Inner")], (1, 2), (0,), HOTPLUG),
        ([network("Public"), network("Public", IP="10.66.0.10"), network("Inner")], (1, 0, 2), (), POWEROFF),
        # Also where all that the machine has is in the list as before.
        ([*HAD[:2], network("Public", IP="10.66.0.10"), HAD[2]], (1, None, 0, 2), (), POWEROFF),
        ([*HAD, network("Public", IP="10.66.0.9")], (0, 1, 2, None), (), HOTPLUG),
        # Another address is another NIC.
        ([network("Public"), network("Public"), network("Inner", IP="10.67.0.9")], (0, 1, None), (2,), HOTPLUG),
        ([network("Public"), network("Public", MODEL="e1000"), network("Inner")], (0, 1, 2), (), POWEROFF),
        ([{"NETWORK_ID": "0"}, network("Public"), {"NETWORK_ID": "1"}], (0, 1, 2), (), CATALOG),
    ],
)
def test_nics_are_known_by_network_and_address(
    new: list[dict[str, str]], stays: tuple[Any, ...], gone: tuple[int, ...], how: str
) -> None:
    found = pair_vectors("NIC", HAD, new, NICS)
    assert (found.stays, found.gone, found.how) == (stays, gone, how)
    assert found.doubtful == ()


@given(
    st.lists(st.sampled_from("abc"), max_size=6),
    st.lists(st.sampled_from("abc"), max_size=6),
    st.sampled_from(device_matching.DEVICES),
)
def test_each_is_one_at_most_and_no_other_is_taken_for_it(old: list[str], new: list[str], name: str) -> None:
    make = image if name == "DISK" else network
    before, after = [make(letter) for letter in old], [make(letter) for letter in new]
    found = pair_vectors(name, before, after)
    staying = [index for index in found.stays if index is not None]
    assert sorted((*staying, *found.gone)) == list(range(len(old)))
    assert all(old[index] == new[number] for number, index in enumerate(found.stays) if index is not None)
    # No more come and go than have to.
    assert not {old[index] for index in found.gone} & {new[n] for n, index in enumerate(found.stays) if index is None}


@pytest.mark.parametrize(
    ("old", "new", "how"),
    [
        ({}, {"SIZE": "10"}, LIVE),
        ({"SIZE": "10"}, {"SIZE": "5"}, LIVE),
        ({"SIZE": "10"}, {}, LIVE),
        ({"DISKSPACE": "1:2"}, {"DISKSPACE": "1:3", "DISKINODES": "9"}, LIVE),
        ({"SIZE": "10"}, {"SIZE": "10"}, CATALOG),
        ({"SIZE": "10"}, {"SIZE": "20", "CACHE": "none"}, POWEROFF),
    ],
)
def test_the_limit_of_a_root_is_no_size(old: dict[str, str], new: dict[str, str], how: str) -> None:
    root = {"image": "os", "format": "tar", "by_hypervisor": True, "size": 10}
    has = machine_devices([root], [])["DISK"]
    assert has[0].limited and has[0].size == 0
    before, after = [image("os", **old)], [image("os", **new)]
    pairing = pair_vectors("DISK", before, after, has)
    assert (pairing.how, pairing.stays, dict(pairing.grown)) == (how, (0,), {})
    refuse_sizes(after, has, pairing, "VM web")
    # One that is a file is made larger when it is off, and never smaller.
    assert not machine_devices([{**root, "by_hypervisor": False}], [])["DISK"][0].limited
