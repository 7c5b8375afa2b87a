# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images whose content is to be changed while a machine has them, and those that somebody removes meanwhile. The
embedded engine, the real datastore, the real qemu-img."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from raw_disks import BOOT

from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState
from ansible_collections.nebula.provision.plugins.module_utils.storage import final_names, image_files
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for

MIB = 1024 * 1024
ROOT = Path(__file__).resolve().parents[2]
UTILS = "ansible_collections.nebula.provision.plugins.module_utils."
ABSENT = {"name": "demo", "state": "absent"}


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(BOOT + os.urandom(MIB - 512) + bytes(7 * MIB))
    return path


@pytest.fixture
def state(catalog):
    """The image's state in the catalog, None without it."""

    def find():
        try:
            with catalog() as engine:
                return engine.images.info("demo").state.name
        except NotFound:
            return None

    return find


@pytest.fixture
def meanwhile(monkeypatch):
    """Has something done once, before or after a function is called, whose own error comes after it."""

    def arrange(function, when, act):
        name, _dot, attribute = function.rpartition(".")
        module = importlib.import_module(UTILS + name)
        real = getattr(module, attribute)

        def called(*arguments, **named):
            monkeypatch.setattr(module, attribute, real)
            done = real(*arguments, **named) if when == "after" else None
            act()
            return real(*arguments, **named) if when == "before" else done

        monkeypatch.setattr(module, attribute, called)

    return arrange


def files(root):
    directory = root / "datastores" / "1"
    return sorted(os.listdir(directory)) if directory.exists() else []


# -- to be done again, while a machine has it -------------------------------------------------------------------------

KEPT = {
    "sparse, raw": {"name": "demo", "persistent": True, "sparse": True},
    "sparse, qcow2": {"name": "demo", "persistent": True, "sparse": True, "format": "qcow2"},
    "compress": {"name": "demo", "persistent": True, "compress": True, "format": "qcow2"},
    "both": {"name": "demo", "persistent": True, "compress": True, "sparse": True, "format": "qcow2"},
}


@pytest.mark.parametrize("case", KEPT)
def test_what_is_done_after_each_use_waits_for_the_end_of_the_next(apply, stored, used, freed, case):
    item = KEPT[case]
    stored()
    apply(item)
    used()
    freed()
    # Made anew, the machine has it again before the next run comes by.
    used()
    before = apply({"name": "demo"}).after
    for check in (True, False):
        again = apply(item, check=check)
        assert not again.is_changed and again.after == before and again.after["state"] == "USED_PERS"
    refused = apply({**item, "size": 16}, fails=True)
    assert type(refused.error).__name__ == "InUse" and "size 16" in str(refused.error)
    freed()
    assert apply(item, check=True).is_changed
    done = apply(item)
    assert done.is_changed and done.after["state"] == "READY"
    assert not apply(item).is_changed


def test_what_was_put_into_it_by_name_waits_too(apply, stored, used, catalog):
    """nebula_image_prepare makes its generation rise, then machines rest on it."""
    stored()
    item = {"name": "demo", "format": "qcow2", "compress": True}
    made = apply(item).after
    with catalog() as engine:
        engine.images.update("demo", generation=made["generation"] + 1, sha256="")
    used()
    assert not apply(item).is_changed


def test_asked_for_the_first_time_it_is_refused(apply, stored, used, freed):
    stored(persistent=True)
    item = {"name": "demo", "format": "qcow2", "sparse": True}
    apply(item)
    used()
    freed()
    used()
    assert not apply(item).is_changed
    refused = apply({**item, "compress": True}, fails=True)
    assert type(refused.error).__name__ == "InUse" and not refused.is_changed


def test_it_waits_for_the_end_of_a_clone(apply, stored, used, freed, catalog):
    stored(persistent=True)
    item = {"name": "demo", "sparse": True}
    apply(item)
    used()
    freed()
    # What a killed run left of a clone.
    with catalog() as engine:
        source = engine.images.info("demo")
        engine.images.clone("demo", Image(id=None, name="copy"))
    assert source.generation == 1
    waits = apply(item)
    assert not waits.is_changed and waits.after["state"] == "CLONE"
    apply({"name": "copy", "state": "absent"})
    assert apply(item).is_changed


