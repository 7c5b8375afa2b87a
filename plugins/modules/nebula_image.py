#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_image
short_description: Images of the catalog, and their files
version_added: 0.1.0
description:
  - Registers images in the catalog and stores their files in the image datastore of the front-end, checked, unpacked
    and protected.
  - Files come from the control node, from the front-end, or from an http or https URL. Empty ones are made by size.
  - An image that is there is left alone. What differs and can be changed on it is changed; its content never is.
options:
  name:
    description: Name of the image.
    type: str
  path:
    description:
      - The file to store, or its http or https URL.
      - For the types V(OS), V(CDROM) and V(DATABLOCK) gz, xz, bz2 and zst are unpacked.
      - A path on the control node (searched for in C(files/) too), or on the front-end with O(remote_src=true).
      - A disk has to be raw or qcow2, whole, and must not name other files (a backing file or an external data file).
      - User and password may be part of a URL. They are neither stored nor shown.
      - Needed where there is no image of that name yet, or none with content, unless O(size) is given.
    type: str
  remote_src:
    description: Whether O(path) is on the front-end.
    type: bool
    default: false
  checksum:
    description:
      - Checksum of the file as given, before it is unpacked, as in C(sha256:9f86…).
      - C(sha256) is recommended. C(sha512), C(sha384), C(sha224), C(sha1) and C(md5) are taken too.
    type: str
  type:
    description:
      - Type of the image. V(OS), V(CDROM) and V(DATABLOCK) are disks, the others are files.
      - A new image is V(OS) if nothing is said.
      - An image can change to another type of the same kind while no machine uses it.
    type: str
    choices: [OS, CDROM, DATABLOCK, KERNEL, RAMDISK, CONTEXT]
  persistent:
    description:
      - Whether machines write into the image itself, one machine at a time, instead of into disks of their own.
      - It can be changed while no machine uses the image.
    type: bool
  size:
    description: Size in MB (1024 * 1024 bytes) of an empty V(OS) or V(DATABLOCK) image, instead of O(path).
    type: int
  format:
    description:
      - Format of an empty image, V(raw) if nothing is said.
      - With O(path), the format that the file has to have. It is found out by itself.
    type: str
    choices: [raw, qcow2]
  fs:
    description: File system to make in an empty image.
    type: str
    choices: [ext2, ext3, ext4, vfat, xfs, swap]
  dev_prefix:
    description: What the names of the disk on a machine begin with, where the template does not say.
    type: str
    choices: [hd, sd, vd, xvd]
  target:
    description: Name of the disk on a machine, where the template does not say.
    type: str
  description:
    description: A description.
    type: str
  attributes:
    description: Attributes of your own. Those that are not given stay as they are.
    type: dict
  state:
    description:
      - V(present) registers and stores the image if it is not there, and tries again if that failed before.
      - V(disabled) keeps machines from using it.
      - V(enabled) ends that, also for an image in state ERROR whose file is there.
      - V(absent) removes image and file. That is refused while machines use it.
    type: str
    choices: [present, enabled, disabled, absent]
    default: present
  images:
    description:
      - Many images, a list of dicts with the keys above.
      - It is taken as JSON text, so that credentials in URLs reach no log.
    type: json
  validate_certs:
    description: Whether certificates of https servers are checked.
    type: bool
    default: true
  timeout:
    description: Seconds without a byte after which a download counts as broken. It is taken up again some times.
    type: int
    default: 30
  min_speed:
    description:
      - KB (1024 bytes) a second that a download has to bring on average over ten times O(timeout), else it is given up.
      - V(0) accepts any speed.
    type: int
    default: 16
    version_added: 0.2.0
  wait_timeout:
    description: Seconds to wait for another run that is storing the same image.
    type: int
    default: 600
  max_size:
    description:
      - The largest image to store, in MB, by what a machine sees of it.
      - It bounds what a small packed file can become.
    type: int
    default: 262144
  _upload:
    description: Steps of an upload, as JSON text, between this module and its action plugin. Not for use in tasks.
    type: json
extends_documentation_fragment:
  - nebula.provision.engine
  - nebula.provision.progress
  - nebula.provision.attributes
author:
  - nebula.provision contributors (@nebula-provision)
notes:
  - While files are sent, downloaded and stored, a line at most every 2 s says how far that is.
"""

EXAMPLES = r"""
- name: An image from the web, packed
  nebula.provision.nebula_image:
    name: alpine
    path: https://images.example.org/alpine.qcow2.xz
    checksum: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08

- name: An installer that is on the front-end
  nebula.provision.nebula_image:
    name: installer
    type: CDROM
    path: /srv/isos/installer.iso
    remote_src: true

- name: Room for data that outlives its machine
  nebula.provision.nebula_image:
    name: data
    type: DATABLOCK
    size: 1024
    fs: ext4
    persistent: true

- name: Many at once
  nebula.provision.nebula_image:
    images:
      - {name: web, path: images/web.qcow2}
      - {name: old, state: absent}
"""

RETURN = r"""
image:
  description: The image, if one was asked for. The same keys as an item of RV(images).
  returned: when O(images) is not given and the image exists
  type: dict
