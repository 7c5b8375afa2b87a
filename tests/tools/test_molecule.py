# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Molecule as the last test of `make test`: it wants the machine for itself."""

from __future__ import annotations

import pytest
from make_target import make


@pytest.mark.timeout(1500)
def test_scenario_default():
    returncode, output = make("molecule")
    print(output)  # as captured output it is shown once; in the assertion, CI would repeat it in the summary
    assert returncode == 0, "make molecule"


@pytest.mark.timeout(1500)
def test_scenario_context():
    returncode, output = make("test-context")
    print(output)
    assert returncode == 0, "make test-context"


@pytest.mark.timeout(1500)
def test_scenario_install_os():
    returncode, output = make("test-install")
    print(output)
    assert returncode == 0, "make test-install"


@pytest.mark.timeout(1800)
def test_scenario_xen():
    returncode, output = make("xen")
    print(output)
    assert returncode == 0, "make xen"
