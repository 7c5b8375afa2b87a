# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells whether a database of OVN serves TLS: whether a client that connects by it gets an answer.

A server that can't use its key with its certificate listens, and ends each connection. Only its log says so."""

from __future__ import annotations

import json
import socket

from .certificates import Files

SECONDS = 5.0
LARGEST = 1 << 16


def problem(port: int, tls: Files, address: str) -> str:
    """Return why a client with these files gets no answer from this host's server at the port, "" if it gets an
    answer. address: an address at which the server listens."""
    import ssl

    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # Certificates of databases name hosts as the inventory does, and addresses nowhere.
        context.check_hostname = False
        context.load_verify_locations(tls.ca_certificate)
        context.load_cert_chain(tls.certificate, tls.private_key)
        with socket.create_connection((address, port), timeout=SECONDS) as plain, context.wrap_socket(plain) as stream:
            stream.sendall(json.dumps({"id": "nebula", "method": "echo", "params": []}).encode())
            found = b""
            while b'"nebula"' not in found and len(found) < LARGEST:
                more = stream.recv(4096)
                if not more:
                    return "it ends the connection"
                found += more
    except (OSError, ValueError) as error:
        # Errors of TLS are OSErrors, too.
        return str(getattr(error, "strerror", None) or error)
    return ""
