# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names what carries out the verbs about routers, of each engine."""

from __future__ import annotations

from ..embedded import routers

__all__ = ("routers",)
