# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds the places where Open vSwitch and OVN keep their files on a host, and where we keep ours."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ...dataclass import dataclass
from ...errors import InvalidValue

OVS_SCRIPTS = "/usr/share/openvswitch/scripts"
OVN_SCRIPTS = "/usr/share/ovn/scripts"
# Below nebula_root.
OURS = "ovn"
# In place of the catalog's UUID where there is no catalog, so that what nobody has marked is not taken for its own.
NO_CATALOG = "(none yet)"


@dataclass(frozen=True)
class Places:
    """Holds the directories of the daemons, by default those of the distribution's packages. configuration: the
    directory that holds openvswitch/ and ovn/ (/etc)."""

    ovs_run: str = "/var/run/openvswitch"
    ovs_log: str = "/var/log/openvswitch"
    ovs_database: str = "/etc/openvswitch"
    ovn_run: str = "/var/run/ovn"
    ovn_log: str = "/var/log/ovn"
    ovn_database: str = "/var/lib/ovn"
    configuration: str = "/etc"

    @property
    def environment(self) -> dict[str, str]:
        """Return what the packages' scripts and programs read."""
        return {
            "OVS_RUNDIR": self.ovs_run,
            "OVS_LOGDIR": self.ovs_log,
            "OVS_DBDIR": self.ovs_database,
            "OVS_SYSCONFDIR": self.configuration,
            "OVN_RUNDIR": self.ovn_run,
            "OVN_LOGDIR": self.ovn_log,
            "OVN_DBDIR": self.ovn_database,
            "OVN_SYSCONFDIR": self.configuration,
        }

    @property
    def switch_socket(self) -> str:
        return os.path.join(self.ovs_run, "db.sock")

    @property
    def switch_database(self) -> str:
        return os.path.join(self.ovs_database, "conf.db")

    @property
    def system_id(self) -> str:
        return os.path.join(self.configuration, "openvswitch", "system-id.conf")

    def socket(self, which: str) -> str:
        return os.path.join(self.ovn_run, f"{SHORT[which]}_db.sock")

    def control(self, which: str) -> str:
        return os.path.join(self.ovn_run, f"{SHORT[which]}_db.ctl")

    def database(self, which: str) -> str:
        return os.path.join(self.ovn_database, f"{SHORT[which]}_db.db")


@dataclass(frozen=True)
class Change:
    """Says what is done with one thing, as a diff shows it; None: it is not there."""

    name: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


SHORT = {"northbound": "ovnnb", "southbound": "ovnsb"}
KEYS = ("ovs_run", "ovs_log", "ovs_database", "ovn_run", "ovn_log", "ovn_database", "configuration")


def read(given: Mapping[str, Any] | None) -> Places:
    """Return what the option `directories` says."""
    values = {key: str(value) for key, value in (given or {}).items() if value}
    for key, value in values.items():
        if not os.path.isabs(value) or os.path.normpath(value).strip("/") == "":
            raise InvalidValue(
                f"directories: {key} = {value!r}", "it is not the absolute path of a directory", "Give one"
            )
    return Places(**values)


def catalog_uuid(uuid: str, needed: bool) -> str:
    """Return the option `catalog`, which is empty in check mode and in a teardown where there is none. needed: whether
    something is to be marked with it."""
    if needed and not uuid:
        raise InvalidValue(
            "catalog: ''", "what is made for OVN carries the catalog's UUID", "Run role nebula.provision.frontend first"
        )
    return uuid or NO_CATALOG


def our_path(root: str, *names: str) -> str:
    return os.path.join(os.path.abspath(root), OURS, *names)
