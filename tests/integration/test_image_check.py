# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real images looked into by libguestfs, mended, and looked into again: planted faults are found, and gone
afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from canaries import ways
from scratch import left

from ansible_collections.nebula.provision.plugins.module_utils.engines.registry import open_engine
from ansible_collections.nebula.provision.plugins.module_utils.errors import CommandFailed
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk import file_injection
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.checks import points
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.inspect import inspection, root_file_system
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.open import guestfish
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.image_operations import Prepare
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import prepare_image as image_prepares
from ansible_collections.nebula.provision.plugins.module_utils.runner import closing
from ansible_collections.nebula.provision.plugins.module_utils.storage import datastore_audit, datastore_layout
from ansible_collections.nebula.provision.plugins.modules import nebula_image_check, nebula_image_prepare
from ansible_collections.nebula.provision.tests.integration.guests import fitness, hives
from ansible_collections.nebula.provision.tests.integration.image_runs import sh

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = (ROOT / "roles/guest_context/files/nebula-context").read_text()
OS = "Debian GNU/Linux 12 (bookworm)"
CHECK = {
    "name": None, "path": None, "format": "auto", "trusted": False, "timezone": "UTC", "os": "linux", "images": None,
    "mode": "offline", "said": {}, "listen": None, "report": None, "engine": "embedded", "root": "/nowhere/nebula",
}  # fmt: skip
PREPARE = {
    "name": None, "path": None, "format": "auto", "trusted": False, "steps": [], "program": PROGRAM, "timezone": "",
    "via": "auto", "files": None, "images": None, "wait_timeout": 60, "engine": "embedded", "root": "/nowhere/nebula",
}  # fmt: skip
# What nobody can mend from outside without knowing more than the image says.
LEFT = {"partitions", "firewall"}
PLANTED = {
    "growth", "serial-console", "mac-addresses", "context", "ssh-server", "ssh-keys", "fstab", "timezone", "machine-id",
    "host-keys", "random-seed", "passwords", "personal", "leases", "context-state", "tmp", "logs", *LEFT,
}  # fmt: skip
LIVE = {point.name for point in points.POINTS if point.hear is not None}
SECRET = "a word for nobody"

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]


def check(**params):
    return nebula_image_check.call.run({**CHECK, **params}, False)


def prepare(check_mode=False, **params):
    params = {key: json.dumps(value) if key in ("files", "images") else value for key, value in params.items()}
    return nebula_image_prepare.call.run({**PREPARE, **params}, check_mode)


def results(image):
    return {point["point"]: point["result"] for point in image["points"]}


def failing(image):
    return {name for name, result in results(image).items() if result == "fail"}


def state(path):
    return hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns


@pytest.fixture(autouse=True)
def nothing_left(tmp_path):
    yield
    assert [path.name for path in tmp_path.rglob(".*.context")] == []
    assert left() == []


@pytest.fixture
def faulty(tmp_path):
    path = tmp_path / "faulty.qcow2"
    sh("cp", "--reflink=auto", fitness.image() / "faulty.qcow2", path)
    return path


def test_planted_faults_are_found_and_mended(faulty, tmp_path):
    """Each once: found, foreseen by check mode, mended, not done again, and gone."""
    before, report = state(faulty), tmp_path / "report.html"
    found = check(path=str(faulty), report=str(report))
    image = found.payload["image"]
    assert (image["os"], image["fit"], failing(image)) == (OS, False, PLANTED)
    assert all(point["why"] for point in image["points"])
    assert all(point["remedy"] for point in image["points"] if point["result"] == "fail")
    assert {name for name, result in results(image).items() if result == "not tested"} == LIVE
    assert found.changed and "\u2717 fail" in report.read_text()
    assert not ways(fitness.HASH, json.dumps(found.payload), report.read_text())
    asked = {
        "path": str(faulty),
        "timezone": "UTC",
        "files": [
            {"path": "/etc/motd", "content": "Made by us.\n"},
            {"path": "/srv/keys/word", "content": SECRET, "mode": "0400", "uid": 7, "gid": 8},
        ],
    }
    foreseen = prepare(check_mode=True, **asked)
    assert not foreseen.errors and foreseen.changed
    assert state(faulty) == before
    done = prepare(**asked)
    assert not done.errors and done.changed
    assert done.payload == foreseen.payload and done.diff() == foreseen.diff()
    assert set(done.payload["image"]["steps"]) == (PLANTED - LEFT - {"growth"}) | {"files"}
    told = json.dumps([done.payload, done.diff()])
    assert not ways(SECRET, told) and "PLANTED" not in told and fitness.MAC in told
    mended = state(faulty)
    again = prepare(**asked)
    assert (again.errors, again.changed, again.payload["image"]["steps"]) == ([], False, [])
    assert state(faulty) == mended
    image = check(path=str(faulty)).payload["image"]
    assert failing(image) == LEFT
    inside(faulty, tmp_path)


