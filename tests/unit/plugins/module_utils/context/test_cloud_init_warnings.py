# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a context cloud-init takes; cloud-init itself reads them in tests/integration/test_cloud_init.py."""

from __future__ import annotations

import base64
import email
import subprocess
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.context import (
    cloud_init_warnings,
    guest_settings,
    nocloud_and_configdrive,
)
from ansible_collections.nebula.provision.plugins.module_utils.model import context

PLAIN = {
    "NETWORK": "YES",
    "ETH0_MAC": "02:00:0a:42:00:0a",
    "ETH0_IP": "10.66.0.10",
    "ETH0_MASK": "255.255.255.0",
    "ETH0_GATEWAY": "10.66.0.1",
    "ETH0_DNS": "10.66.0.1",
    "SET_HOSTNAME": "web",
    "ETH0_METHOD": "",
    "DNS": "",
    "ETH0_IP6": "2001:db8::5",
    "ETH0_IP6_GATEWAY": "fe80::1",
    "START_SCRIPT": "true",
    "PASSWORD": "x",
}


def test_the_formats_are_those_that_there_are() -> None:
    known = (cloud_init_warnings.OPENNEBULA, cloud_init_warnings.CONFIG_DRIVE, cloud_init_warnings.NOCLOUD)
    assert known == context.FORMATS
    assert set(known) == set(nocloud_and_configdrive.FORMATS)


@pytest.mark.parametrize("format", context.FORMATS)
def test_nothing_is_lost_of_what_each_takes(format: str) -> None:
    assert cloud_init_warnings.left_out_by_cloud_init(format, PLAIN) == []
    assert cloud_init_warnings.warnings(format, PLAIN) == []


@pytest.mark.parametrize(
    ("more", "names", "drive", "nocloud"),
    [
        ({"ETH0_METHOD": "dhcp"}, ["ETH0_METHOD"], [], []),
        ({"ETH0_METHOD": "dhcp", "ETH0_METRIC": "5"}, ["ETH0_METHOD", "ETH0_METRIC"], ["ETH0_METRIC"], []),
        ({"ETH0_METRIC": "200"}, ["ETH0_METRIC"], [], []),
        ({"ETH0_IP6_METRIC": "200"}, ["ETH0_IP6_METRIC"], [], ["ETH0_IP6_METRIC"]),
        ({"ETH0_IP6_METHOD": "auto"}, ["ETH0_IP6_METHOD"], [], []),
        ({"ETH0_IP6_METHOD": "disable"}, ["ETH0_IP6_METHOD"], ["ETH0_IP6_METHOD"], []),
        ({"ETH0_ROUTES": "10.67.0.0/16 via 10.66.0.2"}, ["ETH0_ROUTES"], [], []),
        ({"ETH0_ALIAS0_IP": "10.66.0.11", "ETH0_ALIAS0_MAC": "x"}, ["ETH0_ALIAS0_IP"], [], []),
        ({"ETH0_ALIAS0_IP": "10.66.0.11", "ETH0_ALIAS0_EXTERNAL": "YES"}, [], [], []),
        (
            {"ETH0_MASK": "255.255.255.255"},
            ["ETH0_GATEWAY (it is outside of the prefix)"],
            ["ETH0_GATEWAY (it is outside of the prefix)"],
            [],
        ),
        (
            {"ETH0_IP6_GATEWAY": "2001:db9::1"},
            ["ETH0_IP6_GATEWAY (it is outside of the prefix)"],
            ["ETH0_IP6_GATEWAY (it is outside of the prefix)"],
            [],
        ),
        (
            {"ETH0_ROUTES": "10.67.0.0/16 via 10.66.0.2, 10.68.0.0/16 via 10.99.0.2"},
            ["ETH0_ROUTES"],
            ["ETH0_ROUTES (by a router outside of the prefix)"],
            [],
        ),
        ({"ETH0_ROUTES": "2001:db8:9::/48 via fe80::2,10.67.0.0/16 via 10.66.0.2"}, ["ETH0_ROUTES"], [], []),
        ({"ETH0_IP": ""}, ["ETH0_IP (there is none, and cloud-init takes one out of ETH0_MAC)"], [], []),
        # Only cloud-init reads user data, so that the others are lost for sure.
        ({"USER_DATA": "#!/bin/sh\n"}, ["PASSWORD", "START_SCRIPT"], [], []),
    ],
)
def test_what_a_format_loses(more: dict[str, str], names: list[str], drive: list[str], nocloud: list[str]) -> None:
    given = {**PLAIN, **more}
    assert cloud_init_warnings.left_out_by_cloud_init("opennebula", given) == names
    assert cloud_init_warnings.left_out_by_cloud_init("configdrive", given) == drive
    assert cloud_init_warnings.left_out_by_cloud_init("nocloud", given) == nocloud
    for format, lost in (("opennebula", names), ("configdrive", drive), ("nocloud", nocloud)):
        told = cloud_init_warnings.warnings(format, given)
        assert len(told) == bool(lost)
        assert all(name in told[0] for name in lost)
        assert not lost or ('CONTEXT_FORMAT = "nocloud"' in told[0]) == (format != "nocloud")


