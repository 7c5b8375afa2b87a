# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files for a machine's own disk: what a list may say of them, when they are read, and who sees them."""

from __future__ import annotations

import base64
import json
import zlib

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.context.context_downloads import download_context_file
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.decided_list import vm_items
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_results import vm_view
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.reconcile.vms.conftest import VM, failed

MOTD = {"path": "/etc/motd", "content": "geheim\n"}


def decide(engine, *items):
    def work():
        outcomes, _warnings = reconcile(engine, items)
        return outcomes, engine.vms.plans()

    return engine.decide(work, download_context_file)


def carry_out(engine, plans, state=""):
    with engine.session():
        for host, plan in plans.items():
            engine.vms.record(
                host, [VmOutcome(each.vm.vm_id, each.generation, state or each.wanted, True) for each in plan.vms]
            )


def test_files_travel_with_the_plan_that_makes_the_disk(engine, tmp_path):
    token = tmp_path / "token"
    token.write_bytes(b"t0k\xff")
    inject = [MOTD, {"path": "/opt/token", "src": str(token), "mode": "0400", "owner": 7, "group": "root"}]
    outcomes, plans = decide(engine, dict(VM, inject=inject, inject_via="guestfs"))
    assert failed(outcomes) == []
    plan = plans["node1"]
    disk = plan.vms[0].vm.disks[0]
    assert (disk.inject_via, disk.trusted) == ("guestfs", False)
    first, second = disk.inject
    assert (first.path, first.content, first.mode, first.uid) == ("/etc/motd", "geheim\n", -1, 0)
    assert (second.path, second.content, second.mode, second.uid, second.gid) == ("/opt/token", "", 0o400, 7, 0)
    (entry,) = plan.sources[str(token)].entries
    assert zlib.decompress(base64.b64decode(plan.contents[entry.sha256])) == b"t0k\xff"
    carry_out(engine, plans)
    # The disk is there: what it was made with need not be any more.
    token.unlink()
    assert decide(engine, dict(VM, inject=inject))[1] == {}
    _outcomes, plans = decide(engine, dict(VM, state="rebooted"))
    assert plans["node1"].sources == {}
    carry_out(engine, plans)
    # Other files are another disk, which is not made without being told so.
    other = dict(VM, inject=[dict(MOTD, content="anders\n")])
    outcomes, plans = decide(engine, other)
    assert plans == {}
    assert "recreate: true" in outcomes[0].differs[0]
    assert "INJECT" in outcomes[0].differs[0]
    assert not any(word in outcomes[0].differs[0] for word in ("geheim", "anders"))
    outcomes, plans = decide(engine, dict(other, recreate=True))
    assert plans["node1"].vms[0].vm.disks[0].inject[0].content == "anders\n"
    shown = json.dumps([vm_view(outcomes[0].after, "/r"), [item.after for item in vm_items(outcomes)]])
    assert "anders" not in shown


def test_a_machine_that_never_got_its_disk_is_sent_its_files_again(engine, tmp_path):
    token = tmp_path / "token"
    token.write_bytes(b"1")
    item = dict(VM, inject=[{"path": "/t", "src": str(token)}])
    carry_out(engine, decide(engine, item)[1], state="PROLOG_FAILURE")
    _outcomes, plans = decide(engine, dict(item, state="recovered"))
    assert list(plans["node1"].sources) == [str(token)]


def test_what_is_not_to_be_read_leaves_no_machine(engine, tmp_path):
    for src, says in (
        ("/etc/shadow", "restricted"),
        (str(tmp_path / "nosuch"), "nosuch"),
        (str(tmp_path / "place" / "nebula.db"), "nebula_root"),
    ):
        outcomes, plans = decide(engine, dict(VM, inject=[{"path": "/t", "src": src}]))
        assert says in failed(outcomes)[0]
        assert plans == {}
    assert engine.vms.pool() == []


