# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The style needs nothing from elsewhere, and has colours for the dark of everything that it has for the light."""

from __future__ import annotations

import re

from ansible_collections.nebula.provision.plugins.plugin_utils.topology.layout import COLOURS
from ansible_collections.nebula.provision.plugins.plugin_utils.topology.style import STYLE


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def palettes() -> list[dict[str, str]]:
    light, dark = STYLE.split("@media screen and", 1)
    return [dict(re.findall(r"--([\w]+): (#[0-9a-f]{6})", part)) for part in (light, dark.split("\n}\n", 1)[0])]


def test_nothing_is_loaded():
    assert not re.search(r"url\(|@import|@font-face|://", STYLE)
    # The page's policy has the hash of exactly these bytes.
    assert STYLE.isascii() and "\r" not in STYLE and "</" not in STYLE


def test_light_and_dark_have_the_same_colours():
    light, dark = palettes()
    assert light.keys() == dark.keys()
    assert {f"n{number}" for number in range(COLOURS)} <= light.keys()


def test_text_can_be_read_on_everything_that_it_stands_on():
    """By WCAG's level AA, the colours of states included."""
    for palette in palettes():
        for text in ("ink", "faint", "good", "off", "moving", "bad"):
            for ground in ("paper", "card", "head", "stripe"):
                assert contrast(palette[text], palette[ground]) >= 4.5, (text, ground)
        for number in range(COLOURS):
            assert contrast(palette[f"n{number}"], palette["paper"]) >= 3


def test_every_colour_of_a_network_has_its_class():
    assert [number for number in range(COLOURS) if f".c{number} {{ --own: var(--n{number}); }}" not in STYLE] == []
