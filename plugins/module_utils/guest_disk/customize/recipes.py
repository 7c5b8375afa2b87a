# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Adds to an image what makes another image of it: packages, files, commands. All of it is done within an appliance,
by the system in the image; its kernel mounts the file systems, and not this host's."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import posixpath
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import field

from ...dataclass import dataclass
from ...errors import CommandFailed, NebulaError, TimedOut
from ...host import files
from ...model.disk import DiskFiles
from ...storage import image_files, qcow2_header
from ..open import guestfish
from . import package_network

# Seconds for all of it; packages may come from afar, and an appliance may be emulated.
TIMEOUT = 3600.0
_PLACE = "/.nebula-recipe"
# What apk is told of given files. It would take unsigned packages of everything that the call brings, so this call has
# no repositories.
UNSIGNED = "--allow-untrusted --no-network --repositories-file /dev/null"
# In which way packages are installed, by what there is; "names" is 1 where some have to come from their repositories.
_INSTALL = """
set -e
cd {place}
export DEBIAN_FRONTEND=noninteractive
# Nothing is started: there is no running system.
policy=/usr/sbin/policy-rc.d
if [ -d /usr/sbin ] && [ ! -e $policy ]; then
    printf '#!/bin/sh\\nexit 101\\n' > $policy; chmod 0755 $policy; trap 'rm -f $policy' EXIT
fi
if command -v apt-get >/dev/null 2>&1; then
    [ {names} = 0 ] || apt-get -q -y update
    apt-get -q -y --no-install-recommends -o Dpkg::Options::=--force-confold install {packages}
elif command -v dpkg >/dev/null 2>&1 && [ {names} = 0 ]; then
    dpkg --force-confold -i {packages}
elif command -v dnf >/dev/null 2>&1; then
    dnf -q -y install {packages}
elif command -v yum >/dev/null 2>&1; then
    yum -q -y install {packages}
elif command -v zypper >/dev/null 2>&1; then
    zypper -q -n install --allow-unsigned-rpm {packages}
elif command -v apk >/dev/null 2>&1; then
    [ {names} = 0 ] || apk add {named}
    [ {given} = 0 ] || apk add {unsigned} {sent}
elif command -v rpm >/dev/null 2>&1 && [ {names} = 0 ]; then
    rpm -U {packages}
else
    echo 'it has no package manager that is known here (apt-get, dpkg, dnf, yum, zypper, apk, rpm)' >&2; exit 1
fi
"""


@dataclass(frozen=True)
class Addition:
    """Describes a file for the image.
    path: in the image.
    content: what the file holds, unless src is given.
    src: the file of this host to copy.
    owner: user or user:group."""

    path: str
    content: bytes = b""
    src: str = ""
    mode: int = 0o644
    owner: str = "0:0"


