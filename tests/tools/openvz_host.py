# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host of OpenVZ for tests, with the stand-in for vzctl and its /etc/vz in directories of the test's own."""

from __future__ import annotations

import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import vzctl_stand_in

from ansible_collections.nebula.provision.plugins.module_utils.context import iso9660
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Mark, Site
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz import vzctl
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz.driver import OpenvzDriver
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context, ContextFile
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk, DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm

CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
OTHER = "77777777-8c55-4b0e-9d6a-2f1f3c7d9a10"
UUID = "5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d01"
MARK = Mark(CATALOG, 7, UUID, 3)
CTID = 100007


def make_tar(path: Path, files: dict[str, str]) -> Path:
    """A root file system with these files, and an empty /mnt."""
    with tarfile.open(path, "w:gz") as tar:
        for name in ("etc", "mnt"):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(directory)
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), 0o755
            tar.addfile(entry, io.BytesIO(text.encode()))
    return path


class Host:
    """etc: its /etc/vz. directory: of machine 7, whose image is `tar`."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.etc, self.place = root / "etc", root / "vz"
        vzctl_stand_in.furnish(self.etc, self.place)
        vzctl_stand_in.install(root / "bin")
        monkeypatch.setenv("PATH", f"{root}/bin:{os.environ['PATH']}")
        self.set("VZ_STAND_IN", str(self.etc))
        # A kernel of OpenVZ, as far as that matters without one.
        monkeypatch.setattr(vzctl, "KERNEL", self.etc)
        monkeypatch.setattr(vzctl, "SETTINGS", self.etc / "vz.conf")
        monkeypatch.setattr(vzctl, "CONFIGURATIONS", self.etc / "conf")
        monkeypatch.setattr(vzctl, "DISTRIBUTIONS", self.etc / "dists")
        monkeypatch.setattr(vzctl, "NAMES", self.etc / "names")
        monkeypatch.setattr(vzctl, "DEFAULTS", self.etc / "conf/ve-nebula.conf-sample")
        self.directory = root / "0" / "7"
        self.directory.mkdir(parents=True)
        self.tar = make_tar(root / "image", {"etc/hostname": "image\n"})
        self.conf = self.etc / f"conf/{CTID}.conf"
        self.private = self.directory / "images/private"
        self.cache = self.place / "template/cache"
        # When what runs has begun, and by which of its files the kernel has it stand still.
        self.state = self.place / f"lock/{CTID}.running"
        self.held = self.place / f"lock/{CTID}.held"
        self.driver = OpenvzDriver()

    def set(self, name: str, value: str = "1") -> None:
        self.monkeypatch.setenv(name, value)

    def vm(self, **values: Any) -> Vm:
        root = Disk(0, "", image="debian-12", source=str(self.tar), format="tar", driver="tar")
        return Vm(7, UUID, "web", "openvz", **{"cpu": 1.0, "memory": 128, "disks": (root,), **values})

    def site(self, vm: Vm, catalog: str = CATALOG) -> Site:
        files = {0: DiskFiles(str(self.tar), "tar")}
        if vm.context is not None:
            files[vm.context.disk_id] = DiskFiles(str(self.directory / f"disk.{vm.context.disk_id}"), "raw")
        return self.driver.site(Site(str(self.directory), catalog, 3, files, "openvz"))

    def define(self, vm: Vm | None = None, catalog: str = CATALOG) -> None:
        vm = vm or self.vm()
        self.driver.define(vm, self.driver.render(vm, self.site(vm, catalog)), replace(MARK, catalog=catalog))

    def run(self, vm: Vm | None = None) -> None:
        self.define(vm)
        self.driver.start(MARK)

    def with_context(self, files: dict[str, str], **variables: str) -> Vm:
        """A machine whose context is on its disk.1."""
        context = Context(1, "", variables={"HOSTNAME": "a.example.org", **variables})
        place = self.directory.parent / "files"
        place.mkdir(exist_ok=True)
        sources = []
        for name, text in files.items():
            (place / name).write_text(text, encoding="utf-8")
            sources.append(ContextFile(str(place / name), name))
        iso9660.write_iso(str(self.directory / "disk.1"), context.variables, sources)
        return self.vm(context=context)
