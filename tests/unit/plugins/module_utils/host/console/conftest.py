# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Consoles of a demo guest and of Debian with cloud-init, as real ones wrote them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.host.console import guest_wait
from ansible_collections.nebula.provision.plugins.module_utils.host.console.expected_guest import Wanted
from ansible_collections.nebula.provision.plugins.module_utils.host.console.guest_wait import wait

DEMO = """\r
nebula-guest: booting\r
start script here\r
\r
nebula-guest: context=1682b5c371cb08d19175342d2c96bef19ecee39d38c58e0b2e306370e6988ea0\r
nebula-guest: hostname=web-0\r
nebula-guest: eth0 mac=02:00:0a:42:00:0a ip=10.66.0.10/24 ip=2001:db8::10/64\r
nebula-guest: eth1 mac=02:00:0a:43:00:0a ip=10.67.0.10/24\r
nebula-guest: gateway=10.66.0.1\r
nebula-guest: cpus=1\r
nebula-guest: ready\r
\r
root@web-0:~# \x1b[6n"""
CLOUD_INIT = """\
[    0.000000] Linux version 6.1.0-56-cloud-amd64 (debian-kernel@lists.debian.org) (gcc-12 (Debian 12.2.0-14))
[   17.4] cloud-init[208]: Cloud-init v. 22.4.2 running 'init' at Thu, 20 Nov 2025 08:30:00 +0000. Up 17.31 seconds.
[   17.5] cloud-init[208]: ci-info: ++++++++++++++++Net device info++++++++++++++++
[   17.5] cloud-init[208]: ci-info: | Device |  Up   |  Address   |      Mask     | Scope  |     Hw-Address    |
[   17.5] cloud-init[208]: ci-info: |  eth0  |  True | 10.66.0.10 | 255.255.255.0 | global | 02:00:0a:42:00:0a |
[   17.5] cloud-init[208]: ci-info: |  eth1  | False |     .      |       .       |   .    | 02:00:0a:42:00:0b |
[   17.5] cloud-init[208]: ci-info: |   lo   |  True | 127.0.0.1  |   255.0.0.0   |  host  |         .         |
[   17.5] cloud-init[208]: ci-info: |   0   | 10.66.0.0   |  0.0.0.0 | 255.255.255.0 |  eth0  |  U  |
Cloud-init v. 22.4.2 finished at Thu, 20 Nov 2025 08:30:09 +0000. Datasource DataSourceOpenNebula [seed=/dev/sr0]. Up 26

Debian GNU/Linux 12 web-0 ttyS0

web-0 login: """


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "console.log"


def wanted(log: Path, **changes: object) -> Wanted:
    values: dict[str, object] = {"name": "web", "hostname": "web-0", "addresses": ("10.66.0.10",)}
    return Wanted(vm_id=3, console=str(log), **{**values, **changes})  # type: ignore[arg-type]


def judge(log: Path, text: str, **changes: object) -> guest_wait.Verdict:
    log.write_bytes(text.encode())
    (verdict,) = wait([wanted(log, **changes)], timeout=0)
    return verdict


def rotate(log: Path) -> None:
    """As virtlogd does: the backups move up, the log becomes the first of them."""
    for older, newer in ((".2", ".1"), (".1", ".0"), (".0", "")):
        if Path(f"{log}{newer}").exists():
            os.replace(f"{log}{newer}", f"{log}{older}")


def feed(log: Path, text: str) -> None:
    with log.open("ab") as file:
        file.write(text.encode())
