# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each point of a Windows image, by its registry and its files."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.checks import windows_points as points
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.checks.image_facts import (
    FAIL,
    NOT_APPLICABLE,
    NOT_TESTED,
    PASS,
    WINDOWS,
    Answer,
    Facts,
    Node,
)

SERVICES = "system/services"
TCPIP = "system/services/tcpip/parameters/interfaces"
ADAPTERS = "system/control/class/{4d36e972-e325-11ce-bfc1-08002be10318}"
POLICY = "system/services/sharedaccess/parameters/firewallpolicy"
RULE = "v2.31|Action=Allow|Active=TRUE|Dir=In|Protocol=6|LPort=%s|App=System|Name=x|"


def facts(registry: dict[str, object] | None = None, *paths: str) -> Facts:
    return Facts(os=WINDOWS, registry=registry or {}, tree={path: Node() for path in paths})


def starts(**services: object) -> Facts:
    return facts({f"{SERVICES}/{name}/start": start for name, start in services.items()})


def says(answer: Answer, result: str, why: str) -> None:
    assert (answer.result, answer.why) == (result, why)
    assert bool(answer.remedy) is (result == FAIL)


@pytest.mark.parametrize(
    ("services", "result", "why"),
    [
        ({"viostor": 0}, PASS, "viostor starts with the boot loader"),
        ({"viostor": 0, "vioscsi": 0}, PASS, "viostor, vioscsi starts with the boot loader"),
        ({"viostor": 3, "vioscsi": 0}, PASS, "vioscsi starts with the boot loader"),
        ({"viostor": 1}, FAIL, "viostor is installed, and not started with the boot loader"),
        ({"viostor": 3, "vioscsi": 4}, FAIL, "viostor, vioscsi is installed, and not started with the boot loader"),
        ({}, FAIL, "neither viostor nor vioscsi is installed: on bus virtio it stops with INACCESSIBLE_BOOT_DEVICE"),
        (
            {"viostor": "0"},
            FAIL,
            "neither viostor nor vioscsi is installed: on bus virtio it stops with INACCESSIBLE_BOOT_DEVICE",
        ),
    ],
)
def test_a_virtio_disk_needs_a_driver_that_starts_with_the_boot_loader(
    services: dict[str, object], result: str, why: str
) -> None:
    answer = points.virtio_disk(starts(**services))
    says(answer, result, why)
    assert result == PASS or "virtio-win" in answer.remedy


@pytest.mark.parametrize(
    ("services", "result", "why"),
    [
        ({"netkvm": 3}, PASS, "netkvm is installed"),
        ({"netkvm": 0}, PASS, "netkvm is installed"),
        ({"netkvm": 4}, FAIL, "netkvm is switched off"),
        ({}, FAIL, "netkvm is not installed"),
    ],
)
def test_a_virtio_nic_needs_a_driver_that_is_not_switched_off(
    services: dict[str, object], result: str, why: str
) -> None:
    says(points.virtio_net(starts(**services)), result, why)


DENIED = "system/control/terminal server/fdenytsconnections"


@pytest.mark.parametrize(
    ("registry", "result", "why"),
    [
        ({DENIED: 0}, PASS, "connections are allowed"),
        ({DENIED: 1}, FAIL, "connections are denied"),
        ({DENIED: "0"}, FAIL, "connections are denied"),
        ({}, FAIL, "connections are denied"),
    ],
)
def test_remote_desktop_is_allowed_only_where_that_is_said(registry: dict[str, object], result: str, why: str) -> None:
    says(points.remote_desktop(facts(registry)), result, why)


@pytest.mark.parametrize(
    ("services", "result", "why"),
    [
        ({"sshd": 2}, PASS, "sshd is started at boot"),
        ({"sshd": 3}, FAIL, "it is installed, and not started at boot"),
        ({"sshd": 4}, FAIL, "it is installed, and not started at boot"),
        ({}, FAIL, "none is installed"),
    ],
)
def test_an_ssh_server_is_started_at_boot(services: dict[str, object], result: str, why: str) -> None:
    says(points.ssh_server(starts(**services)), result, why)


