# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs daemons of Open vSwitch and OVN: by the packages' units where systemd is process 1, else by their scripts."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Callable

from ...dataclass import dataclass
from ...errors import CommandFailed, InvalidValue, MissingDependency, TimedOut
from ...host import lock_files, processes, systemd_units
from ...host.command import last_lines
from ...host.command import run as run_program
from ...host.files import make_directory, read_limited, remove_empty_directory, remove_file, write_atomically
from .paths import OVN_SCRIPTS, OVS_SCRIPTS, SHORT, Places

SECONDS = 60
# A plain stop of ovn-controller takes its flows away, and with them all traffic of machines on the host. The package's
# unit stops it so whenever it is restarted, also by an upgrade of the package.
DROP_IN = "ovn-controller.service.d/nebula.conf"
DROP_IN_TEXT = """# Of nebula.provision: ovn-controller is restarted without cutting traffic.
[Service]
ExecStop=
ExecStop={script} stop_controller --restart --no-monitor
"""
# The members of a cluster are started with more options than the package's units have: the same commands, with them.
CENTRAL_DROP_INS = {
    "northbound": "ovn-ovsdb-server-nb.service.d/nebula.conf",
    "southbound": "ovn-ovsdb-server-sb.service.d/nebula.conf",
    "northd": "ovn-northd.service.d/nebula.conf",
}
CENTRAL_DROP_IN_TEXT = """# Of nebula.provision, catalog {catalog}: this host is a member of a cluster.
[Service]
ExecStartPre={nft} -f {guard}
ExecStart=
ExecStart={script} {command} {options} $OVN_CTL_OPTS
"""
# Of a single central host only northd's unit needs something.
NORTHD_DROP_IN_TEXT = """# Of nebula.provision, catalog {catalog}: northd ends without the databases.
[Service]
"""
# The package's unit ends both databases whenever northd ends, and starts northd alone again.
_NORTHD_STOPS = """ExecStop=
ExecStop={script} stop_northd --ovn-manage-ovsdb=no --no-monitor
"""
_COMMANDS = {
    "northbound": "run_nb_ovsdb",
    "southbound": "run_sb_ovsdb",
    "northd": "start_northd --ovn-manage-ovsdb=no --no-monitor",
}
_UNITS = {"switch": ("openvswitch-switch",), "central": ("ovn-central",), "controller": ("ovn-host",)}
_PARTS = {
    "switch": ("ovs-vswitchd", "ovsdb-server", "openvswitch-switch"),
    "central": ("ovn-northd", "ovn-ovsdb-server-nb", "ovn-ovsdb-server-sb", "ovn-central"),
    "controller": ("ovn-controller", "ovn-host"),
}
_LONGEST_PID = 32
_PACKAGES = {"switch": "openvswitch-switch", "central": "ovn-central", "controller": "ovn-host"}
_PROGRAMS = {
    "switch": f"{OVS_SCRIPTS}/ovs-ctl",
    "central": "/usr/bin/ovn-northd",
    "controller": "/usr/bin/ovn-controller",
}


