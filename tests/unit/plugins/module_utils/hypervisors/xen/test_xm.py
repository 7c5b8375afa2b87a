# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""xm, which no system of today can run: it needs Python 2 and xend, which Xen 4.5 removed. So here, and only here, its
words are compared with what its manual and xend's code said of them, and what it prints is written after their form."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import NoCapacity, Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.host.command import Completed
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Mark
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen import (
    config,
    dom0,
    xenstore,
    xl,
    xl_logs,
    xm,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen import driver as xen

FIXTURES = Path(__file__).parents[5] / "fixtures" / "deployment" / "xen"
UUID = "5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d01"
LIST = f"""\
(domain
    (domid 0)
    (cpu_weight 256)
    (uuid 00000000-0000-0000-0000-000000000000)
    (vcpus 2)
    (memory 1536)
    (name Domain-0)
    (on_crash restart)
    (image (linux (kernel '') (superpages 0)))
    (status 2)
    (state r-----)
    (cpu_time 153.102)
    (online_vcpus 1)
)
(domain
    (domid 7)
    (uuid {UUID})
    (vcpus 2)
    (memory 160)
    (name one-1)
    (image
        (linux
            (kernel /boot/vmlinuz)
            (args 'root=/dev/xvda1 it\\'s "(a" \\\\ \\xc3\\xa4')
        )
    )
    (state -b----)
    (cpu_time 5.2)
    (online_vcpus 1)
    (device (vif (bridge br0) (mac 02:00:C0:A8:46:96) (uuid 4f6c) (backend 0)))
    (device (vbd (uname file:/var/lib/nebula/disk.0) (dev xvda:disk) (mode w)))
    (device (tap (uname tap:qcow2:/var/lib/nebula/disk.1) (dev xvdb:disk) (mode w)))
    (device (vbd (uname phy:/dev/sr0) (dev ioemu:hdc:cdrom) (mode r)))
    (device (vkbd (backend 0)))
)
(domain
    (domid 9)
    (uuid {UUID[:-1]}2)
    (vcpus 1)
    (memory 512)
    (name "it's one")
    (image (hvm (kernel '') (loader /usr/lib/xen/boot/hvmloader)))
    (state --p---)
    (cpu_time 0.0)
)
(domain (uuid {UUID[:-1]}3) (vcpus 1) (memory 64) (name only-kept-in-mind) (image (hvm (kernel ''))))
"""
NICS = """\
Idx BE     MAC Addr.     handle state evt-ch tx-/rx-ring-ref BE-path
0   0  02:00:c0:a8:46:96    0     4      9     769  /768     /local/domain/0/backend/vif/7/0
1   0  02:00:c0:a8:46:97    1     4      10    771  /770     /local/domain/0/backend/vif/7/1
"""
INFO = """\
nr_cpus                : 4
total_memory           : 8190
free_memory            : 6012
xen_major              : 4
xen_minor              : 2
xen_extra              : .2
xen_scheduler          : credit
"""
MARK = Mark("0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10", 1, UUID, 1)


class Runner:
    """In place of processes: what was run, and an answer for the first words of each."""

    def __init__(self, **answers: str) -> None:
        self.ran: list[list[str]] = []
        self.answers = {"list": LIST, "info": INFO, "network-list": NICS, **answers}

    def __call__(self, argv: Sequence[str], **_options: object) -> Completed:
        self.ran.append(list(argv))
        verb = argv[1] if argv[0] == "xm" else argv[0]
        return Completed(argv, 0, self.answers.get(verb, ""), "", 0.0)

    @property
    def last(self) -> str:
        return " ".join(self.ran[-1])


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Runner:
    found = Runner()
    for module in (xl, xen):
        monkeypatch.setattr(module, "run", found)
    return found


# -- what it prints ----------------------------------------------------------------------------------------------------
def test_domains_and_their_uuids() -> None:
    found = {domain.name: domain for domain in xm.parse_list(LIST)}
    assert found["one-1"] == xl.ListedDomain("one-1", 7, 160, 1, "-b----", 5.2, UUID)
    assert found["it's one"].vcpus == 1 and found["it's one"].flags == "--p---"
    assert sorted(found) == ["Domain-0", "it's one", "one-1"]


def test_one_that_is_being_saved_is_neither_running_nor_gone(driver: xen.XenDriver, runner: Runner) -> None:
    for flags in ("r-----", "---s--"):
        runner.answers["list"] = f"(domain (domid 7) (uuid {UUID}) (name migrating-one-1) (state {flags}))"
        assert driver.state(MARK) == "UNKNOWN"


def test_expressions() -> None:
    assert 'root=/dev/xvda1 it\'s "(a" \\ ä' in _words(xm.domains(LIST)["one-1"])
    assert xm.expressions("(a (b c)) d") == [["a", ["b", "c"]], "d"]
    assert xm.expressions("(a () '' (b 'c d'") == [["a", [], "", ["b", "c d"]]]
    assert xm.expressions(") a ' (") == ["a", []]
    assert xm.expressions("") == []
    assert xm.expressions("'ä'") == ["ä"]


def _words(of: xm.Expression) -> list[str]:
    return [of] if isinstance(of, str) else [word for each in of for word in _words(each)]


def test_devices() -> None:
    domain = xm.domains(LIST)["one-1"]
    assert xm.blocks(domain) == {config.device_number(name) for name in ("xvda", "xvdb", "hdc")}
    assert xm.macs(domain) == {"02:00:c0:a8:46:96"}
    assert xm.blocks([]) == set() == xm.macs([])
    assert xm.indices(NICS) == {"02:00:c0:a8:46:96": "0", "02:00:c0:a8:46:97": "1"}


def test_information(runner: Runner) -> None:
    told = xm.Xm().information()
    assert (told["xen_version"], told["total_memory"], told["xen_scheduler"]) == ("4.2.2", "8190", "credit")


def test_it_says_in_its_own_words_that_memory_is_short() -> None:
    said = "Error: I need 524288 KiB, but dom0_min_mem is 262144 and shrinking to 262144 KiB would leave only 3."
    assert isinstance(xl.error_of_xl("a", said), NoCapacity)
    assert (
        "xend" in xl.error_of_xl("a", "Error: Unable to connect to xend: Connection refused. Is xend running?").remedy
    )


# -- what it is asked --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "spelled"),
    [
        ("create -q /etc/xen/one-1.cfg", "create -q /etc/xen/one-1.cfg"),
        ("destroy one-1", "destroy one-1"),
        ("shutdown -F one-1", "shutdown one-1"),
        ("reboot -F one-1", "reboot one-1"),
        ("mem-set one-1 512m", "mem-set one-1 512"),
        ("block-attach one-1 file:/a,xvdb,w", "block-attach one-1 file:/a xvdb w"),
        ("block-attach one-1 qcow2:/a,xvdb:cdrom,r", "block-attach one-1 tap:qcow2:/a xvdb:cdrom r"),
        ("block-detach one-1 51712", "block-detach one-1 51712"),
        ("network-attach one-1 mac=02:00 bridge=br0", "network-attach one-1 mac=02:00 bridge=br0"),
        ("network-detach one-1 02:00:c0:a8:46:97", "network-detach one-1 1"),
        ("sched-credit -d one-1 -w 256 -c 50", "sched-credit -d one-1 -w 256 -c 50"),
        ("sched-credit2 -d one-1 -w 256 -c 50", "sched-credit2 -d one-1 -w 256"),
        ("save one-1 /a/checkpoint", "save one-1 /a/checkpoint"),
        ("restore /etc/xen/one-1.cfg /a/checkpoint", "restore /a/checkpoint"),
        ("dmesg", "dmesg"),
    ],
)
def test_spelling(words: str, spelled: str, runner: Runner) -> None:
    xm.Xm().ask("a", *words.split())
    assert runner.last == f"xm {spelled}"


