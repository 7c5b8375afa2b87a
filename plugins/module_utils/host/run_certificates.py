# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes keys and certificates by which hosts know each other in one run."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from .command import run

_OPENSSL_SECONDS = 60.0
# A certificate of one run: its hosts compare it with what they were given, and look at nothing else in it.
_DAYS = 30
_CONFIGURATION = """\
[req]
prompt = no
distinguished_name = name
x509_extensions = own
[name]
CN = {name}
[own]
basicConstraints = critical, CA:TRUE
keyUsage = critical, digitalSignature, keyCertSign
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
"""


def key_pair(name: str) -> tuple[str, str]:
    """Return a new key and a certificate for it, as PEM. name: what it is for, in plain words."""
    with tempfile.TemporaryDirectory(prefix="nebula-run-") as directory:
        configuration, key, made = (os.path.join(directory, name) for name in ("openssl.cnf", "key", "certificate"))
        Path(configuration).write_text(_CONFIGURATION.format(name=name), encoding="ascii")
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        words = ["-x509", "-days", str(_DAYS), "-config", configuration, "-keyout", key, "-out", made]
        run(["openssl", "req", "-new", *curve, *words], timeout=_OPENSSL_SECONDS)
        return Path(key).read_text(encoding="ascii"), Path(made).read_text(encoding="ascii")
