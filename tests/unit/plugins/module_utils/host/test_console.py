# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The console's words as evidence. The texts are what real guests wrote (tests/integration/test_verify.py)."""

from __future__ import annotations

import os
import re
import stat
import threading
import time
from collections.abc import Collection
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.host import console
from ansible_collections.nebula.provision.plugins.module_utils.host.console import Wanted, wait

DEMO = """\r
nebula-guest: booting\r
start script here\r
\r
nebula-guest: context=1682b5c371cb08d19175342d2c96bef19ecee39d38c58e0b2e306370e6988ea0\r
nebula-guest: hostname=web-0\r
nebula-guest: eth0 mac=02:00:0a:42:00:0a ip=10.66.0.10/24 ip=2001:db8::10/64\r
nebula-guest: eth1 mac=02:00:0a:43:00:0a ip=10.67.0.10/24\r
nebula-guest: gateway=10.66.0.1\r
nebula-guest: cpus=1\r
nebula-guest: ready\r
\r
root@web-0:~# \x1b[6n"""

CLOUD_INIT = """\
[    0.000000] Linux version 6.1.0-56-cloud-amd64 (debian-kernel@lists.debian.org) (gcc-12 (Debian 12.2.0-14))
[   17.4] cloud-init[208]: Cloud-init v. 22.4.2 running 'init' at Thu, 20 Nov 2025 08:30:00 +0000. Up 17.31 seconds.
[   17.5] cloud-init[208]: ci-info: ++++++++++++++++Net device info++++++++++++++++
[   17.5] cloud-init[208]: ci-info: | Device |  Up   |  Address   |      Mask     | Scope  |     Hw-Address    |
[   17.5] cloud-init[208]: ci-info: |  eth0  |  True | 10.66.0.10 | 255.255.255.0 | global | 02:00:0a:42:00:0a |
[   17.5] cloud-init[208]: ci-info: |  eth1  | False |     .      |       .       |   .    | 02:00:0a:42:00:0b |
[   17.5] cloud-init[208]: ci-info: |   lo   |  True | 127.0.0.1  |   255.0.0.0   |  host  |         .         |
[   17.5] cloud-init[208]: ci-info: |   0   | 10.66.0.0   |  0.0.0.0 | 255.255.255.0 |  eth0  |  U  |
Cloud-init v. 22.4.2 finished at Thu, 20 Nov 2025 08:30:09 +0000. Datasource DataSourceOpenNebula [seed=/dev/sr0]. Up 26

Debian GNU/Linux 12 web-0 ttyS0

web-0 login: """


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "console.log"


def wanted(log: Path, **changes: object) -> Wanted:
    values: dict[str, object] = {"name": "web", "hostname": "web-0", "addresses": ("10.66.0.10",)}
    return Wanted(vm_id=3, console=str(log), **{**values, **changes})  # type: ignore[arg-type]


def judge(log: Path, text: str, **changes: object) -> console.Verdict:
    log.write_bytes(text.encode())
    (verdict,) = wait([wanted(log, **changes)], timeout=0)
    return verdict


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"addresses": ("10.66.0.10", "2001:0db8:0::10", "10.67.0.10")},
        {"hostname": "WEB-0.example.org"},
        {"hostname": "", "addresses": ()},
    ],
)
def test_the_demo_guest_is_believed(log: Path, changes: dict[str, object]) -> None:
    verdict = judge(log, DEMO, **changes)
    assert verdict.verified
    assert verdict.evidence == "console"
    assert verdict.said == "nebula-guest: web-0, 10.66.0.10/24, 2001:db8::10/64, 10.67.0.10/24"
    assert verdict.missing == ()