@dataclass(frozen=True)
class Recipe:
    """Describes what is added to an image.
    packages: names, or paths of package files on this host.
    sent: package files as they came, path being a name."""

    packages: tuple[str, ...] = ()
    sent: tuple[Addition, ...] = ()
    files: tuple[Addition, ...] = ()
    commands: tuple[str, ...] = field(default=(), repr=False)

    def digest(self) -> str:
        """Return what distinguishes it from other recipes: what it says, and what is in the files that it names."""
        identity = {
            "packages": [(name, _digest(name) if name.startswith("/") else "") for name in self.packages],
            "sent": [(each.path, _digest_of(each)) for each in self.sent],
            "files": [(each.path, _digest_of(each), each.mode, each.owner) for each in self.files],
            "commands": self.commands,
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _digest_of(addition: Addition) -> str:
    return _digest(addition.src) if addition.src else hashlib.sha256(addition.content).hexdigest()


def _digest(path: str) -> str:
    with files.explained(path), qcow2_header.open_binary(path) as file:
        return files.content_digest(file)


def add(recipe: Recipe, disk: str, format: str, what: str) -> None:
    """Carry the recipe out in the disk, which nobody else has open."""
    guestfish.require(what)
    # Of this disk QEMU reads the header, and the image may be one that a guest has written to.
    qcow2_header.refuse_unexpected(DiskFiles(disk, format), what)
    image_files.remove_additions(disk)
    directory = disk + image_files.BESIDE
    with files.explained(directory):
        os.mkdir(directory, 0o700)
    try:
        lines = list(_script(recipe, directory))
        with package_network.outward_network(what) if fetches(recipe) else contextlib.nullcontext() as before:
            _run("\n".join(lines) + "\n", disk, format, directory, before)
    except CommandFailed as error:
        raise _explained(error, what) from error
    finally:
        image_files.remove_additions(disk)


def fetches(recipe: Recipe) -> bool:
    """Return whether the recipe needs a network: a package comes from repositories that the image knows."""
    return any(not name.startswith("/") for name in recipe.packages)


def _script(recipe: Recipe, directory: str) -> Iterator[str]:
    """Yield the lines for guestfish, and write what is to be uploaded into the directory."""
    yield _guestfish_line("-rm-rf", _PLACE)
    yield _guestfish_line("mkdir", _PLACE)
    packages: list[str] = []
    there = [(name, name) for name in recipe.packages if name.startswith("/")]
    there += [(each.path, _write_local(directory, f"package{i}", each.content)) for i, each in enumerate(recipe.sent)]
    for number, (given, path) in enumerate(there):
        # Two of them may have the same name.
        name = f"{number}-{posixpath.basename(given)}"
        yield _guestfish_line("upload", path, f"{_PLACE}/{name}")
        packages.append(f"./{name}")
    packages += [name for name in recipe.packages if not name.startswith("/")]
    if packages:
        yield from _run_as_file(directory, "install", _install_script(packages))
    for number, file in enumerate(recipe.files):
        local = file.src or _write_local(directory, f"file{number}", file.content)
        # What a link of the image leads to stays within the image.
        yield _guestfish_line("mkdir-p", posixpath.dirname(file.path))
        yield _guestfish_line("upload", local, file.path)
        user, _colon, group = file.owner.partition(":")
        if user.isdigit() and (group or user).isdigit():
            yield _guestfish_line("chown", user, group or user, file.path)
        else:
            yield from _run_as_file(directory, f"owner{number}", f"chown {file.owner} {shlex.quote(file.path)}")
        # After its owner: changing the owner takes set-uid and set-gid bits away.
        yield _guestfish_line("chmod", f"0{file.mode:o}", file.path)
    for number, text in enumerate(recipe.commands):
        yield from _run_as_file(directory, f"command{number}", text)
    yield _guestfish_line("rm-rf", _PLACE)
    yield "umount-all"
    yield "shutdown"


def _install_script(packages: Sequence[str]) -> str:
    """Return the script that installs the packages; those that begin with ./ are files."""
    sent = [package for package in packages if package.startswith("./")]
    named = [package for package in packages if package not in sent]
    return _INSTALL.format(
        place=_PLACE,
        names=int(bool(named)),
        given=int(bool(sent)),
        packages=" ".join(map(shlex.quote, packages)),
        named=" ".join(map(shlex.quote, named)),
        unsigned=UNSIGNED,
        sent=" ".join(map(shlex.quote, sent)),
    )


def _run_as_file(directory: str, name: str, text: str) -> Iterator[str]:
    """Yield lines that run a script in the image: as a file, so that neither its length nor its quotes matter."""
    yield _guestfish_line("upload", _write_local(directory, name, text.encode() + b"\n"), f"{_PLACE}/{name}")
    yield _guestfish_line("sh", f"/bin/sh -e {_PLACE}/{name} </dev/null")


def _write_local(directory: str, name: str, content: bytes) -> str:
    path = os.path.join(directory, name)
    files.write_atomically(path, content, mode=0o600, sync=False)
    return path


def _guestfish_line(*words: str) -> str:
    return " ".join([words[0], *(guestfish.quoted(word).decode() for word in words[1:])])


def _run(script: str, disk: str, format: str, directory: str, before: list[str] | None) -> None:
    if guestfish.may_have_kvm():
        try:
            # Alone, so that an appliance that does not come up is seen before anything is written.
            guestfish.run_script("run\n", disk, format, directory, guestfish.KVM_TIMEOUT, before=before)
        except (CommandFailed, TimedOut) as error:
            if not guestfish.is_broken(error):
                raise
            guestfish.emulate()
    network = [] if before is None else ["--network"]
    guestfish.run_script(script, disk, format, directory, TIMEOUT, *network, "-i", before=before)


def _explained(error: CommandFailed, what: str) -> NebulaError:
    asked = f"{what}: adding packages and files"
    known = guestfish.error_of_appliance(error, what)
    if "no operating system was found" in error.found:
        known = CommandFailed(asked, "no operating system was found in it", "Name an image of one")
    known.asked = asked
    return known


def local_files(recipe: Recipe) -> Sequence[str]:
    """Return the files of this host that the recipe names."""
    return [*(p for p in recipe.packages if p.startswith("/")), *(f.src for f in recipe.files if f.src)]
