# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What guests make of these documents is in tests/integration/test_cloud_init.py."""

from __future__ import annotations

import base64
import email
import json
import subprocess
import uuid

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.context import formats
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.context import FORMATS
from ansible_collections.nebula.provision.plugins.module_utils.text import context_sh

MAC = "02:00:0a:42:00:0a"
NIC = {"ETH0_MAC": MAC, "ETH0_IP": "10.66.0.10"}
KEYS = "ssh-ed25519 AAAA one\n# a comment\n\n  ssh-rsa BBBB two  \n"


def b64(text):
    return base64.b64encode(text.encode()).decode()


def made(format, variables, identity="", files=()):
    return formats.documents(format, variables, identity, files)[1]


def nocloud(variables, **more):
    """meta-data, network-config and user-data."""
    found = made("nocloud", variables, **more)
    network = yaml.safe_load(found["network-config"]) if "network-config" in found else None
    return yaml.safe_load(found["meta-data"]), network, found["user-data"]


def drive(variables, **more):
    found = made("configdrive", variables, **more)
    network = found.get("openstack/latest/network_data.json")
    return (
        json.loads(found["openstack/latest/meta_data.json"]),
        json.loads(network) if network else None,
        found["openstack/latest/user_data"],
    )


def ethernet(variables):
    return nocloud({"ETH0_MAC": MAC, **variables})[1]["ethernets"]["eth0"]


def config(variables):
    text = nocloud(variables)[2]
    assert text.startswith(b"#cloud-config\n")
    return yaml.safe_load(text)


def parts(variables, **more):
    message = email.message_from_bytes(nocloud(variables, **more)[2])
    return [
        (part.get_content_type(), part.get_filename(), part.get_payload(decode=True))
        for part in message.walk()
        if not part.is_multipart()
    ]


# -- all --------------------------------------------------------------------------------------------------------------
def test_labels_and_paths():
    variables = {**NIC, "SET_HOSTNAME": "web"}
    text = context_sh.render(variables).encode()
    for format, label, paths in (
        ("opennebula", "CONTEXT", []),
        ("configdrive", "config-2", [f"openstack/latest/{n}" for n in ("meta_data.json", "network_data.json",
                                                                      "user_data")]),
        ("nocloud", "cidata", ["meta-data", "network-config", "user-data"]),
    ):  # fmt: skip
        found = formats.documents(format, variables)
        assert found[0] == label
        assert list(found[1]) == ["context.sh", *paths]
        assert found[1]["context.sh"] == text
        assert formats.of_label(label) == format
    assert formats.of_label("CDROM") == ""


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


def test_hostname():
    assert config({"SET_HOSTNAME": "web", "HOSTNAME": "other"}) == {"hostname": "web"}
    assert config({"SET_HOSTNAME": "", "HOSTNAME": "other"}) == {"hostname": "other"}
    assert config({"HOSTNAME": "web.example.org"}) == {"hostname": "web", "fqdn": "web.example.org"}
    assert nocloud({"HOSTNAME": "web.example.org"})[0]["local-hostname"] == "web.example.org"
    meta = drive({"HOSTNAME": "web.example.org"})[0]
    assert (meta["hostname"], meta["name"]) == ("web.example.org", "web")


# -- users ------------------------------------------------------------------------------------------------------------
def test_keys():
    keys = ["ssh-ed25519 AAAA one", "ssh-rsa BBBB two"]
    assert config({"SSH_PUBLIC_KEY": KEYS}) == {"ssh_authorized_keys": keys}
    assert nocloud({"SSH_PUBLIC_KEY": KEYS})[0]["public-keys"] == keys
    assert drive({"SSH_PUBLIC_KEY": KEYS})[0]["public_keys"] == {"key-0": keys[0], "key-1": keys[1]}


def test_a_user_of_its_own():
    assert config({"USERNAME": "admin", "SSH_PUBLIC_KEY": "ssh-rsa B"})["users"] == [
        {"name": "admin", "lock_passwd": True, "ssh_authorized_keys": ["ssh-rsa B"], "sudo": "ALL=(ALL) NOPASSWD:ALL"}
    ]
    root = config({"USERNAME": "root", "PASSWORD": "p"})
    assert root["disable_root"] is False
    assert root["users"] == [{"name": "root", "lock_passwd": False, "plain_text_passwd": "p"}]
    assert drive({"USERNAME": "admin"})[0]["meta"] == {"admin_username": "admin"}