@pytest.mark.parametrize(
    ("text", "changes", "missing"),
    [
        (DEMO, {"hostname": "web-1"}, "hostname web-1 (it says web-0)"),
        (DEMO, {"addresses": ("10.66.0.1",)}, "address 10.66.0.1 (it has 10.66.0.10, 10.67.0.10, 2001:db8::10)"),
        (DEMO.replace("context=16", "no context\r\n"), {}, "context (the guest found no context ISO)"),
        (
            DEMO.replace("nebula-guest: ready", "nebula-guest: error init.sh exit 3\r\nnebula-guest: ready"),
            {},
            "no error (init.sh exit 3)",
        ),
        (DEMO.replace("nebula-guest: ready", ""), {}, "nebula-guest: ready (it has begun to boot)"),
        (DEMO + "\r\nnebula-guest: booting\r\n", {}, "nebula-guest: ready (it has begun to boot)"),
        (DEMO + "nebula-guest: powering off\r\n", {}, "nebula-guest: ready (it has begun to boot)"),
        # What is typed at the prompt, or comes after the report, is no report.
        (DEMO.replace("hostname=web-0", "hostname=x") + "nebula-guest: hostname=web-0\r\n", {}, "web-0 (it says x)"),
        (DEMO.replace("nebula-guest: hostname", "# nebula-guest: hostname"), {}, "hostname web-0 (none said)"),
        ("", {}, "hostname web-0 (none said)"),
        ("", {"hostname": "", "addresses": ()}, "a word of its context"),
    ],
)
def test_the_demo_guest_is_not_believed(log: Path, text: str, changes: dict[str, object], missing: str) -> None:
    verdict = judge(log, text, **changes)
    assert not verdict.verified
    assert missing in "; ".join(verdict.missing)


def test_cloud_init_is_believed(log: Path) -> None:
    verdict = judge(log, CLOUD_INIT)
    assert verdict.verified
    assert (verdict.evidence, verdict.said) == ("console", "cloud-init: web-0, 10.66.0.10")
    assert judge(log, CLOUD_INIT, addresses=()).verified
    assert judge(log, CLOUD_INIT, addresses=(), hostname="").verified


def test_a_prompt_is_read_with_what_the_kernel_writes_after_it(log: Path) -> None:
    stamp = "[   40.672912] cloud-init[330]: "
    assert judge(log, f"{CLOUD_INIT}{stamp}Cloud-init v. 22.4.2 running 'modules:final'\n").verified
    (finished,) = [line for line in CLOUD_INIT.splitlines() if " finished at " in line]
    begun = CLOUD_INIT.replace(f"{finished}\n", "")
    assert not judge(log, begun, addresses=(), by=("console",)).verified
    assert judge(log, f"{begun}{stamp}{finished}\n", addresses=(), by=("console",)).verified
    # Nor does what a script says, or somebody types.
    assert judge(log, f"{CLOUD_INIT}fact: starts=1\n").verified
    assert not judge(log, f"{CLOUD_INIT}web-1 login: \n", hostname="web-1").verified


@pytest.mark.parametrize(
    ("text", "changes", "missing"),
    [
        (CLOUD_INIT.replace("web-0 login: ", ""), {}, "hostname web-0 (none said)"),
        (CLOUD_INIT.replace("web-0", "debian"), {}, "hostname web-0 (it says debian)"),
        (CLOUD_INIT, {"addresses": ("127.0.0.1",)}, "address 127.0.0.1"),
        (CLOUD_INIT.replace("|  True | 10", "| False | 10"), {}, "address 10.66.0.10 (none said)"),
        # An image's own name is no sign of a context; nor is what an earlier boot said.
        (
            "\nDebian GNU/Linux 12 web-0 ttyS0\n\nweb-0 login: ",
            {"addresses": ()},
            "read the context ISO (it named no source)",
        ),
        (CLOUD_INIT.replace("OpenNebula", "Ec2"), {"addresses": ()}, "read the context ISO (DataSourceEc2)"),
        # A seed that the image brings.
        (
            CLOUD_INIT.replace("OpenNebula [seed=/dev/sr0]", "NoCloud [seed=/var/lib/cloud/seed]"),
            {"addresses": ()},
            "read the context ISO (DataSourceNoCloud)",
        ),
        (CLOUD_INIT + "\n" + CLOUD_INIT.splitlines()[0] + "\n", {}, "address 10.66.0.10 (none said)"),
    ],
)
def test_cloud_init_is_not_believed(log: Path, text: str, changes: dict[str, object], missing: str) -> None:
    verdict = judge(log, text, by=("console",), **changes)
    assert not verdict.verified
    assert missing in "; ".join(verdict.missing)


