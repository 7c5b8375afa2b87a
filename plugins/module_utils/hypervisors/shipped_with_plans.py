# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names what drivers import by name when they make machines and end them, or give a node back."""

from __future__ import annotations

from .openvz import container_migration, private_area, template_cache

__all__ = ("container_migration", "private_area", "template_cache")
