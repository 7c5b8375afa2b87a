# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node's networks are made anew from when its host boots is kept in files, and a unit of systemd carries it out.

systemd's directories are the test's own, as the switches of the kernel that the script sets are never touched here: no
network of these tests has rules when the script runs."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from stand_ins import Programs

from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject, InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.host import systemd_units
from ansible_collections.nebula.provision.plugins.module_utils.network import (
    bridge_sysctls,
    nat,
    networks_at_boot,
    openvswitch_state,
)
from ansible_collections.nebula.provision.plugins.module_utils.network.links import Link, Mark

CATALOG = "5d2c7a0e-4b1f-4c56-9a3e-0f6f5b0b7c11"
OTHER = "11111111-2222-3333-4444-555555555555"
PUBLIC, QUIET = (f"aaaaaaaa-0000-4000-8000-00000000000{n}" for n in (1, 2))
TABLE = nat.table_name(CATALOG)
UNIT = f"nebula-network-{CATALOG}.service"
WITH_NAT = Link("nbr0", "bridge", str(Mark(CATALOG, PUBLIC, "10.66.0.1/24")), mac="06:00:00:00:00:01")
PLAIN = Link("nbr1", "bridge", str(Mark(CATALOG, QUIET)), mac="06:00:00:00:00:02")
OF_PLAIN = ["bridge-nbr1.links", "bridge-nbr1.settings", "nat-0.nft", "nat-1.nft", "networks.sh"]
RULE = 'iifname "nbr0" oifname != "nbr0" ip saddr != 10.66.0.0/24 drop'
COMMENT = f'comment "nebula:{PUBLIC}:0123456789ab"'
LISTED = f"""table inet {TABLE} {{
\tchain nebula {{
\t\tcounter comment "nebula:{CATALOG}:ip_forward=0"
\t}}

\tchain forward {{
\t\ttype filter hook forward priority filter; policy accept;
\t\t{RULE} {COMMENT}
\t\tct state invalid drop comment "kept by hand"
\t}}

\tchain postrouting {{
\t\ttype nat hook postrouting priority srcnat; policy accept;
\t\tip saddr 10.66.0.0/24 oifname != "nbr0" masquerade {COMMENT}
\t}}
}}
"""


