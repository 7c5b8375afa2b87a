# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the forms of answers where installers would stop at another form, or ask a screen that nobody watches. Pure.

Whether there is such a place or such a keyboard is known to the installer alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..dataclass import dataclass
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


# Of system accounts and groups: those of user-setup's reserved-usernames, for which Debian's installer asks for another
# name whatever the priority and waits for ever, and those that exist or that packages make.
RESERVED_USERS = frozenset((
    "abrt", "adm", "admin", "alias", "apache", "asterisk", "audio", "avahi", "backup", "bin", "bind", "cdrom", "ceph",
    "cgred", "chrony", "clevis", "cockpit-ws", "colord", "crontab", "cupsys", "daemon", "dbus", "dcc", "dhcp", "dhcpcd",
    "dhcpd", "dialout", "dictd", "dip", "disk", "dnsmasq", "dovecot", "fax", "fetchmail", "firebird", "flatpak",
    "floppy", "ftn", "ftp", "fuse", "fwupd-refresh", "games", "gdm", "geoclue", "gnats", "grsec-proc", "grsec-sock-all",
    "grsec-sock-clt", "grsec-sock-srv", "grsec-tpe", "haclient", "hacluster", "haldaemon", "halt", "hplilp", "identd",
    "input", "irc", "jwhois", "klog", "kmem", "kvm", "landscape", "libstoragemgmt", "libvirt-qemu", "libvirtdbus",
    "list", "lock", "lp", "lpadmin", "lxd", "maas", "mail", "maildrop", "man", "messagebus", "mysql", "mythtv", "named",
    "netdev", "netplan", "news", "nginx", "nobody", "nogroup", "ntp", "opensrf", "operator", "pcp", "pesign",
    "pipewire", "plugdev", "polkitd", "polkituser", "pollinate", "postdrop", "postfix", "postgres", "powerdev",
    "printadmin", "proxy", "qemu", "qmail", "qmaild", "qmaill", "qmailp", "qmailq", "qmailr", "qmails", "radvd",
    "render", "root", "rpc", "rpcuser", "rtkit", "saned", "sasl", "saslauth", "sbuild", "scanner", "setroubleshoot",
    "sgx", "shadow", "shutdown", "slocate", "slurm", "src", "ssh", "ssh_keys", "sshd", "ssl-cert", "sslwrap", "sssd",
    "staff", "stapdev", "stapsys", "stapusr", "statd", "sudo", "sync", "sys", "syslog", "systemd-bus-proxy",
    "systemd-coredump", "systemd-journal", "systemd-network", "systemd-oom", "systemd-resolve", "systemd-timesync",
    "tac-plus", "tape", "tcpdump", "telnetd", "tftpd", "trusted", "tss", "tty", "unbound", "usbmux", "users",
    "utempter", "utmp", "uucp", "uuidd", "vchkpw", "video", "voice", "vpopmail", "wheel", "www-data", "wwwrun",
))  # fmt: skip
_USER = re.compile(r"[a-z][-a-z0-9_]{0,31}")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"


def check_user(name: str, where: str) -> None:
    """Raise InvalidValue for a name of a user that installers of Linux keep for the system, or do not take."""
    if name in RESERVED_USERS:
        raise InvalidValue(
            f"{where}: user {name}", "installers keep this name for the system", "Choose another one, as ops"
        )
    if name and not _USER.fullmatch(name):
        raise InvalidValue(
            f"{where}: user",
            "installers accept no such name",
            "Use up to 32 characters of a-z, 0-9, - and _, the first one a letter",
        )


def check_names(variables: Mapping[str, object], where: str) -> None:
    """Raise InvalidValue for a name of the host or a domain that is none."""
    host, domain = str(variables["hostname"]), str(variables.get("domain", ""))
    form = "up to 63 letters, digits and -, which is neither the first nor the last"
    if "." in host:
        rest = ", and put the rest into domain" if "domain" in variables else ""
        remedy = f"Give what is before its first dot{rest}"
        raise InvalidValue(f"{where}: hostname", "it has a dot", remedy)
    if host and not re.fullmatch(_LABEL, host):
        raise InvalidValue(f"{where}: hostname", "it is no host name", f"Use {form}")
    if domain and not re.fullmatch(rf"{_LABEL}(?:\.{_LABEL})*", domain):
        raise InvalidValue(f"{where}: domain", "it is no domain", f"Join labels by dots, each of {form}")


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