def test_a_guest_without_drivers_is_not_unplugged(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """`xm shutdown` ends an HVM guest at once that does not listen."""
    tool, have = xm.Xm(), set()
    monkeypatch.setattr(xenstore, "has_drivers", lambda domid: domid in have)
    tool.ask("a", "shutdown", "-F", "it's one")
    assert runner.last == "xm trigger it's one power"
    with pytest.raises(Unsupported, match=r"xm can only press its power button.*hard: true"):
        tool.ask("a", "reboot", "-F", "it's one")
    have.add(9)
    tool.ask("a", "reboot", "-F", "it's one")
    assert runner.last == "xm reboot it's one"


def test_a_context_is_read_anew_at_the_next_start(runner: Runner) -> None:
    assert not xm.Xm().insert("a", "one-1", "xvdb", "/a/disk.1") and not runner.ran


@pytest.mark.parametrize("case", sorted(path.stem for path in FIXTURES.glob("*.cfg")))
def test_what_is_written_for_it_says_the_same(case: str) -> None:
    text = (FIXTURES / f"{case}.cfg").read_text(encoding="utf-8")
    written = xm.Xm().written(text)
    assert xl.Tool().written(text) == text
    assert written.partition("\n")[0] == text.partition("\n")[0]
    for read in (config.disks_of, config.macs_of, config.port_of, config.weights_of):
        assert read(written) == read(text)
    assert config.needs_of(written).disks == config.needs_of(text).disks
    assert "'qcow2:" not in written and "device_model_args" not in written
    names: dict[str, object] = {}
    exec(compile(written, case, "exec"), {"__builtins__": {}}, names)
    # That of the template's RAW comes later.
    assert names["on_crash"] == ("preserve" if case == "hvm_everything" else "destroy")
    number = 5 if case == "hvm_nics_on_open_vswitch" else 226
    console = f"file:/var/lib/nebula/datastores/0/{number}/console.log"
    assert names.get("serial") == (console if names.get("builder") == "hvm" else None)


@pytest.mark.parametrize(
    ("case", "what"),
    [("pvh", "PVH|pvh"), ("hvm_everything", "UEFI"), ("nics_on_open_vswitch", "Open vSwitch or OVN"), ("seed", "")],
)
def test_what_it_can_not_have_is_said(case: str, what: str) -> None:
    tool, text = xm.Xm(), (FIXTURES / f"{case}.cfg").read_text(encoding="utf-8")
    xl.Tool().refuse("a", text)
    if not what:
        tool.refuse("a", text)
        return
    with pytest.raises(Unsupported, match=rf"only the older xm, which can't have .*({what}).*host with xl"):
        tool.refuse("a", tool.written(text))


def test_saved_machines() -> None:
    assert xm.Xm().is_saved(io.BytesIO(b"LinuxGuestRecord\0\0\1\0(domain (domid 7))"))
    assert not xm.Xm().is_saved(io.BytesIO(b"LinuxGuest"))
    whole = xl.SAVED + bytes(16)
    assert xl.Tool().is_saved(io.BytesIO(whole)) and not xm.Xm().is_saved(io.BytesIO(whole))


# -- the driver with it ------------------------------------------------------------------------------------------------
@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runner: Runner) -> xen.XenDriver:
    programs, etc = tmp_path / "programs", tmp_path / "etc"
    programs.mkdir()
    etc.mkdir()
    (programs / "xm").write_text("#!/bin/sh\n", encoding="ascii")
    (programs / "xm").chmod(0o755)
    (tmp_path / "capabilities").write_text("control_d\n", encoding="ascii")
    monkeypatch.setattr(xl, "CAPABILITIES", tmp_path / "capabilities")
    monkeypatch.setattr(xl, "find", lambda name: _find(programs, name))
    for name, path in (("DEFINITIONS", etc), ("AUTO", etc / "auto"), ("CONSOLES", tmp_path / "console")):
        monkeypatch.setattr(xen, name, path)
    monkeypatch.setattr(dom0, "CONSOLES", tmp_path / "console")
    monkeypatch.setattr(xl_logs, "LOGS", tmp_path)
    return xen.XenDriver()


def _find(programs: Path, name: str) -> str:
    if not (programs / name).exists():
        raise xl.MissingDependency(name, "not there")
    return str(programs / name)


def test_the_driver_takes_it_where_there_is_no_xl(driver: xen.XenDriver, runner: Runner) -> None:
    assert driver.state(MARK) == "RUNNING"
    assert driver.capacity() == (8190 - 1536, 4.0)
    assert driver.versions() == {"xen": "4.2.2"}
    assert runner.ran and all(words[0] == "xm" for words in runner.ran)


def test_a_domain_of_our_name_with_another_uuid_is_foreign(driver: xen.XenDriver) -> None:
    other = Mark(MARK.catalog, 1, UUID[:-1] + "9", 1)
    assert driver.is_foreign(other, "/x") and not driver.is_foreign(MARK, "/x")
    with pytest.raises(xen.ForeignObject, match="xm rename"):
        driver.state(other)


def test_nobody_wrote_down_how_a_machine_ended(driver: xen.XenDriver) -> None:
    assert xl_logs.ended_by("one-1") == "unknown"
