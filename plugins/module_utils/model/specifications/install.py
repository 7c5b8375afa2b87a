# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists what an item of a list of installs may say; made from install.yml by `make specifications`."""

from __future__ import annotations

from ..specification import Key

KEYS: dict[str, Key] = {
    "name": Key(required=True, near=("image",)),
    "state": Key(choices=("present", "installed", "absent"), empty=True, default="present"),
    "iso": Key(type="raw"),
    "size": Key(type="int", unit="MB", least=1, most=1099511627776),
    "format": Key(choices=("raw", "qcow2"), empty=True, default="raw"),
    "template": Key(type="raw"),
    "template_file": Key(),
    "answers": Key(type="dict"),
    "firmware": Key(choices=("BIOS", "UEFI", "UEFI_SECURE"), case="upper", empty=True),
    "profile": Key(choices=("linux", "windows"), empty=True),
    "machine": Key(),
    "boot": Key(choices=("iso", "kernel"), empty=True),
    "kernel": Key(),
    "initrd": Key(),
    "kernel_cmd": Key(),
    "bus": Key(choices=("virtio", "scsi", "sata", "ide"), empty=True),
    "cdrom": Key(choices=("scsi", "sata", "ide"), empty=True),
    "drivers": Key(),
    "end": Key(type="raw"),
    "marker": Key(type="bool"),
    "timeout": Key(type="int", unit="seconds", least=1, most=604800, default=3600, near=("wait_timeout",)),
    "verify": Key(type="raw", default=True),
    "keep": Key(type="bool", default=False),
    "host": Key(),
}
