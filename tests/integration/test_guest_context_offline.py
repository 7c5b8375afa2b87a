# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The context program put into real disk images: by libguestfs, and by a mount of the kernel's."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.modules import nebula_guest_context
from ansible_collections.nebula.provision.tests.integration.image_runs import sh
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = (ROOT / "roles/guest_context/files/nebula-context").read_text()
OS = "Debian GNU/Linux 12 (bookworm)"
OFFSET = 1 << 20
DEFAULTS = {"path": None, "format": "auto", "trusted": False, "via": "auto", "images": None}
MOUNTED = {"trusted": True, "via": "mount"}

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """What a Debian has of a root, as far as inspection and the program look; busybox is all its programs."""
    top = tmp_path_factory.mktemp("tree")
    for directory in ("bin", "dev", "proc", "run", "sbin", "sys", "tmp", "usr/local/sbin", "usr/bin", "usr/sbin",
                      "var/lib/dpkg", "lib/systemd/system", "etc/systemd/system", "etc/init.d", "etc/rc2.d",
                      "etc/rcS.d"):  # fmt: skip
        (top / directory).mkdir(parents=True, mode=0o755)
    busybox = shutil.which("busybox") or "/bin/busybox"
    shutil.copy(busybox, top / "bin/busybox")
    for name in sh(busybox, "--list").split():
        if name not in ("busybox", "init"):
            (top / "bin" / name).symlink_to("busybox")
    (top / "lib/systemd/systemd").write_text("#!/bin/sh\n")
    (top / "lib/systemd/systemd").chmod(0o755)
    (top / "sbin/init").symlink_to("/lib/systemd/systemd")
    (top / "etc/os-release").write_text(f'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="{OS}"\n')
    (top / "etc/debian_version").write_text("12.5\n")
    (top / "etc/hostname").write_text("guest\n")
    (top / "etc/fstab").write_text("LABEL=root / ext4 defaults 0 1\n")
    return top


def file_system(path, tree):
    path.touch()
    os.truncate(path, 24 << 20)
    sh("mkfs.ext4", "-q", "-F", "-L", "root", "-d", tree, path)
    return path


def partitioned(path, tree):
    """A boot partition that is no root, then the root."""
    boot = path.with_suffix(".boot")
    boot.touch()
    os.truncate(boot, 4 << 20)
    sh("mkfs.ext4", "-q", "-F", "-O", "^has_journal", boot)
    root = file_system(path.with_suffix(".root"), tree)
    with path.open("wb") as disk:
        disk.truncate(40 << 20)
        for start, part in ((OFFSET, boot), (8 << 20, root)):
            disk.seek(start)
            disk.write(part.read_bytes())
            part.unlink()
    sh("sfdisk", "-q", path, input="2048,8192,83\n16384,49152,83\n")
    return path


def as_qcow2(raw):
    path = raw.with_suffix(".qcow2")
    sh("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path)
    return path


@pytest.fixture(scope="module")
def images(tree, tmp_path_factory):
    """One of each kind, not to be written to."""
    top = tmp_path_factory.mktemp("images")
    whole, parts = file_system(top / "whole.raw", tree), partitioned(top / "parts.raw", tree)
    return {"whole.raw": whole, "parts.raw": parts, "whole.qcow2": as_qcow2(whole), "parts.qcow2": as_qcow2(parts)}


@pytest.fixture
def place(tmp_path, images):
    """A directory for copies of images; nothing of ours is left in it, on the host, or running, after the test."""
    before = host(tmp_path)

    def copy(name, to=None):
        path = tmp_path / (to or name)
        shutil.copy(images[name], path)
        os.utime(path, (1_000_000_000, 1_000_000_000))
        return path

    yield copy
    assert [path.name for path in tmp_path.rglob(".*.context")] == []
    wait_for(lambda: host(tmp_path) == before, "the host as it was", 10)


def host(top):
    """Loop devices, and the mounts and programs that have to do with this directory."""
    running = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            words = (directory / "cmdline").read_bytes().split(b"\0")
            if str(directory.joinpath("cwd").readlink()).startswith(f"{top}/") or os.fsencode(top) in b" ".join(words):
                running.append(words)
        except OSError:
            continue
    mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(top) in line]
    return loops(), mounts, running


def loops():
    """Those whose file can't be seen from here, or is in a directory of pytest's; others are somebody else's."""
    return [line for line in sh("losetup", "-a").splitlines() if "(/)" in line or "pytest-of" in line]


def run(*images, check=False):
    return nebula_guest_context.call.run({**DEFAULTS, "images": list(images), "program": PROGRAM}, check)


