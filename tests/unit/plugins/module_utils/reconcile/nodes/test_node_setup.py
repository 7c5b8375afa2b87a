# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node made ready and given back, with a hypervisor that runs nothing: what is foreseen, refused, kept and removed.

Which hypervisors there are, and where the host's lock lies, is set by monkeypatch: the first are this host's, the
second is root's."""

from __future__ import annotations

import json
import os
import stat
import sys
from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    ForeignObject,
    HypervisorError,
    InUse,
    InvalidValue,
    MissingDependency,
    Unsupported,
)
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import registry
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Driver, Survey
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import ObservedVm
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.nodes import node_setup

CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
OTHER = "11111111-8c55-4b0e-9d6a-2f1f3c7d9a10"
SECRET = {"uuid": "aaaaaaaa-1111-4111-8111-111111111111", "passphrase": "correct horse"}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="a node's directories are root's")


class Still(Driver):
    """It has the machines of `ids`, and answers unless it is told not to."""

    name = "still"
    ids = ()
    answers = True
    accelerator = "kvm"
    opened = 0

    def __init__(self):
        type(self).opened += 1
        if not self.answers:
            raise HypervisorError("still", "it does not answer", "Start it")

    @classmethod
    def choose_accelerator(cls, wanted, cached):
        return {"accelerator": cls.accelerator, "reason": "there is no other", "key": "1"}

    @classmethod
    def versions(cls):
        return {"still": "1.0"}

    @classmethod
    def capacity(cls):
        return 4096, 8.0

    def survey(self, catalog):
        return Survey(tuple(ObservedVm(vm_id, str(vm_id), "RUNNING") for vm_id in self.ids))

    def close(self):
        pass

    render = inventory = state = define = start = change_medium = cancel = remove = None


@pytest.fixture
def driver(monkeypatch, tmp_path):
    class Fresh(Still):
        pass

    for module in (registry, node_setup):
        monkeypatch.setattr(module, "DRIVERS", {"still": Fresh})
    monkeypatch.setattr(node_setup, "PROGRAMS", ())
    monkeypatch.setattr(node_setup, "LIBRARIES", ())
    monkeypatch.setattr(node_file, "HOST_LOCK", str(tmp_path / "lock"))
    return Fresh


@pytest.fixture
def root(tmp_path):
    return tmp_path / "nebula"


def params(root, **given):
    options = {"hypervisor": "still", "accelerator": "auto", "manage_services": True, "catalog": None}
    return {"root": str(root), **options, "luks_secrets": None, "transfer": "shared", "transfer_key": None, **given}


def record(root, vm_id, catalog=CATALOG):
    """A machine's directory with its mark."""
    place = root / "datastores" / "0" / str(vm_id)
    place.mkdir(parents=True)
    (place / "vm.json").write_text(json.dumps({"catalog": catalog, "vm_id": vm_id, "uuid": str(vm_id)}))
    return place


def known(root, **changes):
    root.mkdir(exist_ok=True)
    node_file.update(str(root), lambda before: replace(before, **changes))


# -- made ready -------------------------------------------------------------------------------------------------------
def test_a_bare_host_is_foreseen_to_become_a_node(driver, root):
    result = node_setup.present(params(f"{root}/", catalog=CATALOG), check_mode=True)
    assert result.changed
    assert not root.exists()
    (item,) = result.items
    made = [str(root), f"{root}/datastores", f"{root}/datastores/0"]
    assert item.before == {**dict.fromkeys(made, "absent"), "accelerator": ""}
    assert item.after == {**dict.fromkeys(made, "present"), "accelerator": "kvm"}
    shown = result.payload["node"]
    assert {key: shown[key] for key in ("hypervisor", "accelerator", "memory", "cpu", "versions", "started")} == {
        "hypervisor": "still",
        "accelerator": "kvm",
        "memory": 4096,
        "cpu": 8.0,
        "versions": {"still": "1.0"},
        "started": [],
    }
    assert shown["overhead"] == {"fixed": 0.0, "vcpu": 0.0, "share": 0.0}
    assert shown["transfer"] == "shared"
    assert result.warnings == []


