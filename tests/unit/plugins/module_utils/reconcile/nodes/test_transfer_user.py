# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a node tells whether it sees the front-end's datastores, what it foresees to make for files that are sent to it,
and what it is not given back over; no test makes a user."""

from __future__ import annotations

import os
import pwd
from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, InUse, InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file, rsync
from ansible_collections.nebula.provision.plugins.module_utils.model.transfer import SHARED, SSH
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.nodes import transfer_user
from ansible_collections.nebula.provision.plugins.module_utils.storage import datastore_mark

CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
NAME = f"{CATALOG}-3"
NOBODYS = "nebula-user-that-nobody-has"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "datastores" / "1").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def no_user(monkeypatch):
    """The host has no user by the name that the front-end comes as."""
    monkeypatch.setattr(rsync, "USER", NOBODYS)
    return f"user {NOBODYS}"


@pytest.mark.parametrize("wanted", [SHARED, SSH])
def test_what_is_said_is_done_whatever_is_there(root, wanted):
    assert transfer_user.method_of(wanted, str(root), CATALOG) == wanted
    datastore_mark.write(str(root), CATALOG)
    assert transfer_user.method_of(wanted, str(root), CATALOG) == wanted


@pytest.mark.parametrize(
    ("content", "method"),
    [
        (f"{CATALOG}\n", SHARED),
        (CATALOG, SHARED),
        ("another\n", SSH),
        ("", SSH),
        ("\xff", SSH),
        (f"{CATALOG}\n" * 3000, SSH),
        (None, SSH),
    ],
)
def test_auto_goes_by_whose_datastore_is_there(root, content, method):
    if content is not None:
        (root / "datastores" / "1" / ".nebula-catalog").write_bytes(content.encode("latin-1"))
    assert transfer_user.method_of("auto", str(root), CATALOG) == method


def test_auto_follows_no_link(root, tmp_path):
    """Whoever may write there must not have the node take another file for the mark."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(CATALOG)
    (root / "datastores" / "1" / ".nebula-catalog").symlink_to(elsewhere)
    assert transfer_user.method_of("auto", str(root), CATALOG) == SSH


# -- made ready -------------------------------------------------------------------------------------------------------
def test_the_key_is_known_if_it_is_given_or_was(root):
    assert not transfer_user.can_be_found_out(str(root), "")
    assert transfer_user.can_be_found_out(str(root), "ssh-ed25519 AAAA")
    keys = root / "transfer" / ".ssh"
    keys.mkdir(parents=True)
    (keys / "authorized_keys").touch()
    assert transfer_user.can_be_found_out(str(root), "")


def test_without_a_key_nothing_is_made(root, no_user):
    with pytest.raises(InvalidValue) as caught:
        transfer_user.present(str(root), "", node_file.Changes(False))
    assert "the front-end's key is not known" in str(caught.value)
    assert "role nebula.provision.frontend" in str(caught.value)
    assert [path.name for path in root.iterdir()] == ["datastores"]


@pytest.mark.parametrize("key", ["", "ssh-ed25519 AAAA"])
def test_check_mode_foresees_user_directory_and_key(root, no_user, key):
    changes = node_file.Changes(True)
    transfer_user.present(str(root), key, changes)
    home = str(root / "transfer")
    wanted = {no_user: "present", home: "present", f"{home}/.ssh/authorized_keys": "present"}
    assert (changes.before, changes.after) == (dict.fromkeys(wanted, "absent"), wanted)
    assert [path.name for path in root.iterdir()] == ["datastores"]


def test_a_user_of_that_name_with_another_home_is_somebody_elses(root, monkeypatch):
    """Root, for one, has its home elsewhere."""
    monkeypatch.setattr(rsync, "USER", "root")
    for check_mode in (True, False):
        with pytest.raises(Conflict) as caught:
            transfer_user.present(str(root), "ssh-ed25519 AAAA", node_file.Changes(check_mode))
        for part in ("user root", f"home directory {pwd.getpwnam('root').pw_dir}", "nebula_root"):
            assert part in str(caught.value)
    assert [path.name for path in root.iterdir()] == ["datastores"]