# -- the login prompt -------------------------------------------------------------------------------------------------
STRANGER = "Welcome to Alpine Linux 3.19\r\nKernel 6.6 on an x86_64 (/dev/ttyS0)\r\n\r\n"


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        (f"{STRANGER}web-0 login: ", {}),
        (f"{STRANGER}web-0.example.org login: \r\n[   12.0] a word of the kernel's\r\n", {}),
        # It is told no host name: its own has to be that of the machine.
        (f"{STRANGER}web login: ", {"hostname": ""}),
        (f"{STRANGER}web-0 login: ", {"addresses": ()}),
        # cloud-init tells the right addresses, and nothing of where it has them from.
        (CLOUD_INIT.replace("OpenNebula", "Ec2"), {"addresses": ()}),
    ],
)
def test_a_login_prompt_with_the_name_is_believed(log: Path, text: str, changes: dict[str, object]) -> None:
    verdict = judge(log, text, **changes)
    assert (verdict.verified, verdict.evidence) == (True, "login")
    assert verdict.said.startswith("login: web")
    assert not judge(log, text, by=("console", "agent", "address"), **changes).verified
    assert judge(log, text, by=("login",), **changes).verified


@pytest.mark.parametrize(
    ("text", "changes", "found"),
    [
        (STRANGER, {}, "no prompt web-0 login:"),
        (f"{STRANGER}localhost login: ", {}, "the prompt is that of localhost, not of web-0"),
        (f"{STRANGER}web-0 login: ", {"hostname": ""}, "the prompt is that of web-0, not of web"),
        (f"{STRANGER}user@web-0 login: ", {}, "no prompt web-0 login:"),
        # An older boot's.
        (f"web-0 login: \r\n{console.NODE_STARTING}\r\n", {}, "no prompt web-0 login:"),
        (f"web-0 login: \r\n{console.KERNEL_BANNER}6.1\r\n", {}, "no prompt web-0 login:"),
        ("web-0 login: \r\nSeaBIOS (version 1.16)\r\n", {}, "no prompt web-0 login:"),
        ("web-0 login: \r\nBdsDxe: starting Boot0001\r\n", {}, "no prompt web-0 login:"),
        # Its cloud-init has told other addresses.
        (
            CLOUD_INIT,
            {"addresses": ("10.66.0.99",)},
            "the prompt is that of web-0, but its cloud-init lacks address 10.66.0.99 (it has 10.66.0.10)",
        ),
    ],
)
def test_a_login_prompt_is_not_believed(log: Path, text: str, changes: dict[str, object], found: str) -> None:
    verdict = judge(log, text, **changes)
    assert not verdict.verified
    assert verdict.tried["login"] == found


def test_a_login_that_was_believed_is_so_when_it_has_been_rotated_away(log: Path) -> None:
    assert judge(log, "web-0 login: ").verified
    for number in range(4):
        rotate(log)
        feed(log, f"noise {number}\n")
    (verdict,) = wait([wanted(log)], timeout=0)
    assert (verdict.verified, verdict.evidence, verdict.said) == (True, "login", "login: web-0")
    assert not wait([wanted(log, by=("console",))], timeout=0)[0].verified


