# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module where a node is only foreseen: what main() chooses, what is refused, and that nothing is written."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject, InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.nodes import node_setup
from ansible_collections.nebula.provision.plugins.modules import nebula_node

CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"


@pytest.fixture
def module(main, still, tmp_path, monkeypatch):
    monkeypatch.setattr(node_setup, "DRIVERS", {"kvm": still})

    def run(check=True, **given):
        given.setdefault("catalog", CATALOG)
        return main(nebula_node, check, root=str(tmp_path / "nebula"), **given)

    return run


def test_a_node_is_foreseen(module, tmp_path):
    result = module(transfer="shared")
    assert result.changed
    assert result.items[0].after[str(tmp_path / "nebula")] == "present"
    assert (result.payload["node"]["hypervisor"], result.payload["node"]["transfer"]) == ("kvm", "shared")
    json.dumps(result.payload)
    assert list(tmp_path.iterdir()) == []


def test_a_host_that_was_none_has_nothing_to_give_back(module, tmp_path):
    result = module(state="absent")
    assert (result.changed, result.payload) == (False, {"node": {"hypervisor": "kvm"}})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("state", ["present", "absent"])
def test_another_catalogs_node_is_refused(module, tmp_path, state):
    root = tmp_path / "nebula"
    root.mkdir()
    node_file.update(str(root), lambda before: node_file.NodeFile(catalog="another"))
    with pytest.raises(ForeignObject, match="catalog another"):
        module(state=state)


@pytest.mark.parametrize("text", ['{"uuid": 1}', '[{"uuid": "s3cr3t"}]', "[s3cr3t"])
def test_secrets_that_cannot_be_read_are_not_told(module, text):
    with pytest.raises(InvalidValue) as caught:
        module(luks_secrets=text)
    assert "luks_secrets" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
