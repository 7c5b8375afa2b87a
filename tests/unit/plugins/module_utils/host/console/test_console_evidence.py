# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The console's words as evidence. The texts are what real guests wrote (tests/integration/test_verify.py)."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.host.console import (
    console_evidence,
    console_log,
    guest_wait,
)
from ansible_collections.nebula.provision.plugins.module_utils.host.console.guest_wait import wait
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.host.console.conftest import (
    CLOUD_INIT,
    DEMO,
    judge,
    wanted,
)


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
    assert verdict.text == "nebula-guest: web-0, 10.66.0.10/24, 2001:db8::10/64, 10.67.0.10/24"
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
    assert (verdict.evidence, verdict.text) == ("console", "cloud-init: web-0, 10.66.0.10")
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
    assert verdict.text.startswith("login: web")
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
        (f"web-0 login: \r\n{console_log.NODE_STARTING}\r\n", {}, "no prompt web-0 login:"),
        (f"web-0 login: \r\n{console_log.KERNEL_BANNER}6.1\r\n", {}, "no prompt web-0 login:"),
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


@pytest.mark.parametrize("source", ["ConfigDrive [net,ver=2][source=/dev/sr0]", "NoCloud [seed=/dev/sr0][dsmode=net]"])
def test_every_format_of_the_iso_is_believed(log: Path, source: str) -> None:
    text = CLOUD_INIT.replace("OpenNebula [seed=/dev/sr0]", source)
    assert judge(log, text, addresses=()).verified


def test_a_pattern_decides_alone(log: Path) -> None:
    assert not judge(log, DEMO, pattern="application up").verified
    assert judge(log, DEMO + "\napplication up on 10.66.0.10\n", pattern=r"application up on {ip}$").verified
    assert not judge(log, DEMO + "\non 10x66x0x10\n", pattern=r"on {ip}").verified
    assert judge(log, "boot\nweb up: ", pattern="^{name} up").text == "pattern: web up: "
    # Nor does anything else count.
    verdict = judge(log, "web-0 login: ", pattern="application up")
    assert list(verdict.tried) == ["console"]
    assert not judge(log, "web up\n" + DEMO, pattern="^{name} up").verified


@pytest.mark.parametrize(
    ("changes", "found"),
    [({"pattern": "("}, "not a regular expression"), ({"pattern": "x {ip}", "addresses": ()}, "the VM has no ip")],
)
def test_a_bad_pattern_is_refused_at_once(log: Path, changes: dict[str, object], found: str) -> None:
    (verdict,) = wait([wanted(log, **changes)], timeout=600)
    assert isinstance(verdict.error, InvalidValue)
    assert found in str(verdict.error)


# How these lines were read before: right, and in a time that grew by the square of their length.
ROW = re.compile(r"ci-info: \|(.*)\|\s*$")
FINISHED = re.compile(r"Cloud-init v\. \S+ finished at .*Datasource (DataSource\w+)")
PIECES = ("ci-info: |", "ci-info: ", "|", " ", "a", "Cloud-init v. ", "22.4", " finished at ", "Datasource ",
          "DataSourceNoCloud", "\t", ".")  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_a_row_of_a_table_is_read_as_before(line):
    found = ROW.search(line)
    assert console_evidence._row(line) == ([cell.strip() for cell in found.group(1).split("|")] if found else [])


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_the_last_line_names_no_datasource_that_it_did_not_before(line):
    witness = console_evidence.CloudInit()
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
            guest = guest_wait.Guest(wanted(Path("/none")))
            guest._restart()
            began = time.thread_time()
            for _line in range(4):
                guest._take(console_log.text_of_line(line))
            best = min(best, time.thread_time() - began)
        return best

    short, long = takes(8192), takes(8 * 8192)
    # What is that fast says nothing of how it grows.
    assert long < 0.02 or long < 30 * short


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


def test_words_of_another_line_are_none_of_the_demo_guest() -> None:
    guest = console_evidence.DemoGuest(booted=True)
    guest.take("x" * (len("nebula-guest: ") - 1) + "ready")
    assert not guest.ready
