# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys and certificates of one run."""

from __future__ import annotations

import ssl

from ansible_collections.nebula.provision.plugins.module_utils.host.run_certificates import key_pair


def test_a_pair_is_whole_and_another_one_each_time(tmp_path) -> None:
    key, certificate = key_pair("nebula backup")
    pair = tmp_path / "pair.pem"
    pair.write_text(certificate + key)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(str(pair))
    assert key_pair("nebula backup")[1] != certificate
