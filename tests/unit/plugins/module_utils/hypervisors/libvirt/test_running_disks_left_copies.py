# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a copy of a running disk that failed, or was left by a run that was killed. tests/integration/
test_disk_frozen.py has the real ones; here is what takes a real one too long to meet."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import HypervisorError, InUse
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.running_disks import RunningDisks
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import CRASH

PLACE = "/var/lib/nebula/datastores"


class LibvirtError(Exception):
    def get_error_code(self):
        return 1

    def get_error_message(self):
        return str(self)


class Libvirt:
    libvirtError = LibvirtError
    VIR_ERR_NO_DOMAIN_BACKUP = 1
    VIR_ERR_OPERATION_INVALID = 55
    VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL = VIR_DOMAIN_JOB_STATS_COMPLETED = 1
    VIR_DOMAIN_JOB_NONE = 0
    VIR_DOMAIN_JOB_COMPLETED = 3
    VIR_DOMAIN_JOB_ERRMSG = "errmsg"


class Domain:
    """With a backup going on to `file`, if any."""

    def __init__(self, file="", dies=False):
        self.file, self.dies, self.aborted = file, dies, 0

    def XMLDesc(self, _flags):
        return "<domain><devices/></domain>"

    def backupGetXMLDesc(self, _flags):
        if not self.file:
            raise LibvirtError("none")
        return f"<domainbackup><disks><disk><target file='{self.file}'/></disk></disks></domainbackup>"

    def backupBegin(self, text, _checkpoint, _flags):
        self.file = text.split('file="')[1].split('"')[0]

    def jobStats(self, flags=0):
        if flags:
            return {"type": 3}
        if self.file and self.dies:
            self.dies = False
            raise LibvirtError("the connection broke")
        return {"type": 1 if self.file else 0}

    def abortJob(self):
        self.file, self.aborted = "", self.aborted + 1


def copy(domain, path=f"{PLACE}/1/b.new"):
    RunningDisks(Libvirt, "", domain, "disk 0").copy(Disk(0, "vda"), path, "qcow2", CRASH)


def test_a_copy_that_fails_is_ended():
    domain = Domain(dies=True)
    with pytest.raises(HypervisorError, match="broke"):
        copy(domain)
    assert (domain.file, domain.aborted) == ("", 1)


@pytest.mark.parametrize("file", [f"{PLACE}/1/b.new", f"{PLACE}/1/a.new", f"{PLACE}/104/a.new"])
def test_what_a_killed_run_left_is_ended(file):
    domain = Domain(file, dies=True)
    with pytest.raises(HypervisorError, match="broke"):
        # After that one was ended, or as it is.
        copy(domain)
    assert domain.aborted


@pytest.mark.parametrize(
    "file", ["/backup/web.qcow2", "/backup/1/a.new", f"{PLACE}/1/a", f"{PLACE}/1/../../a.new", f"{PLACE}/1/x/a.new"]
)
def test_somebody_elses_goes_on(file):
    domain = Domain(file)
    with pytest.raises(InUse, match="backed up to"):
        copy(domain)
    assert not domain.aborted
