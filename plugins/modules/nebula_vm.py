#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_vm
short_description: Decide what becomes of virtual machines
version_added: 0.1.0
description:
  - Brings the catalog to what a list of virtual machines says, in one transaction. It allocates ids, leases, images,
    hosts and ports, decides which machines are to be started, changed or ended, and makes a plan for each node.
  - It acts on nothing. M(nebula.provision.nebula_deploy) carries the plans out on the nodes, and
    M(nebula.provision.nebula_vm_record) takes their results over. Role P(nebula.provision.vm#role) ties the three
    together.
  - A machine that is not in the list is left alone.
  - A list is decided as a whole. Memory and CPU of machines that it ends, or makes smaller, count as free for others on
    the same host, which are started there once these are gone. If something of the list has no place all the same, no
    machine is ended, and the error says so. Addresses, console ports and persistent images of machines that are being
    ended are free once they are gone, for the next run.
options:
  # begin: vm.yml keys
  name:
    description: Name of the machine. C(%i) in it stands for the index of each of O(count) machines, from 0.
    type: str
  renamed_from:
    description:
      - Name that the machine had before. The machine of that name is given O(name), and is in all else the same, with
        its id, disks, addresses, host and history. It may run meanwhile.
      - Nothing is done where there is no machine of that name. So the key may stay for as long as nobody else gets the
        old name, and a new site makes the machine under O(name). Where both names are there, it is an error.
      - With O(state=absent) nothing is renamed, and what ends is what has the name.
      - Its guest learns the new name from its context, where that says it (C($NAME)), when it is started anew.
      - Not with C(%i) in either name. A machine of a pattern that is renamed does not count for the pattern any more.
    type: str
    version_added: 0.2.0
  count:
    description:
      - How many machines of this O(name) there are to be, exactly. Raising it adds machines, lowering it ends those of
        the highest index.
      - Without it there is one.
    type: int
  template:
    description: Name or id of the template to instantiate.
    type: str
  state:
    description:
      - V(running), V(poweroff) and V(suspended) are the states in which to find the machine afterwards.
      - V(absent) ends the machine and forgets it. With C(%i) in O(name) it ends all machines of this pattern, or the
        first O(count).
      - V(rebooted) and V(reset) restart a running machine, with and without asking its guest; they always change
        something.
      - V(recovered) tries again what failed.
      - V(migrated) moves the machine to O(host), or to a host of the scheduler's choice if none is given; then it moves
        each time it is asked for. It stays in its state. See O(move).
      - V(present) only wants it to exist, in whatever state.
    type: str
    choices: [running, poweroff, suspended, absent, rebooted, reset, recovered, migrated, present]
    default: running
  context:
    description:
      - Variables for the machine's context, put over those of the template's CONTEXT.
      - A dict. It is taken as JSON text, so that its values reach no log.
    type: json
  context_format:
    description:
      - How the context is laid out on its medium, instead of the template's CONTEXT_FORMAT.
      - V(opennebula) is for OpenNebula's own scripts in the guest, V(configdrive) and V(nocloud) are for cloud-init,
        which can read V(opennebula) too.
      - Without it and without CONTEXT_FORMAT, V(opennebula).
    type: str
    choices: [opennebula, configdrive, nocloud]
    version_added: 0.2.0
  context_device:
    description:
      - What the medium is to the guest, instead of the template's CONTEXT_DEVICE. V(cdrom) is a CDROM, V(disk) a SCSI
        disk that can only be read, for guests that mount C(/dev/sdc) or the like. TARGET in CONTEXT names the device.
      - The context of a disk can be changed while the machine is off only.
      - Without it and without CONTEXT_DEVICE, V(cdrom).
    type: str
    choices: [cdrom, disk]
    version_added: 0.2.0
  cpu:
    description: Share of physical processors, instead of the template's CPU. 0.5 is half a processor.
    type: float
  vcpu:
    description:
      - Number of virtual processors, instead of the template's VCPU.
      - On KVM a running machine gets them at once, up to VCPU_MAX of its template, and loses them with O(detach).
    type: int
  memory:
    description:
      - Memory in MiB, instead of the template's MEMORY.
      - On KVM a running machine gets it at once, up to MEMORY_MAX of its template, and gives it back with O(detach).
    type: int
  disks:
    description:
      - Disks instead of the template's DISK vectors, each a dict with the same keys.
      - On a machine that is off, or is to be (O(state=poweroff)), disks come, grow and go as the list says. Which of
        the machine's a disk of the list is, is told by its image or kind, then TARGET and SIZE, and never by its place
        alone.
    type: list
    elements: dict
  nics:
    description:
      - Network interfaces instead of the template's NIC vectors, each a dict with the same keys.
      - On a machine that is off, or is to be (O(state=poweroff)), NICs come, change and go as the list says. Which of
        the machine's a NIC of the list is, is told by its network, then MAC, IP and IP6, and never by its place alone.
    type: list
    elements: dict
  nic_aliases:
    description:
      - Further addresses on its NICs instead of the template's NIC_ALIAS vectors, each a dict with C(NETWORK),
        C(PARENT) (NAME of a NIC of the machine, or C(NIC0) and so on by its place in the list; of one NIC it may be
        left out), C(IP) and the like.
      - They come, change and go while the machine runs, in the catalog, in what its node filters and in its context.
    type: list
    elements: dict
    version_added: 0.2.0
  save_as:
    description:
      - Disks to be saved as new images, each under a name that no other image has.
      - It is done once. The image that an earlier save of this disk made stays as it is; to save the disk again, remove
        that image or choose another name. One that failed is made again.
      - Of a running machine it is the disk of one moment, at which the guest's agent has the file systems frozen; the
        copying goes on while the guest does. Of a machine that is off, or is to be (O(state=poweroff)), it is the disk.
      - The image stands alone, and is READY once M(nebula.provision.nebula_vm_record) has heard of it.
      - A machine with a disk that is not saved yet is neither made anew (O(recreate)) nor removed (O(state=absent)),
        and the disk is not taken away (O(detach)).
    type: list
    elements: dict
    version_added: 0.2.0
    suboptions:
      disk:
        description: The disk's number, which counts from 0 in the order of the template.
        type: int
        default: 0
      image:
        description: Name of the image.
        type: str
        required: true
      type:
        description: V(OS) or V(DATABLOCK). Without it, that of the image which the disk comes from.
        type: str
        choices: [OS, DATABLOCK]
      description:
        description: The image's description.
        type: str
      consistency:
        description:
          - V(agent) has the guest's agent freeze the file systems of a running machine, and is refused if none answers.
          - V(crash) takes the disk as a power cut would leave it. A suspended machine's can be taken only so.
        type: str
        choices: [agent, crash]
        default: agent
  disk_snapshots:
    description:
      - Snapshots of disks, kept within the file of the disk, which has to be qcow2.
      - Those of a machine's own disk end with it; those of a persistent image stay with that, for the next machine.
    type: list
    elements: dict
    version_added: 0.2.0
    suboptions:
      disk:
        description: The disk's number, which counts from 0 in the order of the template.
        type: int
        default: 0
      name:
        description: Name of the snapshot, unique on its disk.
        type: str
        required: true
      state:
        description:
          - V(present) makes it if there is none of that name, of a running machine with its file systems frozen where
            its guest has an agent.
          - V(absent) deletes it. One that is active, or from which others were made, is refused.
          - V(reverted) makes the disk what it was then, each time it is asked for. The machine has to be off, or to be
            switched off by the same item; with O(state=running) it then starts with that disk.
        type: str
        choices: [present, absent, reverted]
        default: present
  system_snapshots:
    description:
      - Snapshots of the machine as a whole, on KVM. One of a running machine holds its memory and all its disks, one of
        a machine that is off all its disks. They are kept within the files of the disks, which have to be qcow2, and
        end with the machine.
    type: list
    elements: dict
    version_added: 0.2.0
    suboptions:
      name:
        description: Name of the snapshot, unique on its machine.
        type: str
        required: true
      state:
        description:
          - V(present) makes it if there is none of that name. A machine that runs needs no agent for it, and must not
            start by UEFI.
          - V(absent) deletes it.
          - V(reverted) makes the machine what it was then, each time it is asked for. One with memory has the machine
            run on from there, whether it runs or is off, and needs O(state=running) or O(state=present) of a machine
            that is to run. For one without memory the machine has to be off, or to be switched off by the same item.
        type: str
        choices: [present, absent, reverted]
        default: present
  inject:
    description:
      - Files that are written into the machine's own disk when it is made, before the machine starts for the first
        time, instead of the template's INJECT. They are not written again later.
      - A list of dicts, taken as JSON text. C(path) is absolute in the guest; what it is to hold is C(content), or what
        the front-end reads from C(src), a path (by the rules of O(safe_dirs) and O(restricted_dirs)) or a URL. C(mode)
        is in octal digits and in quotes, C("0644") if it is left out. C(owner) and C(group) are numbers, or C(root).
        C(disk) is the disk's number, if it is not the one that the machine boots from.
      - C(partition) names one file system of the disk, which needs no operating system then, and C(path) is a path in
        it. It is a number counted from 1, V(0) for a disk without partitions, C(LABEL=), C(UUID=), C(PARTLABEL=) or
        C(PARTUUID=) with its value, or a logical volume, C(/dev/GROUP/VOLUME).
      - A disk that is made empty takes files if it gets a file system (C(FS)). It needs no C(partition).
      - Refused for disks of persistent images, encrypted ones and those that can only be read.
    type: json
    version_added: 0.2.0
  inject_via:
    description:
      - How the node opens the disk for O(inject), V(guestfs) (libguestfs, in a small machine of its own), V(nbd) or
        V(loop). The last two have the node's own kernel mount it, and are taken only for images whose attribute TRUSTED
        is YES, and for disks that are made empty.
      - Without it and without INJECT_VIA in the template, V(auto), the first that can be used there.
    type: str
    choices: [auto, guestfs, nbd, loop]
    version_added: 0.2.0
  attributes:
    description:
      - Any other attributes of the template, put over its own.
      - A dict, taken as JSON text.
    type: json
  owner:
    description:
      - Whose the machine is, for the expressions C($UNAME), C($UID), C($GNAME), C($GID) and C($USER[…]) of its context;
        it gives nobody any right. With O(vms), that of all items which do not say themselves.
      - A dict, taken as JSON text, of C(name), C(uid), C(group), C(gid) and C(attributes), a dict of what
        C($USER[SSH_PUBLIC_KEY]) and the like stand for.
      - Without it a new machine is oneadmin's (user 0 of group 0, without attributes), and one that is there keeps the
        owner that it has. Another one changes the contexts that ask for it, while the machine runs.
    type: json
    version_added: 0.2.0
  host:
    description:
      - The host to run on. Without it the scheduler chooses the one with most memory left.
      - For a machine that is on another host, O(move) says whether it moves.
    type: str
  move:
    description:
      - Whether the machine moves when it is on another host than O(host) says, and how.
      - V(never) leaves it where it is, and tells the difference. With V(live) it runs on meanwhile, and its disks come
        with its memory; one that is off stays where it is, and that is a difference.
      - V(all) moves it as it is, one that runs as with V(live). One that is off stays off, and its disks are copied.
      - With V(cold) it is powered off, as O(hard) and O(shutdown_timeout) say, its disks are copied, and it is started
        there if it ran.
      - With O(state=migrated) it moves also where this says V(never), and also one that is off where this says V(live).
      - With O(vms), that of all items which do not say themselves.
    type: str
    choices: [never, live, cold, all]
    version_added: 0.2.0
  recreate:
    description:
      - Whether a machine that differs in what can't be changed on it is made anew, with its id and addresses and new
        disks. Where its list of NICs is another one, those that stay keep their addresses.
      - If V(false), what differs is told in RV(differences) and as warnings, and left as it is.
    type: bool
    default: false
  hard:
    description: End machines at once, without asking their guests.
    type: bool
    default: false
  shutdown_timeout:
    description:
      - How long a guest may take to shut down, in seconds. If it takes longer, the machine stays RUNNING, with an
        error.
    type: int
    default: 120
  detach:
    description:
      - Take away a disk that the list does not have any more although what it holds is the machine's own, and lost with
        it.
      - Of a machine that runs, agree as well that it loses other disks, NICs and memory that the list has no more.
        Without this, or O(live_removal), nothing is taken from a machine that runs.
      - It is done while the machine is off or is to be, and where the hypervisor can do that also while it runs. If it
        can't be done, that is told in RV(differences). What the machine boots from is never taken away.
    type: bool
    default: false
    version_added: 0.2.0
  hotplug_slots:
    description:
      - How many disks and NICs have room in the machine to come while it runs, besides those that it is made with. KVM
        alone acts on it, and without it a machine on q35 has some ten.
      - It is for a machine that is made, and whose template says no C(HOTPLUG_SLOTS). A machine that is there gets
        other slots by that attribute, at its next start.
      - With O(vms), that of all items which do not say themselves.
    type: int
    version_added: 0.2.0
  restart:
    description:
      - Whether the machine is started anew when something of it waits for its next start. V(never) leaves it running,
        V(rolling) starts O(restart_batch) machines of the list anew at a time, V(all) all of them at once.
      - With O(vms), that of all items which do not say themselves.
    type: str
    choices: [never, rolling, all]
    version_added: 0.2.0
  strict:
    description:
      - Whether an attribute that looks like a slip of a known one, or a key that a known vector does not have, is an
        error and not a warning.
    type: bool
    default: false
  # end: vm.yml keys
  vms:
    description:
      - Many machines, a list of dicts with the keys above.
      - It is taken as JSON text, so that secrets in contexts reach no log.
    type: json
  hosts:
    description:
      - Names of the hosts that are part of this run. Machines are placed on these only, and only their plans are made.
      - Without it, all.
    type: list
    elements: str
  observed:
    description:
      - A list of what the nodes answered when polled, RV(nebula.provision.nebula_deploy#module:observed) of each.
    type: json
  live_removal:
    description:
      - Whether machines that run may lose disks, NICs and memory that the list has no more, also those whose item does
        not say O(detach). A disk that would be lost with its content is taken away by O(detach) alone.
      - If V(false), that is told in RV(differences), and nothing is taken from them.
    type: bool
    default: false
    version_added: 0.2.0
  end_given_up:
    description:
      - Whether machines that were given up with their host (O(nebula.provision.nebula_host#module:state=lost)), and
        that a host was found to have again, are powered off. Their guests are asked first. Their disks stay, and they
        start no more with their host.
      - If V(false), they are named in warnings and left alone. Either way nobody gets their addresses, and a machine of
        the list that has one of them already is not started, until they are off.
      - A machine that the catalog has never heard of is not ended by this.
    type: bool
    default: false
    version_added: 0.2.0
  destroy_limit:
    description:
      - Of how many machines one call may destroy disks with what they hold, by C(count) that is lowered,
        C(state=absent), C(recreate) and C(detach). A number such as V(5), or V(10%) of the machines that the catalog
        has, which is never less than one machine but for V(0%).
      - If the list would do that to more, nothing of it is done, and the error names the machines.
      - Machines of which nothing would be lost do not count, such as one that never ran, or whose disks are persistent
        images.
    type: str
    default: "3"
    version_added: 0.2.0
  destroy_limit_only:
    description:
      - Whether to find out only if the list would go beyond O(destroy_limit), before anything else of a run is done.
        Nothing is changed then, and what the list needs besides may be missing as yet.
    type: bool
    default: false
    version_added: 0.2.0
  restart_batch:
    description:
      - How many machines whose item says V(rolling) in O(restart) are started anew in one round, a number or a
        percentage of the machines of the list (C(25%)), which is never less than one.
    type: str
    default: "1"
    version_added: 0.2.0
  restart_now:
    description:
      - Order the restarts of one round, and decide nothing else of the list. RV(restart_rounds) says how many such
        calls it takes, each with its plans carried out and recorded before the next.
    type: bool
    default: false
    version_added: 0.2.0
  moves:
    description:
      - Have the machines of one round move to other hosts, and decide nothing else. It is what the decision before has
        returned as RV(moves), the same for each round. A machine that has moved, or failed to, stays where it is.
      - RV(move_rounds) says how many such calls it takes. In each, the plans are carried out on both hosts of each
        machine at the same time, in one task, and recorded before the next.
    type: json
    version_added: 0.2.0
  begin_moves:
    description:
      - Have the first round of RV(moves) begin with this decision, where nothing else is to be done before it. Its
        answer is RV(first_round), and such a call with O(moves) follows for the further rounds alone.
    type: bool
    default: false
    version_added: 0.2.0
  move_batch:
    description:
      - How many machines move in one round, a number or a percentage of those that are to move (C(25%)), which is never
        less than one.
    type: str
    default: "2"
    version_added: 0.2.0
  move_timeout:
    description: Seconds after which a move is given up that has not ended. The machine is where it was then.
    type: int
    default: 3600
    version_added: 0.2.0
  move_cold:
    description:
      - Whether machines of O(empty_hosts) and O(fill_hosts) that run, and can't move while they do, are powered off for
        it and started where they come to.
    type: bool
    default: false
    version_added: 0.2.0
  meeting_places:
    description:
      - By the name of each host, a dict of C(address) and C(port) at which other hosts meet it when they bring machines
        to it. Filter P(nebula.provision.meeting_places#filter) makes it. A host that is not in it gets none of theirs.
    type: json
    version_added: 0.2.0
  forks:
    description:
      - On how many hosts one task of Ansible acts at a time, C(ansible_forks). Both hosts of a move have to act at the
        same time, so that no machine moves where it is 1, and a round has no more hosts than this.
    type: int
    default: 5
    version_added: 0.2.0
  empty_hosts:
    description:
      - Names of hosts that all machines move off, also those that are in no list. They are away from there until they
        return by O(fill_hosts), or are moved by O(state=migrated). Until then no list moves them, whatever it says of
        O(host).
      - Machines that run move live, and those that are off by a copy of their disks.
    type: list
    elements: str
    default: []
    version_added: 0.2.0
  fill_hosts:
    description: Names of hosts to which the machines return that are away from there.
    type: list
    elements: str
    default: []
    version_added: 0.2.0
  adopt:
    description:
      - Machines that a host was found to have, with this catalog's mark, and that the catalog does not know, as those
        made after the backup that was restored. They are taken over as machines of the list.
      - A dict of ids by the names that the list has for them. Both have to be said, so that none is taken over by
        accident. A list describes what is to be, and is applied again and again; so this is no key of its items.
      - It keeps its id, host, disks, addresses and state, and has to be just what its item says. Its host has compared
        it before, with RV(nebula.provision.nebula_deploy#module:observed.compared) in O(observed); role
        P(nebula.provision.vm#role) sees to that. Where anything is different or not known, it is refused and nothing is
        changed. Nothing is done to the machine either way; what its item wants of its state is for the next run.
      - One that was taken over before is left alone.
      - In check mode it need not have been compared. Its plan of O(return_plans) is for that, and for nothing else.
    type: dict
    default: {}
    version_added: 0.2.0
  safe_dirs:
    description:
      - Directories below those of O(restricted_dirs) from which FILES in CONTEXT may be taken all the same. So they may
        be from the C(nebula_root) of another catalog or node.
    type: list
    elements: path
    default: []
    version_added: 0.2.0
  restricted_dirs:
    description:
      - Directories of the front-end from which nothing may be taken by FILES in CONTEXT. Symbolic links are followed
        before a path is looked at.
      - O(root) is always one of them. Its images of type CONTEXT are named by FILES_DS. So is every directory that is
        the C(nebula_root) of another catalog or node.
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
  validate_certs:
    description: Whether certificates of https servers are checked that FILES in CONTEXT names.
    type: bool
    default: true
    version_added: 0.2.0
  timeout:
    description:
      - Seconds without a byte after which a download for FILES counts as broken. It is taken up again some times.
    type: int
    default: 30
    version_added: 0.2.0
  min_speed:
    description:
      - KB (1024 bytes) a second that a download for FILES has to bring on average over ten times O(timeout), else it is
        given up.
      - V(0) accepts any speed.
    type: int
    default: 16
    version_added: 0.2.0
  return_plans:
    description:
      - Whether to return RV(plans). They hold secrets, so the task needs C(no_log).
    type: bool
    default: false
  declared:
    description:
      - What earlier tasks of the same run would have created, by C(images), C(networks), C(templates) and C(hosts),
        as dicts like those of
        their modules' lists, and by C(paths) the files that they would have brought. Read in check mode only.
      - Without it a file that C(FILES) or C(INJECT) names and that is not there is taken as given in check mode, with a
        warning. With it, it is refused as in the run.
    type: json
extends_documentation_fragment:
  - nebula.provision.engine
  - nebula.provision.attributes
author:
  - nebula.provision contributors (@nebula-provision)
"""

EXAMPLES = r"""
- name: Three web servers
  nebula.provision.nebula_vm:
    name: web-%i
    count: 3
    template: web
    context:
      ROLE: frontend
  delegate_to: "{{ groups['nebula_frontend'][0] }}"
  run_once: true

- name: Call machine db otherwise
  nebula.provision.nebula_vm:
    name: db-1
    renamed_from: db
    state: present

- name: Keep the disk as it is before an upgrade, and save it as an image
  nebula.provision.nebula_vm:
    name: db
    state: present
    disk_snapshots:
      - disk: 0
        name: before-upgrade
    save_as:
      - disk: 1
        image: db-data-today
        description: Data of machine db

- name: Go back to it
  nebula.provision.nebula_vm:
    name: db
    state: poweroff
    disk_snapshots:
      - name: before-upgrade
        state: reverted

- name: Keep a running machine as it is, with its memory
  nebula.provision.nebula_vm:
    name: db
    state: present
    system_snapshots:
      - name: before-upgrade

- name: Have it run on from there
  nebula.provision.nebula_vm:
    name: db
    state: running
    system_snapshots:
      - name: before-upgrade
        state: reverted

- name: Find out which machines would move off a host, and where to
  nebula.provision.nebula_vm:
    vms: "[]"
    empty_hosts: [node1]
    forks: "{{ ansible_forks }}"
    meeting_places: >-
      {{ groups['nebula_nodes'] | map('extract', hostvars) | nebula.provision.meeting_places | to_json }}
  check_mode: true

- name: What would become of the whole list
  nebula.provision.nebula_vm:
    vms: "{{ nebula_vms | to_json }}"
  check_mode: true
  diff: true
"""

RETURN = r"""
vm:
  description: The machine, if one was asked for by O(name) and it is one only. The same keys as an item of RV(vms).
  returned: when O(vms) is not given
  type: dict
vms:
  description: The machines of the list, in the order of their ids.
  returned: always
  type: list
  elements: dict
  contains:
    id: {description: Id. Null in check mode for a machine that would be created., type: int}
    name: {description: Name., type: str}
    state: {description: State as the catalog has it; on its way (PROLOG) until the plan is carried out., type: str}
    wanted: {description: State in which it is to be., type: str}
    host: {description: Its host., type: str}
    memory: {description: Memory in MiB., type: int}
    cpu: {description: Share of processors., type: float}
    ip: {description: Its first address., type: str}
    ips:
      description: All addresses that are leased to its interfaces, and to the further addresses on these after them.
      type: list
      elements: str
    mac: {description: The MAC address of its first interface., type: str}
    nics: {description: All its interfaces with their leases., type: list, elements: dict}
    nic_aliases:
      description:
        - The further addresses on its interfaces, with C(nic_id), C(name), C(parent) (name of the interface),
          C(parent_id), C(alias_id), C(network), C(mac), C(ip), C(ip6), C(ip6_ula), C(external),
          and C(late), whether it came since the guest was started.
      type: list
      elements: dict
    disks:
      description:
        - Its disks. C(snapshots) of each has C(id), C(name), C(parent) (an id, or null), C(active) (the one that the
          disk's content of now comes from), C(date) in seconds since the epoch, and C(size) in MiB.
      type: list
      elements: dict
    system_snapshots:
      description:
        - Snapshots of it as a whole, with C(id), C(name), C(memory) (whether they hold its memory), C(date) in seconds
          since the epoch, and C(disks) (the numbers of the disks that they hold).
      type: list
      elements: dict
      version_added: 0.2.0
    console: {description: Path of its console log on its host., type: str}
    access: {description: "How a person gets in, to be typed on its host.", type: str}
    waits:
      description:
        - What changes at its next start, with C(part) (an attribute, a disk or a NIC), C(found) (what it has now) and
          C(wanted).
      type: list
      elements: dict
    lacks:
      description:
        - What its template says and a new machine of it would have, and this one, which an earlier release made, does
          not, in sentences.
      type: list
      elements: str
    moving:
      description:
        - The host that it is on its way to, and of which nobody knows yet whether it has arrived. It is started nowhere
          until both hosts have answered.
      type: str
    away: {description: "The host that it is away from, since that was emptied for maintenance.", type: str}
    error: {description: Why the last thing that was done to it failed., type: str}
pools:
  description:
    - Names of what the catalog has, with C(images), C(networks), C(templates), and C(unlisted_vms), the machines that
      O(vms) does not name. The last is empty where an item of the list failed, as nothing tells then which are its.
  returned: always
  type: dict
  version_added: 0.2.0
changed_vms:
  description: Names of the machines that were decided anew, or seen in another state than was known.
  returned: always
  type: list
  elements: str
destroyed:
  description: Names of the machines of whose disks something is destroyed.
  returned: always
  type: list
  elements: str
  version_added: 0.2.0
restart_rounds:
  description: How often O(restart_now) is to be called until no machine waits any more that is to be started anew.
  returned: always
  type: int
  version_added: 0.2.0
moves:
  description:
    - The machines that are to move to other hosts, in the order in which they do. The decision moves none of them.
      O(moves) takes this.
  returned: always
  type: list
  elements: dict
  version_added: 0.2.0
  contains:
    id: {description: Its id., type: int}
    name: {description: Its name., type: str}
    host: {description: The host that it is on., type: str}
    generation: {description: "Of what was decided about it. If that is another by then, it is left alone.", type: int}
    to: {description: "The host that is asked for, empty for the scheduler's choice.", type: str}
    word: {description: How it is to move., type: str}
    away: {description: "The host that it is away from then, empty if it moves for good.", type: str}
    target: {description: "Where it is expected to go, as far as that is known by now.", type: str}
    way: {description: "V(live) or V(cold), as far as that is known by now.", type: str}
    size: {description: How many MiB of its disks and memory are copied at most., type: int}
    hard: {description: "Whether it is powered off at once, where it is for its move.", type: bool}
    shutdown_timeout: {description: How many seconds its guest has for that otherwise., type: int}
    datastore: {description: "The shared datastore in which its disks stay, empty if they are copied.", type: str}
move_rounds:
  description: How often O(moves) is to be given until all of RV(moves) have moved.
  returned: always
  type: int
  version_added: 0.2.0
first_round:
  description: What a call with O(moves) returns that begins the first of these rounds.
  returned: when O(begin_moves) is true, and the round has begun
  type: dict
  version_added: 0.2.0
differs:
  description: What differs from the list and was left as it is, a sentence each.
  returned: always
  type: list
  elements: str
differences:
  description:
    - The same as data. Whether that is a failure is for the caller to say, as role P(nebula.provision.vm#role) does by
      C(nebula_on_difference).
  returned: always
  type: list
  elements: dict
  version_added: 0.2.0
  contains:
    name: {description: The machine's name., type: str}
    id: {description: Its id., type: int}
    host: {description: Its host., type: str}
    attribute: {description: "What differs, as C(MEMORY), C(NIC) or C(host).", type: str}
    found: {description: What is., type: str}
    wanted: {description: What the list says., type: str}
    remedy: {description: What to do., type: str}
    sentence: {description: "All of it, as in RV(differs).", type: str}
given_up:
  description: Machines that were given up with their host, and that a host was found to have again.
  returned: always
  type: list
  elements: dict
  version_added: 0.2.0
  contains:
    vm_id: {description: Id., type: int}
    uuid: {description: UUID., type: str}
    name: {description: Name that it had., type: str}
    host: {description: The host that has it., type: str}
    state: {description: State as its host says., type: str}
    addresses: {description: Addresses that it may use there., type: list, elements: str}
    doubles: {description: Machines of the catalog that have one of these too., type: list, elements: str}
plans:
  description: For each host that has something to do, the plan as JSON text.
  returned: when O(return_plans=true)
  type: dict
transfers:
  description:
    - For each host that does not see the front-end's datastores, the files of images that its plan needs and it lacks
      (C(images)), and the MiB that it has room for (C(room)). It is for M(nebula.provision.nebula_transfer).
  returned: when O(return_plans=true)
  type: dict
  version_added: 0.2.0
returning:
  description: Whether the files of images are on their way back from hosts.
  returned: when O(return_plans=true)
  type: bool
  version_added: 0.2.0
refused_answers:
  description:
    - By host, why what it answered in O(observed) was refused. It counts as a host that did not answer, and what was
      decided about other hosts is not concerned.
  returned: always
  type: dict
  version_added: 0.2.0
catalog:
  description: UUID of the catalog.
  returned: always
  type: str
errors:
  description:
    - The items that failed, with C(name), C(asked), C(found) and C(remedy). Nothing was kept of them; the others were
      done.
  returned: on failure
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import vm as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
