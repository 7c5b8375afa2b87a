# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run refuses is refused for what stands on it, in check mode as in the real run: the modules one after another
as the roles call them, for each pair of objects of which one stands on the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.nebula.provision.plugins.module_utils.calls import (
    datastore,
    host,
    image,
    network,
    template,
    vm,
)
from ansible_collections.nebula.provision.plugins.module_utils.storage.datastore_layout import prepare_root
from ansible_collections.nebula.provision.plugins.module_utils.sync import Result

HOST = {"name": "node1", "hypervisor": "kvm", "memory": 4096, "cpu": 8.0}
NETWORK: dict[str, Any] = {
    "name": "Public",
    "bridge": "nbr0",
    "network_address": "10.66.0.0",
    "network_mask": "255.255.255.0",
    "address_ranges": [{"type": "IP4", "ip": "10.66.0.10", "size": 2}],
}
WEB = """
CPU = 0.1
MEMORY = 64
DISK = [ IMAGE = "base", DEV_PREFIX = "vd" ]
NIC = [ NETWORK = "Public" ]
"""
VM: dict[str, Any] = {"name": "web", "template": "web"}


TENANT: dict[str, Any] = {
    "name": "Tenant",
    "vn_mad": "ovn",
    "network_address": "10.0.0.0/24",
    "address_ranges": [{"type": "IP4", "ip": "10.0.0.5", "size": 3}],
}
ROUTER: dict[str, Any] = {"name": "edge", "interfaces": [{"network": "Tenant", "ip": "10.0.0.5"}]}


class Site:
    """A front-end, its lists, and runs over them: what each module says of it."""

    def __init__(self, place: Path) -> None:
        self.root = str(place / "nebula")
        prepare_root(self.root)
        file = place / "base.raw"
        file.write_bytes(b"\0" * (1 << 20))
        self.base: dict[str, Any] = {"name": "base", "path": str(file), "remote_src": True}
        self.lists: dict[str, list[Any]] = {
            "hosts": [HOST],
            "datastores": [],
            "images": [self.base],
            "networks": [NETWORK],
            "security_groups": [],
            "routers": [],
            "templates": [{"name": "web", "template": WEB}],
            "vms": [],
        }

    def run(self, check_mode: bool, **changes: list[Any]) -> tuple[list[str], list[str]]:
        """The errors, and the names of what was changed."""
        lists = {**self.lists, **changes}
        hosts = self.call(host, check_mode, hosts=lists["hosts"])
        datastores = self.call(datastore, check_mode, datastores=lists["datastores"])
        images = self.call(
            image, check_mode, images=json.dumps(lists["images"]), declared={"datastores": lists["datastores"]}
        )
        networks = self.call(
            network,
            check_mode,
            networks=lists["networks"],
            with_security_groups=lists["security_groups"],
            with_routers=lists["routers"],
        )
        templates = self.call(template, check_mode, templates=json.dumps(lists["templates"]))
        declared = {
            "hosts": hosts.payload["hosts"],
            "images": images.payload["removed"] + images.payload["images"],
            "networks": networks.payload["networks"],
            "security_groups": networks.payload["removed"]["security_groups"] + networks.payload["security_groups"],
            "routers": networks.payload["removed"]["routers"] + networks.payload["routed"],
            "templates": lists["templates"],
        }
        told = {"declared": json.dumps(declared)} if check_mode else {}
        machines = self.call(vm, check_mode, vms=json.dumps(lists["vms"]), hosts=["node1"], **told)
        results = (hosts, datastores, images, networks, templates, machines)
        errors = [f"{item.error}" for result in results for item in result.errors]
        return errors, [item.name for result in results for item in result.items if item.is_changed]

    def call(self, module: Any, check_mode: bool, **given: Any) -> Result:
        checked = ArgumentSpecValidator(**module.ARGUMENTS).validate({"root": self.root, **given})
        assert not checked.error_messages, checked.error_messages
        result: Result = module.run(checked.validated_parameters, check_mode)
        return result


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def same(site: Site, *refused: str, **changes: list[Any]) -> None:
    """A run and its check refuse just these, by words of their errors, and change the same."""
    checked = site.run(True, **changes)
    assert checked == site.run(True, **changes), "a check has changed something"
    errors, _changed = done = site.run(False, **changes)
    assert checked == done
    assert len(errors) == len(refused), errors
    for text, error in zip(refused, errors):
        assert text in error