# -- other sources ----------------------------------------------------------------------------------------------------
class Other:
    """Convinced of a machine from the first look on at which `tells` says so."""

    def __init__(self, kind: str = "address", tells: str = "address: 10.66.0.10") -> None:
        self.kind = kind
        self.tells = tells
        self.looks: list[set[int]] = []

    def look(self, waiting: Collection[int], now: float) -> None:
        self.looks.append(set(waiting))

    def evidence(self, vm_id: int) -> str:
        return self.tells if self.looks else ""

    def found(self, vm_id: int) -> str:
        return f"nothing of {vm_id}\x1b[2J"

    def close(self) -> None:
        pass


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "POLL_INTERVAL", 0.01)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["agent", "address"])
@pytest.mark.parametrize("text", ["", "GRUB\r\n", "localhost login: ", CLOUD_INIT.replace("web-0", "debian")])
def test_another_source_is_enough(log: Path, kind: str, text: str) -> None:
    log.write_bytes(text.encode())
    source = Other(kind)
    (verdict,) = wait([wanted(log)], timeout=60, sources=[source])
    assert (verdict.verified, verdict.evidence, verdict.said) == (True, kind, "address: 10.66.0.10")
    assert source.looks == [{3}]
    # It is asked again the next time: nothing of it is remembered.
    assert not Path(f"{log}{console.VERIFIED}").exists()


@pytest.mark.usefixtures("quick")
def test_a_machine_without_a_console_can_be_believed(log: Path) -> None:
    (verdict,) = wait([wanted(log)], timeout=60, sources=[Other()])
    assert verdict.verified


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("text", "changes"),
    [
        (DEMO.replace("nebula-guest: ready", "nebula-guest: error init.sh exit 3\r\nnebula-guest: ready"), {}),
        (DEMO, {"hostname": "other"}),
        ("nebula-guest: booting\r\n", {}),
        ("web-0 login: ", {"pattern": "^up"}),
        ("", {"by": ("console", "login")}),
    ],
)
def test_who_tells_what_goes_wrong_is_not_passed_over(log: Path, text: str, changes: dict[str, object]) -> None:
    log.write_bytes(text.encode())
    source = Other()
    (verdict,) = wait([wanted(log, **changes)], timeout=0.1, sources=[source])
    assert not verdict.verified
    assert not any(source.looks)
    assert "address" not in verdict.tried


@pytest.mark.usefixtures("quick")
def test_a_guest_that_begins_to_report_meanwhile_is_heard_first(log: Path) -> None:
    class Late(Other):
        def look(self, waiting: Collection[int], now: float) -> None:
            super().look(waiting, now)
            feed(log, "nebula-guest: booting\n")

    (verdict,) = wait([wanted(log)], timeout=0.1, sources=[Late()])
    assert not verdict.verified


def test_nobody_is_asked_of_a_guest_that_has_told_already(log: Path) -> None:
    log.write_bytes(DEMO.encode())
    source = Other()
    assert wait([wanted(log)], timeout=60, sources=[source])[0].verified
    assert source.looks == []


@pytest.mark.usefixtures("quick")
def test_the_error_says_what_was_tried_and_what_can_be_done(log: Path) -> None:
    log.write_bytes(b"GRUB\r\n")
    sources = [Other("agent", ""), Other("address", "")]
    (verdict,) = wait([wanted(log)], timeout=0.05, sources=sources)
    assert list(verdict.tried) == list(console.KINDS)
    message = str(verdict.error)
    for part in (
        "console: missing hostname web-0 (none said); address 10.66.0.10 (none said); login: no prompt web-0 login:; ",
        "agent: nothing of 3; address: nothing of 3. ",
        *("nebula_verify_pattern ", "nebula_verify_patterns", "nebula_verify_by", "nebula_verify_timeout"),
        "nebula_verify: false",
        f"Last lines of {log}:\n    GRUB",
    ):
        assert part in message, message


@pytest.mark.parametrize("source", ["ConfigDrive [net,ver=2][source=/dev/sr0]", "NoCloud [seed=/dev/sr0][dsmode=net]"])
def test_every_format_of_the_iso_is_believed(log: Path, source: str) -> None:
    text = CLOUD_INIT.replace("OpenNebula [seed=/dev/sr0]", source)
    assert judge(log, text, addresses=()).verified