def one(check=False, **item):
    item["path"] = str(item["path"])
    result = run(item, check=check)
    assert [str(each.error) for each in result.errors] == []
    (view,) = result.payload["images"]
    assert result.changed == view["changed"]
    return view


def refused(**item):
    item["path"] = str(item["path"])
    before = state(Path(item["path"]))
    (item,) = run(item).errors
    assert state(Path(item.name)) == before
    return item.error


def state(path):
    return hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns, path.stat().st_mode


def inside(path, tmp_path):
    """Paths, modes, links and contents of the root in this image, by debugfs and without any mount."""
    raw = tmp_path / "read.raw"
    sh("qemu-img", "convert", "-O", "raw", path, raw)
    if "parts" in path.name:
        data = raw.read_bytes()
        raw.write_bytes(data[8 << 20 : (8 << 20) + (24 << 20)])
    assert subprocess.run(["e2fsck", "-f", "-n", raw], capture_output=True, check=False).returncode == 0
    top = tmp_path / "read"
    top.mkdir()
    sh("debugfs", "-R", f"rdump /etc /usr {top}", raw)
    found = {}
    for entry in sorted(top.rglob("*")):
        kind = os.readlink(entry) if entry.is_symlink() else entry.read_text() if entry.is_file() else "directory"
        found[str(entry.relative_to(top))] = (oct(entry.lstat().st_mode), kind)
    shutil.rmtree(top)
    raw.unlink()
    return found


def test_by_libguestfs_and_again(place, tmp_path, tree):
    """Check mode says what comes and writes nothing; the second time, nothing is written either."""
    path = place("parts.qcow2")
    untouched = state(path)
    assert one(check=True, path=path) == {"path": str(path), "changed": True, "how": "guestfs", "os": OS}
    assert state(path) == untouched
    assert one(path=path)["changed"]
    found = inside(path, tmp_path)
    assert found["usr/local/sbin/nebula-context"] == ("0o100755", PROGRAM)
    assert found["etc/systemd/system/multi-user.target.wants/nebula-context.service"][1].endswith(
        "/etc/systemd/system/nebula-context.service"
    )
    done = state(path)
    assert done != untouched
    assert not one(path=path)["changed"]
    assert state(path) == done
    # The other way finds it done, and would have done the same.
    assert one(path=path, **MOUNTED) == {"path": str(path), "changed": False, "how": "mount", "os": OS}
    assert state(path) == done
    other = place("parts.qcow2", "parts-other.qcow2")
    assert one(path=other, **MOUNTED)["changed"]
    assert inside(other, tmp_path) == found


def test_a_whole_disk_by_libguestfs(place, tmp_path):
    path = place("whole.raw")
    assert one(path=path)["changed"]
    assert inside(path, tmp_path)["usr/local/sbin/nebula-context"] == ("0o100755", PROGRAM)
    assert not one(path=path, format="raw", **MOUNTED)["changed"]


@pytest.mark.parametrize("name", ["whole.raw", "whole.qcow2", "parts.raw", "parts.qcow2"])
def test_by_a_mount_and_again(place, tmp_path, name):
    path = place(name)
    link = tmp_path / "link"
    link.symlink_to(path)
    untouched = state(path)
    assert one(check=True, path=path, **MOUNTED)["changed"]
    assert state(path) == untouched
    assert one(path=link, **MOUNTED) == {"path": str(link), "changed": True, "how": "mount", "os": OS}
    done = state(path)
    assert not one(path=path, **MOUNTED)["changed"]
    assert state(path) == done
    assert done[2] == untouched[2]
    assert inside(path, tmp_path)["usr/local/sbin/nebula-context"] == ("0o100755", PROGRAM)


