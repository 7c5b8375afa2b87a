# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures that several files have in common."""

from ansible_collections.nebula.provision.tests.integration.image_runs import disk, site, sshd

__all__ = ["disk", "site", "sshd"]
