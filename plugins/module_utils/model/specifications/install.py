# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an item of a list of installs may say; made from install.yml by `make specifications`."""

from __future__ import annotations

from ..specification import Key

KEYS: dict[str, Key] = {
    "name": Key(required=True, near=("image",)),
    "state": Key(choices=("present", "installed", "absent"), default="present"),
    "iso": Key(type="raw"),
    "size": Key(type="int"),
    "format": Key(choices=("raw", "qcow2"), default="raw"),
    "template": Key(type="raw"),
    "template_file": Key(),
    "answers": Key(type="dict"),
    "firmware": Key(choices=("BIOS", "UEFI", "UEFI_SECURE")),
    "profile": Key(choices=("linux", "windows")),
    "machine": Key(),
    "boot": Key(choices=("iso", "kernel")),
    "kernel": Key(),
    "initrd": Key(),
    "kernel_cmd": Key(),
    "bus": Key(choices=("virtio", "scsi", "sata", "ide")),
    "cdrom": Key(choices=("scsi", "sata", "ide")),
    "drivers": Key(),
    "end": Key(type="raw"),
    "marker": Key(type="bool"),
    "timeout": Key(type="int", default=3600, near=("wait_timeout",)),
    "verify": Key(type="raw", default=True),
    "keep": Key(type="bool", default=False),
    "host": Key(),
}
