# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One context in three forms: OpenNebula's own, the config drive of OpenStack, and cloud-init's NoCloud. Pure.

Whatever the form, context.sh is on the ISO too: a guest may have scripts of its own beside cloud-init.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import json
import re
import shlex
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

from ..errors import InvalidValue
from ..model.numbers import whole
from ..text import context_sh

VARIABLES = "context.sh"
# What an ISO without an identity is named by: the same variables are the same instance.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "nebula.provision")

_CLOUD_CONFIG, _SCRIPT = "text/cloud-config", "text/x-shellscript"
# First lines that make a script cloudbase-init's, on Windows.
_WINDOWS = ((b"#ps1", "ps1"), (b"rem cmd", "cmd"))
# How user data begin, and their type; the longer comes first where one begins like another.
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
# A message of several parts already: it becomes a part as it is.
_MESSAGE = re.compile(rb"(?:Content-Type|MIME-Version)\s*:", re.IGNORECASE)
_PLAIN = re.compile(rb"[\t\n\x20-\x7e]*\Z")
_LONGEST_LINE = 900
# JSON is YAML but for these, which a YAML text holds as escapes only, or takes for the end of a line.
_NOT_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")

_NIC = re.compile(r"ETH([0-9]{1,5})_")
_ALIAS = re.compile(r"ETH([0-9]{1,5})_ALIAS([0-9]{1,5})_")
_OWN_MAC = re.compile(r"ETH[0-9]{1,5}(?:_ALIAS[0-9]{1,5})?_MAC\Z")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}\Z")
_METHODS = ("static", "dhcp", "skip")
_METHODS6 = ("static", "auto", "dhcp", "disable", "skip")
_DEFAULT_MASK, _DEFAULT_PREFIX6 = "255.255.255.0", "64"
_SMALLEST_MTU, _LARGEST_MTU, _LARGEST_METRIC = 68, 65535, 2**32 - 1

# Variables that have a place of their own in the other formats, or that say how the ISO was made.
_USED = re.compile(
    r"(?:ETH[0-9]+_.*|START_SCRIPT.*|USER_?DATA.*|SET_HOSTNAME|HOSTNAME|USERNAME|DNS|SEARCH_DOMAIN"
    r"|FILES|FILES_DS|INIT_SCRIPTS|TARGET|DISK_ID)\Z"
)
# cloud-init shows every user of the guest what is in "meta".
_SECRET = re.compile(r"PASS|PWD|SECRET|TOKEN|KEY|CRED|CRYPT|PRIVATE|AUTH|CERT|BASE64")

Interface = Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]
Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


@dataclass(frozen=True)
class Format:
    """label: of the ISO; guests find it by that. paths: files that such an ISO may have beside context.sh."""

    label: str
    paths: tuple[str, ...] = ()

    def reserved(self) -> frozenset[str]:
        """The names at the top of the ISO that are ours."""
        return frozenset(path.partition("/")[0] for path in (VARIABLES, *self.paths))


_LATEST = "openstack/latest/"
FORMATS: Mapping[str, Format] = {
    "opennebula": Format("CONTEXT"),
    "configdrive": Format("config-2", tuple(_LATEST + f for f in ("meta_data.json", "network_data.json", "user_data"))),
    "nocloud": Format("cidata", ("meta-data", "network-config", "user-data")),
}
DEFAULT = "opennebula"


def named(name: str, where: str = "format") -> Format:
    """The format of this name; InvalidValue if there is none."""
    if name not in FORMATS:
        raise InvalidValue(f"{where} {name!r}", "no such format", f"Known are {', '.join(FORMATS)}")
    return FORMATS[name]


def of_label(label: str) -> str:
    """The name of the format with this label, "" if none has it."""
    return next((name for name, known in FORMATS.items() if known.label == label), "")


