# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What other programs read in the ISO is in tests/integration/test_context_iso.py."""

from __future__ import annotations

import hashlib
import os
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from file_facts import facts

from ansible_collections.nebula.provision.plugins.module_utils.context import files_attribute, iso9660
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.host import files

VARIABLES = {"NAME": "o'brien", "SECRET": "s3cret", "ETH0_IP": "10.0.0.5"}


def tree(top):
    top.mkdir()
    (top / "init.sh").write_text("#!/bin/sh\n")
    (top / "init.sh").chmod(0o755)
    (top / ("n" * 250)).write_text("long")
    (top / "empty").touch()
    deep = top.joinpath(*(f"level{i}" for i in range(10)))
    deep.mkdir(parents=True)
    (deep / "leaf").write_text("leaf")
    return [files_attribute.context_file(str(top))]


def digest(*arguments):
    with iso9660.build_iso(*arguments) as iso:
        return iso.digest


def test_write(tmp_path):
    path = tmp_path / "context.iso"
    returned = iso9660.write_iso(str(path), VARIABLES)
    with iso9660.build_iso(VARIABLES) as iso:
        assert returned == iso.digest
        assert iso.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() != iso.digest
        assert iso.size == path.stat().st_size
    assert path.stat().st_mode & 0o7777 == 0o640
    assert [entry.name for entry in tmp_path.iterdir()] == ["context.iso"]
    assert iso9660.read_iso(str(path)) == (VARIABLES, {})
    assert iso9660.what_is_at(str(path)) == iso9660.IsoAtPlace(
        path.stat().st_size, ours=True, context=True, format="opennebula"
    )


def test_the_same_is_not_written_again(tmp_path):
    path = tmp_path / "context.iso"
    iso9660.write_iso(str(path), VARIABLES)
    before, inode = facts(path), path.stat().st_ino
    iso9660.write_iso(str(path), VARIABLES)
    assert facts(path) == before
    iso9660.write_iso(str(path), {**VARIABLES, "NAME": "O'brien"})
    assert path.stat().st_ino != inode


# -- padding ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def unpadded(tmp_path, monkeypatch):
    """As a release that did not pad its ISOs made it; (path, what write() said of it)."""
    path = tmp_path / "context.iso"
    with monkeypatch.context() as former:
        former.setattr(iso9660, "PADDING", 0)
        said = iso9660.write_iso(str(path), VARIABLES)
    assert said == hashlib.sha256(path.read_bytes()).hexdigest()
    return path, said