def test_a_pattern_decides_alone(log: Path) -> None:
    assert not judge(log, DEMO, pattern="application up").verified
    assert judge(log, DEMO + "\napplication up on 10.66.0.10\n", pattern=r"application up on {ip}$").verified
    assert not judge(log, DEMO + "\non 10x66x0x10\n", pattern=r"on {ip}").verified
    assert judge(log, "boot\nweb up: ", pattern="^{name} up").said == "pattern: web up: "
    # Nor does anything else count.
    verdict = judge(log, "web-0 login: ", pattern="application up")
    assert list(verdict.tried) == ["console"]
    assert not judge(log, "web up\n" + DEMO, pattern="^{name} up").verified


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"pattern": "("}, "not a regular expression"),
        ({"pattern": "x {ip}", "addresses": ()}, "the VM has no ip"),
    ],
)
def test_a_bad_pattern_is_refused_at_once(log: Path, changes: dict[str, object], found: str) -> None:
    (verdict,) = wait([wanted(log, **changes)], timeout=600)
    assert isinstance(verdict.error, InvalidValue)
    assert found in str(verdict.error)


def test_the_error_says_what_is_missing_and_shows_the_end(log: Path) -> None:
    text = (
        "".join(f"line {n}\r\n" for n in range(40)) + "\x1b[31mevil\x07\u202e\x1b]0;title\x07 \x9b2J{{ x }}\r\nlogin: "
    )
    verdict = judge(log, text)
    message = str(verdict.error)
    assert "VM 3 (web)" in message
    assert "hostname web-0" in message
    assert "address 10.66.0.10" in message
    assert len(verdict.last_lines) == 20
    assert verdict.last_lines[0] == "line 22"
    assert verdict.last_lines[-2:] == (r"evil\x07\u202e \x9b2J{{ x }}", "login: ")
    assert all(c.isprintable() or c in "\n\t" for c in message)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes_are_read_whole_and_shown_harmless(content: bytes, piece: int) -> None:
    log = console.ConsoleLog("unused")
    lines: list[str] = []
    for start in range(0, len(content), piece):
        log._split(content[start : start + piece], lines.append)
    whole = console.ConsoleLog("unused")
    at_once: list[str] = []
    whole._split(content, at_once.append)
    # How a run of line ends is cut does not matter; empty lines are no evidence.
    assert [line for line in lines if line] == [line for line in at_once if line]
    assert log.partial == whole.partial
    for line in [*lines, log.partial]:
        shown = console.harmless(line)
        assert all(c.isprintable() or c == "\t" for c in shown)
        assert len(shown) <= console.SHOWN_LENGTH


def test_endless_lines_are_bounded(log: Path) -> None:
    log.write_bytes(b"x" * 10_000_000)
    guest = console.Guest(wanted(log))
    for _poll in range(3):
        guest.look(0.0)
    assert len(guest.log.partial) <= console.LINE_LIMIT
    assert sum(map(len, guest.last)) <= console.SHOWN_LINES * console.LINE_LIMIT
    assert guest.log.offset == 10_000_000


def rotate(log: Path) -> None:
    """As virtlogd does: the backups move up, the log becomes the first of them."""
    for older, newer in ((".2", ".1"), (".1", ".0"), (".0", "")):
        if Path(f"{log}{newer}").exists():
            os.replace(f"{log}{newer}", f"{log}{older}")


def feed(log: Path, text: str) -> None:
    with log.open("ab") as file:
        file.write(text.encode())


@pytest.mark.parametrize("cut", [5, 30, 200, 300])
def test_rotation_is_followed_while_reading(log: Path, cut: int) -> None:
    guest = console.Guest(wanted(log))
    assert guest.look(0.0) is None
    feed(log, "noise\n" * 10 + DEMO[:cut])
    assert guest.look(0.1) is None
    rotate(log)
    feed(log, DEMO[cut:])
    verdict = guest.look(0.2)
    assert verdict is not None
    assert verdict.verified


