# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ISOs by URL get back what the module must not see of them: secrets."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.filter.installer_isos import installer_isos

WHOLE = "https://user:s3cret@isos.example.org/debian.iso"
ISO = {"install": "debian", "name": "debian.iso", "type": "CDROM", "path": "https://isos.example.org/debian.iso"}


def test_a_url_gets_its_secrets_back():
    for iso in (WHOLE, {"path": WHOLE}):
        assert installer_isos([ISO], [{"name": "debian", "iso": iso}]) == [
            {"name": "debian.iso", "type": "CDROM", "path": WHOLE}
        ]


def test_a_file_is_as_it_was_found():
    here = {**ISO, "path": "/srv/debian.iso"}
    assert installer_isos([here], [{"name": "debian", "iso": "debian.iso"}])[0]["path"] == "/srv/debian.iso"


def test_of_two_of_one_name_the_first_one_counts():
    """The module refuses both."""
    installs = [{"name": "debian", "iso": WHOLE}, {"name": "debian", "iso": "https://elsewhere.example.org/x.iso"}]
    assert installer_isos([ISO], installs)[0]["path"] == WHOLE
