# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible makes of the plugin's hosts, by each ansible-core of `make matrix`. test_inventory.py reads catalogs."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible import constants
from ansible.errors import AnsibleError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import fragment_loader
from ansible.plugins.vars.host_group_vars import VarsModule
from ansible.utils.plugin_docs import add_fragments

from ansible_collections.nebula.provision.plugins.inventory import nebula
from ansible_collections.nebula.provision.plugins.plugin_utils import catalog_reader, inventory_hosts, ssh_through_node

TEMPLATE = "{{ lookup('pipe', 'echo ran') }}"
NETWORKS = [{"name": "Public", "nat": True}]
WEB = {
    "id": 0,
    "name": "web",
    "state": "RUNNING",
    "host": "node1",
    "template": "web",
    "nics": [{"network": "Public", "ip": "10.66.0.10"}],
    "disks": [{"image": "debian 12"}],
    "labels": ["blue"],
    "attributes": {"ROLE": "front", "NOTE": TEMPLATE},
    "error": "",
}
BARE = {**WEB, "id": 1, "name": "bare", "state": "UNKNOWN", "host": "", "nics": [], "attributes": {}, "error": "lost"}
INFO = {"catalog": "c", "networks": NETWORKS, "vms": [WEB, BARE]}


def loaded() -> nebula.InventoryModule:
    """The plugin with its options, as Ansible's loader makes it."""
    documentation = yaml.safe_load(nebula.DOCUMENTATION)
    add_fragments(documentation, nebula.__file__, fragment_loader)
    constants.config.initialize_plugin_configuration_definitions("inventory", "nebula", documentation["options"])
    plugin = nebula.InventoryModule()
    plugin._load_name, plugin._original_path = "nebula", nebula.__file__
    plugin._redirected_names = [nebula.InventoryModule.NAME]
    return plugin


