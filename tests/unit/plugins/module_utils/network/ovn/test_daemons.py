# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How daemons are found, and started by systemd; tests/integration/test_ovn.py has the real ones by their scripts."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, MissingDependency, TimedOut
from ansible_collections.nebula.provision.plugins.module_utils.host import systemd_units
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn import daemons
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn.daemons import Daemons, listens, pid_of
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn.paths import Places

# As Open vSwitch's daemons do: it holds a lock on its pid file, given as standard output, as long as it lives.
HOLDS = """
import fcntl, os, sys
fcntl.lockf(1, fcntl.LOCK_EX | fcntl.LOCK_NB)
os.write(1, b"%d\\n" % os.getpid())
os.write(2, b"held\\n")
sys.stdin.read()
"""


@contextlib.contextmanager
def holding(path, user=None):
    with path.open("w") as file:
        argv = ["/usr/bin/python3", "-I", "-c", HOLDS]
        with subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=file, stderr=subprocess.PIPE, user=user, cwd="/"
        ) as process:
            assert process.stderr.readline() == b"held\n"
            yield process.pid
            process.stdin.close()


def test_a_pid_file_counts_if_its_process_is_that_program(tmp_path):
    name = "python3"
    (tmp_path / "it.pid").write_text(f"{os.getpid()}\n")
    # The number was used again.
    assert pid_of(str(tmp_path), "it", name) == 0
    with holding(tmp_path / "it.pid") as pid:
        assert pid_of(str(tmp_path), "it", name) == pid
        assert pid_of(str(tmp_path), "it", "ovn-controller") == 0
        (tmp_path / "it.pid").write_text(f"{os.getpid()}\n")
        assert pid_of(str(tmp_path), "it", name) == 0
    assert pid_of(str(tmp_path), "none", name) == 0
    (tmp_path / "it.pid").write_text("nonsense")
    assert pid_of(str(tmp_path), "it", name) == 0


@pytest.mark.root
def test_a_process_of_another_user_is_none_of_a_daemon(tmp_path):
    """A number that was used again, or a name that anybody gave himself. Where the daemon's user is the owner of its
    file, it is his."""
    with holding(tmp_path / "it.pid", 65534) as other:
        name = Path(f"/proc/{other}/comm").read_text(encoding="utf-8").strip()
        file = tmp_path / "it.pid"
        assert pid_of(str(tmp_path), "it", name) == 0
        os.chown(file, 65534, -1)
        assert pid_of(str(tmp_path), "it", name) == other
        os.chown(file, 65533, -1)
        assert pid_of(str(tmp_path), "it", name) == 0


def test_a_port_is_taken_while_something_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listens(port)
    assert not listens(port)


def test_units_are_used_for_the_directories_of_the_packages_only(tmp_path, monkeypatch):
    monkeypatch.setattr(systemd_units, "RUNS", str(tmp_path))
    assert Daemons(Places()).by_units
    assert not Daemons(Places(ovn_run="/elsewhere")).by_units
    monkeypatch.setattr(systemd_units, "RUNS", str(tmp_path / "none"))
    assert not Daemons(Places()).by_units


@pytest.fixture
def systemd(programs, tmp_path, monkeypatch):
    """A host with systemd; what systemctl was called with."""
    monkeypatch.setattr(systemd_units, "RUNS", str(tmp_path))
    monkeypatch.setattr(systemd_units, "PLACE", str(tmp_path / "units"))
    monkeypatch.setattr(daemons, "_PROGRAMS", dict.fromkeys(daemons._PROGRAMS, "/bin/sh"))
    monkeypatch.setattr(Daemons, "_wait", lambda *_arguments: None)
    programs.script("systemctl", f'echo "$*" >> {tmp_path}/called')
    return tmp_path / "called"


def test_systemd_starts_and_stops_all_parts(systemd):
    Daemons(Places()).start("central")
    Daemons(Places()).stop("central")
    assert systemd.read_text().splitlines() == [
        "enable --now ovn-central",
        "start ovn-northd ovn-ovsdb-server-nb ovn-ovsdb-server-sb ovn-central",
        "disable --now ovn-central",
        "stop ovn-northd ovn-ovsdb-server-nb ovn-ovsdb-server-sb ovn-central",
    ]


@pytest.mark.parametrize(
    ("starts", "there", "runs", "changed", "called"),
    [
        (True, False, False, "", []),
        (False, False, False, "database", ["disable --now", "stop"]),
        (False, True, False, "unit", ["disable --now", "stop"]),
        (False, True, True, "boot", ["disable"]),
    ],
)
def test_what_systemd_had_not_switched_on_is_switched_off_again(
    systemd, tmp_path, monkeypatch, starts, there, runs, changed, called
):
    monkeypatch.setattr(systemd_units, "start_with_host", lambda _names: starts)
    monkeypatch.setattr(Daemons, "running", lambda _daemons, _which: runs)
    monkeypatch.setattr(Daemons, "by_units", True)
    database, link = tmp_path / "var.db", tmp_path / "conf.db"
    database.touch()
    link.symlink_to(database)
    side = Daemons(Places(ovs_database=str(tmp_path)))
    assert side.what_start_changes(there) == changed
    side.switch_off(changed)
    lines = systemd.read_text().splitlines() if systemd.exists() else []
    assert [line.partition(" o")[0] for line in lines] == called
    # The link is the package's.
    assert link.is_symlink() and database.exists() == (changed != "database")