@pytest.mark.parametrize("large", [False, True])
def test_an_iso_ends_with_a_hole_that_the_volume_counts(tmp_path, monkeypatch, unpadded, large):
    if large:
        monkeypatch.setattr(iso9660, "_IN_MEMORY", 1000)
    path = tmp_path / "padded.iso"
    iso9660.write_iso(str(path), VARIABLES)
    content, former = path.read_bytes(), unpadded[0].read_bytes()
    assert len(content) == len(former) + 150 * 2048 >= 128 * 1024
    assert content[len(former) :] == bytes(150 * 2048)
    assert path.stat().st_blocks * 512 <= len(former) + 4096
    descriptors = [content[place : place + 2048] for place in (16 * 2048, 17 * 2048)]
    assert [descriptor[0] for descriptor in descriptors] == [1, 2]
    for descriptor in descriptors:
        sizes = struct.unpack_from("<I", descriptor, 80) + struct.unpack_from(">I", descriptor, 84)
        assert sizes == (len(content) // 2048,) * 2


def test_a_label_of_ones_own_is_padded_too(tmp_path):
    with iso9660.build_labelled_iso("OEMDRV", {"ks.cfg": b"text\n"}) as iso, (tmp_path / "x.iso").open("w+b") as file:
        iso.copy(file)
        file.flush()
        assert os.fstat(file.fileno()).st_size == iso.size >= 128 * 1024
        file.seek(0)
        assert hashlib.sha256(file.read()).hexdigest() == iso.sha256


def test_the_name_of_an_iso_is_on_the_disk_unless_its_new_digest_is_recorded_beside_it(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(files, "sync_directory", synced.append)
    path = tmp_path / "disk.1"
    digest = iso9660.write_iso(str(path), VARIABLES, recorded="")
    assert synced == []
    # It was lost, and its record says so already: nothing else is written.
    path.unlink()
    assert iso9660.write_iso(str(path), VARIABLES, recorded=digest) == digest
    assert synced == [str(tmp_path)]
    path.unlink()
    iso9660.write_iso(str(path), VARIABLES)
    assert synced == [str(tmp_path)] * 2


def test_an_unpadded_iso_is_kept_where_that_is_asked_for(unpadded):
    path, said = unpadded
    before, untouched = path.stat(), facts(path)
    assert iso9660.write_iso(str(path), VARIABLES, keep_unpadded=True) == said
    assert facts(path) == untouched
    assert iso9660.write_iso(str(path), VARIABLES, mode=0o600, keep_unpadded=True) == said
    assert (path.stat().st_ino, path.stat().st_mode & 0o777) == (before.st_ino, 0o600)
    assert iso9660.write_iso(str(path), {**VARIABLES, "NAME": "O'brien"}, keep_unpadded=True) != said
    assert path.stat().st_size == before.st_size + 150 * 2048


def test_an_unpadded_iso_is_replaced_and_counts_as_the_same(unpadded):
    path, said = unpadded
    length = path.stat().st_size
    assert iso9660.write_iso(str(path), VARIABLES) == said
    assert path.stat().st_size == length + 150 * 2048
    padded = facts(path)
    for keep in (True, False):
        assert iso9660.write_iso(str(path), VARIABLES, keep_unpadded=keep) == said
        assert facts(path) == padded


@pytest.mark.parametrize("place", [1000, -1])
def test_what_was_damaged_is_written_anew(tmp_path, place):
    path = tmp_path / "context.iso"
    iso9660.write_iso(str(path), VARIABLES)
    good = path.read_bytes()
    damaged = bytearray(good)
    damaged[place] ^= 1
    path.write_bytes(damaged)
    iso9660.write_iso(str(path), VARIABLES, keep_unpadded=True)
    assert path.read_bytes() == good


def test_the_same_bytes_whenever_and_wherever(tmp_path, monkeypatch):
    """Dates, time zone, owners and the order in the directory are no part of it. The files are long and many enough
    for Rock Ridge to continue elsewhere, and deep enough for directories to be moved."""
    first = digest(VARIABLES, tree(tmp_path / "a"))
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    (tmp_path / "elsewhere").mkdir()
    second_tree = tree(tmp_path / "elsewhere" / "a")
    os.utime(tmp_path / "elsewhere" / "a" / "init.sh", (1, 1))
    second = digest(dict(reversed(VARIABLES.items())), second_tree)
    monkeypatch.undo()
    time.tzset()
    assert first == second


@pytest.mark.parametrize("change", ["variable", "content", "executable", "name", "file more"])
def test_other_input_other_bytes(tmp_path, change):
    context_files = tree(tmp_path / "a")
    first = digest(VARIABLES, context_files)
    variables = dict(VARIABLES)
    if change == "variable":
        variables["SECRET"] = "s3creT"
    elif change == "content":
        (tmp_path / "a" / "init.sh").write_text("#!/bin/SH\n")
    elif change == "executable":
        (tmp_path / "a" / "init.sh").chmod(0o644)
    elif change == "name":
        (tmp_path / "a" / "empty").rename(tmp_path / "a" / "emptY")
    else:
        (tmp_path / "a" / "another").touch()
    assert digest(variables, context_files) != first


def test_threads(tmp_path):
    context_files = tree(tmp_path / "a")
    expected = [digest({"N": str(n)}, context_files) for n in range(24)]
    with ThreadPoolExecutor(8) as pool:
        work = [
            pool.submit(iso9660.write_iso, str(tmp_path / f"{n}.iso"), {"N": str(n)}, context_files) for n in range(24)
        ]
    assert [done.result() for done in work] == expected


def test_no_date_of_today_is_left(tmp_path, monkeypatch):
    """pycdlib is told a date that is easy to find: not one of its stamps may remain."""
    monkeypatch.setattr(time, "time", lambda: 4_086_543_845.0)  # 2099-07-01 and some
    with iso9660.build_iso(VARIABLES, tree(tmp_path / "a")) as iso:
        iso.content.seek(0)
        content = iso.content.read()
    assert b"2099" not in content
    assert bytes((199, 7, 1)) not in content


def test_large_files_are_not_held_in_memory(tmp_path, monkeypatch):
    (tmp_path / "big").write_bytes(os.urandom(100_000))
    (tmp_path / "isos").mkdir()
    wanted = [files_attribute.context_file(str(tmp_path / "big"))]
    in_memory = iso9660.write_iso(str(tmp_path / "isos" / "a.iso"), VARIABLES, wanted)
    monkeypatch.setattr(iso9660, "_IN_MEMORY", 50_000)
    with iso9660.build_iso(VARIABLES, wanted, str(tmp_path / "isos")) as iso:
        assert os.fstat(iso.content.fileno()).st_nlink == 0
    assert iso9660.write_iso(str(tmp_path / "isos" / "b.iso"), VARIABLES, wanted) == in_memory
    assert (tmp_path / "isos" / "a.iso").read_bytes() == (tmp_path / "isos" / "b.iso").read_bytes()
    assert sorted(entry.name for entry in (tmp_path / "isos").iterdir()) == ["a.iso", "b.iso"]


def test_thousands_of_names_that_begin_alike(tmp_path):
    (tmp_path / "a").mkdir()
    for number in range(2000):
        (tmp_path / "a" / f"certificate-of-a-host-{number}.pem").touch()
    path = tmp_path / "x.iso"
    iso9660.write_iso(str(path), {}, [files_attribute.context_file(str(tmp_path / "a"))])
    assert len(iso9660.read_iso(str(path))[1]) == 2000


def test_a_failure_leaves_the_old_one(tmp_path):
    path = tmp_path / "context.iso"
    iso9660.write_iso(str(path), VARIABLES)
    before = path.read_bytes()
    with pytest.raises(NotFound):
        iso9660.write_iso(str(path), VARIABLES, [files_attribute.context_file(str(tmp_path / "nothing"))])
    with pytest.raises(InvalidValue):
        iso9660.write_iso(str(path), {"NOT A NAME": "x"})
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["context.iso"]


def test_no_directory(tmp_path):
    with pytest.raises(NotFound, match="nowhere"):
        iso9660.write_iso(str(tmp_path / "nowhere" / "context.iso"), VARIABLES)


def test_examine(tmp_path):
    assert iso9660.what_is_at(str(tmp_path / "nothing")) is None
    (tmp_path / "text").write_text("no ISO")
    assert iso9660.what_is_at(str(tmp_path / "text")) == iso9660.IsoAtPlace(6, ours=False, context=False)
    (tmp_path / "link").symlink_to("text")
    for other in (tmp_path, tmp_path / "link"):
        with pytest.raises(InvalidValue, match="not a regular file"):
            iso9660.what_is_at(str(other))


def test_read_of_what_is_no_iso(tmp_path):
    for content in (b"", b"x" * 40_000, b"\0" * 32768 + b"\1CD001\1" + b"\0" * 4000):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(InvalidValue, match="can't be read"):
            iso9660.read_iso(str(tmp_path / "x"))


# -- formats ----------------------------------------------------------------------------------------------------------
OTHERS = {"configdrive": b"config-2", "nocloud": b"cidata"}
WITH_NIC = {**VARIABLES, "ETH0_MAC": "02:00:0a:00:00:05"}


@pytest.mark.parametrize("format", OTHERS)
def test_another_format_is_known_again(tmp_path, format):
    path = tmp_path / "context.iso"
    context_files = tree(tmp_path / "a")
    iso9660.write_iso(str(path), WITH_NIC, context_files, format=format)
    assert path.read_bytes()[32808:32840].rstrip() == OTHERS[format]
    found = iso9660.what_is_at(str(path))
    assert found == iso9660.IsoAtPlace(path.stat().st_size, ours=True, context=True, format=format)
    variables, lengths = iso9660.read_iso(str(path))
    assert variables == WITH_NIC
    with iso9660.build_iso(WITH_NIC, context_files) as iso:
        assert lengths == {entry.path: entry.size for entry in iso.entries if not entry.directory}


@pytest.mark.parametrize("format", OTHERS)
def test_another_format_has_the_same_bytes_again(tmp_path, format):
    (tmp_path / "elsewhere").mkdir()
    digests = []
    for top in (tmp_path / "a", tmp_path / "elsewhere" / "a"):
        with iso9660.build_iso(dict(reversed(WITH_NIC.items())), tree(top), format=format, identity="one") as iso:
            digests.append(iso.sha256)
    assert len(set(digests)) == 1


def test_the_format_and_who_it_is_for_make_the_bytes():
    kinds = [("opennebula", ""), ("opennebula", "x"), ("configdrive", ""), ("configdrive", "x"), ("nocloud", "")]
    found = []
    for format, identity in kinds:
        with iso9660.build_iso(WITH_NIC, format=format, identity=identity) as iso:
            found.append(iso.digest)
    # The identity is nothing to OpenNebula's format.
    assert found[0] == found[1] == digest(WITH_NIC)
    assert len(set(found)) == 4


def test_names_that_a_format_needs(tmp_path):
    (tmp_path / "OpenStack").touch()
    (tmp_path / "meta-data").touch()
    for format, taken in (("configdrive", "OpenStack"), ("nocloud", "meta-data")):
        wanted = [files_attribute.context_file(str(tmp_path / taken))]
        with pytest.raises(InvalidValue, match=f"{taken}.*{format}"):
            iso9660.write_iso(str(tmp_path / "x.iso"), {}, wanted, format=format)
        iso9660.write_iso(str(tmp_path / "x.iso"), {}, wanted)


def test_no_such_format(tmp_path):
    with pytest.raises(InvalidValue, match="Known are opennebula, configdrive, nocloud"):
        iso9660.write_iso(str(tmp_path / "x.iso"), {}, format="vmware")


def test_all_that_is_on_it_is_read_with_what_may_be_run(tmp_path):
    (tmp_path / "script").write_text("echo\n", encoding="utf-8")
    (tmp_path / "script").chmod(0o755)
    (tmp_path / "below").mkdir()
    (tmp_path / "below/text").write_bytes(b"\0\xff")
    wanted = [files_attribute.context_file(str(tmp_path / name), name) for name in ("script", "below")]
    iso9660.write_iso(str(tmp_path / "iso"), {"A": "b"}, wanted)
    found = {path: (content, runs) for path, content, runs in iso9660.files_of_iso(str(tmp_path / "iso"))}
    assert found.pop("context.sh")[0].endswith(b"A='b'\n")
    assert found == {"script": (b"echo\n", True), "below/text": (b"\0\xff", False)}
    (tmp_path / "iso").write_bytes(b"none")
    with pytest.raises(InvalidValue, match="it can't be read"):
        iso9660.files_of_iso(str(tmp_path / "iso"))