@pytest.mark.parametrize(
    ("variables", "password"),
    [
        ({"PASSWORD": "plain"}, "plain"),
        ({"PASSWORD": "plain", "PASSWORD_BASE64": b64("it's: ü")}, "it's: ü"),
        ({"PASSWORD": "plain", "CRYPTED_PASSWORD": "$6$a$b"}, "$6$a$b"),
        ({"CRYPTED_PASSWORD": "$6$a$b", "CRYPTED_PASSWORD_BASE64": b64("$6$c$d")}, "$6$c$d"),
    ],
)
def test_password(variables, password):
    assert config(variables) == {"password": password, "chpasswd": {"expire": False}}
    user = config({**variables, "USERNAME": "u"})["users"][0]
    assert user["hashed_passwd" if "CRYPTED_PASSWORD" in variables else "plain_text_passwd"] == password
    assert user["lock_passwd"] is False
    # cloudbase-init wants it as it is, or not at all.
    plain = "it's: ü" if "PASSWORD_BASE64" in variables else variables.get("PASSWORD")
    assert drive(variables)[0].get("admin_pass") == plain


def test_what_every_user_of_the_guest_may_read():
    secrets = ("API_TOKEN", "DB_PASSWORD", "TLS_KEY", "START_SCRIPT", "USER_DATA", "CRYPTED_PASSWORD")
    variables = {**NIC, **dict.fromkeys(secrets, "s3cret"), "ROLE": "db", "TARGET": "hda"}
    assert drive(variables)[0]["meta"] == {"ROLE": "db"}


# -- user data --------------------------------------------------------------------------------------------------------
def test_a_single_thing_stays_as_it_is():
    assert nocloud({"START_SCRIPT": "#!/bin/bash\nid\n"})[2] == b"#!/bin/bash\nid\n"
    assert nocloud({"START_SCRIPT": "id"})[2] == b"#!/bin/sh\nid"
    assert nocloud({"USER_DATA": "#include\nhttp://x/"})[2] == b"#include\nhttp://x/"


def test_scripts():
    script = "#!/bin/sh\necho ünï\n"
    variables = {"SET_HOSTNAME": "a", "START_SCRIPT": "lost", "START_SCRIPT_BASE64": b64(script)}
    assert parts(variables)[1:] == [("text/x-shellscript", "20-start-script.sh", script.encode())]
    for windows, end in (("#ps1_sysnative\nGet-Date", "ps1"), ("#PS1\nGet-Date", "ps1"), ("rem cmd\ndir", "cmd")):
        (part,) = parts({"SET_HOSTNAME": "a", "START_SCRIPT": windows})[1:]
        assert part == ("text/x-shellscript", f"20-start-script.{end}", windows.encode())


@pytest.mark.parametrize(
    ("begins", "type"),
    [
        ("#cloud-config\n", "text/cloud-config"),
        ("#cloud-config-archive\n", "text/cloud-config-archive"),
        ("#include\n", "text/x-include-url"),
        ("#include-once\n", "text/x-include-once-url"),
        ("#cloud-boothook\n", "text/cloud-boothook"),
        ("## template: jinja\n#cloud-config\n", "text/jinja2"),
        ("#!/bin/sh\n", "text/x-shellscript"),
        ("no such thing\n", "text/plain"),
    ],
)
@pytest.mark.parametrize("name", ["USER_DATA", "USERDATA"])
@pytest.mark.parametrize("encoding", ["", "USER_DATA_ENCODING", "USERDATA_ENCODING"])
def test_user_data_of_the_users_own(begins, type, name, encoding):
    text = f"{begins}{'long ' * 300}\nü"
    variables = {
        "SET_HOSTNAME": "a",
        name: b64(text) if encoding else text,
        **({encoding: "base64"} if encoding else {}),
    }
    (part,) = parts(variables)[1:]
    assert (part[0], part[2]) == (type, text.encode())


