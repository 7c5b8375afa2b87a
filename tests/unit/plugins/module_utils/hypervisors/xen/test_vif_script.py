# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The script that makes NICs ports of Open vSwitch: installed and taken back, and run by bash. What it asks Xen's own
functions (vif-common.sh) and Open vSwitch is written down by stand-ins, whose form is that of Xen 4.17; the real ones
are asked in tests/integration/test_xen_switches.py."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.host.node_file import Changes
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen import switch_ports, vif_script

UUID = "5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d01"
IDS = f'external_ids:attached-mac="02:00:0a:00:00:05" external_ids:vm-id="{UUID}"'
INTERFACE = "404ef193-42b8-5a95-b91c-719408832e54"
# As Xen's: its names, what they print, and when they end the script.
COMMON = """
command=$1 dev=one-5-0 type_if=${type_if:-vif} XENBUS_PATH=backend/vif/3/0
[ "$type_if" = vif ] || dev=one-5-0-emu
xenstore_read() {
    case "$1" in
        backend/vif/3/0/frontend-id) echo 3 ;;
        backend/vif/3/0/mac) echo "${MAC:-02:00:0A:00:00:05}" ;;
        /local/domain/3/vm) echo "/vm/$UUID" ;;
        *) fatal "xenstore_read $1" ;;
    esac
}
fatal() { echo "fatal $*"; exit 1; }
success() { echo success; }
log() { :; }
do_or_die() { "$@" || fatal "$@ failed"; }
do_without_error() { "$@" || true; }
setup_virtual_bridge_port() { echo "setup $1"; }
ip() { echo "ip $*"; }
ovs-vsctl() { echo "ovs-vsctl $*"; [ -z "$FAILS" ]; }
trap 'fatal error' ERR
"""


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(vif_script, "SCRIPTS", tmp_path / "xen" / "scripts")
    return tmp_path / "xen" / "scripts"


def run(place: Path, record: str, command: str, **environment: str) -> tuple[int, list[str]]:
    """What it prints, with this record of the machine."""
    place.mkdir(exist_ok=True)
    (place / UUID).write_text(f"02:00:0a:00:00:07 br9 other\n{record}\n", encoding="ascii")
    (place / "vif-common.sh").write_text(COMMON, encoding="ascii")
    path = place / switch_ports.SCRIPT
    path.write_text(vif_script.TEXT.replace(str(switch_ports.PORTS), str(place)), encoding="utf-8")
    variables = {**os.environ, "UUID": UUID, "FAILS": "", **environment}
    done = subprocess.run(["bash", path, command], env=variables, capture_output=True, text=True)
    return done.returncode, done.stdout.splitlines()


def test_a_nic_of_ovn_becomes_the_port_that_its_record_names(tmp_path: Path) -> None:
    code, printed = run(tmp_path, f"02:00:0a:00:00:05 br-int {INTERFACE}", "online")
    ids = f'{IDS} external_ids:iface-id="{INTERFACE}" external_ids:iface-status=active'
    words = f"--if-exists del-port one-5-0 -- add-port br-int one-5-0 -- set Interface one-5-0 {ids}"
    assert code == 0
    assert printed == [
        "setup one-5-0", f"ovs-vsctl --retry --timeout=30 -- {words}", "ip link set dev one-5-0 up", "success",
    ]  # fmt: skip


def test_its_vlans_and_mtu_are_set_before_frames_pass(tmp_path: Path) -> None:
    columns = "tag=10 trunks=10,20 vlan_mode=native-untagged"
    # A bridge that every host has: its loopback interface.
    code, printed = run(tmp_path, f"02:00:0a:00:00:05 lo {INTERFACE} {columns}", "online")
    mtu = Path("/sys/class/net/lo/mtu").read_text(encoding="ascii").strip()
    assert code == 0 and printed[1] == f"ip link set dev one-5-0 mtu {mtu}"
    assert f" add-port lo one-5-0 {columns} -- set Interface one-5-0 " in printed[2]


