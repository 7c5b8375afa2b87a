# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Explains the codes with which `vzctl` ends: what each code of vzctl(8) means, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ...dataclass import dataclass
from ...errors import (
    HypervisorError,
    InUse,
    InvalidValue,
    MissingDependency,
    NebulaError,
    NoCapacity,
    NoSpace,
    NotFound,
    TimedOut,
    WrongState,
)


@dataclass(frozen=True)
class Meaning:
    """Describes one code.
    found: a sentence about what is the case.
    remedy: what to do about it.
    error: the class that says so."""

    found: str
    remedy: str
    error: type[NebulaError] = HypervisorError


_KERNEL = "See dmesg, and the log that LOGFILE of /etc/vz/vz.conf names"
_QUOTA = "Set DISK_QUOTA=no in /etc/vz/vz.conf, or install vzquota"
_NETWORK = "See which scripts the container's distribution has in /etc/vz/dists, and run again"
_PLOOP = "Containers of this collection are plain files (simfs): see what made this one of an image"
CODES: Mapping[int, Meaning] = {
    1: Meaning("the kernel refused a beancounter", "Check MEMORY: each barrier has to be at most its limit"),
    2: Meaning("the kernel refused the fair-share scheduler's values", "Check CPU, CPUUNITS and CPULIMIT"),
    3: Meaning("a system call failed", _KERNEL),
    5: Meaning(
        "this kernel has no containers of OpenVZ, or lacks a part that they need",
        "Boot a kernel of OpenVZ, or one with namespaces and control groups",
        MissingDependency,
    ),
    6: Meaning(
        "the host has not the resources that the container asks for",
        "Ask for less MEMORY, end another container, or see dmesg for what the kernel lacks",
        NoCapacity,
    ),
    7: Meaning("the container's environment could not be made", _KERNEL),
    8: Meaning(
        "the command in the container could not be run, or the container does not run", "See vzctl status", WrongState
    ),
    9: Meaning(
        "another vzctl works on the container",
        "Wait for it to end; after a crash of it remove the file of the container below LOCKDIR of /etc/vz/vz.conf",
        InUse,
    ),
    10: Meaning("/etc/vz/vz.conf is not there", "Put the file back that comes with vzctl", MissingDependency),
    11: Meaning("a script of vzctl is not there", "Install vzctl whole, with its scripts", MissingDependency),
    12: Meaning("vzctl may not do that", "Run it as root"),
    13: Meaning("the container's capabilities could not be set", "Check CAPABILITY, and that vzctl runs as root"),
    14: Meaning("the container has no configuration", "Run again: it is defined anew", NotFound),
    15: Meaning(
        "a command in the container took too long", "See what the container does: vzctl exec CTID ps", TimedOut
    ),
    16: Meaning(
        "the container could not be saved",
        "See the dump's log below DUMPDIR of /etc/vz/vz.conf; CRIU or a kernel of OpenVZ is needed",
    ),
    17: Meaning(
        "the container could not be restored", "Power it off hard, which gives its saved state up, then start it"
    ),
    18: Meaning("the login id could not be set", _KERNEL),
    20: Meaning("vzctl does not know an option", "Install vzctl 4.0 or later", InvalidValue),
    21: Meaning("vzctl takes no such value", "Correct the attribute that the lines above name", InvalidValue),
    22: Meaning("VE_ROOT is not set", "Run again: the container is defined anew"),
    23: Meaning("VE_PRIVATE is not set", "Run again: the container is defined anew"),
    24: Meaning("TEMPLATE is not set", "Set TEMPLATE in /etc/vz/vz.conf"),
    27: Meaning("vzctl was given too few parameters", "Check the container's attributes", InvalidValue),
    28: Meaning(
        "some beancounters are missing: PHYSPAGES and SWAPPAGES come together, others all at once",
        "Give MEMORY as a number, or all beancounters that the kernel wants",
        InvalidValue,
    ),
    29: Meaning("the OS template is not set", "Name an IMAGE, or a SOURCE file", InvalidValue),
    31: Meaning("the container does not run", "Start it first", WrongState),
    32: Meaning("the container runs already", "Stop it first", WrongState),
    33: Meaning("the container did not stop", "Set hard: true, or see which of its processes does not end", TimedOut),
    34: Meaning("an address could not be given to the container", _NETWORK),
    35: Meaning("the beancounters contradict each other", "Check MEMORY with vzcfgvalidate", InvalidValue),
    36: Meaning("the host would be overcommitted", "Ask for less MEMORY", NoCapacity),
    40: Meaning("the container's file system is not mounted", "Start it, or mount it: vzctl mount", WrongState),
    41: Meaning("the container's file system is mounted", "Stop it, or unmount it: vzctl umount", WrongState),
    43: Meaning("the container has no private area", "Make it anew (recreate: true)", NotFound),
    44: Meaning("the container's private area is there already", "Make it anew (recreate: true)", WrongState),
    46: Meaning("the file system has too little room for the container", "Make room below nebula_root", NoSpace),
    47: Meaning(
        "the OS template is damaged, or its files belong to others than the configuration says",
        "Check LOCAL_UID and LOCAL_GID of /etc/vz/vz.conf, and the image",
    ),
    48: Meaning(
        "the private area could not be made", "See whether the image is a whole tar, and the room below nebula_root"
    ),
    49: Meaning("the mount point could not be made", "See what is in the machine's directory"),
    50: Meaning("the private area could not be mounted", _KERNEL),
    51: Meaning("the private area could not be unmounted", "See what still uses it: fuser -m", InUse),
    52: Meaning("the private area could not be removed", "See what still uses it: fuser -m", InUse),
    53: Meaning("the container's layout is not known", _PLOOP),
    54: Meaning("a directory could not be made", _KERNEL),
    55: Meaning("quota limits are missing", "Give DISKSPACE and DISKINODES", InvalidValue),
    60: Meaning("disk quota could not be turned on", _QUOTA),
    61: Meaning("disk quota could not be initialized", _QUOTA),
    62: Meaning("disk quota could not be set", _QUOTA),
    63: Meaning("DISKSPACE is not set", "Give DISKSPACE", InvalidValue),
    64: Meaning("DISKINODES is not set", "Give DISKINODES", InvalidValue),
    65: Meaning("quota of users in the container could not be set", _QUOTA),
    66: Meaning("disk quota could not be turned off", _QUOTA),
    67: Meaning("quota of users in the container is not initialized", _QUOTA),
    68: Meaning("the use of disk quota could not be read", _QUOTA),
    70: Meaning("the host name is none", "Correct HOSTNAME of CONTEXT", InvalidValue),
    71: Meaning("the address is none", "Correct IP of the NIC", InvalidValue),
    72: Meaning("the resolver is none", "Correct NAMESERVER of CONTEXT, or DNS of the network", InvalidValue),
    73: Meaning("the search domain is none", "Correct SEARCHDOMAIN of CONTEXT", InvalidValue),
    74: Meaning("the password could not be changed", "See whether the container has chpasswd or usermod"),
    77: Meaning("LOCKDIR is not set", "Set LOCKDIR in /etc/vz/vz.conf"),
    78: Meaning("the address is another container's", "End that one, or give this one another address", InUse),
    79: Meaning(
        "a script of its distribution failed, in the container or for it",
        "See whether the image is of the distribution that its name begins with, and has bash",
    ),
    82: Meaning("a sample configuration could not be copied", "Correct CONFIGFILE in /etc/vz/vz.conf"),
    85: Meaning("the container's configuration is bad", "Run again: it is defined anew", InvalidValue),
    86: Meaning("a device could not be given to the container", _KERNEL),
    87: Meaning("applications could not be installed", "Put them into the image"),
    89: Meaning("the address is not to be had here", "Check IP of the NIC", InvalidValue),
    91: Meaning("the OS template is not in the cache", "Run again: it is put there anew", NotFound),
    99: Meaning("this vzctl or kernel has no ploop", _PLOOP),
    100: Meaning("the container's addresses could not be read", _KERNEL),
    104: Meaning("a network device could not be given to the container", "See ip link on the host"),
    105: Meaning("the container is disabled", "Remove DISABLED from its configuration", WrongState),
    106: Meaning("iptables could not be set up for the container", "Check IPTABLES of /etc/vz/vz.conf"),
    107: Meaning("its distribution is not known", "Begin the image's name with one that /etc/vz/dists has", NotFound),
    108: Meaning("a script of its distribution is not there", "Install vzctl whole, with its scripts", NotFound),
    109: Meaning("a configuration could not be applied", "See the lines above"),
    128: Meaning("reinstallation failed", "Make the container anew (recreate: true)"),
    129: Meaning("what the container sees of memory could not be set", _KERNEL),
    130: Meaning(
        "a veth device could not be made",
        "See whether its name (TARGET) is taken on the host, and its bridge there: ip link",
    ),
    131: Meaning("the container's name could not be set", "See who has it: ls -l /etc/vz/names", InUse),
    133: Meaning("waiting for the container failed", "See its console: vzctl console CTID", TimedOut),
    139: Meaning("the configuration could not be saved", "See whether /etc/vz/conf can be written", NoSpace),
    144: Meaning("the kernel's release could not be set for the container", "Check /etc/vz/osrelease.conf"),
    148: Meaning("limits of input and output could not be set", "Check IOPRIO, IOLIMIT and IOPSLIMIT"),
    **{code: Meaning("its image of ploop failed", _PLOOP) for code in (*range(151, 162), 166, 167)},
}
_UNKNOWN = Meaning("it failed for a reason that has no name", _KERNEL)


def error_of_code(asked: str, code: int, words: str = "") -> NebulaError:
    """Return the error that a code means. words: what vzctl printed last."""
    meaning = CODES.get(code, _UNKNOWN)
    how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
    found = f"{meaning.found} (vzctl {how})"
    return meaning.error(asked, f"{found}: {words}" if words else found, meaning.remedy)