@pytest.mark.parametrize(
    ("registry", "paths", "result", "why"),
    [
        ({f"{SERVICES}/cloudbase-init/start": 2}, (), PASS, "cloudbase-init"),
        ({f"{SERVICES}/onecontext/start": 2, f"{SERVICES}/one-context/start": 2}, (), PASS, "one-context"),
        ({f"{SERVICES}/cloudbase-init/start": 2}, ("/context.ps1",), PASS, "cloudbase-init, context.ps1"),
        ({}, ("/windows/context.ps1",), PASS, "context.ps1"),
        ({f"{SERVICES}/cloudbase-init/start": 3}, (), FAIL, "nothing in it takes a context"),
        ({}, ("/temp/context.ps1",), FAIL, "nothing in it takes a context"),
    ],
)
def test_what_takes_a_context_is_started_at_boot(
    registry: dict[str, object], paths: tuple[str, ...], result: str, why: str
) -> None:
    says(points.context(facts(registry, *paths)), result, why)


OFF = {f"{POLICY}/{profile}/enablefirewall": 0 for profile in ("standardprofile", "publicprofile")}


@pytest.mark.parametrize(
    ("registry", "result", "why"),
    [
        (OFF, PASS, "it is switched off"),
        ({f"{POLICY}/firewallrules/a": RULE % 22}, PASS, "a rule lets SSH in"),
        ({f"{POLICY}/firewallrules/a": RULE % 3389}, PASS, "a rule lets remote desktop in"),
        ({f"{POLICY}/firewallrules/a": RULE % 80, f"{POLICY}/firewallrules/b": RULE % 22}, PASS, "a rule lets SSH in"),
    ],
)
def test_a_firewall_that_lets_somebody_in_is_good(registry: dict[str, object], result: str, why: str) -> None:
    says(points.firewall(facts(registry)), result, why)


@pytest.mark.parametrize(
    "registry",
    [
        {},
        {f"{POLICY}/standardprofile/enablefirewall": 0},
        {**OFF, f"{POLICY}/publicprofile/enablefirewall": 1},
        {f"{POLICY}/firewallrules/a": None},
        {f"{POLICY}/firewallrules/a": RULE % 2222},
        {f"{POLICY}/firewallrules/a": (RULE % 22).replace("Allow", "Block")},
        {f"{POLICY}/firewallrules/a": (RULE % 22).replace("TRUE", "FALSE")},
        {f"{POLICY}/firewallrules/a": (RULE % 22).replace("Dir=In", "Dir=Out")},
        {"system/other/firewallrules/a": RULE % 22},
    ],
)
def test_a_firewall_that_lets_nobody_in_is_a_fault(registry: dict[str, object]) -> None:
    says(points.firewall(facts(registry)), FAIL, "it is on, and no rule lets port 22 or 3389 in")


@pytest.mark.parametrize(
    ("values", "static"),
    [
        ({"enabledhcp": 0, "ipaddress": "10.0.0.7\0\0"}, "10.0.0.7"),
        ({"enabledhcp": 0, "ipaddress": "10.0.0.7"}, "10.0.0.7"),
        ({"enabledhcp": 1, "ipaddress": "10.0.0.7"}, ""),
        ({"ipaddress": "10.0.0.7"}, ""),
        ({"enabledhcp": 0, "ipaddress": "0.0.0.0"}, ""),
        ({"enabledhcp": 0, "ipaddress": "\0"}, ""),
        ({"enabledhcp": 0, "ipaddress": None}, ""),
        ({"enabledhcp": 0}, ""),
    ],
)
def test_an_address_is_written_down_where_dhcp_is_off_and_there_is_one(values: dict[str, object], static: str) -> None:
    answer = points.addresses(facts({f"{TCPIP}/{{a1}}/{key}": value for key, value in values.items()}))
    if static:
        says(answer, FAIL, f"its address is written down: {static}")
    else:
        says(answer, PASS, "no interface has an address written down")


def test_the_addresses_of_all_interfaces_are_named() -> None:
    registry = {
        f"{TCPIP}/{name}/{key}": value for name in "ba" for key, value in (("enabledhcp", 0), ("ipaddress", name))
    }
    says(points.addresses(facts(registry)), FAIL, "its address is written down: a, b")


