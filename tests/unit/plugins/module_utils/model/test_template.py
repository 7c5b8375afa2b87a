# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates as data, and what YAML makes of them."""

from __future__ import annotations

import pytest
import yaml

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.template import StoredTemplate, Template


def from_yaml(text: str) -> Template:
    return Template.from_mapping(yaml.safe_load(text), "template web")


WEB = from_yaml("""
NAME: web
cpu: 0.5
memory: 128
disk:
  - {image: debian, target: vda}
  - {type: swap, size: 512}
nic: {network: Public}
context: {network: true, hostname: $NAME}
note: [one, two]
""")


def test_yaml_has_the_meaning_of_the_text() -> None:
    assert WEB.attributes == (
        ("NAME", "web"),
        ("CPU", "0.5"),
        ("MEMORY", "128"),
        ("DISK", (("IMAGE", "debian"), ("TARGET", "vda"))),
        ("DISK", (("TYPE", "swap"), ("SIZE", "512"))),
        ("NIC", (("NETWORK", "Public"),)),
        ("CONTEXT", (("NETWORK", "YES"), ("HOSTNAME", "$NAME"))),
        ("NOTE", "one"),
        ("NOTE", "two"),
    )


def test_lookups() -> None:
    assert (WEB.get("cpu"), WEB.get("disk"), WEB.get("x", "y"), WEB.get("note")) == ("0.5", "", "y", "one")
    assert [disk.get("TARGET", "") for disk in WEB.vectors("disk")] == ["vda", ""]
    assert WEB.vector("nothing") == {}
    assert WEB.singles() == {"NAME": "web", "CPU": "0.5", "MEMORY": "128", "NOTE": "one"}
    assert WEB.has("nic") and not WEB.has("nics")
    assert WEB.names() == ["NAME", "CPU", "MEMORY", "DISK", "NIC", "CONTEXT", "NOTE"]


def test_equal_content_is_equal() -> None:
    apart = Template((("DISK", (("A", "1"),)), ("CPU", "1"), ("DISK", (("A", "2"), ("A", "3")))))
    together = Template((("DISK", (("A", "1"),)), ("DISK", (("A", "2"),)), ("CPU", "1")))
    assert apart == together
    assert hash(apart) == hash(together)
    assert apart != together.merged(Template.from_mapping({"CPU": "2"}))


def test_with_and_without() -> None:
    assert WEB.merged(Template.from_mapping({"note": "x"})).to_mapping()["NOTE"] == "x"
    assert WEB.merged(Template.from_mapping({"vcpu": "2"})).names()[-1] == "VCPU"
    assert WEB.with_vector("disk", {"image": "a"}).vectors("DISK") == [{"IMAGE": "a"}]
    assert WEB.with_vectors("disk", []).has("DISK") is False
    assert WEB.without("disk", "CONTEXT").names() == ["NAME", "CPU", "MEMORY", "NIC", "NOTE"]
    assert WEB.merged(Template.from_mapping({"cpu": "2"})).names() == WEB.names()


def test_merging_replaces_names_and_joins_contexts() -> None:
    merged = WEB.merged(from_yaml("{disk: {image: other}, memory: 256, context: {hostname: h, x: 1}, new: {}}"))
    assert merged.vectors("DISK") == [{"IMAGE": "other"}]
    assert merged.get("MEMORY") == "256"
    assert merged.vector("CONTEXT") == {"NETWORK": "YES", "HOSTNAME": "h", "X": "1"}
    assert merged.vectors("NEW") == [{}]
    assert merged.get("CPU") == "0.5"
    assert WEB.merged(Template()) == WEB
    assert Template().merged(WEB) == WEB


def test_an_empty_context_is_a_context() -> None:
    assert Template().merge_context({}).vectors("CONTEXT") == [{}]


def test_catalog_form_is_json_and_lossless() -> None:
    assert WEB.to_attributes()[3] == ["DISK", [["IMAGE", "debian"], ["TARGET", "vda"]]]
    assert Template.from_attributes(WEB.to_attributes()) == WEB
    assert Template.from_mapping(WEB.to_mapping()) == WEB
    assert yaml.safe_load(yaml.safe_dump(WEB.to_mapping())) == WEB.to_mapping()


def test_stored_template_shows_no_content() -> None:
    stored = StoredTemplate(0, "web", from_yaml("{graphics: {passwd: hunter2}}"))
    assert "hunter2" not in repr(stored)


