# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest said on its serial console, and what each point makes of it, with reason and remedy.

That one thing that is said decides one point and no other is shown in test_points.py."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.checks import live_points as points
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.checks.image_facts import (
    FAIL,
    LINUX,
    NOT_APPLICABLE,
    NOT_TESTED,
    PASS,
    Answer,
    Facts,
)
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.checks.live_points import (
    GuestReport,
    values_of,
)

FACTS = Facts(os=LINUX)
SILENT = "the guest's script said nothing on its serial console"


def said(console: str = "", **more: object) -> GuestReport:
    values = {"begin": "", **{name: str(value) for name, value in more.pop("values", {}).items()}}  # type: ignore[attr-defined]
    return GuestReport(console=console, values=values, **more)  # type: ignore[arg-type]


def says(answer: Answer, result: str, why: str, remedy: str = "") -> None:
    assert (answer.result, answer.why) == (result, why)
    assert remedy in answer.remedy
    if result == FAIL:
        assert answer.remedy


# --- what was heard --------------------------------------------------------------------------------------------------


def test_lines_of_the_script_are_heard_among_all_others() -> None:
    console = (
        "[    0.0] Linux version 6.1\n"
        "nebula-check: begin\r\n"
        "[   12.3] cloud-init[512]: nebula-check: hostname=web-0 \r\n"
        "nebula-check: root_kib=100\n"
        "nebula-check: root_kib=200\n"
        "nebula-check: login=a=b\n"
        "nebula-check: storage=ok vdb\r\n"
        "nebula-check: UPPER=x\n"
        "nebula-chec"
    )
    assert values_of(console) == {
        "begin": "",
        "hostname": "web-0",
        "root_kib": "200",
        "login": "a=b",
        "storage": "ok vdb",
    }


@given(st.text(max_size=60))
@settings(max_examples=50)
def test_whatever_is_on_a_console_values_have_no_line_ends(console: str) -> None:
    found = values_of("nebula-check: begin\n" + console)
    assert "begin" in found
    assert not any("\n" in value or "\r" in value for value in found.values())


def test_a_guest_spoke_where_its_script_began() -> None:
    assert GuestReport(values=values_of("nebula-check: begin\n")).spoke
    assert not GuestReport(values=values_of("nebula-check: end\n")).spoke


# --- points ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "result", "why"),
    [
        (said("Linux version 6.1\nx\n"), PASS, "2 lines, the kernel's among them"),
        (said("[    1.234567] x"), PASS, "1 lines, the kernel's among them"),
        (said("Command line: ro"), PASS, "1 lines, the kernel's among them"),
        (said("nebula-check: begin"), FAIL, "the kernel's messages are not on it"),
        (GuestReport("SeaBIOS\n"), FAIL, "it holds only what the firmware wrote"),
        (GuestReport(" \r\n"), FAIL, "nothing came out of it"),
    ],
)
def test_a_console_log_has_the_kernels_messages(told: GuestReport, result: str, why: str) -> None:
    says(points.console_log(FACTS, told), result, why, "console=ttyS0" if result == FAIL else "")


def test_a_context_ran_where_its_script_spoke() -> None:
    says(points.context_ran(FACTS, said(values={"context": "one-context"})), PASS, "its script ran, by one-context")
    says(points.context_ran(FACTS, said()), PASS, "its script ran, by an unknown program")
    says(points.context_ran(FACTS, GuestReport()), FAIL, SILENT, "console log")


@pytest.mark.parametrize(
    ("found", "told", "result", "why"),
    [
        ("web-0", "web-0", PASS, "web-0"),
        ("web-0", "web-0.example.org", PASS, "web-0"),
        ("web-0.lan", "web-0.example.org", PASS, "web-0.lan"),
        ("debian", "web-0", FAIL, "it is debian, and web-0 was told"),
        ("web-01", "web-0", FAIL, "it is web-01, and web-0 was told"),
        ("", "web-0", FAIL, "it is not set, and web-0 was told"),
    ],
)
def test_a_host_name_is_the_one_that_was_told_up_to_its_domain(found: str, told: str, result: str, why: str) -> None:
    says(points.host_name(FACTS, said(values={"hostname": found}, host_name=told)), result, why)


