# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images that are changed in their place: half written, being written, or gone, and who must see it; and that doing it
again changes nothing."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.registry import open_engine
from ansible_collections.nebula.provision.plugins.module_utils.errors import InUse, NotFound, TimedOut, WrongState
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.checks.image_facts import (
    LINK,
    LINUX,
    Facts,
    Node,
)
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.open import image_overlay
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.repair import preparation, repair_steps
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.repair.repair_steps import Remove
from ansible_collections.nebula.provision.plugins.module_utils.host import files
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.image_operations import Prepare
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import image_list_decision
from ansible_collections.nebula.provision.plugins.module_utils.runner import closing
from ansible_collections.nebula.provision.plugins.module_utils.storage import datastore_layout, final_names, importer
from ansible_collections.nebula.provision.plugins.module_utils.storage.importer import Request
from ansible_collections.nebula.provision.plugins.modules import nebula_image_prepare
from ansible_collections.nebula.provision.tests.integration.image_runs import sh
from ansible_collections.nebula.provision.tests.integration.test_image_check import opened

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "collections")}
MIB = 1024 * 1024
PREPARE = {
    "name": None, "path": None, "format": "auto", "trusted": False, "steps": [], "program": "", "timezone": "",
    "via": "auto", "files": None, "images": None, "wait_timeout": 60, "engine": "embedded", "root": "/nowhere/nebula",
}  # fmt: skip
HALF = "half written.*Run nebula_image_prepare for it again, which finishes it"
BUSY = "another run prepares it"

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]


def prepare(check_mode=False, **params):
    params = {key: json.dumps(value) if key == "files" else value for key, value in params.items()}
    return nebula_image_prepare.call.run({**PREPARE, **params}, check_mode)


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "srv" / "own.qcow2"
    path.parent.mkdir()
    sh("qemu-img", "create", "-q", "-f", "qcow2", path, "16M")
    sh("qemu-io", "-f", "qcow2", "-c", "write -q -P 1 0 4M", path)
    return path


@pytest.fixture
def store(tmp_path):
    destination = tmp_path / "datastores" / "1" / "image"
    destination.parent.mkdir(parents=True)

    def run(source, say=None, **options):
        with final_names.locked_destination(str(destination), 0):
            importer.store(Request("image own", str(source), **options), str(destination), say)
        return destination

    return run


KILLED = """
import os, signal, subprocess, sys
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.open import image_overlay
from ansible_collections.nebula.provision.plugins.module_utils.storage import final_names
def half(image):
    subprocess.run(["qemu-io", "-f", image.format, "-c", "write -q -P 2 0 1M", image.path], check=True)
    os.kill(os.getpid(), signal.SIGKILL)
image_overlay._write_back = half
image = image_overlay.locate(sys.argv[1], "auto", False)
with image_overlay.begin(image):
    overlay = os.path.join(image.directory, final_names.OVERLAY)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -q -P 2 0 4M", overlay], check=True)
    image_overlay.commit(image)
"""


