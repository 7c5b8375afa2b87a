# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ends with a machine."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.vms.ended_vms import without_secrets
from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmOrders, VmRequest
from ansible_collections.nebula.provision.plugins.module_utils.model.image_operations import Return
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.model.transfer import SSH
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.conftest import decide, obey
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.vms.conftest import (
    VNC,
    WEB,
    ports,
    say,
)


def test_a_machine_that_ended_gives_back_all_that_it_had(inside):
    before = (inside.hosts.info("node1"), inside.networks.info("Public"), inside.images.info("demo"))
    (made,) = inside.vms.instantiate([VmRequest("a", VNC)])
    inside.vms.action(0, "DONE", VmOrders())
    (ended,) = say(inside, "DONE")
    assert (ended.state, ended.wanted, ended.error, ended.etime >= made.stime) == ("DONE", "DONE", "", True)
    assert (inside.hosts.info("node1"), inside.networks.info("Public"), inside.images.info("demo")) == before
    assert ports(inside) == []
    assert inside.vms.pool() == []
    assert ended.request == Template()
    assert [step["state"] for step in inside.vms.history(0)] == ["PROLOG", "EPILOG", "DONE"]


@pytest.mark.parametrize("ran", [True, False])
def test_what_a_machine_wrote_on_a_host_of_its_own_comes_back_from_there(inside, ran):
    inside.hosts.update("node1", transfer=SSH)
    inside.images.update("demo", persistent=True)
    plans = decide(inside, WEB)
    if ran:
        obey(inside, plans)
    inside.vms.action(0, "DONE", VmOrders())
    say(inside, "DONE")
    assert inside.images.info("demo").operation == Return("node1", ran)


def test_nothing_that_is_secret_outlives_a_machine():
    secret = "s3cr3t"
    body = {
        "context": {"variables": {"PASSWORD": secret}, "files": [{"source": secret}]},
        "graphics": {"type": "vnc", "password": secret},
        "raw": {"kvm": secret},
        "disks": [{"disk_id": 0, "inject": [{"content": secret}]}],
        "name": "web",
    }
    assert secret not in json.dumps(without_secrets(body))
    assert (body["name"], body["graphics"]["type"], body["disks"][0]["disk_id"]) == ("web", "vnc", 0)
    assert without_secrets({"context": None}) == {"context": None, "raw": {}}


@pytest.mark.parametrize(
    "item", [{"context": {"A": "s3cr3t"}}, {"inject": [{"path": "/etc/motd", "content": "s3cr3t"}]}]
)
def test_the_catalog_keeps_a_secret_as_long_as_its_machine(inside, item):
    def rows():
        return "".join(str(tuple(row)) for row in inside.store.rows("SELECT * FROM vms"))

    obey(inside, decide(inside, {**WEB, **item}))
    assert "s3cr3t" in rows()
    obey(inside, decide(inside, {"name": WEB["name"], "state": "absent"}))
    assert [record.state for record in inside.vms.pool(done=True)] == ["DONE"]
    assert WEB["name"] in rows() and "s3cr3t" not in rows()
