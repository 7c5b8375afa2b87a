# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What results show of a template: secrets are hidden."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.template import StoredTemplate, Template
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.template_view import redacted, template_view
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

TEXT = 'MEMORY = 128 CPU = 0.5 DISK = [ IMAGE = "debian" ]'

SECRETS = (
    TEXT
    + """
RAW = [ TYPE = kvm, DATA = "s3cr3t-raw", DATA_VMX = "s3cr3t-vmx" ]
INJECT = [ PATH = "/etc/motd", CONTENT = "s3cr3t-file" ]
INJECT = [ PATH = "/etc/issue", CONTENT = "s3cr3t-issue" ]
CONTEXT = [ HOSTNAME = "s3cr3t-name" ]
API_TOKEN = "s3cr3t-token"
NOTE = "plain"
"""
)


def stored(text, number=0):
    return StoredTemplate(number, "web", parse(text))


def test_secrets_are_shown_by_their_names_only():
    shown = template_view(stored(SECRETS))
    assert "s3cr3t" not in json.dumps(shown)
    assert shown["attributes"]["RAW"] == {"TYPE": "kvm", "DATA": "(secret)", "DATA_VMX": "(secret)"}
    assert shown["attributes"]["INJECT"] == [
        {"PATH": "/etc/motd", "CONTENT": "(secret)"},
        {"PATH": "/etc/issue", "CONTENT": "(secret)"},
    ]
    assert shown["attributes"]["CONTEXT"] == {"HOSTNAME": "(secret)"}
    assert shown["attributes"]["API_TOKEN"] == "(secret)"
    assert shown["attributes"]["NOTE"] == "plain"


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        ("T_TOKEN = a T_TOKEN = b", "T_TOKEN = a T_TOKEN = b", "__"),
        ("T_TOKEN = a T_TOKEN = b", "T_TOKEN = a T_TOKEN = c", "_*"),
        ("T_TOKEN = a", "T_TOKEN = a T_TOKEN = a", "_*"),
        ("T_TOKEN = a T_TOKEN = [ KEY_TOKEN = b ]", "T_TOKEN = a T_TOKEN = [ KEY_TOKEN = b ]", "__"),
        ("T_TOKEN = [ KEY_TOKEN = b ]", "T_TOKEN = a T_TOKEN = [ KEY_TOKEN = b ]", "*_"),
        ("T_TOKEN = [ KEY_TOKEN = b ] T_TOKEN = a", "T_TOKEN = [ KEY_TOKEN = c ] T_TOKEN = a", "*_"),
    ],
)
def test_of_several_values_of_one_name_each_is_compared_with_its_own(old, new, shown):
    found = redacted(parse(new), parse(old))["T_TOKEN"]
    values = [value if isinstance(value, str) else value["KEY_TOKEN"] for value in found]
    assert values == [{"_": "(secret)", "*": "(another secret)"}[mark] for mark in shown]


def test_a_template_is_shown_in_short():
    shown = template_view(
        stored(
            "CPU = 1.5 VCPU = 2 MEMORY = 512 DISK = [ IMAGE_ID = 3, SIZE = 100, TARGET = vda, BUS = virtio ]"
            " DISK = [ TYPE = swap, SIZE = 8 ] NIC = [ NETWORK_ID = 1, MODEL = e1000, MAC = 02:00:00:00:00:01 ]",
            number=7,
        )
    )
    assert (shown["id"], shown["name"], shown["cpu"], shown["vcpu"], shown["memory"]) == (7, "web", "1.5", "2", "512")
    assert shown["disks"] == [{"image_id": "3", "size": "100", "target": "vda"}, {"type": "swap", "size": "8"}]
    assert shown["nics"] == [{"network_id": "1", "model": "e1000"}]


def test_an_empty_template_can_be_shown():
    shown = template_view(StoredTemplate(0, "web", Template()))
    assert (shown["cpu"], shown["disks"], shown["nics"], shown["attributes"]) == ("", [], [], {})
