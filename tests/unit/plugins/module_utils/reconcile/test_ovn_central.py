# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused and foreseen; tests/integration/test_ovn.py acts on the real daemons."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn import certificates
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import ovn_central
from ansible_collections.nebula.provision.plugins.modules import nebula_ovn_central

CATALOG = "5c1de0d1-0000-4000-8000-000000000001"


@pytest.mark.parametrize("days", [0, -1, 3651])
def test_a_certificate_does_not_outlive_its_authority(options, days, tmp_path):
    given = options(
        nebula_ovn_central, name="c", catalog=CATALOG, state="signed", root=str(tmp_path), certificate_days=days
    )
    with pytest.raises(InvalidValue, match="certificate_days"):
        ovn_central.signed(given, act=False)


def test_a_look_tells_what_hosts_would_do_with_their_certificates(options, tmp_path):
    front, host = str(tmp_path / "front"), str(tmp_path / "host")

    def asked(installed, **changes):
        request, _made = certificates.request(host, "host", "node1", act=True)
        entry = {"name": "node1", "kind": "host", "request": request, "installed": installed, **changes}
        return options(nebula_ovn_central, name="c", catalog=CATALOG, state="signed", root=front, requests=[entry])

    given = ovn_central.signed(asked({}), act=True).payload
    assert given["outdated"] == ["host:node1"]
    # The front-end has nothing to do with what a host lacks; a look has to know of it.
    assert not ovn_central.reconcile(asked({}), True).changed
    (item,) = [each for each in ovn_central.foreseen(asked({}), True).items if each.is_changed]
    assert item.name == "certificate host:node1 on its host"
    certificates.install(host, "host", given["certificates"]["host:node1"], act=True)
    there = asked(certificates.installed_fingerprints(host, "host"))
    assert ovn_central.foreseen(there, True).payload["outdated"] == [] and not ovn_central.foreseen(there, True).changed
    # Who does not say what a host has is told nothing of it.
    assert ovn_central.reconcile(asked(None), True).payload["outdated"] == []
    # Another key has another request, for which nothing is signed yet.
    certificates.remove(host, "host", act=True)
    assert ovn_central.foreseen(asked({}), True).changed


def test_a_request_that_is_none_is_told_and_the_others_are_signed(options, tmp_path):
    host, front = str(tmp_path / "host"), str(tmp_path / "front")
    entries = [
        {
            "name": name,
            "kind": "host",
            "request": certificates.request(host, "host", "node1", act=True)[0],
            "installed": {},
        }
        for name in ("node1", "node2")
    ]
    given = options(nebula_ovn_central, name="c", catalog=CATALOG, state="signed", root=front, requests=entries)
    payload = ovn_central.reconcile(given, False).payload
    assert set(payload["certificates"]) == {"host:node1"}
    assert "not for the subject CN=node2" in payload["refused"]["host:node2"]
    # A look leaves it to the role to say so.
    assert ovn_central.foreseen(given, True).changed
