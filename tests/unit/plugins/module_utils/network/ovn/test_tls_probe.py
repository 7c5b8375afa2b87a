# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server of OVSDB that can't use its key is told from one that answers."""

from __future__ import annotations

import shutil
import socket
import ssl
import threading

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.network.ovn import certificates, tls_probe


@pytest.fixture
def tls(tmp_path):
    root = str(tmp_path)
    asked = certificates.CertificateRequest("c", "central", certificates.request(root, "central", "c", act=True)[0])
    found = certificates.Authority(root, "catalog-1", 9, act=True).certificates([asked])
    certificates.install(root, "central", found["central:c"], act=True)
    return certificates.files(root, "central", "southbound")


@pytest.fixture
def server(tls):
    """Answers each request with itself, as far as echo is asked. answers: whether it does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certificate, tls.private_key)
    listening = socket.create_server(("127.0.0.1", 0))
    state = {"answers": True, "port": listening.getsockname()[1]}

    def serve():
        while True:
            try:
                plain, _address = listening.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(plain, server_side=True) as stream:
                    found = stream.recv(4096)
                    if state["answers"]:
                        stream.sendall(found)
            except OSError:
                plain.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield state
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join(5)


def test_one_that_answers_serves(tls, server):
    assert tls_probe.problem(server["port"], tls, "127.0.0.1") == ""


def test_one_that_ends_connections_and_one_that_is_not_there_do_not(tls, server):
    server["answers"] = False
    assert tls_probe.problem(server["port"], tls, "127.0.0.1") == "it ends the connection"
    assert "refused" in tls_probe.problem(1, tls, "127.0.0.1")


def test_files_that_do_not_belong_together_are_told(tls, server, tmp_path):
    other = tmp_path / "other"
    certificates.request(str(other), "central", "c", act=True)
    shutil.copy(other / "ovn/central/key.pem", tls.private_key)
    assert tls_probe.problem(server["port"], tls, "127.0.0.1")
