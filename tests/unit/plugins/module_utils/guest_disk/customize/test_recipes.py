# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a recipe has guestfish do to a disk, when two recipes are the same, and what is told when it fails.

A guestfish that is found before the real one writes down what it is told and ends as a test says."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import CommandFailed, MissingDependency, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.customize import recipes
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.customize.recipes import Addition, Recipe
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.open import guestfish
from ansible_collections.nebula.provision.plugins.module_utils.storage.image_files import BESIDE

FILE = Addition("/etc/motd", b"hello", mode=0o600, owner="3:4")
WHOLE = Recipe(("nginx", "curl"), (Addition("a.deb", b"package"),), (FILE,), ("echo hi",))


class Guestfish:
    """said: the words of each session, options: those of its command line after the disk."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        path = place / "guestfish"
        path.write_text(
            f'#!/bin/sh\ncat > {place}/said\nprintf "%s\\n" "$@" > {place}/options\nls -A > {place}/files\n'
            f'echo "settings: ${{{guestfish.SETTINGS}}}" >> {place}/sessions\n'
            f'[ -e {place}/broken ] && [ -z "${{{guestfish.SETTINGS}}}" ] && echo guestfs_launch failed >&2 && exit 1\n'
            f"cat {place}/err >&2\nexit $(cat {place}/code)\n"
        )
        path.chmod(0o755)
        self.ends("", 0)

    def ends(self, err: str, code: int) -> None:
        (self.place / "err").write_text(err)
        (self.place / "code").write_text(str(code))

    def read(self, name: str) -> list[str]:
        return (self.place / name).read_text().splitlines()


@pytest.fixture
def fish(tmp_path, monkeypatch):
    monkeypatch.setattr(guestfish, "CACHE", str(tmp_path / "cache"))
    if shutil.which("setpriv") is None:
        pytest.skip("program setpriv is not on this host")
    made = Guestfish(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{made.place}:{os.environ['PATH']}")
    # As on a host that was told not to use KVM: else an appliance alone is tried first.
    monkeypatch.setenv(guestfish.SETTINGS, "force_tcg")
    return made


@pytest.fixture(autouse=True)
def no_rules(monkeypatch):
    """The way out is tried in test_package_network.py, as only root can make one."""
    monkeypatch.setattr(recipes.package_network, "outward_network", lambda _what: contextlib.nullcontext([]))


@pytest.fixture
def disk(tmp_path: Path) -> str:
    path = tmp_path / "images" / "demo.new"
    path.parent.mkdir()
    path.write_bytes(b"disk")
    return str(path)


def script(tmp_path: Path, recipe: Recipe) -> list[str]:
    return list(recipes._script(recipe, str(tmp_path)))


# -- which recipe it is ----------------------------------------------------------------------------------------------


def test_the_same_recipe_has_the_same_digest():
    assert WHOLE.digest() == replace(WHOLE).digest() and len(WHOLE.digest()) == 64


@pytest.mark.parametrize(
    "other",
    [
        replace(WHOLE, packages=("curl", "nginx")),
        replace(WHOLE, packages=("nginx",)),
        replace(WHOLE, sent=(Addition("a.deb", b"another"),)),
        replace(WHOLE, sent=(Addition("b.deb", b"package"),)),
        replace(WHOLE, files=()),
        replace(WHOLE, files=(replace(FILE, content=b"bye"),)),
        replace(WHOLE, files=(replace(FILE, mode=0o644),)),
        replace(WHOLE, files=(replace(FILE, owner="0:0"),)),
        replace(WHOLE, files=(replace(FILE, path="/etc/issue"),)),
        replace(WHOLE, commands=("echo hi", "echo hi")),
        replace(WHOLE, commands=("echo", "hi")),
        Recipe(),
    ],
)
def test_another_recipe_has_another_digest(other):
    assert other.digest() != WHOLE.digest()


def test_what_is_in_a_file_counts_and_not_where_it_lies(tmp_path):
    (tmp_path / "motd").write_bytes(b"hello")
    (tmp_path / "copy").write_bytes(b"hello")
    there = [replace(FILE, content=b"", src=str(tmp_path / name)) for name in ("motd", "copy")]
    digests = {Recipe(files=(each,)).digest() for each in (FILE, *there)}
    assert len(digests) == 1
    (tmp_path / "copy").write_bytes(b"bye")
    assert Recipe(files=(there[1],)).digest() not in digests


def test_a_package_file_counts_with_its_content(tmp_path):
    path = tmp_path / "a.deb"
    path.write_bytes(b"1")
    before = Recipe((str(path),)).digest()
    path.write_bytes(b"2")
    assert Recipe((str(path),)).digest() != before
    path.unlink()
    with pytest.raises(NotFound, match=str(path)):
        Recipe((str(path),)).digest()


def test_the_files_of_this_host_that_a_recipe_names():
    recipe = Recipe(("nginx", "/x/a.deb"), WHOLE.sent, (FILE, Addition("/etc/issue", src="/x/issue")))
    assert recipes.local_files(recipe) == ["/x/a.deb", "/x/issue"] and recipes.local_files(Recipe()) == []


def test_commands_are_not_shown():
    assert "echo hi" not in repr(WHOLE)


# -- what guestfish is told ------------------------------------------------------------------------------------------


def test_a_file_is_put_where_it_belongs_with_mode_and_owner(tmp_path):
    lines = script(tmp_path, Recipe(files=(FILE,)))
    place = '"/.nebula-recipe"'
    assert lines == [
        f"-rm-rf {place}",
        f"mkdir {place}",
        'mkdir-p "/etc"',
        f'upload "{tmp_path}/file0" "/etc/motd"',
        # A change of owner takes the bits for other users away.
        'chown "3" "4" "/etc/motd"',
        'chmod "0600" "/etc/motd"',
        f"rm-rf {place}",
        "umount-all",
        "shutdown",
    ]
    assert (tmp_path / "file0").read_bytes() == b"hello" and (tmp_path / "file0").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("owner", "line"), [("5", 'chown "5" "5" "/etc/my file"'), ("5:6", 'chown "5" "6" "/etc/my file"')]
)
def test_numbers_of_owners_need_no_program_in_the_guest(tmp_path, owner, line):
    lines = script(tmp_path, Recipe(files=(replace(FILE, path="/etc/my file", owner=owner),)))
    assert line in lines and not [line for line in lines if line.startswith(("sh ", "command "))]


@pytest.mark.parametrize("path", ["/etc/motd", "/etc/my file", "/etc/it's a 'file'", '/etc/"$(reboot)"', "/etc/a\nb"])
@pytest.mark.parametrize("owner", ["www-data", "www-data:5", "5:adm"])
def test_names_of_owners_are_the_guests_own_and_its_shell_reads_the_path(tmp_path, owner, path):
    """guestfish splits the words of a command by rules of its own, in which no word can hold every character."""
    other = Addition("/etc/other", b"", owner="root")
    lines = script(tmp_path, Recipe(files=(replace(FILE, path=path, owner=owner), other)))
    ran = [number for number, line in enumerate(lines) if line.startswith("sh ")]
    assert [lines[number] for number in ran] == [
        f'sh "/bin/sh -e /.nebula-recipe/owner{number} </dev/null"' for number in (0, 1)
    ]
    assert shlex.split((tmp_path / "owner0").read_text()) == ["chown", owner, path]
    assert lines[ran[0] + 1].startswith("chmod ")
    assert not [line for line in lines if line.startswith("command ")]


def test_a_file_of_this_host_is_uploaded_from_where_it_lies(tmp_path):
    lines = script(tmp_path, Recipe(files=(Addition("/etc/motd", src="/srv/motd"),)))
    assert 'upload "/srv/motd" "/etc/motd"' in lines and os.listdir(tmp_path) == []


def test_commands_are_run_as_files_in_their_order(tmp_path):
    lines = script(tmp_path, Recipe(commands=("echo 'a b'", "false")))
    assert [line for line in lines if line.startswith("sh ")] == [
        f'sh "/bin/sh -e /.nebula-recipe/command{number} </dev/null"' for number in (0, 1)
    ]
    assert [(tmp_path / f"command{number}").read_text() for number in (0, 1)] == ["echo 'a b'\n", "false\n"]


def installed(tmp_path: Path) -> str:
    return (tmp_path / "install").read_text()


def test_package_files_of_one_name_do_not_get_in_each_others_way(tmp_path):
    recipe = Recipe(("nginx", "/x/a.deb"), (Addition("a.deb", b"sent"),))
    lines = script(tmp_path, recipe)
    assert 'upload "/x/a.deb" "/.nebula-recipe/0-a.deb"' in lines
    assert f'upload "{tmp_path}/package0" "/.nebula-recipe/1-a.deb"' in lines
    assert "install ./0-a.deb ./1-a.deb nginx\n" in installed(tmp_path)
    assert (tmp_path / "package0").read_bytes() == b"sent"


@pytest.mark.parametrize(("packages", "names"), [(("nginx",), 1), (("/x/a.deb",), 0), (("/x/a.deb", "nginx"), 1)])
def test_repositories_are_asked_only_for_names(tmp_path, packages, names):
    script(tmp_path, Recipe(packages))
    assert f"[ {names} = 0 ] || apt-get -q -y update" in installed(tmp_path)


@pytest.mark.parametrize(
    ("packages", "calls"),
    [
        (("nginx", "curl"), ["add nginx curl"]),
        (("/x/a.apk", "nginx"), ["add nginx", f"add {recipes.UNSIGNED} ./0-a.apk"]),
        (("/x/a b.apk",), [f"add {recipes.UNSIGNED} ./0-a b.apk"]),
    ],
)
def test_only_given_files_may_be_signed_by_nobody_known(tmp_path, packages, calls):
    """apk takes that of all that a call brings: what a given file needs, and what others of the call are."""
    script(tmp_path, Recipe(packages))
    branch = installed(tmp_path).partition("elif command -v apk")[2].partition("then\n")[2].partition("elif ")[0]
    apk = tmp_path / "apk"
    apk.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\n')
    apk.chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["/bin/sh", "-e", "-c", branch], env=path, check=True)
    assert (tmp_path / "calls").read_text().splitlines() == calls
    assert "--repositories-file /dev/null" in recipes.UNSIGNED
    # No other manager is told to take it of what comes from a repository. Of zypper's files the option says so itself.
    lines = [line for line in installed(tmp_path).splitlines() if re.search(r"untrusted|unsigned|nogpg|insecure", line)]
    assert all("apk add" in line or "--allow-unsigned-rpm" in line for line in lines)


def test_without_packages_nothing_is_installed(tmp_path):
    script(tmp_path, Recipe(files=(FILE,), commands=("true",)))
    assert not (tmp_path / "install").exists()


@pytest.mark.parametrize("packages", [("nginx",), ("a b; reboot", "/x/$(reboot).deb")])
def test_the_shell_reads_the_installation_and_packages_are_words(tmp_path, packages):
    script(tmp_path, Recipe(packages))
    subprocess.run(["/bin/sh", "-n", tmp_path / "install"], check=True)
    words = [shlex.split(line) for line in installed(tmp_path).splitlines() if "dnf -q -y install" in line]
    ordered = [*(f"./0-{Path(name).name}" for name in packages if name.startswith("/"))]
    ordered += [name for name in packages if not name.startswith("/")]
    assert words == [["dnf", "-q", "-y", "install", *ordered]]


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=20))
@settings(max_examples=40, deadline=None)
def test_a_path_is_one_word_of_one_line_whatever_is_in_it(name):
    """guestfish reads a line as words, in which a quote or the end of a line would begin a command."""
    line = recipes._guestfish_line("upload", "/x", f"/{name}")
    assert line.isascii() and line.isprintable() and line.count('"') == 4


# -- and how it ends -------------------------------------------------------------------------------------------------


def test_all_of_it_is_one_session_and_nothing_stays_beside_the_disk(fish, disk):
    Path(disk + BESIDE).mkdir()
    (Path(disk + BESIDE) / "of a killed run").write_bytes(b"x")
    Path(disk).write_bytes(b"QFI\xfb\0\0\0\2".ljust(72, b"\0"))
    recipes.add(WHOLE, disk, "qcow2", "image demo")
    assert fish.read("options")[-2:] == ["--network", "-i"] and f"-a\n{disk}" in "\n".join(fish.read("options"))
    assert "--format=qcow2" in fish.read("options")
    assert fish.read("said")[0].startswith("-rm-rf ") and fish.read("said")[-1] == "shutdown"
    assert set(fish.read("files")) == {"command0", "file0", "install", "package0"}
    assert os.listdir(os.path.dirname(disk)) == ["demo.new"]


@pytest.mark.parametrize(
    ("recipe", "network"),
    [
        (Recipe(("nginx",)), True),
        (Recipe(("/x/a.deb", "nginx"), commands=("true",)), True),
        (Recipe(commands=("true",)), False),
        (Recipe(files=(FILE,)), False),
        (Recipe(sent=(FILE,)), False),
    ],
)
def test_there_is_a_network_only_where_a_package_is_named(fish, disk, tmp_path, monkeypatch, recipe, network):
    monkeypatch.setattr(recipes, "_write_local", lambda *_arguments: os.devnull)
    asked = []

    @contextlib.contextmanager
    def only(what):
        asked.append(what)
        yield ["env", "OUTWARD=yes"]

    monkeypatch.setattr(recipes.package_network, "outward_network", only)
    recipes.add(recipe, disk, "raw", "image demo")
    assert ("--network" in fish.read("options"), asked) == ((True, ["image demo"]) if network else (False, []))


@pytest.mark.parametrize(
    ("err", "found", "remedy"),
    [
        ("libguestfs: error: no operating system was found\n", "no operating system was found in it", "Name an image"),
        ("libguestfs: error: sh: E: Unable to locate package x\n", "sh: E: Unable to locate package x", "See whether"),
        ("libguestfs: error: guestfs_launch failed.\nDo:\n", "guestfs_launch failed.", "Run libguestfs-test-tool"),
        ("", "it ended with code 3", "See whether"),
    ],
)
def test_what_went_wrong_is_told_of_the_image(fish, disk, err, found, remedy):
    fish.ends(err, 3)
    with pytest.raises(CommandFailed) as caught:
        recipes.add(WHOLE, disk, "raw", "image demo")
    assert caught.value.asked == "image demo: adding packages and files"
    assert caught.value.found == found and caught.value.remedy.startswith(remedy)
    assert os.listdir(os.path.dirname(disk)) == ["demo.new"]


@pytest.mark.parametrize(
    ("broken", "sessions"), [(False, ["settings: "] * 2), (True, ["settings: ", "settings: force_tcg"])]
)
def test_where_kvm_does_not_work_the_appliance_is_emulated(fish, disk, tmp_path, monkeypatch, broken, sessions):
    """It is tried by an appliance alone, before anything is written; /dev/kvm, which this host may lack, is a file."""
    monkeypatch.delenv(guestfish.SETTINGS)
    monkeypatch.setattr(guestfish, "_KVM", str(tmp_path))
    monkeypatch.setattr(guestfish, "emulation", {})
    if broken:
        (fish.place / "broken").touch()
    recipes.add(WHOLE, disk, "raw", "image demo")
    assert fish.read("sessions") == sessions and fish.read("said")[-1] == "shutdown"


def test_another_error_of_the_first_appliance_is_told(fish, disk, tmp_path, monkeypatch):
    """As above."""
    monkeypatch.delenv(guestfish.SETTINGS)
    monkeypatch.setattr(guestfish, "_KVM", str(tmp_path))
    monkeypatch.setattr(guestfish, "emulation", {})
    fish.ends("libguestfs: error: could not open the disk\n", 1)
    with pytest.raises(CommandFailed, match="could not open the disk"):
        recipes.add(WHOLE, disk, "raw", "image demo")
    assert fish.read("said") == ["run"] and len(fish.read("sessions")) == 1


def test_a_host_without_guestfish_is_told_what_to_install(tmp_path, monkeypatch, disk):
    """The search for programs, which is the seam to the operating system, finds none."""
    monkeypatch.setattr(shutil, "which", lambda *_arguments, **_options: None)
    with pytest.raises(
        MissingDependency, match=r"program guestfish is not on this host. Install the package guestfish"
    ):
        recipes.add(WHOLE, disk, "raw", "image demo")
    assert os.listdir(os.path.dirname(disk)) == ["demo.new"]