@as_root
def test_made_ready_again_and_given_back(driver, root):
    made = node_setup.present(params(root, catalog=CATALOG), check_mode=False)
    assert made.changed
    assert [stat.S_IMODE(path.stat().st_mode) for path in (root, root / "datastores", root / "datastores/0")] == [
        0o711
    ] * 3
    assert node_file.read(str(root)).catalog == CATALOG
    for check_mode in (True, False):
        assert not node_setup.present(params(root, catalog=CATALOG), check_mode).changed
    assert node_setup.absent(params(root, catalog=CATALOG), check_mode=True).changed
    assert node_setup.absent(params(root, catalog=CATALOG), check_mode=False).changed
    assert not root.exists()
    assert not node_setup.absent(params(root, catalog=CATALOG), check_mode=False).changed


@as_root
def test_a_host_keeps_the_first_mark_that_it_was_given(driver, root):
    """Without a change: a site of an older version has marks from its next run on."""
    forecast = node_setup.present(params(root, catalog=CATALOG, mark="a" * 32), check_mode=True)
    assert forecast.payload["node"]["mark"] == "a" * 32 and not root.exists()
    node_setup.present(params(root, catalog=CATALOG), check_mode=False)
    assert node_file.read(str(root)).mark == ""
    for mark, check_mode in (("a" * 32, True), ("a" * 32, False), ("b" * 32, False), ("", False)):
        again = node_setup.present(params(root, catalog=CATALOG, mark=mark or None), check_mode)
        assert not again.changed and again.payload["node"]["mark"] == "a" * 32
    assert stat.S_IMODE((root / node_file.NAME).stat().st_mode) == 0o600
    node_setup.absent(params(root, catalog=CATALOG), check_mode=False)
    assert not root.exists()


def test_directories_of_containers_that_were_open_are_closed_once_and_foreseen(driver, root):
    driver.access = classmethod(lambda cls, vm_id: (0o700, -1))
    node_setup.present(params(root, catalog=CATALOG), False)
    known(root, catalog=CATALOG)
    place = record(root, 3)
    (place / "disk.0").mkdir()
    place.chmod(0o711)
    foreseen = node_setup.present(params(root, catalog=CATALOG), True)
    assert foreseen.changed and stat.S_IMODE(place.stat().st_mode) == 0o711
    assert node_setup.present(params(root, catalog=CATALOG), False).changed
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert not node_setup.present(params(root, catalog=CATALOG), False).changed


@pytest.mark.parametrize(
    ("wanted", "accelerator", "warns"), [("auto", "qemu", True), ("qemu", "qemu", False), ("auto", "kvm", False)]
)
def test_emulation_that_nobody_asked_for_warns(driver, root, wanted, accelerator, warns):
    driver.accelerator = accelerator
    warnings = node_setup.present(params(root, accelerator=wanted), check_mode=True).warnings
    assert warnings == ["Machines are emulated, which is slow: there is no other"] * warns


def test_emulation_is_told_once_and_again_when_it_comes_back(driver, root):
    def warned():
        return bool(node_setup.present(params(root, catalog=CATALOG, accelerator="auto"), check_mode=False).warnings)

    told = []
    for driver.accelerator in ("qemu", "qemu", "kvm", "qemu", "qemu"):
        told.append(warned())
    assert told == [True, False, False, True, False]


def test_what_is_missing_is_named_with_its_packages_and_only_forecast_in_check_mode(driver, root):
    driver.programs = ("sh", "no-such-ip|nor-this", "true|none")
    driver.libraries = ("pycdlib",)
    lacking = node_setup._missing_software(driver)
    assert lacking[0] == "no-such-ip"
    with pytest.raises(MissingDependency) as caught:
        node_setup.present(params(root), check_mode=False)
    assert "a node that runs machines: it lacks no-such-ip" in str(caught.value)
    assert "Install no-such-ip" in str(caught.value)
    assert "role nebula.provision.node" in str(caught.value)
    assert not root.exists()
    shown = node_setup.present(params(root), check_mode=True).payload["node"]
    assert (shown["accelerator"], shown["reason"]) == ("", "not known before its packages are installed")
    assert shown["memory"] != 4096, "a hypervisor that is not there yet does not tell"


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("qemu-img", "qemu-utils"),
        ("rsync", "rsync"),
        ("Python library pycdlib", "python3-pycdlib"),
        ("Python library libvirt", "python3-libvirt"),
    ],
)
def test_what_to_install_for_what_is_missing(name, package):
    assert node_setup._package(name) == package