def test_a_message_of_several_parts_is_taken_in():
    inner = (
        'Content-Type: multipart/mixed; boundary="b"\nMIME-Version: 1.0\n\n--b\nContent-Type: text/x-shellscript\n\n'
        "#!/bin/sh\n\n--b\nContent-Type: text/cloud-config\n\n#cloud-config\n\n--b--\n"
    )
    found = parts({"SET_HOSTNAME": "a", "USER_DATA": inner, "START_SCRIPT": "id"})
    assert [part[0] for part in found] == [
        "text/cloud-config", "text/x-shellscript", "text/cloud-config", "text/x-shellscript"
    ]  # fmt: skip


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_script_arrives(text):
    found = parts({"SET_HOSTNAME": "a", "START_SCRIPT": "#!" + text})
    assert found[1][2].rstrip(b"\n") == b"#!" + text.encode().rstrip(b"\n")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_the_same_in_yaml(text):
    assert yaml.safe_load(formats.yaml({"a": [text], "b": {text[:50]: 1}})) == {"a": [text], "b": {text[:50]: 1}}


def test_the_same_again():
    variables = {**NIC, "SET_HOSTNAME": "a", "START_SCRIPT": "id", "USER_DATA": "#!/bin/sh", "SSH_PUBLIC_KEY": KEYS}
    for format in formats.FORMATS:
        assert formats.documents(format, variables) == formats.documents(format, dict(reversed(variables.items())))


def test_init_scripts(tmp_path):
    assert "30-init-scripts" not in nocloud({})[2].decode()
    assert b"for script in init.sh; do" in nocloud({}, files=["init.sh"])[2]
    script = drive({"INIT_SCRIPTS": "a.sh not.there b;c.sh init.sh"}, files=["a.sh", "b;c.sh", "init.sh"])[2]
    assert b"for script in a.sh 'b;c.sh' init.sh; do" in script
    assert b"LABEL=config-2" in script
    (tmp_path / "script").write_bytes(script)
    subprocess.run(["dash", "-n", str(tmp_path / "script")], check=True)


# -- network ----------------------------------------------------------------------------------------------------------
def test_an_address_and_a_gateway():
    variables = {**NIC, "ETH0_GATEWAY": "10.66.0.1", "ETH0_METRIC": "50", "ETH0_MTU": "1400"}
    variables.update(ETH0_DNS="10.66.0.1 10.66.0.2", ETH0_SEARCH_DOMAIN="a.org b.org", ETH0_MASK="255.255.0.0")
    assert nocloud(variables)[1] == {
        "version": 2,
        "ethernets": {
            "eth0": {
                "match": {"macaddress": MAC},
                "mtu": 1400,
                "addresses": ["10.66.0.10/16"],
                "routes": [{"to": "0.0.0.0/0", "via": "10.66.0.1", "metric": 50}],
                "nameservers": {"addresses": ["10.66.0.1", "10.66.0.2"], "search": ["a.org", "b.org"]},
            }
        },
    }
    assert drive(variables)[1] == {
        "links": [{"id": "eth0", "type": "phy", "ethernet_mac_address": MAC, "mtu": 1400}],
        "networks": [
            {
                "id": "network0",
                "link": "eth0",
                "type": "ipv4",
                "ip_address": "10.66.0.10",
                "netmask": "255.255.0.0",
                "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.66.0.1", "metric": 50}],
                "dns_search": ["a.org", "b.org"],
            }
        ],
        "services": [{"type": "dns", "address": "10.66.0.1"}, {"type": "dns", "address": "10.66.0.2"}],
    }


def test_defaults():
    assert ethernet({"ETH0_IP": "10.0.0.5", "ETH0_MASK": ""})["addresses"] == ["10.0.0.5/24"]
    assert ethernet({"ETH0_IP6": "2001:db8::5"})["addresses"] == ["2001:db8::5/64"]