@dataclass(frozen=True)
class Daemons:
    """Runs the daemons of one host. system_id: the name that the host has in OVN."""

    places: Places
    system_id: str = ""

    @property
    def by_units(self) -> bool:
        """Return whether the daemons are started by the packages' units, which know the packages' directories only."""
        return systemd_units.has_systemd() and self.places == Places()

    def running(self, which: str) -> bool:
        places = self.places
        if which == "switch":
            return self.reading() and bool(pid_of(places.ovs_run, "ovs-vswitchd", "ovs-vswitchd"))
        if which == "controller":
            return bool(pid_of(places.ovn_run, "ovn-controller", "ovn-controller"))
        return bool(pid_of(places.ovn_run, "ovn-northd", "ovn-northd")) and self.has_central_servers()

    def has_central_servers(self) -> bool:
        """Return whether both central databases have their servers."""
        return all(self.has_server(which) for which in SHORT)

    def has_server(self, which: str) -> bool:
        """Return whether the northbound or the southbound database has its server."""
        return bool(self.pid(which))

    def reading(self) -> bool:
        """Return whether the database of Open vSwitch has its server."""
        return bool(pid_of(self.places.ovs_run, "ovsdb-server", "ovsdb-server"))

    def starts_with_host(self, which: str) -> bool:
        """Return whether they start with the host; True too where nothing does, for want of a service manager."""
        return not self.by_units or systemd_units.start_with_host(_UNITS[which])

    def start(self, which: str) -> None:
        require_installed(which)
        if self.by_units:
            run_program(["systemctl", "enable", "--now", *_UNITS[which]], timeout=systemd_units.TIMEOUT)
            # The unit of the whole is active already where a part of it was killed.
            run_program(["systemctl", "start", *_PARTS[which]], timeout=systemd_units.TIMEOUT)
        elif which == "switch":
            # In a container memory often can't be locked.
            options = [f"--system-id={self.system_id}", "--no-record-hostname", "--no-mlockall"]
            self._script(OVS_SCRIPTS, "ovs-ctl", [*options, "start"])
        elif which == "central":
            self._script(OVN_SCRIPTS, "ovn-ctl", ["start_northd"])
        else:
            self._script(OVN_SCRIPTS, "ovn-ctl", ["start_controller"])
        self._wait(which, True)

    def stop(self, which: str) -> None:
        """End daemons for good. The controller's flows go, and its row in the southbound database."""
        if which == "controller" and self.running(which):
            self._script(OVN_SCRIPTS, "ovn-ctl", ["stop_controller"])
        if self.by_units:
            run_program(["systemctl", "disable", "--now", *_UNITS[which]], timeout=systemd_units.TIMEOUT)
            run_program(["systemctl", "stop", *_PARTS[which]], timeout=systemd_units.TIMEOUT)
        elif which == "switch":
            self._script(OVS_SCRIPTS, "ovs-ctl", ["stop"])
        elif which == "central":
            self._script(OVN_SCRIPTS, "ovn-ctl", ["stop_northd"])
        self._wait(which, False)

    def what_start_changes(self, there: bool) -> str:
        """Return what start("switch") is going to change of this host, for switch_off(). there: it has a database.

        "database": it has no database, and gets one. "unit": Open vSwitch neither runs nor starts with the host.
        "boot": it runs already, and does not start with the host. "": nothing that is to be undone."""
        if self.by_units and self.starts_with_host("switch"):
            return ""
        if not there:
            return "database"
        if not self.by_units:
            return ""
        return "boot" if self.running("switch") else "unit"

    def switch_off(self, changed: str) -> None:
        """Undo what start("switch") changed, which switching_on() has said."""
        if changed == "boot":
            run_program(["systemctl", "disable", *_UNITS["switch"]], timeout=systemd_units.TIMEOUT)
        elif changed:
            self.stop("switch")
        if changed == "database":
            path = self.places.switch_database
            for each in (path, os.path.join(os.path.dirname(path), ".conf.db.~lock~")):
                remove_file(os.path.realpath(each))

    def start_servers(self, options: Sequence[str]) -> None:
        """Start the servers of both databases of a cluster's member, and northd too where systemd starts them."""
        require_installed("central")
        if self.by_units:
            self.start("central")
            return
        for which in ("nb", "sb"):
            # Else the script waits until the database can be written, which may need a member that starts later.
            words = [f"--db-{which}-cluster-remote-addr=others", *options]
            self._script(OVN_SCRIPTS, "ovn-ctl", [*words, f"start_{which}_ovsdb"])

    def start_northd(self, options: Sequence[str]) -> None:
        """Start northd of a cluster's member; where it runs, it is started anew with these options."""
        if self.by_units:
            run_program(["systemctl", "restart", "ovn-northd"], timeout=systemd_units.TIMEOUT)
        else:
            self._script(OVN_SCRIPTS, "ovn-ctl", ["--ovn-manage-ovsdb=no", *options, "restart_northd"])
        self._wait("central", True)

    def halt_central(self) -> None:
        """End the central daemons until they are started again."""
        if self.by_units:
            run_program(["systemctl", "stop", *_PARTS["central"]], timeout=systemd_units.TIMEOUT)
        else:
            self._script(OVN_SCRIPTS, "ovn-ctl", ["stop_northd"])
        wait_until(
            lambda: not any(self.pid(name) for name in CENTRAL_DROP_INS),
            f"daemons of {_PACKAGES['central']}",
            "they still run",
            "ps -ef",
        )

    def pid(self, which: str) -> int:
        """Return the process of northd, or of the server of a database; 0 if it does not run."""
        if which == "northd":
            return pid_of(self.places.ovn_run, "ovn-northd", "ovn-northd")
        return pid_of(self.places.ovn_run, f"{SHORT[which]}_db", "ovsdb-server")

    def restart_controller(self) -> None:
        """Restart the controller without a cut: flows and the host's row in the southbound database stay meanwhile."""
        if self.by_units:
            if self.running("controller"):
                self._script(OVN_SCRIPTS, "ovn-ctl", ["stop_controller", "--restart", "--no-monitor"])
            run_program(["systemctl", "restart", "ovn-controller"], timeout=systemd_units.TIMEOUT)
        else:
            self._script(OVN_SCRIPTS, "ovn-ctl", ["restart_controller"])
        self._wait("controller", True)

    def connected(self) -> bool:
        """Return whether the controller has its connection to the southbound database."""
        argv = ["ovn-appctl", "-t", "ovn-controller", "connection-status"]
        done = run_program(argv, timeout=SECONDS, env=self.places.environment, check=False)
        return done.returncode == 0 and done.stdout.strip() == "connected"

    def _script(self, directory: str, script: str, words: Sequence[str]) -> None:
        argv = [os.path.join(directory, script), *words]
        with tempfile.TemporaryFile() as output:
            # Nothing of this task is inherited: not its umask, its directory, its pipes or its environment.
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                umask=0o022,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", **self.places.environment},
                start_new_session=True,
                timeout=SECONDS * 2,
                check=False,
            )
            output.seek(0)
            words_printed = output.read(64 * 1024).decode("utf-8", "replace")
        if done.returncode != 0:
            raise CommandFailed(
                f"command {' '.join(argv)}",
                f"ended with code {done.returncode}: {last_lines(words_printed)}",
                f"See the logs in {self.places.ovs_log} and {self.places.ovn_log}",
            )

    def _wait(self, which: str, running: bool) -> None:
        if running:
            wait_until(
                lambda: self.running(which), f"daemons of {_PACKAGES[which]}", "they do not run", self.places.ovn_log
            )
        else:
            wait_until(lambda: not self.running(which), f"daemons of {_PACKAGES[which]}", "they still run", "ps -ef")


