# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a qcow2 file's header is refused."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ImageRefused
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.storage import qcow2_header
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.storage.conftest import write_qcow2 as write

BASE = "/var/lib/nebula/cache/uuid-0"


def over(image: str, driver: str = "file") -> str:
    return "json:" + json.dumps({"driver": "qcow2", "file": {"driver": driver, "filename": image}, "backing": None})


@pytest.mark.parametrize(
    ("changes", "below", "found"),
    [
        ({}, "", ""),
        ({}, BASE, ""),
        ({"incompatible": 0b11011}, "", ""),
        ({"incompatible": 4, "version": 2}, "", ""),
        ({"incompatible": 4}, "", "its content is in another file"),
        ({"incompatible": 4}, BASE, "its content is in another file"),
        ({"incompatible": 1 << 5}, "", "features which nobody knows (0x20)"),
        ({"incompatible": 1 << 63}, "", "features which nobody knows"),
        ({"crypt": 1}, "", "it is encrypted"),
        ({"crypt": 2}, "", "it is encrypted"),
        ({"version": 9}, "", "it is no qcow2 file"),
        ({"backing": BASE}, BASE, ""),
        ({"backing": f"/mnt/elsewhere{BASE}"}, BASE, ""),
        ({"backing": over(BASE)}, BASE, ""),
        ({"backing": "/etc/passwd"}, "", "by the catalog it rests on nothing"),
        ({"backing": "/etc/passwd"}, BASE, f"rests on '/etc/passwd', and by the catalog it rests on {BASE}"),
        ({"backing": "nbd://127.0.0.1:1/uuid-0"}, BASE, "rests on 'nbd://"),
        ({"backing": over(BASE, "host_device")}, BASE, "rests on"),
        ({"backing": "json:" + "[" * 600}, BASE, "rests on"),
        ({"backing": 'json:{"file": "nbd://x"}'}, BASE, "rests on"),
    ],
)  # fmt: skip
def test_a_header_says_nothing_but_what_the_catalog_knows(tmp_path, changes, below, found):
    disk = write(tmp_path / "disk", **changes)
    files = DiskFiles(str(disk), "qcow2", ((below, "raw"),) if below else ())
    if not found:
        qcow2_header.refuse_unexpected(files)
        return
    with pytest.raises(ImageRefused) as caught:
        qcow2_header.refuse_unexpected(files, "image web")
    assert caught.value.asked == "image web" and found in caught.value.found and str(disk) in caught.value.found


def test_what_is_encrypted_may_be_looked_at_and_what_is_broken_may_not(tmp_path):
    disk = write(tmp_path / "disk", crypt=2)
    qcow2_header.refuse_unexpected(DiskFiles(str(disk), "qcow2"), encrypted=True)
    write(disk, crypt=1)
    with pytest.raises(ImageRefused):
        qcow2_header.refuse_unexpected(DiskFiles(str(disk), "qcow2"), encrypted=True)


def test_each_file_of_a_chain_is_looked_at(tmp_path):
    base = write(tmp_path / "base", backing="/etc/passwd")
    disk = write(tmp_path / "disk", backing=str(base))
    with pytest.raises(ImageRefused, match=r"/base: it says that it rests on '/etc/passwd'"):
        qcow2_header.refuse_unexpected(DiskFiles(str(disk), "qcow2", ((str(base), "qcow2"),)))


def test_of_a_raw_disk_nothing_is_read(tmp_path):
    qcow2_header.refuse_unexpected(DiskFiles(str(write(tmp_path / "disk", backing="/etc/passwd")), "raw"))
    qcow2_header.refuse_data_file(str(write(tmp_path / "disk", incompatible=4)), "raw", "x")


def test_a_disk_that_is_cut_off_is_none(tmp_path):
    (tmp_path / "disk").write_bytes(b"QFI\xfb\0\0\0\3")
    with pytest.raises(ImageRefused, match="no qcow2 file"):
        qcow2_header.refuse_unexpected(DiskFiles(str(tmp_path / "disk"), "qcow2"))


def test_where_what_is_below_can_not_be_named_only_a_data_file_is_refused(tmp_path):
    qcow2_header.refuse_data_file(str(write(tmp_path / "disk", backing=BASE)), "qcow2", "x")
    with pytest.raises(ImageRefused, match="in another file"):
        qcow2_header.refuse_data_file(str(write(tmp_path / "disk", incompatible=4)), "qcow2", "x")


def test_an_encrypted_disk_may_be_given_to_programs_that_read_its_header_alone(tmp_path):
    qcow2_header.refuse_data_file(str(write(tmp_path / "disk", crypt=2)), "qcow2", "x")
