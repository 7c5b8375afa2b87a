# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes up passwords of graphics that nobody chose: every user of a host reaches a console on 127.0.0.1."""

from __future__ import annotations

import secrets
import string

from ....dataclass import replace
from ....model.vm import Graphics, Vm

# VNC takes eight characters. Letters and digits alone: they are typed, and stand in configuration files.
LENGTHS = {"vnc": 8, "spice": 32}
_ALPHABET = string.ascii_letters + string.digits


def with_console_password(vm: Vm, before: Graphics | None = None) -> Vm:
    """Return the machine with a password to its console, if one is to be made up. before: what it has and keeps."""
    graphics = vm.graphics
    if graphics is None or not graphics.made_up or graphics.password:
        return vm
    kept = before.password if before is not None and before.made_up and before.type == graphics.type else ""
    return replace(vm, graphics=replace(graphics, password=kept or _password(graphics.type)))


def with_console_password_at_last(vm: Vm, made_up: bool) -> Vm:
    """Give a password to a machine of a version that made none up. made_up: its template leaves that to us."""
    graphics = vm.graphics
    if graphics is None or graphics.password or not made_up:
        return vm
    return with_console_password(replace(vm, graphics=replace(graphics, made_up=True)))


def _password(kind: str) -> str:
    number, text = secrets.randbelow(len(_ALPHABET) ** LENGTHS[kind]), ""
    for _character in range(LENGTHS[kind]):
        number, index = divmod(number, len(_ALPHABET))
        text += _ALPHABET[index]
    return text
