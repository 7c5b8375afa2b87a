# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists what an item of a list of hosts may say; made from host.yml by `make specifications`."""

from __future__ import annotations

from ..specification import Key

KEYS: dict[str, Key] = {
    "name": Key(),
    "hypervisor": Key(
        choices=("kvm", "lxc", "openvz", "xen", "xen_libvirt"), option={"default": "kvm"}, changes="always"
    ),
    "memory": Key(type="int", unit="MiB", least=0, most=4294967296, changes="always"),
    "cpu": Key(type="float", unit="processors", least=0, most=1048576, changes="always"),
    "transfer": Key(choices=("shared", "ssh"), changes="unused"),
    "reserved_memory": Key(type="int", unit="MiB", least=0, changes="always"),
    "memory_overcommit": Key(type="float", changes="always"),
    "cpu_overcommit": Key(type="float", changes="always"),
    "overhead": Key(type="dict", changes="always"),
    "hardware": Key(type="dict", changes="always"),
    "attributes": Key(type="dict", changes="always"),
    "catalog": Key(),
    "mark": Key(),
    "machine_id": Key(),
    "renamed_from": Key(),
    "state": Key(choices=("present", "enabled", "disabled", "absent", "lost"), empty=True, default="present"),
    "gone": Key(type="bool", default=False),
}