@pytest.fixture(autouse=True)
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel with IPv6, whatever this one is."""
    for family in ("ipv4", "ipv6"):
        (tmp_path / "proc" / family).mkdir(parents=True)
    monkeypatch.setattr(bridge_sysctls, "PROC", tmp_path / "proc")


@pytest.fixture
def nft(programs: Programs) -> Programs:
    programs.answer("nft", f"--stateless list table inet {TABLE}", LISTED)
    return programs


def lines_of(files: dict[str, str], name: str) -> list[str]:
    return files[name].splitlines()


# -- files ------------------------------------------------------------------------------------------------------------
def test_a_bridge_comes_back_with_its_mark_its_mac_and_its_address(nft: Programs) -> None:
    files = networks_at_boot.desired_files(CATALOG, {"nbr0": WITH_NAT, "nbr1": PLAIN, "br0": Link("br0", "bridge")})
    assert sorted(files) == ["bridge-nbr0.links", "bridge-nbr0.nft", "bridge-nbr0.settings", *OF_PLAIN]
    assert lines_of(files, "bridge-nbr0.links") == [
        f"# nebula:{CATALOG}:{PUBLIC}:10.66.0.1/24",
        "link add name nbr0 address 06:00:00:00:00:01 type bridge stp_state 0 forward_delay 0",
        f"link set dev nbr0 alias nebula:{CATALOG}:{PUBLIC}:10.66.0.1/24",
        "address replace 10.66.0.1/24 broadcast + dev nbr0",
        "link set dev nbr0 up",
    ]
    # From the fourth line on, everything may be carried out again.
    assert all("add" not in line for line in lines_of(files, "bridge-nbr1.links")[3:])
    for name, arp in (("nbr0", 1), ("nbr1", 8)):
        kept = lines_of(files, f"bridge-{name}.settings")
        assert f"ipv4/conf/{name}/arp_ignore {arp}" in kept
        assert f"ipv6/conf/{name}/disable_ipv6 1" in kept


def test_rules_come_back_as_nftables_writes_them(nft: Programs) -> None:
    files = networks_at_boot.desired_files(CATALOG, {"nbr0": WITH_NAT})
    assert lines_of(files, "bridge-nbr0.nft") == [
        f"add rule inet {TABLE} forward {RULE} {COMMENT}",
        f'add rule inet {TABLE} postrouting ip saddr 10.66.0.0/24 oifname != "nbr0" masquerade {COMMENT}',
    ]
    for before in ("0", "1"):
        assert lines_of(files, f"nat-{before}.nft") == nat.frame(CATALOG, before)


def test_the_hosts_own_addresses_are_where_its_distribution_puts_them(nft: Programs) -> None:
    """The bridge comes back without its port, and with what keeps its machines from the host."""
    moved = Link(
        "nbr0", "bridge", str(Mark(CATALOG, PUBLIC, "", "eth0", "forced")), mac="06:00:00:00:00:01", ports=("eth0",)
    )
    files = networks_at_boot.desired_files(CATALOG, {"nbr0": moved, "eth0": Link("eth0", bridge="nbr0")})
    mark = f"nebula:{CATALOG}:{PUBLIC}"
    assert lines_of(files, "bridge-nbr0.links")[::2] == [f"# {mark}", f"link set dev nbr0 alias {mark}"]
    assert not any("eth0" in content for content in files.values())
    assert "ipv4/conf/nbr0/arp_ignore 8" in files["bridge-nbr0.settings"]
    rules = nat.Rules(PUBLIC, "nbr0")
    assert lines_of(files, "bridge-nbr0.nft") == rules.lines(CATALOG)
    assert f'add rule inet {TABLE} input iifname "nbr0" drop comment "{rules.comment}"' in rules.lines(CATALOG)


def test_rules_without_a_bridge_are_left_out(nft: Programs) -> None:
    assert sorted(networks_at_boot.desired_files(CATALOG, {"nbr1": PLAIN})) == OF_PLAIN


@pytest.mark.parametrize("there", [True, False])
def test_without_rules_or_without_nft_there_is_no_nat(programs: Programs, there: bool) -> None:
    if there:
        said = "Error: No such file or directory\n"
        programs.answer("nft", f"--stateless list table inet {TABLE}", err=said, code=1)
    files = networks_at_boot.desired_files(CATALOG, {"nbr0": WITH_NAT})
    assert sorted(files) == ["bridge-nbr0.links", "bridge-nbr0.settings", "networks.sh"]


def test_files_are_written_and_those_of_networks_that_went_are_removed(tmp_path: Path) -> None:
    kept = networks_at_boot.Boot(str(tmp_path), CATALOG)
    place = tmp_path / "boot" / CATALOG
    assert kept.place == str(place)
    kept.write({"networks.sh": "a\n", "bridge-nbr0.links": "b\n"})
    for name in ("notes", ".bridge-nbr5.links.abc.tmp"):
        (place / name).touch()
    kept.write({"networks.sh": "a\n", "bridge-nbr1.links": "c\n"})
    assert sorted(os.listdir(place)) == ["bridge-nbr1.links", "networks.sh", "notes"]
    assert (place / "bridge-nbr1.links").read_text() == "c\n"
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE((place / "networks.sh").stat().st_mode) == 0o600


def test_what_is_no_file_under_a_name_of_ours_is_explained(tmp_path: Path) -> None:
    (tmp_path / "boot" / CATALOG / "nat-0.nft").mkdir(parents=True)
    with pytest.raises(InvalidValue) as caught:
        networks_at_boot.Boot(str(tmp_path), CATALOG).write({})
    assert "nat-0.nft" in caught.value.asked
    assert caught.value.remedy == "Remove it: files of that name in this directory are the collection's own"


# -- the script -------------------------------------------------------------------------------------------------------
def carried_out(
    programs: Programs, root: Path, present: dict[str, Link]
) -> tuple[subprocess.CompletedProcess[str], Path]:
    kept = networks_at_boot.Boot(str(root), CATALOG)
    kept.write(networks_at_boot.desired_files(CATALOG, present))
    programs_first = {"PATH": f"{root / 'programs'}:/usr/bin:/bin"}
    argv = ["/bin/sh", os.path.join(kept.place, "networks.sh"), kept.place, CATALOG, TABLE]
    return subprocess.run(argv, env=programs_first, capture_output=True, text=True, timeout=20), Path(kept.place)


def test_the_script_makes_what_is_not_there_and_leaves_alone_what_is_somebody_elses(
    programs: Programs, tmp_path: Path
) -> None:
    absent = Link("nebula-none0", "bridge", str(Mark(CATALOG, QUIET)), mac="06:00:00:00:00:02")
    loopback = Link("lo", "bridge", str(Mark(CATALOG, PUBLIC)), mac="06:00:00:00:00:01")
    programs.answer("ip", "-batch -")
    done, place = carried_out(programs, tmp_path, {"lo": loopback, "nebula-none0": absent})
    assert programs.calls("ip") == ["-batch -", "-batch -"]
    assert programs.read("ip") == lines_of({"": (place / "bridge-nebula-none0.links").read_text()}, "")
    assert done.returncode == 1
    assert done.stderr == (
        f"bridge lo: an interface of that name that is not of catalog {CATALOG} is there: it is left alone\n"
    )


def test_the_script_goes_on_after_a_bridge_that_could_not_be_made(programs: Programs, tmp_path: Path) -> None:
    names = ("nebula-none0", "nebula-none1")
    programs.answer("ip", "-batch -", err="RTNETLINK answers: No such device\n", code=1)
    present = {name: Link(name, "bridge", str(Mark(CATALOG, QUIET)), mac="06:00:00:00:00:02") for name in names}
    done, _place = carried_out(programs, tmp_path, present)
    assert len(programs.calls("ip")) == 2
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        line for name in names for line in ("RTNETLINK answers: No such device", f"bridge {name} could not be made")
    ]


SWITCH = openvswitch_state.SwitchBridge(
    "ovsbr0", {"nebula-switch": CATALOG, "nebula-networks": QUIET, "nebula-port": "eth1"}
)


@pytest.fixture
def switched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvswitch_state, "bridges_of_catalog", lambda _catalog: {"ovsbr0": SWITCH})


@pytest.mark.usefixtures("switched")
@pytest.mark.parametrize(("mark", "fine"), [(f'"{CATALOG}"', True), ('"other"', False), ("", False)])
def test_the_script_sets_up_what_joins_a_bridge_of_open_vswitch(
    programs: Programs, tmp_path: Path, mark: str, fine: bool
) -> None:
    programs.answer("ovs-vsctl", "--timeout=30 --if-exists get Bridge ovsbr0 external_ids:nebula-switch", mark + "\n")
    programs.answer("ip", "link set dev eth1 up")
    done, place = carried_out(programs, tmp_path, {})
    assert (place / "switches.list").read_text() == "ovsbr0 eth1\n"
    assert programs.calls("ip") == ["link set dev eth1 up"] * fine
    complaint = f"bridge ovsbr0 of Open vSwitch is not there, or not of catalog {CATALOG}: it is left alone\n"
    assert (done.returncode, done.stderr) == ((0, "") if fine else (1, complaint))


def test_the_script_has_nothing_to_complain_of_without_networks(programs: Programs, tmp_path: Path) -> None:
    done, _place = carried_out(programs, tmp_path, {})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_script_marks_the_consoles_of_the_hosts_own_machines(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a directory that several hosts see, those of others run on."""
    program = networks_at_boot.PROGRAM
    for place in networks_at_boot.DEFINITIONS:
        assert place in program
        program = program.replace(place, f"{tmp_path}{place}")
        (tmp_path / place[1:]).mkdir(parents=True)
    monkeypatch.setattr(networks_at_boot, "PROGRAM", program)
    logs = {name: tmp_path / "datastores" / "0" / name / "console.log" for name in ("7", "8", "9", "70", "lost+found")}
    for log in logs.values():
        log.parent.mkdir(parents=True)
        log.write_text("login:")
    for definition in ("etc/libvirt/qemu/one-7.xml", "etc/xen/one-8.cfg", "etc/xen/one-9.left"):
        (tmp_path / definition).touch()
    done, _place = carried_out(programs, tmp_path, {})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    marked = [name for name, log in logs.items() if log.read_text() == "login:\nnebula-node: starting\n"]
    assert marked == ["7", "8"]
    assert all(log.read_text() == "login:" for name, log in logs.items() if name not in marked)


