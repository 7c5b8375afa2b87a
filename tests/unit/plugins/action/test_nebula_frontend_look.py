# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles call on a front-end, looked at in one call."""

from __future__ import annotations

import pytest
from looking_runs import LOOKS, looked

BEGIN = {"nebula.provision.nebula_frontend": {"root": "{{ nebula_root }}"}}
CATALOG, OVN_CENTRAL = LOOKS[0][1], LOOKS[1][1]
LOOK = {"nebula.provision.nebula_frontend_look": CATALOG, "register": "looked"}
TEMPLATE = {
    "name": "web",
    "template": {
        "MEMORY": 64,
        "OS": {"KERNEL": "/boot/vmlinuz"},
        "DISK": {"TYPE": "fs", "SIZE": 1},
        "CONTEXT": {"PASSWORD": "s3cret"},
    },
}


@pytest.fixture
def look(tmp_path):
    def run(tasks, *words, **variables):
        given = {"nebula_root": str(tmp_path / "nebula"), "nebula_manage_packages": False, **variables}
        return looked(tmp_path, tasks, *words, **given)

    return run


def test_a_catalog_is_looked_at_as_the_roles_would(look):
    found = look([LOOK])
    assert found["differs"] == "__nebula_frontend: something is to be done" and not found["changed"]
    found = look([BEGIN, LOOK])
    assert found["differs"] == "" and not found["changed"]
    names = ("__nebula_frontend", "__nebula_networks", "__nebula_images", "__nebula_templates")
    assert sorted(found["facts"]) == sorted(names)
    catalog = found["facts"]["__nebula_frontend"]["frontend"]["catalog"]
    assert catalog and found["facts"]["__nebula_networks"]["catalog"] == catalog
    # A demo image that nobody asked for is not looked at; a template that is new differs, and nothing is shown of it.
    found = look([LOOK], nebula_templates=[TEMPLATE])
    assert found["differs"] == "__nebula_templates: something is to be done"
    assert "s3cret" not in found["output"]
    found = look([LOOK], "--check", nebula_templates=[TEMPLATE])
    assert found["differs"] == "__nebula_templates: something is to be done"


def test_what_roles_would_refuse_is_left_to_them(look):
    found = look([LOOK], nebula_images="{{ 's3cret' + lost }}")
    assert found["differs"] == "nebula_images: variable lost is undefined" or "lost" in found["differs"]
    assert "s3cret" not in found["differs"] and found["facts"] == {}
    found = look([LOOK], nebula_images=7)
    assert found["differs"].startswith("nebula_images: it is a number")
    # They install what is missing.
    found = look([BEGIN, LOOK], nebula_manage_packages=True, nebula_frontend_packages=["no-such-package-anywhere"])
    assert found["differs"].startswith("packages: ")


def test_ovn_is_looked_at_where_it_is_wanted_and_its_own(look):
    known = {"__nebula_frontend": {"frontend": {"catalog": "5c1de0d1-0000-4000-8000-000000000001"}}}
    task = {**LOOK, "nebula.provision.nebula_frontend_look": OVN_CENTRAL}
    before = {"__nebula_catalog_look": {"differs": "", "facts": known}}
    # There is no key yet, so that there is nothing to compare.
    found = look([task], **before, nebula_ovn=True, nebula_ovn_address="192.0.2.1")
    assert found["differs"].startswith("__nebula_ovn_central_request: ") and not found["changed"]
    for variables in ({}, {"nebula_ovn": True, "nebula_ovn_remote": {"southbound": "ssl:192.0.2.1:6642"}}):
        found = look([task], **before, **variables)
        assert (found["differs"], found["facts"]) == ("", {}), variables
    found = look([task], **before, nebula_ovn=True, nebula_ovn_state="absent")
    assert found["differs"] == "nebula_ovn_central: {{ __nebula_ovn_otherwise }}"
    found = look([task], **before, nebula_ovn=True, nebula_ovn_ports=7)
    assert found["differs"].startswith("nebula_ovn_ports: it is a number")
