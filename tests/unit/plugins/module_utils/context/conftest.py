# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Short forms of what guests read of a context, in two formats."""

from __future__ import annotations

import base64
import email
import json

import yaml

from ansible_collections.nebula.provision.plugins.module_utils.context import nocloud_and_configdrive

MAC = "02:00:0a:42:00:0a"
NIC = {"ETH0_MAC": MAC, "ETH0_IP": "10.66.0.10"}
KEYS = "ssh-ed25519 AAAA one\n# a comment\n\n  ssh-rsa BBBB two  \n"


def b64(text):
    return base64.b64encode(text.encode()).decode()


def made(format, variables, identity="", files=()):
    return nocloud_and_configdrive.documents_of_iso(format, variables, identity, files)[1]


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
