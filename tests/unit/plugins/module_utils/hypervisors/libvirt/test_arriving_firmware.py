# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.arriving_firmware import explicit

PLAIN, SECURE = "/f/CODE.fd", "/f/CODE.ms.fd"


def described(place: Path, name: str, program: str, *features: str, device: str = "flash") -> None:
    mapping = {"device": device, "executable": {"filename": program}, "nvram-template": {"filename": program + ".vars"}}
    (place / name).write_text(json.dumps({"mapping": mapping, "features": features}), encoding="utf-8")


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    found = [tmp_path / "usr", tmp_path / "etc"]
    for each in found:
        each.mkdir()
    described(found[0], "40-secure-enrolled.json", SECURE, "secure-boot", "enrolled-keys", "requires-smm")
    described(found[0], "50-secure.json", "/f/CODE.secboot.fd", "secure-boot")
    described(found[0], "60.json", PLAIN, "acpi-s3")
    described(found[0], "70.json", "/f/memory.fd", device="memory")
    (found[0] / "80.json").write_text("no JSON", encoding="utf-8")
    return [str(each) for each in found]


def own(secure: str = "no") -> str:
    features = "".join(f"<feature enabled='{secure}' name='{each}'/>" for each in ("enrolled-keys", "secure-boot"))
    rest = f"<type>hvm</type><firmware>{features}</firmware><nvram>/d/V.fd</nvram>"
    return f"<domain><os firmware='efi'>{rest}</os></domain>"


def offered(loader: str) -> str:
    return f"<domain><os><type>hvm</type><loader>{loader}</loader><nvram>/etc/shadow</nvram></os></domain>"


@pytest.mark.parametrize(("secure", "loader"), [("no", PLAIN), ("yes", SECURE)])
def test_the_files_are_this_hosts_own(places: list[str], secure: str, loader: str) -> None:
    os_ = ET.fromstring(explicit(own(secure), offered(loader), "it", places)).find("os")
    assert os_ is not None and os_.attrib == {}
    assert [(each.tag, each.text, each.attrib) for each in os_] == [
        ("type", "hvm", {}),
        (
            "loader",
            loader,
            {"readonly": "yes", "type": "pflash", **({"secure": "yes"} if secure == "yes" else {})},
        ),
        ("nvram", "/d/V.fd", {"template": f"{loader}.vars"}),
    ]


@pytest.mark.parametrize(
    ("secure", "loader"),
    [
        ("no", SECURE),
        ("yes", PLAIN),
        ("no", "/f/CODE.secboot.fd"),
        ("no", "/f/memory.fd"),
        ("no", "/etc/shadow"),
        ("no", ""),
    ],
)
def test_firmware_that_is_not_as_planned_is_refused(places: list[str], secure: str, loader: str) -> None:
    with pytest.raises(Unsupported) as refused:
        explicit(own(secure), offered(loader), "it", places)
    assert f"{loader!r} of its host, and this one has {SECURE if secure == 'yes' else PLAIN}" in refused.value.found
    assert "move: cold" in refused.value.remedy


def test_an_administrator_takes_firmware_away(places: list[str]) -> None:
    Path(places[1], "60.json").write_text("", encoding="utf-8")
    with pytest.raises(Unsupported, match="this one has none"):
        explicit(own(), offered(PLAIN), "it", places)


@pytest.mark.parametrize("text", ["<domain/>", "<domain><os><loader>/x</loader></os></domain>"])
def test_what_names_its_files_itself_stays_so(text: str) -> None:
    assert explicit(text, offered(PLAIN), "it", ()) == text
