# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where each way of transfer has the files of a machine, and what it says of those that are not here."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import NotFound, StorageFailed, Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import SAVE_AS, DiskTask, Plan, PlannedVm
from ansible_collections.nebula.provision.plugins.module_utils.model.transfer import (
    BASE,
    ENDED,
    METHODS,
    OWN,
    SAVED,
    SHARED,
    SSH,
    PlannedImage,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os, Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import node_image_files, transfer_methods

UUID = "5f0d1f0e-91c3-4d3f-8b58-0d1f0e2ac00"
DISK = PlannedImage(BASE, f"{UUID}1-0", "demo", "/front/disk", "0" * 64)
DATA = PlannedImage(OWN, f"{UUID}2-3", "data", "/front/data")
KERNEL = PlannedImage(BASE, f"{UUID}3-0", "kernel", "/front/kernel", "0" * 64)
NEW = PlannedImage(SAVED, f"{UUID}4-1", "new", "/front/new")


def machine(**values) -> Vm:
    disks = (
        Disk(0, "vda", image_id=1, image="demo", source="/front/disk"),
        Disk(1, "vdb", image_id=2, image="data", source="/front/data", clone=False),
        Disk(2, "vdc", type="FS"),
        Disk(3, "vdd", image_id=9, image="other", source="/elsewhere/disk"),
    )
    return Vm(7, "u", "web", "kvm", 1.0, 64, disks=disks, **values)


def ssh(root: Path, *images: PlannedImage) -> transfer_methods.Transfer:
    return transfer_methods.of_plan(str(root), Plan("catalog", 1, "host1", transfer=SSH, images=images))


# -- which way -------------------------------------------------------------------------------------------------------


def test_each_method_of_the_model_has_its_class():
    assert tuple(transfer_methods.METHODS) == METHODS
    assert type(transfer_methods.of_plan("/x", Plan("catalog", 1, "host1"))) is transfer_methods.Shared
    assert type(ssh(Path("/x"))) is transfer_methods.Ssh


def test_an_unknown_method_is_told_with_those_that_are_known():
    with pytest.raises(Unsupported) as caught:
        transfer_methods.of_plan("/x", Plan("catalog", 1, "host1", transfer="qcow"))
    assert str(caught.value) == "transfer method 'qcow': there is none of that name. Known are shared, ssh"


# -- datastores that are seen ----------------------------------------------------------------------------------------


def test_a_shared_image_is_where_its_link_leads(tmp_path):
    (tmp_path / "image").write_bytes(b"x")
    (tmp_path / "link").symlink_to("image")
    method = transfer_methods.of_plan(str(tmp_path), Plan("catalog", 1, "host1", transfer=SHARED))
    assert method.find(Disk(0, "vda", source=str(tmp_path / "link"))) == str(tmp_path / "image")


def test_a_shared_image_that_goes_meanwhile_is_told(tmp_path):
    """Machines that are to be made anew keep their disks then."""
    (tmp_path / "image").write_bytes(b"x")
    method = transfer_methods.of_plan(str(tmp_path), Plan("catalog", 1, "host1", transfer=SHARED))
    disk = Disk(0, "vda", source=str(tmp_path / "image"))
    assert method.find(disk) == method.find(disk)
    (tmp_path / "image").unlink()
    with pytest.raises(NotFound):
        method.find(disk)


@pytest.mark.parametrize("name", ["nowhere", "directory", "pipe"])
@pytest.mark.parametrize("type", ["FILE", "CDROM"])
def test_a_shared_image_that_is_no_file(tmp_path, name, type):
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    path = str(tmp_path / name)
    with pytest.raises(NotFound) as caught:
        transfer_methods.path_of_shared(Disk(0, "vda", type=type, image_id=0, image="demo", source=path))
    assert caught.value.asked == f"image demo (id 0): its file {path} on this node"
    assert (
        "Mount the front-end's datastores here" in caught.value.remedy and "nebula_transfer: ssh" in caught.value.remedy
    )


@pytest.mark.parametrize("path", ["/nowhere", "/dev/null", "/", __file__])
def test_what_is_no_drive(path):
    assert transfer_methods.is_drive(path) is False


def test_what_is_shared_stays_where_it_is_and_nothing_is_kept(tmp_path):
    method = transfer_methods.of_plan(str(tmp_path), Plan("catalog", 1, "host1", images=(DISK,)))
    planned = PlannedVm(machine(), 1, "RUNNING")
    assert method.localized(planned) is planned
    assert (method.take_in(), method.used(machine()), method.give_up("/x", None)) == (False, (), False)
    method.require(machine())
    method.saved("/x")
    method.prune(lambda: pytest.fail("nobody is to be asked"))
    assert os.listdir(tmp_path) == []


# -- files that are sent ---------------------------------------------------------------------------------------------


def test_a_machine_gets_the_paths_of_the_node(tmp_path):
    """What the plan does not send is left as it is."""
    task = DiskTask(SAVE_AS, "t", 0, target="/front/new")
    vm = machine(os=Os(kernel="/front/kernel", initrd="/boot/initrd"))
    found = ssh(tmp_path, DISK, DATA, KERNEL, NEW).localized(PlannedVm(vm, 3, "RUNNING", tasks=(task,)))
    cache = f"{tmp_path}/cache"
    assert [disk.source for disk in found.vm.disks] == [
        f"{cache}/{DISK.name}", f"{cache}/own-{DATA.name}", "", "/elsewhere/disk",
    ]  # fmt: skip
    assert (found.vm.os.kernel, found.vm.os.initrd) == (f"{cache}/{KERNEL.name}", "/boot/initrd")
    assert found.tasks[0].target == f"{tmp_path}/cache/.saving-{NEW.name}" and found.generation == 3


def test_what_a_machine_rests_on_is_told_once_and_in_order(tmp_path):
    method = ssh(tmp_path, DISK, DATA, KERNEL)
    planned = method.localized(PlannedVm(machine(os=Os(kernel="/front/kernel")), 1, "RUNNING"))
    assert method.used(planned.vm) == tuple(sorted((DISK.name, f"own-{DATA.name}", KERNEL.name)))
    # Before it is localized, it has the front-end's paths.
    assert method.used(machine()) == ()


def test_a_file_that_is_here_is_found_and_one_that_is_lost_is_told(tmp_path):
    method = ssh(tmp_path, DISK)
    disk = method.localized(PlannedVm(machine(), 1, "RUNNING")).vm.disks[0]
    with pytest.raises(NotFound, match=r"image demo \(id 1\) on this node: there is no .*Run again: it is sent again"):
        method.find(disk)
    (tmp_path / "cache").mkdir()
    Path(disk.source).write_bytes(b"x")
    assert method.find(disk) == disk.source


def test_why_a_file_did_not_come_is_told_of_each_machine_that_needs_it(tmp_path):
    for place in (node_image_files.CACHE, node_image_files.IN, node_image_files.OUT):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / node_image_files.IN / f"{DISK.name}.json").write_text(json.dumps({"size": 1, "sha256": "0" * 64}))
    (tmp_path / node_image_files.IN / DISK.name).write_bytes(b"x")
    method = ssh(tmp_path, DISK, KERNEL)
    assert method.take_in() is False
    planned = method.localized(PlannedVm(machine(os=Os(kernel="/front/kernel")), 1, "RUNNING"))
    with pytest.raises(StorageFailed, match="image demo on this node: 1 bytes came with SHA-256"):
        method.find(planned.vm.disks[0])
    with pytest.raises(NotFound, match="image kernel on this node: it did not come here"):
        method.require(planned.vm)
    method.require(method.localized(PlannedVm(machine(), 1, "RUNNING")).vm)


