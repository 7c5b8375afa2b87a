# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives of root file systems that were made to do harm: refused, or kept to their own tree. Nothing outside changes,
and of a refused one nothing is left."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import signal
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from in_world import in_bare_world

from ansible_collections.nebula.provision.plugins.module_utils.errors import ImageRefused, NebulaError, NoSpace
from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import id_range
from ansible_collections.nebula.provision.plugins.module_utils.storage import roots
from ansible_collections.nebula.provision.plugins.module_utils.storage.roots import Limits
from ansible_collections.nebula.provision.tests.integration.test_roots import mounts, processes

MIB = 1024 * 1024
IDS = id_range(11)
SECRET = "of the host\n"
ALL = Limits()
ROOT = Path(__file__).resolve().parents[2]


def entry(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", target: str = "", **attributes):
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.size = kind, target, len(content)
    found.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in attributes.items():
        setattr(found, key, value)
    return found, content


def packed(*entries: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format, errors="surrogateescape") as tar:
        for found, content in entries:
            tar.addfile(found, io.BytesIO(content))
    return file.getvalue()


class Place:
    """A directory of the world with a tree that is to be made, and what must not change."""

    def __init__(self) -> None:
        self.world = Path(os.environ["NEBULA_WORLD"]) / f"roots-{time.monotonic_ns()}"
        (self.world / "outside").mkdir(parents=True)
        self.secret = self.world / "outside/secret"
        self.secret.write_text(SECRET)
        self.secret.chmod(0o600)
        self.archive = self.world / "archive"
        self.tree = self.world / "tree"

    def unpack(self, data: bytes, limits: Limits = ALL) -> roots.Unpacked:
        self.archive.write_bytes(data)
        return roots.unpack(str(self.archive), str(self.tree), IDS, limits, what="image demo")

    def refused(self, data: bytes, found: str, limits: Limits = ALL, kind: type = ImageRefused) -> NebulaError:
        with pytest.raises(kind, match=found) as caught:
            self.unpack(data, limits)
        assert sorted(os.listdir(self.world)) == ["archive", "outside"]
        assert str(caught.value).isprintable() and caught.value.asked == "image demo"
        return caught.value


def outside(place: Place) -> object:
    """Owners, modes, times and sizes of what a way out could lead to."""
    seen = []
    for top in (place.world / "outside", Path("/etc"), Path("/root"), Path("/var/tmp")):
        for path in [top, *sorted(top.iterdir())]:
            # This world and others come and go there.
            if not path.name.startswith(("nebula-", "pytest-")) and path != Path("/var/tmp"):
                found = path.lstat()
                seen.append((str(path), found.st_mode, found.st_uid, found.st_mtime_ns, found.st_size, found.st_nlink))
    return seen, sorted(os.listdir("/"))


@contextmanager
def kept() -> Iterator[Place]:
    place = Place()
    before = outside(place), mounts(), processes()
    yield place
    after = outside(place), mounts(), processes()
    for one, other in zip(before, after):
        assert one == other
    assert place.secret.read_text() == SECRET
    roots.remove(str(place.tree))
    assert sorted(os.listdir(place.world)) == ["archive", "outside"]


def owner(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_uid - IDS.start, found.st_gid - IDS.start


# --- ways out ---------------------------------------------------------------------------------------------------------

WAYS_OUT = {
    "two dots": [entry("../outside/secret", content=b"x")],
    "two dots behind a name": [entry("a", tarfile.DIRTYPE), entry("a/../../outside/secret", content=b"x")],
    "a hard link by two dots": [entry("a", tarfile.LNKTYPE, target="../outside/secret")],
    "a hard link to a file of the host": [entry("a", tarfile.LNKTYPE, target="/etc/passwd")],
    "a hard link through a link": [
        entry("l", tarfile.SYMTYPE, target="/etc"), entry("a", tarfile.LNKTYPE, target="l/passwd")
    ],
    "a link up and a file behind it": [
        entry("l", tarfile.SYMTYPE, target="../../../../../../../../etc"), entry("l/passwd", content=b"x")
    ],
    "a link around and around": [
        entry("a", tarfile.SYMTYPE, target="b"), entry("b", tarfile.SYMTYPE, target="a"), entry("a/x", content=b"x")
    ],
    "a file behind a file": [entry("a", content=b"x"), entry("a/b", content=b"x")],
    "a file for its root": [entry("./", content=b"x", type=tarfile.REGTYPE)],
    "a directory that is a file later, with something in it": [
        entry("a/b", content=b"x"), entry("a", content=b"x")
    ],
    "a link in the place of a directory with files": [
        entry("a", tarfile.DIRTYPE), entry("a/b", content=b"x"), entry("a", tarfile.SYMTYPE, target="/etc"),
        entry("a/passwd", content=b"x"),
    ],
    "a name of 300 bytes": [entry("x" * 300, content=b"x")],
    "a name of 61,000 bytes": [entry("/".join(["x" * 99] * 610), content=b"x")],
    "10,001 directories, one in another": [entry("x/" * 10_001 + "x", content=b"x")],
    "names that take too much memory": [entry(f"{number}/" + "xxxxx/" * 9_900 + "x") for number in range(2)],
    "an owner that no container has": [entry("a", content=b"x", uid=65536)],
    "a group that no container has": [entry("a", content=b"x", gid=4294967295)],
    "a capability that is none": [entry("a", content=b"x", pax_headers={"SCHILY.xattr.security.capability": "x"})],
    "an attribute without a name": [entry("a", content=b"x", pax_headers={"SCHILY.xattr.user.": "x"})],
    "an attribute of 100 KiB": [entry("a", content=b"x", pax_headers={"SCHILY.xattr.user.x": "x" * 100 * 1024})],
}  # fmt: skip


@pytest.mark.parametrize("what", WAYS_OUT)
@in_bare_world
def test_refused(what: str) -> None:
    with kept() as place:
        place.refused(packed(*WAYS_OUT[what]), ".")


@in_bare_world
def test_absolute_names_and_links_lead_into_the_tree():
    with kept() as place:
        outside_file = str(place.secret)
        place.unpack(
            packed(
                entry("/etc", tarfile.DIRTYPE),
                entry("/etc/passwd", content=b"of the tree"),
                entry("//etc//./shadow", content=b"of the tree"),
                entry("l", tarfile.SYMTYPE, target="/etc"),
                entry("l/group", content=b"of the tree"),
                entry("up", tarfile.SYMTYPE, target="../../../.."),
                entry("up/inner", content=b"of the tree"),
                entry("out", tarfile.SYMTYPE, target=str(place.world / "outside")),
                entry("h", tarfile.LNKTYPE, target="/etc/passwd"),
                entry("hl", tarfile.LNKTYPE, target="l"),
            )
        )
        for name in ("etc/passwd", "etc/shadow", "etc/group", "inner", "h"):
            assert (place.tree / name).read_text() == "of the tree"
        assert os.readlink(place.tree / "out") == os.path.dirname(outside_file)
        assert (place.tree / "h").stat().st_nlink == 2 and os.readlink(place.tree / "hl") == "/etc"


@in_bare_world
def test_a_file_through_a_link_does_not_reach_where_it_leads_on_the_host():
    with kept() as place:
        link = entry("l", tarfile.SYMTYPE, target=str(place.world / "outside"))
        place.refused(packed(link, entry("l/secret", content=b"x")), "can't be made: No such file or directory")
        place.refused(
            packed(link, entry("h", tarfile.LNKTYPE, target="l/secret")),
            "a link to .*, which it does not have before it",
        )


@in_bare_world
def test_what_replaces_a_link_does_not_write_through_it():
    with kept() as place:
        out = str(place.secret)
        place.unpack(
            packed(
                entry("l", tarfile.SYMTYPE, target=out), entry("l", content=b"x"),
                entry("d", tarfile.SYMTYPE, target=os.path.dirname(out)), entry("d", tarfile.DIRTYPE, mode=0o777),
                entry("t", content=b"x"), entry("t", tarfile.SYMTYPE, target=out), entry("e", tarfile.DIRTYPE),
                entry("e", content=b"a file now"),
            )
        )  # fmt: skip
        assert (place.tree / "l").read_text() == "x" and (place.tree / "d").is_dir()
        assert not (place.tree / "d").is_symlink() and (place.tree / "e").read_text() == "a file now"
        assert (place.tree / "t").is_symlink()


@in_bare_world
def test_links_get_owners_and_times_and_what_they_lead_to_does_not():
    with kept() as place:
        place.unpack(packed(entry("l", tarfile.SYMTYPE, target=str(place.secret), uid=7, gid=8, mtime=5, mode=0o777)))
        assert owner(place.tree / "l") == (7, 8) and (place.tree / "l").lstat().st_mtime == 5


# --- what only root could make ----------------------------------------------------------------------------------------


@in_bare_world
def test_device_nodes_are_left_out_and_counted():
    with kept() as place:
        done = place.unpack(
            packed(
                entry("dev", tarfile.DIRTYPE),
                entry("dev/sda", tarfile.BLKTYPE, devmajor=8, mode=0o666),
                entry("dev/mem", tarfile.CHRTYPE, devmajor=1, devminor=1, mode=0o666),
                entry("whiteout", tarfile.CHRTYPE),
                entry("fifo", tarfile.FIFOTYPE, mode=0o640, uid=3),
            )
        )
        assert done.devices == 3 and "3 device nodes were left out" in done.warnings("image demo")[0]
        assert os.listdir(place.tree / "dev") == [] and sorted(os.listdir(place.tree)) == ["dev", "fifo"]
        fifo = (place.tree / "fifo").lstat()
        assert (
            stat.S_ISFIFO(fifo.st_mode) and stat.S_IMODE(fifo.st_mode) == 0o640 and owner(place.tree / "fifo") == (3, 0)
        )


@in_bare_world
def test_set_uid_files_are_of_the_machines_ids_and_none_is_roots():
    with kept() as place:
        place.unpack(
            packed(
                entry("su", content=b"x", mode=0o4755),
                entry("of-nobody", content=b"x", mode=0o6711, uid=65534, gid=99),
                entry("d", tarfile.DIRTYPE, mode=0o2775, gid=50), entry("d/f", content=b"x"),
            )
        )  # fmt: skip
        assert stat.S_IMODE((place.tree / "su").stat().st_mode) == 0o4755 and owner(place.tree / "su") == (0, 0)
        assert stat.S_IMODE((place.tree / "of-nobody").stat().st_mode) == 0o6711
        assert owner(place.tree / "of-nobody") == (65534, 99)
        # What is made in a directory whose group is handed on has its own all the same.
        assert stat.S_IMODE((place.tree / "d").stat().st_mode) == 0o2775 and owner(place.tree / "d/f") == (0, 0)
        for found in [place.tree, *place.tree.rglob("*")]:
            assert IDS.holds(found.lstat().st_uid) and IDS.holds(found.lstat().st_gid)


@in_bare_world
def test_capabilities_are_those_of_the_tree_and_attributes_of_the_host_are_left_out():
    capability = bytes.fromhex("0100000200200000000000000000000000000000").decode("latin-1")
    with kept() as place:
        records = {
            "SCHILY.xattr.security.capability": capability,
            "SCHILY.xattr.user.mine": "1",
            "SCHILY.xattr.trusted.overlay.opaque": "y",
            "SCHILY.xattr.security.selinux": "system_u:object_r:shadow_t:s0",
            "SCHILY.xattr.security.ima": "x",
        }
        done = place.unpack(packed(entry("ping", content=b"x", mode=0o755, pax_headers=records, uid=5)))
        ping = place.tree / "ping"
        assert set(os.listxattr(ping)) == {"security.capability", "user.mine"} and done.lost == 1
        found = os.getxattr(ping, "security.capability")
        # Of the third version, which holds for programs in namespaces of this root only.
        assert found[3] == 3 and int.from_bytes(found[20:24], "little") == IDS.start
        assert "1 of its files have attributes" in done.warnings("image demo")[0]


# --- names ------------------------------------------------------------------------------------------------------------

NAMES = ["a\nb", "\x1b[2Jx", " ", "-rf", "*", "\\", "a'b\"", "\u202egnp", "x" * 255, "...", "..a", ".new", "%s%n", "\t"]


@in_bare_world
def test_names_of_all_kinds():
    with kept() as place:
        raw = [b"\xff\xfe", b"latin-\xe9", b"\xed\xa0\x80"]
        entries = [entry(name, content=name.encode()) for name in NAMES]
        entries += [entry(os.fsdecode(name), content=name) for name in raw]
        place.unpack(packed(*entries, format=tarfile.GNU_FORMAT))
        found = {name: (place.tree / os.fsdecode(name)).read_bytes() for name in os.listdir(os.fsencode(place.tree))}
        assert found == {name: name for name in [*(name.encode() for name in NAMES), *raw]}


@in_bare_world
def test_names_in_errors_do_no_harm():
    with kept() as place:
        for name in ("\x1b[2J\nfine", os.fsdecode(b"\xff\xfe"), "\u202e", "y" * 3000):
            found = place.refused(packed(entry(name + "/" + "x" * 300), format=tarfile.GNU_FORMAT), "can't be made")
            assert len(str(found)) < 800 and "\n" not in str(found)


# --- bombs ------------------------------------------------------------------------------------------------------------

SMALL = Limits(size=8 * MIB, entries=100, depth=8, length=200)
PACK = {
    "": bytes, "gz": lambda data: gzip.compress(data, 9), "bz2": bz2.compress,
    "xz": lambda data: lzma.compress(data, preset=0),
    "zst": lambda data: subprocess.run(["zstd", "-qc"], input=data, capture_output=True, check=True).stdout,
}  # fmt: skip


@pytest.mark.parametrize("packing", PACK)
@in_bare_world
def test_bombs(packing: str) -> None:
    with kept() as place:
        pack: Callable[[bytes], bytes] = PACK[packing]
        place.refused(pack(packed(entry("zeroes", content=bytes(64 * MIB)))), "more than 8 MiB", SMALL)
        many = packed(*(entry(f"f{number}") for number in range(500)), format=tarfile.USTAR_FORMAT)
        place.refused(pack(many), "more than 100 entries", SMALL)
        directories = packed(*(entry(f"{number}/d/d/d/f") for number in range(99)), format=tarfile.USTAR_FORMAT)
        place.refused(pack(directories), "more than 1 MiB", Limits(size=MIB))
        place.refused(pack(packed(entry("d/" * 9 + "f"))), "deeper than 8 directories", SMALL)
        place.refused(pack(packed(entry("n" * 201))), "201 bytes; the limit is 200", SMALL)


@in_bare_world
def test_memory_is_bounded():
    """One name in headers of a megabyte each, without end; and a sparse file of stretches without end."""
    with kept() as place:
        header = packed(entry("x" * 900000), format=tarfile.GNU_FORMAT)
        long_name = header[: 512 + 900096]
        place.refused(gzip.compress(long_name * 300), "truncated")
        place.refused(
            gzip.compress(bytes(packed(entry("x" * 70000), format=tarfile.GNU_FORMAT))), "can't be that of a file"
        )


@in_bare_world
def test_a_sparse_file_takes_no_room_and_one_that_no_file_system_has_is_refused():
    with kept() as place:
        headers = {"GNU.sparse.map": "5000000000,3", "GNU.sparse.size": "6000000000", "GNU.sparse.name": "s"}
        place.unpack(packed(entry("x", content=b"abc", pax_headers=headers)), Limits(size=16 * MIB))
        found = (place.tree / "s").stat()
        assert found.st_size == 6000000000 and found.st_blocks * 512 < MIB
        with (place.tree / "s").open("rb") as file:
            file.seek(5000000000)
            assert file.read(4) == b"abc\0"
        roots.remove(str(place.tree))
        headers["GNU.sparse.size"] = str(2**63 - 1)
        place.refused(packed(entry("x", content=b"abc", pax_headers=headers)), "File too large")


@in_bare_world
def test_a_full_file_system_is_not_filled():
    """Room is left for others: 64 MiB, as in all datastores."""
    with kept() as place:
        small = place.world / "small"
        small.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "small", small], check=True)
        try:
            tree, archive = small / "tree", place.archive
            archive.write_bytes(gzip.compress(packed(entry("a", content=bytes(120 * MIB))), 1))
            with pytest.raises(NoSpace, match=r"image demo: .* MiB are left of the file system"):
                roots.unpack(str(archive), str(tree), IDS, what="image demo")
            assert os.listdir(small) == []
            archive.write_bytes(packed(entry("a", content=bytes(120 * MIB))))
            with pytest.raises(NoSpace, match=r"image demo: 120\.\d MiB in .*MiB are free"):
                roots.unpack(str(archive), str(tree), IDS, what="image demo")
            assert os.listdir(small) == []
            subprocess.run(["mount", "-o", "remount,nr_inodes=1200", small], check=True)
            archive.write_bytes(packed(*(entry(f"f{number}") for number in range(3000))))
            with pytest.raises(NoSpace, match=r"the file system can have .* files more"):
                roots.unpack(str(archive), str(tree), IDS, what="image demo")
            assert os.listdir(small) == []
        finally:
            subprocess.run(["umount", small], check=True)
            small.rmdir()