@pytest.mark.parametrize("rotations", [1, 2, 3])
def test_a_report_is_found_in_the_backups(log: Path, rotations: int) -> None:
    feed(log, "nebula-guest: booting\nold\n" + DEMO)
    for number in range(rotations):
        rotate(log)
        feed(log, f"noise {number}\n")
    guest = console.Guest(wanted(log))
    verdict = guest.look(0.0)
    assert verdict is not None
    assert verdict.verified
    rotate(log)
    feed(log, "nebula-guest: booting\n")
    assert console.Guest(wanted(log)).look(0.0) is None


def test_who_was_believed_is_so_when_the_report_has_been_rotated_away(log: Path) -> None:
    assert judge(log, DEMO).verified
    for number in range(4):
        rotate(log)
        feed(log, f"noise {number}\nnebula-guest: ready\n")
    (verdict,) = wait([wanted(log)], timeout=0)
    assert verdict.verified and verdict.said.startswith("nebula-guest: web-0")
    assert not wait([wanted(log, hostname="web-1")], timeout=0)[0].verified, "another is wanted now"
    assert not wait([wanted(log, pattern="login:")], timeout=0)[0].verified
    assert wait([wanted(log)], timeout=0)[0].verified
    feed(log, "nebula-guest: booting\n")
    assert not wait([wanted(log)], timeout=0)[0].verified, "it has booted since"


def test_a_new_start_makes_what_was_believed_void(log: Path) -> None:
    assert judge(log, DEMO).verified
    console.mark_start(str(log))
    for number in range(4):
        rotate(log)
        feed(log, f"noise {number}\n")
    assert not wait([wanted(log)], timeout=0)[0].verified