def inside(path, tmp_path):
    """What the steps made of the files, by debugfs and without any mount."""
    raw, part, top = tmp_path / "read.raw", tmp_path / "part", tmp_path / "read"
    sh("qemu-img", "convert", "-O", "raw", path, raw)
    sh("dd", f"if={raw}", f"of={part}", "bs=1M", "skip=1", f"count={fitness.ROOT_MIB}", "conv=sparse", "status=none")
    raw.unlink()
    assert subprocess.run(["e2fsck", "-f", "-n", part], capture_output=True, check=False).returncode == 0
    top.mkdir()
    for name in ("etc", "srv", "boot/extlinux", "tmp", "root", "var"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        sh("debugfs", "-R", f"rdump /{name} {(top / name).parent}", part)
    part.unlink()
    lines = (top / "etc/fstab").read_text().splitlines()
    assert lines[1] == f"UUID={fitness.ROOT_UUID} / ext4 errors=remount-ro 0 1"
    assert lines[2].startswith("# not in the image: UUID=dead0000") and lines[3].startswith("/dev/sr0")
    word = top / "srv/keys/word"
    found = word.stat()
    assert (word.read_text(), found.st_mode & 0o7777, found.st_uid, found.st_gid) == (SECRET, 0o400, 7, 8)
    shadow = top / "etc/shadow"
    assert "root:*:19000" in shadow.read_text() and "guest:*:19000" in shadow.read_text()
    # Owner and mode of a file that was rewritten are as they were.
    assert (shadow.stat().st_mode & 0o777, shadow.stat().st_gid) == (0o640, 42)
    assert not (top / "etc/udev/rules.d/70-persistent-net.rules").exists()
    interfaces = (top / "etc/network/interfaces").read_text()
    assert fitness.MAC not in interfaces and "iface eth0 inet dhcp" in interfaces
    assert "console=ttyS0,115200" in (top / "boot/extlinux/extlinux.conf").read_text()
    assert os.readlink(top / "etc/localtime") == "/usr/share/zoneinfo/UTC"
    assert (top / "etc/machine-id").read_text() == ""
    assert os.readlink(top / "var/lib/dbus/machine-id") == "/etc/machine-id"
    assert os.readlink(top / "etc/systemd/system/multi-user.target.wants/ssh.service").endswith("/ssh.service")
    assert not (top / "etc/systemd/system/ssh.service").is_symlink()
    assert list((top / "etc/ssh").glob("ssh_host_*")) == [] and list((top / "tmp").iterdir()) == []
    wants = top / "etc/systemd/system/multi-user.target.wants"
    assert os.readlink(wants / "nebula-host-keys.service") == "/etc/systemd/system/nebula-host-keys.service"
    assert (wants / "nebula-context.service").is_symlink()
    assert (top / "var/log/syslog").read_text() == "" and not (top / "var/log/auth.log.1").exists()
    shutil.rmtree(top)


# --- of the catalog --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """What there is to a system, and a random seed, which is a fault; no kernel, so that it is looked into at once."""
    top = tmp_path_factory.mktemp("small")
    tree = top / "tree"
    for name in ("etc/ssh", "usr/lib/systemd", "var/lib/systemd", "tmp", "root", "usr/sbin"):
        (tree / name).mkdir(parents=True)
    (tree / "etc/os-release").write_text('PRETTY_NAME="Small <b>&amp;"\n')
    (tree / "usr/lib/systemd/systemd").write_text("")
    (tree / "var/lib/systemd/random-seed").write_text("not random\n")
    raw = top / "small.raw"
    raw.touch()
    os.truncate(raw, 16 << 20)
    sh("mkfs.ext4", "-q", "-F", "-d", tree, raw)
    sh("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, top / "small.qcow2")
    return top


@pytest.fixture
def catalog(tmp_path, small):
    """One with the image `small`."""
    root = tmp_path / "nebula"
    datastore_layout.prepare_directories(str(root))
    with opened(root, create=True) as engine:
        image = engine.images.allocate(Image(id=None, name="small"))
        shutil.copy(small / "small.qcow2", image.source)
        datastore_layout.protect(image.source, writable=False)
        engine.images.update(image.id, state=ImageState.READY, format="qcow2", size=16, sha256="ab")
    return root


@contextlib.contextmanager
def opened(root, create=False):
    params = {"engine": "embedded", "root": str(root)}
    with closing(open_engine(params, check_mode=False, create=create)) as engine, engine.session():
        yield engine


def known(root):
    with opened(root) as engine:
        return engine.images.info("small")


def told(root, statement):
    """What machines do, without any."""
    with contextlib.closing(sqlite3.connect(root / "nebula.db")) as db, db:
        db.execute(statement)


def only_seed(root, **more):
    return prepare(name="small", root=str(root), steps=["random-seed"], **more)


def test_an_image_of_the_catalog(catalog):
    """LOCKED meanwhile, another generation afterwards, and only if it was changed."""
    before = known(catalog)
    content = state(Path(before.source))
    (view,) = check(images=[{"name": "small"}], root=str(catalog)).payload["images"]
    assert "random-seed" in failing(view) and view["os"] == "Small <b>&amp;"
    foreseen = only_seed(catalog, check_mode=True)
    assert foreseen.changed and known(catalog) == before and state(Path(before.source)) == content
    assert only_seed(catalog).payload == foreseen.payload
    after = known(catalog)
    assert (after.state, after.generation, after.sha256, after.operation) == (ImageState.READY, 1, "", None)
    assert state(Path(after.source)) != content and Path(after.source).stat().st_mode & 0o777 == 0o440
    assert not only_seed(catalog).changed
    assert known(catalog) == after
    # Whoever uses it would see it change below him.
    told(catalog, f"INSERT INTO vm_images (vm_id, disk_id, image_id, writable) VALUES (1, 0, {after.id}, 0)")
    assert "it is used by 1 machine" in only_seed(catalog).errors[0].error.found


def test_killed_while_it_is_prepared(catalog, tmp_path):
    """It stays LOCKED with a note, and the next run takes it from there; another state than READY comes back."""
    with opened(catalog) as engine:
        engine.images.update("small", state=ImageState.DISABLED)
    before = known(catalog)
    code = f"""
import json, time
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.repair import preparation
from ansible_collections.nebula.provision.plugins.modules import nebula_image_prepare
def stop(*given):
    print("there", flush=True)
    time.sleep(100)
preparation.prepare = stop
nebula_image_prepare.call.run({{**{PREPARE!r}, "name": "small", "root": {str(catalog)!r}}}, False)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "collections")}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "there\n"
        held = known(catalog)
        assert (held.state, held.operation) == (ImageState.LOCKED, Prepare(ImageState.DISABLED))
        process.kill()
    assert known(catalog).state == ImageState.LOCKED
    # One that can't be written down to its end leaves half of it in the file, and in the state LOCKED too.
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({Path(before.source).stat().st_size}, resource.RLIM_INFINITY))"
    code = f"""
import resource
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.open import image_overlay
from ansible_collections.nebula.provision.plugins.modules import nebula_image_prepare
whole = image_overlay._write_back
def write_back(image):
    {limit}
    whole(image)
image_overlay._write_back = write_back
given = {{**{PREPARE!r}, "name": "small", "root": {str(catalog)!r}, "steps": ["files"]}}
given["files"] = '[{{"path": "/srv/large", "content": "' + "x" * 3000000 + '"}}]'
for item in nebula_image_prepare.call.run(given, False).errors:
    print(item.error)
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "Until a run has finished it, the image must not be used" in done.stdout, done.stderr
    assert known(catalog).state == ImageState.LOCKED
    assert prepare(check_mode=True, name="small", root=str(catalog)).changed
    # The audit says of both, the image and what lies beside it, who finishes it.
    findings = datastore_audit.findings([known(catalog)], str(catalog))
    assert {(found.kind, "nebula_image_prepare" in found.remedy) for found in findings} == {
        ("image-unfinished", True),
        ("image-left", True),
    }
    left = next(Path(before.source).parent.glob(".*.context"))
    kept = tmp_path / "kept"
    shutil.copytree(left, kept)
    finished = only_seed(catalog)
    assert finished.changed and not finished.errors
    after = known(catalog)
    # Once for each of the two that wrote to it.
    assert (after.state, after.generation, after.operation) == (ImageState.DISABLED, 2, None)
    image = Path(after.source)
    assert [path.name for path in image.parent.iterdir()] == [image.name]
    sh("qemu-img", "check", "-q", image)
    # The same, left for a file that is another by now, is not brought into that one.
    content = state(image)
    shutil.copytree(kept, left)
    assert not only_seed(catalog).changed and state(image) == content and not left.exists()


def test_killed_after_it_was_written(catalog, monkeypatch):
    """What it was before, no node and no audit takes it for."""

    def killed(*_given):
        raise KeyboardInterrupt

    monkeypatch.setattr(image_prepares, "_unlock", killed)
    with pytest.raises(KeyboardInterrupt):
        only_seed(catalog)
    monkeypatch.undo()
    assert not only_seed(catalog).changed
    after = known(catalog)
    assert (after.state, after.generation, after.sha256, after.operation) == (ImageState.READY, 1, "", None)


def test_files_alone_without_libguestfs(catalog):
    given = {"name": "small", "root": str(catalog), "via": "loop"}
    files = [{"path": "/srv/a/word", "content": SECRET, "mode": "0400"}]
    for more, why in (({"steps": ["files"]}, "not said to be trusted"), ({"trusted": True}, "done by libguestfs")):
        (error,) = prepare(**given, files=files, **more).errors
        assert why in str(error.error)
    given.update(steps=["files"], trusted=True)
    done = prepare(**given, files=files)
    assert (done.errors, done.changed, done.payload["image"]["steps"]) == ([], True, ["files"])
    assert not ways(SECRET, json.dumps(done.diff()))
    # It is the same for both ways.
    assert not prepare(**given, files=files).changed
    assert not prepare(**{**given, "via": "guestfs"}, files=files).changed
    assert known(catalog).generation == 1


def test_an_image_of_the_catalog_names_no_other_file(catalog, tmp_path):
    """Trusted or not: a guest may have written there what it names."""
    other = tmp_path / "other.raw"
    other.write_bytes(bytes(1 << 20))
    source = known(catalog).source
    os.unlink(source)
    sh("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", other, source)
    (item,) = check(name="small", root=str(catalog), trusted=True).errors
    assert type(item.error).__name__ == "ImageRefused" and "names another file" in item.error.found


def test_who_is_not_asked(catalog):
    """A point that nobody asked is not tested, with why; an encrypted image is asked by its machine alone."""

    def answers(**given):
        view = check(name="small", root=str(catalog), mode="live", **given).payload["image"]
        return {(point["result"], point["why"]) for point in view.get("points", ()) if point["point"] in LIVE}

    why = "it is persistent, and a machine would write to it"
    assert answers(said={"small": {"why_not": why}}) == {("not tested", why)}
    ((result, told_why),) = answers(os="windows", said={"small": {"console": "Booting"}})
    assert (result, "shell script" in told_why) == ("not tested", True)
    told(catalog, "UPDATE images SET luks_secret = '0a6f3c22-91c3-4d3f-8b58-0d1f0e2ac001'")
    assert ("fail", "nothing came out of it") in answers(said={"small": {}})
    (item,) = check(name="small", root=str(catalog)).errors
    assert "Check it with mode: live" in str(item.error)


# --- Windows ---------------------------------------------------------------------------------------------------------


def test_windows(tmp_path):
    """Made up: the hives are written by tests/integration/guests/hives.py, and read by libguestfs."""
    place = hives.image()
    fit, unfit = check(images=[{"path": str(place / f"{name}.qcow2")} for name in ("fit", "unfit")]).payload["images"]
    assert fit["os"] == unfit["os"] == "Windows Made Up 2026"
    own = {point.name for point in points.POINTS if "windows" in point.systems}
    asked = own - LIVE - {"updates", "licence"}
    assert set(results(fit)) == own
    assert {name for name, result in results(fit).items() if result == "pass"} == asked
    assert failing(unfit) == asked - {"file-systems", "partitions"}
    (error,) = prepare(path=str(copied(place / "fit.qcow2", tmp_path)), steps=["logs"]).errors
    assert "it holds Windows" in error.error.found


def copied(path, place):
    target = place / path.name
    shutil.copy(path, target)
    return target


# --- what is none ----------------------------------------------------------------------------------------------------


def test_what_can_t_be_read_is_told_and_the_others_are_checked(tmp_path, small):
    """A text of another format's header, a damaged table, and a file system that can't be mounted."""
    good = small / "small.qcow2"
    posing, corrupt, broken, empty = (
        tmp_path / name for name in ("posing.raw", "corrupt.qcow2", "broken.raw", "no.raw")
    )
    posing.write_bytes((b"QFI\xfb\0\0\0\3" + bytes(8) + b"\0\0\0\x0b/etc/passwd").ljust(1 << 20, b"\0"))
    data = bytearray(good.read_bytes())
    data[0x30000:0x50000] = b"\xff" * 0x20000
    corrupt.write_bytes(data)
    shutil.copy(small / "small.raw", broken)
    with broken.open("r+b") as file:
        # The descriptors behind a superblock that is whole.
        file.seek(1024 + 1024)
        file.write(os.urandom(512 << 10))
    empty.write_bytes(bytes(8 << 20))
    report = tmp_path / "report.html"
    paths = [posing, corrupt, broken, empty, good, tmp_path / "nowhere"]
    done = check(images=[{"path": str(path)} for path in paths], report=str(report))
    errors = {item.name: f"{type(item.error).__name__}: {item.error}" for item in done.errors}
    assert set(errors) == {str(path) for path in paths} - {str(good)}
    assert errors[str(posing)].startswith("ImageRefused")
    assert "damaged" in errors[str(corrupt)]
    assert "its file systems: they can't be mounted: /dev/sda" in errors[str(broken)]
    assert "no operating system was found" in errors[str(empty)]
    assert errors[str(tmp_path / "nowhere")].startswith("NotFound")
    views = {view["path"]: view for view in done.payload["images"]}
    assert views[str(good)]["counts"]["pass"] > 5
    page = report.read_text()
    assert "can't be mounted" in page.replace("&#x27;", "'") and "Small &lt;b&gt;&amp;amp;" in page
    assert "/etc/passwd" not in page.replace(str(posing), "") or "names another file" in page


def test_check_mode_hides_no_failure(tmp_path):
    empty = tmp_path / "no.raw"
    empty.write_bytes(bytes(8 << 20))
    for path, failures in ((empty, ["no operating system was found"]), (tmp_path / "nowhere", [])):
        checked = nebula_image_check.call.run({**CHECK, "path": str(path)}, True)
        for done in (checked, prepare(check_mode=True, path=str(path))):
            assert [item.error.found[:29] for item in done.errors] == failures


def test_what_is_too_large_is_not_taken_out(tmp_path):
    """Of a link that leads to it, either; and what came of an answer that is too long does not go on to the next."""
    tree = tmp_path / "tree"
    for name in ("etc", "boot", "usr/lib/systemd", "lib/modules/9"):
        (tree / name).mkdir(parents=True)
    (tree / "etc/os-release").write_text('PRETTY_NAME="Large"\n')
    (tree / "boot/vmlinuz-9").write_text("")
    (tree / "boot/initrd.img-9").symlink_to("/large")
    (tree / "large").touch()
    os.truncate(tree / "large", 600 << 20)
    raw = tmp_path / "large.raw"
    raw.touch()
    os.truncate(raw, 16 << 20)
    sh("mkfs.ext4", "-q", "-F", "-d", tree, raw)
    with (
        file_injection.scratch() as directory,
        guestfish.session(str(raw), "raw", directory, "large", keep=False) as talk,
    ):
        root = root_file_system.mount(talk, "large", writable=False)
        with pytest.raises(CommandFailed, match="longer than 1048576"):
            talk.read("download", "/large", "-", limit=1 << 20)
        assert talk.ask("is-file", "/etc/os-release").strip() == "true"
        assert inspection.facts(talk, root, directory, "large").initrd_why == "it is too large"


def test_what_a_machine_writes_to(catalog):
    """A persistent image in use, told by the catalog; a file that QEMU has open, by its lock."""
    source = known(catalog).source
    with subprocess.Popen(["qemu-io", "-f", "qcow2", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.read(7) == b"qemu-io"
        (error,) = check(path=source).errors
        assert type(error.error).__name__ == "InUse", error.error
        (error,) = only_seed(catalog).errors
        assert type(error.error).__name__ == "InUse" and known(catalog).state == ImageState.READY
        process.stdin.close()
    told(catalog, f"UPDATE images SET state = {int(ImageState.USED_PERS)}, persistent = 1")
    (error,) = check(name="small", root=str(catalog)).errors
    assert "a machine writes to it" in error.error.found


def test_what_is_wrongly_asked(tmp_path, small):
    path = str(copied(small / "small.qcow2", tmp_path))
    for given, told in (
        ({"steps": ["machineid"]}, "Did you mean 'machine-id'"),
        ({"timezone": "../../etc/shadow"}, "not the name of a zone"),
        ({"files": [{"path": "/a"}]}, "one of content, content_base64 and src"),
        ({"files": [{"path": "/a", "content": "x", "mode": "u=rw"}]}, "no octal number"),
        ({"files": [{"path": "a", "content": "x"}]}, "not an absolute path"),
        ({"files": [{"path": "/a", "content_base64": "%"}]}, "not base64"),
    ):
        (item,) = prepare(path=path, **given).errors
        assert told in str(item.error)
