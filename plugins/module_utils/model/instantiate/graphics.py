# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads GRAPHICS: the console of a machine, and whose its password is."""

from __future__ import annotations

from ...errors import InvalidValue
from .. import defaults, libvirt_values
from ..flags import FALSE, TRUE
from ..object_names import known_are
from ..template import Template
from ..vm import Graphics
from .template_values import read_whole

GRAPHICS_TYPES = ("vnc", "spice")
FIRST_PORT, LAST_PORT = defaults.FIRST_GRAPHICS_PORT, defaults.LAST_GRAPHICS_PORT


def graphics_of(template: Template, where: str, port: int | None, companions: bool = False) -> Graphics | None:
    """Return the console, None where the template has none.
    port: what the engine chose, None before it has.
    companions: SPICE comes with what Graphics.companions says."""
    found = template.vectors("GRAPHICS")
    if not found:
        return None
    vector = found[0]
    here = f"{where}: GRAPHICS"
    type_ = vector.get("TYPE", defaults.GRAPHICS_TYPE).lower()
    if type_ not in GRAPHICS_TYPES:
        raise InvalidValue(f"{here}/TYPE = {vector.get('TYPE')}", "no such graphics", "Use vnc or spice")
    # As in OpenNebula, a password that is given counts.
    random = vector.get("RANDOM_PASSWD", "").upper() or "YES"
    if random not in TRUE + FALSE:
        raise InvalidValue(f"{here}/RANDOM_PASSWD = {random}", "it is neither YES nor NO", "Use YES or NO")
    keymap = vector.get("KEYMAP", "").strip().lower()
    if keymap and keymap not in libvirt_values.KEYMAPS:
        remedy = known_are(keymap, libvirt_values.KEYMAPS, "{}")
        raise InvalidValue(f"{here}/KEYMAP = {vector['KEYMAP']!r}", "QEMU knows no such keyboard", remedy)
    fixed = 0
    if vector.get("PORT"):
        remedy = f"Use {FIRST_PORT} to {LAST_PORT}, or leave it out to get a free one"
        fixed = read_whole(vector["PORT"], f"{here}/PORT", remedy)
        if not FIRST_PORT <= fixed <= LAST_PORT:
            raise InvalidValue(f"{here}/PORT = {fixed}", "consoles have no such port", remedy)
    return Graphics(
        type=type_,
        listen=vector.get("LISTEN", defaults.GRAPHICS_LISTEN),
        port=port or fixed,
        password=vector.get("PASSWD", ""),
        keymap=keymap,
        made_up=random in TRUE and not vector.get("PASSWD"),
        companions=companions and type_ == "spice",
    )


def wants_made_up_password(template: Template) -> bool:
    """Return whether the password to the machine's console is to be made up."""
    graphics = graphics_of(template, "template", None)
    return graphics is not None and graphics.made_up


def doubts_of_graphics(graphics: Graphics) -> list[str]:
    """Return warnings about a password that is missing where anybody could use the console."""
    doubts = []
    if not graphics.password and not graphics.made_up:
        everywhere = graphics.listen in ("0.0.0.0", "::", "")
        doubts.append(
            f"GRAPHICS/RANDOM_PASSWD is NO, GRAPHICS/LISTEN is {graphics.listen or 'empty'} and there is no PASSWD: "
            f"whoever {'reaches' if everywhere else 'logs in on'} the host can use the console. Leave RANDOM_PASSWD "
            "out, or set PASSWD"
        )
    return doubts