def test_lists_are_written_with_blanks() -> None:
    given = {
        **PLAIN,
        "DNS": "192.0.2.53,192.0.2.54",
        "ETH0_DNS": "10.66.0.1, 10.66.0.2",
        "SEARCH_DOMAIN": "a.example,b.example",
        "ETH0_ROUTES": "10.67.0.0/16 via 10.66.0.2,10.68.0.0/16 via 10.66.0.2",
    }
    found = cloud_init_warnings.written_for_readers("opennebula", given)
    assert found == {
        **given,
        "DNS": "192.0.2.53 192.0.2.54",
        "ETH0_DNS": "10.66.0.1 10.66.0.2",
        "SEARCH_DOMAIN": "a.example b.example",
        "ETH0_SEARCH_DOMAIN": "a.example b.example",
    }
    assert cloud_init_warnings.written_for_readers("opennebula", found) == found
    assert cloud_init_warnings.written_for_readers("nocloud", {**given, "START_SCRIPT": ""}) == {
        **given,
        "START_SCRIPT": "",
    }
    assert cloud_init_warnings.written_for_readers(
        "opennebula", {**PLAIN, "DNS": " 192.0.2.1;2001:db8::53 ,192.0.2.2, "}
    )["DNS"] == ("192.0.2.1 2001:db8::53 192.0.2.2")
    own = {**given, "ETH0_SEARCH_DOMAIN": "own.example"}
    assert (
        cloud_init_warnings.written_for_readers("opennebula", own)["ETH0_SEARCH_DOMAIN"]
        == "a.example b.example own.example"
    )


@pytest.mark.parametrize(
    ("more", "written", "lost"),
    [
        ({"ETH0_IP": "10.66.0.10/16"}, {"ETH0_IP": "10.66.0.10", "ETH0_MASK": "255.255.0.0"}, []),
        ({"ETH0_IP6": "2001:db8::5/48"}, {"ETH0_IP6": "2001:db8::5", "ETH0_IP6_PREFIX_LENGTH": "48"}, []),
        (
            {"ETH0_IP6": "2001:db8::5/64", "ETH0_IP6_ULA": "fd00::5"},
            {"ETH0_IP6": "2001:db8::5", "ETH0_IP6_PREFIX_LENGTH": "64"},
            [],
        ),
        ({"ETH0_IP6": "2001:db8::5/48", "ETH0_IP6_ULA": "fd00::5"}, {}, ["ETH0_IP6 (with a length of its own)"]),
        ({"ETH0_IP6": "here/48"}, {}, ["ETH0_IP6 (with a length of its own)"]),
    ],
)
def test_lengths_in_addresses_are_written_where_cloud_init_reads_them(
    more: dict[str, str], written: dict[str, str], lost: list[str]
) -> None:
    given = {**PLAIN, **more}
    found = cloud_init_warnings.written_for_readers("opennebula", given)
    assert found == {**given, **written}
    assert cloud_init_warnings.left_out_by_cloud_init("opennebula", found) == lost


