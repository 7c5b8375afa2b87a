# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_frontend_look takes, and the modules that it asks."""

from __future__ import annotations

from typing import Any

from ..looking import OPTIONS, Look
from ..runner import Call

ARGUMENTS: dict[str, Any] = {"argument_spec": OPTIONS}


def call_of(module: str) -> Call:
    """Return the file of calls/ of a module. Only what is asked for is imported."""
    if module == "nebula_frontend":
        from . import frontend

        return frontend
    if module == "nebula_demo_image":
        from . import demo_image

        return demo_image
    if module == "nebula_datastore":
        from . import datastore

        return datastore
    if module == "nebula_network":
        from . import network

        return network
    if module == "nebula_image":
        from . import image

        return image
    if module == "nebula_template":
        from . import template

        return template
    if module == "nebula_ovn":
        from . import ovn

        return ovn
    if module == "nebula_host":
        from . import host

        return host
    if module == "nebula_vm":
        from . import vm

        return vm
    if module == "nebula_ovn_central":
        from . import ovn_central_foreseen

        return ovn_central_foreseen
    raise KeyError(module)


# A decision about machines is kept, and what it decides is carried out by role vm.
LOOK = Look(call_of, at_once=("nebula_vm",), only_asked=("nebula_ovn", "nebula_ovn_central"))