def test_ip6():
    variables = {"ETH0_IP6": "2001:DB8::5/48", "ETH0_IP6_ULA": "fd00::5", "ETH0_IP6_PREFIX_LENGTH": "56",
                 "ETH0_IP6_GATEWAY": "fe80::1", "ETH0_IP6_METRIC": "7"}  # fmt: skip
    found = ethernet(variables)
    assert found["addresses"] == ["2001:db8::5/48", "fd00::5/56"]
    # No metric, which NetworkManager's part of cloud-init 24.4 and later can't take.
    assert found["gateway6"] == "fe80::1"
    assert "routes" not in found
    networks = drive({"ETH0_MAC": MAC, **variables})[1]["networks"]
    assert [(n["type"], n["ip_address"], n["netmask"]) for n in networks] == [
        ("ipv6", "2001:db8::5", "ffff:ffff:ffff::"), ("ipv6", "fd00::5", "ffff:ffff:ffff:ff00::")
    ]  # fmt: skip
    assert networks[0]["routes"] == [{"network": "::", "netmask": "::", "gateway": "fe80::1", "metric": 7}]


@pytest.mark.parametrize(
    ("variables", "entry", "types"),
    [
        ({"ETH0_METHOD": "dhcp", "ETH0_METRIC": "5", "ETH0_IP6_METHOD": "skip"},
         {"dhcp4": True, "dhcp4-overrides": {"route-metric": 5}}, ["ipv4_dhcp"]),
        ({"ETH0_METHOD": "dhcp"}, {"dhcp4": True, "dhcp6": True, "accept-ra": True},
         ["ipv4_dhcp", "ipv6_dhcpv6-stateful"]),
        ({"ETH0_IP6_METHOD": "dhcp"}, {"dhcp6": True, "accept-ra": True}, ["ipv6_dhcpv6-stateful"]),
        ({"ETH0_IP6_METHOD": "auto"}, {"accept-ra": True}, ["ipv6_slaac"]),
        ({"ETH0_METHOD": "DHCP", "ETH0_IP6_METHOD": "disable"}, {"dhcp4": True, "accept-ra": False}, ["ipv4_dhcp"]),
        ({"ETH0_METHOD": "dhcp", "ETH0_IP": "10.0.0.5", "ETH0_IP6_METHOD": "static"}, {"dhcp4": True}, ["ipv4_dhcp"]),
        ({"ETH0_METHOD": "skip", "ETH0_IP6_METHOD": "static", "ETH0_IP": "10.0.0.5", "ETH0_IP6": "2001:db8::5"},
         {"addresses": ["2001:db8::5/64"]}, ["ipv6"]),
        ({"ETH0_IP6_METHOD": "skip", "ETH0_IP": "10.0.0.5", "ETH0_IP6": "2001:db8::5"},
         {"addresses": ["10.0.0.5/24"]}, ["ipv4"]),
    ],
)  # fmt: skip
def test_methods(variables, entry, types):
    assert ethernet(variables) == {"match": {"macaddress": MAC}, **entry}
    assert [network["type"] for network in drive({"ETH0_MAC": MAC, **variables})[1]["networks"]] == types


def test_nics_that_are_not_to_be_touched():
    """Not even by the DHCP that a guest does where it is told nothing of its network."""
    variables = {"ETH0_MAC": MAC, "ETH0_IP": "10.0.0.5", "ETH0_METHOD": "skip", "ETH0_MTU": "1400"}
    variables["ETH0_IP6"] = "2001:db8::5"
    assert nocloud(variables)[1] == {"version": 2, "ethernets": {}}
    assert drive(variables)[1] == {"links": [], "networks": [], "services": []}


def test_default_routes_of_both_families():
    variables = {**NIC, "ETH0_GATEWAY": "10.66.0.1", "ETH0_IP6": "2001:db8::5", "ETH0_IP6_GATEWAY": "2001:db8::1"}
    found = ethernet(variables)
    assert (found["gateway4"], found["gateway6"]) == ("10.66.0.1", "2001:db8::1")
    assert "routes" not in found
    found = ethernet({**variables, "ETH0_METRIC": "5"})
    assert found["routes"] == [{"to": "0.0.0.0/0", "via": "10.66.0.1", "metric": 5}]
    assert found["gateway6"] == "2001:db8::1"


def test_ip6_goes_by_what_is_said_of_ip4():
    variables = {**NIC, "ETH0_METRIC": "5", "ETH0_IP6": "2001:db8::5", "ETH0_IP6_GATEWAY": "2001:db8::1"}
    assert drive(variables)[1]["networks"][1]["routes"][0]["metric"] == 5
    assert drive({**variables, "ETH0_IP6_METRIC": "7"})[1]["networks"][1]["routes"][0]["metric"] == 7


