# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any
from unittest import mock

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InUse
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import disk_jobs

PULL = "<domainbackup mode='pull'><server transport='unix' socket='{}'/><disks/></domainbackup>"
PUSH = "<domainbackup><disks><disk name='vda'><target file='{}'/></disk></disks></domainbackup>"


class LibvirtError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__("no job")
        self.code = code

    def get_error_code(self) -> int:
        return self.code


LIBVIRT = mock.Mock(
    libvirtError=LibvirtError, VIR_ERR_NO_DOMAIN_BACKUP=104, VIR_ERR_OPERATION_INVALID=55, VIR_DOMAIN_JOB_NONE=0
)


def domain(text: str = "") -> Any:
    found = mock.Mock()
    found.backupGetXMLDesc = mock.Mock(return_value=text) if text else mock.Mock(side_effect=LibvirtError(104))
    found.jobStats.return_value = {"type": 0}
    return found


@pytest.mark.parametrize(
    "text",
    [
        PULL.format(f"{disk_jobs.SOCKETS}/one-1/nbd"),
        PUSH.format("/var/lib/one/datastores/1/image.nebula-new").replace(".nebula-new", disk_jobs.NEW),
    ],
)
def test_a_job_of_ours_is_ended(text: str) -> None:
    found = domain(text)
    disk_jobs.end_left(LIBVIRT, found, "a backup", "/var/lib/one/datastores")
    found.abortJob.assert_called_once_with()


@pytest.mark.parametrize(
    "text",
    [
        PULL.format("/tmp/somebody"),
        PULL.format(f"{disk_jobs.SOCKETS}/../x/nbd"),
        PUSH.format("/srv/backup.qcow2"),
        PUSH.format("/srv/1/image" + disk_jobs.NEW),
        "<domainbackup mode='pull'><server transport='tcp' name='localhost'/><disks/></domainbackup>",
    ],
)
def test_a_job_of_somebody_else_is_left_alone(text: str) -> None:
    found = domain(text)
    with pytest.raises(InUse, match="the machine is being backed up to"):
        disk_jobs.end_left(LIBVIRT, found, "a backup", "/var/lib/one/datastores")
    found.abortJob.assert_not_called()


def test_without_a_job_nothing_is_done() -> None:
    found = domain()
    disk_jobs.end_left(LIBVIRT, found, "a backup", "/var/lib/one/datastores")
    found.abortJob.assert_not_called()
