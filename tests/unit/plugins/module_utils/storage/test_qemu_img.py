# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How disks are named to QEMU's programs, and that nobody passes the door by."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import NoSpace
from ansible_collections.nebula.provision.plugins.module_utils.host import sandbox
from ansible_collections.nebula.provision.plugins.module_utils.host.command import Completed
from ansible_collections.nebula.provision.plugins.module_utils.host.sandbox import NEW, READ, WRITE
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.storage import qemu_img
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.storage.conftest import write_qcow2 as write

PLUGINS = Path(__file__).resolve().parents[5] / "plugins"


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/x/disk.0", "/x/a,b:c d", '/x/"\u00e4\\'])
def test_each_file_of_a_chain_is_named_whatever_it_is_called(path):
    """Nothing in a name means anything to QEMU then."""
    named = qemu_img.block_node(DiskFiles(path, "qcow2", (("/x/1", "qcow2"), ("/x/2", "raw"))))
    assert named.startswith("json:")
    found = json.loads(named[5:])
    assert found["file"] == {"driver": "file", "filename": path}
    assert [found["driver"], found["backing"]["driver"], found["backing"]["backing"]["driver"]] == [
        "qcow2", "qcow2", "raw",
    ]  # fmt: skip
    assert json.loads(qemu_img.block_node(DiskFiles(path, "qcow2"))[5:])["backing"] is None
    assert "backing" not in json.loads(qemu_img.block_node(DiskFiles(path, "raw"))[5:])
    assert json.loads(qemu_img.block_node(DiskFiles(path, "qcow2"), key="k")[5:])["encrypt"] == {"key-secret": "key"}


@pytest.fixture
def told(monkeypatch):
    """What the sandbox is asked for: the words, and what is done with which file."""
    calls = []

    def run(argv, files, **options):
        calls.append((argv, files, options))
        return Completed(argv, 0, "", "", 0.1)

    monkeypatch.setattr(sandbox, "run", run)
    return calls


def test_tables_that_could_not_be_written_are_a_failure(monkeypatch, tmp_path):
    """QEMU's programs print it when they close the file, and end as if all were well."""
    text = "qemu-img: Failed to flush the refcount block cache: No space left on device\n"
    monkeypatch.setattr(sandbox, "run", lambda argv, *_files, **_options: Completed(argv, 0, "", text, 0.1))
    disk = DiskFiles(str(write(tmp_path / "disk")), "qcow2")
    with pytest.raises(NoSpace):
        qemu_img.run("resize", disk=disk, use=WRITE, after=["1G"])
    with pytest.raises(NoSpace):
        qemu_img.run_program("qemu-img", "convert", files={})
    with pytest.raises(NoSpace):
        qemu_img.run_on_node("convert", path=disk.path, node={})
    assert qemu_img.run("resize", disk=disk, use=WRITE, after=["1G"], check=False).returncode == 1


def test_a_sandbox_has_the_files_of_the_chain_and_no_others(told, tmp_path):
    base = write(tmp_path / "base")
    disk = write(tmp_path / "disk", backing=str(base))
    (tmp_path / "link").symlink_to(base)
    files = DiskFiles(str(disk), "qcow2", ((str(tmp_path / "link"), "qcow2"),))
    new = str(tmp_path / "new")
    qemu_img.run("convert", "-O", "raw", disk=files, new=new)
    qemu_img.run("commit", disk=files, use=WRITE, write_below=True)
    qemu_img.run("info", disk=files, open_below=False)
    qemu_img.run("resize", disk=files, use=WRITE, after=["1G"])
    assert [found for _argv, found, _options in told] == [
        {str(base): READ, str(disk): READ, new: NEW},
        {str(base): WRITE, str(disk): WRITE},
        {str(disk): READ},
        {str(base): READ, str(disk): WRITE},
    ]
    assert [argv[-1] for argv, _found, _options in told][::3] == [new, "1G"]
    assert all(options["memory"] and options["cpu"] and options["timeout"] for _argv, _found, options in told)


def test_a_key_is_no_argument(told, tmp_path):
    disk = write(tmp_path / "disk", crypt=2)
    qemu_img.run("resize", disk=DiskFiles(str(disk), "qcow2"), key="passphrase", closed=True)
    ((argv, _files, options),) = told
    assert options["input"] == "passphrase" and not any("passphrase" in word for word in argv)
    assert argv[2:4] == list(qemu_img.KEY)


# -- everybody goes through it ---------------------------------------------------------------------------------------

# Where each of these programs may be started: what opens disks there looks at their headers before.
STARTED_IN = {
    "qemu-img": {"module_utils/storage/qemu_img.py"},
    # The latter opens a container that is none of a machine's disks, in a sandbox.
    "qemu-nbd": {
        "module_utils/guest_disk/open/nbd.py",
        "module_utils/storage/disk_exports.py",
        "module_utils/storage/luks_stream.py",
    },
    "qemu-storage-daemon": {"module_utils/guest_disk/open/kernel_mount.py"},
    # In the former it is asked for its QEMU, and opens nothing.
    "guestfish": {"module_utils/guest_disk/open/appliance_qemu.py", "module_utils/guest_disk/open/guestfish.py"},
    "qemu-io": {"module_utils/storage/qemu_img.py"},
}


def started(path: Path) -> set[str]:
    """The words of all lists that the file writes down, and what it gives a name to."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    found = [each for node in nodes if isinstance(node, ast.List) for each in node.elts]
    found += [node.value for node in nodes if isinstance(node, ast.Assign)]
    return {each.value for each in found if isinstance(each, ast.Constant) and isinstance(each.value, str)}


@pytest.mark.parametrize("program", STARTED_IN)
def test_no_other_file_starts_a_program_that_opens_disks(program):
    found = {str(path.relative_to(PLUGINS)) for path in sorted(PLUGINS.rglob("*.py")) if program in started(path)}
    assert found == STARTED_IN[program]
