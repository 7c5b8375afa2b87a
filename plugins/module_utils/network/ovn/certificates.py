# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes keys and certificates of OVN, which decide who may speak with which database.

There are two authorities, since a server accepts whatever its authority has signed. The authority of the northbound
database signs for its servers and for the front-end's client, the authority of the southbound database for its
servers, the front-end and the hosts: a host's certificate opens no way to the northbound database. A private key
never leaves its host: the host asks with a request (PKCS #10), and the front-end signs. The work is done by the
program openssl, on which the package of Open vSwitch depends; python3-cryptography is not on every target."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...dataclass import dataclass
from ...errors import CommandFailed, InvalidValue, MissingDependency, NebulaError, NotFound
from ...host.command import run
from ...host.files import explained, make_directory, read_limited, remove_empty_directory, remove_file, write_atomically
from . import certificate_requests
from .paths import our_path

TIMEOUT = 60.0
WHICH = ("northbound", "southbound")
KEY, REQUEST = "key.pem", "request.pem"
AUTHORITY = "authority"
ISSUED = "issued.json"
AUTHORITY_DAYS = 3650
DAY = 86400
LARGEST = 1 << 20
# A name is the subject of a certificate (64 characters at most), and what the southbound database compares with it.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_USAGES = {"host": "clientAuth", "client": "clientAuth", "central": "serverAuth,clientAuth"}
_CONFIGURATION = """[req]
distinguished_name = subject
prompt = no
[subject]
CN = {name}
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = {usage}
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@dataclass(frozen=True)
class Files:
    """Holds the files of one connection, as the daemons and clients take them."""

    private_key: str
    certificate: str
    ca_certificate: str

    def as_dict(self) -> dict[str, str]:
        return {"private_key": self.private_key, "certificate": self.certificate, "ca_certificate": self.ca_certificate}


def files(root: str, kind: str, which: str) -> Files:
    """Return the files of a connection. kind: host, central or client, which have a directory each."""
    return Files(
        our_path(root, kind, KEY), our_path(root, kind, f"{which}.pem"), our_path(root, kind, f"{which}-authority.pem")
    )


def check_name(name: str) -> None:
    if not _NAME.match(name):
        raise InvalidValue(
            f"host {name!r}",
            "it can't be the name of a chassis of OVN and the subject of its certificate",
            "Give the host a name in the inventory of at most 64 letters, digits, dots, hyphens and underscores",
        )


def check_readable(asked: str, tls: Files) -> None:
    """Raise an error for files that can't be read, before a daemon is told to use them: it says so in its log only."""
    for key, path in tls.as_dict().items():
        try:
            content = read_limited(path, LARGEST)
        except NebulaError as error:
            error.asked = f"{asked}: {key} {path}"
            raise
        if b"-----BEGIN " not in content:
            raise InvalidValue(f"{asked}: {key} {path}", "it holds nothing in PEM", "Name a file in PEM")


def request(root: str, kind: str, name: str, act: bool) -> tuple[str, bool]:
    """Return the request for a certificate of this host, and whether it is (or is to be) made now."""
    check_name(name)
    place = our_path(root, kind)
    with contextlib.suppress(NotFound):
        found = read_limited(os.path.join(place, REQUEST), LARGEST).decode("ascii", "replace")
        if os.path.exists(os.path.join(place, KEY)) and found.startswith(f"# {name}\n"):
            return found, False
    if not act:
        return "", True
    require_openssl()
    _make_place(root)
    make_directory(place, 0o700)
    with _configuration(name) as (directory, configuration):
        key, made = os.path.join(directory, KEY), os.path.join(directory, REQUEST)
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        _openssl(["req", "-new", *curve, "-config", configuration, "-keyout", key, "-out", made])
        text = f"# {name}\n" + Path(made).read_text(encoding="ascii")
        # The key first: a request without its key would be signed in vain.
        remove_file(os.path.join(place, REQUEST))
        write_atomically(os.path.join(place, KEY), Path(key).read_bytes(), mode=0o600)
        write_atomically(os.path.join(place, REQUEST), text, mode=0o600)
    return text, True


def install(root: str, kind: str, certificates: Mapping[str, Mapping[str, str]], act: bool) -> list[str]:
    """Write certificates and their authorities', by the databases' names. Return the files that differed."""
    differing = []
    for which, given in certificates.items():
        tls = files(root, kind, which)
        for path, text in ((tls.ca_certificate, given["authority"]), (tls.certificate, given["certificate"])):
            with contextlib.suppress(NotFound):
                if read_limited(path, LARGEST) == text.encode():
                    continue
            differing.append(path)
            if act:
                write_atomically(path, text, mode=0o600)
    if act and differing:
        # The daemons look at a certificate again only if its key is newer than before, too.
        with explained(our_path(root, kind, KEY)):
            os.utime(our_path(root, kind, KEY))
    return differing


def installed_fingerprints(root: str, kind: str) -> dict[str, str]:
    """Return which certificates are in place, by the databases' names, in the form of fingerprints()."""
    found = {}
    for which in WHICH:
        tls = files(root, kind, which)
        with contextlib.suppress(NotFound):
            found[which] = {
                "certificate": read_limited(tls.certificate, LARGEST).decode("utf-8", "replace"),
                "authority": read_limited(tls.ca_certificate, LARGEST).decode("utf-8", "replace"),
            }
    return fingerprints(found)


def fingerprints(certificates: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return a digest of each certificate together with its authority's."""
    return {which: _digest(given["certificate"] + "\0" + given["authority"]) for which, given in certificates.items()}


def remove(root: str, kind: str, act: bool) -> list[str]:
    """Take away what request(), install() or sign() made. Return the files."""
    place = our_path(root, kind)
    names = [KEY, REQUEST, ISSUED]
    names += [f"{which}{end}" for which in WHICH for end in (".pem", "-authority.pem", ".key")]
    found = [path for path in (os.path.join(place, name) for name in names) if os.path.lexists(path)]
    if act:
        for path in found:
            remove_file(path)
        remove_place(root, place)
    return found


def remove_place(root: str, place: str) -> None:
    """Remove the directory, and those above it that we made, where they are empty."""
    if remove_empty_directory(place) and remove_empty_directory(our_path(root)):
        remove_empty_directory(os.path.abspath(root))


@dataclass(frozen=True)
class CertificateRequest:
    """Describes a certificate that somebody asks for. kind: host, central or client."""

    name: str
    kind: str
    request: str

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.name}"

    @property
    def authorities(self) -> Sequence[str]:
        return ("southbound",) if self.kind == "host" else WHICH


class Authority:
    """Keeps both authorities on the front-end, and what they have signed."""

    def __init__(self, root: str, catalog: str, days: int, act: bool, now: float | None = None) -> None:
        self.root, self.catalog, self.days, self.act = root, catalog, days, act
        self.now = time.time() if now is None else now
        self.place = our_path(root, AUTHORITY)
        self.made: list[str] = []
        self.signed: list[str] = []
        self.warnings: list[str] = []
        self.refused: dict[str, InvalidValue] = {}
        self._verified: set[str] = set()
        self._keys: dict[bytes, str] = {}
        self.issued: dict[str, Any] = self._read()

    def certificates(self, asked: Sequence[CertificateRequest]) -> dict[str, dict[str, dict[str, str]]]:
        """Return {certificate, authority} by kind and name, and by database. What is still good for more than a third
        of its life is given out again. A host whose request is not what it has to be gets no certificate, and is in
        refused: one host does not keep the others from theirs."""
        missing = [which for which in WHICH if not self._ensure_authority(which)]
        result: dict[str, dict[str, dict[str, str]]] = {}
        for wanted in asked:
            check_name(wanted.name)
            for which in wanted.authorities:
                found = "" if missing else self._still_good(wanted, which)
                if not found:
                    try:
                        self._verify(wanted)
                    except InvalidValue as error:
                        self.refused[wanted.key] = error
                        result.pop(wanted.key, None)
                        break
                    self.signed.append(f"{wanted.key} {which}")
                    found = self._sign(wanted, which) if self.act else ""
                authority = "" if missing else read_limited(self._paths(which)[1], LARGEST).decode("ascii")
                result.setdefault(wanted.key, {})[which] = {"certificate": found, "authority": authority}
        if self.act and self.signed:
            self._write()
        return result

    def _ensure_authority(self, which: str) -> bool:
        """Make the authority if it is not there. Return whether it is there now."""
        key, certificate = self._paths(which)
        begun = self.issued.get("authorities", {}).get(which, {})
        if os.path.exists(key) and os.path.exists(certificate):
            left = float(begun.get("until", 0)) - self.now
            if begun and left < AUTHORITY_DAYS * DAY / 3:
                self.warnings.append(
                    f"the authority of OVN's {which} database ends in {max(0, int(left // DAY))} days. Take OVN back "
                    "(nebula_ovn_state: absent) and make it anew, before all its connections end with it"
                )
            return True
        self.made.append(which)
        if not self.act:
            return False
        require_openssl()
        _make_place(self.root)
        make_directory(self.place, 0o700)
        name = f"OVN {which} {self.catalog[:8]}"
        with _configuration(name) as (directory, configuration):
            new_key, new = os.path.join(directory, "new.key"), os.path.join(directory, "new.pem")
            curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
            life = ["-days", str(AUTHORITY_DAYS), "-set_serial", _serial()]
            words = ["-config", configuration, "-extensions", "authority", "-keyout", new_key, "-out", new]
            _openssl(["req", "-new", "-x509", *curve, *life, *words])
            write_atomically(key, Path(new_key).read_bytes(), mode=0o600)
            write_atomically(certificate, Path(new).read_bytes(), mode=0o600)
        # What an authority signed that is no more, nobody trusts.
        for entry in self.issued.get("certificates", {}).values():
            entry.pop(which, None)
        until = int(self.now) + AUTHORITY_DAYS * DAY
        self.issued.setdefault("authorities", {})[which] = {"until": until}
        self._write()
        return True

    def _still_good(self, wanted: CertificateRequest, which: str) -> str:
        entry = self.issued.get("certificates", {}).get(wanted.key, {}).get(which, {})
        left = float(entry.get("until", 0)) - self.now
        life = float(entry.get("until", 0)) - float(entry.get("since", 0))
        same = entry.get("request") == _digest(wanted.request)
        return str(entry["certificate"]) if same and left >= life / 3 else ""

    def _verify(self, wanted: CertificateRequest) -> None:
        """Raise InvalidValue for a request that is no request, or not that of the host for which it was asked. In
        check mode there may be no request yet."""
        if wanted.key in self._verified or (not wanted.request and not self.act):
            return
        asked = f"certificate of {wanted.kind} {wanted.name}"
        remedy = "See who changed it on that host, and what else; the role makes it anew where its file is removed"
        found = certificate_requests.problem(wanted.name, wanted.request)
        if found:
            raise InvalidValue(asked, found, remedy)
        with _configuration(wanted.name) as (directory, _file):
            path = os.path.join(directory, REQUEST)
            Path(path).write_text(wanted.request, encoding="ascii")
            try:
                done = run(["openssl", "req", "-in", path, "-noout", "-verify"], timeout=TIMEOUT)
            except CommandFailed as error:
                raise InvalidValue(asked, f"its request can't be read: {error.found}", remedy) from error
            # Some versions end with 0 all the same.
            if "verify OK" not in done.stdout + done.stderr:
                raise InvalidValue(asked, "its request is not signed by the key that it is for", remedy)
        whose = self._other_owner(certificate_requests.public_key(wanted.request), wanted.key)
        if whose:
            raise InvalidValue(asked, f"its request is for the key that {whose} has", remedy)
        self._verified.add(wanted.key)

    def _other_owner(self, key: bytes, asking: str) -> str:
        """Return who else has a certificate for the key, or asks for one; "" for nobody."""
        other = self._keys.setdefault(key, asking)
        if other != asking:
            return other
        for name, entries in self.issued.get("certificates", {}).items():
            if name != asking and any(
                certificate_requests.has_key(str(each.get("certificate")), key) for each in entries.values()
            ):
                return str(name)
        return ""

    def _sign(self, wanted: CertificateRequest, which: str) -> str:
        key, certificate = self._paths(which)
        with _configuration(wanted.name, _USAGES[wanted.kind]) as (directory, configuration):
            path, new = os.path.join(directory, REQUEST), os.path.join(directory, "new.pem")
            Path(path).write_text(wanted.request, encoding="ascii")
            life = ["-days", str(self.days), "-set_serial", _serial()]
            by = ["-CA", certificate, "-CAkey", key, "-extfile", configuration, "-extensions", "leaf"]
            _openssl(["x509", "-req", "-in", path, *by, *life, "-out", new])
            text = Path(new).read_text(encoding="ascii")
        self.issued.setdefault("certificates", {}).setdefault(wanted.key, {})[which] = {
            "request": _digest(wanted.request),
            "certificate": text,
            "since": int(self.now),
            "until": int(self.now) + self.days * DAY,
        }
        return text

    def _paths(self, which: str) -> tuple[str, str]:
        return os.path.join(self.place, f"{which}.key"), os.path.join(self.place, f"{which}.pem")

    def _read(self) -> dict[str, Any]:
        path = os.path.join(self.place, ISSUED)
        try:
            found = json.loads(read_limited(path, 64 * LARGEST))
        except NotFound:
            return {}
        except ValueError as error:
            raise InvalidValue(f"file {path}", f"it is not JSON: {error}", "Remove it: all is signed anew") from error
        return found if isinstance(found, dict) else {}

    def _write(self) -> None:
        text = json.dumps(self.issued, indent=1, sort_keys=True) + "\n"
        write_atomically(os.path.join(self.place, ISSUED), text, mode=0o600)


def require_openssl() -> None:
    try:
        _openssl(["version"])
    except MissingDependency as error:
        error.remedy = "Install the package openssl, on which openvswitch-common depends"
        raise


def _make_place(root: str) -> None:
    if not os.path.isdir(root):
        make_directory(root, 0o711)
    make_directory(our_path(root), 0o711)


@contextlib.contextmanager
def _configuration(name: str, usage: str = "clientAuth") -> Iterator[tuple[str, str]]:
    """Yield a directory that only we can open, and in it a configuration of openssl."""
    with tempfile.TemporaryDirectory(prefix="nebula-ovn-") as directory:
        path = os.path.join(directory, "openssl.cnf")
        Path(path).write_text(_CONFIGURATION.format(name=name, usage=usage), encoding="ascii")
        yield directory, path


def _openssl(words: Sequence[str]) -> str:
    return run(["openssl", *words], timeout=TIMEOUT).stdout


def _serial() -> str:
    """Return a positive number of 128 bits."""
    return "0x" + bytes([os.urandom(1)[0] & 0x7F | 0x40, *os.urandom(15)]).hex()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