@pytest.mark.parametrize("mac", ["02:00:0A:42:00:0A", " 02-00-0a-42-00-0A "])
@pytest.mark.parametrize("format", list(formats.FORMATS))
def test_mac_addresses_are_written_as_guests_compare_them(format, mac):
    _label, found = formats.documents(format, {**NIC, "ETH0_MAC": mac, "ETH0_ALIAS0_MAC": mac, "MAC": mac})
    text = found["context.sh"].decode()
    assert f"ETH0_MAC='{MAC}'" in text
    assert f"ETH0_ALIAS0_MAC='{MAC}'" in text
    assert f"\nMAC='{mac}'" in text


@pytest.mark.parametrize(("given", "sudo"), [("NO", False), ("no", False), ("YES", True), ("", True)])
def test_sudo(given, sudo):
    for made in (nocloud, drive):
        config = made({"USERNAME": "admin", "USERNAME_SUDO": given})[2].decode()
        assert ("NOPASSWD" in config) == sudo


def test_aliases_and_routes():
    found = ethernet({
        "ETH0_IP": "10.0.0.5", "ETH0_ALIAS1_IP": "10.1.0.5", "ETH0_ALIAS1_MASK": "255.255.0.0",
        "ETH0_ALIAS0_IP6": "2001:db8::5", "ETH0_ALIAS0_IP6_PREFIX_LENGTH": "48", "ETH1_ALIAS0_IP": "",
        "ETH0_ALIAS2_IP": "10.2.0.5", "ETH0_ALIAS2_EXTERNAL": "YES",
        "ETH0_ROUTES": "10.3.0.0/16 via 10.0.0.1, 2001:db8:1::/48 via 2001:db8::1,", "ETH0_GATEWAY": "192.0.2.1",
    })  # fmt: skip
    assert found["addresses"] == ["10.0.0.5/24", "2001:db8::5/48", "10.1.0.5/16"]
    assert found["routes"] == [
        {"to": "0.0.0.0/0", "via": "192.0.2.1", "on-link": True},
        {"to": "10.3.0.0/16", "via": "10.0.0.1"},
        {"to": "2001:db8:1::/48", "via": "2001:db8::1"},
    ]


def test_routes_of_each_family_are_with_their_own():
    variables = {**NIC, "ETH0_IP6": "2001:db8::5", "ETH0_ROUTES": "2001:db8:1::/48 via 2001:db8::1"}
    first, second = drive(variables)[1]["networks"]
    assert "routes" not in first
    assert second["routes"][0]["netmask"] == "ffff:ffff:ffff::"


def test_several_nics_in_their_order_and_names_for_all():
    variables = {f"ETH{n}_{name}": value for n in (10, 2) for name, value in (("MAC", f"02:00:00:00:00:{n:02}"),
                                                                               ("IP", f"10.0.{n}.5"))}  # fmt: skip
    variables.update(DNS="10.0.0.1", SEARCH_DOMAIN="example.org", ETH2_DNS="10.0.2.1 10.0.0.1")
    found = nocloud(variables)[1]["ethernets"]
    assert list(found) == ["eth2", "eth10"]
    assert found["eth2"]["nameservers"] == {"addresses": ["10.0.2.1", "10.0.0.1"], "search": ["example.org"]}
    assert "nameservers" not in found["eth10"]
    assert [n["id"] for n in drive(variables)[1]["networks"]] == ["network0", "network1"]


# -- what can't be meant ----------------------------------------------------------------------------------------------
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
        formats.documents(format, variables)
    assert value not in str(raised.value)
    assert formats.documents("opennebula", variables)


def test_an_address_without_a_nic_to_find():
    with pytest.raises(InvalidValue, match="ETH1_MAC"):
        nocloud({"ETH1_IP": "10.0.0.5"})
    # What gives no address needs none.
    assert nocloud({"ETH1_DNS": "10.0.0.5"})[1] is None


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
    assert tuple(formats.FORMATS) == FORMATS
    assert FORMATS[0] == formats.DEFAULT
