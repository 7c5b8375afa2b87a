# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Defines what templates, machines and images say of an installation from an installer's ISO (install/)."""

from __future__ import annotations

from .vm import Vm

# The attribute of the template, and so of the machine, that installs an image. Its value is the name of the image.
MARK = "INSTALLS"
# The attribute of the machine that tries the image.
TRIES = "TRIES"
# Attributes of the image: its ISO, the seconds that the installation took, and whether its guest was verified.
FROM, TOOK, VERIFIED = "INSTALLED_FROM", "INSTALLED_IN", "VERIFIED"
# Attributes that describe one installation: an image that is made of this image does not get them.
OF_ONE = (FROM, TOOK, VERIFIED, MARK)
# Image.unfinished while machines may be writing into the image, and after the installer has finished.
INSTALLING, INSTALLED = "installing", "installed"


def starts_with_host(vm: Vm, wanted: str) -> bool:
    """Return whether a host that boots is to start the machine by itself.

    A machine that installs is not: it would install once more, over what it has written already."""
    return wanted == "RUNNING" and MARK not in vm.attributes
