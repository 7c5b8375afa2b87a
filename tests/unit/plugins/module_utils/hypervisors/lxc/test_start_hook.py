# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that libvirt calls for each container: installed, taken back, and what it leaves alone.
tests/integration/test_lxc_boot.py has what it does."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject
from ansible_collections.nebula.provision.plugins.module_utils.host.node_file import Changes
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.domain_xml import NAMESPACE
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc import hooks, start_hook

OURS = f'<domain><metadata><n:vm xmlns:n="{NAMESPACE}" directory="%s"/></metadata>%s</domain>'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program's path."""
    monkeypatch.setattr(hooks, "HOOKS", tmp_path / "hooks" / "lxc.d")
    monkeypatch.setattr(hooks, "DEFINED", tmp_path / "defined")
    (tmp_path / "hooks").mkdir()
    return tmp_path / "hooks" / "lxc.d" / start_hook.PROGRAM.name


def prepared() -> dict[str, object]:
    changes = Changes(False)
    start_hook.prepare(changes)
    return dict(changes.after)


def called(program: Path, xml: str, operation: str = "prepare", step: str = "begin") -> subprocess.CompletedProcess:
    words = [str(program), "one-1", operation, step, "-"]
    return subprocess.run(words, input=xml, capture_output=True, text=True, check=False)


def test_it_is_installed_once_and_taken_back(place: Path) -> None:
    foreseen = Changes(True)
    start_hook.prepare(foreseen)
    assert list(foreseen.after) == [str(place)] and not place.parent.exists()
    assert list(prepared()) == [str(place)] and place.stat().st_mode & 0o777 == 0o755
    assert prepared() == {}
    place.write_text(f"#!/bin/sh\n{start_hook.PROGRAM.mark}\n# of another version\n", encoding="utf-8")
    assert list(prepared()) == [str(place)]
    assert start_hook.give_back(Changes(True)) and place.exists()
    assert start_hook.give_back(Changes(False)) and not place.parent.exists()
    assert not start_hook.give_back(Changes(False))


def test_it_stays_with_a_machine_of_any_catalog_and_the_programs_of_others_stay(place: Path) -> None:
    prepared()
    other = place.with_name("somebodys")
    other.touch()
    defined = hooks.DEFINED
    defined.mkdir()
    (defined / "one-3.xml").write_text(OURS % ("/srv/3", ""), encoding="utf-8")
    assert not start_hook.give_back(Changes(False)) and place.exists()
    for text in ("<domain/>", "<domain"):
        (defined / "one-3.xml").write_text(text, encoding="utf-8")
        assert start_hook.give_back(Changes(True))
    assert start_hook.give_back(Changes(False)) and other.exists() and not place.exists()


def test_one_of_this_name_that_is_somebody_elses_is_left_alone(place: Path) -> None:
    place.parent.mkdir()
    place.write_text("#!/bin/sh\n", encoding="utf-8")
    with pytest.raises(ForeignObject, match="not ours"):
        start_hook.prepare(Changes(False))
    assert not start_hook.give_back(Changes(False)) and place.read_text(encoding="utf-8") == "#!/bin/sh\n"


def test_machines_of_others_and_other_moments_are_none_of_its_business(place: Path, tmp_path: Path) -> None:
    prepared()
    directory = tmp_path / "machine"
    directory.mkdir()
    # Whatever it did with this would be an error.
    (directory / "disk.0.layers").write_text("no directory", encoding="utf-8")
    mine = OURS % (directory, "")
    for xml, operation, step in (
        ("<domain/>", "prepare", "begin"),
        (OURS % ("/nowhere/at/all", ""), "prepare", "begin"),
        (OURS % ("relative", ""), "prepare", "begin"),
        (mine, "start", "begin"),
        (mine, "stopped", "end"),
        (mine, "release", "end"),
        ("not even XML", "migrate", "begin"),
    ):
        done = called(place, xml, operation, step)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), (xml, operation)
    assert called(place, mine).returncode == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has directories that are root's")
def test_a_directory_that_others_can_write_to_says_nothing(place: Path, tmp_path: Path) -> None:
    prepared()
    directory = tmp_path / "machine"
    directory.mkdir()
    assert called(place, OURS % (directory, "")).returncode == 0
    for mode, owner in ((0o777, 0), (0o755, 1000)):
        directory.chmod(mode)
        os.chown(directory, owner, owner)
        done = called(place, OURS % (directory, ""))
        assert done.returncode == 1 and "others than root can write to it" in done.stderr


def test_a_root_that_was_never_whole_is_no_error_and_one_whose_mark_is_damaged_is(place: Path, tmp_path: Path) -> None:
    prepared()
    layers = tmp_path / "machine" / "disk.0.layers"
    layers.mkdir(parents=True)
    assert called(place, OURS % (tmp_path / "machine", "")).returncode == 0
    (layers / "layers.json").write_text(json.dumps({"base": "/nowhere"}), encoding="utf-8")
    assert called(place, OURS % (tmp_path / "machine", "")).returncode == 1


def test_a_console_that_can_not_be_read_keeps_no_container_from_running(place: Path, tmp_path: Path) -> None:
    prepared()
    for console in ("", "<devices><console/></devices>", '<devices><console tty="/nowhere/0"/></devices>'):
        done = called(place, OURS % (tmp_path, console), "started")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
