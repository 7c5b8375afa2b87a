# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What vzctl and vzlist are asked, and what is read of what they print."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from openvz_host import CTID, MARK, Host

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    HypervisorError,
    NotFound,
    TimedOut,
    Unsupported,
)
from ansible_collections.nebula.provision.plugins.module_utils.host import command
from ansible_collections.nebula.provision.plugins.module_utils.host.command import Completed
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz import vzctl
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz.vzctl import Status
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic


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
    assert vzctl.states_by_ctid() == {101: "running", 100007: "stopped"}


def test_a_kernel_without_the_interface_lists_none(host: Host) -> None:
    host.define()
    assert vzctl.states_by_ctid() == {}
    host.set("VZ_STAND_IN_KERNEL", "vz")
    assert vzctl.states_by_ctid() == {CTID: "stopped"}


def test_a_host_without_the_lister_lists_none(host: Host, tmp_path: Path) -> None:
    (tmp_path / "bin/vzlist").unlink()
    assert vzctl.states_by_ctid() == {}


def test_an_error_has_the_last_words_and_none_that_are_no_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    printed(monkeypatch, "Starting\n", "Directory /proc/vz not found, assuming non-OpenVZ kernel\nno such file\n", 14)
    with pytest.raises(
        NotFound, match=r"x: the container has no configuration \(vzctl ended with code 14\): Starting\n    no"
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


def test_venet_needs_a_kernel_of_openvz_or_what_stands_in_for_it(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    vzctl.require_venet("x")
    monkeypatch.setattr(vzctl, "KERNEL", host.etc / "none")
    programs = host.etc / "programs"
    programs.mkdir()
    monkeypatch.setattr(command, "_path", lambda: str(programs))
    with pytest.raises(Unsupported, match=r"kernel has no venet, and brctl, .* is missing. Install .* MODEL = veth"):
        vzctl.require_venet("x")
    (programs / "brctl").write_text("#!/bin/sh\n", encoding="ascii")
    (programs / "brctl").chmod(0o755)
    vzctl.require_venet("x")


def test_a_nic_on_venet_is_refused_before_anything_is_written(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vzctl, "KERNEL", host.etc / "none")
    monkeypatch.setattr(vzctl, "BRIDGING", "no-such-program")
    nic = Nic(0, 0, "lan", "br0", "02:00:0a:00:00:07", "10.0.0.7")
    with pytest.raises(Unsupported, match="virtual machine web: NIC with MODEL = venet"):
        host.define(host.vm(nics=(nic,)))
    assert not host.conf.exists()
    host.define(host.vm(nics=(replace(nic, model="veth", target="one-7-0"),)))


def test_routes_are_removed_where_vzctl_leaves_them(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(vzctl, "run", lambda argv, **_more: asked.append(argv))
    vzctl.drop_routes(("10.0.0.7",))
    assert asked == []
    monkeypatch.setattr(vzctl, "KERNEL", host.etc / "none")
    vzctl.drop_routes(("10.0.0.7", "fd00::7/64"))
    assert asked == [
        ["ip", "route", "del", "10.0.0.7", "dev", "venet0"],
        ["ip", "-6", "route", "del", "fd00::7", "dev", "venet0"],
    ]


@pytest.mark.parametrize(("setting", "limited"), [("DISK_QUOTA=no\n", False), ("DISK_QUOTA=yes\n", True), ("", True)])
def test_roots_are_limited_where_the_kernel_and_its_settings_do_it(
    host: Host, monkeypatch: pytest.MonkeyPatch, setting: str, limited: bool
) -> None:
    (host.etc / "vz.conf").write_text(setting, encoding="ascii")
    assert vzctl.has_quota() is limited
    monkeypatch.setattr(vzctl, "KERNEL", host.etc / "none")
    assert not vzctl.has_quota()


@pytest.mark.parametrize(
    ("kernel", "settings", "container", "expected"),
    [
        (True, "LOCAL_UID=100000\nLOCAL_GID=100000\n", {}, (0, vzctl.USERS)),
        (False, "", {}, (0, vzctl.USERS)),
        (False, "LOCAL_UID=0\nLOCAL_GID=0\n", {}, (0, vzctl.USERS)),
        (False, "LOCAL_UID=100000\nLOCAL_GID=100000\n", {}, (100000, vzctl.LOCAL_USERS)),
        (False, "LOCAL_UID=100000\nLOCAL_GID=100000\n", {"LOCAL_UID": "7", "LOCAL_GID": "7"}, (7, vzctl.LOCAL_USERS)),
    ],
)
def test_which_ids_the_users_of_a_container_have(host, monkeypatch, kernel, settings, container, expected) -> None:
    monkeypatch.setattr(vzctl, "KERNEL", host.etc if kernel else host.etc / "none")
    with (host.etc / "vz.conf").open("a", encoding="utf-8") as file:
        file.write(settings)
    found = vzctl.users(container, "disk 0")
    assert (found.start, found.count) == expected


@pytest.mark.parametrize("other", ["100001", "", "-1", str(1 << 32)])
def test_users_and_groups_that_are_moved_apart_are_refused(host, monkeypatch, other: str) -> None:
    monkeypatch.setattr(vzctl, "KERNEL", host.etc / "none")
    with pytest.raises(Unsupported, match=r"disk 0: LOCAL_UID = 100000 and LOCAL_GID = "):
        vzctl.users({"LOCAL_UID": "100000", "LOCAL_GID": other}, "disk 0")
