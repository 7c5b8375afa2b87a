# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes AppArmor's profile of a container.

libvirt's own profile (TEMPLATE.lxc) lets a container mount next to nothing, so that no service of systemd that has
a mount namespace of its own starts: its network daemon and its logins among them. libvirt makes a profile from it
only where a machine has none yet; a file that is there is loaded as it is, also when the host boots."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from ...host.files import remove_file, write_atomically

APPARMOR = "apparmor"
# Where libvirt looks for them.
PLACE = Path("/etc/apparmor.d/libvirt")
PROFILE = """# Of nebula.provision. libvirt loads it as it is.
#include <tunables/global>

profile libvirt-{uuid} flags=(attach_disconnected) {{
  #include <abstractions/libvirt-lxc>

  file,
  capability,
  network,

  # Of its own users alone, in its own namespace.
  mount,
  pivot_root,
  ptrace peer=@{{profile_name}},
}}
"""


def model(capabilities: str) -> str:
    """Return what confines containers here, "" if we know nothing of it. capabilities: libvirt's own XML."""
    found = [element.text for element in ET.fromstring(capabilities).iterfind("host/secmodel/model")]
    return APPARMOR if APPARMOR in found else ""


def write_profile(uuid: str) -> None:
    """Write the profile of a container where libvirt looks for it."""
    write_atomically(str(_path(uuid)), PROFILE.format(uuid=uuid), mode=0o644)


def remove_profile(uuid: str) -> None:
    """Remove the profile, which libvirt would keep for ever."""
    for path in (_path(uuid), PLACE / f"libvirt-{uuid}.files"):
        remove_file(str(path))


def _path(uuid: str) -> Path:
    return PLACE / f"libvirt-{uuid}"
