# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""INJECT in a template and `inject` of a machine: which files are to be written, and what can't be meant."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import Ambiguous, InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.context import ContextFile
from ansible_collections.nebula.provision.plugins.module_utils.model.injected_files import (
    KEYS,
    LARGEST,
    VIAS,
    Injected,
    read_inject,
    read_inject_via,
    vectors_of,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template


def template(*vectors: dict[str, str], via: str | None = None) -> Template:
    found = Template().with_vectors("INJECT", vectors)
    return found if via is None else found.merged(Template.from_mapping({"INJECT_VIA": via}))


def one(**keys: str) -> tuple[int | None, Injected]:
    (found,) = read_inject(template({"PATH": "/etc/motd", "CONTENT": "hello", **keys}), "VM a")
    return found


def test_a_template_without_files_has_none() -> None:
    assert read_inject(Template(), "VM a") == ()


def test_a_file_with_its_content_is_written_as_roots_own_on_the_disk_that_boots() -> None:
    assert one() == (None, Injected("/etc/motd", content="hello", file=None, mode=-1, uid=0, gid=0))


def test_all_that_can_be_said_of_a_file_is_taken() -> None:
    assert one(MODE=" 0640 ", OWNER="1000", GROUP="100", DISK=" 0 ") == (
        0,
        Injected("/etc/motd", content="hello", mode=0o640, uid=1000, gid=100),
    )
    assert one(OWNER="root", GROUP="", MODE="755")[1] == Injected("/etc/motd", content="hello", mode=0o755)


def test_an_empty_content_is_one() -> None:
    assert one(CONTENT="")[1].content == ""


def test_a_source_is_a_file_of_the_front_end_by_the_name_that_it_gets() -> None:
    (found,) = read_inject(template({"PATH": "/etc/ssl/web.pem", "SRC": "/srv/cert"}), "VM a")
    assert found == (None, Injected("/etc/ssl/web.pem", file=ContextFile("/srv/cert", "web.pem")))


def test_files_stay_in_their_order_and_the_same_path_may_be_on_two_disks() -> None:
    found = read_inject(
        template(
            {"PATH": "/b", "CONTENT": "1"}, {"PATH": "/a", "CONTENT": "2"}, {"PATH": "/b", "CONTENT": "3", "DISK": "1"}
        ),
        "VM a",
    )
    assert [(disk, entry.path, entry.content) for disk, entry in found] == [
        (None, "/b", "1"),
        (None, "/a", "2"),
        (1, "/b", "3"),
    ]


@pytest.mark.parametrize(
    ("said", "partition"),
    [
        ("", ""), (" 2 ", "2"), ("0", "0"), ("007", "7"), ("LABEL=EFI", "LABEL=EFI"),
        ("label=my data", "LABEL=my data"),
        ("UUID=75A4-DD40", "UUID=75A4-DD40"), ("partlabel=a=b", "PARTLABEL=a=b"), ("PARTUUID=9a-1", "PARTUUID=9a-1"),
        ("/dev/vg/data", "/dev/vg/data"), ("/dev/mapper/vg-data", "/dev/mapper/vg-data"),
    ],
)  # fmt: skip
def test_a_partition_is_named_as_in_fstab_or_by_its_number(said: str, partition: str) -> None:
    assert one(PARTITION=said)[1].partition == partition


def test_the_same_path_may_be_in_two_partitions() -> None:
    found = read_inject(
        template({"PATH": "/b", "CONTENT": "1", "PARTITION": "1"}, {"PATH": "/b", "CONTENT": "2"}), "VM a"
    )
    assert [(entry.partition, entry.content) for _disk, entry in found] == [("1", "1"), ("", "2")]
    twice = {"PATH": "/b", "CONTENT": "1", "PARTITION": "1"}
    with pytest.raises(Ambiguous, match="it is there twice"):
        read_inject(template(twice, {**twice, "PARTITION": "01"}), "VM a")


@pytest.mark.parametrize("disk", [None, "2"])
def test_a_file_that_is_there_twice_is_ambiguous(disk: str | None) -> None:
    entry = {"PATH": "/b", "CONTENT": "hunter2", **({"DISK": disk} if disk else {})}
    with pytest.raises(Ambiguous) as caught:
        read_inject(template(entry, entry), "VM a")
    assert str(caught.value) == "VM a: INJECT 1: PATH = /b: it is there twice. Give each file one entry"


REFUSED = {
    "no path": ({"PATH": ""}, "VM a: INJECT 0: PATH = '': it is not an absolute path without . and .."),
    "a relative path": ({"PATH": "etc/motd"}, "VM a: INJECT 0: PATH = 'etc/motd': it is not an absolute path"),
    "the root": ({"PATH": "/"}, "VM a: INJECT 0: PATH = '/': it is not an absolute path"),
    "a directory": ({"PATH": "/etc/"}, "VM a: INJECT 0: PATH = '/etc/': it is not"),
    "two slashes": ({"PATH": "//etc"}, "VM a: INJECT 0: PATH = '//etc': it is not"),
    "a path upwards": ({"PATH": "/etc/../x"}, "VM a: INJECT 0: PATH = '/etc/../x': it is not"),
    "a dot": ({"PATH": "/./x"}, "VM a: INJECT 0: PATH = '/./x': it is not"),
    "both": ({"SRC": "/srv/x"}, "VM a: INJECT 0: /etc/motd: it has both CONTENT and SRC. Give what it is to hold"),
    "a mode of letters": ({"MODE": "rw-r--r--"}, "VM a: INJECT 0: MODE = rw-r--r--: it is no mode. Write it in octal"),
    "a mode of no octal": ({"MODE": "0648"}, "VM a: INJECT 0: MODE = 0648: it is no mode"),
    "a mode that is too long": ({"MODE": "00644"}, "VM a: INJECT 0: MODE = 00644: it is no mode"),
    "an owner by name": ({"OWNER": "www-data"}, "VM a: INJECT 0: OWNER = www-data: the guest's names are not known"),
    "a large group": ({"GROUP": str(1 << 32)}, "VM a: INJECT 0: GROUP = 4294967296: the guest's names are not known"),
    "a disk by name": ({"DISK": "vda"}, "VM a: INJECT 0: DISK = vda: it is no number of a disk. They count from 0"),
    "a partition of no form": (
        {"PARTITION": "data"},
        "VM a: INJECT 0: PARTITION = data: it names no partition. Give its number, counted from 1, or 0 for",
    ),
    "a partition below zero": ({"PARTITION": "-1"}, "VM a: INJECT 0: PARTITION = -1: it names no partition"),
    "a device": ({"PARTITION": "/dev/sda1"}, "VM a: INJECT 0: PARTITION = /dev/sda1: it names no partition"),
    "an empty label": ({"PARTITION": "LABEL="}, "VM a: INJECT 0: PARTITION = LABEL=: it names no partition"),
    "a large content": ({"CONTENT": "ü" * (LARGEST // 2) + "x"}, "VM a: INJECT 0: /etc/motd: its CONTENT has more"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_t_be_meant_is_refused_with_the_number_of_its_entry(case: str) -> None:
    keys, text = REFUSED[case]
    with pytest.raises(InvalidValue) as caught:
        one(**keys)
    assert str(caught.value).startswith(text)
    assert caught.value.remedy
    assert len(str(caught.value)) < 300


def test_a_file_with_neither_content_nor_source_is_refused() -> None:
    with pytest.raises(InvalidValue, match="it has neither CONTENT nor SRC"):
        read_inject(template({"PATH": "/x", "SRC": ""}), "VM a")


def test_a_content_of_the_largest_size_is_taken() -> None:
    assert len(one(CONTENT="x" * LARGEST)[1].content) == LARGEST
    assert one(OWNER=str((1 << 32) - 1))[1].uid == (1 << 32) - 1


def test_the_way_is_auto_unless_it_is_said() -> None:
    assert read_inject_via(Template(), "VM a") == read_inject_via(template(via=" "), "VM a") == "auto"
    assert [read_inject_via(template(via=word.upper()), "VM a") for word in VIAS] == list(VIAS)


def test_an_unknown_way_is_refused_with_the_nearest_also_where_no_file_is_written() -> None:
    with pytest.raises(InvalidValue) as caught:
        read_inject(template(via="gustfs"), "VM a")
    assert str(caught.value) == (
        "VM a: INJECT_VIA = gustfs: no such way. Did you mean guestfs? Known are auto, guestfs, nbd, loop"
    )
    with pytest.raises(InvalidValue, match=r"no such way\. Known are auto"):
        read_inject_via(template(via="magic"), "VM a")


def test_a_content_is_not_shown_with_its_object() -> None:
    assert "hunter2" not in repr(Injected("/x", content="hunter2"))


# --- the option of a machine -----------------------------------------------------------------------------------------


def test_the_option_of_a_machine_says_the_same_as_the_attribute() -> None:
    items = [
        {
            "path": "/etc/motd",
            "content": "hi",
            "mode": "0600",
            "owner": 0,
            "group": 7,
            "disk": 1,
            "partition": 2,
            "src": None,
        },
        {"path": "/b", "src": "/srv/b"},
    ]
    vectors = vectors_of(items, "VM a")
    assert vectors == [
        {
            "PATH": "/etc/motd",
            "CONTENT": "hi",
            "MODE": "0600",
            "OWNER": "0",
            "GROUP": "7",
            "DISK": "1",
            "PARTITION": "2",
        },
        {"PATH": "/b", "SRC": "/srv/b"},
    ]
    assert read_inject(template(*vectors), "VM a") == (
        (1, Injected("/etc/motd", content="hi", mode=0o600, uid=0, gid=7, partition="2")),
        (None, Injected("/b", file=ContextFile("/srv/b", "b"))),
    )
    assert vectors_of((), "VM a") == []


@pytest.mark.parametrize(
    ("items", "text"),
    [
        ({"path": "/x"}, "VM a: inject: it is a dict. Give a list of dicts"),
        ("/x", "VM a: inject: it is a str. Give a list of dicts"),
        ([{"path": "/x"}, "y"], "VM a: inject 1: it is a str. Give a dict"),
        (
            [{"paht": "/x"}],
            "VM a: inject 0: key 'paht': no such key. Did you mean 'path'? Known are " + ", ".join(sorted(KEYS)),
        ),
        ([{"colour": "x"}], "VM a: inject 0: key 'colour': no such key. Known are " + ", ".join(sorted(KEYS))),
        ([{"mode": 420}], "VM a: inject 0: mode: YAML read it as a int. Write it in quotes"),
        ([{"owner": True}], "VM a: inject 0: owner: YAML read it as a bool. Write it in quotes"),
        ([{"content": ["x"]}], "VM a: inject 0: content: YAML read it as a list. Write it in quotes"),
        ([{"disk": 1.0}], "VM a: inject 0: disk: YAML read it as a float. Write it in quotes"),
    ],
)
def test_what_the_option_can_t_mean_is_refused(items: Any, text: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        vectors_of(items, "VM a")
    assert str(caught.value).startswith(text)
