# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Host keys of a node are lines of keys, or there are none."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.answers.host_keys import host_keys

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI"


@pytest.mark.parametrize("keys", [[KEY], [KEY, "ecdsa-sha2-nistp256 AAAA= root@host"], []])
def test_keys_of_a_host(keys):
    assert host_keys({"node": {"host_keys": keys}}) == keys


@pytest.mark.parametrize(
    "keys",
    [
        None,
        "x",
        5,
        {"a": 1},
        [5],
        [[KEY]],
        [KEY + "\nother ssh-ed25519 AAAA"],
        ["@cert-authority * " + KEY],
        ["ssh-ed25519 " + "A" * 5000],
        [KEY] * 17,
        ["\x1b[2J"],
    ],
)
def test_what_are_no_keys(keys):
    assert host_keys({"node": {"host_keys": keys}}) == []


@pytest.mark.parametrize("answer", [None, "x", {}, {"node": "x"}, {"node": [1]}])
def test_what_is_no_answer(answer):
    assert host_keys(answer) == []
