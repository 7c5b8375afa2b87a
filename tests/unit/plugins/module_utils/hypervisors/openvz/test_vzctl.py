# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What vzctl and vzlist are asked, and what is read of what they print."""

from __future__ import annotations

from pathlib import Path

import pytest
from openvz_host import CTID, MARK, Host

from ansible_collections.nebula.provision.plugins.module_utils.errors import HypervisorError, NotFound, TimedOut
from ansible_collections.nebula.provision.plugins.module_utils.host.command import Completed
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz import vzctl
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz.vzctl import Status


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def printed(monkeypatch: pytest.MonkeyPatch, out: str, err: str = "", code: int = 0) -> None:
    monkeypatch.setattr(vzctl, "run", lambda argv, **_more: Completed(argv, code, out, err, 0.0))


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("CTID 100007 exist mounted running", Status(True, True, True)),
        ("CTID 100007 exist unmounted down", Status(True, False, False)),
        ("CTID 100007 deleted unmounted down", Status(False, False, False)),
        ("CTID 100007 exist unmounted down suspended", Status(True, False, False, True)),
        ("VEID 100007 exist mounted down", Status(True, True, False)),
        ("Directory /proc/vz not found\nCTID 100007 exist mounted running", Status(True, True, True)),
    ],
)
def test_a_status_is_read_as_vzctl_has_printed_it(line: str, status: Status, monkeypatch: pytest.MonkeyPatch) -> None:
    printed(monkeypatch, line + "\n")
    assert vzctl.status(100007) == status


def test_a_status_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    printed(monkeypatch, "what?\n")
    with pytest.raises(HypervisorError, match="vzctl status printed 'what"):
        vzctl.status(5)


def test_what_is_listed_is_by_id(monkeypatch: pytest.MonkeyPatch) -> None:
    printed(monkeypatch, "       101 running\n    100007 stopped\nContainer(s) not found\n")
    assert vzctl.listed() == {101: "running", 100007: "stopped"}


def test_a_kernel_without_the_interface_lists_none(host: Host) -> None:
    host.define()
    assert vzctl.listed() == {}
    host.set("VZ_STAND_IN_KERNEL", "vz")
    assert vzctl.listed() == {CTID: "stopped"}


def test_a_host_without_the_lister_lists_none(host: Host, tmp_path: Path) -> None:
    (tmp_path / "bin/vzlist").unlink()
    assert vzctl.listed() == {}


def test_an_error_has_the_last_words_and_none_that_are_no_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    printed(monkeypatch, "Starting\n", "Directory /proc/vz not found, assuming non-OpenVZ kernel\nno such file\n", 14)
    with pytest.raises(
        NotFound, match=r"x: the container has no configuration \(vzctl ended with code 14\): Starting\nno"
    ) as e:
        vzctl.ask("x", "start", "5")
    assert "assuming" not in str(e.value) and e.value.remedy


def test_a_vzctl_that_hangs_is_ended(host: Host) -> None:
    host.run()
    host.set("VZ_STAND_IN_DEAF")
    with pytest.raises(TimedOut, match=r"x: vzctl stop did not end within 0\.5 s"):
        vzctl.ask("x", "stop", str(CTID), timeout=0.5)


def test_settings_distributions_and_the_cache_are_the_hosts(host: Host) -> None:
    assert vzctl.cache() == host.cache and vzctl.distributions() == ["centos", "debian"]
    assert vzctl.settings()["DISK_QUOTA"] == "no" and vzctl.defaults() == {}
    (host.etc / "vz.conf").write_text("LOCKDIR=/x\n", encoding="utf-8")
    assert str(vzctl.cache()) == "/vz/template/cache"


def test_a_mark_is_no_container(host: Host) -> None:
    host.define()
    assert vzctl.status(CTID) == Status(False, False, False) and host.driver.state(MARK) == "POWEROFF"
