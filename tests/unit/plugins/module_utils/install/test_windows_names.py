# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.install import answer_files, windows_names

WINDOWS = answer_files.KINDS["autounattend"]


@pytest.mark.parametrize(
    ("user", "why"),
    [
        ("", "an account of the user's own"),
        (" . ", "dots and blanks only"),
        ("ops.", "ends with a dot"),
        (" ops", "begins or ends with a blank"),
        ("ops ", "begins or ends with a blank"),
        ("a" * 21, "it has 21 characters, and Windows takes 20"),
        *((f"a{c}b", "which Windows allows in no account's name") for c in '"/\\[]:;|=,+*?<>@%\x07'),
        *((name, "keeps NONE for itself") for name in ("NONE", "none", "None")),
        *((name, "an account that Windows has itself") for name in ("Administrator", "ADMINISTRATOR", "Guest")),
        *((name, "an account that Windows has itself") for name in ("Administrateur", "Gast", "defaultaccount")),
        *((name, "a group that Windows has itself") for name in ("Administrators", "users", "Power Users")),
        *((name, "security system keeps for itself") for name in ("System", "everyone", "Network Service", "Self")),
        *((name, "an account that Windows has itself") for name in ("Gæst", "WsiAccount", "WDAGUtilityAccount")),
        *((name, "a group that Windows has itself") for name in ("Administratoren", "BENUTZER", "Utilisateurs")),
        *((name, "security system keeps for itself") for name in ("Jeder", "Tout le monde", "LOCAL SERVICE")),
        *((name, "a directory of that name") for name in ("Public", "default", "All Users")),
        *((name, "it is a device of Windows") for name in ("con", "NUL", "COM1", "lpt9", "aux.x")),
        *((name, "it is a device of Windows") for name in ("com0", "LPT³", "con .x", "CONIN$", "clock$")),
        *(
            (name, "security system keeps for itself")
            for name in ("LocalService", "networkservice", "TrustedInstaller")
        ),
        # What nobody sees.
        *(
            (f"Administrator{c}", "allows in no account's name")
            for c in ("\u200b", "\u00ad", "\u202e", "\ufeff", "\ud800")
        ),
        # Each of them is two characters to Windows.
        ("\U00010400" * 11, "it has 22 characters"),
        *((name, "it is the computer's name") for name in ("web-1", "WEB-1", "Web-1")),
    ],
)
def test_accounts_that_setup_does_not_make(user, why):
    with pytest.raises(InvalidValue, match="answers: user") as error:
        windows_names.check_user(user, "web-1", "install win: answers")
    assert why in str(error.value) and error.value.remedy


@pytest.mark.parametrize("user", ["ops", "Ops", "a" * 20, "o.ps", "Max Muster", "ops-1", "ops_1", "4711", "Jürg"])
def test_accounts_that_it_makes(user):
    windows_names.check_user(user, "web-1", "x")


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("2022", "digits only"),
        ("7", "digits only"),
        ("windows-server-22", "it has 17 characters, and NetBIOS would cut it to the first 15"),
        ("a" * 16, "it has 16 characters"),
        ("-web", "no computer's name"),
        ("web-", "no computer's name"),
        ("web_1", "no computer's name"),
        ("we b", "no computer's name"),
        ("Workgroup", "keeps this word for itself"),
        ("LOCALHOST", "keeps this word for itself"),
        ("server", "keeps this word for itself"),
    ],
)
def test_computers_that_can_not_be_called_so(host, why):
    with pytest.raises(InvalidValue, match="answers: hostname") as error:
        windows_names.check_computer(host, True, "install win: answers")
    assert why in str(error.value) and repr(host) in str(error.value)
    # One that nobody chose is said to come of the image's name.
    with pytest.raises(InvalidValue, match="it is not given, and of the image's name it would be"):
        windows_names.check_computer(host, False, "install win: answers")


@pytest.mark.parametrize("host", ["web", "w", "a" * 15, "2022-web", "web-2022", "WEB"])
def test_computers_that_can(host):
    windows_names.check_computer(host, True, "x")


@pytest.mark.parametrize(
    ("image", "computer"),
    [
        ("windows-server-2022", "windows-server"),
        ("win", "win"),
        ("Windows 11 (test)", "windows-11-test"),
        ("a" * 20, "a" * 15),
    ],
)
def test_names_made_of_the_image_are_whole(image, computer):
    """Cut at 15 characters it would end with a hyphen, which Windows refuses."""
    values = answer_files.variables_of(WINDOWS, {"kind": "autounattend", "password": "x"}, "x")
    assert answer_files.host_of(WINDOWS, values, image) == computer
    answer_files.check_late(WINDOWS, values, image, "x")


@pytest.mark.parametrize("image", ["2022", "ops", "localhost", "..."])
def test_names_of_images_that_give_none(image):
    values = answer_files.variables_of(WINDOWS, {"kind": "autounattend", "password": "x"}, "x")
    with pytest.raises(InvalidValue):
        answer_files.check_late(WINDOWS, values, image, "x")


@pytest.mark.parametrize("key", ["address", "netmask", "gateway", "nameservers"])
def test_an_address_is_refused_by_its_name(key):
    with pytest.raises(InvalidValue, match=f"answers: {key}: Windows is installed from its ISO alone.*IPv6"):
        answer_files.variables_of(WINDOWS, {key: "2001:db8::1"}, "install win: answers")
