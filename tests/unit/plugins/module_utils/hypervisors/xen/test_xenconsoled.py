# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What xenconsoled is told, and that it is told no more afterwards. The daemon itself is restarted in test_xen."""

from __future__ import annotations

import subprocess

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.host.node_file import Changes
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen import xenconsoled

# As Debian 12 and Xen's own installation bring them.
DEBIAN = "## Path: System/Virtualization\n#XENCONSOLED_TRACE=[none|guest|hv|all]\nXENSTORED_ARGS=\n"
OWN = 'XENCONSOLED_TRACE="none"\nXENCONSOLED_ARGS="--timestamp=all"'


@pytest.fixture
def settings(tmp_path, monkeypatch):
    path = tmp_path / "xen"
    running: list[list[str]] = [["--pid-file", "/run/xenconsoled.pid"]]

    def restart() -> None:
        """As the host's script does: it reads the file as a shell does."""
        script = f'. {path}; printf %s "$XENCONSOLED_ARGS"'
        running[:] = [subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.split()]

    monkeypatch.setattr(xenconsoled, "SETTINGS", (str(tmp_path / "absent"), str(path)))
    monkeypatch.setattr(xenconsoled, "_running_arguments", lambda: running)
    monkeypatch.setattr(xenconsoled, "_restart", restart)
    return path


@pytest.mark.parametrize("text", [DEBIAN, OWN, ""], ids=["debian", "own", "empty"])
def test_told_once_and_taken_back(settings, text):
    settings.write_text(text)
    settings.chmod(0o640)
    foreseen = Changes(True)
    xenconsoled.prepare(foreseen)
    assert settings.read_text() == text and set(foreseen.after) == {str(settings), "xenconsoled"}
    done = Changes(False)
    xenconsoled.prepare(done)
    assert done.after == foreseen.after and settings.read_text().startswith(text)
    assert "--timestamp=all" in str(xenconsoled._running_arguments()) or text != OWN
    assert settings.stat().st_mode & 0o777 == 0o640
    again, before = Changes(False), settings.stat().st_mtime_ns
    xenconsoled.prepare(again)
    assert again.after == {} and settings.stat().st_mtime_ns == before
    assert xenconsoled.give_back(Changes(True)) and settings.stat().st_mtime_ns == before
    assert xenconsoled.give_back(Changes(False))
    assert settings.read_text().rstrip("\n") == text.rstrip("\n")
    assert not xenconsoled._keeps_now() and not xenconsoled.give_back(Changes(False))


@pytest.mark.parametrize(
    "line", ['XENCONSOLED_ARGS="--log=all"', "XENCONSOLED_ARGS=--log guest", "XENCONSOLED_TRACE=guest"]
)
def test_what_its_administrator_told_it_stays(settings, line):
    settings.write_text(f"{line}\n")
    xenconsoled._running_arguments()[:] = [["--log=all"]]
    changes = Changes(False)
    xenconsoled.prepare(changes)
    assert changes.after == {} and settings.read_text() == f"{line}\n"
    assert not xenconsoled.give_back(changes)


def test_settings_may_be_elsewhere(settings, tmp_path):
    (tmp_path / "elsewhere").write_text(DEBIAN)
    settings.symlink_to(tmp_path / "elsewhere")
    foreseen = Changes(True)
    xenconsoled.prepare(foreseen)
    assert set(foreseen.after) == {str(settings), "xenconsoled"}


def test_a_daemon_that_does_not_listen_is_named(settings, monkeypatch):
    settings.write_text(DEBIAN)
    monkeypatch.setattr(xenconsoled, "_restart", lambda: None)
    with pytest.raises(xenconsoled.HypervisorError, match=r"runs without --log=guest.*XENCONSOLED_ARGS"):
        xenconsoled.prepare(Changes(False))
