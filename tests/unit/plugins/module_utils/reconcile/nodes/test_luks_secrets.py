# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The passphrases of encrypted images on a node, with a hypervisor that keeps them in a dict: which are given to it,
which are taken away, and that the node's file and errors never tell one.

The hash that the node's file holds has fewer rounds here (monkeypatch): only how long it takes depends on them."""

from __future__ import annotations

import pytest
from canaries import ways

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    Ambiguous,
    ForeignObject,
    HypervisorError,
    InvalidValue,
    Unsupported,
)
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Secrets
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.nodes import luks_secrets

A, B, FOREIGN = (f"{digit * 8}-1111-4111-8111-111111111111" for digit in "abf")
PHRASE = "correct horse"


class Kept(Secrets):
    """ours by UUID; whatever else the hypervisor has is FOREIGN."""

    def __init__(self):
        self.phrases = {}
        self.calls = []

    def ours(self):
        return set(self.phrases)

    def check(self, uuid):
        if uuid == FOREIGN:
            raise ForeignObject(f"secret {uuid}", "it is somebody else's", "Use another UUID")
        return uuid in self.phrases

    def keep(self, uuid, passphrase):
        self.calls.append(("keep", uuid))
        self.phrases[uuid] = passphrase

    def remove(self, uuid):
        self.calls.append(("remove", uuid))
        del self.phrases[uuid]


class Hypervisor:
    """What node_secrets asks of a driver."""

    def __init__(self, kept):
        self.kept = kept
        self.owners = []

    def secrets(self, owner):
        self.owners.append(owner)
        return self.kept

    def lacks(self, operation):
        return Unsupported(operation, f"hypervisor none can't {operation}")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(luks_secrets, "_ROUNDS", 10)


@pytest.fixture
def driver():
    return Hypervisor(Kept())


@pytest.fixture
def keep(driver, tmp_path):
    def some(wanted, check=False):
        changes = node_file.Changes(check)
        driver.kept.calls.clear()
        luks_secrets.set_secrets(driver, str(tmp_path), wanted, changes)
        return changes

    return some


# -- the option -------------------------------------------------------------------------------------------------------
def test_a_list_is_read_by_uuid_whatever_case_it_is_written_in():
    items = [{"uuid": A.upper(), "passphrase": PHRASE}, {"passphrase": "x", "uuid": B}]
    assert luks_secrets.wanted_of(items) == {A: PHRASE, B: "x"}
    assert luks_secrets.wanted_of(()) == {}


@pytest.mark.parametrize(
    ("items", "kind", "parts"),
    [
        ({"uuid": A}, InvalidValue, ["option luks_secrets", "it is a dict", "Give a list"]),
        (None, InvalidValue, ["it is a NoneType"]),
        ([{"uuid": A}], InvalidValue, ["entry 0", "Give uuid and passphrase"]),
        ([{"uuid": A, "passphrase": PHRASE, "name": "x"}], InvalidValue, ["entry 0", "Give uuid and passphrase"]),
        ([{"uuid": A, "passphrase": PHRASE}, PHRASE], InvalidValue, ["entry 1", "not a dict"]),
        ([{"uuid": "disk", "passphrase": PHRASE}], InvalidValue, ["entry 0: uuid", "uuidgen"]),
        ([{"uuid": f"{A}\n", "passphrase": PHRASE}], InvalidValue, ["entry 0: uuid", "it is no UUID"]),
        ([{"uuid": 5, "passphrase": PHRASE}], InvalidValue, ["entry 0: uuid"]),
        ([{"uuid": A, "passphrase": ""}], InvalidValue, ["entry 0: passphrase", "empty"]),
        ([{"uuid": A, "passphrase": 12345}], InvalidValue, ["entry 0: passphrase", "in quotes"]),
        (
            [{"uuid": A, "passphrase": PHRASE}, {"uuid": A.upper(), "passphrase": "other"}],
            Ambiguous,
            ["entry 1", "in the list twice", "Give each one entry"],
        ),
    ],
)
def test_what_is_no_list_of_secrets_is_named_by_its_place(items, kind, parts):
    with pytest.raises(kind) as caught:
        luks_secrets.wanted_of(items)
    for part in parts:
        assert part in str(caught.value)
    for secret in (PHRASE, "12345", "other"):
        assert secret not in str(caught.value)


# -- on a node --------------------------------------------------------------------------------------------------------
def test_secrets_are_kept_and_again_without_a_change(driver, keep, tmp_path):
    changes = keep({B: "x", A: PHRASE})
    assert changes.before == {f"secret {A}": "absent", f"secret {B}": "absent"}
    assert changes.after == {f"secret {A}": "present", f"secret {B}": "present"}
    assert driver.kept.phrases == {A: PHRASE, B: "x"}
    assert set(driver.owners) == {str(tmp_path)}
    again = keep({A: PHRASE, B: "x"})
    assert (again.before, again.after, driver.kept.calls) == ({}, {}, [])


def test_another_passphrase_is_told_as_another_and_given(driver, keep):
    keep({A: PHRASE, B: "x"})
    changes = keep({A: "battery staple", B: "x"})
    assert changes.before == {f"secret {A}": "another"}
    assert driver.kept.phrases[A] == "battery staple"
    assert driver.kept.calls == [("keep", A)]
    assert keep({A: "battery staple", B: "x"}).after == {}


