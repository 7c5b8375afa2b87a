# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Units of systemd are written, found and taken away again, and those of others are left alone.

systemd's directories are the test's own, and a program that notes its calls stands in for `systemctl`."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stand_ins import Programs

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    CommandFailed,
    ForeignObject,
    InvalidValue,
    MissingDependency,
)
from ansible_collections.nebula.provision.plugins.module_utils.host import systemd_units

NAME, MARK = "nebula-x.service", "# nebula:x"
TEXT = f"{MARK}\n[Unit]\nDescription=x\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(systemd_units, "PLACE", str(tmp_path / "etc"))
    return tmp_path / "etc"


@pytest.fixture
def systemctl(programs: Programs, place: Path) -> Programs:
    """As the real one: it makes the link of a unit that is enabled."""
    wants = place / "multi-user.target.wants"
    programs.answer("systemctl", f"enable {NAME}", script=f"mkdir -p {wants} && ln -sf {place}/{NAME} {wants}/{NAME}")
    for words in (f"disable --now {NAME}", "daemon-reload", f"reset-failed {NAME}"):
        programs.answer("systemctl", words)
    return programs


# -- words of a unit --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("word", "setting", "command"),
    [
        ("/srv/a", '"/srv/a"', '"/srv/a"'),
        ("/srv/a b", '"/srv/a b"', '"/srv/a b"'),
        ("100%", '"100%%"', '"100%%"'),
        ('a"b', '"a\\"b"', '"a\\"b"'),
        ("a\\b", '"a\\\\b"', '"a\\\\b"'),
        ('\\"', '"\\\\\\""', '"\\\\\\""'),
        ("$HOME", '"$HOME"', '"$$HOME"'),
        ("größe", '"größe"', '"größe"'),
    ],
)
def test_a_word_keeps_what_it_holds(word: str, setting: str, command: str) -> None:
    assert systemd_units.quoted(word) == setting
    assert systemd_units.quoted_argument(word) == command


@pytest.mark.parametrize("character", ["\n", "\r", "\t", "\0", "\x1b", "\x7f"])
def test_a_word_with_a_control_character_is_refused(character: str) -> None:
    for make in (systemd_units.quoted, systemd_units.quoted_argument):
        with pytest.raises(InvalidValue) as caught:
            make(f"/srv/a{character}b")
        assert caught.value.asked == f"path {f'/srv/a{character}b'!r}"
        assert caught.value.found == "it holds a control character"


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20))
def test_a_word_comes_back_as_systemd_takes_it_apart(word: str) -> None:
    """Its quotes and backslashes are those of a shell; specifiers and variables are put in afterwards."""
    (taken,) = shlex.split(systemd_units.quoted_argument(word).replace("$$", "$"))
    assert taken.replace("%%", "%") == word


# -- our own units ----------------------------------------------------------------------------------------------------
def test_systemd_is_there_where_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd_units, "RUNS", str(tmp_path / "system"))
    assert not systemd_units.has_systemd()
    (tmp_path / "system").mkdir()
    assert systemd_units.has_systemd()


def test_a_unit_is_installed_once_it_is_written_and_enabled(systemctl: Programs, place: Path) -> None:
    assert not systemd_units.installed(NAME, TEXT)
    systemd_units.install(NAME, TEXT, MARK)
    assert systemctl.calls("systemctl") == [f"enable {NAME}"]
    assert stat.S_IMODE((place / NAME).stat().st_mode) == 0o644
    assert systemd_units.installed(NAME, TEXT)
    assert not systemd_units.installed(NAME, TEXT + "\n")
    (place / "multi-user.target.wants" / NAME).unlink()
    assert not systemd_units.installed(NAME, TEXT)


def test_a_unit_that_can_not_be_read_is_not_installed(systemctl: Programs, place: Path) -> None:
    systemd_units.install(NAME, TEXT, MARK)
    (place / NAME).write_bytes(b"\xff\xfe")
    assert not systemd_units.installed(NAME, TEXT)


def test_a_unit_of_ours_is_written_anew(systemctl: Programs, place: Path) -> None:
    place.mkdir()
    (place / NAME).write_text(f"{MARK}\nolder\n")
    systemd_units.install(NAME, TEXT, MARK)
    assert (place / NAME).read_text() == TEXT


@pytest.mark.parametrize("found", ["[Unit]\n", "", f"{MARK}y\n", f"\n{MARK}\n", MARK])
def test_a_unit_of_somebody_else_is_left_alone(systemctl: Programs, place: Path, found: str) -> None:
    place.mkdir()
    (place / NAME).write_text(found)
    for act in (lambda: systemd_units.install(NAME, TEXT, MARK), lambda: systemd_units.remove(NAME, MARK)):
        with pytest.raises(ForeignObject) as caught:
            act()
        assert caught.value.asked == f"unit {place / NAME}"
        assert caught.value.remedy == "Move it away"
    assert (place / NAME).read_text() == found
    assert systemctl.calls("systemctl") == []


