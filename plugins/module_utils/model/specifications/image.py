# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists what an item of a list of images may say; made from image.yml by `make specifications`."""

from __future__ import annotations

from ..specification import Key

KEYS: dict[str, Key] = {
    "name": Key(required=True),
    "renamed_from": Key(near=("old_name", "formerly")),
    "clone_of": Key(changes="never", near=("copy_of",)),
    "from": Key(changes="never", near=("base", "based_on")),
    "packages": Key(type="list", elements="raw", option={"elements": "str"}, changes="never", packed=True, split=False),
    "files": Key(
        type="list",
        elements="raw",
        changes="never",
        packed=True,
        split=False,
        option={"type": "json", "no_log": True},
        options={
            "path": Key(required=True, near=("dest",)),
            "content": Key(),
            "content_base64": Key(),
            "src": Key(),
            "remote_src": Key(type="bool"),
            "mode": Key(type="raw"),
            "owner": Key(),
        },
    ),
    "commands": Key(type="list", elements="str", changes="never", packed=True, split=False),
    "path": Key(changes="never", packed=True, near=("url", "src", "file", "source")),
    "remote_src": Key(type="bool", default=False, changes="never"),
    "checksum": Key(changes="never", near=("sha256", "sha512", "md5", "sha1")),
    "member": Key(empty=True, changes="never", near=("disk", "member_name")),
    "type": Key(
        choices=("OS", "CDROM", "DATABLOCK", "KERNEL", "RAMDISK", "CONTEXT"), case="upper", empty=True, changes="unused"
    ),
    "persistent": Key(type="bool", changes="unused"),
    "size": Key(type="int", unit="MB", least=1, most=8796093022207, changes="rewrite"),
    "format": Key(choices=("raw", "qcow2", "tar"), case="lower", empty=True, changes="rewrite", near=("driver",)),
    "fs": Key(
        choices=("ext2", "ext3", "ext4", "vfat", "xfs", "swap"),
        empty=True,
        changes="never",
        near=("filesystem", "file_system"),
    ),
    "compress": Key(type="bool", default=False, changes="rewrite"),
    "sparse": Key(type="bool", default=False, changes="rewrite"),
    "snapshot_flatten": Key(type="bool", default=False, changes="rewrite"),
    "luks_secret": Key(option={"no_log": False}, changes="rewrite"),
    "luks_passphrase": Key(
        option={"no_log": True}, secret=True, packed=True, changes="rewrite", near=("passphrase", "password")
    ),
    "datastore": Key(changes="never"),
    "firmware": Key(choices=("BIOS", "UEFI", "UEFI_SECURE"), case="upper", empty=True, changes="always"),
    "bus": Key(choices=("virtio", "scsi", "sata", "ide"), case="lower", empty=True, changes="always"),
    "dev_prefix": Key(choices=("hd", "sd", "vd", "xvd"), empty=True, changes="always", near=("prefix",)),
    "target": Key(changes="always"),
    "description": Key(changes="always"),
    "attributes": Key(type="dict", changes="always"),
    "state": Key(choices=("present", "enabled", "disabled", "absent"), default="present", empty=True),
}
# What results show of one, in this order.
SHOWN = (
    "id",
    "name",
    "type",
    "state",
    "persistent",
    "size",
    "format",
    "sha256",
    "checksum",
    "source",
    "origin",
    "uuid",
    "generation",
    "dev_prefix",
    "target",
    "description",
    "attributes",
    "vms",
    "error",
    "datastore_id",
    "firmware",
    "bus",
    "luks_secret",
    "snapshots",
    "unfinished",
    "operation",
)