# -- the unit ---------------------------------------------------------------------------------------------------------
class Systemd:
    """A host with systemd: `systemctl enable` makes the link that the real one makes."""

    def __init__(self, programs: Programs, place: Path) -> None:
        self.programs, self.place = programs, place
        wants = place / "multi-user.target.wants"
        link = f"mkdir -p {wants} && ln -sf {place}/$2 {wants}/$2"
        programs.answer("systemctl", f"enable {UNIT}", script=link)
        for words in (f"disable --now {UNIT}", "daemon-reload", f"reset-failed {UNIT}"):
            programs.answer("systemctl", words)
        self.show()

    def show(self, *present: dict[str, Any]) -> None:
        self.programs.answer("ip", "-json -details address show", json.dumps(present))

    @property
    def calls(self) -> list[str]:
        return self.programs.calls("systemctl")


@pytest.fixture
def systemd(programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(systemd_units, "RUNS", str(tmp_path / "run"))
    monkeypatch.setattr(systemd_units, "PLACE", str(tmp_path / "etc"))
    said = "Error: No such file or directory\n"
    programs.answer("nft", f"--stateless list table inet {TABLE}", err=said, code=1)
    return Systemd(programs, tmp_path / "etc")


SHOWN = {"ifname": "nbr1", "ifalias": PLAIN.alias, "address": PLAIN.mac, "linkinfo": {"info_kind": "bridge"}}


def test_the_unit_runs_the_script_before_machines_start() -> None:
    text = networks_at_boot.Boot("/var/lib/nebula", CATALOG).text()
    assert text.splitlines()[0] == f"# nebula:{CATALOG}:boot"
    settings = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    assert settings["ExecStart"] == (
        f'/bin/sh "/var/lib/nebula/boot/{CATALOG}/networks.sh" "/var/lib/nebula/boot/{CATALOG}" {CATALOG} {TABLE}'
    )
    assert settings["RequiresMountsFor"] == f'"/var/lib/nebula/boot/{CATALOG}"'
    assert {"libvirtd.service", "libvirt-guests.service", "xendomains.service"} <= set(settings["Before"].split())
    assert {"nftables.service", "systemd-sysctl.service"} <= set(settings["After"].split())


@pytest.mark.usefixtures("switched")
def test_with_bridges_of_open_vswitch_the_unit_waits_for_it(systemd: Systemd, tmp_path: Path) -> None:
    kept = networks_at_boot.Boot(str(tmp_path / "nebula"), CATALOG)
    kept.keep(act=True)
    assert " openvswitch-switch.service\n" in (systemd.place / UNIT).read_text()
    assert kept.keep(act=True) == (None, None) and kept.keep(act=False) == (None, None)
    assert "openvswitch" not in kept.text()


def test_a_path_can_not_end_a_word_of_the_unit() -> None:
    text = networks_at_boot.Boot('/srv/a b"c$HOME%h', CATALOG).text()
    assert f'ExecStart=/bin/sh "/srv/a b\\"c$$HOME%%h/boot/{CATALOG}/networks.sh"' in text
    with pytest.raises(InvalidValue):
        networks_at_boot.Boot("/srv/a\nExecStart=/bin/rm", CATALOG).text()


def test_without_systemd_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd_units, "RUNS", str(tmp_path / "none"))
    root = tmp_path / "nebula"
    root.mkdir()
    assert networks_at_boot.Boot(str(root), CATALOG).keep(act=True) == (None, None)
    assert os.listdir(root) == []