def test_a_unit_goes_with_its_link(systemctl: Programs, place: Path) -> None:
    systemd_units.install(NAME, TEXT, MARK)
    # Even where `disable` fails, as it does for a unit whose file somebody spoiled.
    systemctl.answer("systemctl", f"disable --now {NAME}", err="Failed to disable unit\n", code=1)
    systemd_units.remove(NAME, MARK)
    assert os.listdir(place) == ["multi-user.target.wants"]
    assert os.listdir(place / "multi-user.target.wants") == []
    assert systemctl.calls("systemctl")[1:] == [f"disable --now {NAME}", "daemon-reload", f"reset-failed {NAME}"]
    # What is gone already is no error.
    systemd_units.remove(NAME, MARK)


def test_units_are_found_by_the_beginning_of_their_names(place: Path) -> None:
    assert systemd_units.units_named("nebula-") == []
    place.mkdir()
    for name in ("nebula-b.service", "nebula-a.service", "nebula-a.service.d", "other.service", "nebula-a.timer"):
        (place / name).touch()
    assert systemd_units.units_named("nebula-") == ["nebula-a.service", "nebula-b.service"]


# -- units of others --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("said", "code", "found"),
    [
        ("enabled\n", 0, True),
        ("disabled\nenabled\n", 0, True),
        ("alias\n", 0, True),
        ("static\n", 0, True),
        ("indirect\n", 0, True),
        ("generated\n", 0, True),
        # The unit's file is found by a link, and nothing starts it.
        ("linked\n", 1, False),
        ("linked\nenabled\n", 0, True),
        ("disabled\n", 1, False),
        ("masked\nenabled-runtime\n", 1, False),
        ("", 1, False),
    ],
)
def test_whether_any_of_several_units_starts_with_the_host(
    programs: Programs, said: str, code: int, found: bool
) -> None:
    programs.answer("systemctl", "is-enabled a.service b.socket", said, code=code)
    assert systemd_units.start_with_host(["a.service", "b.socket"]) is found


def test_units_that_run_now(programs: Programs) -> None:
    words = "list-units --state=active --plain --no-legend --no-pager libvirtd* virtlogd*"
    listed = (
        "libvirtd.service  loaded active running   Virtualization daemon\n"
        "virtlogd.socket   loaded active listening Virtual machine log manager socket\n\n"
    )
    programs.answer("systemctl", words, listed)
    assert systemd_units.active_units(["libvirtd*", "virtlogd*"]) == {"libvirtd.service", "virtlogd.socket"}


def test_units_are_stopped_all_at_once(programs: Programs) -> None:
    programs.answer("systemctl", "stop a.service a.socket")
    systemd_units.stop([])
    systemd_units.stop(["a.service", "a.socket"])
    assert programs.calls("systemctl") == ["stop a.service a.socket"]


def test_a_unit_that_can_not_be_stopped_is_an_error(programs: Programs) -> None:
    with pytest.raises(MissingDependency):
        systemd_units.stop(["a.service"])
    programs.answer("systemctl", "stop a.service", err="Failed to stop a.service: Access denied\n", code=4)
    with pytest.raises(CommandFailed, match="Access denied"):
        systemd_units.stop(["a.service"])


def test_links_are_what_was_enabled(place: Path) -> None:
    (place / "a.target.wants").mkdir(parents=True)
    (place / "directory").mkdir()
    (place / "a.target.wants" / "a.service").symlink_to("/lib/systemd/system/a.service")
    (place / "b.service").symlink_to("/dev/null")
    (place / "linked").symlink_to(place / "directory")
    (place / "c.service").touch()
    assert systemd_units.enabled_links() == {
        str(place / name) for name in ("a.target.wants/a.service", "b.service", "linked")
    }


def test_links_go_with_the_directory_that_was_made_for_them(systemctl: Programs, place: Path) -> None:
    for name in ("a.target.wants/a.service", "b.target.wants/a.service", "b.target.wants/b.service", "a.service"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).symlink_to("/lib/systemd/system/a.service")
    (place / "c.service").touch()
    paths = [str(place / name) for name in ("a.target.wants/a.service", "b.target.wants/a.service", "a.service")]
    assert systemd_units.unlink([*paths, str(place / "c.service"), str(place / "none")])
    assert sorted(os.listdir(place)) == ["b.target.wants", "c.service"]
    assert os.listdir(place / "b.target.wants") == ["b.service"]
    assert systemctl.calls("systemctl") == ["daemon-reload"]
    # Nothing is left to do, and systemd is not asked to read all units again.
    assert not systemd_units.unlink(paths)
    assert systemctl.calls("systemctl") == ["daemon-reload"]


def test_the_directory_of_all_units_stays_when_its_last_link_goes(systemctl: Programs, place: Path) -> None:
    place.mkdir()
    (place / "a.service").symlink_to("/lib/systemd/system/a.service")
    assert systemd_units.unlink([str(place / "a.service")])
    assert os.listdir(place) == []
