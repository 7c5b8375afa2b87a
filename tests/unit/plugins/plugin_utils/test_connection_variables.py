# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of a host, as far as they say how it is reached, out of an inventory that is still read."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.errors import AnsibleError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader

from ansible_collections.nebula.provision.plugins.plugin_utils.connection_variables import (
    connection_variables,
    filled_in,
)

try:
    from ansible.template import trust_as_template
except ImportError:
    # ansible-core before 2.19
    trust_as_template = str


def inventory() -> InventoryData:
    found = InventoryData()
    found.add_group("nodes")
    found.add_host("node1", "nodes")
    found.set_variable("node1", "ansible_host", trust_as_template("{{ prefix }}.1"))
    found.set_variable("node1", "prefix", "192.0.2")
    found.set_variable("nodes", "ansible_user", "of-the-group")
    found.set_variable("all", "ansible_port", 22)
    return found


def test_groups_and_files_count(tmp_path: Path) -> None:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars/nodes.yml").write_text("ansible_become: true\nnebula_root: /srv/{{ inventory_hostname }}\n")
    (tmp_path / "host_vars").mkdir()
    (tmp_path / "host_vars/node1.yml").write_text("ansible_user: of-the-file\nmine: hidden\n")
    source = str(tmp_path / "machines.nebula.yml")
    assert connection_variables(inventory(), DataLoader(), source, "node1") == {
        "ansible_host": "192.0.2.1",
        "ansible_user": "of-the-file",
        "ansible_port": 22,
        "ansible_become": True,
        "nebula_root": "/srv/node1",
    }
    assert connection_variables(inventory(), DataLoader(), source, "nobody") == {}


def test_a_host_has_the_files_beside_all_sources_and_group_all(tmp_path: Path) -> None:
    """As where the hosts are in a directory, and the machines in a file beside it."""
    place = tmp_path / "inventory"
    (place / "group_vars/all").mkdir(parents=True)
    (place / "group_vars/all/site.yml").write_text("ansible_user: of-all\nansible_become: true\n")
    found = inventory()
    del found.groups["nodes"].vars["ansible_user"]
    found.processed_sources.append(str(place))
    variables = connection_variables(found, DataLoader(), str(tmp_path / "machines.nebula.yml"), "node1")
    assert (variables["ansible_user"], variables["ansible_become"]) == ("of-all", True)


def test_only_what_is_wanted_is_filled_in(tmp_path: Path) -> None:
    found, source = inventory(), str(tmp_path / "machines.nebula.yml")
    found.set_variable("node1", "ansible_become_password", trust_as_template("{{ vault_password }}"))
    assert connection_variables(found, DataLoader(), source, "node1", ["ansible_port"]) == {"ansible_port": 22}
    with pytest.raises(AnsibleError):
        connection_variables(found, DataLoader(), source, "node1")


def test_what_is_missing_is_an_error() -> None:
    with pytest.raises(AnsibleError):
        filled_in(DataLoader(), {"ansible_host": trust_as_template("{{ nothing }}")}, {})
