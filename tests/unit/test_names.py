# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A name that no real OpenNebula would take is told of each kind of object that has one, when it is new."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.nebula.provision.plugins.module_utils.errors import NotFound
from ansible_collections.nebula.provision.plugins.module_utils.object_lists import doubts_of_names
from ansible_collections.nebula.provision.plugins.module_utils.sync import Item, Result
from ansible_collections.nebula.provision.plugins.modules import (
    nebula_datastore,
    nebula_host,
    nebula_image,
    nebula_network,
    nebula_router,
    nebula_security_group,
    nebula_template,
    nebula_vm,
)

BAD = "bad & <name>"
TENANTS = {"vn_mad": "ovn", "network_address": "192.168.0.0/24", "gateway": "192.168.0.1"}
# What a machine is made of comes before it.
OBJECTS: list[tuple[ModuleType, str, str, dict[str, Any]]] = [
    (nebula_datastore, "datastores", "datastore", {"type": "IMAGE"}),
    (nebula_host, "hosts", "host", {"hypervisor": "kvm", "memory": 4096, "cpu": 8.0, "state": "present"}),
    (nebula_image, "images", "image", {"type": "DATABLOCK", "size": 1, "format": "raw"}),
    (nebula_security_group, "security_groups", "security group", {}),
    (nebula_network, "networks", "network", TENANTS),
    (nebula_router, "routers", "router", {"interfaces": [{"network": BAD}]}),
    (nebula_template, "templates", "template", {"template": "MEMORY = 64 CPU = 1"}),
    (nebula_vm, "vms", "VM", {"template": BAD}),
]


@pytest.fixture
def run(tmp_path: Path):
    def done(module: ModuleType, plural: str, item: dict[str, Any], check: bool = False, **more: Any) -> Result:
        given = {"root": str(tmp_path), plural: [item], **more}
        checked = ArgumentSpecValidator(**module.call.ARGUMENTS).validate(given)
        assert checked.error_messages == []
        result: Result = module.call.run(checked.validated_parameters, check)
        assert [str(failed.error) for failed in result.errors] == []
        return result

    return done


def test_every_kind_tells_a_new_name_once(run) -> None:
    for module, plural, kind, more in OBJECTS:
        item = {"name": BAD, **more}
        named = [f"{kind} '{BAD}' could not go to a real OpenNebula: it takes no name with & < >"]
        for check, wanted in ((True, named), (False, named), (False, [])):
            warnings = run(module, plural, item, check).warnings
            found = [text.partition(". Here")[0] for text in warnings if "a real OpenNebula: " in text]
            assert found == wanted, (kind, check)


def test_a_name_that_it_is_given_is_told(run) -> None:
    more = OBJECTS[2][3]
    run(nebula_image, "images", {"name": "good", **more})
    (text,) = run(nebula_image, "images", {"name": BAD, "renamed_from": "good", **more}).warnings
    assert BAD in text
    assert run(nebula_image, "images", {"name": BAD, "state": "absent"}).warnings == []


def test_what_is_made_beside_networks_is_called_what_it_is(run) -> None:
    given = {
        "with_security_groups": [{"name": "a:b"}],
        "with_routers": [{"name": "c:d", "interfaces": [{"network": "n"}]}],
    }
    warnings = run(nebula_network, "networks", {"name": "n", **TENANTS}, **given).warnings
    assert [text.partition(" could")[0] for text in warnings] == ["security group 'a:b'", "router 'c:d'"]


def test_many_names_are_not_told_each_by_itself() -> None:
    items = [Item(f"a:{number}", None, {}) for number in range(7)]
    told = doubts_of_names("VM", items)
    assert [text.partition(" could")[0] for text in told[:-1]] == ["VM 'a:0'", "VM 'a:1'", "VM 'a:2'"]
    assert told[-1] == "4 more VMs have names that could not go there either"
    assert len(doubts_of_names("VM", items[:4])) == 4


def test_what_failed_or_went_is_not_told() -> None:
    gone, failed = Item("a:b", {}, None), Item("a:b", None, {}, error=NotFound("a", "b"))
    assert doubts_of_names("VM", [gone, failed, Item("a:b", {"name": "a:b"}, {"name": "a:b"})]) == []
