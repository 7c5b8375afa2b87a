# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that libvirt calls before it starts a container, put there and taken back; what it mounts is in
tests/integration/test_lxc_disks.py."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject
from ansible_collections.nebula.provision.plugins.module_utils.host.node_file import Changes
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc import disk_hook, hooks

FIXTURES = Path(__file__).parents[5] / "fixtures" / "deployment" / "lxc"


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """libvirt's directories are the test's own."""
    monkeypatch.setattr(hooks, "HOOKS", tmp_path / "hooks" / "lxc.d")
    monkeypatch.setattr(hooks, "DEFINED", tmp_path / "lxc")
    (tmp_path / "lxc").mkdir()
    return tmp_path


def test_it_is_put_there_once_and_anew_if_it_is_another(places: Path) -> None:
    path = disk_hook.PROGRAM.path
    foreseen, first, again = Changes(True), Changes(False), Changes(False)
    disk_hook.prepare(foreseen)
    assert foreseen.after and not path.exists()
    disk_hook.prepare(first)
    disk_hook.prepare(again)
    assert first.after == foreseen.after and not again.after and path.stat().st_mode & 0o777 == 0o755
    path.write_text(f"{disk_hook.PROGRAM.mark}\nof an earlier version\n", encoding="utf-8")
    disk_hook.prepare(again)
    assert path.read_text(encoding="utf-8") == disk_hook.text()


def test_one_that_is_not_ours_stays(places: Path) -> None:
    path = disk_hook.PROGRAM.path
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n", encoding="utf-8")
    with pytest.raises(ForeignObject):
        disk_hook.prepare(Changes(False))
    assert not disk_hook.give_back(Changes(False)) and path.read_text(encoding="utf-8") == "#!/bin/sh\n"


def test_it_goes_when_no_container_needs_it(places: Path) -> None:
    disk_hook.prepare(Changes(False))
    stranger = hooks.HOOKS / "stranger"
    stranger.touch()
    defined = places / "lxc" / "one-5.xml"
    defined.write_text((FIXTURES / "disks_at_paths.xml").read_text(encoding="utf-8"), encoding="utf-8")
    assert not disk_hook.give_back(Changes(False))
    defined.write_text((FIXTURES / "root_alone.xml").read_text(encoding="utf-8"), encoding="utf-8")
    assert disk_hook.give_back(Changes(False)) and not disk_hook.give_back(Changes(False))
    assert [path.name for path in hooks.HOOKS.iterdir()] == ["stranger"]


@pytest.mark.parametrize(
    ("arguments", "domain"),
    [
        (("one-5", "prepare", "begin", "-"), "root_alone.xml"),
        (("one-5", "release", "end", "-"), "disks_at_paths.xml"),
        # Its directory is not on this host.
        (("one-5", "prepare", "begin", "-"), "disks_at_paths.xml"),
    ],
)
def test_it_says_nothing_of_what_is_not_its_business(tmp_path: Path, arguments: tuple[str, ...], domain: str) -> None:
    program = tmp_path / "program"
    program.write_text(disk_hook.text(), encoding="utf-8")
    program.chmod(0o755)
    text = (FIXTURES / domain).read_bytes().replace(b"/var/lib/nebula/", b"/nonexistent/")
    done = subprocess.run([str(program), *arguments], input=text, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