# -- removed meanwhile ------------------------------------------------------------------------------------------------

ITEMS = {
    "rewrite": {"name": "demo", "format": "qcow2"},
    "grow": {"name": "demo", "size": 16},
    "sparse": {"name": "demo", "sparse": True},
}
# What is done, and after which step of it another run wants the image gone.
STEPS = [
    ("rewrite", "storage.image_files.rewrite"), ("rewrite", "storage.image_files.swap"),
    ("grow", "storage.image_files.grow"), ("sparse", "storage.image_files.dig_holes"),
]  # fmt: skip


@pytest.fixture
def given_up(apply):
    """A run that wants the image gone, and ends before it could do so."""

    def run():
        refused = apply(ABSENT, fails=True, wait_timeout=0)
        assert type(refused.error).__name__ == "TimedOut"

    return run


@pytest.fixture
def is_going(apply, root, state, used):
    """Sees that the image is to be removed still, that no machine gets it, and that the next run removes it."""

    def see():
        assert state() == "DELETE"
        with pytest.raises(NebulaError, match="state DELETE"):
            used()
        # What was made of it takes no room until then.
        assert len(files(root)) == 1
        apply(ABSENT)
        assert (files(root), state()) == ([], None)

    return see


@pytest.mark.parametrize(("what", "function"), STEPS)
def test_what_is_to_be_removed_is_not_ready_again(apply, stored, meanwhile, given_up, is_going, what, function):
    stored()
    meanwhile(function, "after", given_up)
    refused = apply(ITEMS[what], fails=True)
    assert type(refused.error).__name__ == "WrongState" and refused.after["state"] == "DELETE"
    assert f"image demo (id 0): {what}: another run removed it meanwhile" in str(refused.error)
    is_going()


@pytest.mark.parametrize(("what", "function"), STEPS)
def test_nor_where_the_operation_fails(apply, stored, meanwhile, given_up, is_going, what, function):
    stored()

    def fail():
        given_up()
        raise OSError(5, "Input/output error")

    meanwhile(function, "after", fail)
    refused = apply(ITEMS[what], fails=True)
    assert "Input/output error" in str(refused.error) and refused.after["state"] == "DELETE"
    is_going()


@pytest.mark.parametrize("when", ["before", "after"])
def test_nor_where_the_run_was_killed_and_another_sees_to_it(
    apply, stored, root, state, meanwhile, given_up, is_going, when
):
    stored()
    _killed(root, ITEMS["rewrite"], "storage.image_files.swap", when)
    assert state() == "LOCKED"
    meanwhile("reconcile.images.rewrite.is_done", "after", given_up)
    refused = apply({"name": "demo"}, fails=True)
    assert "rewrite: another run removed it meanwhile" in str(refused.error)
    is_going()


def test_nothing_is_left_of_what_the_catalog_does_not_know_any_more(apply, stored, root, catalog, meanwhile, given_up):
    stored()

    def forget():
        given_up()
        with catalog() as engine:
            engine.images.delete("demo")

    meanwhile("storage.image_files.rewrite", "after", forget)
    refused = apply(ITEMS["rewrite"], fails=True)
    assert "another run removed it meanwhile" in str(refused.error) and refused.after["state"] == "DELETE"
    assert not [name for name in files(root) if name.endswith(image_files.WORK)]


def test_stored_anew_meanwhile_it_is_another(apply, stored, root, meanwhile, given_up):
    before = stored()

    def anew():
        given_up()
        stored()

    meanwhile("reconcile.images.rewrite._step", "before", anew)
    refused = apply(ITEMS["rewrite"], fails=True)
    assert "another run removed it meanwhile" in str(refused.error)
    now = apply({"name": "demo"}).after
    assert (now["state"], now["format"]) == ("READY", "raw") and now["id"] != before["id"]
    assert files(root) == [os.path.basename(now["source"])]