@pytest.mark.parametrize(
    ("inject", "says"),
    [
        ("x", "Give a list"),
        (["x"], "Give a dict"),
        ([{"path": "/x", "contents": "y"}], "Did you mean 'content'?"),
        ([{"path": "etc/motd", "content": "x"}], "not an absolute path"),
        ([{"path": "/etc/../motd", "content": "x"}], "not an absolute path"),
        ([{"path": "/", "content": "x"}], "not an absolute path"),
        ([{"path": "//x", "content": "x"}], "not an absolute path"),
        ([{"path": "/etc/", "content": "x"}], "not an absolute path"),
        ([{"path": "/x"}], "neither CONTENT nor SRC"),
        ([{"path": "/x", "content": "", "src": "/y"}], "both CONTENT and SRC"),
        ([{"path": "/x", "content": "x", "mode": 420}], 'mode: "0644"'),
        ([{"path": "/x", "content": "x", "mode": "rw"}], "octal"),
        ([{"path": "/x", "content": "x", "owner": "www-data"}], "Give the number"),
        ([{"path": "/x", "content": "x", "disk": 5}], "there is no disk 5"),
        ([{"path": "/x", "content": "x", "partition": "/dev/vda1"}], "Give its number"),
        ([{"path": "/x", "content": "x"}, {"path": "/x", "content": "y"}], "twice"),
        ([{"path": "/x", "content": "x" * ((1 << 20) + 1)}], "SRC"),
    ],
)
def test_bad_entries_are_refused(engine, inject, says):
    outcomes, plans = decide(engine, dict(VM, inject=inject))
    assert says in failed(outcomes)[0]
    assert plans == {}


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ({"persistent": True}, "is persistent"),
        ({"luks_secret": "9a3f5d0e-6a2f-4a57-8f2e-0d5d6f3f8a11"}, "is encrypted"),
    ],
)
def test_only_a_disk_of_the_machines_own_takes_files(engine, image, says):
    with engine.session():
        engine.images.update("demo", **image)
    outcomes, _plans = decide(engine, dict(VM, inject=[MOTD]))
    assert says in failed(outcomes)[0]
    outcomes, _plans = decide(engine, dict(VM, name="v", disks=[{"TYPE": "fs", "SIZE": 1}, {"IMAGE": "demo"}], inject=[
        dict(MOTD, disk=0)
    ]))  # fmt: skip
    assert "it is empty" in failed(outcomes)[0]


EMPTY = {"TYPE": "fs", "SIZE": 64, "FS": "ext4"}


def test_a_disk_that_is_made_with_a_file_system_takes_files(engine):
    files = [dict(MOTD, disk=1), {"path": "/seed", "content": "x", "disk": 1, "partition": 0}, MOTD]
    outcomes, plans = decide(engine, dict(VM, disks=[{"IMAGE": "demo"}, EMPTY], inject=files))
    assert failed(outcomes) == []
    root, empty = plans["node1"].vms[0].vm.disks
    assert [(entry.path, entry.partition) for entry in root.inject] == [("/etc/motd", "")]
    # It has nothing else, and no operating system to look for.
    assert [(entry.path, entry.partition) for entry in empty.inject] == [("/etc/motd", "0"), ("/seed", "0")]


@pytest.mark.parametrize(
    ("disk", "entries", "says"),
    [
        ({"FS": ""}, [{}], "it is empty, and gets no file system. Have one made: TYPE = fs, FS = ext4"),
        ({"TYPE": "swap", "FS": ""}, [{}], "it is swap space"),
        ({"FS": "swap"}, [{}], "it is swap space"),
        ({"READONLY": "YES"}, [{}], "nothing is written to it"),
        ({}, [{"partition": 1}], "PARTITION = 1: the disk is made with one file system and no partitions"),
        ({}, [{"partition": "LABEL=x"}], "PARTITION = LABEL=x: the disk is made with one file system"),
        ({}, [{}, {"partition": 0}], "it is there twice"),
    ],
)
def test_what_a_disk_that_is_made_empty_does_not_take(engine, disk, entries, says):
    files = [{"path": "/seed", "content": "x", "disk": 1, **entry} for entry in entries]
    outcomes, plans = decide(engine, dict(VM, disks=[{"IMAGE": "demo"}, {**EMPTY, **disk}], inject=files))
    assert says in failed(outcomes)[0] and "DISK 1: INJECT: PATH = /seed" in failed(outcomes)[0]
    assert plans == {}


def test_the_disk_that_boots_takes_them_and_an_image_is_trusted_by_its_attribute(engine):
    with engine.session():
        image = engine.images.allocate(Image(None, "own", type=ImageType.OS, attributes={"TRUSTED": "yes"}))
        engine.images.update(image.id, state=ImageState.READY, size=16, format="qcow2")
    item = dict(VM, disks=[{"TYPE": "swap", "SIZE": 1}, {"IMAGE": "own"}], inject=[MOTD])
    _outcomes, plans = decide(engine, item)
    disks = plans["node1"].vms[0].vm.disks
    assert (len(disks[0].inject), len(disks[1].inject), disks[1].trusted) == (0, 1, True)
    assert disks[1].inject_via == "auto"
