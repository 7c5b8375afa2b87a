# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a request may be, by requests that the real openssl makes."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.network.ovn import certificate_requests, certificates

CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


def made(place, subject="/CN=node1", key=CURVE, *words):
    argv = ["openssl", "req", "-new", *key, "-nodes", "-keyout", place / "k", "-subj", subject, *words]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.parametrize("name", ["a", "node1", "n" * 64])
def test_one_that_this_collection_makes_is_one(tmp_path, name):
    text = certificates.request(str(tmp_path), "host", name, act=True)[0]
    assert certificate_requests.problem(name, text) == ""
    assert len(certificate_requests.public_key(text)) == 64
    assert certificate_requests.problem(name + "2" if len(name) < 64 else "n", text).startswith(
        "its request is not for the subject"
    )


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("/CN=node2",), "not for the subject CN=node1"),
        (("/CN=node1/CN=node2",), "not for the subject CN=node1"),
        (("/O=x/CN=node1",), "not for the subject CN=node1"),
        (("/CN=node1/O=x",), "not for the subject CN=node1"),
        (("/CN=node1", ("-newkey", "rsa:2048")), "a key of another kind"),
        (("/CN=node1", ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp384r1")), "a key of another kind"),
        (("/CN=node1", CURVE, "-addext", "subjectAltName=DNS:central"), "attributes or extensions"),
        (("/CN=node1", CURVE, "-addext", "basicConstraints=critical,CA:TRUE"), "attributes or extensions"),
    ],
)
def test_another_subject_key_or_extension_is_none(tmp_path, words, why):
    assert why in certificate_requests.problem("node1", made(tmp_path, *words))


def test_what_is_no_single_request_in_pem_is_none(tmp_path):
    text = made(tmp_path)
    assert certificate_requests.problem("node1", text) == ""
    for wrong in (
        "",
        "nonsense",
        text + text,
        "x\n" + text,
        text + "-----BEGIN CERTIFICATE-----\n",
        text[:-30],
        "é" + text,
    ):
        assert "nothing that openssl writes" in certificate_requests.problem("node1", wrong)
    assert "has at most" in certificate_requests.problem("node1", text + " " * certificate_requests.LARGEST)


@given(st.binary(max_size=300))
def test_whatever_is_in_it_is_refused_and_never_an_error(content):
    import base64

    body = base64.encodebytes(content).decode()
    text = f"-----BEGIN CERTIFICATE REQUEST-----\n{body or chr(10)}-----END CERTIFICATE REQUEST-----\n"
    assert certificate_requests.problem("node1", text)
    assert isinstance(certificate_requests.public_key(text), bytes)
    assert not certificate_requests.has_key(text, certificate_requests.public_key(text))


def test_whose_key_a_certificate_has_is_seen(tmp_path):
    key = certificate_requests.public_key(made(tmp_path))
    argv = ["openssl", "req", "-x509", "-key", tmp_path / "k", "-subj", "/CN=a"]
    text = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout
    assert certificate_requests.has_key(text, key)
    assert (
        not certificate_requests.has_key(text, key[::-1])
        and not certificate_requests.has_key(text, b"")
        and not certificate_requests.has_key("", key)
    )
