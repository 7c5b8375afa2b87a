# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A command that is handed on is one of a driver's, about the domain that it is told with."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.answers.admin_commands import is_ours
from ansible_collections.nebula.provision.plugins.module_utils.model.audit import Domain

UUID = "5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d01"
OWN = Domain("one-3", "c", 3, UUID, "RUNNING")
ODD = Domain("a copy; curl x", "c", 3, UUID, "RUNNING")
NUMBER = Domain("100009", "c", 3, UUID, "RUNNING")


@pytest.mark.parametrize(
    ("domain", "command"),
    [
        (OWN, ""),
        (OWN, "virsh -c qemu:///system destroy one-3; virsh -c qemu:///system undefine --keep-nvram one-3"),
        (OWN, "virsh -c qemu:///system undefine --keep-nvram --keep-tpm one-3"),
        (OWN, f"virsh -c lxc:///system undefine {UUID}"),
        (OWN, "virsh -c qemu:///system autostart --disable one-3"),
        (OWN, f"virsh -c qemu:///system metadata {UUID} urn:nebula:provision:vm:1 --remove --config --live"),
        (OWN, f"xl destroy one-3; rm -f /etc/xen/one-3.cfg /var/log/xen/guest-one-3.log /run/x/{UUID}"),
        (OWN, "rm /etc/xen/auto/one-3.cfg"),
        (OWN, "ln -s /etc/xen/one-3.cfg /etc/xen/auto/one-3.cfg"),
        (OWN, "vzctl stop 100003 --fast; rm -f /etc/vz/conf/100003.conf /etc/vz/names/web"),
        (OWN, "vzctl set 100003 --onboot yes --save"),
        (ODD, f"virsh -c qemu:///system destroy {UUID}"),
        (NUMBER, "vzctl stop 100009 --fast; rm -f /etc/vz/conf/100009.conf"),
    ],
)
def test_commands_of_drivers(domain, command):
    assert is_ours(command, domain)


@pytest.mark.parametrize(
    ("domain", "command"),
    [
        (OWN, "virsh destroy one-4"),
        (OWN, "virsh destroy one-3 one-4"),
        (OWN, "virsh destroy --domain one-3"),
        (OWN, "virsh destroy"),
        (OWN, "virsh -c qemu+ssh://node1/system destroy one-3"),
        (OWN, "virsh shutdown one-3"),
        (OWN, "virsh undefine --remove-all-storage one-3"),
        (OWN, "xl destroy one-4"),
        (OWN, "xl destroy one-3 -f"),
        (OWN, "rm -f /etc/passwd"),
        (OWN, "rm -rf /"),
        (OWN, "rm -r /etc/xen/one-3.cfg"),
        (OWN, "rm -f /etc/../one-3.cfg"),
        (OWN, "rm"),
        (OWN, "ln -s /etc/shadow /etc/xen/auto/one-3.cfg"),
        (OWN, "vzctl destroy 100004"),
        (OWN, "vzctl exec 100003 id"),
        (OWN, "virsh destroy 'one-3'"),
        (OWN, "virsh destroy one-3;virsh destroy one-4"),
        (OWN, "virsh destroy one-3; curl x"),
        (ODD, "virsh destroy a copy; curl x"),
        (NUMBER, "virsh destroy 100009"),
        (Domain("--domain", "c", 3, "", "RUNNING"), "virsh destroy --domain"),
        (Domain("one-3\n", "c", 3, "", "RUNNING"), "virsh destroy one-3\n"),
    ],
)
def test_other_commands(domain, command):
    assert not is_ours(command, domain)
