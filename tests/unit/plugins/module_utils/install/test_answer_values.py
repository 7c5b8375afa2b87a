# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.install import answer_files, answer_values

LINUX = ("preseed", "kickstart", "autoinstall", "autoyast")
ALL_BUT_KICKSTART = tuple(kind for kind in LINUX if kind != "kickstart")
APT = ("preseed", "autoinstall")
WHERE = "install d: answers"


def late(kind: str, answers: Mapping[str, Any]) -> None:
    """Look at the answers as the module does before anything is made of them."""
    form = answer_files.KINDS[kind]
    variables = answer_files.variables_of(form, answers, WHERE)
    answer_files.check_late(form, variables, "web", WHERE)


@pytest.mark.parametrize(
    ("kinds", "key", "value", "why"),
    [
        *((LINUX, "locale", each, "no such locale") for each in ("en-US", "german", "de_DE UTF-8", "de_de.UTF-8")),
        *((LINUX, "timezone", each, "no time zone of Linux") for each in ("W. Europe Standard Time", "/etc", "UTC ")),
        *((ALL_BUT_KICKSTART, "disk", each, "no path of a disk") for each in ("vda", "sda", "/dev/", "/dev/v da")),
        (("kickstart",), "disk", "/dev/v da", "no name of a disk"),
        *(
            (LINUX, "mirror", each, "mirror: ")
            for each in ("deb.example.org/debian", "http://", "http:/x", "http:///x")
        ),
        *((APT, "mirror", each, "by http, https or ftp") for each in ("nfs://a/b", "file:///srv", "cd:/")),
        *((APT, "proxy", each, "takes no proxy without http://") for each in ("proxy:3128", "proxy", "socks5://a")),
        *((LINUX, "packages", each, "no name of a package") for each in ("vim curl", ["vim", "a b"], ["vim", ""])),
        *((("autounattend",), "locale", each, "no such language") for each in ("en_US.UTF-8", "en_US", "de", "german")),
        *(
            (("autounattend",), "keyboard", each, "no such keyboard")
            for each in ("de", "us", "de_DE", "0407", "0407:0407", "0407:00000407 0409:00000409")
        ),
        *(
            (("autounattend",), "timezone", each, "no time zone of Windows")
            for each in ("Etc/UTC", "Europe/Berlin", "CET", "GMT+1", "Berlin", "UTC+1", "utc")
        ),
        *((("autounattend",), "disk", each, "by their numbers") for each in ("/dev/sda", "sda", "C:", "-1")),
        *(
            (("autounattend",), "product_key", each, "no product key")
            for each in ("AAAAA-BBBBB", "AAAAABBBBBCCCCCDDDDDEEEEE", "AAAAA-BBBBB-CCCCC-DDDDD-EEEE", "key")
        ),
        *((("autounattend",), "image_index", each, "count from 1") for each in (0, -1)),
        (("autounattend",), "password", "p" * 128, "more than 127 characters"),
        (("autounattend",), "late_commands", ["cmd", "c" * 1025], "command 2: it has 1025 characters"),
        *((("autounattend",), key, "", "it is empty") for key in ("locale", "timezone", "disk")),
    ],
)
def test_forms_that_installers_stop_at(kinds: tuple[str, ...], key: str, value: Any, why: str) -> None:
    for kind in kinds:
        with pytest.raises(InvalidValue) as error:
            late(kind, {key: value, **({"password": "x"} if kind == "autounattend" and key != "password" else {})})
        assert str(error.value).startswith(f"{WHERE}: {key}") and why in str(error.value) and error.value.remedy


@pytest.mark.parametrize(
    ("kinds", "key", "value"),
    [
        *(
            (LINUX, "locale", each)
            for each in ("", "C", "C.UTF-8", "POSIX", "de_DE", "de_DE@euro", "sr_RS.UTF-8@latin", "eo", "fil_PH.UTF-8")
        ),
        *((LINUX, "timezone", each) for each in ("UTC", "Etc/GMT+5", "America/Argentina/Buenos_Aires", "EST5EDT")),
        *((LINUX, "disk", each) for each in ("", "/dev/vda", "/dev/disk/by-id/virtio-0001", "/dev/nvme0n1")),
        (("kickstart",), "disk", "vda"),
        (("kickstart",), "disk", "disk/by-id/virtio-0001"),
        (("autoinstall",), "disk", "/dev/vd*"),
        *(
            (LINUX, "mirror", each)
            for each in (
                "",
                "http://deb.example.org/debian",
                "https://u:p@[2001:db8::1]:8443/x",
                "ftp://a.example.org/",
            )
        ),
        *((("kickstart", "autoyast"), "mirror", each) for each in ("nfs://a/b", "file:///srv/x", "hd:vdb:/x")),
        *((LINUX, "proxy", each) for each in ("", "http://proxy.example.org:3128/", "http://u:p@[2001:db8::1]:3128")),
        *((("kickstart", "autoyast"), "proxy", each) for each in ("proxy.example.org:3128",)),
        *((LINUX, "packages", each) for each in ([], "vim", ["@Development Tools", "-nano", "gcc-12", "libc6:i386"])),
        *((("autounattend",), "locale", each) for each in ("en-US", "sr-Latn-RS", "es-419", "ca-ES-valencia", "DE-de")),
        *(
            (("autounattend",), "keyboard", each)
            for each in (
                "",
                "de-DE",
                "0407:00000407",
                "0407:00000407;0409:00000409",
                "en-US;0411:{03B5835F-F03C-411B-9CE2-AA23E1171E36}{A76C93D9-5523-4E90-AAFA-4DB112F9AC76}",
            )
        ),
        *(
            (("autounattend",), "timezone", each)
            for each in (
                "UTC",
                "UTC-02",
                "UTC+12",
                "W. Europe Standard Time",
                "Central Standard Time (Mexico)",
                "Russia Time Zone 3",
                "Pacific Standard Time_dstoff",
            )
        ),
        (("autounattend",), "disk", "1"),
        (("autounattend",), "product_key", "VDYBN-27WPP-V4HQT-9VMD4-VMK7H"),
        (("autounattend",), "password", "p" * 127),
        (("autounattend",), "late_commands", ["c" * 1024]),
    ],
)
def test_forms_that_they_take(kinds: tuple[str, ...], key: str, value: Any) -> None:
    for kind in kinds:
        late(kind, {key: value, **({"password": "x"} if kind == "autounattend" and key != "password" else {})})


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("preseed", "mirror", "user:s3cret@a"),
        ("autounattend", "product_key", "s3cret"),
        ("autounattend", "password", "s3cret" * 30),
    ],
)
def test_what_may_be_secret_is_not_shown(kind: str, key: str, value: str) -> None:
    with pytest.raises(InvalidValue) as error:
        late(kind, {key: value})
    assert "s3cret" not in str(error.value)


def test_the_defaults_are_taken_by_all() -> None:
    for kind in (*LINUX, "autounattend"):
        late(kind, {})


def test_the_longest_values_are_those_of_the_schema() -> None:
    assert (answer_values.LONGEST_PASSWORD, answer_values.LONGEST_COMMAND) == (127, 1024)
