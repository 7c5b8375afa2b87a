# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What module nebula_frontend_look takes, and the modules that it may be asked to call."""

from __future__ import annotations

from typing import Any

from ..looking import OPTIONS, Call, Calls

ARGUMENTS: dict[str, Any] = {"argument_spec": OPTIONS}


def _frontend() -> Call:
    from . import frontend

    return Call(frontend.ARGUMENTS, frontend.run)


def _demo_image() -> Call:
    from . import demo_image

    return Call(demo_image.ARGUMENTS, demo_image.run)


def _datastore() -> Call:
    from . import datastore

    return Call(datastore.ARGUMENTS, datastore.run)


def _network() -> Call:
    from . import network

    return Call(network.ARGUMENTS, network.run)


def _image() -> Call:
    from . import image

    return Call(image.ARGUMENTS, image.run)


def _template() -> Call:
    from . import template

    return Call(template.ARGUMENTS, template.run)


def _ovn_central() -> Call:
    from . import ovn_central

    return Call(ovn_central.ARGUMENTS, ovn_central.foreseen, only_asked=True)


def _ovn() -> Call:
    from . import ovn

    return Call(ovn.ARGUMENTS, ovn.run, lambda _params: ["ovs"], only_asked=True)


def _host() -> Call:
    from . import host

    return Call(host.ARGUMENTS, host.run)


def _vm() -> Call:
    from . import vm

    # Its decision is kept, and what it decides is carried out by role vm.
    return Call(vm.ARGUMENTS, vm.run, at_once=True)


CALLS: Calls = {
    "nebula_frontend": _frontend,
    "nebula_demo_image": _demo_image,
    "nebula_datastore": _datastore,
    "nebula_network": _network,
    "nebula_image": _image,
    "nebula_template": _template,
    "nebula_ovn_central": _ovn_central,
    "nebula_ovn": _ovn,
    "nebula_host": _host,
    "nebula_vm": _vm,
}