def test_one_that_is_wanted_no_more_is_taken_away_and_forgotten(driver, keep, tmp_path):
    keep({A: PHRASE, B: "x"})
    changes = keep({B: "x"})
    assert (changes.before, changes.after) == ({f"secret {A}": "present"}, {f"secret {A}": "absent"})
    assert driver.kept.phrases == {B: "x"}
    assert set(node_file.read(str(tmp_path)).secrets) == {B}


def test_one_of_ours_that_the_nodes_file_does_not_know_is_taken_away(driver, keep):
    """A run that was killed had given it to the hypervisor, and not yet remembered it."""
    driver.kept.phrases = {A: PHRASE, B: "x"}
    changes = keep({B: "x"})
    assert changes.after == {f"secret {A}": "absent", f"secret {B}": "present"}
    assert driver.kept.phrases == {B: "x"}


def test_one_that_somebody_removed_from_the_hypervisor_is_given_again(driver, keep):
    keep({A: PHRASE})
    driver.kept.phrases.clear()
    assert keep({A: PHRASE}).before == {f"secret {A}": "absent"}
    assert driver.kept.phrases == {A: PHRASE}


@pytest.mark.parametrize("told", ["", "x", "zz:zz", "ab", "00:", ":00", "00:00"])
def test_what_the_node_cannot_tell_apart_is_given_again(driver, keep, tmp_path, told):
    """What is remembered may have been damaged; the hypervisor's own passphrase can't be read back."""
    driver.kept.phrases[A] = "unknown"
    node_file.update(str(tmp_path), lambda before: node_file.NodeFile(secrets={A: told}))
    assert keep({A: PHRASE}).before == {f"secret {A}": "another"}
    assert driver.kept.phrases == {A: PHRASE}
    assert keep({A: PHRASE}).before == {}


def test_check_mode_says_the_same_and_touches_nothing(driver, keep, tmp_path):
    keep({A: PHRASE, B: "x"})
    before = (tmp_path / node_file.NAME).read_bytes()
    wanted = {A: "battery staple"}
    foreseen = keep(wanted, check=True)
    assert driver.kept.calls == []
    assert (tmp_path / node_file.NAME).read_bytes() == before
    real = keep(wanted)
    assert (foreseen.before, foreseen.after) == (real.before, real.after)


def test_check_mode_works_where_no_node_is_yet(driver, tmp_path):
    changes = node_file.Changes(True)
    luks_secrets.set_secrets(driver, str(tmp_path / "none"), {A: PHRASE}, changes)
    assert changes.after == {f"secret {A}": "present"}
    assert list(tmp_path.iterdir()) == []


def test_somebody_elses_secret_is_refused(driver, keep):
    for check in (True, False):
        with pytest.raises(ForeignObject, match=FOREIGN):
            keep({FOREIGN: PHRASE}, check=check)
    assert driver.kept.calls == []


def test_a_hypervisor_without_secrets_is_named_only_if_some_are_wanted(tmp_path):
    none = Hypervisor(None)
    luks_secrets.set_secrets(none, str(tmp_path), {}, node_file.Changes(False))
    with pytest.raises(Unsupported, match="can't keep secrets of disks"):
        luks_secrets.set_secrets(none, str(tmp_path), {A: PHRASE}, node_file.Changes(False))


def test_the_nodes_file_does_not_tell_a_passphrase(keep, tmp_path):
    keep({A: PHRASE, B: PHRASE})
    text = (tmp_path / node_file.NAME).read_text()
    assert not ways(PHRASE, text)
    told = node_file.read(str(tmp_path)).secrets
    assert told[A] != told[B], "the same passphrase must not be seen to be the same"


# -- giving back ------------------------------------------------------------------------------------------------------
def test_all_are_taken_away_with_the_node(driver, keep, tmp_path):
    keep({A: PHRASE, B: "x"})
    foreseen = node_file.Changes(True)
    luks_secrets.remove_all(driver, str(tmp_path), foreseen)
    assert set(driver.kept.phrases) == {A, B}
    real = node_file.Changes(False)
    luks_secrets.remove_all(driver, str(tmp_path), real)
    assert foreseen.after == real.after == {f"secret {A}": "absent", f"secret {B}": "absent"}
    assert driver.kept.phrases == {}
    assert node_file.read(str(tmp_path)).secrets == {}


def test_giving_back_leaves_no_file_where_none_was(driver, tmp_path):
    luks_secrets.remove_all(driver, str(tmp_path), node_file.Changes(False))
    luks_secrets.remove_all(Hypervisor(None), str(tmp_path), node_file.Changes(False))
    assert list(tmp_path.iterdir()) == []


def test_those_that_are_left_behind_are_named_with_where_they_are():
    error = luks_secrets.error_of_secrets_left(InvalidValue("libvirtd", "no answer"), "/srv/nebula", [B, A])
    assert isinstance(error, HypervisorError)
    for part in (f"{A}, {B}", "libvirtd: no answer", "/etc/libvirt/secrets/", "/srv/nebula/nebula.node"):
        assert part in str(error)