def test_a_boot_of_the_host_makes_what_was_believed_void(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert judge(log, DEMO).verified
    for number in range(4):
        rotate(log)
        feed(log, f"noise {number}\n")
    assert wait([wanted(log)], timeout=0)[0].verified
    monkeypatch.setattr(console, "boot_id", lambda: "another boot")
    assert not wait([wanted(log)], timeout=0)[0].verified


def test_what_was_believed_is_no_console(log: Path) -> None:
    assert judge(log, DEMO).verified
    log.unlink()
    assert wait([wanted(log)], timeout=0)[0].missing == ("a console log",)


def test_what_was_believed_is_for_nobody_else(log: Path) -> None:
    assert judge(log, DEMO).verified
    assert stat.S_IMODE(os.stat(f"{log}{console.VERIFIED}").st_mode) == 0o600


def test_check_mode_remembers_nothing(log: Path) -> None:
    log.write_bytes(DEMO.encode())
    assert wait([wanted(log)], timeout=0, keep=False)[0].verified
    assert list(log.parent.iterdir()) == [log]


def test_a_log_begun_anew_forgets_what_was_before(log: Path) -> None:
    feed(log, "x" * 500 + "\n" + DEMO.replace("nebula-guest: ready", ""))
    guest = console.Guest(wanted(log))
    assert guest.look(0.0) is None
    log.write_bytes(b"nebula-guest: ready\n")
    assert guest.look(0.1) is None
    assert guest.missing()[0].startswith("hostname")


@pytest.mark.parametrize("said", [DEMO, CLOUD_INIT])
def test_what_was_said_before_the_machine_was_started_is_not_believed(log: Path, said: str) -> None:
    assert judge(log, said).verified
    console.mark_start(str(log))
    assert not wait([wanted(log)], timeout=0)[0].verified
    rotate(log)
    feed(log, "SeaBIOS\n")
    assert not wait([wanted(log)], timeout=0)[0].verified
    feed(log, said)
    assert wait([wanted(log)], timeout=0)[0].verified


def test_a_start_is_noticed_while_reading(log: Path) -> None:
    feed(log, DEMO.replace("nebula-guest: ready", ""))
    guest = console.Guest(wanted(log))
    assert guest.look(0.0) is None
    console.mark_start(str(log))
    feed(log, "nebula-guest: ready\n")
    assert guest.look(0.1) is None
    assert list(guest.last) == [console.NODE_STARTING, "nebula-guest: ready"]


def test_no_log_is_begun_by_marking_a_start(log: Path) -> None:
    console.mark_start(str(log))
    assert not log.exists()


def test_reading_starts_at_the_last_boot(log: Path) -> None:
    # A dmesg typed later is no boot of our guest.
    feed(log, "a" * 200_000 + "\n" + DEMO + "\n" + CLOUD_INIT.splitlines()[0] + "\n")
    guest = console.Guest(wanted(log))
    verdict = guest.look(0.0)
    assert verdict is not None
    assert verdict.verified
    assert "aaa" not in "".join(guest.last)


@pytest.mark.parametrize("place", [0, 1, 65_530, 65_536, 131_060, 199_979])
def test_the_last_place_is_found_wherever_it_lies(log: Path, place: int) -> None:
    mark = console.GUEST_BOOTING.encode()
    content = bytearray(b"." * 200_000)
    content[0 : len(mark)] = mark
    content[place : place + len(mark)] = mark
    log.write_bytes(content)
    assert console.last_place(str(log), len(content), mark) == place


def test_waiting_ends_when_the_last_guest_is_up_and_counts_on_the_way(log: Path, tmp_path: Path) -> None:
    late, never = tmp_path / "late.log", tmp_path / "never.log"
    log.write_bytes(DEMO.encode())
    counts: list[tuple[int, int, int]] = []
    machines = [wanted(late), wanted(log), wanted(never, pattern="(")]
    began = threading.Event()

    def report(*now: int) -> None:
        counts.append(now)  # type: ignore[arg-type]
        began.set()

    def write() -> None:
        began.wait(30)
        feed(late, DEMO)

    writer = threading.Thread(target=write)
    writer.start()
    verdicts = wait(machines, 60, report)
    writer.join()
    assert [verdict.verified for verdict in verdicts] == [True, True, False]
    assert list(dict.fromkeys(counts)) == [(1, 1, 3), (2, 1, 3)]
    assert verdicts[0].seconds < 30


@pytest.mark.parametrize(("cost", "expected"), [(0.0, 0.2), (0.02, 0.2), (0.1, 1.0), (3.0, 2.0)])
def test_looking_takes_a_tenth_of_the_time_where_a_look_is_dear(
    log: Path, monkeypatch: pytest.MonkeyPatch, cost: float, expected: float
) -> None:
    clock = [0.0]
    slept: list[float] = []

    def attempt(guest: console.Guest, now: float) -> console.Verdict | None:
        clock[0] += cost
        return guest.given_up(now) if now >= 20 else None

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(console, "attempt", attempt)
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(console.time, "sleep", sleep)
    assert not wait([wanted(log)], 60)[0].verified
    assert slept == pytest.approx([expected] * len(slept))
    assert len(slept) > 3


def test_a_guest_that_is_ready_and_silent_is_not_waited_for_to_the_end(log: Path) -> None:
    feed(log, DEMO)
    guest = console.Guest(wanted(log, hostname="other"))
    assert guest.look(1.0) is None
    assert guest.look(1.0 + console.SETTLED_AFTER - 0.1) is None
    feed(log, "a word\n")
    assert guest.look(1.0 + console.SETTLED_AFTER + 0.1) is None
    verdict = guest.look(2.0 + 2 * console.SETTLED_AFTER + 0.1)
    assert verdict is not None
    assert not verdict.verified


def test_something_else_than_a_file_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (verdict,) = wait([wanted(pipe)], timeout=600)
    assert "not a regular file" in str(verdict.error)
    (verdict,) = wait([wanted(tmp_path / "none")], timeout=0)
    assert verdict.missing == ("a console log",)


# -- what a guest writes to be slow to read --------------------------------------------------------------------------

# How these lines were read before: right, and in a time that grew by the square of their length.
ROW = re.compile(r"ci-info: \|(.*)\|\s*$")
FINISHED = re.compile(r"Cloud-init v\. \S+ finished at .*Datasource (DataSource\w+)")
PIECES = ("ci-info: |", "ci-info: ", "|", " ", "a", "Cloud-init v. ", "22.4", " finished at ", "Datasource ",
          "DataSourceNoCloud", "\t", ".")  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_a_row_of_a_table_is_read_as_before(line):
    found = ROW.search(line)
    assert console._row(line) == ([cell.strip() for cell in found.group(1).split("|")] if found else [])


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_the_last_line_names_no_datasource_that_it_did_not_before(line):
    witness = console.CloudInit()
    witness.take(line)
    found = FINISHED.search(line)
    if witness.datasource:
        assert found is not None
    # Of what cloud-init writes; others may mix the words.
    if found and line.count("Cloud-init") == line.count(" finished at ") == line.count("Datasource ") == 1:
        assert witness.datasource == found.group(1)


@pytest.mark.parametrize(
    "piece", ["ci-info: |", "Cloud-init v. a finished at Datasource DataSource", "\x1b[0", "\x1b]"]
)
def test_a_long_line_takes_as_long_as_it_is(piece):
    def takes(length: int) -> float:
        line = (piece * length)[:length].encode() + b"x"
        best = 9.0
        for _time in range(5):
            guest = console.Guest(wanted(Path("/none")))
            guest._restart()
            began = time.thread_time()
            for _line in range(4):
                guest._take(console.plain(line))
            best = min(best, time.thread_time() - began)
        return best

    short, long = takes(8192), takes(8 * 8192)
    # What is that fast says nothing of how it grows.
    assert long < 0.02 or long < 30 * short


def test_short_lines_are_as_many_at_a_look_as_long_ones_cost(log):
    """Each takes its time, however little it says: a guest that writes nothing but line ends holds up no other."""
    log.write_bytes(b"a\n" * (console.READ_LIMIT // 2))
    follower, lines = console.ConsoleLog(str(log)), []
    assert follower.read(lines.append, lambda: None)
    assert len(lines) <= console.READ_LIMIT // console.LINE_COST + 64 * 1024
    while follower.read(lines.append, lambda: None):
        pass
    assert len(lines) == console.READ_LIMIT // 2


# -- a machine that was renamed while it ran ---------------------------------------------------------------------------
@pytest.mark.parametrize("text", [DEMO, CLOUD_INIT, "web-0 login: "])
def test_a_guest_is_believed_by_the_name_that_it_was_started_with(log: Path, text: str) -> None:
    assert not judge(log, text, name="db", hostname="db").verified
    assert not judge(log, text, name="db", hostname="db", former="web-1").verified
    assert judge(log, text, name="db", hostname="db", former="web-0").verified
    assert judge(log, text.replace("web-0", "db"), name="db", hostname="db", former="web-0").verified


@pytest.mark.parametrize("pattern", ["^{name}: up$", "^{hostname}: up$"])
def test_a_pattern_means_either_name(log: Path, pattern: str) -> None:
    given = {"name": "db", "hostname": "db", "former": "web.0", "pattern": pattern}
    assert not judge(log, "web-0: up\n", **given).verified
    assert judge(log, "web.0: up\n", **given).verified and judge(log, "db: up\n", **given).verified


def test_what_convinced_under_the_old_name_is_remembered(log: Path) -> None:
    assert judge(log, DEMO).verified
    rotated = "the report of its boot was rotated away\n"
    Path(f"{log}.0").write_text(rotated)
    log.write_text(rotated)
    before = wanted(log)
    assert console.recall(before)
    assert console.recall(wanted(log, name="db", hostname="db", former="web-0"))
    assert not console.recall(wanted(log, name="db", hostname="db"))
    assert not console.recall(wanted(log, name="db", hostname="db", former="web-1"))
    assert not console.recall(wanted(log, name="db", hostname="db", former="web-0", addresses=("10.66.0.11",)))
