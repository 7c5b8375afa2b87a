# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Of Ansible's messages about templates only names are shown, whatever else they hold."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleError

from ansible_collections.nebula.provision.plugins.plugin_utils.template_faults import faulty_templates, reason_of

VALUE = "[{'name': 'web', 'context': {'PASSWORD': 's3cret', 'A': '{{ missing }}'}}]"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("'missing' is undefined", "variable missing is undefined"),
        (f"{VALUE}: 'missing' is undefined. 'missing' is undefined", "variable missing is undefined"),
        ("'dict object' has no attribute 'key'", "there is no key in what is there"),
        ("object of type 'dict' has no attribute 'key'", "there is no key in what is there"),
        ("'s3cret word' is undefined", "a template in it can't be filled in (AnsibleError)"),
        ("invalid literal for int(): 's3cret'", "a template in it can't be filled in (AnsibleError)"),
        ("Attempting to decrypt but no vault secrets found", "it can't be decrypted: give the vault's password"),
        ("", "a template in it can't be filled in (AnsibleError)"),
    ],
)
def test_what_is_said_of_a_message(message, said):
    assert reason_of(AnsibleError(message)) == said


def fill_in(text):
    if "{{" in str(text):
        raise AnsibleError(f"{VALUE}: '{str(text).split()[1]}' is undefined")


class AnsibleValueOmittedError(Exception):
    pass


def leave_out(_text):
    raise AnsibleValueOmittedError


def test_each_fault_is_told_with_its_place():
    value = [{"name": "web", "context": {"A": "{{ one }}", "B": "s3cret", "C": ["x", "{{ two }}"]}}, 7, None]
    assert list(faulty_templates(value, "nebula_vms", fill_in)) == [
        "nebula_vms[0].context.A: variable one is undefined",
        "nebula_vms[0].context.C[1]: variable two is undefined",
    ]


def test_what_is_left_out_is_no_fault():
    assert list(faulty_templates(["{{ omit }}"], "nebula_vms", leave_out)) == []
