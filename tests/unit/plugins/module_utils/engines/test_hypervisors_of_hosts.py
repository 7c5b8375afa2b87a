# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hypervisors a list of hosts has."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.module_utils.engines.hypervisors_of_hosts import hypervisors_of
from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import (
    HostsPort,
)
from ansible_collections.nebula.provision.plugins.module_utils.model import hypervisor_rules
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host


def blank(port):
    """A port of which nobody has written anything yet: all that it has to have is there, and does nothing."""
    return type("Blank", (port,), dict.fromkeys(port.__abstractmethods__))


class Hosts(blank(HostsPort)):
    def __init__(self, *hosts):
        self.hosts = hosts

    def pool(self):
        return list(self.hosts)


def test_hypervisors_are_those_of_the_hosts_each_once_in_their_order():
    hosts = [Host(None, f"n{number}", hypervisor=name) for number, name in enumerate(("xen", "kvm", "xen"))]
    assert hypervisors_of(Hosts(*hosts)) == ("xen", "kvm")


def test_before_there_is_a_host_all_hypervisors_with_disks_may_come():
    found = hypervisors_of(Hosts())
    assert {"kvm", "xen"} <= set(found) < set(hypervisor_rules.RULES)
    # A machine that says nothing of it is none of a container's.
    assert "lxc" not in found
