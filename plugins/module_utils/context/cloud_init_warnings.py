# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says what cloud-init takes of each format of a context, and what it leaves out. Pure.

docs/context.md has the table. OpenNebula's own packages and our guest program take all of context.sh; nobody knows here
which of them an image has."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence

OPENNEBULA, CONFIG_DRIVE, NOCLOUD = "opennebula", "configdrive", "nocloud"
_NIC = re.compile(r"ETH([0-9]{1,5})_MAC\Z")
_ALIAS = re.compile(r"(ETH[0-9]{1,5}_ALIAS[0-9]{1,5}_)(?:IP|IP6|IP6_ULA)\Z")
_LIST = re.compile(r"(?:ETH[0-9]{1,5}_)?(?:DNS|SEARCH_DOMAIN)\Z")
_SCRIPTS = ("START_SCRIPT", "START_SCRIPT_BASE64")
# First words of scripts that Windows runs, in small letters: their lines end as Windows has them.
_OF_WINDOWS = (b"#ps1", b"rem cmd")
_MARK = b"\xef\xbb\xbf"
# cloud-init runs what names no program by sh. OpenNebula's guests do by bash, where there is one.
_BY_BASH = b'#!/bin/sh\n[ -n "$BASH_VERSION" ] || ! command -v bash > /dev/null || exec bash "$0" "$@"\n'
# Nothing but cloud-init reads these: where they are, it is the reader.
_USER_DATA = ("USER_DATA", "USERDATA")
_ACCOUNTS_AND_SCRIPTS = (
    *("USERNAME", "USERNAME_SHELL", "USERNAME_SUDO", "PASSWORD", "PASSWORD_BASE64", "CRYPTED_PASSWORD"),
    *("CRYPTED_PASSWORD_BASE64", "START_SCRIPT", "START_SCRIPT_BASE64", "INIT_SCRIPTS"),
)


