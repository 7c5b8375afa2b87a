# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Authorities, requests and certificates, by the real openssl."""

from __future__ import annotations

import base64
import json
import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn import certificates
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn.certificates import (
    DAY,
    Authority,
    CertificateRequest,
)

CATALOG = "5c1de0d1-0000-4000-8000-000000000001"


@pytest.fixture
def root(tmp_path):
    return str(tmp_path / "nebula")


def wanted(root, name="node1", kind="host"):
    return CertificateRequest(name, kind, certificates.request(root, kind, name, act=True)[0])


def shown(text, *words):
    argv = ["openssl", "x509", "-noout", *words]
    return subprocess.run(argv, input=text, capture_output=True, text=True, check=True, timeout=60).stdout


def test_a_host_gets_a_certificate_for_the_southbound_database_alone(root, tmp_path):
    asked, frontend = wanted(root), str(tmp_path / "front-end")
    found = Authority(frontend, CATALOG, 365, act=True).certificates([asked])["host:node1"]
    assert set(found) == {"southbound"}
    text = found["southbound"]["certificate"]
    assert shown(text, "-subject", "-nameopt", "RFC2253").strip() == "subject=CN=node1"
    purposes = shown(text, "-purpose")
    assert "SSL client : Yes" in purposes
    # A host that speaks for the databases would be believed by the others.
    assert "SSL server : No" in purposes
    (tmp_path / "ca").write_text(found["southbound"]["authority"])
    (tmp_path / "certificate").write_text(text)
    subprocess.run(["openssl", "verify", "-CAfile", tmp_path / "ca", tmp_path / "certificate"], check=True, timeout=60)


def test_a_central_host_serves_both_and_the_authorities_are_two(root):
    found = Authority(root, CATALOG, 365, act=True).certificates([wanted(root, "c", "central")])["central:c"]
    assert "SSL server : Yes" in shown(found["northbound"]["certificate"], "-purpose")
    assert found["northbound"]["authority"] != found["southbound"]["authority"]


def test_what_is_good_is_given_out_again_and_what_ends_soon_is_renewed(root):
    asked = wanted(root)
    first = Authority(root, CATALOG, 90, act=True, now=1000.0).certificates([asked])
    later = Authority(root, CATALOG, 90, act=True, now=1000.0 + 60 * DAY)
    assert later.certificates([asked]) == first
    assert later.signed == []
    due = Authority(root, CATALOG, 90, act=False, now=1001.0 + 60 * DAY)
    due.certificates([asked])
    assert due.signed == ["host:node1 southbound"]
    renewed = Authority(root, CATALOG, 90, act=True, now=1001.0 + 60 * DAY).certificates([asked])
    assert renewed["host:node1"]["southbound"]["certificate"] != first["host:node1"]["southbound"]["certificate"]
    assert renewed["host:node1"]["southbound"]["authority"] == first["host:node1"]["southbound"]["authority"]


def test_a_new_key_needs_a_new_certificate(root):
    first = Authority(root, CATALOG, 365, act=True).certificates([wanted(root)])
    certificates.remove(root, "host", act=True)
    assert Authority(root, CATALOG, 365, act=True).certificates([wanted(root)]) != first


def test_a_request_for_another_name_is_refused_and_the_others_get_theirs(root, tmp_path):
    asked, other = wanted(root), wanted(str(tmp_path / "other"), "node3")
    for forged, why in ((asked.request, "not for the subject CN=node2"), ("nonsense", "nothing that openssl writes")):
        for act in (False, True):
            authority = Authority(root, CATALOG, 365, act)
            found = authority.certificates([CertificateRequest("node2", "host", forged), other])
            assert set(found) == {"host:node3"}
            assert why in str(authority.refused["host:node2"])
    # In check mode there may be none yet; where it is to be signed, there has to be one.
    assert "host:node2" in Authority(root, CATALOG, 365, act=False).certificates(
        [CertificateRequest("node2", "host", "")]
    )
    authority = Authority(root, CATALOG, 365, act=True)
    assert authority.certificates([CertificateRequest("node2", "host", "")]) == {} and "host:node2" in authority.refused


def test_a_request_that_its_key_has_not_signed_is_refused(root, tmp_path):
    asked, other = wanted(root), wanted(str(tmp_path / "other"))
    body, others = (base64.b64decode("".join(each.request.splitlines()[2:-1])) for each in (asked, other))
    # The content of one with the signature of another one.
    forged = base64.encodebytes(body[:119] + others[119:]).decode()
    text = f"-----BEGIN CERTIFICATE REQUEST-----\n{forged}-----END CERTIFICATE REQUEST-----\n"
    authority = Authority(root, CATALOG, 365, act=True)
    assert authority.certificates([CertificateRequest("node1", "host", text)]) == {}
    assert re.search("can't be read|not signed by the key", str(authority.refused["host:node1"]))


