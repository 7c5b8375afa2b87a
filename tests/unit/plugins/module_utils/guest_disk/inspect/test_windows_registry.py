# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and registry of a Windows image are gathered, whatever case it writes its names in.

The appliance and its hives are a stand-in (tests/tools/appliance_stand_in.py), in the form of guestfish(1) and
hivex(3)."""

from __future__ import annotations

import pytest
from appliance_stand_in import Appliance, Device, made

from ansible_collections.nebula.provision.plugins.module_utils.errors import CommandFailed
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.checks.image_facts import (
    DIRECTORY,
    FILE,
    Facts,
    Partition,
    System,
)
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.inspect import windows_registry

CONFIG = "/Windows/System32/config"
START = (4, (0).to_bytes(4, "little"))


def words(text: str, kind: int = 1) -> tuple[int, bytes]:
    return kind, (text + "\0").encode("utf-16-le")


SYSTEM = {
    "Select": {"Current": (4, (2).to_bytes(4, "little"))},
    "ControlSet001": {"Services": {"viostor": {"Start": (4, (4).to_bytes(4, "little"))}}},
    "ControlSet002": {
        "Services": {
            "viostor": {"Start": START, "ImagePath": words("x")},
            "sshd": {},
            "other": {"Start": START},
            "Tcpip": {"Parameters": {"Interfaces": {"{0A}": {"EnableDHCP": START, "IPAddress": words("10.0.0.1", 7)}}}},
        },
        "Control": {"Terminal Server": {"fDenyTSConnections": START}, "Network": {"NewNetworkWindowOff": {}}},
    },
}
SOFTWARE = {"Microsoft": {"Windows NT": {"CurrentVersion": {"ProductName": words("Windows Server 2025")}}}}
BCD = {"Objects": {"{9d}": {"Elements": {"16000020": {"Element": (3, b"\1")}, "260000b0": {"Element": (3, b"\0")}}}}}


@pytest.fixture
def talk(tmp_path):
    place = made(tmp_path / "windows", {
        f"{CONFIG}/SYSTEM": "regf", f"{CONFIG}/SOFTWARE": "regf", "Windows/Temp/Left.TMP": "x",
        "pagefile.sys": "x", "hiberfil.sys": "x",
        "Windows/Setup/State/State.ini": "[State]\r\nImageState=X\r\n".encode("utf-16"),
    })  # fmt: skip
    efi = made(tmp_path / "efi", {"EFI/Microsoft/Boot/BCD": "regf", "EFI/Boot/bootx64.efi": "x"})
    appliance = Appliance({"/dev/sda1": Device({"TYPE": "vfat"}, efi), "/dev/sda2": Device({"TYPE": "ntfs"}, place)})
    appliance.mounted = {"/": place}
    appliance.hives = {f"{CONFIG}/SYSTEM": SYSTEM, f"{CONFIG}/SOFTWARE": SOFTWARE, "/EFI/Microsoft/Boot/BCD": BCD}
    return appliance


def known(kind: str = "vfat") -> Facts:
    return Facts(
        "windows",
        partitions=(Partition(1, "/dev/sda1", 0, 1), Partition(2, "/dev/sda2", 1, 1)),
        systems=(System("/dev/sda1", kind), System("/dev/sda2", "ntfs")),
        root="/dev/sda2",
    )


def test_files_are_known_by_names_in_lower_case(talk):
    tree = windows_registry.facts(talk, known()).tree
    assert tree["/windows/temp"].kind == DIRECTORY and tree["/windows/temp/left.tmp"].kind == FILE
    assert "/hiberfil.sys" in tree and "/windows.old" not in tree and "/pagefile.sys" not in tree
    assert tree["/windows/setup/state/state.ini"].text.splitlines() == ["[State]", "ImageState=X"]


def test_values_of_the_control_set_that_is_current(talk):
    found = windows_registry.facts(talk, known())
    values = found.registry
    assert found.name == "Windows Server 2025"
    assert values["system/services/viostor/start"] == 0
    # A key that is there, and one of which nobody asks.
    assert values["system/services/sshd"] is None and "system/services/netkvm" not in values
    assert not any("imagepath" in key or "services/other" in key for key in values)
    assert values["system/control/terminal server/fdenytsconnections"] == 0
    assert values["system/control/network/newnetworkwindowoff"] is None


def test_a_star_stands_for_every_key_there(talk):
    values = windows_registry.facts(talk, known()).registry
    below = "system/services/tcpip/parameters/interfaces/{0a}"
    assert (values[below], values[f"{below}/enabledhcp"], values[f"{below}/ipaddress"]) == (None, 0, "10.0.0.1")


def test_without_a_word_of_it_the_first_control_set_is_current(talk):
    talk.hives[f"{CONFIG}/SYSTEM"] = {key: value for key, value in SYSTEM.items() if key != "Select"}
    assert windows_registry.facts(talk, known()).registry["system/services/viostor/start"] == 4


@pytest.mark.parametrize("kind", ["vfat", "ntfs"])
def test_the_boot_configuration_of_another_partition(talk, kind):
    found = windows_registry.facts(talk, known(kind))
    # Objects are told apart by their handles.
    values = {key.split("/", 2)[2]: value for key, value in found.registry.items() if key.startswith("bcd/") and value}
    assert "bcd/" in found.registry and values == {"16000020/element": "01", "260000b0/element": "00"}
    # Loaders are looked for where EFI finds them.
    assert ("/boot/efi/EFI/Boot/bootx64.efi" in found.tree) is (kind == "vfat")


@pytest.mark.parametrize("kind", ["ext4", "", "swap"])
def test_a_partition_of_another_kind_is_not_mounted(talk, kind):
    assert "bcd/" not in windows_registry.facts(talk, known(kind)).registry
    assert "mount-ro" not in talk.verbs()


def test_a_partition_that_can_not_be_mounted_is_left_out(talk):
    talk.devices["/dev/sda1"] = Device({"TYPE": "vfat"})
    found = windows_registry.facts(talk, known())
    assert "bcd/" not in found.registry and "system/services/viostor/start" in found.registry


def test_a_hive_that_can_not_be_read_has_no_values(talk):
    del talk.hives[f"{CONFIG}/SOFTWARE"]
    found = windows_registry.facts(talk, known())
    assert found.name == "Windows" and "system/services/viostor/start" in found.registry


def test_a_hive_is_closed_after_it_was_read(talk):
    windows_registry.facts(talk, known())
    assert talk.verbs().count("hivex-open") == talk.verbs().count("hivex-close") == 3


def test_a_hive_that_is_too_large_is_not_opened(talk, monkeypatch):
    """The limit is lowered for it."""
    monkeypatch.setattr(windows_registry, "_LARGEST_HIVE", 3)
    assert windows_registry.facts(talk, known("ext4")).registry == {}
    assert "hivex-open" not in talk.verbs()


def test_an_appliance_that_breaks_is_no_hive_without_values(talk):
    talk.fails["hivex-open"] = "appliance closed the connection unexpectedly"
    with pytest.raises(CommandFailed, match="closed the connection"):
        windows_registry.facts(talk, known())


@pytest.mark.parametrize(
    ("data", "text"),
    [("a\né".encode("utf-16"), "a\né"), (b"plain\n", "plain\n"), ("é".encode(), "é"), (b"\xe9", "\ufffd"), (b"", "")],
)
def test_texts_in_both_codings(data, text):
    assert windows_registry._text(data) == text