class Read:
    """The plugin, and what it was asked to read."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place, self.calls, self.info = place, [], INFO
        monkeypatch.setattr(catalog_reader, "read", self.answer)

    def answer(self, *asked: Any) -> dict[str, Any]:
        self.calls.append(asked)
        return self.info

    def parse(
        self,
        hosts: dict[str, dict[str, Any]],
        from_cache: bool = True,
        inventory: InventoryData | None = None,
        **options: Any,
    ) -> InventoryData:
        """hosts: those of group nebula_frontend that the inventory has before."""
        source = self.place / "machines.nebula.yml"
        source.write_text(yaml.safe_dump({"plugin": "nebula.provision.nebula", **options}))
        inventory = inventory or InventoryData()
        inventory.add_group("nebula_frontend")
        for name, variables in hosts.items():
            inventory.add_host(name, "nebula_frontend")
            for key, value in variables.items():
                inventory.set_variable(name, key, value)
        plugin = loaded()
        assert plugin.verify_file(str(source)) and not plugin.verify_file(str(self.place))
        plugin.parse(inventory, DataLoader(), str(source), from_cache)
        if plugin.get_option("cache"):
            plugin.update_cache_if_changed()
        return inventory


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    return Read(tmp_path, monkeypatch)


def test_options_are_those_that_are_understood() -> None:
    options = yaml.safe_load(nebula.DOCUMENTATION)["options"]
    assert options["group_by"]["choices"] == options["group_by"]["default"] == list(inventory_hosts.GROUPED)
    assert options["jump"]["choices"] == list(ssh_through_node.JUMPS)


def test_hosts_and_groups(read: Read) -> None:
    found = read.parse(
        {"front": {"ansible_host": "192.0.2.1"}}, keyed_groups=[{"key": "nebula_machine.attributes.ROLE"}]
    )
    assert {*found.hosts} == {"front", "web", "bare"}
    groups = {group.name for group in found.hosts["web"].get_groups()}
    assert groups >= {"nebula_machines", "host_node1", "network_Public", "template_web", "state_RUNNING", "label_blue"}
    assert groups >= {"image_debian_12", "_front"}
    assert "ansible_host" not in found.hosts["bare"].vars and found.hosts["bare"].vars["nebula_machine"]["error"]
    assert found.hosts["web"].vars["nebula_machine"]["attributes"]["NOTE"] == TEMPLATE


class Copying(InventoryData):
    """Tells which variables Ansible would copy value by value: since 2.19 it does so where the inventory sets them."""

    def __init__(self) -> None:
        super().__init__()
        self.copied: set[str] = set()

    def set_variable(self, entity: str, varname: str, value: Any) -> None:
        self.copied.add(varname)
        super().set_variable(entity, varname, value)


def test_what_the_catalog_says_of_a_machine_is_handed_over_once(read: Read) -> None:
    found = read.parse({}, inventory=Copying())
    assert found.copied >= {"ansible_host", "nebula_guest_node"} and "nebula_machine" not in found.copied
    web, bare = (found.hosts[name].vars["nebula_machine"] for name in ("web", "bare"))
    assert (web["name"], bare["name"]) == ("web", "bare") and web["template"] is bare["template"]


@pytest.mark.parametrize(
    ("condition", "hosts"),
    [
        ("nebula_machine.state == 'RUNNING'", {"web"}),
        ("nebula_machine.attributes.ROLE == 'front'", {"web"}),
        ("nebula_machine.error | length > 0", {"bare"}),
        ("nebula_machine.id is odd", {"bare"}),
    ],
)
def test_filters(read: Read, condition: str, hosts: set[str]) -> None:
    assert {*read.parse({}, filters=[condition]).hosts} == hosts


def test_what_a_machine_has_not_is_an_error_where_it_is_asked_for(read: Read) -> None:
    with pytest.raises(AnsibleError):
        read.parse({}, filters=["nebula_machine.attributes.ROLE == 'front'"], strict=True)
    with pytest.raises(AnsibleError, match="is no condition"):
        read.parse({}, filters=["nebula_machine.id =="])


def test_values_are_composed(read: Read) -> None:
    found = read.parse({}, compose={"twice": "nebula_machine.id * 2", "role": "nebula_machine.attributes.ROLE"})
    # Before ansible-core 2.19 it is a string.
    assert [str(found.hosts[name].vars["twice"]) for name in ("web", "bare")] == ["0", "2"]
    assert found.hosts["web"].vars["role"] == "front" and "role" not in found.hosts["bare"].vars


def test_the_front_end_is_that_of_the_inventory(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    front = {
        "ansible_host": "{{ prefix }}.1",
        "ansible_user": "operator",
        "nebula_root": "/srv/nebula",
        "prefix": "192.0.2",
    }
    read.parse({"front": front})
    name, variables, _gathered, options, timeout = read.calls[-1]
    assert (name, options, timeout) == ("front", {"root": "/srv/nebula"}, 60)
    assert {*variables} == {"ansible_host", "ansible_user"}
    monkeypatch.setenv("NEBULA_FRONTEND_USER", "somebody")
    monkeypatch.setenv("NEBULA_ROOT", "/elsewhere")
    read.parse({"front": front}, connection={"ansible_port": "{{ 2000 + 22 }}"}, timeout=5)
    name, variables, _gathered, options, timeout = read.calls[-1]
    assert (variables["ansible_user"], str(variables["ansible_port"]), options["root"]) == (
        "somebody",
        "2022",
        "/elsewhere",
    )
    read.parse({})
    name, variables, *_rest = read.calls[-1]
    assert name == "localhost" and variables["ansible_connection"] == "local"


@pytest.mark.parametrize("name", ["root@elsewhere.example", "elsewhere.example", "-oProxyCommand=x", "localhost"])
def test_ssh_jumps_over_hosts_of_the_inventory_alone(read: Read, name: str) -> None:
    read.info = {**INFO, "vms": [{**WEB, "host": name}]}
    found = read.parse({"front": {"ansible_host": "192.0.2.1"}})
    assert "ansible_ssh_common_args" not in found.hosts["web"].vars and "localhost" not in found.hosts
    read.info = INFO
    arguments = read.parse({"node1": {"ansible_host": "192.0.2.7"}}).hosts["web"].vars["ansible_ssh_common_args"]
    assert "-- 192.0.2.7" in arguments


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("node1", "-- node1"), *((name, "") for name in ("root@elsewhere", "-oProxyCommand=x", "localhost", "127.0.0.1"))],
)
def test_where_no_inventory_came_before_ssh_jumps_over_the_name_of_a_host(
    read: Read, name: str, arguments: str
) -> None:
    """As in AWX, which reads each source alone."""
    read.info = {**INFO, "vms": [{**WEB, "host": name}]}
    found = read.parse({}).hosts["web"].vars.get("ansible_ssh_common_args", "")
    assert arguments in found and bool(found) is bool(arguments)


def test_a_machine_has_no_variables_of_another_host(read: Read, tmp_path: Path) -> None:
    """Ansible looks for them in files with the name of the host, and goes where that leads."""
    (tmp_path / "host_vars").mkdir()
    (tmp_path / "host_vars/node1.yml").write_text("ansible_password: of node1\n")
    read.info = {**INFO, "vms": [{**WEB, "name": "node1.yml"}]}
    (host,) = {*read.parse({}).hosts.values()}
    variables = VarsModule().get_vars(DataLoader(), str(tmp_path / "machines.nebula.yml"), host)
    assert (host.name, variables) == ("one-0", {})
    read.info = {**INFO, "vms": [{**WEB, "name": "!", "id": "x/../node1"}]}
    with pytest.raises(AnsibleError, match="what the front-end answers is no catalog: machine '!'"):
        read.parse({})


def test_errors_name_the_option(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AnsibleError, match=r"2 hosts \(a, b\): name the front-end in option frontend"):
        read.parse({"a": {}, "b": {}})

    def fails(*_asked: Any) -> None:
        raise catalog_reader.CatalogNotRead("no route")

    monkeypatch.setattr(catalog_reader, "read", fails)
    with pytest.raises(AnsibleError, match="the catalog can't be read on the front-end a: no route"):
        read.parse({"a": {}})


def test_what_was_read_is_kept_where_that_is_asked_for(read: Read, tmp_path: Path) -> None:
    kept = {"cache": True, "cache_plugin": "jsonfile", "cache_connection": str(tmp_path / "cache"), "cache_timeout": 60}
    assert {*read.parse({}, **kept).hosts} == {*read.parse({}, **kept).hosts} == {"web", "bare"}
    assert len(read.calls) == 1
    read.parse({}, from_cache=False, **kept)
    assert len(read.calls) == 2
    (file,) = (tmp_path / "cache").iterdir()
    assert "web" in json.dumps(json.loads(file.read_text()))


FRONT = {"ansible_host": "192.0.2.1", "ansible_user": "operator"}


@pytest.mark.parametrize(
    ("hosts", "environment", "options"),
    [
        ({"staging": FRONT}, {}, {}),
        ({"front": {**FRONT, "ansible_host": "192.0.2.9"}}, {}, {}),
        ({"front": {**FRONT, "ansible_user": "somebody"}}, {}, {}),
        ({"front": {**FRONT, "ansible_port": 2222}}, {}, {}),
        ({"front": {**FRONT, "ansible_become": True}}, {}, {}),
        ({"front": {**FRONT, "ansible_ssh_common_args": "-J bastion"}}, {}, {}),
        ({"front": {**FRONT, "nebula_root": "/srv/staging"}}, {}, {}),
        ({"front": FRONT}, {"NEBULA_FRONTEND": "192.0.2.9"}, {}),
        ({"front": FRONT}, {"NEBULA_ROOT": "/srv/staging"}, {}),
        ({"front": FRONT}, {"NEBULA_FRONTEND_USER": "somebody"}, {}),
        ({"front": FRONT}, {"NEBULA_FRONTEND_KEY_FILE": "/somebodys"}, {}),
        ({"front": FRONT}, {"NEBULA_FRONTEND_BECOME": "true"}, {}),
        ({"front": FRONT}, {"ANSIBLE_REMOTE_USER": "somebody"}, {}),
        ({"front": FRONT}, {"ANSIBLE_SSH_ARGS": "-F /elsewhere"}, {}),
        ({"front": FRONT}, {"HOME": "/home/somebody"}, {}),
        ({"front": FRONT}, {}, {"connection": {"ansible_host": "192.0.2.9"}}),
        ({"front": FRONT}, {}, {"root": "/srv/staging"}),
    ],
)  # fmt: skip
def test_what_was_read_of_one_catalog_or_as_one_user_is_not_taken_for_another(
    read: Read, monkeypatch: pytest.MonkeyPatch, hosts: Any, environment: dict[str, str], options: dict[str, Any]
) -> None:
    """All by one file, as where it is given beside the inventories of two sites, or with two credentials of AWX."""
    kept = {"cache": True, "cache_plugin": "jsonfile", "cache_connection": str(read.place / "cache")}
    read.parse({"front": FRONT}, **kept)
    with monkeypatch.context() as patch:
        for key, value in environment.items():
            patch.setenv(key, value)
        read.info = {"catalog": "d", "networks": [], "vms": [{**WEB, "name": "staging-web", "host": ""}]}
        assert {*read.parse(hosts, **kept, **options).hosts} == {*hosts, "staging-web"}
        assert {*read.parse(hosts, **kept, **options).hosts} == {*hosts, "staging-web"}
    assert {*read.parse({"front": FRONT}, **kept).hosts} == {"front", "web", "bare"}
    assert len(read.calls) == 2, "each was read once"


def test_what_decides_nothing_of_what_is_read_makes_no_second_question(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {"cache": True, "cache_plugin": "jsonfile", "cache_connection": str(read.place / "cache")}
    read.parse({"front": {**FRONT, "ansible_password": "a"}}, **kept)
    monkeypatch.setenv("NEBULA_FRONTEND_BECOME_PASSWORD", "a")
    # A name of a file from which a password could be guessed is readable to many.
    read.parse({"front": {**FRONT, "ansible_password": "b"}}, **kept, jump="never", timeout=5)
    assert len(read.calls) == 1


def test_what_it_prints_is_one_line_that_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[str] = []

    def refuse(*_asked: Any) -> None:
        raise AnsibleError("a\x9b2J\u202e\nok: [kvm1]")

    plugin = loaded()
    plugin.display = SimpleNamespace(warning=printed.append)
    plugin.inventory, plugin.loader, plugin._source, plugin._nodes = InventoryData(), None, "x.nebula.yml", {}
    plugin.inventory.add_host("kvm1")
    monkeypatch.setattr(nebula, "connection_variables", refuse)
    assert plugin._node_variables("kvm1") is None
    (text,) = printed
    assert text.isprintable() and r"a\x9b2J\u202e ok: [kvm1]" in text


def test_the_error_that_ends_it_is_one_line_that_prints(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_asked: Any) -> None:
        raise catalog_reader.CatalogNotRead("a\x9b2J\u202e\nok: [kvm1]")

    monkeypatch.setattr(catalog_reader, "read", refuse)
    with pytest.raises(AnsibleError) as caught:
        read.parse({"front": {}})
    assert str(caught.value).isprintable() and r"a\x9b2J\u202e ok: [kvm1]" in str(caught.value)