def wait_until(condition: Callable[[], bool], asked: str, found: str, where: str, seconds: float = SECONDS) -> None:
    """Wait for the condition. Raise TimedOut if it does not come."""
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            raise TimedOut(asked, f"{found} after {seconds:g} s", f"See {where}")
        time.sleep(0.02)


def pid_of(directory: str, name: str, program: str) -> int:
    """Return the process that the pid file names, if it is the program's, started by root or the file's owner; else 0.

    The number may be another process's by now, and anybody can give a process any name: a daemon of Open vSwitch's
    holds a lock on its file as long as it lives. Some distributions have these daemons run as a user of their own,
    who also owns the directory of the file."""
    path = Path(directory, f"{name}.pid")
    try:
        with path.open("rb") as file:
            pid, owner = int(file.read(_LONGEST_PID)), os.fstat(file.fileno()).st_uid
            holder = lock_files.record_holder(file.fileno())
    except (OSError, ValueError):
        return 0
    return pid if pid == holder and processes.is_of_root(pid, program, owner) else 0


def is_installed(which: str) -> bool:
    return os.path.exists(_PROGRAMS[which])


def has_kernel_datapath() -> bool:
    """Return whether Open vSwitch's datapath can be the kernel's own."""
    if os.path.isdir("/sys/module/openvswitch"):
        return True
    with contextlib.suppress(MissingDependency):
        return run_program(["modprobe", "--dry-run", "openvswitch"], timeout=60, check=False).returncode == 0
    return False


