# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says what the variables of a context mean for its guest: names, keys, passwords, NICs and user data. Pure.

The forms in which guests read them are in context_formats.py."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..dataclass import dataclass
from ..errors import InvalidValue
from .guest_nics import nics_of

# The file with the variables, on every ISO.
VARIABLES = "context.sh"
_CLOUD_CONFIG, _SCRIPT = "text/cloud-config", "text/x-shellscript"
# First lines of scripts for cloudbase-init, on Windows, and how the names of such scripts end.
_WINDOWS = ((b"#ps1", "ps1"), (b"rem cmd", "cmd"))
# How user data begin, and their type. If one text begins like another, the longer one comes first.
_BEGINNINGS = (
    (b"#!", _SCRIPT),
    (b"#ps1", _SCRIPT),
    (b"rem cmd", _SCRIPT),
    (b"#include-once", "text/x-include-once-url"),
    (b"#include", "text/x-include-url"),
    (b"#cloud-config-archive", "text/cloud-config-archive"),
    (b"#cloud-config-jsonp", "text/cloud-config-jsonp"),
    (b"#cloud-config", _CLOUD_CONFIG),
    (b"#cloud-boothook", "text/cloud-boothook"),
    (b"#part-handler", "text/part-handler"),
    (b"## template: jinja", "text/jinja2"),
    (b"\x1f\x8b", "application/gzip"),
)
# User data that are a message of several parts already become one part.
_MESSAGE = re.compile(rb"(?:Content-Type|MIME-Version)\s*:", re.IGNORECASE)
_PLAIN = re.compile(rb"[\t\n\x20-\x7e]*\Z")
_LONGEST_LINE = 900
# JSON is YAML except for these characters: YAML has them as escapes only, or takes them for the end of a line.
_NOT_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
# Variables that have a place of their own in the other formats, or that state how the ISO was made.
_USED = re.compile(
    r"(?:ETH[0-9]+_.*|START_SCRIPT.*|USER_?DATA.*|SET_HOSTNAME|HOSTNAME|USERNAME|DNS|SEARCH_DOMAIN"
    r"|FILES|FILES_DS|INIT_SCRIPTS|TARGET|DISK_ID)\Z"
)
# Names of variables whose values may be secrets: cloud-init shows every user of the guest what is in "meta".
SECRET = re.compile(r"PASS|PWD|SECRET|TOKEN|KEY|CRED|CRYPT|PRIVATE|AUTH|CERT|BASE64")


class Guest:
    """Holds the settings of a guest, by the variables that have a value. label: the ISO's. files: paths on it."""

    def __init__(self, variables: Mapping[str, str], identity: str, label: str, files: Collection[str]) -> None:
        self.identity = identity
        self.hostname = (variables.get("SET_HOSTNAME") or variables.get("HOSTNAME", "")).strip()
        self.keys = [line.strip() for line in variables.get("SSH_PUBLIC_KEY", "").splitlines()]
        self.keys = [key for key in self.keys if key and not key.startswith("#")]
        self.username = variables.get("USERNAME", "").strip()
        self.sudo = variables.get("USERNAME_SUDO", "").strip().upper() != "NO"
        self.password = _text(variables, "PASSWORD")
        self.crypted = _text(variables, "CRYPTED_PASSWORD")
        self.nics = nics_of(variables)
        self.knows_nics = any(re.fullmatch(r"ETH[0-9]+_MAC", name) for name in variables)
        self.other = {
            name: value
            for name, value in sorted(variables.items())
            if not _USED.match(name) and not SECRET.search(name)
        }
        self.user_data = self._user_data(variables, label, files)

    def _cloud_config(self) -> dict[str, Any]:
        config: dict[str, Any] = {}
        if self.hostname:
            config["hostname"] = self.hostname.partition(".")[0]
            if "." in self.hostname:
                config["fqdn"] = self.hostname
        password = self.crypted or self.password
        if self.username:
            user: dict[str, Any] = {"name": self.username, "lock_passwd": not password}
            if self.keys:
                user["ssh_authorized_keys"] = self.keys
            if self.username == "root":
                config["disable_root"] = False
            elif self.sudo:
                user["sudo"] = "ALL=(ALL) NOPASSWD:ALL"
            if password:
                user["hashed_passwd" if self.crypted else "plain_text_passwd"] = password
            config["users"] = [user]
        else:
            if self.keys:
                config["ssh_authorized_keys"] = self.keys
            if password:
                config["password"] = password
        if password:
            config["chpasswd"] = {"expire": False}
        return config

    def _user_data(self, variables: Mapping[str, str], label: str, files: Collection[str]) -> bytes:
        config = self._cloud_config()
        parts = [_Part(_CLOUD_CONFIG, "cloud-config.txt", b"#cloud-config\n" + yaml(config))] if config else []
        own = _own_user_data(variables)
        if own:
            parts.append(_Part.of(own, "10-user-data"))
        script = _start_script(variables)
        if script:
            parts.append(_Part.of(script, "20-start-script"))
        wanted = variables.get("INIT_SCRIPTS", "init.sh").split()
        scripts = [name for name in wanted if name in files]
        if scripts:
            parts.append(_Part.of(_init_scripts(label, scripts), "30-init-scripts"))
        if not parts:
            return b"#cloud-config\n{}\n"
        return parts[0].content if len(parts) == 1 else _multipart(parts)


