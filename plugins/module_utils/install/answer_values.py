# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the forms of answers where installers would stop at another form, or ask a screen that nobody watches. Pure.

Whether there is such a place or such a keyboard is known to the installer alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import InvalidValue

# What Microsoft's schema of answers allows, in characters.
LONGEST_PASSWORD = 127
LONGEST_COMMAND = 1024


@dataclass(frozen=True)
class Form:
    """Describes what a value has to be. shown: whether errors may show it."""

    pattern: str
    found: str
    remedy: str
    shown: bool = True

    def check(self, key: str, value: object, where: str) -> None:
        """Raise InvalidValue for a value of another form. An empty value passes."""
        text = str(value)
        if text and not re.fullmatch(self.pattern, text):
            raise InvalidValue(f"{where}: {key} {text!r}" if self.shown else f"{where}: {key}", self.found, self.remedy)


_LINUX = {
    "locale": Form(
        r"(?:C|POSIX|[a-z]{2,3}(?:_[A-Z]{2,3})?)(?:\.[A-Za-z0-9-]+)?(?:@[A-Za-z]+)?",
        "Linux has no such locale",
        "Write it as en_US.UTF-8",
    ),
    "timezone": Form(
        r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*",
        "no time zone of Linux is called so",
        "Write it as Europe/Berlin or Etc/UTC",
    ),
}
_DISK_PATH = Form(r"/dev/\S+", "it is no path of a disk", "Write it as /dev/vda, or leave it out")
_DISK = Form(r"\S+", "it is no name of a disk", "Write it as /dev/vda, or leave it out")
_MIRROR = Form(
    r"[a-z][a-z0-9+.-]*://[^\s/]\S*|(?:file|hd|cd|dvd|dir):\S+",
    "it is no URL",
    "Write it as http://deb.example.org/debian",
    shown=False,
)
# What apt gets.
_WEB = Form(
    r"(?:https?|ftp)://[^\s/]\S*",
    "this installer takes a mirror by http, https or ftp",
    "Write it as http://deb.example.org/debian",
    shown=False,
)
_PROXY = Form(
    r"https?://[^\s/]\S*",
    "apt, which this installer uses, takes no proxy without http:// before it",
    "Write it as http://proxy.example.org:3128/",
    shown=False,
)
# A group has blanks in its name, a package has none.
_PACKAGE = Form(r"@.+|\S+", "it is no name of a package", "Write packages as a list, each an item of its own")
_TAG = r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})+"
_BRACED = r"\{[0-9A-Fa-f-]{36}\}"
_INPUT = rf"(?:[0-9A-Fa-f]{{4}}:(?:[0-9A-Fa-f]{{8}}|{_BRACED}{_BRACED})|{_TAG})"
_WINDOWS = {
    "locale": Form(_TAG, "Windows has no such language", "Write it as en-US"),
    "keyboard": Form(
        rf"{_INPUT}(?:;{_INPUT})*",
        "Windows has no such keyboard",
        "Write it as 0407:00000407 or de-DE, or leave it out for the locale's",
    ),
    "timezone": Form(
        r"UTC(?:[+-][0-9]{2})?|(?:[^/]+ Standard Time(?: \([A-Za-z ]+\))?|[^/]+ Time Zone [0-9]+)(?:_dstoff)?",
        "no time zone of Windows is called so",
        "Write it as UTC or W. Europe Standard Time, a name that `tzutil /l` lists",
    ),
    "disk": Form(r"[0-9]{1,3}", "Windows' setup knows disks by their numbers", "Write it as 0, or leave it out"),
    "product_key": Form(
        r"[A-Za-z0-9]{5}(?:-[A-Za-z0-9]{5}){4}",
        "it is no product key",
        "Write five groups of five letters and digits, joined by -",
        shown=False,
    ),
}


def check_linux(variables: Mapping[str, object], disk_paths: bool, apt: bool, where: str) -> None:
    """Raise InvalidValue for a form that the installers of Linux can't use.
    disk_paths: whether the installer wants the path of a disk, and no name.
    apt: whether it is apt that gets mirror and proxy."""
    forms = {**_LINUX, "disk": _DISK_PATH if disk_paths else _DISK}
    forms.update({"mirror": _WEB, "proxy": _PROXY} if apt else {"mirror": _MIRROR})
    for key, form in forms.items():
        form.check(key, variables[key], where)
    for package in _texts(variables["packages"]):
        _PACKAGE.check("packages", package or " ", where)


def check_windows(variables: Mapping[str, object], where: str) -> None:
    """Raise InvalidValue for a value at which Windows' setup stops."""
    for key, form in _WINDOWS.items():
        form.check(key, variables[key], where)
    for key in ("locale", "timezone", "disk"):
        if not variables[key]:
            raise InvalidValue(f"{where}: {key}", "it is empty", f"{_WINDOWS[key].remedy.partition(',')[0]}")
    index = variables["image_index"]
    if isinstance(index, int) and index < 1:
        raise InvalidValue(f"{where}: image_index {index}", "images of an ISO count from 1", "Give the image's number")
    if len(str(variables["password"])) > LONGEST_PASSWORD:
        raise InvalidValue(
            f"{where}: password", f"it has more than {LONGEST_PASSWORD} characters", "Give a shorter one"
        )
    for number, command in enumerate(_texts(variables["late_commands"]), 1):
        if len(command) > LONGEST_COMMAND:
            raise InvalidValue(
                f"{where}: late_commands: command {number}",
                f"it has {len(command)} characters, and Windows takes {LONGEST_COMMAND}",
                "Put what is long into a script",
            )


def _texts(value: object) -> Sequence[str]:
    return [str(each) for each in value] if isinstance(value, (list, tuple)) else []
