# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The context ISO, read by programs that have nothing to do with the one that writes it."""

from __future__ import annotations

import email
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ansible_collections.nebula.provision.plugins.module_utils.context import iso9660
from ansible_collections.nebula.provision.plugins.module_utils.context.files_attribute import context_file
from ansible_collections.nebula.provision.plugins.module_utils.text import context_sh

VARIABLES = {"NAME": "o'brien", "MOTTO": "Ünïcödé\n$(id) ☃", "EMPTY": ""}
LONG = "n" * 246 + ".txt"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    top = tmp_path_factory.mktemp("source") / "service"
    deep = top.joinpath(*(f"level {i}" for i in range(12)))
    deep.mkdir(parents=True)
    (deep / "leaf").write_text("leaf")
    (top / "init.sh").write_text("#!/bin/sh\n")
    (top / "init.sh").chmod(0o755)
    (top / "Жизнь и судьба.txt").write_text("жизнь")
    (top / LONG).write_text("long")
    (top / "a:b*c?").write_text("odd")
    (top / "empty").touch()
    (top / "noise").write_bytes(os.urandom(300_001))
    for number in range(300):
        (top / f"certificate-of-a-host-{number:03}.pem").write_text(str(number))
    return top


@pytest.fixture(scope="module")
def iso(source, tmp_path_factory):
    path = tmp_path_factory.mktemp("iso") / "context.iso"
    iso9660.write_iso(str(path), VARIABLES, [context_file(str(source)), context_file(str(source / "init.sh"))])
    return path


def said(*argv):
    return subprocess.run(argv, check=True, capture_output=True).stdout


def test_label_is_what_guests_look_for(iso):
    assert said("blkid", "-p", "-o", "value", "-s", "LABEL", str(iso)).strip() == b"CONTEXT"
    assert said("blkid", "-p", "-o", "value", "-s", "TYPE", str(iso)).strip() == b"iso9660"


# -- found by its label, as guests look for it ------------------------------------------------------------------------
@pytest.fixture(params=["CONTEXT", "config-2", "cidata", "OEMDRV"])
def drive(request, tmp_path) -> Iterator[tuple[str, str]]:
    """(label, device): one of the smallest ISOs there are, in a drive. OEMDRV: of an installer's answers."""
    if os.geteuid() != 0:
        pytest.skip("drives need root")
    formats = {label: format for format, (label, _documents) in DOCUMENTS.items()}
    # Not below pytest's directory: other tests see to it that no drives of theirs are left.
    with tempfile.TemporaryDirectory(prefix="nebula-iso-") as place:
        path = Path(place, "x.iso")
        if request.param in formats:
            iso9660.write_iso(str(path), {"A": "1"}, format=formats[request.param])
        else:
            with iso9660.build_labelled_iso(request.param, {"ks.cfg": b"text\n"}) as made, path.open("wb") as file:
                made.copy(file)
        device = said("losetup", "--find", "--show", "--read-only", str(path)).decode().strip()
        try:
            yield request.param, device
        finally:
            said("losetup", "--detach", device)


def alone_with(device: str, *argv: str) -> str:
    """What a program prints where this is the only drive: others have the same labels."""
    number = device.removeprefix("/dev/loop")
    script = 'mount -t tmpfs dev /dev && mknod "$1" b 7 "$2" && mknod -m 666 /dev/null c 1 3 && shift 2 && exec "$@"'
    return said("unshare", "--mount", "sh", "-c", script, "sh", device, number, *argv).decode().strip()


# cloud-init's own search is its blkid; test_cloud_init.py has machines that boot with it.
@pytest.mark.parametrize(
    "argv",
    [
        ("busybox", "findfs", "LABEL={label}"),
        ("findfs", "LABEL={label}"),
        ("blkid", "-c", "/dev/null", "-L", "{label}"),
        ("blkid", "-tLABEL={label}", "-odevice"),
    ],
    ids=["busybox", "findfs", "blkid", "cloud-init"],
)
def test_a_search_by_label_finds_it(drive: tuple[str, str], argv: tuple[str, ...]) -> None:
    label, device = drive
    assert alone_with(device, *(word.format(label=label) for word in argv)) == device


@pytest.mark.skipif(shutil.which("udevadm") is None, reason="needs udev")
def test_udev_knows_its_label(drive: tuple[str, str]) -> None:
    """What makes /dev/disk/by-label."""
    label, device = drive
    found = alone_with(device, "udevadm", "test-builtin", "blkid", f"/sys/class/block/{Path(device).name}")
    assert f"ID_FS_LABEL={label}" in found.splitlines()


def test_it_is_as_long_as_its_volume_says(iso):
    """With the padding, for whoever compares, and copies it by that length."""
    sectors = int(re.search(r"Volume size is: (\d+)", said("isoinfo", "-d", "-i", str(iso)).decode())[1])
    assert iso.stat().st_size == sectors * 2048
    assert said("xorriso", "-indev", str(iso), "-toc").count(b"CONTEXT")


def test_both_extensions_are_there(iso):
    text = said("isoinfo", "-d", "-i", str(iso)).decode()
    assert "Volume id: CONTEXT" in text
    assert "Joliet with UCS level 3" in text
    assert "Rock Ridge signatures version 1" in text


@pytest.mark.parametrize("tree", ["-R", "-J"])
def test_context_sh_in_each_tree(iso, tree):
    assert said("isoinfo", tree, "-x", "/context.sh", "-i", str(iso)).decode() == context_sh.render(VARIABLES)