@dataclass(frozen=True)
class _Part:
    """Is one part of user data. name: cloud-init runs scripts in the order of their names, and cloudbase-init finds the
    kind of a script by its end."""

    type: str
    name: str
    content: bytes

    @classmethod
    def of(cls, content: bytes, name: str) -> _Part:
        lower = content[:64].lower()
        kind = next((kind for start, kind in _BEGINNINGS if lower.startswith(start)), "text/plain")
        end = next((end for start, end in _WINDOWS if lower.startswith(start)), "sh")
        return cls(kind, f"{name}.{end}" if kind == _SCRIPT else name, content)

    def rendered(self) -> bytes:
        if _MESSAGE.match(self.content):
            return self.content
        head = f'Content-Type: {self.type}; charset="utf-8"\nContent-Disposition: attachment; filename="{self.name}"\n'
        if _PLAIN.match(self.content) and max(map(len, self.content.split(b"\n"))) <= _LONGEST_LINE:
            return head.encode() + b"Content-Transfer-Encoding: 7bit\n\n" + self.content
        return head.encode() + b"Content-Transfer-Encoding: base64\n\n" + base64.encodebytes(self.content)


def _multipart(parts: Sequence[_Part]) -> bytes:
    rendered = [part.rendered() for part in parts]
    boundary = b"==nebula-" + hashlib.sha256(b"\0".join(rendered)).hexdigest().encode() + b"=="
    pieces = [b'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="' + boundary + b'"\n']
    pieces += [b"\n--" + boundary + b"\n" + part for part in rendered]
    return b"".join([*pieces, b"\n--" + boundary + b"--\n"])


def _own_user_data(variables: Mapping[str, str]) -> bytes:
    """Return the user data that a user gives for cloud-init itself."""
    name = "USER_DATA" if "USER_DATA" in variables else "USERDATA"
    encoding = variables.get("USERDATA_ENCODING") or variables.get("USER_DATA_ENCODING", "")
    if encoding.strip().lower() == "base64":
        return _decoded(variables, name)
    return variables.get(name, "").encode()


def _start_script(variables: Mapping[str, str]) -> bytes:
    script = _decoded(variables, "START_SCRIPT_BASE64") or variables.get("START_SCRIPT", "").encode()
    if not script or script[:64].lower().startswith((b"#!", *(start for start, _end in _WINDOWS))):
        return script
    return b"#!/bin/sh\n" + script


def _init_scripts(label: str, names: Sequence[str]) -> bytes:
    """Return a script that runs those on the ISO as OpenNebula's guests do: in its directory, with all variables."""
    return f"""\
#!/bin/sh
place=$(mktemp -d) && mount -o ro LABEL={label} "$place" || exit 1
(
    set -a
    . "$place/{VARIABLES}"
    set +a
    cd "$place" || exit 1
    failed=0
    for script in {" ".join(map(shlex.quote, names))}; do
        if [ -x "$script" ]; then "./$script"; else sh "./$script"; fi || failed=1
    done
    exit "$failed"
)
failed=$?
umount "$place" && rmdir "$place"
exit "$failed"
""".encode()


def _decoded(variables: Mapping[str, str], name: str) -> bytes:
    try:
        return base64.b64decode("".join(variables.get(name, "").split()), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidValue(f"context variable {name}", "it is not base64", "Encode it, or give it as text") from None


def _text(variables: Mapping[str, str], name: str) -> str:
    """Return the decoded value of the variable with _BASE64 behind its name, or else the variable's own value."""
    try:
        return _decoded(variables, f"{name}_BASE64").decode() or variables.get(name, "")
    except UnicodeDecodeError:
        raise InvalidValue(
            f"context variable {name}_BASE64", "what it encodes is not text (UTF-8)", "Encode text"
        ) from None


def yaml(value: Mapping[str, Any]) -> bytes:
    """Return the value as YAML; the same bytes for the same value."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return (_NOT_YAML.sub(lambda found: f"\\u{ord(found.group()):04x}", text) + "\n").encode()
