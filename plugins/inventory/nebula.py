# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: nebula
short_description: Virtual machines of the catalog as hosts
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Reads the catalog on the front-end, and makes a host of each virtual machine.
  - The name of the file has to end in C(nebula.yml) or C(nebula.yaml).
  - Each host has the variable C(nebula_machine) with all that M(nebula.provision.nebula_info) returns of the machine,
    with C(networks) and C(images), the names of those that it uses, and with C(catalog), the catalog's UUID. Values of
    contexts and of secret attributes are not among it.
  - C(nebula_guest_node) of a host is what connection plugin P(nebula.provision.guest#connection) needs.
  - C(ansible_host) is the machine's address. A machine without one is a host all the same, without C(ansible_host).
  - Each host is in group C(nebula_machines), and in groups such as C(host_node1), C(network_Public), C(template_web),
    C(state_RUNNING), C(label_production) and C(image_debian).
  - States are those of the last run that looked. Nothing is asked of the nodes.
extends_documentation_fragment:
  - constructed
  - inventory_cache
options:
  plugin:
    description: Name of this plugin.
    type: str
    required: true
    choices: [nebula.provision.nebula]
  frontend:
    description:
      - The host that has the catalog. It is a host of the inventory sources that were read before this one, or any
        other name or address.
      - By default it is the host of group C(nebula_frontend). Where there is no such group, it is this machine itself.
    type: str
    env:
      - name: NEBULA_FRONTEND
  connection:
    description:
      - Ansible's variables by which the front-end is reached, such as C(ansible_host), C(ansible_user),
        C(ansible_ssh_private_key_file) and C(ansible_become). They may be templates. What the inventory has for it is
        taken where this option has nothing.
    type: dict
    default: {}
  user:
    description: The user that logs in to the front-end. It is the same as C(ansible_user) in O(connection).
    type: str
    env:
      - name: NEBULA_FRONTEND_USER
  private_key_file:
    description: Path of the user's ssh key. It is the same as C(ansible_ssh_private_key_file) in O(connection).
    type: path
    env:
      - name: NEBULA_FRONTEND_KEY_FILE
  become:
    description: Whether the user has to become root. It is the same as C(ansible_become) in O(connection).
    type: bool
    env:
      - name: NEBULA_FRONTEND_BECOME
  become_password:
    description: The password for that. It is the same as C(ansible_become_password) in O(connection).
    type: str
    env:
      - name: NEBULA_FRONTEND_BECOME_PASSWORD
  host_key_checking:
    description:
      - Whether the host key of the front-end has to be known. It is the same as C(ansible_host_key_checking) in
        O(connection).
    type: bool
    env:
      - name: NEBULA_FRONTEND_HOST_KEY_CHECKING
  root:
    description:
      - Directory on the front-end below which everything of this collection lies.
      - By default it is C(nebula_root) of the front-end, and C(/var/lib/nebula) where that is not set.
    type: path
    env:
      - name: NEBULA_ROOT
  timeout:
    description: How many seconds reading the catalog may take.
    type: int
    default: 60
  networks:
    description:
      - By which networks the machines are reached. The first one on which a machine has an address counts. Each is a
        name, or a pattern such as V(management-*).
      - A machine that has no address on any of them is reached by its first one.
    type: list
    elements: str
    default: []
  families:
    description: Whether IPv4 or IPv6 addresses are preferred. What is not listed is not used.
    type: list
    elements: str
    choices: [ip, ip6]
    default: [ip, ip6]
  jump:
    description:
      - Whether a machine is reached by way of its node. C(ansible_ssh_common_args) of the host has what ssh needs for
        that. How the node is reached is taken from the node's variables in the inventory.
      - V(auto) does it on networks that have O(nebula.provision.nebula_network#module:nat) or
        O(nebula.provision.nebula_network#module:gateway_on_bridge). No other host has a route to their addresses.
      - Where the node has a local connection, nothing is jumped over.
    type: str
    choices: [auto, always, never]
    default: auto
  jump_networks:
    description: Further networks whose machines are reached by way of their node. Each is a name or a pattern.
    type: list
    elements: str
    default: []
  group_by:
    description: By what groups are made without O(keyed_groups).
    type: list
    elements: str
    choices: [host, network, template, state, label, image]
    default: [host, network, template, state, label, image]
  filters:
    description: Jinja conditions about C(nebula_machine). Only machines for which all are true become hosts.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
# machines.nebula.yml, beside the file with groups nebula_frontend and nebula_nodes: nothing else is needed.
plugin: nebula.provision.nebula

---
# The catalog is on another host, and machines are reached by the management network.
plugin: nebula.provision.nebula
frontend: one.example.org
connection:
  ansible_user: operator
  ansible_become: true
networks: [management, "*"]
filters:
  - nebula_machine.state == 'RUNNING'
keyed_groups:
  # ROLE is an attribute of templates.
  - key: nebula_machine.attributes.ROLE | default('')
    prefix: role
compose:
  ansible_user: "'debian'"
groups:
  in_trouble: nebula_machine.error | length > 0
"""

import re
import sys
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleError, AnsibleParserError, AnsibleUndefinedVariable
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable

from ansible_collections.nebula.provision.plugins.module_utils.model.defaults import ROOT
from ansible_collections.nebula.provision.plugins.module_utils.printable import ONE_LINE, printable
from ansible_collections.nebula.provision.plugins.plugin_utils import catalog_reader, payloads
from ansible_collections.nebula.provision.plugins.plugin_utils.connection_variables import (
    connection_variables,
    filled_in,
)
from ansible_collections.nebula.provision.plugins.plugin_utils.inventory_hosts import (
    MACHINE,
    Choice,
    MachineHost,
    NoCatalog,
    hosts_of,
)
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Judged, as_template, for_inventory
from ansible_collections.nebula.provision.plugins.plugin_utils.ssh_through_node import JUMP_VARIABLES

# How a machine's node is reached, for connection plugin guest. It is filled in where it is used: it may hold passwords.
NODE = as_template(
    "{{ hostvars[nebula_machine.host | default('')] | default({}) | nebula.provision.connection_variables }}"
)
GROUP = "nebula_machines"
# Of a node in no inventory. None that means the control node itself, or has a user.
_HOST_NAME = re.compile(r"(?!localhost(?:\.|\Z)|127\.|0\.)[A-Za-z0-9][A-Za-z0-9.-]{0,252}")
FRONTEND_GROUP = "nebula_frontend"
GATHERED = ("networks", "vms")
# Options that are variables of the front-end's connection.
VARIABLES = {
    "user": "ansible_user",
    "private_key_file": "ansible_ssh_private_key_file",
    "become": "ansible_become",
    "become_password": "ansible_become_password",
    "host_key_checking": "ansible_host_key_checking",
}


def _refusal(text: str) -> AnsibleParserError:
    """Return the error that ends the inventory, as one line: the front-end's answer may be in it."""
    return AnsibleParserError(printable(text, ONE_LINE))


class InventoryModule(BaseInventoryPlugin, Cacheable, Constructable):
    NAME = "nebula.provision.nebula"

    def verify_file(self, path: str) -> bool:
        return bool(super().verify_file(path)) and path.endswith(("nebula.yml", "nebula.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        self._source = path
        self._read_config_data(path)
        choice = Choice(
            networks=self.get_option("networks"),
            families=self.get_option("families"),
            jump=self.get_option("jump"),
            jump_networks=self.get_option("jump_networks"),
            group_by=self.get_option("group_by"),
        )
        self._nodes: dict[str, Mapping[str, Any] | None] = {}
        self._groups: dict[str, str] = {}
        taken = {*inventory.hosts, *inventory.groups, GROUP}
        try:
            found = hosts_of(self._info(path, cache), choice, taken, self._node_variables)
        except NoCatalog as error:
            raise _refusal(f"{path}: what the front-end answers is no catalog: {error}") from None
        judged = Judged()
        for host in found:
            for note in host.notes:
                self._warn(f"{path}: {note}")
            self._add(host, for_inventory(dict(host.variables), judged))

    def _warn(self, text: str) -> None:
        # Names of machines, values of variables and answers of the front-end are in it.
        self.display.warning(printable(text, ONE_LINE))

    def _add(self, host: MachineHost, variables: dict[str, Any]) -> None:
        if not self._wanted(variables):
            return
        self.inventory.add_host(host.name)
        self.inventory.add_child(self._group(GROUP), host.name)
        for key, value in variables.items():
            if key == MACHINE:
                # Since ansible-core 2.19 the inventory's set_variable copies each value, and marks it with its source.
                self.inventory.get_host(host.name).set_variable(key, value)
            else:
                self.inventory.set_variable(host.name, key, value)
        if variables["nebula_machine"]["host"]:
            self.inventory.set_variable(host.name, "nebula_guest_node", NODE)
        for group in host.groups:
            self.inventory.add_child(self._group(group), host.name)
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), variables, host.name, strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, host.name, strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, host.name, strict)

    def _group(self, wanted: str) -> str:
        """Return the name under which the inventory has the group, which it has from now on."""
        if wanted not in self._groups:
            self._groups[wanted] = self.inventory.add_group(self._sanitize_group_name(wanted))
        return self._groups[wanted]

    def _wanted(self, variables: Mapping[str, Any]) -> bool:
        self.templar.available_variables = variables
        for condition in self.get_option("filters"):
            try:
                if not self._is_true(condition):
                    return False
            except AnsibleUndefinedVariable:
                if self.get_option("strict"):
                    raise
                # What a machine does not have fulfils no condition about it.
                return False
            except AnsibleError as error:
                raise _refusal(f"{self._source}: filter {condition!r} is no condition: {error}") from None
        return True

    def _is_true(self, condition: str) -> bool:
        if hasattr(self.templar, "evaluate_conditional"):
            return bool(self.templar.evaluate_conditional(condition))
        # ansible-core before 2.19
        return bool(self.templar.template(f"{{% if {condition} %}}true{{% endif %}}", disable_lookups=False))

    def _info(self, path: str, cache: bool) -> dict[str, Any]:
        """Return what the front-end has, or had when the cache was written."""
        name, variables, options = self._asked(path)
        key = f"{self.get_cache_key(path)}_{catalog_reader.digest(path, name, variables, options)}"
        if cache and self.get_option("cache"):
            try:
                cached: dict[str, Any] = self._cache[key]
                return cached
            except KeyError:
                pass
        info = self._read(path, name, variables, options)
        if self.get_option("cache"):
            self._cache[key] = info
        return info

    def _asked(self, path: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """Return which host is asked, the variables by which it is reached, and the options of nebula_info."""
        name = self._frontend()
        try:
            variables = self._connection(path, name)
        except AnsibleError as error:
            raise _refusal(
                f"{path}: a variable that says how the front-end {name} is reached can't be filled in: {error}. "
                "Correct it, or give its value in option connection"
            ) from None
        root, engine = variables.pop("nebula_root", None), variables.pop("nebula_engine", None)
        given = {"root": self.get_option("root") or root, "engine": engine}
        return name, variables, {option: value for option, value in given.items() if value}

    def _read(self, path: str, name: str, variables: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        payloads.bring_payloads()
        try:
            info = catalog_reader.read(name, variables, GATHERED, options, self.get_option("timeout"))
        except catalog_reader.CatalogNotRead as error:
            raise _refusal(
                f"{path}: the catalog can't be read on the front-end {name}: {error}. Options frontend and connection "
                f"say which host it is and how it is reached"
            ) from None
        if not info["catalog"] and self._is_assumed():
            raise _refusal(
                f"{path}: there is no catalog on this machine, and nothing names the front-end. Name it in "
                f"option frontend or in NEBULA_FRONTEND, or read the inventory with group {FRONTEND_GROUP} before "
                "this one"
            )
        if not info["catalog"]:
            self._warn(
                f"{path}: there is no catalog in {options.get('root', ROOT)} on the front-end {name}, so there are no "
                "machines. If it is in another directory, name that in option root"
            )
        return info

    def _frontend(self) -> str:
        if self.get_option("frontend"):
            return str(self.get_option("frontend"))
        group = self.inventory.groups.get(FRONTEND_GROUP)
        hosts = group.get_hosts() if group else []
        if len(hosts) > 1:
            names = ", ".join(host.name for host in hosts)
            raise _refusal(
                f"group {FRONTEND_GROUP} has {len(hosts)} hosts ({names}): name the front-end in option frontend"
            )
        return str(hosts[0].name) if hosts else "localhost"

    def _is_assumed(self) -> bool:
        group = self.inventory.groups.get(FRONTEND_GROUP)
        return not self.get_option("frontend") and not (group and group.get_hosts())

    def _connection(self, path: str, name: str) -> dict[str, Any]:
        variables = connection_variables(self.inventory, self.loader, path, name)
        if not variables and name == "localhost":
            # As Ansible has it for a localhost that no inventory names.
            variables = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        given = {VARIABLES[option]: self.get_option(option) for option in VARIABLES}
        variables.update({key: value for key, value in given.items() if value is not None})
        return {**variables, **filled_in(self.loader, self.get_option("connection"), variables)}

    def _node_variables(self, host: str) -> Mapping[str, Any] | None:
        # Its name is the front-end's word, and ssh would go wherever it leads. Only where no inventory came before, as
        # in AWX, there is nothing that it can be looked up in.
        known = host in self.inventory.hosts if self.inventory.hosts else _HOST_NAME.fullmatch(host)
        if host not in self._nodes and not known:
            self._warn(
                f"{self._source}: machines on node {host} are not reached by way of it, since the inventory before "
                "this source has no such host"
            )
            self._nodes[host] = None
        if host not in self._nodes:
            try:
                self._nodes[host] = connection_variables(
                    self.inventory, self.loader, self._source, host, JUMP_VARIABLES
                )
            except AnsibleError as error:
                self._warn(
                    f"{self._source}: machines on node {host} are not reached by way of it, since one of its variables "
                    f"can't be filled in: {error}"
                )
                self._nodes[host] = None
        return self._nodes[host]