# --- not whole --------------------------------------------------------------------------------------------------------

WHOLE = packed(*(entry(f"d/f{number}", content=os.urandom(3000)) for number in range(100)), entry("d", tarfile.DIRTYPE))


@pytest.mark.parametrize("packing", PACK)
@in_bare_world
def test_parts_and_two_of_them_are_refused(packing: str) -> None:
    with kept() as place:
        data = PACK[packing](WHOLE)
        for cut in (1, 20, len(data) // 2, len(data) - 100, len(data) - 5):
            if packing or cut < len(WHOLE.rstrip(b"\0")):
                place.refused(data[:cut], "truncated|no header of tar|damaged")
        damaged = bytearray(data)
        at = len(data) // 2 if packing else data.index(b"d/f50") - 1
        damaged[at : at + 700] = bytes(range(1, 8)) * 100
        place.refused(bytes(damaged), "damaged|no header of tar|truncated")
        place.refused(PACK[packing](WHOLE + WHOLE), "something follows after its end")
        if packing:
            place.refused(data + data, "something follows after its end")
            place.refused(PACK[packing](data), "no header of tar|damaged|truncated")
            # One archive in two streams is one archive.
            place.unpack(PACK[packing](WHOLE[:5000]) + PACK[packing](WHOLE[5000:]))
            assert len(os.listdir(place.tree / "d")) == 100


@in_bare_world
def test_what_is_killed_leaves_nothing_running_and_the_next_removes_the_rest():
    with kept() as place:
        place.archive.write_bytes(WHOLE[: len(WHOLE) // 2])
        program = (
            "import json, os, sys; sys.path.insert(0, sys.argv[1])\n"
            "from ansible_collections.nebula.provision.plugins.module_utils.storage import decompression, roots\n"
            "from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import id_range\n"
            "def endless(packing, blocks, what):\n"
            "    yield from blocks\n"
            "    print('fed', flush=True)\n"
            "    sys.stdin.read()\n"
            "decompression.detect, decompression.unpack = lambda head: 'gz', endless\n"
            "roots.unpack(sys.argv[2], sys.argv[3], id_range(11))\n"
        )
        before = processes()
        words = [sys.executable, "-c", program, str(ROOT / "collections"), str(place.archive), str(place.tree)]
        child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdout is not None and child.stdout.readline() == b"fed\n"
        new = place.world / "tree.unpacking"
        deadline = time.monotonic() + 30
        while not (new / "d/f20").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (new / "d/f20").exists() and len(processes() - before) >= 2
        child.send_signal(signal.SIGKILL)
        child.wait()
        while processes() - before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert processes() - before == set() and not place.tree.exists()
        place.unpack(WHOLE)
        assert not new.exists() and len(os.listdir(place.tree / "d")) == 100