def require_installed(which: str) -> None:
    if not is_installed(which):
        raise MissingDependency(
            f"program {_PROGRAMS[which]}",
            "it is not on this host",
            f"Install the package {_PACKAGES[which]}, or set nebula_manage_packages: true",
        )


def desired_drop_in() -> str:
    return DROP_IN_TEXT.format(script=os.path.join(OVN_SCRIPTS, "ovn-ctl"))


def read_drop_in(name: str = DROP_IN) -> str:
    """Return the text of the drop-in, "" if it is not there."""
    path = os.path.join(systemd_units.PLACE, name)
    return read_limited(path, 1 << 16).decode("utf-8", "replace") if os.path.lexists(path) else ""


def central_drop_ins(catalog: str, options: Mapping[str, Sequence[str]], guard: str) -> dict[str, str]:
    """Return what the units of a cluster's member have of us, by their files."""
    script = os.path.join(OVN_SCRIPTS, "ovn-ctl")
    found = {
        name: CENTRAL_DROP_IN_TEXT.format(
            catalog=catalog,
            nft="/usr/sbin/nft",
            guard=systemd_units.quoted_argument(guard),
            script=script,
            command=_COMMANDS[which],
            options=" ".join(map(systemd_units.quoted_argument, options[which])),
        )
        for which, name in CENTRAL_DROP_INS.items()
    }
    found[CENTRAL_DROP_INS["northd"]] += _NORTHD_STOPS.format(script=script)
    return found


def northd_drop_in(catalog: str) -> dict[str, str]:
    """Return what the units of a single central host have of us, by their files."""
    stops = _NORTHD_STOPS.format(script=os.path.join(OVN_SCRIPTS, "ovn-ctl"))
    return {CENTRAL_DROP_INS["northd"]: NORTHD_DROP_IN_TEXT.format(catalog=catalog) + stops}


def read_central_drop_ins(catalog: str) -> dict[str, str]:
    """Return the drop-ins that are this catalog's."""
    mark = CENTRAL_DROP_IN_TEXT.partition(":")[0].format(catalog=catalog)
    found = {name: read_drop_in(name) for name in CENTRAL_DROP_INS.values()}
    return {name: text for name, text in found.items() if text.startswith(mark)}


def keep_drop_ins(wanted: Mapping[str, str]) -> None:
    changed = False
    for name, text in wanted.items():
        path = os.path.join(systemd_units.PLACE, name)
        make_directory(os.path.dirname(path), 0o755)
        changed = write_atomically(path, text, mode=0o644) or changed
    if changed:
        run_program(["systemctl", "daemon-reload"], timeout=systemd_units.TIMEOUT)


def remove_drop_ins(names: Iterable[str]) -> None:
    gone = [path for path in (os.path.join(systemd_units.PLACE, name) for name in names) if remove_file(path)]
    for path in gone:
        remove_empty_directory(os.path.dirname(path))
    if gone:
        run_program(["systemctl", "daemon-reload"], timeout=systemd_units.TIMEOUT)


def listens(port: int) -> bool:
    """Return whether something takes TCP connections at this port of this host."""
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(path).read_text(encoding="ascii").splitlines()[1:]:
                _number, local, _remote, state = line.split()[:4]
                if state == "0A" and int(local.rsplit(":", 1)[1], 16) == port:
                    return True
    return False


def own_address_towards(address: str, port: int = 9) -> str:
    """Return the address with which this host would send to that address; "" if there is no way. Nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((address, port))
        return str(probe.getsockname()[0])
    return ""


def main_address(host: str) -> str:
    """Return the address with which this host reaches what it has no other route to, or the only address that it has.
    host: its name, for an error."""
    found = own_address_towards("192.0.2.1") or own_address_towards("2001:db8::1")
    if not found:
        raise InvalidValue(
            f"address of OVN's databases on host {host}",
            "nebula_ovn_address is not set for it, and it has no default route, whose address would be taken",
            "Set nebula_ovn_address of this host to the address by which the nodes reach it",
        )
    return found
