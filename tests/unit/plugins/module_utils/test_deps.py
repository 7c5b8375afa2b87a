# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A library that the interpreter lacks is named with its packages, and looked for in the system's interpreters.

Whether a library is there is decided by monkeypatching the table of imports, and Ansible's respawn, which would end
this process: both are the seam to what is installed here."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible.module_utils.common import respawn

from ansible_collections.nebula.provision.plugins.module_utils import deps
from ansible_collections.nebula.provision.plugins.module_utils.errors import MissingDependency


class Module:
    """The part of AnsibleModule that respawn_if_missing() uses."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def debug(self, text: str) -> None:
        self.said.append(text)


def lacking() -> None:
    raise ImportError("No module named 'it'")


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def take_away(*names: str) -> None:
        for name in deps.PACKAGES:
            monkeypatch.setitem(deps._IMPORTS, name, lacking if name in names else (lambda name=name: name))

    return take_away


def test_every_library_has_packages_and_a_way_to_import_it() -> None:
    assert set(deps.PACKAGES) == set(deps._IMPORTS)


def test_a_library_that_is_there_is_given(without: Callable[..., None]) -> None:
    without()
    assert deps.require("pycdlib") == "pycdlib"


def test_a_miss_names_the_interpreter_and_the_package(without: Callable[..., None]) -> None:
    without("libvirt")
    with pytest.raises(MissingDependency) as caught:
        deps.require("libvirt")
    error = caught.value
    assert error.asked == "Python library libvirt"
    assert error.found == f"{sys.executable} can't import it (No module named 'it')"
    assert error.remedy.startswith("Install the package python3-libvirt, or set ansible_python_interpreter")


def test_packages_that_differ_are_told_with_their_distributions(
    without: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    without("pycdlib")
    monkeypatch.setitem(deps.PACKAGES, "pycdlib", ("python3-pycdlib", "pycdlib"))
    with pytest.raises(MissingDependency, match=re.escape("python3-pycdlib (Debian) or pycdlib (Fedora)")):
        deps.require("pycdlib")


def test_those_that_are_missing_are_told_in_the_order_of_the_question(without: Callable[..., None]) -> None:
    without("pycdlib", "libvirt")
    assert deps.missing("pycdlib", "libvirt_qemu", "libvirt") == ["pycdlib", "libvirt"]
    assert deps.missing() == []


def test_nothing_is_looked_for_where_nothing_is_missing(
    without: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    without()
    monkeypatch.setattr(respawn, "probe_interpreters_for_module", lambda *_args: pytest.fail("it was looked for"))
    deps.respawn_if_missing(Module(), ["libvirt", "pycdlib"])


def test_a_process_that_was_respawned_does_not_try_again(
    without: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    without("libvirt")
    monkeypatch.setattr(respawn, "has_respawned", lambda: True)
    monkeypatch.setattr(respawn, "probe_interpreters_for_module", lambda *_args: pytest.fail("it was looked for"))
    deps.respawn_if_missing(Module(), ["libvirt"])


def test_it_goes_on_here_where_no_interpreter_has_the_library(
    without: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    without("libvirt")
    monkeypatch.setattr(respawn, "has_respawned", lambda: False)
    monkeypatch.setattr(respawn, "probe_interpreters_for_module", lambda *_args: None)
    monkeypatch.setattr(respawn, "respawn_module", lambda _path: pytest.fail("it was respawned"))
    module = Module()
    deps.respawn_if_missing(module, ["libvirt"])
    assert module.said == []


def test_all_libraries_are_asked_of_the_other_interpreters_and_the_one_that_has_them_goes_on(
    without: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    without("libvirt_qemu")
    asked: list[tuple[list[str], str]] = []
    gone: list[str] = []

    def probe(paths: list[str], names: str) -> str:
        asked.append((paths, names))
        return paths[0]

    monkeypatch.setattr(respawn, "has_respawned", lambda: False)
    monkeypatch.setattr(respawn, "probe_interpreters_for_module", probe)
    monkeypatch.setattr(respawn, "respawn_module", gone.append)
    monkeypatch.setattr(deps, "SYSTEM_INTERPRETERS", (sys.executable, "/a/python3", "/b/python3"))
    module = Module()
    deps.respawn_if_missing(module, ["libvirt", "libvirt_qemu"])
    # This one was tried by the import itself.
    assert asked == [(["/a/python3", "/b/python3"], "libvirt, libvirt_qemu")]
    assert gone == ["/a/python3"]
    assert module.said == [f"respawn in /a/python3: {sys.executable} lacks libvirt, libvirt_qemu"]


def test_the_pipe_of_a_respawn_holds_more_than_a_pipe_does() -> None:
    before = os.pipe
    content = b"x" * (1 << 20)
    with deps._pipe_without_limit():
        reading, writing = os.pipe()
        # A second one is a pipe as ever: it is not Ansible's.
        assert os.pipe is before
    try:
        assert os.write(writing, content) == len(content)
        os.close(writing)
        assert os.read(reading, 2 * len(content)) == content
        assert os.read(reading, 1) == b""
    finally:
        os.close(reading)


def test_pipes_are_as_before_where_none_was_made() -> None:
    before = os.pipe
    with pytest.raises(RuntimeError), deps._pipe_without_limit():
        raise RuntimeError
    assert os.pipe is before


def test_no_interpreter_is_asked_in_a_directory_that_may_be_anybodys(
    without: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`python -c` imports what lies in the working directory; so does one that reads its program from a pipe."""
    without("pycdlib")
    (tmp_path / "pycdlib.py").write_text(f"open({str(tmp_path / 'taken')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(respawn, "has_respawned", lambda: False)
    places: list[str] = []
    monkeypatch.setattr(respawn, "respawn_module", lambda _path: places.append(os.getcwd()))
    monkeypatch.setattr(deps, "SYSTEM_INTERPRETERS", ("/usr/bin/python3",))
    probe = respawn.probe_interpreters_for_module

    def probed(paths: list[str], names: str) -> str:
        probe(paths, names)
        return paths[0]

    monkeypatch.setattr(respawn, "probe_interpreters_for_module", probed)
    deps.respawn_if_missing(Module(), ["pycdlib"])
    assert places == ["/"] and os.getcwd() == str(tmp_path)
    assert not (tmp_path / "taken").exists()


def test_a_working_directory_that_is_gone(
    without: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without("pycdlib")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setattr(respawn, "has_respawned", lambda: False)
    monkeypatch.setattr(respawn, "probe_interpreters_for_module", lambda *_args: None)
    deps.respawn_if_missing(Module(), ["pycdlib"])
