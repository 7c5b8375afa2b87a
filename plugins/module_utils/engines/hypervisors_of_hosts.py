# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells which hypervisors the hosts of an engine have. It is no part of ports.py, which all modules need that ask an
engine: few need what is declared of each hypervisor."""

from __future__ import annotations

from ..model import hypervisor_rules
from ..model.disk import DISK_FORMATS
from .ports import HostsPort


def hypervisors_of(hosts: HostsPort) -> tuple[str, ...]:
    """Return what the hosts run; before there is any, all that they might, for machines with disks."""
    known = tuple(dict.fromkeys(host.hypervisor for host in hosts.pool()))
    return known or tuple(word for word, rule in hypervisor_rules.RULES.items() if rule.formats == DISK_FORMATS)