BAD_TEMPLATES = {
    "value": {"name": "new", "template": WEB.replace("64", "1G")},
    "option": {"name": "new", "template": WEB, "strict": "yess"},
    "strict": {"name": "new", "template": WEB.replace("MEMORY", "MEMROY"), "strict": True},
    "syntax": {"name": "new", "template": "CPU = ["},
    "key": {"name": "new", "tempalte": WEB},
    "file": {"name": "new", "template_file": "/nosuch"},
    "state": {"name": "new", "template": WEB, "state": "presnet"},
}


@pytest.mark.parametrize("bad", list(BAD_TEMPLATES.values()), ids=list(BAD_TEMPLATES))
def test_a_machine_of_a_new_template_that_is_refused(site: Site, bad: dict[str, Any]) -> None:
    new = [*site.lists["templates"], bad]
    same(site, "template new", "template 'new'", templates=new, vms=[{**VM, "template": "new"}])


def test_machines_of_a_template_that_is_there_twice(site: Site) -> None:
    twice = [*site.lists["templates"], {"name": "new", "template": WEB}, {"name": "new", "template": WEB}]
    same(site, "template new", "template new", "template 'new'", templates=twice, vms=[{**VM, "template": "new"}])


def test_a_machine_of_an_image_that_is_refused(site: Site) -> None:
    same(site, "image base", "image 'base'", images=[{**site.base, "type": "SO"}], vms=[VM])


def test_an_image_in_a_datastore_that_is_not_there(site: Site) -> None:
    same(site, "datastore 'fast'", "image 'base'", images=[{**site.base, "datastore": "fast"}], vms=[VM])


def test_an_image_in_a_datastore_of_another_type(site: Site) -> None:
    lost = [{**site.base, "datastore": "kernels"}]
    files = [{"name": "kernels", "type": "FILE"}]
    same(site, "that is of type FILE", "image 'base'", images=lost, datastores=files, vms=[VM])


def test_an_image_in_a_datastore_that_is_new(site: Site) -> None:
    same(site, images=[{**site.base, "datastore": "fast"}], datastores=[{"name": "fast"}], vms=[VM])


def test_an_image_in_a_datastore_that_is_removed(site: Site) -> None:
    same(site, datastores=[{"name": "fast"}], images=[])
    gone = [{"name": "fast", "state": "absent"}]
    same(site, "datastore 'fast'", images=[{**site.base, "datastore": "fast"}], datastores=gone)


def test_an_image_made_of_one_that_is_refused(site: Site) -> None:
    bad = [{**site.base, "type": "SO"}, {"name": "copy", "clone_of": "base"}]
    same(site, "image base", "copy", "image 'copy'", images=bad, vms=[{**VM, "disks": [{"IMAGE": "copy"}]}])


def test_a_machine_in_a_network_that_is_refused(site: Site) -> None:
    same(site, "network Public", "network 'Public'", networks=[{**NETWORK, "network_mask": "255.0.255.0"}], vms=[VM])


def test_machines_for_which_a_network_has_no_addresses(site: Site) -> None:
    same(site, "3 wanted, 2 free of 2", vms=[{**VM, "name": "web-%i", "count": 3}])


