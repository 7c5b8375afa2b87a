# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists what an item of a list of virtual machines may say; made from vm.yml by `make specifications`."""

from __future__ import annotations

from ..specification import Key

KEYS: dict[str, Key] = {
    "name": Key(required=True),
    "renamed_from": Key(),
    "count": Key(type="int", unit="machines", least=0, most=100000),
    "template": Key(),
    "state": Key(
        choices=("running", "poweroff", "suspended", "absent", "rebooted", "reset", "recovered", "migrated", "present"),
        empty=True,
        default="running",
    ),
    "context": Key(type="dict", option={"type": "json", "no_log": True}),
    "context_format": Key(choices=("opennebula", "configdrive", "nocloud")),
    "context_device": Key(choices=("cdrom", "disk")),
    "cpu": Key(type="float"),
    "vcpu": Key(type="int", near=("vcpus", "cpus")),
    "memory": Key(type="int", near=("ram", "mem")),
    "disks": Key(type="list", elements="dict", near=("disk",)),
    "nics": Key(type="list", elements="dict", near=("nic", "networks")),
    "nic_aliases": Key(type="list", elements="dict", near=("nic_alias", "aliases")),
    "save_as": Key(
        type="list",
        elements="dict",
        split=False,
        options={
            "disk": Key(type="int", least=0, default=0),
            "image": Key(required=True),
            "type": Key(choices=("OS", "DATABLOCK"), case="upper", empty=True),
            "description": Key(),
            "consistency": Key(choices=("agent", "crash"), default="agent"),
        },
    ),
    "disk_snapshots": Key(
        type="list",
        elements="dict",
        split=False,
        options={
            "disk": Key(type="int", least=0, default=0),
            "name": Key(required=True),
            "state": Key(choices=("present", "absent", "reverted"), default="present"),
        },
    ),
    "system_snapshots": Key(
        type="list",
        elements="dict",
        split=False,
        options={
            "name": Key(required=True),
            "state": Key(choices=("present", "absent", "reverted"), default="present"),
        },
    ),
    "inject": Key(type="list", elements="dict", option={"type": "json", "no_log": True}),
    "inject_via": Key(choices=("auto", "guestfs", "nbd", "loop")),
    "attributes": Key(type="dict", empty=True, option={"type": "json", "no_log": True}, near=("variables",)),
    "owner": Key(type="dict", option={"type": "json", "no_log": True}),
    "host": Key(),
    "move": Key(choices=("never", "live", "cold", "all"), near=("migrate", "migration")),
    "recreate": Key(type="bool", default=False),
    "hard": Key(type="bool", default=False),
    "shutdown_timeout": Key(type="int", default=120, unit="seconds", least=0, most=86400),
    "detach": Key(type="bool", default=False),
    "hotplug_slots": Key(type="int", least=0, most=64),
    "restart": Key(choices=("never", "rolling", "all")),
    "strict": Key(type="bool", default=False),
}
