# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, users and user data of a guest, as both formats have them."""

from __future__ import annotations

import subprocess

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.context import guest_settings
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.context.conftest import (
    KEYS,
    NIC,
    b64,
    config,
    drive,
    nocloud,
    parts,
)


def test_hostname():
    assert config({"SET_HOSTNAME": "web", "HOSTNAME": "other"}) == {"hostname": "web"}
    assert config({"SET_HOSTNAME": "", "HOSTNAME": "other"}) == {"hostname": "other"}
    assert config({"HOSTNAME": "web.example.org"}) == {"hostname": "web", "fqdn": "web.example.org"}
    assert nocloud({"HOSTNAME": "web.example.org"})[0]["local-hostname"] == "web.example.org"
    meta = drive({"HOSTNAME": "web.example.org"})[0]
    assert (meta["hostname"], meta["name"]) == ("web.example.org", "web")


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
    assert yaml.safe_load(guest_settings.yaml({"a": [text], "b": {text[:50]: 1}})) == {"a": [text], "b": {text[:50]: 1}}


def test_init_scripts(tmp_path):
    assert "30-init-scripts" not in nocloud({})[2].decode()
    assert b"for script in init.sh; do" in nocloud({}, files=["init.sh"])[2]
    script = drive({"INIT_SCRIPTS": "a.sh not.there b;c.sh init.sh"}, files=["a.sh", "b;c.sh", "init.sh"])[2]
    assert b"for script in a.sh 'b;c.sh' init.sh; do" in script
    assert b"LABEL=config-2" in script
    (tmp_path / "script").write_bytes(script)
    subprocess.run(["dash", "-n", str(tmp_path / "script")], check=True)


@pytest.mark.parametrize(("given", "sudo"), [("NO", False), ("no", False), ("YES", True), ("", True)])
def test_sudo(given, sudo):
    for made in (nocloud, drive):
        config = made({"USERNAME": "admin", "USERNAME_SUDO": given})[2].decode()
        assert ("NOPASSWD" in config) == sudo
