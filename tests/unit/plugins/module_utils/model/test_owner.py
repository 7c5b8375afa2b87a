# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The owner as users write one, and what expressions find of it."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain, to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.owner import Owner, owner_of

OWNERS = {
    "nobody said": ({}, Owner()),
    "oneadmin's own ids": ({"name": "oneadmin", "uid": 5}, Owner(uid="5")),
    "of another nothing is made up": ({"name": "ann"}, Owner("ann", "", "", "")),
    "another of the first group": ({"name": "ann", "group": "oneadmin"}, Owner("ann", "", "oneadmin", "0")),
    "all of it": (
        {"name": "ann", "uid": "104", "group": "users", "gid": 1, "attributes": {"ssh_public_key": "ssh-rsa A"}},
        Owner("ann", "104", "users", "1", {"SSH_PUBLIC_KEY": "ssh-rsa A"}),
    ),
    "nothing is as if it were not there": ({"name": None, "uid": None, "attributes": None}, Owner()),
    "the first of all": ({"name": "ann", "uid": 0, "gid": 0}, Owner("ann", "0", "", "0")),
    "values as YAML reads them": ({"attributes": {"A": 7, "B": True}}, Owner(attributes={"A": "7", "B": "YES"})),
}


@pytest.mark.parametrize("case", OWNERS)
def test_an_owner_is_what_is_said_of_it(case: str) -> None:
    given, expected = OWNERS[case]
    assert owner_of(given, "VM a") == expected


REFUSED = {
    "no dict": ("ann", "VM a: owner: it is a str. Give a dict with name, uid"),
    "another key": ({"gruop": "users"}, "VM a: owner: key 'gruop': no such key. Did you mean 'group'?"),
    "no id": ({"uid": "ann"}, "VM a: owner: uid 'ann': it is no id. Give a whole number"),
    "a truth": ({"gid": True}, "VM a: owner: gid True: it is no id"),
    "no name": ({"name": 7}, "VM a: owner: name 7: it is no name"),
    "two lines": ({"group": "a\nb"}, r"VM a: owner: group 'a\nb': it is no name"),
    "no attributes": ({"attributes": ["x"]}, "VM a: owner: attributes: it is a list. Give a dict"),
    "a vector": ({"attributes": {"A": {"B": "hunter2"}}}, "vectors can't be nested"),
    "a fraction": ({"attributes": {"A": 1.5}}, "VM a: owner: CONTEXT/A: YAML read the value as a number"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_t_be_meant_is_refused(case: str) -> None:
    given, text = REFUSED[case]
    with pytest.raises(InvalidValue) as caught:
        owner_of(given, "VM a")
    assert text in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_expressions_find_who_it_is() -> None:
    ann = owner_of({"name": "ann", "uid": 104, "attributes": {"NAME": "Ann", "KEY": "k"}}, "VM a")
    assert ann.singles() == {"UNAME": "ann", "UID": "104"}
    assert ann.vector() == {"UNAME": "ann", "UID": "104", "NAME": "Ann", "ID": "104", "KEY": "k"}


def test_it_is_oneadmin_as_in_opennebula() -> None:
    assert Owner().singles() == {"UNAME": "oneadmin", "UID": "0", "GNAME": "oneadmin", "GID": "0"}


def test_it_is_remembered_whole_and_shown_without_its_attributes() -> None:
    owner = Owner("ann", attributes={"KEY": "hunter2"})
    assert from_plain(Owner, to_plain(owner)) == owner
    assert "hunter2" not in repr(owner)