# What a user writes in YAML, and the value meant.
TAKEN_BACK = {
    "nic: {mac: 52:54:00:12:34:56}": ("NIC", "MAC", "52:54:00:12:34:56"),
    "nic: {mac: 12:00:00:00:00:00}": ("NIC", "MAC", "12:00:00:00:00:00"),
    "nic: {mac: 02:00:0a:00:00:01}": ("NIC", "MAC", "02:00:0a:00:00:01"),
    "context: {eth0_mac: 52:54:00:12:34:56}": ("CONTEXT", "ETH0_MAC", "52:54:00:12:34:56"),
    "context: {mode: 0755}": ("CONTEXT", "MODE", "0755"),
    "context: {mode: 755}": ("CONTEXT", "MODE", "755"),
    "context: {mode: 0600}": ("CONTEXT", "MODE", "0600"),
    "context: {network: YES}": ("CONTEXT", "NETWORK", "YES"),
    "features: {acpi: no}": ("FEATURES", "ACPI", "NO"),
    "graphics: {keymap: no}": ("GRAPHICS", "KEYMAP", "no"),
    "graphics: {keymap: de}": ("GRAPHICS", "KEYMAP", "de"),
    "graphics: {port: 5901}": ("GRAPHICS", "PORT", "5901"),
    "context: {day: 2026-11-20}": ("CONTEXT", "DAY", "2026-11-20"),
    "context: {empty: }": ("CONTEXT", "EMPTY", ""),
    "os: {boot: [disk0, nic0]}": ("OS", "BOOT", "disk0,nic0"),
    "context: {version: '1.10'}": ("CONTEXT", "VERSION", "1.10"),
}


@pytest.mark.parametrize("text", TAKEN_BACK)
def test_what_yaml_misread_is_taken_back(text: str) -> None:
    name, key, value = TAKEN_BACK[text]
    assert from_yaml(text).vector(name)[key] == value


@pytest.mark.parametrize(
    ("text", "value"), [("cpu: 0.5", "0.5"), ("cpu: 1.0", "1"), ("cpu: 2", "2"), ("cpu: .25", "0.25")]
)
def test_fractions_of_processors(text: str, value: str) -> None:
    assert from_yaml(text).get("CPU") == value


REFUSED = {
    "context: {version: 1.10}": ("CONTEXT/VERSION", "a number", "quotes"),
    "version: 1.10": ("VERSION", "1.10 and 1.1", "quotes"),
    "memory: 1.5": ("MEMORY = 1.5", "not a whole number", "Give"),
    "cpu: .nan": ("CPU", "nan", "quotes"),
    "nic: {mac: 1234}": ("NIC/MAC", "1234", '"02:00'),
    "nic: {ip: 20}": ("NIC/IP", "number", "quotes"),
    "nic: {ip6: 20:01:10:20}": ("NIC/IP6", "number", "quotes"),
    "context: {mode: 0644}": ("CONTEXT/MODE", "a number", "quotes"),
    "context: {mode: 9999}": ("CONTEXT/MODE", "a number", "quotes"),
    "graphics: {passwd: 0123}": ("GRAPHICS/PASSWD", "a number", "quotes"),
    "context: {root_password: yes}": ("CONTEXT/ROOT_PASSWORD", "a boolean", "quotes"),
    "context: {at: 2026-11-20 10:00:00}": ("CONTEXT/AT", "a time", "quotes"),
    "context: {a: {b: c}}": ("CONTEXT/A", "nested", "one string"),
    "context: {files: [a, b]}": ("CONTEXT/FILES", "a list", "one string"),
    "disk: [[a]]": ("DISK", "a list", "one string"),
    "my-attr: 1": ("'my-attr'", "letters, digits", "MY_ATTR"),
    "ä: 1": ("'ä'", "letters, digits", ""),
    "'': 1": ("''", "letters, digits", "Rename"),
    "context: {a b: 1}": ("'a b'", "letters, digits", "A_B"),
    "{cpu: 1, CPU: 2}": ("CPU", "twice", "a list"),
    "context: {a: 1, A: 2}": ("CONTEXT/A", "twice", "drop one"),
    "yes: 1": ("True", "a boolean", "quotes"),
    "context: {no: 1}": ("False", "a boolean", "quotes"),
    '{a: "x\\0y"}': ("A", "NUL", "base64"),
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_yaml_misread_beyond_repair_is_refused(text: str) -> None:
    asked, found, remedy = REFUSED[text]
    with pytest.raises(InvalidValue) as caught:
        from_yaml(text)
    error = caught.value
    assert error.asked.startswith("template web")
    assert asked in error.asked and found in error.found and remedy in error.remedy


@pytest.mark.parametrize("given", [None, [], "CPU = 1", 3])
def test_only_dicts_are_mappings(given: object) -> None:
    with pytest.raises(InvalidValue, match="template web"):
        Template.from_mapping(given, "template web")  # type: ignore[arg-type]


def test_a_secret_is_not_shown_when_it_is_refused() -> None:
    with pytest.raises(InvalidValue) as caught:
        from_yaml("graphics: {passwd: 8675309}")
    assert "8675309" not in str(caught.value)


def test_strings_of_a_subclass_become_plain() -> None:
    class Marked(str):
        __slots__ = ()

    template = Template.from_mapping({"A": Marked("x"), "B": {"C": Marked("y")}})
    assert {type(template.get("A")), type(template.vector("B")["C"])} == {str}


def test_names_get_opennebulas_prefix() -> None:
    assert from_yaml("{1st: a, xml_x: b, context: {1st: c}}").to_mapping() == {
        "ONE_1ST": "a",
        "ONE_XML_X": "b",
        "CONTEXT": {"1ST": "c"},
    }