def test_other_files_that_an_image_names(place, tmp_path):
    """Read for the trusted only, and never written."""
    base = place("whole.raw")
    above = tmp_path / "above.qcow2"
    sh("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, above)
    error = refused(path=above)
    assert "backing file" in error.found
    assert "trusted: true" in error.remedy
    before = state(base)
    assert one(path=above, **MOUNTED)["changed"]
    assert state(base) == before
    data = tmp_path / "data.qcow2"
    sh("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path / 'data'}", data, "16M")
    assert "external data file" in refused(path=data).found


def test_an_image_in_use(place, tmp_path):
    path = place("whole.qcow2")
    above = tmp_path / "above.qcow2"
    sh("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", path, above)
    # Open to be written to, and as what another disk rests on.
    for opened in (path, above):
        with subprocess.Popen(
            ["qemu-io", "-f", "qcow2", opened], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout.read(7) == b"qemu-io"
            error = refused(path=path)
            process.stdin.close()
        assert type(error).__name__ == "InUse"
        assert "Power that machine off" in error.remedy


def background(tmp_path, item, program, before=""):
    """The module in a process of its own, which tells its errors; before: code that comes first."""
    (tmp_path / "program").write_text(program)
    script = f"""
import os, pathlib, resource
from ansible_collections.nebula.provision.plugins.modules import nebula_guest_context
{before}
program = pathlib.Path({str(tmp_path / "program")!r}).read_text()
given = {{**{DEFAULTS!r}, **{item!r}, "program": program}}
for item in nebula_guest_context.call.run(given, False).errors:
    print(item.error)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "collections")}
    return subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)


def test_a_commit_that_does_not_end(place, tmp_path):
    """The next run finishes it, before anything else; check mode foresees that."""
    path = place("whole.qcow2")
    item = {"path": str(path), **MOUNTED}
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({path.stat().st_size}, resource.RLIM_INFINITY))"
    with background(tmp_path, item, PROGRAM, limit) as process:
        said = process.stdout.read()
    assert "Until a run has finished it, the image must not be used" in said
    directory = tmp_path / f".{path.name}.context"
    (complete,) = directory.glob("complete-*")
    before = state(path), state(complete)
    assert one(check=True, **item)["changed"]
    assert (state(path), state(complete)) == before
    assert one(**item)["changed"]
    assert not directory.exists()
    assert not one(**item)["changed"]
    assert inside(path, tmp_path)["usr/local/sbin/nebula-context"] == ("0o100755", PROGRAM)


def test_what_was_left_for_another_file_of_the_name(place, tmp_path):
    """An interrupted commit belongs to the very file that it was made for, and only while nobody writes to that."""
    path = place("whole.qcow2")
    directory = tmp_path / f".{path.name}.context"
    directory.mkdir()
    (directory / f"complete-{path.stat().st_ino + 1}-qcow2").write_text("of another")
    (directory / "overlay").write_text("of a run that was killed")
    assert one(path=path, **MOUNTED)["changed"]
    directory.mkdir()
    complete = directory / f"complete-{path.stat().st_ino}-qcow2"
    complete.write_text("old")
    os.utime(complete, (0, 0))
    error = refused(path=path, **MOUNTED)
    assert "written to since" in error.found
    assert complete.read_text() == "old"
    shutil.rmtree(directory)


@pytest.mark.parametrize("way", [{}, MOUNTED], ids=["guestfs", "mount"])
def test_killed_meanwhile(place, tmp_path, way):
    """Nothing goes on, nothing stays mounted, and the next run begins anew."""
    path = place("parts.qcow2")
    before, untouched = host(tmp_path), state(path)
    # A program that does not end, so that it is known where the run is.
    process = background(tmp_path, {"path": str(path), **way}, "#!/bin/sh\nsleep 100\n")
    try:
        wait_for(lambda: len(loops()) > len(before[0]) if way else appliance(tmp_path), "the disk to be open")
    finally:
        process.kill()
        process.communicate()
    wait_for(lambda: host(tmp_path) == before, "the host as it was")
    assert state(path) == untouched
    assert one(path=path, **MOUNTED)["changed"]


def appliance(top):
    return any(words[0].endswith(b"guestfish") for words in host(top)[2])


def test_links_that_lead_out_of_the_image(tree, tmp_path, place):
    """Followed by nobody on the host, absolute or climbing; those within the image are."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for target in (str(outside), "../../../.." + str(outside)):
        other = tmp_path / "tree"
        shutil.copytree(tree, other, symlinks=True)
        (other / "usr/local/sbin").rmdir()
        (other / "usr/local/sbin").symlink_to(target)
        error = refused(path=file_system(tmp_path / "links.raw", other), **MOUNTED)
        assert "leads out of the image" in error.found
        assert "libguestfs" in error.remedy
        assert list(outside.iterdir()) == []
        shutil.rmtree(other)
    shutil.copytree(tree, other, symlinks=True)
    (other / "usr/local/sbin").rmdir()
    (other / "usr/local/sbin").symlink_to("../sbin")
    path = file_system(tmp_path / "links.raw", other)
    assert one(path=path, **MOUNTED)["changed"]
    assert inside(path, tmp_path)["usr/sbin/nebula-context"] == ("0o100755", PROGRAM)


def test_no_system_in_it(tmp_path, place):
    path = tmp_path / "data.raw"
    path.touch()
    os.truncate(path, 8 << 20)
    sh("mkfs.ext4", "-q", "-F", path)
    error = refused(path=path)
    assert type(error).__name__ == "NotFound"
    assert "no operating system was found in it, but /dev/sda: ext4" in error.found
    error = refused(path=path, **MOUNTED)
    assert "whole disk: ext4" in error.found


def test_an_image_for_another_processor(tree, tmp_path, place):
    other = tmp_path / "tree"
    shutil.copytree(tree, other, symlinks=True)
    with (other / "bin/busybox").open("r+b") as program:
        # The field of ELF's header that says it: a z/Architecture.
        program.seek(18)
        program.write(b"\x16\0")
    error = refused(path=file_system(tmp_path / "other.raw", other))
    assert type(error).__name__ == "Unsupported"
    assert "via: mount" in error.remedy


def test_one_bad_image_keeps_no_other_from_being_done(place, tmp_path):
    good = place("whole.raw")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    disk = tmp_path / "disk.vmdk"
    disk.write_bytes(b"KDMV" + bytes(1020))
    stored = tmp_path / "datastores/1/abc"
    stored.parent.mkdir(parents=True)
    shutil.copy(good, stored)
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    shutil.copy(good, open_to_all / "x.raw")
    bad = [
        ({"path": str(tmp_path / "none")}, "there is no such file"),
        ({"path": "disk.raw"}, "not absolute"),
        ({"path": str(tmp_path)}, "not a regular file"),
        ({"path": str(pipe)}, "not a regular file"),
        ({"path": str(disk)}, "its format is VMDK"),
        ({"path": str(stored)}, "datastore"),
        ({"path": str(open_to_all / "x.raw")}, "everybody may write"),
        ({"path": str(good.parent / "x"), "via": "mount"}, "not said to be trusted"),
        ({"path": str(good.parent / "y"), "format": "vdi"}, "no such format"),
        ({"path": str(good.parent / "z"), "trust": True}, "no such key"),
    ]
    result = run({"path": str(good), **MOUNTED}, *(item for item, _text in bad))
    assert result.payload["images"][0]["changed"]
    errors = [str(item.error) for item in result.errors]
    for _item, text in bad:
        assert any(text in error for error in errors), (text, errors)
    assert len(errors) == len(bad)
    # What an earlier task may be about to bring is no error in check mode.
    result = run({"path": str(tmp_path / "none")}, check=True)
    assert result.changed
    assert result.errors == []
    assert "about to come" in result.warnings[0]


def test_a_program_that_fails(place, tmp_path, monkeypatch):
    path = place("whole.raw")
    for text, found in (("echo no room >&2; exit 1", "no room"), ("echo what", "without saying")):
        monkeypatch.setitem(globals(), "PROGRAM", f"#!/bin/sh\n{text}\n")
        assert found in refused(path=path, **MOUNTED).found


# --- the role --------------------------------------------------------------------------------------------------------


def play(tmp_path, variables, *runs):
    """Run the role, once for each list of options, on a host whose /etc and /usr/local are put back in the end."""
    host_ = {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"}
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": {"here": host_}}}))
    role = {"hosts": "all", "gather_facts": False, "roles": ["nebula.provision.guest_context"]}
    (tmp_path / "play.json").write_text(json.dumps([role]))
    playbook = Path(sys.executable).parent / "ansible-playbook"
    lines = ["set -e"]
    for place_ in ("etc", "usr/local"):
        scratch = tmp_path / "scratch" / place_
        lines += [f"mkdir -p {scratch}", f"mount -t tmpfs none {scratch}", f"mkdir {scratch}/upper {scratch}/work"]
        below = f"lowerdir=/{place_},upperdir={scratch}/upper,workdir={scratch}/work"
        lines.append(f"mount -t overlay -o {below} none /{place_}")
    for options in runs:
        words = [playbook, "-i", tmp_path / "hosts.json", "-e", json.dumps(variables), "--diff", *options]
        lines.append(" ".join(f"'{word}'" for word in [*words, tmp_path / "play.json"]))
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1",
                   "ANSIBLE_REMOTE_TMP": str(tmp_path / "remote")}  # fmt: skip
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", "\n".join(lines)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, [line.split()[3] for line in done.stdout.splitlines() if line.startswith("here ")]


def test_the_role_with_images(place, tmp_path):
    path = place("whole.qcow2")
    variables = {"nebula_guest_images": [{"path": str(path), **MOUNTED}]}
    said, changed = play(tmp_path, variables, ["--check"], [], [])
    assert changed == ["changed=1", "changed=1", "changed=0"], said
    assert "usr/local/sbin/nebula-context" in inside(path, tmp_path)


def test_the_role_in_a_running_machine(tmp_path):
    before = os.path.exists("/usr/local/sbin/nebula-context")
    said, changed = play(tmp_path, {}, ["--check"], [], [], ["--check"])
    assert changed == ["changed=2", "changed=2", "changed=0", "changed=0"], said
    assert os.path.exists("/usr/local/sbin/nebula-context") == before
