# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Of a host's variables those by which it is reached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.nebula.provision.plugins.filter.connection_variables import FilterModule

reaching = FilterModule().filters()["connection_variables"]
WANTED = {
    "inventory_hostname": "kvm1",
    "ansible_host": "192.0.2.1",
    "ansible_port": 22,
    "ansible_user": "operator",
    "ansible_password": "x",
    "ansible_connection": "ssh",
    "ansible_become": True,
    "ansible_become_password": "x",
    "ansible_ssh_common_args": "-o X=y",
    "ansible_ssh_private_key_file": "/key",
    "ansible_private_key_file": "/key",
    "ansible_host_key_checking": False,
    "ansible_python_interpreter": "/usr/bin/python3",
    "ansible_control_path_dir": "/run",
}
OTHERS = ("ansible_facts", "ansible_hostname", "ansible_all_ipv4_addresses", "nebula_images", "ansible_ssh", "host")


class Lazy(Mapping[str, Any]):
    """As hostvars: what is asked for is evaluated, and that of the others fails."""

    def __getitem__(self, key: str) -> Any:
        return WANTED[key]

    def __iter__(self) -> Iterator[str]:
        return iter((*WANTED, *OTHERS))

    def __len__(self) -> int:
        return len(WANTED) + len(OTHERS)


def test_only_those_by_which_a_host_is_reached_are_evaluated() -> None:
    assert reaching(Lazy()) == WANTED
    assert reaching({}) == {}