images:
  description: The images of the list that exist, in its order.
  returned: always
  type: list
  elements: dict
  contains:
    id: {description: Id. Null in check mode for one that would be created., type: int}
    name: {description: Name., type: str}
    type: {description: Type., type: str, sample: OS}
    state: {description: State., type: str, sample: READY}
    persistent: {description: Whether machines write into it., type: bool}
    size: {description: Size in MB that a machine sees. Rounded up., type: int}
    format: {description: Format of its file., type: str, sample: qcow2}
    sha256: {description: SHA-256 of its file as stored. Empty once a machine has written to it., type: str}
    checksum: {description: Checksums of the file as given. Blanks stand between several., type: str}
    source: {description: Path of its file on the front-end., type: str}
    origin: {description: Where it was taken from. It holds no credentials., type: str}
    uuid: {description: UUID., type: str}
    generation: {description: How often a machine has written to it., type: int}
    dev_prefix: {description: What names of its disks begin with., type: str}
    target: {description: Name of its disk on a machine., type: str}
    description: {description: Description., type: str}
    attributes: {description: Attributes of your own., type: dict}
    vms: {description: Number of machines that use it., type: int}
    error: {description: Why it could not be stored., type: str}
catalog:
  description: UUID of the catalog.
  returned: always
  type: str
errors:
  description: The items that failed, with C(name), C(asked), C(found) and C(remedy). The others were done.
  returned: on failure
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nebula.provision.plugins.module_utils.arguments import ENGINE, PROGRESS, items_of, parse_json
from ansible_collections.nebula.provision.plugins.module_utils.engines.registry import engine_of, open_engine
from ansible_collections.nebula.provision.plugins.module_utils.host.progress import Reporter
from ansible_collections.nebula.provision.plugins.module_utils.items import frontends
from ansible_collections.nebula.provision.plugins.module_utils.items.images import (
    KEYS,
    STATES,
    TYPES,
    Settings,
    apply,
    missing_content,
)
from ansible_collections.nebula.provision.plugins.module_utils.runner import closing, execute
from ansible_collections.nebula.provision.plugins.module_utils.storage import datastore, formats, uploads
from ansible_collections.nebula.provision.plugins.module_utils.sync import Result


def run(params, check_mode):
    directory = datastore.image_directory(params["root"])
    step = parse_json(params["_upload"] or "{}", "_upload")
    if "chunk" in step:
        return Result(payload={"received": uploads.append(directory, step["identity"], step["offset"], step["chunk"])})
    items, refused = items_of(params, "images", KEYS, "image")
    if not check_mode:
        datastore.prepare_root(params["root"])
    with closing(open_engine(params, check_mode, create=True)) as engine:
        # The action plugin first asks what is missing: only then is anything sent.
        missing = missing_content(engine, items) if "ask" in step else []
        if missing:
            names = [wish.name for wish in missing]
            known = {name: uploads.received(directory, identity) for name, identity in step["ask"].items()}
            return Result(payload={"missing": names, "received": known})
        settings = Settings(
            check_mode=check_mode,
            uploads={name: uploads.path_of(directory, one) for name, one in step.get("use", {}).items()},
            lost=step.get("lost", {}),
            wait_timeout=params["wait_timeout"],
            stall=params["timeout"],
            min_speed=params["min_speed"],
            max_size=params["max_size"],
            validate_certs=params["validate_certs"],
            say=Reporter(params["_progress_file"]).say,
        )
        done, warnings = apply(engine, items, settings)
        if not check_mode and not engine_of(params).begun(params):
            # It ended meanwhile, and its directories may have come back.
            frontends.tidy(params)
        result = Result([*refused, *done], warnings=warnings)
        views = [item.after for item in done if item.after is not None]
        result.payload = {"images": views, "catalog": engine.catalog()}
    if params["images"] is None and views:
        result.payload["image"] = views[0]
    return result


def main():
    spec = dict(
        name={"type": "str"},
        path={"type": "str"},
        remote_src={"type": "bool", "default": False},
        checksum={"type": "str"},
        type={"type": "str", "choices": [*TYPES]},
        persistent={"type": "bool"},
        size={"type": "int"},
        format={"type": "str", "choices": [*formats.FORMATS]},
        fs={"type": "str", "choices": [*formats.FILE_SYSTEMS]},
        dev_prefix={"type": "str", "choices": ["hd", "sd", "vd", "xvd"]},
        target={"type": "str"},
        description={"type": "str"},
        attributes={"type": "dict"},
        state={"type": "str", "default": "present", "choices": [*STATES]},
        images={"type": "json", "no_log": True},
        validate_certs={"type": "bool", "default": True},
        timeout={"type": "int", "default": 30},
        min_speed={"type": "int", "default": 16},
        wait_timeout={"type": "int", "default": 600},
        max_size={"type": "int", "default": 262144},
        # Between the action plugin and this module: {ask: …}, {identity, offset, chunk} or {use: …}.
        _upload={"type": "json"},
        **PROGRESS,
        **ENGINE,
    )
    module = AnsibleModule(
        argument_spec=spec,
        supports_check_mode=True,
        required_one_of=[("name", "images", "_upload")],
        mutually_exclusive=[("name", "images"), ("path", "size")],
    )
    execute(module, run)


if __name__ == "__main__":
    main()