def test_a_removal_that_waits_for_an_operation(apply, stored, root, state, used, meanwhile):
    stored()
    done: dict = {}
    remover = threading.Thread(target=lambda: done.update(item=apply(ABSENT, fails=True, wait_timeout=60)))

    def begin():
        remover.start()
        wait_for(lambda: state() == "DELETE", "the removal", 30)

    meanwhile("storage.image_files.swap", "after", begin)
    refused = apply(ITEMS["rewrite"], fails=True)
    # However soon it comes, no machine has it before the remover does.
    with pytest.raises(NebulaError):
        used()
    remover.join()
    assert "another run removed it meanwhile" in str(refused.error)
    assert done["item"].error is None and done["item"].is_changed
    assert (files(root), state()) == ([], None)


def test_no_file_goes_of_an_image_that_was_taken_back(apply, stored, root, catalog, state, used, monkeypatch):
    """While the remover waits, somebody makes it READY, and a machine has it."""
    image = stored()
    reserved = final_names.locked_destination

    def late(*arguments):
        with catalog() as engine:
            engine.images.update("demo", state=ImageState.READY)
        used()
        return reserved(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(final_names, "locked_destination", late)
        refused = apply(ABSENT, fails=True)
    assert "state absent: another run has taken it back meanwhile: it is USED" in str(refused.error)
    assert refused.after["state"] == state() == "USED"
    assert files(root) == [os.path.basename(image["source"])]


# -- killed while files were put into it ------------------------------------------------------------------------------

KILLED = """
import importlib, json, os, signal, sys
sys.path.insert(0, sys.argv[1])
base = "ansible_collections.nebula.provision.plugins.module_utils."
module, _dot, name = sys.argv[4].rpartition(".")
module = importlib.import_module(base + module)
engines = importlib.import_module(base + "engines.embedded.engine")
real = getattr(module, name)
def killed(*arguments, **named):
    done = real(*arguments, **named) if sys.argv[5] == "after" else None
    os.kill(os.getpid(), signal.SIGKILL)
setattr(module, name, killed)
engine = engines.EmbeddedEngine(sys.argv[2], create=True)
item = json.loads(sys.argv[3])
"""
CHANGE = """
images = importlib.import_module(base + "reconcile.images.image_list_decision")
images.apply(engine, [item], images.Settings())
"""
# As nebula_image_prepare does it, but what is put into the image: that takes an appliance.
PREPARE = """
import subprocess
prepares = importlib.import_module(base + "reconcile.images.prepare_image")
def put(disk, format, directory, spec, what):
    argv = ["qemu-io", "-f", format, "-c", "write -P 7 0 64k", disk]
    subprocess.run(argv, cwd=directory, check=True, stdout=subprocess.DEVNULL)
    return prepares.Outcome("", (None,))
prepares.preparation.prepare = put
spec = prepares.Spec((), "", "", (), "auto", False)
prepares._catalogued(engine, item["name"], spec, prepares.Settings())
"""


def _killed(root, item, function, when, program=CHANGE):
    argv = [sys.executable, "-c", KILLED + program, ROOT / "collections", root, json.dumps(item), function, when]
    assert subprocess.run(argv, check=False).returncode == -signal.SIGKILL


PREPARED = [
    ("guest_disk.open.image_overlay.commit", "before", "overlay"),
    ("guest_disk.open.image_overlay._write_back", "before", "complete-"),
    ("guest_disk.open.image_overlay.make_overlay", "after", "overlay"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "when", "left"), PREPARED)
@pytest.mark.parametrize("removed", ["at once", "by the next that wants another"])
def test_what_was_to_be_put_into_a_removed_image_goes_with_it(
    apply, stored, root, catalog, state, function, when, left, removed
):
    image = stored()
    _killed(root, {"name": "demo"}, function, when, PREPARE)
    head, name = os.path.split(image["source"])
    assert state() == "LOCKED"
    assert [entry for entry in os.listdir(f"{head}/.{name}.context") if entry.startswith(left)]
    if removed == "at once":
        apply(ABSENT)
        assert (files(root), state()) == ([], None)
        return
    with catalog() as engine:
        engine.images.update("demo", state=ImageState.DELETE)
    now = stored()
    # The lock of the run that was killed is empty, and no matter of this.
    assert [name for name in files(root) if not name.endswith(final_names.PART)] == [os.path.basename(now["source"])]