@pytest.mark.parametrize(
    ("values", "result", "why"),
    [
        ({"key_user": "debian", "login": "ok"}, PASS, "as debian"),
        ({"login": "ok"}, FAIL, "nobody has got the key"),
        ({"key_user": "root", "login": "no_client"}, NOT_TESTED, "root has got the key, and the guest has no ssh"),
        ({"key_user": "root", "login": "denied"}, FAIL, "root has got the key, and the login fails: denied"),
        ({"key_user": "root"}, FAIL, "root has got the key, and the login fails: no answer"),
    ],
)
def test_a_key_lets_its_user_in(values: dict[str, str], result: str, why: str) -> None:
    answer = points.key_login(FACTS, said(values=values))
    assert answer.result == result and answer.why.startswith(why)
    assert result == PASS or answer.remedy


@pytest.mark.parametrize(
    ("injected", "found", "result", "why"),
    [
        ("abc", "abc", PASS, "the injected file is there"),
        ("abc", "abd", FAIL, "the injected file is another"),
        ("abc", "", FAIL, "the injected file is not there"),
        ("", "abc", NOT_TESTED, "no file was injected"),
    ],
)
def test_an_injected_file_is_there_as_it_was_written(injected: str, found: str, result: str, why: str) -> None:
    says(points.file_injection(FACTS, said(values={"file": found}, injected=injected)), result, why)


@pytest.mark.parametrize(
    ("mib", "result", "why"),
    [
        (2000, PASS, "2000 MiB of a disk of 2000 MiB; the image has 1000 MiB"),
        # Half of what was added, less an eighth of the image.
        (1375, PASS, "1375 MiB of a disk of 2000 MiB; the image has 1000 MiB"),
        (1374, FAIL, "it has 1374 MiB, on a disk of 2000 MiB"),
        (990, FAIL, "it has 990 MiB, on a disk of 2000 MiB"),
    ],
)
def test_a_root_has_grown_where_enough_of_what_was_added_is_there(mib: int, result: str, why: str) -> None:
    told = said(values={"root_kib": mib * 1024 + 1023}, root_mib=2000, image_mib=1000)
    says(points.root_grown(FACTS, told), result, why)


@pytest.mark.parametrize("sizes", [{}, {"root_mib": 1000, "image_mib": 1000}, {"root_mib": 900, "image_mib": 1000}])
def test_nothing_is_asked_of_a_root_that_could_not_grow(sizes: dict[str, int]) -> None:
    says(
        points.root_grown(FACTS, said(values={"root_kib": 5}, **sizes)),
        NOT_TESTED,
        "the machine's disk was not larger than the image",
    )


@pytest.mark.parametrize("size", ["", "x", "-5", "1.5", "²", "9" * 5000])
def test_a_root_of_which_no_size_is_said_is_not_judged(size: str) -> None:
    told = said(values={"root_kib": size}, root_mib=2000, image_mib=1000)
    says(points.root_grown(FACTS, told), NOT_TESTED, "the guest did not say how large its root is")


@pytest.mark.parametrize(
    ("storage", "result", "why"),
    [
        ("ok", PASS, "written and read back"),
        ("ok vdb", PASS, "written and read back as vdb"),
        ("can't be written", FAIL, "can't be written"),
        ("", FAIL, "the guest does not see it"),
    ],
)
def test_a_second_disk_is_written_and_read_back(storage: str, result: str, why: str) -> None:
    says(points.attached_storage(FACTS, said(values={"storage": storage})), result, why)


@pytest.mark.parametrize(
    ("told", "result", "why"),
    [
        ("ok", PASS, "made while it ran, and it went on"),
        ("skipped: it is raw", NOT_APPLICABLE, "it is raw"),
        ("the agent did not answer", FAIL, "the agent did not answer"),
        ("", NOT_TESTED, "none was made"),
    ],
)
def test_a_snapshot_is_judged_by_what_came_of_it(told: str, result: str, why: str) -> None:
    says(points.snapshot(FACTS, GuestReport(snapshot=told)), result, why)


@pytest.mark.parametrize(
    "point", [points.host_name, points.key_login, points.file_injection, points.root_grown, points.attached_storage]
)
def test_nothing_is_judged_of_a_guest_that_said_nothing(point: object) -> None:
    silent = GuestReport(host_name="a", injected="x", root_mib=2000, image_mib=1000)
    answer = point(FACTS, silent)  # type: ignore[operator]
    assert (answer.result, answer.why) == (NOT_TESTED, SILENT)
    assert answer.remedy