def test_what_the_node_has_is_kept_once(systemd: Systemd, tmp_path: Path) -> None:
    systemd.show(SHOWN)
    root = tmp_path / "nebula"
    kept = networks_at_boot.Boot(str(root), CATALOG)
    forecast = kept.keep(act=False)
    assert not root.exists() and systemd.calls == []
    before, after = kept.keep(act=True)
    assert (before, after) == forecast and before == {} and after is not None
    assert after["unit"] == UNIT
    assert after["networks.sh"] == "present"
    assert after["bridge-nbr1.links"].startswith(f"# nebula:{CATALOG}:{QUIET}\n")
    assert stat.S_IMODE(root.stat().st_mode) == 0o711
    assert (systemd.place / UNIT).read_text() == kept.text()
    assert systemd.calls == [f"enable {UNIT}"]
    assert kept.keep(act=True) == (None, None)
    assert systemd.calls == [f"enable {UNIT}"]


def test_filters_of_a_thousand_nics_are_kept_and_shown_in_a_line(systemd: Systemd, tmp_path: Path) -> None:
    kept = networks_at_boot.Boot(str(tmp_path / "nebula"), CATALOG)
    text = "table bridge x {\n}\n" * 400_000
    kept.keep_guards(text)
    assert (tmp_path / "nebula/boot" / CATALOG / networks_at_boot.GUARDS).read_text() == text
    kept.keep_guards(text + "table bridge y {\n}\n")
    before, after = kept.keep(act=False)
    assert before is not None and after is not None
    assert before[networks_at_boot.GUARDS].startswith("800002 lines, SHA-256 ") and networks_at_boot.GUARDS not in after


