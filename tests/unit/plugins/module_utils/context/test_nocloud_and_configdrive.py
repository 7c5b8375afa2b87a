# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What guests make of these documents is in tests/integration/test_cloud_init.py."""

from __future__ import annotations

import base64
import uuid

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.context import nocloud_and_configdrive
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.context import FORMATS
from ansible_collections.nebula.provision.plugins.module_utils.text import context_sh
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.context.conftest import (
    KEYS,
    MAC,
    NIC,
    drive,
    nocloud,
)


def test_labels_and_paths():
    variables = {**NIC, "SET_HOSTNAME": "web"}
    text = context_sh.render(variables).encode()
    for format, label, paths in (
        ("opennebula", "CONTEXT", []),
        ("configdrive", "config-2", [f"openstack/latest/{n}" for n in ("meta_data.json", "network_data.json",
                                                                      "user_data")]),
        ("nocloud", "cidata", ["meta-data", "network-config", "user-data"]),
    ):  # fmt: skip
        found = nocloud_and_configdrive.documents_of_iso(format, variables)
        assert found[0] == label
        assert list(found[1]) == ["context.sh", *paths]
        assert found[1]["context.sh"] == text
        assert nocloud_and_configdrive.of_label(label) == format
    assert nocloud_and_configdrive.of_label("CDROM") == ""


def test_nothing_is_enough():
    meta, network, user_data = nocloud({})
    assert (list(meta), network, yaml.safe_load(user_data)) == (["instance-id"], None, {})
    meta, network, user_data = drive({})
    assert (list(meta), network, yaml.safe_load(user_data)) == (["uuid"], None, {})


def test_identity():
    of_variables = nocloud({"A": "1"})[0]["instance-id"]
    assert str(uuid.UUID(of_variables)) == of_variables == drive({"A": "1"})[0]["uuid"]
    assert nocloud({"A": "2"})[0]["instance-id"] != of_variables
    assert nocloud({"A": "1"}, identity="mine")[0]["instance-id"] == drive({}, identity="mine")[0]["uuid"] == "mine"


def test_the_same_again():
    variables = {**NIC, "SET_HOSTNAME": "a", "START_SCRIPT": "id", "USER_DATA": "#!/bin/sh", "SSH_PUBLIC_KEY": KEYS}
    for format in nocloud_and_configdrive.FORMATS:
        assert nocloud_and_configdrive.documents_of_iso(format, variables) == nocloud_and_configdrive.documents_of_iso(
            format, dict(reversed(variables.items()))
        )


@pytest.mark.parametrize("mac", ["02:00:0A:42:00:0A", " 02-00-0a-42-00-0A "])
@pytest.mark.parametrize("format", list(nocloud_and_configdrive.FORMATS))
def test_mac_addresses_are_written_as_guests_compare_them(format, mac):
    _label, found = nocloud_and_configdrive.documents_of_iso(
        format, {**NIC, "ETH0_MAC": mac, "ETH0_ALIAS0_MAC": mac, "MAC": mac}
    )
    text = found["context.sh"].decode()
    assert f"ETH0_MAC='{MAC}'" in text
    assert f"ETH0_ALIAS0_MAC='{MAC}'" in text
    assert f"\nMAC='{mac}'" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ETH0_IP", "s3cret"),
        ("ETH0_IP", "2001:db8::5"),
        ("ETH0_IP", "010.0.0.5"),
        ("ETH0_MASK", "255.0.255.s3cret"),
        ("ETH0_MASK", "255.0.255.0"),
        ("ETH0_MASK", "0.0.0.255"),
        ("ETH0_ROUTES", "10.0.0.0/0.0.0.255 via 10.0.0.1"),
        ("ETH0_GATEWAY", "s3cret"),
        ("ETH0_DNS", "10.0.0.1 s3cret"),
        ("DNS", "s3cret"),
        ("ETH0_MAC", "s3cret"),
        ("ETH0_MTU", "-1s3cret"),
        ("ETH0_MTU", "9" * 5000),
        ("ETH0_METRIC", "s3cret"),
        ("ETH0_METHOD", "s3cret"),
        ("ETH0_IP6", "s3cret"),
        ("ETH0_IP6", "fe80::1%s3cret"),
        ("ETH0_IP6", "2001:db8::5/129"),
        ("ETH0_IP6_PREFIX_LENGTH", "s3cret"),
        ("ETH0_IP6_METHOD", "s3cret"),
        ("ETH0_IP6_GATEWAY", "10.0.0.1"),
        ("ETH0_ALIAS0_IP", "s3cret"),
        ("ETH0_ROUTES", "s3cret"),
        ("ETH0_ROUTES", "10.0.0.0/8 via s3cret"),
        ("ETH0_ROUTES", "10.0.0.0/8 via 2001:db8::1"),
        ("PASSWORD_BASE64", "s3cret!"),
        ("PASSWORD_BASE64", base64.b64encode(b"\xff\xfe").decode()),
        ("CRYPTED_PASSWORD_BASE64", "ü"),
        ("START_SCRIPT_BASE64", "s3cret!"),
    ],
)
@pytest.mark.parametrize("format", ["configdrive", "nocloud"])
def test_the_variable_is_named_and_its_value_is_not(format, name, value):
    variables = {**NIC, "ETH0_IP6": "2001:db8::6", name: value}
    with pytest.raises(InvalidValue, match=rf"variable {name}: ") as raised:
        nocloud_and_configdrive.documents_of_iso(format, variables)
    assert value not in str(raised.value)
    assert nocloud_and_configdrive.documents_of_iso("opennebula", variables)


@given(st.dictionaries(
    st.from_regex(r"(ETH[01](_ALIAS0)?_(IP|IP6|MASK|GATEWAY|ROUTES|DNS|MTU|METHOD|IP6_METHOD))|USER_DATA|USERNAME|"
                  r"PASSWORD|SSH_PUBLIC_KEY|INIT_SCRIPTS|SET_HOSTNAME", fullmatch=True),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.sampled_from(
        ["10.0.0.5", "2001:db8::5", "dhcp", "auto", "255.0.0.0", "10.0.0.0/8 via 10.0.0.1", "static"]),
))  # fmt: skip
def test_anything_is_documents_or_refused(variables):
    variables |= {"ETH0_MAC": MAC, "ETH1_MAC": MAC}
    try:
        nocloud(variables)
        drive(variables)
    except InvalidValue as error:
        assert "context variable" in str(error)


def test_the_formats_that_a_template_may_name():
    assert tuple(nocloud_and_configdrive.FORMATS) == FORMATS
    assert FORMATS[0] == nocloud_and_configdrive.DEFAULT