def test_a_library_that_is_missing_is_told_as_one(driver, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycdlib", None)
    driver.libraries = ("pycdlib",)
    assert node_setup._missing_software(driver) == ["Python library pycdlib"]


@pytest.mark.parametrize("mark", ["file", "machine"])
@pytest.mark.parametrize("check_mode", [True, False])
def test_a_node_of_another_catalog_is_refused(driver, root, mark, check_mode):
    if mark == "file":
        known(root, catalog=OTHER)
    else:
        record(root, 3, OTHER)
    with pytest.raises(ForeignObject) as caught:
        node_setup.present(params(root, catalog=CATALOG), check_mode)
    for part in (f"marks of catalog {OTHER}", f"this is catalog {CATALOG}", "nebula.db", "provision.teardown"):
        assert part in str(caught.value)


def test_without_a_catalog_to_compare_the_marks_are_told(driver, root):
    record(root, 3, OTHER)
    (root / "datastores").chmod(0o711)
    assert node_setup._catalog_of_machines(str(root)) == OTHER
    assert node_setup._catalog_of_machines(str(root / "none")) == ""


def test_secrets_are_foreseen_where_no_hypervisor_answers_yet(driver, root):
    driver.answers = False
    (item,) = node_setup.present(params(root, luks_secrets=json.dumps([SECRET])), check_mode=True).items
    assert item.before[f"secret {SECRET['uuid']}"] == "absent"
    assert item.after[f"secret {SECRET['uuid']}"] == "present"
    assert SECRET["passphrase"] not in str(item)


@pytest.mark.parametrize("wanted", [None, "[]"])
def test_without_secrets_no_hypervisor_is_asked_for_them(driver, root, wanted):
    (item,) = node_setup.present(params(root, luks_secrets=wanted), check_mode=True).items
    assert not [key for key in item.after if key.startswith("secret ")]
    assert driver.opened == 0


@pytest.mark.parametrize(
    ("transfer", "key", "method", "user"),
    [
        (None, None, "shared", False),
        ("shared", "k", "shared", False),
        ("ssh", "k", "ssh", True),
        ("auto", "k", "ssh", True),
    ],
)
def test_how_files_get_there_is_told(driver, root, monkeypatch, transfer, key, method, user):
    monkeypatch.setattr(node_setup.transfer_user.rsync, "USER", "nebula-user-that-nobody-has")
    result = node_setup.present(params(root, transfer=transfer, transfer_key=key, catalog=CATALOG), check_mode=True)
    assert result.payload["node"]["transfer"] == method
    assert any(each.startswith("user ") for each in result.items[0].after) == user


def test_a_directory_that_others_may_change_is_refused(tmp_path):
    for mode in (0o700, 0o777, 0o731):
        tmp_path.chmod(mode)
        with pytest.raises(InvalidValue) as caught:
            node_setup._check_directory(str(tmp_path))
        assert f"directory {tmp_path}: its mode is {mode:04o} and its owner {os.getuid()}" in str(caught.value)
        assert "chown root, chmod 0711" in str(caught.value)


@pytest.mark.parametrize(
    ("mode", "names", "unfinished"),
    [
        (0o700, [], True),
        (0o700, [node_file.NAME], True),
        (0o700, [f".{node_file.NAME}.x1.tmp"], True),
        (0o700, ["somebodys"], False),
        (0o711, [], False),
    ],
)
def test_a_root_that_a_killed_run_left_is_known(tmp_path, mode, names, unfinished):
    place = tmp_path / "root"
    place.mkdir()
    place.chmod(mode)
    for name in names:
        (place / name).touch()
    assert node_setup._is_unfinished(str(place)) == unfinished


# -- given back -------------------------------------------------------------------------------------------------------
def test_a_host_that_was_no_node_has_nothing_to_give_back(driver, root):
    for check_mode in (True, False):
        result = node_setup.absent(params(root, catalog=CATALOG), check_mode)
        assert not result.changed
        assert result.payload == {"node": {"hypervisor": "still"}}
    assert not root.exists()


def test_only_what_was_made_and_is_empty_is_removed(driver, root):
    for name in ("datastores", "datastores/0", "mine"):
        (root / name).mkdir(parents=True)
    (root / "datastores" / "image").touch()
    ours = (str(root), f"{root}/datastores", f"{root}/datastores/0")
    known(root, catalog=CATALOG, directories=ours)
    foreseen = node_setup.absent(params(root, catalog=CATALOG), check_mode=True)
    assert foreseen.items[0].after == {**dict.fromkeys(ours, "absent if empty"), f"{root}/{node_file.NAME}": "absent"}
    assert list(foreseen.items[0].after)[-2:] == [f"{root}/{node_file.NAME}", str(root)], "the root goes last"
    assert (root / "datastores/0").exists()
    result = node_setup.absent(params(root, catalog=CATALOG), check_mode=False)
    assert result.items[0].after == {f"{root}/datastores/0": "absent", f"{root}/{node_file.NAME}": "absent"}
    assert sorted(path.name for path in root.iterdir()) == ["datastores", "mine"]


@pytest.mark.parametrize("given_by", ["directory", "hypervisor"])
def test_a_node_with_machines_is_kept(driver, root, given_by):
    known(root, catalog=CATALOG)
    if given_by == "directory":
        record(root, 10)
        record(root, 9)
        record(root, 8, OTHER)
        named = "one-9, one-10"
    else:
        driver.ids = (3, 2)
        named = "one-2, one-3"
    with pytest.raises(InUse) as caught:
        node_setup.absent(params(root), check_mode=False)
    assert f"giving the node back: machines of catalog {CATALOG} are here: {named}. End them" in str(caught.value)
    assert "playbook nebula.provision.teardown" in str(caught.value)
    assert not node_file.read(str(root)).given_back
    (warning,) = node_setup.absent(params(root), check_mode=True).warnings
    assert warning == f"machines of catalog {CATALOG} are here: {named}; taken as ended in check mode"


def test_directories_count_where_no_hypervisor_answers(driver, root):
    driver.answers = False
    known(root, catalog=CATALOG)
    record(root, 4)
    with pytest.raises(InUse, match="one-4"):
        node_setup.absent(params(root), check_mode=False)


@pytest.mark.parametrize(("catalog", "told"), [(OTHER, OTHER), ("", "(none: the front-end has no catalog)")])
def test_another_catalogs_node_is_not_given_back(driver, root, catalog, told):
    known(root, catalog=CATALOG)
    for check_mode in (True, False):
        with pytest.raises(ForeignObject) as caught:
            node_setup.absent(params(root, catalog=catalog), check_mode)
        assert f"giving back a node of catalog {told}: it follows catalog {CATALOG}" in str(caught.value)
    assert (root / node_file.NAME).exists()


def test_secrets_that_cannot_be_taken_away_keep_the_node(driver, root):
    known(root, catalog=CATALOG, secrets={SECRET["uuid"]: "00:00"})
    driver.answers = False
    with pytest.raises(HypervisorError) as caught:
        node_setup.absent(params(root), check_mode=False)
    for part in (SECRET["uuid"], "it does not answer", "/etc/libvirt/secrets"):
        assert part in str(caught.value)
    (warning,) = node_setup.absent(params(root), check_mode=True).warnings
    assert SECRET["uuid"] in warning


def test_once_it_is_being_given_back_no_plan_is_accepted(driver, root):
    """It is refused by what has not come back, after it was closed."""
    known(root, catalog=CATALOG)
    out = root / "transfer" / "out"
    out.mkdir(parents=True)
    (out / f"{CATALOG}-3").touch()
    with pytest.raises(InUse, match="have not come back"):
        node_setup.absent(params(root), check_mode=False)
    assert node_file.read(str(root)).given_back


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize(("running", "stays"), [((), False), (("one-7",), False), (("shop",), True)])
def test_services_that_machines_of_others_need_run_on(driver, root, monkeypatch, check_mode, running, stays):
    """In check mode a machine of this node, which a teardown ends before, is no other's."""
    known(root, catalog=CATALOG, units=(node_file.Unit("libvirtd", ("libvirtd.service",), (), "boot"),))
    stopped = []
    monkeypatch.setattr(node_setup.hypervisor_daemons, "give_back", lambda unit: not stopped.append(unit.name))
    monkeypatch.setattr(driver, "running", lambda _self: running if check_mode or running != ("one-7",) else ())
    monkeypatch.setattr(driver, "ids", (7,) if check_mode and running == ("one-7",) else ())
    result = node_setup.absent(params(root, catalog=CATALOG), check_mode)
    assert ("libvirtd" in result.items[0].after) is not stays
    assert stopped == ([] if stays or check_mode else ["libvirtd"])
    texts = [text for text in result.warnings if "of others" in text]
    assert len(texts) == stays and all("shop" in text and "systemctl disable --now libvirtd" in text for text in texts)


# -- a datastore that several hosts share -----------------------------------------------------------------------------
NFS = {"name": "nfs", "type": "SYSTEM", "shared": True, "hosts": ["node1"]}


@pytest.fixture
def mounted(monkeypatch):
    monkeypatch.setattr(node_setup.shared_datastore, "is_mounted", lambda _root: True)


def shared_on(root, check=False, host="node1", **given):
    options = params(root, catalog=CATALOG, datastores=[NFS], host=host, **given)
    return node_setup.present(options, check_mode=check)


@as_root
def test_what_is_mounted_gets_a_mark_once(driver, root, mounted):
    node_setup.present(params(root, catalog=CATALOG), check_mode=False)
    path = root / "datastores" / "0" / ".nebula-datastore"
    assert shared_on(root, check=True).changed and not path.exists()
    made = shared_on(root)
    assert [item.after for item in made.items] == [{str(path): "present"}]
    mark = path.read_text()
    assert mark.startswith(f"{CATALOG}.")
    assert not shared_on(root).changed and path.read_text() == mark


@as_root
def test_an_empty_mount_point_gets_none(driver, root):
    shared_on(root)
    assert list((root / "datastores" / "0").iterdir()) == []


@as_root
def test_a_host_that_is_not_one_of_them_gets_none(driver, root, mounted):
    shared_on(root, host="node2")
    assert list((root / "datastores" / "0").iterdir()) == []


@as_root
def test_machines_that_are_no_plain_files_share_nothing(driver, root, mounted, monkeypatch):
    monkeypatch.setattr(driver, "shares_datastores", False)
    with pytest.raises(Unsupported, match="host node1: shared datastore nfs"):
        shared_on(root)


@as_root
def test_a_host_is_given_back_beside_machines_of_others(driver, root, mounted):
    """Their files stay, and the mark, which goes with the last of them."""
    shared_on(root)
    theirs = record(root, 7)
    driver.ids = (8,)
    with pytest.raises(InUse, match="are here: one-8"):
        node_setup.absent(params(root, catalog=CATALOG), check_mode=False)
    driver.ids = ()
    node_setup.absent(params(root, catalog=CATALOG), check_mode=False)
    assert sorted(each.name for each in theirs.parent.iterdir()) == [".nebula-datastore", "7"]
    (theirs / "vm.json").unlink()
    theirs.rmdir()
    shared_on(root)
    node_setup.absent(params(root, catalog=CATALOG), check_mode=False)
    assert not (root / "datastores" / "0" / ".nebula-datastore").exists()
