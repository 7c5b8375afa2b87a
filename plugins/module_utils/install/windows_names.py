# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides which names Windows' setup accepts for an account and for the computer, as Microsoft documents them. Pure.

Setup itself finds a wrong name when everything is copied: it shows a message on a screen that nobody watches, or
starts over for ever."""

from __future__ import annotations

import re

from ..errors import InvalidValue
from ..printable import printable

# Characters of an account's name (SAM), and of a computer's (NetBIOS, less the byte that says what it is).
LONGEST_USER = 20
LONGEST_COMPUTER = 15
_FORBIDDEN = '"/\\[]:;|=,+*?<>@%'
# Accounts that each Windows has, by the names that its languages give them.
_ACCOUNTS = frozenset((
    "administrator", "administrateur", "administrador", "administratör", "järjestelmänvalvoja", "rendszergazda",
    "администратор", "guest", "gast", "invité", "invitado", "convidado", "gäst", "gjest", "ospite", "gość", "vieras",
    "vendég", "гость", "gæst", "konuk", "defaultaccount", "defaultuser0", "wdagutilityaccount", "wsiaccount",
    "helpassistant", "krbtgt",
))  # fmt: skip
# Its groups, likewise: accounts and groups share one list of names.
_GROUPS = frozenset((
    "access control assistance operators", "account operators", "administrators", "backup operators",
    "certificate service dcom access", "cryptographic operators", "device owners", "distributed com users",
    "event log readers", "guests", "hyper-v administrators", "iis_iusrs", "network configuration operators",
    "openssh users", "performance log users", "performance monitor users", "power users", "print operators",
    "rds endpoint servers", "rds management servers", "rds remote access servers", "remote desktop users",
    "remote management users", "replicator", "server operators", "storage replica administrators",
    "system managed accounts group", "user mode hardware operators", "users",
    "administradores", "administrateurs", "administratoren", "administratorer", "administratorzy", "administratörer",
    "amministratori", "användare", "benutzer", "brugere", "brukere", "convidados", "felhasználók",
    "gasten", "gebruikers", "gjester", "goście", "gäste", "gæster", "hauptbenutzer", "invitados", "invités",
    "järjestelmänvalvojat", "käyttäjät", "rendszergazdák", "usuarios", "usuários", "utenti", "utilisateurs",
    "utilizadores", "użytkownicy", "администраторы", "гости", "пользователи",
))  # fmt: skip
# Names that mean something else to its security system wherever an account could be named.
_PRINCIPALS = frozenset((
    "all services", "alla", "alle", "anonymous", "anonymous logon", "authenticated user", "authenticated users",
    "batch", "builtin", "console logon", "creator group", "creator group server", "creator owner",
    "creator owner server", "dialup", "digest auth", "digest authentication", "enterprise domain controllers",
    "everyone", "iedereen", "interactive", "internet", "iusr", "jeder", "local", "local account", "local service",
    "local system", "localservice", "localsystem", "network", "network service", "networkservice", "nt authority",
    "nt domain", "nt service", "ntlm auth", "ntlm authentication", "null", "owner rights", "proxy",
    "remote interactive", "remote interactive logon", "restricted", "schannel auth", "schannel authentication", "self",
    "server", "service", "system", "système", "terminal server", "terminal server user", "this organization", "todos",
    "tout le monde", "trustedinstaller", "world", "wszyscy", "все",
))  # fmt: skip
# An account's files are in a directory of its name, and no directory has one of these: they are devices.
_DEVICES = frozenset((
    "aux", "clock$", "con", "conin$", "conout$", "nul", "prn",
    *(f"{port}{number}" for port in ("com", "lpt") for number in "0123456789¹²³"),
))  # fmt: skip
# Directories beside those of the accounts, which are for all of them.
_PROFILES = frozenset(("all users", "default", "default user", "public"))
# Of the words that Microsoft reserves, those that have the form of a computer's name; and names that others have.
_COMPUTERS = frozenset((
    "anonymous", "batch", "builtin", "dialup", "interactive", "internet", "local", "localhost", "network", "null",
    "proxy", "restricted", "self", "server", "service", "system", "users", "workgroup", "world",
))  # fmt: skip


def computer_name(host: str) -> str:
    """Return the computer's name for a host name that nobody chose: cut where NetBIOS cuts it, and at no hyphen."""
    return host[:LONGEST_COMPUTER].rstrip("-")


def check_user(name: str, computer: str, where: str) -> None:
    """Raise InvalidValue where setup would make no account of this name on the computer."""
    fault, remedy = _fault_of_user(name, computer)
    if fault:
        raise InvalidValue(f"{where}: user {name!r}", fault, remedy)


def check_computer(name: str, chosen: bool, where: str) -> None:
    """Raise InvalidValue where Windows takes no such computer name.
    chosen: whether it is the hostname of the answers; else it was made of the image's name."""
    fault = _fault_of_computer(name)
    if not fault:
        return
    form = f"up to {LONGEST_COMPUTER} letters, digits and -, at least one of them a letter"
    if chosen:
        raise InvalidValue(f"{where}: hostname {name!r}", fault, f"Give one of {form}")
    raise InvalidValue(
        f"{where}: hostname", f"it is not given, and of the image's name it would be {name!r}: {fault}", f"Give {form}"
    )


def _fault_of_user(name: str, computer: str) -> tuple[str, str]:
    """Return why there can be no such account, and the remedy; "" if there can."""
    other, word = "Choose another name, as ops", name.casefold()
    # As Windows counts them: those beyond the 65536th are two.
    length = len(name.encode("utf-16-le", errors="surrogatepass")) // 2
    form = f"Use 1 to {LONGEST_USER} characters, none of them one of {_FORBIDDEN}"
    found = sorted({c for c in name if c in _FORBIDDEN or ord(c) < 32 or printable(c) != c})
    faults = (
        (not name, "Windows is not installed without an account of the user's own", form),
        (bool(name) and not name.strip(" ."), "it consists of dots and blanks only", form),
        (length > LONGEST_USER, f"it has {length} characters, and Windows takes {LONGEST_USER} at most", form),
        (bool(found), f"it holds {' '.join(map(repr, found))}, which Windows allows in no account's name", form),
        (name.endswith("."), "it ends with a dot, which Windows allows in no account's name", "Leave the dot out"),
        (name != name.strip(), "it begins or ends with a blank", "Leave the blank out"),
        (word == "none", "Windows' setup keeps NONE for itself", other),
        (word in _ACCOUNTS, "it is an account that Windows has itself", f"{other}; password is also Administrator's"),
        (word in _GROUPS, "it is a group that Windows has itself", other),
        (word in _PRINCIPALS, "it is a word that Windows' security system keeps for itself", other),
        (word in _PROFILES, "Windows has a directory of that name beside those of its accounts", other),
        (
            word.split(".")[0].rstrip() in _DEVICES,
            "it is a device of Windows, and no directory can have its name",
            other,
        ),
        (word == computer.casefold(), "it is the computer's name, which no account may have", f"{other}, or hostname"),
    )
    return next(((fault, remedy) for wrong, fault, remedy in faults if wrong), ("", ""))


def _fault_of_computer(name: str) -> str:
    if len(name) > LONGEST_COMPUTER:
        return f"it has {len(name)} characters, and NetBIOS would cut it to the first {LONGEST_COMPUTER}"
    if re.fullmatch(r"[0-9]+", name):
        return "it consists of digits only, which Windows takes for no computer's name"
    if not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?", name):
        return "it is no computer's name"
    if name.casefold() in _COMPUTERS:
        return "Windows keeps this word for itself"
    return ""