@pytest.fixture
def half(own):
    """Killed while it is written to: a quarter of what was to be."""
    done = subprocess.run([sys.executable, "-c", KILLED, own], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [path.name for path in (own.parent / ".own.qcow2.context").iterdir()] == [
        f"complete-{own.stat().st_ino}-qcow2"
    ]
    return own


# --- who reads what is half written ----------------------------------------------------------------------------------


def test_what_is_half_written_is_neither_stored_nor_judged(half, store, tmp_path):
    other_name = tmp_path / "link"
    other_name.symlink_to(half)
    for path in (half, other_name):
        with pytest.raises(WrongState, match=f"image own: path {path}.*{HALF}"):
            importer.inspect_source(Request("image own", str(path)))
        with pytest.raises(WrongState, match=HALF):
            store(path)
        with pytest.raises(WrongState, match=f"image x.*{HALF}"):
            image_overlay.locate_for_reading(str(path), "auto", False, "image x")
    assert list((tmp_path / "datastores/1").iterdir()) == []
    # What the control node sent is a copy of ours, whatever lies beside it.
    upload = half.parent / "upload"
    shutil.copy(half, upload)
    (half.parent / ".upload.context").mkdir()
    (half.parent / f".upload.context/complete-{upload.stat().st_ino}-qcow2").touch()
    store(upload, upload=True)
    # The next run finishes it, and nothing is in the way then.
    with image_overlay.begin(image_overlay.locate(str(half), "auto", False)) as resumed:
        assert resumed
    assert store(half).read_bytes() == half.read_bytes()
    sh("qemu-io", "-f", "qcow2", "-r", "-c", "read -q -P 2 0 4M", half)
    image_overlay.locate_for_reading(str(half), "auto", False, "image x")


def test_an_image_of_it_is_not_ready(half, tmp_path):
    root = tmp_path / "nebula"
    root.mkdir()
    given = {"name": "own", "path": str(half), "remote_src": True}
    with closing(open_engine({"engine": "embedded", "root": str(root)}, check_mode=False, create=True)) as engine:
        ((item,), _warnings) = image_list_decision.apply(engine, [given], image_list_decision.Settings())
        assert isinstance(item.error, WrongState)
        with engine.session(), pytest.raises(NotFound):
            engine.images.info("own")


def test_another_file_of_its_name_is_not_meant(half, store):
    whole = half.with_name("whole")
    shutil.copy(half, whole)
    whole.rename(half)
    assert store(half).read_bytes() == half.read_bytes()
    image_overlay.locate_for_reading(str(half), "auto", False, "image x")


def test_what_a_run_is_at_is_neither_stored_nor_judged(own, store):
    with files.lock(str(own)):
        for read in (
            lambda: importer.inspect_source(Request("image own", str(own))),
            lambda: store(own),
            lambda: image_overlay.locate_for_reading(str(own), "auto", False, "image x"),
        ):
            with pytest.raises(InUse, match=BUSY):
                read()
    store(own)


def test_no_run_is_at_it_while_it_is_stored(own, store):
    seen = []

    def say(text):
        # Another may read it meanwhile.
        importer.inspect_source(Request("image two", str(own)))
        with pytest.raises(TimedOut), files.lock(str(own), timeout=0):
            pass
        seen.append(text)

    before = own.stat()
    store(own, say)
    assert seen
    after = own.stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_mode,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )
    with files.lock(str(own), timeout=0):
        pass