def test_a_network_with_a_security_group_that_is_refused(site: Site) -> None:
    bad = [{"name": "inner", "rules": [{"protocol": "TPC"}]}]
    filtered = [{**NETWORK, "security_groups": ["inner"]}]
    same(site, "inner", "inner", "network 'Public'", security_groups=bad, networks=filtered, vms=[VM])


def test_a_machine_with_a_security_group_that_is_removed(site: Site) -> None:
    same(site, security_groups=[{"name": "inner", "rules": []}])
    nics = [{"NETWORK": "Public", "SECURITY_GROUPS": "100"}]
    same(site, "100", security_groups=[{"name": "inner", "state": "absent"}], vms=[{**VM, "nics": nics}])


def test_a_machine_on_a_host_that_is_refused(site: Site) -> None:
    same(site, "host node1", "VM web", hosts=[{**HOST, "memory": "much"}], vms=[VM])


def test_a_router_in_a_network_that_is_refused(site: Site) -> None:
    bad = [NETWORK, {**TENANT, "network_address": "10.0.0.0/64"}]
    same(site, "network Tenant", "network 'Tenant'", networks=bad, routers=[ROUTER])


def test_a_machine_with_the_address_of_a_router(site: Site) -> None:
    nics = [{"NETWORK": "Tenant", "IP": "10.0.0.5"}]
    networks = [NETWORK, TENANT]
    same(site, "10.0.0.5", networks=networks, routers=[ROUTER], vms=[{**VM, "nics": nics}])
    # What the router has no more is free.
    gone = [{"name": "edge", "state": "absent"}]
    same(site, networks=networks, routers=gone, vms=[{**VM, "nics": nics}])


def test_machines_get_the_addresses_that_routers_leave(site: Site) -> None:
    machines = [{**VM, "name": "web-%i", "count": 3, "nics": [{"NETWORK": "Tenant"}]}]
    same(site, "3 wanted, 2 free", networks=[NETWORK, TENANT], routers=[ROUTER], vms=machines)


def test_a_router_that_is_refused_has_no_address(site: Site) -> None:
    nics = [{"NETWORK": "Tenant", "IP": "10.0.0.5"}]
    bad = [{**ROUTER, "routes": [{"destination": "10.9.0.1/16", "next_hop": "10.0.0.6"}]}]
    same(site, "router edge", networks=[NETWORK, TENANT], routers=bad, vms=[{**VM, "nics": nics}])


# What a list changes of what a machine that is there is made of, and what is said of that, or of the next machine.
CHANGED: dict[str, tuple[str, dict[str, Any]]] = {
    "a template's change that is refused": (
        "MEMORY",
        {"templates": [{"name": "web", "template": WEB.replace("64", "1G")}]},
    ),
    "a template is removed": ("template 'web'", {"templates": [{"name": "web", "state": "absent"}]}),
    "an image is removed": ("image 'base'", {"images": [{"name": "base", "state": "absent"}]}),
    "an image is disabled": ("DISABLED", {"images": [{"name": "base", "state": "disabled"}]}),
    "an image has another name": (
        "image 'base'",
        {
            "images": [{"name": "basis", "renamed_from": "base"}],
            "vms": [VM, {**VM, "name": "new", "disks": [{"IMAGE": "basis"}]}],
        },
    ),
    "an image becomes persistent": (
        "persistent",
        {"images": [{"name": "base", "persistent": True}], "vms": [VM, {**VM, "name": "second"}]},
    ),
    "a network is removed": ("network 'Public'", {"networks": [{"name": "Public", "state": "absent"}]}),
    "a host becomes too small": ("VM web", {"hosts": [{**HOST, "reserved_memory": 4090}]}),
    "a host is disabled": ("VM web", {"hosts": [{**HOST, "state": "disabled"}]}),
}


@pytest.mark.parametrize("what", CHANGED)
def test_a_machine_of_what_changes(site: Site, what: str) -> None:
    refused, changes = CHANGED[what]
    same(site)
    same(site, refused, **{"vms": [VM], **changes})
