# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The key by which the front-end comes to nodes."""

from __future__ import annotations

import shutil

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.reconcile import transfer_key

UUID = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"


@pytest.fixture
def root(tmp_path):
    place = tmp_path / "front"
    (place / "ssh").mkdir(parents=True)
    return place


# -- the key ----------------------------------------------------------------------------------------------------------
@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs openssh-client")
def test_the_key_is_made_once_and_not_in_check_mode(tmp_path):
    root = str(tmp_path / "nebula")
    assert (transfer_key.public_key(root, True), transfer_key.has_key(root)) == ("", False)
    assert list(tmp_path.iterdir()) == []
    made = transfer_key.public_key(root, False)
    assert made.startswith("ssh-ed25519 ")
    assert transfer_key.has_key(root)
    assert transfer_key.public_key(root, False) == transfer_key.public_key(root, True) == made


def test_all_of_ours_goes_with_the_key_and_nothing_else(root):
    place = root / "ssh"
    names = ("id_ed25519", "id_ed25519.pub", "known_hosts.node1", f"node1.{UUID}-0.json", "config", "known_hosts")
    for name in names:
        (place / name).touch()
    (place / "sending.abc").mkdir()
    (place / "sending.abc" / "link").symlink_to("/nowhere")
    transfer_key.remove_key(str(root))
    assert sorted(path.name for path in place.iterdir()) == ["config", "known_hosts"]
    for name in ("config", "known_hosts"):
        (place / name).unlink()
    transfer_key.remove_key(str(root))
    assert not place.exists()
    transfer_key.remove_key(str(root))
