# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a template stands in a backup's manifest, and what is named there and left out."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.context.variables import NETWORK_VARIABLES
from ansible_collections.nebula.provision.plugins.module_utils.model.restored_template import _SINGLES, _VECTORS
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.model.template_secrets import is_name, join, part

WEB = Template.from_mapping(
    {
        "NAME": "web",
        "MEMORY": "512",
        "ADMIN": "hidden 1",
        "LABELS": "shop",
        "DISK": [{"IMAGE": "debian", "LUKS_SECRET": "hidden 2"}, {"TYPE": "fs", "SIZE": "64"}],
        "GRAPHICS": {"TYPE": "vnc", "PASSWD": "hidden 3"},
        "INJECT": [
            {"PATH": "/etc/a", "CONTENT": "hidden 4"},
            {"PATH": "/etc/b", "SRC": "https://me:hidden5@one.example.org/b"},
            {"PATH": "/etc/c", "SRC": "/srv/c"},
        ],
        "RAW": {"TYPE": "kvm", "DATA": "<hidden6/>"},
        "CONTEXT": {
            "NETWORK": "YES",
            "ETH0_IP": "10.0.0.1",
            "SSH_PUBLIC_KEY": "ssh-ed25519 AAAA me",
            "PASSWORD": "$ADMIN",
            "START_SCRIPT": "echo hidden 7",
            "NOT_KNOWN": "hidden 8",
            "EMPTY_PASSWORD": "",
        },
    }
)


def test_only_what_is_known_to_be_no_secret_is_plain() -> None:
    plain, secrets = part(WEB)
    assert secrets == {
        "ADMIN": "hidden 1",
        "DISK 0/LUKS_SECRET": "hidden 2",
        "GRAPHICS/PASSWD": "hidden 3",
        "INJECT 0/CONTENT": "hidden 4",
        "INJECT 1/SRC": "https://me:hidden5@one.example.org/b",
        "RAW/DATA": "<hidden6/>",
        "CONTEXT/PASSWORD": "$ADMIN",
        "CONTEXT/START_SCRIPT": "echo hidden 7",
        "CONTEXT/NOT_KNOWN": "hidden 8",
    }
    assert "hidden" not in json.dumps(plain.to_mapping())
    assert plain.vector("CONTEXT") == {
        "NETWORK": "YES",
        "ETH0_IP": "10.0.0.1",
        "SSH_PUBLIC_KEY": "ssh-ed25519 AAAA me",
        "EMPTY_PASSWORD": "",
    }
    assert (plain.get("LABELS"), plain.get("ADMIN"), plain.vectors("INJECT")[2]["SRC"]) == ("shop", "", "/srv/c")


def test_what_every_machine_has_is_no_secret_for_being_named_by_one() -> None:
    template = Template.from_mapping({"NAME": "web", "MINE": {"A": "hidden"}, "CONTEXT": {"PASSWORD": "$NAME$MINE[A]"}})
    plain, secrets = part(template)
    assert secrets == {"MINE/A": "hidden", "CONTEXT/PASSWORD": "$NAME$MINE[A]"}
    assert plain.get("NAME") == "web"


def test_a_secret_that_is_named_by_another_one_by_way_of_a_third() -> None:
    template = Template.from_mapping({"ONE": "$TWO", "TWO": "hidden", "CONTEXT": {"PASSWORD": "$ONE"}})
    assert set(part(template)[1]) == {"ONE", "TWO", "CONTEXT/PASSWORD"}


# fmt: off
USUAL = (
    "APIKEY", "SSHKEY", "KEY", "ADMIN_PW", "PASS", "PIN", "AUTH", "PSK", "PASSWORDS", "ROOTPW", "TOKEN_VALUE",
    "PASSWORD_HASH", "CREDENTIAL", "MINE",
)
# fmt: on


@pytest.mark.parametrize("name", USUAL)
def test_what_a_user_calls_as_he_likes_may_be_a_secret(name: str) -> None:
    names = ("NIC", "NIC_DEFAULT", "DISK", f"{name}_OF")
    vectors = {vector: {name: "hidden", "MODEL": "virtio"} for vector in names}
    variables = {f"ETH0_{name}": "hidden", f"PCI0_{name}": "hidden", f"ETH1_ALIAS0_{name}": "hidden"}
    template = Template.from_mapping({"CPU": "1", name: "hidden", **vectors, "CONTEXT": variables})
    plain, secrets = part(template)
    assert "hidden" not in json.dumps(plain.to_mapping())
    assert plain.vector("NIC") == plain.vector("NIC_DEFAULT") == {"MODEL": "virtio"} and plain.get("CPU") == "1"
    assert {name, f"NIC/{name}", f"CONTEXT/ETH0_{name}"} <= {*secrets}


