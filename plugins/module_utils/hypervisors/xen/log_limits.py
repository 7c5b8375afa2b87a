# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps small, also between runs, what guests can make a dom0 log: their consoles, and the logs of the programs that
serve them. Neither xenconsoled nor QEMU knows a limit, so a unit of ours looks after them every few seconds.

The programs write behind the end of their files (O_APPEND). A console becomes console.log.0, that .1, that .2, as
by virtlogd for KVM's machines, and its file begins anew; of every other log the end stays."""

from __future__ import annotations

from ...host import systemd_units
from ...host.command import run
from ...host.node_file import Changes
from ...model import defaults

UNIT = "nebula-xen-logs.service"
MARK = "# Written by nebula.provision: it keeps the logs of Xen's guests small."
LIMIT = defaults.CONSOLE_LOG_BYTES
# Of a log that is no console: the newest of what it says is what is asked for.
KEPT = 64 << 10
SECONDS = 5
TIMEOUT = 60.0
# Links to the consoles of machines, and what is beside them; logs of programs.
CONSOLES = "/var/log/xen/console"
LOGS = ("/var/log/xen/qemu-dm-one-*.log", "/var/log/xen/xl-one-*.log", "/var/log/xen/xen-hotplug.log",
        "/var/log/libvirt/libxl/one-*.log")  # fmt: skip
# $1: limit, $2: what is kept of other logs, $3: directory of consoles; then the logs. By the room that a file takes:
# one of a program that does not write behind its end has a hole where its content was.
SCRIPT = (
    "limit=$1 kept=$2 consoles=$3; shift 3; "
    'large() { [ -f "$1" ] && [ $(( $(stat -Lc %b "$1") * 512 )) -gt "$limit" ]; }; '
    'for link in "$consoles"/guest-one-*.log "$consoles"/serial-one-*.log; do '
    'log=$(readlink -f "$link") || continue; large "$log" || continue; '
    'if [ -L "$link" ]; then for n in 1 0; do [ ! -f "$log.$n" ] || mv -f "$log.$n" "$log.$((n + 1))"; done; '
    'tail -c "$limit" "$log" > "$log.0" && : > "$log"; '
    'else : > "$log"; fi; done; '
    'for log in "$@"; do large "$log" || continue; '
    'end=$(tail -c "$kept" "$log"; echo .); : > "$log"; printf %s "${end%.}" >> "$log"; done'
)


def text() -> str:
    """Return the unit, which is started again each time it has ended: a timer would need two units."""
    words = ["sh", str(LIMIT), str(KEPT), CONSOLES]
    # A unit does not know patterns of files, its shell does.
    script = SCRIPT.replace('in "$@"', f"in {' '.join(LOGS)}")
    command = " ".join(["/bin/sh", "-c", systemd_units.quoted_argument(script), *words])
    return (
        f"{MARK}\n[Unit]\nDescription=Keep the logs of Xen's guests small\nStartLimitIntervalSec=0\n\n"
        f"[Service]\nExecStart={command}\nRestart=always\nRestartSec={SECONDS}\nUMask=0077\nNice=10\n"
        "LogLevelMax=notice\n\n[Install]\nWantedBy=multi-user.target\n"
    )


def prepare(changes: Changes) -> None:
    """Install and start the unit. On a host without systemd nothing keeps the logs small; docs/xen.md says so."""
    if not systemd_units.has_systemd() or (systemd_units.installed(UNIT, text()) and _is_running()):
        return
    changes.did(UNIT, "not there", "keeps logs of guests small")
    if not changes.check_mode:
        systemd_units.install(UNIT, text(), MARK)
        run(["systemctl", "restart", UNIT], timeout=TIMEOUT)


def give_back(changes: Changes) -> bool:
    if not systemd_units.has_systemd() or UNIT not in systemd_units.units_named(UNIT):
        return False
    changes.did(UNIT, "keeps logs of guests small", "not there")
    if not changes.check_mode:
        systemd_units.remove(UNIT, MARK)
    return True


def _is_running() -> bool:
    """Return whether the unit runs. While it waits to be started again it is "activating"."""
    done = run(["systemctl", "is-active", UNIT], timeout=TIMEOUT, check=False)
    return done.stdout.strip() in ("active", "activating")