def test_a_machine_that_ended_gives_up_all_and_one_that_goes_on_what_it_needs_no_more(tmp_path, monkeypatch):
    """What happens to the files is shown of storage/node_image_files.py, which only root can do in full."""
    told = []
    monkeypatch.setattr(node_image_files, "return_files", lambda *arguments: bool(told.append(arguments)) or True)
    method = ssh(tmp_path, DISK, DATA)
    vm = method.localized(PlannedVm(machine(), 1, "RUNNING")).vm
    assert method.give_up("/vms/7", None) and method.give_up("/vms/7", vm, [1])
    assert told == [
        (str(tmp_path), "/vms/7", set(), None),
        (str(tmp_path), "/vms/7", {DISK.name, f"own-{DATA.name}"}, [1]),
    ]


def test_what_is_saved_is_fetched_from_a_node_that_does_not_share_it(tmp_path):
    places = [node_image_files.path_of(str(tmp_path), image) for image in (NEW, DATA)]
    assert [ssh(tmp_path, NEW, DATA).is_fetched(path) for path in (*places, "/elsewhere")] == [True, False, False]
    shared = transfer_methods.of_plan(str(tmp_path), Plan("catalog", 1, "host1", images=(NEW,)))
    assert not any(shared.is_fetched(path) for path in (*places, NEW.path))


def test_only_what_was_saved_is_handed_over(tmp_path, monkeypatch):
    """As above."""
    told = []
    monkeypatch.setattr(node_image_files, "hand_over_saved", lambda root, image: told.append((root, image)))
    method = ssh(tmp_path, NEW, PlannedImage(ENDED, f"{UUID}5-0", "old", "/front/old"), DISK)
    for path in (f"{tmp_path}/cache/.saving-{NEW.name}", f"{tmp_path}/cache/{DISK.name}", "/front/new"):
        method.saved(path)
    assert told == [(str(tmp_path), NEW)]