def test_without_systemd_only_a_database_is_made(tmp_path):
    side = Daemons(Places(ovs_run=str(tmp_path)))
    assert (side.what_start_changes(False), side.what_start_changes(True)) == ("database", "")
    side.switch_off("")


def test_a_restart_by_systemd_does_not_cut_traffic_either(systemd):
    daemons.keep_drop_ins({daemons.DROP_IN: daemons.desired_drop_in()})
    assert daemons.read_drop_in() == daemons.desired_drop_in()
    assert "ExecStop=\nExecStop=/usr/share/ovn/scripts/ovn-ctl stop_controller --restart" in daemons.read_drop_in()
    Daemons(Places()).restart_controller()
    daemons.keep_drop_ins({daemons.DROP_IN: daemons.desired_drop_in()})
    daemons.remove_drop_ins([daemons.DROP_IN])
    assert daemons.read_drop_in() == ""
    assert systemd.read_text().splitlines() == ["daemon-reload", "restart ovn-controller", "daemon-reload"]


def test_the_units_of_a_member_start_its_servers_with_the_rules_and_files(systemd, tmp_path):
    options = {"northbound": ["--a=/k 1"], "southbound": ["--b=$2"], "northd": ["--c=ssl:192.0.2.1:6641"]}
    wanted = daemons.central_drop_ins("our-catalog", options, "/guard.nft")
    assert (
        'ExecStart=/usr/share/ovn/scripts/ovn-ctl run_sb_ovsdb "--b=$$2" $OVN_CTL_OPTS\n'
        in wanted["ovn-ovsdb-server-sb.service.d/nebula.conf"]
    )
    assert 'ExecStartPre=/usr/sbin/nft -f "/guard.nft"\nExecStart=\n' in wanted["ovn-northd.service.d/nebula.conf"]
    stops = {name: "ExecStop=\n" in text for name, text in wanted.items()}
    assert [name for name, own in stops.items() if own] == ["ovn-northd.service.d/nebula.conf"]
    assert "ovn-ctl stop_northd --ovn-manage-ovsdb=no --no-monitor\n" in wanted["ovn-northd.service.d/nebula.conf"]
    daemons.keep_drop_ins(wanted)
    daemons.keep_drop_ins(wanted)
    assert daemons.read_central_drop_ins("our-catalog") == wanted
    # A member of another catalog's is not ours.
    assert daemons.read_central_drop_ins("their-catalog") == {}
    daemons.remove_drop_ins(daemons.read_central_drop_ins("their-catalog"))
    side = Daemons(Places())
    side.start_servers(["not used by units"])
    side.start_northd([])
    daemons.remove_drop_ins(daemons.read_central_drop_ins("our-catalog"))
    assert list((tmp_path / "units").iterdir()) == []
    assert systemd.read_text().splitlines() == [
        "daemon-reload",
        "enable --now ovn-central",
        "start ovn-northd ovn-ovsdb-server-nb ovn-ovsdb-server-sb ovn-central",
        "restart ovn-northd",
        "daemon-reload",
    ]


def test_northd_of_a_single_central_host_ends_without_the_databases(systemd, tmp_path):
    wanted = daemons.northd_drop_in("our-catalog")
    stop = "/usr/share/ovn/scripts/ovn-ctl stop_northd --ovn-manage-ovsdb=no --no-monitor"
    assert list(wanted) == ["ovn-northd.service.d/nebula.conf"]
    assert "".join(wanted.values()).splitlines()[1:] == ["[Service]", "ExecStop=", f"ExecStop={stop}"]
    daemons.keep_drop_ins(wanted)
    assert daemons.read_central_drop_ins("our-catalog") == wanted
    assert daemons.read_central_drop_ins("their-catalog") == {}
    # A single one that becomes a member of a cluster has the member's in its place.
    member = daemons.central_drop_ins("our-catalog", {which: [] for which in daemons.CENTRAL_DROP_INS}, "/guard.nft")
    daemons.keep_drop_ins(member)
    assert daemons.read_central_drop_ins("our-catalog") == member
    daemons.remove_drop_ins(daemons.read_central_drop_ins("our-catalog"))
    assert list((tmp_path / "units").iterdir()) == []
    assert systemd.read_text().splitlines() == ["daemon-reload"] * 3


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(daemons, "_PROGRAMS", {"central": "/none"})
    with pytest.raises(MissingDependency, match="Install the package ovn-central"):
        daemons.require_installed("central")


def test_what_does_not_come_is_told():
    with pytest.raises(TimedOut, match=r"it does not after 0\.01 s"):
        daemons.wait_until(lambda: False, "something", "it does not", "the log", 0.01)


def test_the_main_address_is_told_or_asked_for(monkeypatch):
    assert daemons.own_address_towards("127.0.0.2") == "127.0.0.1"
    assert daemons.own_address_towards("no address") == ""
    monkeypatch.setattr(daemons, "own_address_towards", lambda _address: "")
    with pytest.raises(InvalidValue, match="on host node7: nebula_ovn_address is not set for it, and it has no def"):
        daemons.main_address("node7")