@pytest.mark.parametrize("spoil", ["file", "unit", "link"])
def test_what_was_changed_is_mended(systemd: Systemd, tmp_path: Path, spoil: str) -> None:
    kept = networks_at_boot.Boot(str(tmp_path / "nebula"), CATALOG)
    kept.keep(act=True)
    script = Path(kept.place, "networks.sh")
    if spoil == "file":
        script.write_text("#!/bin/sh\n")
    elif spoil == "unit":
        (systemd.place / UNIT).write_text(kept.text() + "# more\n")
    else:
        (systemd.place / "multi-user.target.wants" / UNIT).unlink()
    assert kept.keep(act=True)[1] is not None
    assert kept.keep(act=True) == (None, None)
    assert script.read_text() == networks_at_boot.PROGRAM


def test_a_unit_that_somebody_else_wrote_is_left_alone(systemd: Systemd, tmp_path: Path) -> None:
    systemd.place.mkdir()
    (systemd.place / UNIT).write_text(f"# nebula:{OTHER}:boot\n[Unit]\n")
    kept = networks_at_boot.Boot(str(tmp_path / "nebula"), CATALOG)
    for act in (kept.keep, kept.remove):
        with pytest.raises(ForeignObject, match=r"unit .*Move it away"):
            act(True)
    assert (systemd.place / UNIT).read_text().startswith(f"# nebula:{OTHER}")


def test_networks_that_are_going_to_change_are_a_change_to_be(systemd: Systemd, tmp_path: Path) -> None:
    kept = networks_at_boot.Boot(str(tmp_path / "nebula"), CATALOG)
    kept.keep(act=True)
    before, after = kept.keep(act=False, forecast=True)
    assert before == {"networks.sh": "present"}
    assert after == {"networks.sh": "present", "networks": "as they will be", "unit": UNIT}


def test_a_catalog_that_is_still_to_be_made_has_a_unit_in_check_mode(systemd: Systemd, tmp_path: Path) -> None:
    _before, after = networks_at_boot.Boot(str(tmp_path), "").keep(act=False)
    assert after == {"networks.sh": "present", "unit": "nebula-network-<catalog>.service"}


def test_unit_and_files_go_together(systemd: Systemd, tmp_path: Path) -> None:
    systemd.show(SHOWN)
    root = tmp_path / "nebula"
    kept = networks_at_boot.Boot(str(root), CATALOG)
    kept.keep(act=True)
    shown, nothing = kept.remove(act=False)
    assert nothing is None and shown is not None
    assert sorted(shown) == ["bridge-nbr1.links", "bridge-nbr1.settings", "networks.sh", "unit"]
    assert (root / "boot").exists() and (systemd.place / UNIT).exists()
    assert kept.remove(act=True) == (shown, None)
    assert os.listdir(root) == []
    assert os.listdir(systemd.place) == ["multi-user.target.wants"]
    assert systemd.calls[-3:] == [f"disable --now {UNIT}", "daemon-reload", f"reset-failed {UNIT}"]
    assert kept.remove(act=True) == (None, None)


def test_a_directory_with_files_of_others_stays(systemd: Systemd, tmp_path: Path) -> None:
    kept = networks_at_boot.Boot(str(tmp_path / "nebula"), CATALOG)
    kept.keep(act=True)
    Path(kept.place, "notes").touch()
    kept.remove(act=True)
    assert os.listdir(kept.place) == ["notes"]


def test_the_catalogs_of_a_root_are_those_whose_units_name_it(systemd: Systemd, tmp_path: Path) -> None:
    networks_at_boot.Boot(str(tmp_path / "nebula"), CATALOG).keep(act=True)
    elsewhere = networks_at_boot.Boot(str(tmp_path / "neb"), OTHER)
    (systemd.place / elsewhere.unit).write_text(elsewhere.text())
    assert networks_at_boot.catalogs(str(tmp_path / "nebula")) == [CATALOG]
    assert networks_at_boot.catalogs(str(tmp_path / "neb")) == [OTHER]
    assert networks_at_boot.catalogs(str(tmp_path)) == []