@pytest.mark.parametrize(
    ("value", "shown"), [("525400ABCDEF", "52:54:00:AB:CD:EF"), ("52-54-00-AB-CD-EF", "52-54-00-AB-CD-EF")]
)
def test_a_mac_address_of_an_adapters_own_choice_is_named(value: str, shown: str) -> None:
    says(
        points.mac_addresses(facts({f"{ADAPTERS}/0001/networkaddress": value})),
        FAIL,
        f"an adapter has the address {shown}",
    )


@pytest.mark.parametrize(
    "registry",
    [
        {},
        {f"{ADAPTERS}/0001/networkaddress": ""},
        {f"{ADAPTERS}/0001/networkaddress": None},
        {f"{ADAPTERS}/0001/permanentaddress": "525400ABCDEF"},
        {"system/control/class/other/0001/networkaddress": "525400ABCDEF"},
    ],
)
def test_an_adapter_without_an_address_of_its_own_is_good(registry: dict[str, object]) -> None:
    says(points.mac_addresses(facts(registry)), PASS, "no adapter has an address of its own choice")


def test_the_prompt_for_a_new_network_is_off_where_its_key_is_there() -> None:
    """A key that is there has the value None."""
    says(points.network_prompt(facts({"system/control/network/newnetworkwindowoff": None})), PASS, "it is switched off")
    answer = points.network_prompt(facts())
    assert answer.result == FAIL and "NewNetworkWindowOff" in answer.remedy


BCD = "bcd/objects/{9dea862c-5cdd-4e70-acc1-f32b344d4795}/elements"


@pytest.mark.parametrize(
    ("registry", "result", "why"),
    [
        ({}, NOT_TESTED, "its boot configuration (BCD) was not found"),
        ({f"{BCD}/12000004/element": "Windows"}, FAIL, "EMS is off"),
        ({f"{BCD}/16000020/element": "00"}, FAIL, "EMS is off"),
        ({f"{BCD}/16000020/element": None, f"{BCD}/260000b0/element": 0}, FAIL, "EMS is off"),
        ({f"{BCD}/16000020/element": "01"}, PASS, "EMS is on"),
        ({f"{BCD}/260000b0/element": 1}, PASS, "EMS is on"),
    ],
)
def test_a_serial_console_is_told_by_the_boot_configuration(registry: dict[str, object], result: str, why: str) -> None:
    says(points.serial_console(facts(registry)), result, why)


GENERALIZED = "IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE"
STATE = "/windows/setup/state/state.ini"
SETUP = "software/microsoft/windows/currentversion/setup/state/imagestate"


@pytest.mark.parametrize(
    ("ini", "registry", "result", "why"),
    [
        (f"[State]\nImageState={GENERALIZED}\n", None, PASS, GENERALIZED),
        (f"ImageState = {GENERALIZED}\r\n", "IMAGE_STATE_COMPLETE", PASS, GENERALIZED),
        ("", GENERALIZED, PASS, GENERALIZED),
        (
            "ImageState=IMAGE_STATE_COMPLETE\n",
            GENERALIZED,
            FAIL,
            "its state is IMAGE_STATE_COMPLETE: machines of it have one SID and one name",
        ),
        ("", None, FAIL, "its state is not told: machines of it have one SID and one name"),
    ],
)
def test_an_image_is_generalized_as_its_own_file_says_and_else_its_registry(
    ini: str, registry: str | None, result: str, why: str
) -> None:
    here = Facts(
        os=WINDOWS, tree={STATE: Node(text=ini)} if ini else {}, registry={SETUP: registry} if registry else {}
    )
    says(points.sysprep(here), result, why)


@pytest.mark.parametrize(
    ("paths", "result", "why"),
    [
        ((), NOT_APPLICABLE, "it has no Windows\\Temp"),
        (("/windows/temp",), PASS, "no temporary files, downloads or hibernation"),
        (("/windows/temp", "/windows/temp/a.tmp"), FAIL, "/windows/temp/a.tmp"),
        (
            ("/windows/temp", "/windows/softwaredistribution/download/x", "/hiberfil.sys", "/windows.old"),
            FAIL,
            "/windows/softwaredistribution/download/x, /hiberfil.sys, /windows.old",
        ),
        (("/windows/temp", "/windows/memory.dmp"), FAIL, "/windows/memory.dmp"),
    ],
)
def test_what_a_former_life_left_is_named(paths: tuple[str, ...], result: str, why: str) -> None:
    says(points.disk_cleanup(facts({}, *paths)), result, why)