def test_what_networks_give_a_context_is_no_secret() -> None:
    given = {f"{nic}_{name}": "1" for nic in ("ETH0", "ETH10_ALIAS2", "PCI1") for name, _of in NETWORK_VARIABLES}
    template = Template.from_mapping({"CONTEXT": given})
    assert part(template) == (template, {})


def test_what_a_new_machine_has_by_itself_is_plain() -> None:
    known = {vector: dict.fromkeys(keys - {"PASSWD", "RANDOM_PASSWD"}, "1") for vector, keys in _VECTORS.items()}
    singles = dict.fromkeys(_SINGLES, "1")
    assert part(Template.from_mapping({**singles, **known, "RESTORED_FROM": "x"}))[1] == {}


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("CONTEXT/PASSWORD", True), ("INJECT 1/CONTENT", True), ("A", True), ("../A", False), ("", False)],
)
def test_names(name: str, is_one: bool) -> None:
    assert is_name(name) is is_one


NAMES = st.sampled_from((
    "NAME", "MEMORY", "NOTE", "MY_SECRET", "CONTEXT", "DISK", "INJECT", "RAW", "GRAPHICS", "NIC", "API_KEY", "CEPH_KEY",
))  # fmt: skip
KEYS = st.sampled_from((
    "PASSWORD", "ROOT_PASSWORD", "PASSWD", "CONTENT", "PATH", "DATA", "TYPE", "TOKEN", "CRYPTED_PASSWORD_BASE64", "SRC",
    "SSH_PUBLIC_KEY", "LUKS_SECRET", "UNKNOWN", "ETH0_IP", "START_SCRIPT_BASE64", "USER_DATA", "ONEGATE_TOKEN",
))  # fmt: skip
SECRET_NAMES = ("PASSWORD", "PASSWD", "TOKEN", "SECRET", "_KEY", "_BASE64")


@st.composite
def templates(draw: st.DrawFn) -> Template:
    """A template in which each value is there once, and says where it is."""
    attributes = []
    for number, name in enumerate(draw(st.lists(NAMES, max_size=8))):
        if draw(st.booleans()) and name not in ("CONTEXT", "DISK", "INJECT"):
            attributes.append((name, f"<{number} {name}>"))
        else:
            keys = draw(st.lists(KEYS, unique=True, max_size=5))
            attributes.append((name, tuple((key, f"<{number} {name}/{key}>") for key in keys)))
    return Template(tuple(attributes))


def secret_values(template: Template) -> list[str]:
    found = []
    for name, value in template.attributes:
        if isinstance(value, str):
            found += [value] if name in ("MY_SECRET", "API_KEY", "CEPH_KEY", "NOTE") else []
            continue
        for key, text in value:
            by_name = key.endswith(SECRET_NAMES) and key != "SSH_PUBLIC_KEY"
            by_place = (name == "CONTEXT" and key in ("UNKNOWN", "USER_DATA", "DATA", "CONTENT")) or (
                (name, key) in (("INJECT", "CONTENT"), ("RAW", "DATA")) or key == "UNKNOWN" or name == "NOTE"
            )
            found += [text] if (by_name and "START_SCRIPT" not in key) or by_place else []
    return found


@given(templates())
def test_no_value_of_a_secret_is_in_the_plain_template(template: Template) -> None:
    plain, secrets = part(template)
    text = json.dumps(plain.to_mapping()) + json.dumps(sorted(secrets))
    assert [value for value in secret_values(template) if value in text] == []
    assert all(map(is_name, secrets))


@given(templates())
def test_together_they_are_the_template(template: Template) -> None:
    plain, secrets = part(template)
    read_back = Template.from_mapping(json.loads(json.dumps(plain.to_mapping())))
    joined = join(read_back, secrets)
    assert [(n, v if isinstance(v, str) else dict(v)) for n, v in joined.attributes] == [
        (n, v if isinstance(v, str) else dict(v)) for n, v in template.attributes
    ]
