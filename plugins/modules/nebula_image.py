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
  - An image that is there is left alone. What differs and can be changed on it is changed; it is never filled with
    something else. While its content is written anew (another format, larger, compressed, encrypted) it is V(LOCKED);
    a run that was killed meanwhile is undone or finished by the next.
options:
  # begin: image.yml keys
  name:
    description: Name of the image.
    type: str
  renamed_from:
    description:
      - The name that the image had before. If there is an image of that name, and none of O(name) yet, it is renamed.
      - Templates that name it by the old name are told in a warning.
    type: str
    version_added: 0.2.0
  clone_of:
    description:
      - Name of another image, of which this one is a copy. What is not said of it is as with that one.
      - The other one must not be written to by a machine. Meanwhile it is in state C(CLONE).
      - It may be one of the same list, which is then made first.
      - Where the file system can share blocks (btrfs, xfs) a copy takes neither time nor room.
    type: str
    version_added: 0.2.0
  from:
    description:
      - Name of another image, of which this one is a copy to which O(packages), O(files) and O(commands) are added.
      - The other one may be one of the same list, which is then made first.
      - That is done by the system in the image itself, in a small machine of libguestfs. Needs C(guestfish) there.
      - An image that is there already is not made again; other additions under the same name are an error.
    type: str
    version_added: 0.2.0
  packages:
    description:
      - Packages to install in an image made by O(from), with its own package manager (apt, dnf, yum, zypper, apk).
      - Names are fetched from the repositories that the image knows. Paths of C(.deb), C(.rpm) or C(.apk) files need no
        network. They are on the control node, where they are looked for as O(path) is, or on the front-end with
        O(remote_src=true).
      - Where a name is given, this item's steps have a network, by which they do not reach the front-end itself. Needs
        C(nft) there.
      - What a given C(.apk) file needs is named beside it, since it is installed without any repository.
    type: list
    elements: str
    version_added: 0.2.0
  files:
    description:
      - Files to write into an image made by O(from), a list of dicts.
      - As an option of the module they are taken as JSON text, so that their content reaches no log.
      - V(path) of each - Full path in the image.
      - V(content) of each - The content.
      - V(src) of each - A file with the content, on the control node, or on the front-end with C(remote_src=true).
      - V(remote_src) of each - Whether C(src) is on the front-end.
      - V(mode) of each - Mode in octal digits and in quotes. C('0644') if nothing is said.
      - V(owner) of each - User, or user and group with a colon between. C(root) if nothing is said.
    type: json
    version_added: 0.2.0
  commands:
    description:
      - Shell commands to run in an image made by O(from), as root, after packages and files.
      - They have a network only where O(packages) has a name that is not a path.
    type: list
    elements: str
    version_added: 0.2.0
  path:
    description:
      - The file to store, or its http or https URL.
      - For the types V(OS), V(CDROM) and V(DATABLOCK) gz, xz, bz2 and zst are unpacked.
      - A path on the control node, or on the front-end with O(remote_src=true).
      - A relative one on the control node is looked for beside the inventory, then beside the playbook, then in the
        working directory, and in C(files/) of each; first of all in a role of your own that has the task.
      - A disk has to be raw or qcow2, whole, and must not name other files (a backing file or an external data file).
        One that is encrypted by LUKS wants O(luks_secret).
      - User and password may be part of a URL. They are neither stored nor shown.
      - Needed where there is no image of that name yet, or none with content, unless O(size), O(clone_of) or O(from) is
        given.
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
  member:
    description:
      - Of an OVA that holds several disks, the name of the one that becomes the image, as in C(web-disk2.vmdk).
      - An OVA that holds one disk needs none.
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
      - It can be changed while no machine uses the image. No copy is made. Disk snapshots in it are in the way, see
        O(snapshot_flatten).
    type: bool
  size:
    description:
      - Size in MB (1024 * 1024 bytes) of a V(OS) or V(DATABLOCK) image. Without O(path), O(clone_of) or O(from) a new
        one is empty.
      - An image that is smaller is made larger while no machine uses it; a guest makes its own file system larger. No
        image is made smaller.
    type: int
  format:
    description:
      - Format of an empty image, V(raw) if nothing is said.
      - With O(path), the format that the file has to have when it is stored. It is found out by itself.
      - V(raw) is also the word by which a file is taken as a raw disk in which nothing says that it is one (no
        partition table, boot code or file system, and it is not empty).
      - A disk in VMDK, VHD, VHDX or VDI, also in an OVA, is converted to V(qcow2), or to this.
      - An image that is there in the other one is converted while no machine uses it.
      - V(tar) is the archive of the root file system of a container, packed by gz, xz, bz2 or zst or not at all. It has
        to be said, and the image is of type OS. It is not converted, encrypted or made larger, and no machine has it as
        its own.
    type: str
    choices: [raw, qcow2, tar]
  fs:
    description: File system to make in an empty image.
    type: str
    choices: [ext2, ext3, ext4, vfat, xfs, swap]
  compress:
    description:
      - Whether a qcow2 is compressed, while no machine uses it. What a machine writes to it afterwards is not, so that
        it is compressed again by the next run.
    type: bool
    default: false
    version_added: 0.2.0
  sparse:
    description:
      - Whether zeroes in the file are given back to its file system, while no machine uses it. It is done again after
        each use that may have written to it.
    type: bool
    default: false
    version_added: 0.2.0
  snapshot_flatten:
    description: Whether disk snapshots that the image holds are removed. What the disk holds now stays.
    type: bool
    default: false
    version_added: 0.2.0
  luks_secret:
    description:
      - UUID of the libvirt secret that holds the passphrase of an encrypted image (qcow2 with LUKS).
      - With O(luks_passphrase) an empty image is encrypted, or one that is there and is not encrypted yet.
      - With O(path), the file has to be encrypted, or is encrypted here.
    type: str
    version_added: 0.2.0
  luks_passphrase:
    description:
      - Passphrase of an image that is to be encrypted, or of an encrypted one that is to be changed or made larger.
      - It is kept nowhere.
    type: str
    version_added: 0.2.0
  datastore:
    description:
      - Name or id of the datastore for a new image. Without it, V(default) for disks and V(files) for the types
        V(KERNEL), V(RAMDISK) and V(CONTEXT). An image is not moved to another one.
    type: str
    version_added: 0.2.0
  firmware:
    description: Firmware with which the system in the image was installed.
    type: str
    choices: [BIOS, UEFI, UEFI_SECURE]
    version_added: 0.2.0
  bus:
    description: Bus on which the system in the image was installed.
    type: str
    choices: [virtio, scsi, sata, ide]
    version_added: 0.2.0
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
    description: Attributes of your own. Those that are not given stay as they are, null takes one away.
    type: dict
  state:
    description:
      - V(present) registers and stores the image if it is not there, and tries again if that failed before.
      - V(disabled) keeps machines from using it.
      - V(enabled) ends that, also for an image in state ERROR whose file is there and whole.
      - V(absent) removes image and file. That is refused while machines use it.
    type: str
    choices: [present, enabled, disabled, absent]
    default: present
  # end: image.yml keys
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
  declared:
    description:
      - In check mode, what earlier tasks of the same run would have made, by C(datastores), as dicts like those of the
        list of M(nebula.provision.nebula_datastore), and C(paths) of files on the front-end.
      - Without it a datastore or a file of the front-end that is not there is taken as given in check mode, with a
        warning. With it what is not named in it is refused, as the run refuses it.
    type: dict
    version_added: 0.2.0
  max_size:
    description:
      - The largest image to store, in MB, by what a machine sees of it.
      - It bounds what a small packed file can become.
    type: int
    default: 262144
  safe_dirs:
    description: Directories below those of O(restricted_dirs) from which images are stored all the same.
    type: list
    elements: path
    default: []
    version_added: 0.2.0
  restricted_dirs:
    description:
      - Directories of the front-end from which no image is stored. Symbolic links are followed before a path is looked
        at.
      - Where distributions keep images and media is no part of them, unless it is named itself. These are
        C(/var/lib/libvirt/images), C(/var/lib/libvirt/boot), C(/var/lib/xen/images) and C(/run/media). What is in a
        drive may be stored too, as an image of type CDROM.
      - What the catalog and nodes keep of machines below O(root), and what is below the C(nebula_root) of another
        catalog or node, is always restricted.
    type: list
    elements: path
    default:
      - /etc
      - /proc
      - /sys
      - /dev
      - /run
      - /var/lib/libvirt
      - /var/cache/libvirt
      - /var/log/libvirt
      - /var/lib/xen
      - /var/log/xen
    version_added: 0.2.0
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