def test_an_emulated_nic_is_no_second_port_of_the_same_name(tmp_path: Path) -> None:
    code, printed = run(tmp_path, f"02:00:0a:00:00:05 br8 {INTERFACE} tag=10", "add", type_if="tap")
    assert code == 0 and printed[-1] == "ip link set dev one-5-0-emu up"
    assert printed[1].endswith(f"add-port br8 one-5-0-emu tag=10 -- set Interface one-5-0-emu {IDS}")


@pytest.mark.parametrize("command", ["offline", "remove"])
def test_a_nic_that_goes_leaves_no_port_whatever_is_known_of_it(tmp_path: Path, command: str) -> None:
    code, printed = run(tmp_path, "", command, FAILS="1")
    assert (code, printed) == (
        0,
        ["ovs-vsctl --timeout=30 -- --if-exists del-port one-5-0", "ip link set dev one-5-0 down"],
    )


def test_xen_is_told_why_a_nic_is_not_attached(tmp_path: Path) -> None:
    record = f"02:00:0a:00:00:05 br-int {INTERFACE}"
    code, printed = run(tmp_path, record, "online", MAC="02:00:0a:00:00:09")
    assert (code, printed) == (1, [f"fatal {tmp_path}/{UUID} has no port for 02:00:0a:00:00:09"])
    code, printed = run(tmp_path, record, "online", FAILS="1")
    assert code == 1 and printed[-1].startswith("fatal ovs-vsctl") and "success" not in printed


def test_it_is_installed_once_and_given_back(scripts: Path) -> None:
    path = scripts / switch_ports.SCRIPT
    with pytest.raises(NotFound, match=f"starting it: there is no {path}.*Run role nebula.provision.node first"):
        vif_script.require("starting it")
    foreseen = Changes(True)
    vif_script.prepare(foreseen)
    assert set(foreseen.after) == {str(path)} and not path.exists()
    done = Changes(False)
    vif_script.prepare(done)
    assert done.after == foreseen.after and path.read_text(encoding="utf-8") == vif_script.TEXT
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    again = Changes(False)
    vif_script.prepare(again)
    assert again.after == {}
    vif_script.require("starting it")
    assert vif_script.give_back(Changes(True)) and path.exists()
    assert vif_script.give_back(Changes(False)) and not path.exists()
    assert not vif_script.give_back(Changes(False))


@pytest.mark.parametrize("left", [(), ("a-machine-of-another-catalog",)])
def test_the_directory_of_machines_goes_with_it_if_there_is_none(
    scripts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: tuple[str, ...]
) -> None:
    place = tmp_path / "ports"
    place.mkdir()
    for name in left:
        (place / name).touch()
    monkeypatch.setattr(switch_ports, "PORTS", place)
    vif_script.prepare(Changes(False))
    assert vif_script.give_back(Changes(False))
    assert place.exists() == bool(left)


def test_that_of_another_version_is_replaced(scripts: Path) -> None:
    vif_script.prepare(Changes(False))
    path = scripts / switch_ports.SCRIPT
    path.write_text(f"#!/bin/sh\n{vif_script.MARK}\n", encoding="ascii")
    changes = Changes(False)
    vif_script.prepare(changes)
    assert changes.before == {str(path): "of another version"} and path.read_text(encoding="utf-8") == vif_script.TEXT


def test_somebody_elses_of_that_name_is_left_alone(scripts: Path) -> None:
    scripts.mkdir(parents=True)
    (scripts / switch_ports.SCRIPT).write_text("#!/bin/sh\n", encoding="ascii")
    for ask in (lambda: vif_script.prepare(Changes(False)), lambda: vif_script.require("starting it")):
        with pytest.raises(ForeignObject, match="one of this name is there that is not ours"):
            ask()
    assert not vif_script.give_back(Changes(False))
    assert (scripts / switch_ports.SCRIPT).read_text(encoding="ascii") == "#!/bin/sh\n"