@pytest.mark.parametrize("format", context.FORMATS)
@pytest.mark.parametrize("name", ["USER_DATA", "USERDATA"])
@pytest.mark.parametrize("encoding", ["", "USER_DATA_ENCODING", "USERDATA_ENCODING"])
def test_user_data_have_no_mark_at_their_beginning(format: str, name: str, encoding: str) -> None:
    def given(text: str) -> dict[str, str]:
        value = base64.b64encode(text.encode()).decode() if encoding else text
        return {name: value, **({encoding: "base64"} if encoding else {})}

    text = "#cloud-config\r\nhostname: a\r\n"
    assert cloud_init_warnings.written_for_readers(format, given(f"\ufeff{text}")) == given(text)
    assert cloud_init_warnings.written_for_readers(format, given(text)) == given(text)


@pytest.mark.parametrize("format", ["nocloud", "configdrive"])
def test_a_router_by_its_former_name_is_written_by_the_other_too(format: str) -> None:
    given = {"ETH0_MAC": "02:00:0a:42:00:0a", "ETH0_IP6": "2001:db8::5", "ETH0_GATEWAY6": "2001:db8::1"}
    assert cloud_init_warnings.written_for_readers(format, given) == {**given, "ETH0_IP6_GATEWAY": "2001:db8::1"}
    own = {**given, "ETH0_IP6_GATEWAY": "2001:db8::2"}
    assert cloud_init_warnings.written_for_readers(format, own) == own


LINES = "for i in 1 2; do\n  if [ $i = 2 ]; then\n    echo ran $i\n  fi\ndone\n"
WINDOWS = LINES.replace("\n", "\r\n")
SCRIPTS = {
    "by its first line": f"#!/bin/sh\r\n{WINDOWS}",
    "without one": WINDOWS,
    "with a mark": f"\ufeff#!/bin/sh -e\r\n{WINDOWS}",
    "with a mark alone": f"\ufeff#!/bin/sh\n{LINES}",
    "with one line of Windows": LINES.replace("then\n", "then\r\n"),
    "without an end": f"#! /bin/sh\r\n{WINDOWS}".removesuffix("\n"),
    "of bash, without a first line": 'a=(0 "ran 2")\r\necho "${a[1]}"\r\n',
}


@pytest.mark.parametrize("format", ["nocloud", "configdrive"])
@pytest.mark.parametrize("name", ["START_SCRIPT", "START_SCRIPT_BASE64"])
@pytest.mark.parametrize("kind", SCRIPTS)
def test_scripts_are_written_so_that_a_guest_runs_them(tmp_path: Path, kind: str, name: str, format: str) -> None:
    script = SCRIPTS[kind]
    given = {"SET_HOSTNAME": "web", name: base64.b64encode(script.encode()).decode() if name.endswith("64") else script}
    if name.endswith("64"):
        given["START_SCRIPT"] = "exit 3"
    found = cloud_init_warnings.written_for_readers(format, given)
    assert cloud_init_warnings.written_for_readers(format, found) == found
    assert cloud_init_warnings.written_for_readers("opennebula", given)[name] == given[name]
    # As cloud-init runs it: a file of its own.
    message = email.message_from_bytes(guest_settings.Guest(found, "i", "cidata", ()).user_data)
    (part,) = [part for part in message.walk() if "20-start-script" in (part.get_filename() or "")]
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    (tmp_path / "script").write_bytes(payload)
    (tmp_path / "script").chmod(0o700)
    done = subprocess.run([tmp_path / "script"], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran 2\n", "")


@pytest.mark.parametrize("format", ["nocloud", "configdrive"])
@pytest.mark.parametrize(
    "script",
    [b"#ps1_sysnative\r\nGet-Date\r\n", b"rem cmd\r\ndir\r\n", b"#!/bin/sh\r\nexit\r\n\0\r\n", b"#!/bin/sh\nid\n"],
)
def test_a_script_of_windows_or_with_bytes_that_no_text_has_stays(format: str, script: bytes) -> None:
    given = {"START_SCRIPT_BASE64": base64.b64encode(script).decode()}
    assert cloud_init_warnings.written_for_readers(format, given) == given
    assert (
        cloud_init_warnings.written_for_readers(format, {"START_SCRIPT_BASE64": "?", "START_SCRIPT": ""})[
            "START_SCRIPT_BASE64"
        ]
        == "?"
    )