def documents(
    format: str, variables: Mapping[str, str], identity: str = "", files: Collection[str] = ()
) -> tuple[str, dict[str, bytes]]:
    """The label of an ISO and what is on it beside the user's files: bytes by path, "/" between names.

    variables: final. identity: what the guest is known by, such as its machine's UUID; cloud-init goes through its
    user data once for each. Without one it is made of the variables. files: paths of the user's files on the ISO.
    InvalidValue for variables that can't be meant and for files with a name that the format needs.
    """
    made = named(format)
    _refuse_reserved(format, made, files)
    variables = {name: _as_kernel_shows(value) if _OWN_MAC.match(name) else value for name, value in variables.items()}
    text = context_sh.render(variables)
    found = {VARIABLES: text.encode()}
    if made.paths:
        given = {name: value for name, value in variables.items() if value.strip()}
        guest = _Guest(given, identity or str(uuid.uuid5(_NAMESPACE, text)), made.label, files)
        found.update(_config_drive(guest) if format == "configdrive" else _nocloud(guest))
    return made.label, found


def _refuse_reserved(format: str, made: Format, files: Iterable[str]) -> None:
    # Windows does not tell names apart by case.
    for path in files:
        if path.partition("/")[0].lower() in made.reserved():
            raise InvalidValue(
                f"FILES: {path!r}",
                f"an ISO of format {format} has a file of that name by itself",
                "Give it another name: source:name",
            )


