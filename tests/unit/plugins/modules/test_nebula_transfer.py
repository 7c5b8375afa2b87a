# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module: which of its two ways it goes, what each needs, and that check mode speaks to nobody."""

from __future__ import annotations

import contextlib

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.image_operations import Return, write
from ansible_collections.nebula.provision.plugins.module_utils.model.transfer import BASE
from ansible_collections.nebula.provision.plugins.modules import nebula_transfer

HOSTS = {"node1": {"address": "192.0.2.1", "keys": ["ssh-ed25519 AAAA"]}}


@pytest.fixture
def module(options, root):
    def run(check=True, **given):
        return nebula_transfer.call.run(options(nebula_transfer, root=root, hosts=HOSTS, **given), check)

    return run


def test_what_would_be_sent_is_foreseen(module, tmp_path):
    path = tmp_path / "demo"
    path.write_bytes(b"hello")
    image = {"kind": BASE, "name": "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10-0", "image": "demo", "path": str(path)}
    result = module(state="sent", transfers={"node1": {"images": [image], "room": 5}})
    assert result.changed
    assert result.payload == {"hosts": ["node1"]}
    assert [item.name for item in result.items] == ["image demo to host node1"]
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_to_send_is_no_change(module):
    for check in (True, False):
        result = module(check, state="sent", transfers={})
        assert (result.changed, result.payload) == (False, {"hosts": []})


def test_what_would_be_fetched_is_foreseen(module, furnished):
    observed = [{"host": "node1"}]
    assert module(state="fetched", observed=observed).payload == {"images": []}
    assert not module(False, state="fetched", observed=observed).changed
    with contextlib.closing(EmbeddedEngine(furnished)) as engine, engine.session():
        engine.store.db.execute("UPDATE images SET operation = ?, state = 9", (write(Return("node1")),))
    result = module(state="fetched", observed=observed)
    assert result.changed
    assert result.payload == {"images": ["demo"]}


def test_a_host_that_was_not_told_of_is_named(module):
    with pytest.raises(InvalidValue, match="host node2: its address is not given"):
        module(state="sent", transfers={"node2": {"images": [], "room": 5}})