def test_a_key_is_of_one_host(root, tmp_path):
    asked = wanted(root)
    argv = ["openssl", "req", "-new", "-key", Path(root, "ovn/host/key.pem"), "-subj", "/CN=node2"]
    stolen = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout
    for requests in (
        [asked, CertificateRequest("node2", "host", stolen)],
        [CertificateRequest("node2", "host", stolen)],
    ):
        authority = Authority(root, CATALOG, 365, act=True)
        assert "host:node2" not in authority.certificates(requests)
        assert "is for the key that host:node1 has" in str(authority.refused["host:node2"])


@pytest.mark.parametrize("name", ["", "a b", "a/b", "-a", "x" * 65, "a\n"])
def test_a_name_that_a_chassis_can_not_have_is_refused(root, name):
    with pytest.raises(InvalidValue, match="can't be the name"):
        certificates.request(root, "host", name, act=True)
    assert not os.path.exists(root)


def test_check_mode_makes_nothing(root):
    assert certificates.request(root, "host", "node1", act=False) == ("", True)
    authority = Authority(root, CATALOG, 365, act=False)
    found = authority.certificates([CertificateRequest("node1", "host", "")])
    assert authority.made == ["northbound", "southbound"]
    assert found["host:node1"]["southbound"] == {"certificate": "", "authority": ""}
    assert not os.path.exists(root)


def test_keys_are_closed_and_all_of_it_goes_away(root, tmp_path):
    asked = wanted(root)
    found = Authority(root, CATALOG, 365, act=True).certificates([asked])["host:node1"]
    written = certificates.install(root, "host", found, act=True)
    assert certificates.install(root, "host", found, act=True) == []
    assert [os.path.basename(path) for path in written] == ["southbound-authority.pem", "southbound.pem"]
    for path in (tmp_path / "nebula").rglob("*"):
        assert path.is_dir() or stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(certificates.remove(root, "host", act=True)) == 4
    assert len(certificates.remove(root, certificates.AUTHORITY, act=True)) == 5
    assert not os.path.exists(root)


def test_daemons_see_a_new_certificate_by_the_age_of_its_key(root):
    asked = wanted(root)
    found = Authority(root, CATALOG, 365, act=True).certificates([asked])["host:node1"]
    key = certificates.files(root, "host", "southbound").private_key
    os.utime(key, (1, 1))
    certificates.install(root, "host", found, act=True)
    assert os.stat(key).st_mtime > 1


def test_files_that_a_daemon_could_not_read_are_named(root, tmp_path):
    tls = certificates.files(root, "host", "southbound")
    with pytest.raises(NotFound, match="private_key"):
        certificates.check_readable("TLS", tls)
    for name in ("key", "certificate", "authority"):
        (tmp_path / name).write_text("no PEM")
    other = certificates.Files(*(str(tmp_path / name) for name in ("key", "certificate", "authority")))
    with pytest.raises(InvalidValue, match="holds nothing in PEM"):
        certificates.check_readable("TLS", other)


def test_an_authority_near_its_end_is_told(root):
    Authority(root, CATALOG, 365, act=True).certificates([])
    path = certificates.our_path(root, certificates.AUTHORITY, certificates.ISSUED)
    issued = json.loads(Path(path).read_text(encoding="utf-8"))
    end = issued["authorities"]["northbound"]["until"]
    late = Authority(root, CATALOG, 365, act=True, now=end - 100 * DAY)
    late.certificates([])
    assert "ends in 100 days" in late.warnings[0]


def test_what_is_in_place_is_compared_by_digests(root):
    found = Authority(root, CATALOG, 365, act=True).certificates([wanted(root)])["host:node1"]
    assert certificates.installed_fingerprints(root, "host") == {}
    certificates.install(root, "host", found, act=True)
    there = certificates.installed_fingerprints(root, "host")
    assert there == certificates.fingerprints(found) and set(there) == {"southbound"}
    for path in (Path(root, "ovn/host/southbound.pem"), Path(root, "ovn/host/southbound-authority.pem")):
        before = path.read_text()
        path.write_text(before + "\n")
        assert certificates.installed_fingerprints(root, "host") != there
        path.unlink()
        assert certificates.installed_fingerprints(root, "host") == {}
        path.write_text(before)
    assert certificates.installed_fingerprints(root, "host") == there
