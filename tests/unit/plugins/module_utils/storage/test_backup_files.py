# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How files of backups are named to QEMU, and what it says is taken. tests/integration/test_backup_chains.py has the
real programs."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    ChecksumMismatch,
    InvalidValue,
    NebulaError,
    NoSpace,
    StorageFailed,
)
from ansible_collections.nebula.provision.plugins.module_utils.host.command import Completed
from ansible_collections.nebula.provision.plugins.module_utils.storage import backup_files
from ansible_collections.nebula.provision.plugins.module_utils.storage.backup_files import ChainFile, NbdSource


def test_no_header_is_followed() -> None:
    chain = [ChainFile("/b/2.luks", "luks"), ChainFile("/b/1.luks", "luks")]
    node = backup_files.chain_node(chain)
    assert node["backing"]["backing"] is None
    assert node["file"]["file"]["filename"] == "/b/2.luks"
    assert node["backing"]["file"] == backup_files.container_node("/b/1.luks")
    assert backup_files.files_of(chain) == {"/b/2.luks": "read", "/b/1.luks": "read"}
    with pytest.raises(ValueError, match="a disk has a file"):
        backup_files.chain_node([])


def test_a_source_with_a_bitmap() -> None:
    source = NbdSource("/run/x.sock", "disk", 512, "b")
    assert source.node()["file"].get("x-dirty-bitmap") is None
    assert source.node(with_bitmap=True)["file"]["x-dirty-bitmap"] == "qemu:dirty-bitmap:b"
    with pytest.raises(ValueError, match="a bitmap lists"):
        backup_files.store_disk("/nowhere", "x", source, 512)


def test_a_map_is_read_or_refused() -> None:
    text = '[{"start": 0, "length": 512, "data": true}, {"start": 512, "length": 512, "data": false}]'
    assert list(backup_files.extents_of(text, 1024, "disk")) == [(0, 512, False), (512, 512, True)]
    for evil in ("", "[{}]", text.replace("512", "4096"), text.replace("0", "-1"), text.replace("512", '"1"')):
        with pytest.raises(StorageFailed, match="the map can't be read"):
            list(backup_files.extents_of(evil, 1024, "disk"))


@pytest.mark.parametrize(
    ("out", "err", "kind"),
    [
        ("", "qemu-img: Invalid password, cannot unlock any keyslot", InvalidValue),
        ("qemu-io> read failed: No space left on device\n", "", NoSpace),
        ("", "error while reading at byte 0: Input/output error", StorageFailed),
        ("", "something else", NebulaError),
    ],
)
def test_what_qemu_says(out: str, err: str, kind: type[NebulaError]) -> None:
    with pytest.raises(kind, match="disk of web"):
        backup_files.require_success(Completed(("qemu-io",), 1, out, err, 0.1), "disk of web")


def test_what_qemu_could_not_write_when_it_ended() -> None:
    def ended(err: str) -> Completed:
        return Completed(("qemu-img",), 0, "", err, 0.1)

    with pytest.raises(NoSpace, match="disk of web"):
        text = "qemu-img: Failed to flush the L2 table cache: No space left on device\n"
        backup_files.require_success(ended(text), "disk of web")
    with pytest.raises(NebulaError, match="something else"):
        backup_files.require_success(ended("qemu-img: something else\n"), "disk of web")
    # The loader of programs speaks there, too.
    backup_files.require_success(ended("ERROR: ld.so: object 'x.so' cannot be preloaded: ignored.\n"), "disk of web")
    backup_files.require_success(ended("qemu-img: warning: this is old\n\n"), "disk of web")


@pytest.mark.parametrize("together", [1, 8])
def test_reads_end_with_a_flush(together: int) -> None:
    *reads, last = backup_files._reads([(0, 3 << 20)], together)
    assert last == "flush\n" and sum("read" in each for each in reads) == 3


def test_sums(tmp_path: Path) -> None:
    path, content = tmp_path / "x", os.urandom(3_000_000)
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    assert backup_files.settled_digest(str(path)) == (len(content), digest)
    backup_files.refuse_altered_file(str(path), len(content), digest, "x")
    with pytest.raises(ChecksumMismatch, match="3000000 bytes, not 5"):
        backup_files.refuse_altered_file(str(path), 5, digest, "x")
    with pytest.raises(ChecksumMismatch, match=digest):
        backup_files.refuse_altered_file(str(path), len(content), "0" * 64, "x")
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(InvalidValue, match="link"):
        backup_files.settled_digest(str(link))