- name: A disk that a system was installed on becomes an image for many machines
  nebula.provision.nebula_image:
    name: debian12
    type: OS
    persistent: false

- name: The same with a web server in it
  nebula.provision.nebula_image:
    name: web
    from: debian12
    packages: [nginx]
    files:
      - {path: /etc/motd, content: "a web server\n"}

- name: Larger, and compressed
  nebula.provision.nebula_image:
    name: web
    size: 20480
    format: qcow2
    compress: true

- name: An encrypted disk, whose passphrase libvirt has too
  nebula.provision.nebula_image:
    name: safe
    type: DATABLOCK
    size: 1024
    luks_secret: 7b3a5d1c-0f3e-4a52-9a43-1f6a4a0c1d11
    luks_passphrase: "{{ vaulted_passphrase }}"

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
removed:
  description: The images of the list that were removed, with C(name) and C(state).
  returned: always
  type: list
  elements: dict
  version_added: 0.2.0
images:
  description: The images of the list that exist, in its order.
  returned: always
  type: list
  elements: dict
  contains:
    # begin: image.yml shown
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
    datastore_id: {description: Id of its datastore., type: int}
    firmware: {description: Firmware that its system was installed with. Empty if it is not known., type: str}
    bus: {description: Bus on which its system was installed. Empty if it is not known., type: str}
    luks_secret: {description: UUID of the secret that opens it. Empty if it is not encrypted., type: str}
    snapshots: {description: Number of disk snapshots in its file., type: int}
    unfinished: {description: At which step an installation into it is. Empty if there is none., type: str}
    operation: {description: What a LOCKED image is changed by. Empty for others., type: str}
    # end: image.yml shown
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

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import image as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