def test_what_can_t_be_locked_is_stored(own, store, monkeypatch):
    """A stand-in for NFS without its lock service, which answers so (flock(2))."""
    whole = fcntl.flock

    def flock(fd, operation):
        if operation & fcntl.LOCK_SH and os.readlink(f"/proc/self/fd/{fd}") == str(own):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        return whole(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    store(own)
    image_overlay.locate_for_reading(str(own), "auto", False, "image x")


LOOK = """
import os, sys
from ansible_collections.nebula.provision.plugins.module_utils.storage import importer
os.chdir("/")
if sys.argv[2] == "nobody":
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
importer.inspect_source(importer.Request("image own", sys.argv[1], disk=False))
print("seen")
"""


@pytest.mark.parametrize("who", ["root", "nobody"])
def test_read_only_and_in_a_directory_that_may_not_be_listed(tmp_path, who):
    place = tmp_path / "media"
    place.mkdir()
    (place / "own.raw").write_bytes(b"x" * 1000)
    (place / "own.raw").chmod(0o444)
    place.chmod(0o711)
    # Those above are root's alone.
    command = (
        'mount --bind "$1" /mnt && mount -o remount,bind,ro /mnt && shift && ! touch /mnt/new 2>/dev/null && exec "$@"'
    )
    program = [sys.executable, "-c", LOOK, "/mnt/own.raw", who]
    argv = ["unshare", "-m", "sh", "-c", command, "sh", str(place), *program]
    done = subprocess.run(argv, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.stdout == "seen\n", done.stderr


# --- an image whose file is not there --------------------------------------------------------------------------------


def known(root):
    with opened(root) as engine:
        return engine.images.info("db")


@pytest.fixture
def catalog(tmp_path):
    root = tmp_path / "nebula"
    datastore_layout.prepare_directories(str(root))
    with opened(root, create=True) as engine:
        image = engine.images.allocate(Image(id=None, name="db"))
        Path(image.source).write_bytes(b"x" * MIB)
        datastore_layout.protect(image.source, writable=False)
        engine.images.update(image.id, state=ImageState.READY, format="raw", size=1, sha256="ab", persistent=True)
    return root


@pytest.fixture
def unmounted(catalog, tmp_path):
    """Its datastore is a file system of its own, and what is below the mount point is an empty directory."""
    place = Path(known(catalog).source).parent
    place.rename(tmp_path / "volume")
    place.mkdir()
    yield place
    assert list(place.iterdir()) == []


def test_no_file_is_made_of_an_image_that_is_not_there(tmp_path):
    image = image_overlay.locate_catalogued(str(tmp_path / "gone"), "raw", "image db")
    why = "image db: its file .*/gone: there is none.*Mount its datastore"
    with pytest.raises(NotFound, match=why), image_overlay.begin(image):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize(("state", "operation"), [("READY", None), ("LOCKED", Prepare(ImageState.READY))])
def test_an_image_of_a_datastore_that_is_not_mounted_stays_what_it_was(
    catalog, unmounted, check_mode, state, operation
):
    """Half written too: READY is for what was looked at."""
    with opened(catalog) as engine:
        engine.images.update("db", state=ImageState[state], operation=operation)
    before = known(catalog)
    (item,) = prepare(check_mode, name="db", root=str(catalog)).errors
    assert isinstance(item.error, NotFound) and "Mount its datastore" in item.error.remedy
    assert known(catalog) == before


def test_an_image_whose_datastore_goes_meanwhile_stays_locked(catalog, tmp_path, monkeypatch):
    place = Path(known(catalog).source).parent

    def goes(*_given):
        place.rename(tmp_path / "volume")
        place.mkdir()
        raise NotFound("the image", "it is gone")

    monkeypatch.setattr(preparation, "prepare", goes)
    (item,) = prepare(name="db", root=str(catalog)).errors
    assert isinstance(item.error, NotFound)
    assert (known(catalog).state, known(catalog).operation) == (ImageState.LOCKED, Prepare(ImageState.READY))
    shutil.rmtree(place)
    (tmp_path / "volume").rename(place)
    monkeypatch.setattr(preparation, "prepare", lambda *_given: preparation.Outcome("", ()))
    assert not prepare(name="db", root=str(catalog)).errors
    assert known(catalog).state == ImageState.READY


# --- what is put into it, and what is cleared ------------------------------------------------------------------------

# What the others of a step need, so that it has nothing else to do.
SYSTEM = {
    "/usr/sbin/sshd": Node(),
    "/etc/init.d/sshd": Node(),
    "/etc/timezone": Node(text="Europe/Berlin\n"),
    "/usr/lib/systemd/system/ssh.service": Node(),
    "/etc/systemd/system/multi-user.target.wants/ssh.service": Node(LINK, target="/usr/lib/systemd/system/ssh.service"),
}
CLEARED = [
    ("host-keys", "/etc/ssh/ssh_host_rsa_key", Node(size=9)),
    ("personal", "/root/.ssh/authorized_keys", Node(size=9)),
    ("personal", "/home/u/.ssh/known_hosts", Node(size=9)),
    ("leases", "/var/lib/dhcp/a.leases", Node(size=9)),
    ("random-seed", "/var/lib/systemd/random-seed", Node(size=9)),
    ("context-state", "/var/lib/nebula-context/user.sum", Node(size=9)),
    ("tmp", "/tmp/x", Node(size=9)),
    ("tmp", "/var/tmp/.y", Node(size=9)),
    ("logs", "/var/log/syslog", Node(size=9)),
    ("logs", "/var/log/auth.log.1", Node(size=9)),
    ("machine-id", "/etc/machine-id", Node(text="0" * 32)),
    ("passwords", "/etc/shadow", Node(text="root:x:1:::::\n")),
    ("timezone", "/etc/timezone", Node(text="Asia/Tokyo\n")),
    ("fstab", "/etc/fstab", Node(text="/dev/sdb1 /data ext4 defaults 0 0\n")),
    # An empty unit is a masked one.
    ("ssh-server", "/etc/systemd/system/ssh.service", Node()),
]


@pytest.mark.parametrize(("name", "path", "node"), CLEARED, ids=[path for _name, path, _node in CLEARED])
def test_no_step_touches_a_file_that_is_as_it_is_to_be(name, path, node):
    facts = Facts(os=LINUX, tree={**SYSTEM, path: node}, zone="Europe/Berlin")
    assert repair_steps.paths_reached(repair_steps.plan(facts, [name]), [path]) == [path]
    for step in repair_steps.plan(facts, [name], [path]):
        # A link to the zone, which is done once.
        assert [edit.path for edit in step.edits] == ["/etc/localtime"]


def test_no_step_makes_another_file_of_one_that_is_to_be_there():
    facts = Facts(os=LINUX, tree={"/etc/localtime": Node(size=9), "/etc/timezone": Node(text="Asia/Tokyo\n")})
    (step,) = repair_steps.plan(facts, ["timezone"], ["/etc/localtime"])
    assert [edit.path for edit in step.edits] == ["/etc/timezone"]


def test_what_lies_beside_it_goes():
    there = (
        "/tmp/x", "/tmp/more", "/tmp/.d", "/var/tmp/y", "/root/.ssh/id_a", "/root/.ssh/id_b",
        "/etc/ssh/ssh_host_a_key", "/etc/ssh/ssh_host_b_key",
    )  # fmt: skip
    tree = {path: Node(size=9) for path in there}
    facts = Facts(os=LINUX, tree={**SYSTEM, **tree})
    kept = ["/tmp/x", "/tmp/.d/deep/file", "/root/.ssh/id_a/file", "/etc/ssh/ssh_host_a_key"]
    tmp, personal, keys = (repair_steps.plan(facts, [name], kept)[0] for name in ("tmp", "personal", "host-keys"))
    assert tmp.before.splitlines() == ["/tmp/more", "/var/tmp/y"]
    spared = {edit.pattern: [path for path in tree if edit.spares(path)] for edit in tmp.edits}
    assert {"/tmp/x", "/tmp/.d"} == set(spared["/tmp/*"]) and not spared["/var/tmp/*"]
    assert (personal.before, personal.edits) == ("/root/.ssh/id_b", (Remove("/root/.ssh/id_b"),))
    assert (keys.before, keys.edits) == ("/etc/ssh/ssh_host_b_key", (Remove("/etc/ssh/ssh_host_b_key"),))


def test_files_that_steps_clear_are_put_there_once(tmp_path):
    top = tmp_path / "srv"
    tree = top / "tree"
    for name in ("etc/ssh", "usr/lib/systemd", "usr/sbin", "tmp/dir", "var/tmp", "root/.ssh", "home/u/.ssh"):
        (tree / name).mkdir(parents=True)
    for name in ("usr/sbin/sshd", "usr/lib/systemd/systemd", "etc/ssh/ssh_host_rsa_key", "etc/ssh/ssh_host_dsa_key",
                 "tmp/dir/other", "tmp/.hidden", "var/tmp/more", "root/.ssh/known_hosts"):  # fmt: skip
        (tree / name).write_text("of somebody's life\n")
    (tree / "etc/os-release").write_text('PRETTY_NAME="Small"\n')
    raw, image = top / "small.raw", top / "small.qcow2"
    raw.touch()
    os.truncate(raw, 16 * MIB)
    sh("mkfs.ext4", "-q", "-F", "-d", tree, raw)
    sh("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, image)
    wanted = {
        "/root/.ssh/authorized_keys": "ssh-ed25519 ours\n",
        "/home/u/.ssh/known_hosts": "host\n",
        "/etc/ssh/ssh_host_rsa_key": "ours\n",
        "/tmp/x": "ours\n",
        "/tmp/.hidden": "ours\n",
        "/var/tmp/a/b": "ours\n",
    }
    given = [{"path": path, "content": content} for path, content in wanted.items()]
    first = prepare(path=str(image), files=given)
    assert not first.errors and {"personal", "host-keys", "tmp", "files"} <= set(first.payload["image"]["steps"])
    before = image.read_bytes()
    again = prepare(path=str(image), files=given)
    assert (again.errors, again.changed, again.payload["image"]["steps"]) == ([], False, [])
    assert image.read_bytes() == before
    # One that is to be another is, one that is not named any more goes, and the others are not even written anew.
    given[0]["content"] = wanted["/root/.ssh/authorized_keys"] = "ssh-ed25519 another\n"
    assert wanted.pop(given.pop()["path"]) == "ours\n"
    last = prepare(path=str(image), files=given)
    assert set(last.payload["image"]["steps"]) == {"personal", "tmp", "files"}
    shown = json.dumps(last.diff())
    assert "/root/.ssh/authorized_keys: mode" in shown and "/tmp/x" not in shown
    sh("qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, raw)
    for path, content in wanted.items():
        assert sh("debugfs", "-R", f'cat "{path}"', raw) == content
    listed = {
        name: sh("debugfs", "-R", f"ls -p {name}", raw) for name in ("/tmp", "/var/tmp", "/etc/ssh", "/root/.ssh")
    }
    names = {name: {line.split("/")[5] for line in text.split()} - {".", ".."} for name, text in listed.items()}
    assert names == {
        "/tmp": {"x", ".hidden"},
        "/var/tmp": set(),
        "/etc/ssh": {"ssh_host_rsa_key"},
        "/root/.ssh": {"authorized_keys"},
    }