def test_context_sh_without_any_extension(iso):
    assert said("isoinfo", "-x", "/CONTEXT.SH;1", "-i", str(iso)).decode() == context_sh.render(VARIABLES)


@pytest.mark.parametrize("path", ["init.sh", "service/init.sh", "service/noise", "service/" + LONG])
def test_bytes_by_isoinfo(iso, source, path):
    found = said("isoinfo", "-R", "-x", "/" + path, "-i", str(iso))
    assert found == (source / path.rpartition("/")[2]).read_bytes()


def test_everything_by_xorriso(iso, source, tmp_path):
    """Names, directories, contents and executable bits of the whole tree, deep directories in their own place."""
    said("xorriso", "-indev", str(iso), "-osirrox", "on", "-extract", "/", str(tmp_path / "out"))
    said("chmod", "-R", "u+w", str(tmp_path / "out"))
    said("diff", "-r", str(source), str(tmp_path / "out" / "service"))
    for place in (source.parent).rglob("*"):
        copy = tmp_path / "out" / place.relative_to(source.parent)
        assert place.is_dir() or bool(copy.stat().st_mode & 0o100) == bool(place.stat().st_mode & 0o100), place


def test_joliet_names_are_legal_and_apart(iso):
    # isoinfo has no UTF-8.
    names = said("isoinfo", "-J", "-f", "-j", "koi8-r", "-i", str(iso)).decode("koi8-r").splitlines()
    assert len(names) == len({name.lower() for name in names})
    assert len([name for name in names if "/certificate-of-a-host-" in name]) == 300
    assert "/service/Жизнь и судьба.txt" in names
    assert "/service/a_b_c_" in names
    assert not re.search(r"[*:;?\\\x00-\x1f]", "".join(names))


def test_owner_and_dates_say_nothing(iso):
    lines = said("isoinfo", "-R", "-l", "-i", str(iso)).decode(errors="replace").splitlines()
    files = [line.split() for line in lines if re.match(r"[-d]r", line)]
    assert {(mode[1:], owner, group) for mode, _links, owner, group, *_rest in files} == {
        ("r--r--r--", "0", "0"), ("r-xr-xr-x", "0", "0")
    }  # fmt: skip
    assert {tuple(rest[5:8]) for rest in files} == {("Jan", "1", "2000")}


# -- the other formats ------------------------------------------------------------------------------------------------
DOCUMENTS = {
    "opennebula": ("CONTEXT", []),
    "configdrive": ("config-2", ["/openstack/latest/" + name for name in ("meta_data.json", "network_data.json",
                                                                         "user_data")]),
    "nocloud": ("cidata", ["/meta-data", "/network-config", "/user-data"]),
}  # fmt: skip
GUEST = {
    "ETH0_IP": "10.66.0.10",
    "ETH0_MAC": "02:00:0a:42:00:0a",
    "GREETING": "Grüße, ☃ and 🐧",
    "PASSWORD": "pässwörd\u2028🐧",
    "SET_HOSTNAME": "web",
    "START_SCRIPT": "echo 🐧\n",
}


@pytest.mark.parametrize("format", DOCUMENTS)
def test_formats_by_other_readers(tmp_path, format):
    label, documents = DOCUMENTS[format]
    (tmp_path / "init.sh").write_text("true\n")
    path = str(tmp_path / "x.iso")
    iso9660.write_iso(path, GUEST, [context_file(str(tmp_path / "init.sh"))], format=format)
    assert said("blkid", "-p", "-o", "value", "-s", "LABEL", path).decode().strip() == label
    everything = {"/context.sh", "/init.sh", *documents}
    # A Windows guest reads Joliet, others Rock Ridge.
    for tree in ("-R", "-J"):
        listed = set(said("isoinfo", tree, "-f", "-i", path).decode().splitlines())
        assert listed - {"/openstack", "/openstack/latest"} == everything
        assert said("isoinfo", tree, "-x", "/context.sh", "-i", path).decode() == context_sh.render(GUEST)
    said("xorriso", "-indev", path, "-osirrox", "on", "-extract", "/", str(tmp_path / "out"))
    found = {f"/{place.relative_to(tmp_path / 'out')}": place for place in (tmp_path / "out").rglob("*")}
    assert {name for name, place in found.items() if place.is_file()} == everything
    if format == "configdrive":
        meta, network = (json.loads(found[name].read_bytes()) for name in documents[:2])
        assert (meta["hostname"], meta["admin_pass"], meta["meta"]["GREETING"]) == (
            "web", GUEST["PASSWORD"], GUEST["GREETING"]
        )  # fmt: skip
        assert network["links"][0]["ethernet_mac_address"] == GUEST["ETH0_MAC"]
    if format == "nocloud":
        assert yaml.safe_load(found["/meta-data"].read_bytes())["local-hostname"] == "web"
        network = yaml.safe_load(found["/network-config"].read_bytes())
        assert network["ethernets"]["eth0"]["addresses"] == ["10.66.0.10/24"]
    if documents:
        config, script, _init = email.message_from_bytes(found[documents[2]].read_bytes()).get_payload()
        assert yaml.safe_load(config.get_payload(decode=True))["password"] == GUEST["PASSWORD"]
        assert script.get_payload(decode=True).decode() == "#!/bin/sh\n" + GUEST["START_SCRIPT"]