def test_what_is_about_to_be_made_is_noted_before_and_what_is_there_is_not(root):
    path = str(root)
    node_file.update(path, lambda before: replace(before, directories=(f"{path}/cache",)))
    transfer_user._note(path, [f"{path}/cache", f"{path}/datastores", f"{path}/transfer"])
    assert node_file.read(path).directories == (f"{path}/cache", f"{path}/transfer")


# -- given back -------------------------------------------------------------------------------------------------------
@pytest.fixture
def used(root):
    """A node with the front-end's key, a base, and a file that has not come back."""
    for name in ("cache", "transfer/in", "transfer/out", "transfer/.ssh"):
        (root / name).mkdir(parents=True)
    (root / "transfer/.ssh/authorized_keys").write_text("restrict x\n")
    for name in (f"cache/{NAME}", f"transfer/out/{NAME}", "transfer/out/somebodys", "transfer/in/half"):
        (root / name).touch()
    return root


def test_what_has_not_come_back_keeps_the_node(used):
    with pytest.raises(InUse) as caught:
        transfer_user.absent(str(used), node_file.NodeFile(), node_file.Changes(False))
    for part in ("1 files that machines wrote", NAME, "provision.site: it fetches them", f"{used}/transfer/out"):
        assert part in str(caught.value)
    assert "somebodys" not in str(caught.value)
    assert (used / "transfer/.ssh/authorized_keys").exists()


def test_check_mode_takes_what_is_to_come_back_as_fetched(used):
    changes = node_file.Changes(True)
    transfer_user.absent(str(used), node_file.NodeFile(user=True), changes)
    keys = f"{used}/transfer/.ssh/authorized_keys"
    assert changes.after == {keys: "absent", f"user {rsync.USER}": "absent"}
    assert (used / "transfer/out" / NAME).exists()
    assert os.path.exists(keys)


def test_key_and_files_go_and_a_user_that_is_not_ours_stays(used):
    (used / "transfer/out" / NAME).unlink()
    changes = node_file.Changes(False)
    transfer_user.absent(str(used), node_file.NodeFile(user=False), changes)
    assert list(changes.after) == [f"{used}/transfer/.ssh/authorized_keys"]
    assert not (used / "transfer/.ssh").exists()
    assert list((used / "cache").iterdir()) == []
    assert list((used / "transfer/in").iterdir()) == []
    # The directory may stay, and nothing is left to be done.
    for check_mode in (True, False):
        again = node_file.Changes(check_mode)
        transfer_user.absent(str(used), node_file.NodeFile(user=False), again)
        assert again.after == {}


def test_a_user_that_has_gone_by_itself_is_forgotten(root, no_user):
    node_file.update(str(root), lambda before: replace(before, user=True))
    changes = node_file.Changes(False)
    transfer_user.absent(str(root), node_file.read(str(root)), changes)
    assert changes.after == {no_user: "absent"}
    assert not node_file.read(str(root)).user


def test_a_node_that_nothing_was_sent_to_has_nothing_to_give_back(root):
    changes = node_file.Changes(False)
    transfer_user.absent(str(root), node_file.NodeFile(), changes)
    assert changes.after == {}


# -- how it is known --------------------------------------------------------------------------------------------------
def test_host_keys_are_told_without_their_comments(tmp_path):
    (tmp_path / "ssh_host_rsa_key.pub").write_text("ssh-rsa BBBB root@node1 second word\n")
    (tmp_path / "ssh_host_ed25519_key.pub").write_text("ssh-ed25519 AAAA\n")
    (tmp_path / "ssh_host_ed25519_key").write_text("secret")
    (tmp_path / "ssh_host_half_key.pub").write_text("ssh-rsa")
    (tmp_path / "ssh_host_torn_key.pub").write_bytes(b"ssh-rsa \xff\n")
    (tmp_path / "ssh_host_long_key.pub").write_text("ssh-rsa " + "A" * transfer_user.LARGEST)
    (tmp_path / "ssh_host_lost_key.pub").symlink_to(tmp_path / "none")
    (tmp_path / "moduli").write_text("ssh-rsa CCCC")
    assert transfer_user.host_keys(str(tmp_path)) == ["ssh-ed25519 AAAA", "ssh-rsa BBBB"]


def test_a_host_without_sshd_has_none(tmp_path):
    assert transfer_user.host_keys(str(tmp_path / "none")) == []