class _Guest:
    """What the variables want of the guest, in no form yet. variables: those with a value."""

    def __init__(self, variables: Mapping[str, str], identity: str, label: str, files: Collection[str]) -> None:
        self.identity = identity
        self.hostname = (variables.get("SET_HOSTNAME") or variables.get("HOSTNAME", "")).strip()
        self.keys = [line.strip() for line in variables.get("SSH_PUBLIC_KEY", "").splitlines()]
        self.keys = [key for key in self.keys if key and not key.startswith("#")]
        self.username = variables.get("USERNAME", "").strip()
        self.sudo = variables.get("USERNAME_SUDO", "").strip().upper() != "NO"
        self.password = _text(variables, "PASSWORD")
        self.crypted = _text(variables, "CRYPTED_PASSWORD")
        self.nics = _nics(variables)
        self.knows_nics = any(re.fullmatch(r"ETH[0-9]+_MAC", name) for name in variables)
        self.other = {
            name: value
            for name, value in sorted(variables.items())
            if not _USED.match(name) and not _SECRET.search(name)
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


# -- user data --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Part:
    """name: cloud-init runs scripts in the order of their names, cloudbase-init goes by how they end."""

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
    """What the user has for cloud-init itself."""
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
    """A script that runs those on the ISO, as OpenNebula's guests do: there, with the variables around them."""
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
    """The variable, or before it the one in base64."""
    try:
        return _decoded(variables, f"{name}_BASE64").decode() or variables.get(name, "")
    except UnicodeDecodeError:
        raise InvalidValue(
            f"context variable {name}_BASE64", "what it encodes is not text (UTF-8)", "Encode text"
        ) from None


def yaml(value: Mapping[str, Any]) -> bytes:
    """As YAML, the same for the same value."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return (_NOT_YAML.sub(lambda found: f"\\u{ord(found.group()):04x}", text) + "\n").encode()


# -- network ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Route:
    to: Network
    via: Address
    metric: int | None = None


@dataclass
class _Nic:
    name: str
    mac: str = ""
    mtu: int | None = None
    # metric: of routes that DHCP brings.
    dhcp4: bool = False
    metric: int | None = None
    dhcp6: bool = False
    # None: as the guest has it.
    router_advertisements: bool | None = None
    addresses: list[Interface] = field(default_factory=list)
    routes: list[_Route] = field(default_factory=list)
    dns: list[str] = field(default_factory=list)
    search: list[str] = field(default_factory=list)


def _nics(variables: Mapping[str, str]) -> list[_Nic]:
    """Those that are to be configured, by number; what is said of none in particular is with the first."""
    numbers = {int(found.group(1)) for found in map(_NIC.match, variables) if found}
    nics = [nic for nic in (_nic(variables, number) for number in sorted(numbers)) if nic]
    if nics:
        nics[0].dns += [server for server in _addresses(variables, "DNS") if server not in nics[0].dns]
        nics[0].search += [name for name in _words(variables, "SEARCH_DOMAIN") if name not in nics[0].search]
    return nics


def _nic(variables: Mapping[str, str], number: int) -> _Nic | None:
    prefix = f"ETH{number}_"
    nic = _Nic(prefix[:-1].lower())
    method = _method(variables, f"{prefix}METHOD", _METHODS)
    metric = _number(variables, f"{prefix}METRIC", 0, _LARGEST_METRIC)
    if method == "dhcp":
        nic.dhcp4, nic.metric = True, metric
    elif method == "static":
        nic.addresses += _interfaces4(variables, prefix)
        if nic.addresses:
            nic.routes += _gateway(variables, f"{prefix}GATEWAY", 4, metric)
    # As OpenNebula's guests take it: what IPv6 does not say, it has from IPv4.
    method6 = _method(variables, f"{prefix}IP6_METHOD", _METHODS6, method)
    if method6 == "static":
        found = _interfaces6(variables, prefix)
        nic.addresses += found
        if found:
            metric6 = _number(variables, f"{prefix}IP6_METRIC", 0, _LARGEST_METRIC)
            metric6 = metric if metric6 is None else metric6
            nic.routes += _gateway(variables, f"{prefix}IP6_GATEWAY", 6, metric6)
    elif method6 == "dhcp":
        nic.dhcp6, nic.router_advertisements = True, True
    elif method6 in ("auto", "disable"):
        nic.router_advertisements = method6 == "auto"
    aliases = {int(found.group(2)) for found in map(_ALIAS.match, variables) if found and int(found.group(1)) == number}
    for alias in sorted(aliases):
        own = f"{prefix}ALIAS{alias}_"
        # The address of an external one is the network's to translate.
        if variables.get(f"{own}EXTERNAL", "").upper() != "YES":
            nic.addresses += [*_interfaces4(variables, own), *_interfaces6(variables, own)]
    if not (nic.addresses or nic.dhcp4 or nic.dhcp6 or nic.router_advertisements):
        return None
    nic.routes += _routes(variables, f"{prefix}ROUTES")
    nic.mtu = _number(variables, f"{prefix}MTU", _SMALLEST_MTU, _LARGEST_MTU)
    nic.dns = _addresses(variables, f"{prefix}DNS")
    nic.search = _words(variables, f"{prefix}SEARCH_DOMAIN")
    nic.mac = variables.get(f"{prefix}MAC", "")
    if not nic.mac:
        raise InvalidValue(
            f"context variable {prefix}MAC", "it has no value, and the guest finds its NICs by it", "Set it"
        )
    if not _MAC.match(nic.mac):
        raise _refused(f"{prefix}MAC", "a MAC address", "02:00:0a:42:00:0a")
    return nic


def _as_kernel_shows(mac: str) -> str:
    """A MAC address in the letters in which guests look for it: many compare texts."""
    plain = mac.strip().lower().replace("-", ":")
    return plain if _MAC.match(plain) else mac


def _interfaces4(variables: Mapping[str, str], prefix: str) -> list[Interface]:
    if f"{prefix}IP" not in variables:
        return []
    address = _address(variables[f"{prefix}IP"], f"{prefix}IP", 4)
    mask = variables.get(f"{prefix}MASK", _DEFAULT_MASK).strip()
    try:
        interface = ipaddress.IPv4Interface(f"{address}/{mask}")
        _refuse_wildcard(mask, interface.netmask)
        return [interface]
    except ValueError:
        raise _refused(f"{prefix}MASK", "a network mask", _DEFAULT_MASK) from None


def _refuse_wildcard(mask: str, netmask: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """ValueError for a mask as 0.0.0.255, in which ipaddress sees 255.255.255.0."""
    if "." in mask and ipaddress.ip_address(mask) != netmask:
        raise ValueError(mask)


def _interfaces6(variables: Mapping[str, str], prefix: str) -> list[Interface]:
    found: list[Interface] = []
    for name in (f"{prefix}IP6", f"{prefix}IP6_ULA"):
        if name not in variables:
            continue
        text, slash, length = variables[name].strip().partition("/")
        address = _address(text, name, 6)
        length = length if slash else variables.get(f"{prefix}IP6_PREFIX_LENGTH", _DEFAULT_PREFIX6).strip()
        try:
            interface = ipaddress.IPv6Interface(f"{address}/{length}")
        except ValueError:
            raise _refused(name if slash else f"{prefix}IP6_PREFIX_LENGTH", "a prefix length", "64") from None
        if interface not in found:
            found.append(interface)
    return found


def _gateway(variables: Mapping[str, str], name: str, version: int, metric: int | None) -> Iterator[_Route]:
    if name in variables:
        everything = ipaddress.ip_network("0.0.0.0/0" if version == 4 else "::/0")
        yield _Route(everything, _address(variables[name], name, version), metric)


def _routes(variables: Mapping[str, str], name: str) -> Iterator[_Route]:
    for item in filter(str.strip, variables.get(name, "").split(",")):
        words = item.split()
        try:
            if len(words) != 3 or words[1].lower() != "via":
                raise ValueError
            to = ipaddress.ip_network(words[0], strict=False)
            _refuse_wildcard(words[0].partition("/")[2], to.netmask)
        except ValueError:
            raise _refused(name, "a list of routes", "10.0.0.0/8 via 10.66.0.1, 10.67.0.0/16 via 10.66.0.2") from None
        yield _Route(to, _address(words[2], name, to.version))


def _addresses(variables: Mapping[str, str], name: str) -> list[str]:
    return [str(_address(word, name)) for word in _words(variables, name)]


def _words(variables: Mapping[str, str], name: str) -> list[str]:
    return variables.get(name, "").replace(",", " ").split()


def _address(text: str, name: str, version: int = 0) -> Address:
    try:
        address = ipaddress.ip_address(text.strip())
        # A scope may be any text to ipaddress.
        if "%" in text or version not in (0, address.version):
            raise ValueError
    except ValueError:
        kind, example = ("IPv6", "2001:db8::1") if version == 6 else ("IPv4", "10.66.0.10")
        raise _refused(name, f"an {kind} address" if version else "IP addresses", example) from None
    return address


def _method(variables: Mapping[str, str], name: str, known: Sequence[str], default: str = "static") -> str:
    method = variables.get(name, default).strip().lower()
    if method not in known:
        raise InvalidValue(f"context variable {name}", "no such method", f"Known are {', '.join(known)}")
    return method


def _number(variables: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    if name not in variables:
        return None
    number = whole(variables[name])
    if number is None or not least <= number <= most:
        raise InvalidValue(f"context variable {name}", f"it is no number from {least} to {most}", "Give it as digits")
    return number


def _refused(name: str, wanted: str, example: str) -> InvalidValue:
    return InvalidValue(f"context variable {name}", f"it is not {wanted}", f"Write it as {example}")


# -- NoCloud ----------------------------------------------------------------------------------------------------------
def _nocloud(guest: _Guest) -> dict[str, bytes]:
    meta: dict[str, Any] = {"instance-id": guest.identity}
    if guest.hostname:
        meta["local-hostname"] = guest.hostname
    if guest.keys:
        meta["public-keys"] = guest.keys
    found = {"meta-data": yaml(meta), "user-data": guest.user_data}
    # Without it cloud-init asks for an address by DHCP.
    if guest.nics or guest.knows_nics:
        found["network-config"] = yaml({"version": 2, "ethernets": {nic.name: _ethernet(nic) for nic in guest.nics}})
    return dict(sorted(found.items()))


def _ethernet(nic: _Nic) -> dict[str, Any]:
    # By MAC address alone: what the guest calls it is the guest's.
    entry: dict[str, Any] = {"match": {"macaddress": nic.mac}}
    if nic.mtu is not None:
        entry["mtu"] = nic.mtu
    if nic.dhcp4:
        entry["dhcp4"] = True
        if nic.metric is not None:
            entry["dhcp4-overrides"] = {"route-metric": nic.metric}
    if nic.dhcp6:
        entry["dhcp6"] = True
    if nic.router_advertisements is not None:
        entry["accept-ra"] = nic.router_advertisements
    if nic.addresses:
        entry["addresses"] = [str(address) for address in nic.addresses]
    routes = []
    for route in nic.routes:
        told = _route(nic, route)
        key = f"gateway{route.to.version}"
        if route.to.prefixlen or "on-link" in told or "metric" in told or key in entry:
            routes.append(told)
        else:
            entry[key] = told["via"]
    if routes:
        entry["routes"] = routes
    names = {"addresses": nic.dns, "search": nic.search}
    if nic.dns or nic.search:
        entry["nameservers"] = {key: value for key, value in names.items() if value}
    return entry


def _route(nic: _Nic, route: _Route) -> dict[str, Any]:
    """A default route is better said as the NIC's gateway, which all releases of cloud-init write alike for all they
    configure: as a route, ::/0 is ::/64 to those before 23.1. A metric of IPv6 makes those since 24.4 fail where
    NetworkManager is configured, and the guest then has no network at all: it has none here."""
    entry: dict[str, Any] = {"to": str(route.to), "via": str(route.via)}
    if route.metric is not None and route.to.version != 6:
        entry["metric"] = route.metric
    if nic.addresses and not route.via.is_link_local and not any(route.via in own.network for own in nic.addresses):
        entry["on-link"] = True
    return entry


# -- config drive -----------------------------------------------------------------------------------------------------
def _config_drive(guest: _Guest) -> dict[str, bytes]:
    meta: dict[str, Any] = {"uuid": guest.identity}
    if guest.hostname:
        meta.update(hostname=guest.hostname, name=guest.hostname.partition(".")[0])
    if guest.keys:
        meta["public_keys"] = {f"key-{number}": key for number, key in enumerate(guest.keys)}
    # cloudbase-init sets it for the account that it is told, or that it has.
    if guest.password:
        meta["admin_pass"] = guest.password
    about = {**guest.other, **({"admin_username": guest.username} if guest.username else {})}
    if about:
        meta["meta"] = about
    found = {"meta_data.json": _json(meta), "user_data": guest.user_data}
    if guest.nics or guest.knows_nics:
        found["network_data.json"] = _json(_network_data(guest.nics))
    return {_LATEST + name: content for name, content in sorted(found.items())}


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def _network_data(nics: Sequence[_Nic]) -> dict[str, Any]:
    links = []
    networks: list[dict[str, Any]] = []
    for nic in nics:
        link: dict[str, Any] = {"id": nic.name, "type": "phy", "ethernet_mac_address": nic.mac}
        if nic.mtu is not None:
            link["mtu"] = nic.mtu
        links.append(link)
        own = list(_networks(nic))
        for route in nic.routes:
            # The first of its family, else the first: guests add them to the NIC anyway.
            place = next((entry for entry in own if f"ipv{route.to.version}" in entry["type"]), own[0])
            place.setdefault("routes", []).append(_network_route(route))
        # OpenStack has no word for this; cloud-init reads it here.
        if nic.search:
            own[0]["dns_search"] = nic.search
        networks += [{"id": f"network{len(networks) + at}", "link": nic.name, **entry} for at, entry in enumerate(own)]
    servers = dict.fromkeys(server for nic in nics for server in nic.dns)
    return {
        "links": links,
        "networks": networks,
        "services": [{"type": "dns", "address": server} for server in servers],
    }


def _networks(nic: _Nic) -> Iterator[dict[str, Any]]:
    if nic.dhcp4:
        yield {"type": "ipv4_dhcp"}
    if nic.dhcp6:
        yield {"type": "ipv6_dhcpv6-stateful"}
    elif nic.router_advertisements:
        yield {"type": "ipv6_slaac"}
    for own in nic.addresses:
        yield {"type": f"ipv{own.version}", "ip_address": str(own.ip), "netmask": str(own.netmask)}


def _network_route(route: _Route) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "network": str(route.to.network_address),
        "netmask": str(route.to.netmask),
        "gateway": str(route.via),
    }
    if route.metric is not None:
        entry["metric"] = route.metric
    return entry