def written_for_readers(format: str, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a new context, with values written so that each reader of the format takes them.

    In OpenNebula's format, cloud-init separates the items of a list by blanks alone, while the others also take commas,
    and looks for search domains only at an interface. In the other formats it takes a script as it is."""
    found = dict(variables)
    found.update({name: _user_data(variables, name) for name in _USER_DATA if variables.get(name, "").strip()})
    if format != OPENNEBULA:
        found.update({name: _script(name, variables[name]) for name in _SCRIPTS if variables.get(name, "").strip()})
        for prefix in _nics(found):
            # The name that OpenNebula had before 6.2, which the others know as well.
            if found.get(f"{prefix}GATEWAY6", "").strip() and not found.get(f"{prefix}IP6_GATEWAY", "").strip():
                found[f"{prefix}IP6_GATEWAY"] = found[f"{prefix}GATEWAY6"]
        return found
    for name, value in variables.items():
        if _LIST.match(name) and re.search("[,;]", value):
            found[name] = " ".join(re.split(r"[,;\s]+", value.strip(",; ")))
    for prefix in _nics(found):
        _split_lengths(found, (f"{prefix}IP",), f"{prefix}MASK", "255.255.255.0")
        _split_lengths(found, (f"{prefix}IP6", f"{prefix}IP6_ULA"), f"{prefix}IP6_PREFIX_LENGTH", "64")
    first = next(iter(_nics(found)), "")
    if first and found.get("SEARCH_DOMAIN", "").strip():
        both = f"{found['SEARCH_DOMAIN']} {found.get(f'{first}SEARCH_DOMAIN', '')}"
        found[f"{first}SEARCH_DOMAIN"] = " ".join(dict.fromkeys(both.split()))
    return found


def _split_lengths(variables: dict[str, str], names: tuple[str, ...], where: str, default: str) -> None:
    """Write prefix lengths that stand in addresses into the variable for them, if all addresses have the same."""
    given = {name: variables[name].strip() for name in names if variables.get(name, "").strip()}
    if not any("/" in address for address in given.values()):
        return
    beside = variables.get(where, "").strip() or default
    try:
        found = {
            name: ipaddress.ip_interface(address if "/" in address else f"{address}/{beside}")
            for name, address in given.items()
        }
    except ValueError:
        return
    if len({each.network.prefixlen for each in found.values()}) == 1:
        variables.update((name, str(each.ip)) for name, each in found.items() if "/" in given[name])
        one = next(iter(found.values()))
        variables[where] = str(one.netmask) if one.version == 4 else str(one.network.prefixlen)


def _user_data(variables: Mapping[str, str], name: str) -> str:
    """Return the user data without a byte order mark at the beginning, behind which cloud-init does not know them."""
    value = variables[name]
    encoding = variables.get("USERDATA_ENCODING") or variables.get("USER_DATA_ENCODING", "")
    if encoding.strip().lower() != "base64":
        return value.removeprefix(_MARK.decode())
    try:
        given = base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        return value
    return base64.b64encode(given[len(_MARK) :]).decode() if given.startswith(_MARK) else value


def _script(name: str, value: str) -> str:
    """Return the script as a guest of Linux can run it: with line ends of Unix, without a byte order mark at the
    beginning, and run by bash if it names no program. A value with bytes 0 is no text, and is returned unchanged."""
    encoded = name.endswith("_BASE64")
    try:
        given = base64.b64decode("".join(value.split()), validate=True) if encoded else value.encode()
    except (binascii.Error, ValueError):
        # It is refused later, with its reason.
        return value
    script = given[len(_MARK) :] if given.startswith(_MARK) else given
    if not script or b"\0" in script:
        return value
    if not script.lower().startswith(_OF_WINDOWS):
        script = re.sub(rb"\r(?=\n|\Z)", b"", script)
        script = script if script.startswith(b"#!") else _BY_BASH + script
    if script == given:
        return value
    return base64.b64encode(script).decode() if encoded else script.decode()


def changed_for_readers(format: str, variables: Mapping[str, str], before: Mapping[str, str]) -> dict[str, str]:
    """Return what as_read() returns, for a context that was made by a release which wrote all values as they were
    given. A value that is given as before stays as it is. before: the variables that the machine has."""
    searched = variables.get("SEARCH_DOMAIN") != before.get("SEARCH_DOMAIN")
    return {
        name: value
        if variables.get(name) != before.get(name) or (searched and name.endswith("_SEARCH_DOMAIN"))
        else variables[name]
        for name, value in written_for_readers(format, variables).items()
    }


def left_out_by_cloud_init(format: str, variables: Mapping[str, str]) -> list[str]:
    """Return the names of variables with values that cloud-init leaves out of a context of this format."""
    given = {name: value.strip() for name, value in variables.items() if value.strip()}
    found = [name for prefix in _nics(given) for name in _of_nic(format, given, prefix)]
    if format == OPENNEBULA:
        found += _aliases(given)
        if any(name in given for name in _USER_DATA):
            found += [name for name in _ACCOUNTS_AND_SCRIPTS if name in given]
    return found


def warnings(format: str, variables: Mapping[str, str]) -> list[str]:
    """Return one sentence for the user about all that cloud-init leaves out; no sentence if it leaves out nothing."""
    names = left_out_by_cloud_init(format, variables)
    if not names:
        return []
    remedy = "The context program of role guest_context takes all"
    if format != NOCLOUD:
        if left_out_by_cloud_init(NOCLOUD, variables) == []:
            remedy = 'CONTEXT_FORMAT = "nocloud" (context_format: nocloud) gives it all of them'
        else:
            remedy = 'CONTEXT_FORMAT = "nocloud" (context_format: nocloud) gives it most of them'
        remedy += "; the context program of role guest_context and OpenNebula's packages take all"
    leaves_out = f"CONTEXT: if the guest has cloud-init, it does not act on {', '.join(names)} in format {format}."
    return [f"{leaves_out} {remedy}"]


def _nics(variables: Mapping[str, str]) -> list[str]:
    """Return the prefixes ETHn_ of the interfaces that the context names, by number."""
    return [f"ETH{number}_" for number in sorted(int(found[1]) for found in map(_NIC.match, variables) if found)]


def _of_nic(format: str, given: Mapping[str, str], prefix: str) -> Iterator[str]:
    method = given.get(f"{prefix}METHOD", "static").lower()
    method6 = given.get(f"{prefix}IP6_METHOD", method).lower()
    if format == OPENNEBULA:
        if method != "static":
            yield f"{prefix}METHOD"
        elif f"{prefix}IP" not in given:
            # It makes one up out of the MAC address.
            yield f"{prefix}IP (there is none, and cloud-init takes one out of {prefix}MAC)"
        for name in ("IP", "IP6", "IP6_ULA"):
            if "/" in given.get(prefix + name, ""):
                yield f"{prefix}{name} (with a length of its own)"
        if f"{prefix}IP6_METHOD" in given and method6 != "static":
            yield f"{prefix}IP6_METHOD"
        yield from (prefix + name for name in ("METRIC", "IP6_METRIC", "ROUTES") if prefix + name in given)
    elif format == CONFIG_DRIVE:
        if method == "dhcp" and f"{prefix}METRIC" in given:
            yield f"{prefix}METRIC"
        if method6 == "disable":
            yield f"{prefix}IP6_METHOD"
    elif format == NOCLOUD and f"{prefix}IP6_METRIC" in given and method6 != "skip":
        yield f"{prefix}IP6_METRIC"
    if format != NOCLOUD:
        own4 = _networks(given, (f"{prefix}IP",), given.get(f"{prefix}MASK", "24")) if method == "static" else []
        length = given.get(f"{prefix}IP6_PREFIX_LENGTH", "64")
        own6 = _networks(given, (f"{prefix}IP6", f"{prefix}IP6_ULA"), length) if method6 == "static" else []
        for name, own in ((f"{prefix}GATEWAY", own4), (f"{prefix}IP6_GATEWAY", own6)):
            if _is_outside(given.get(name, ""), own):
                yield f"{name} (it is outside of the prefix)"
        routers = [words.split()[-1] for words in given.get(f"{prefix}ROUTES", "").split(",") if words.split()]
        # Where all routes are lost it is told already.
        if format == CONFIG_DRIVE and any(_is_outside(via, own6 if ":" in via else own4) for via in routers):
            yield f"{prefix}ROUTES (by a router outside of the prefix)"


def _networks(
    given: Mapping[str, str], addresses: tuple[str, ...], mask: str
) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Return the networks of the addresses; [] if a value is no address."""
    try:
        return [
            ipaddress.ip_interface(given[name] if "/" in given[name] else f"{given[name]}/{mask}").network
            for name in addresses
            if name in given
        ]
    except ValueError:
        return []


def _is_outside(router: str, own: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    """Return whether the router is in none of the networks; False if there is no network, or the text is no address."""
    try:
        via = ipaddress.ip_address(router)
    except ValueError:
        return False
    return bool(own) and not via.is_link_local and not any(via in network for network in own)


def _aliases(given: Mapping[str, str]) -> list[str]:
    return [
        name
        for name in given
        for found in [_ALIAS.match(name)]
        if found and given.get(f"{found[1]}EXTERNAL", "").upper() != "YES"
    ]
