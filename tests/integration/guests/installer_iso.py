# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real installer, small enough for every run: an ISO of Debian's packages that puts a Debian onto a blank disk.

It boots by BIOS (isolinux) and by UEFI (GRUB), or by kernel and initrd taken out of it. Its init makes partitions and
an ext4, unpacks a root, installs a boot loader for the firmware that it was booted by, says each step on the serial
console and the screen, and ends as the kind of ISO says. A disk that is not blank is not touched: a machine that comes
back to the installer instead of its disk is seen by that.

The root is Debian's files with busybox as its init and the context program of role guest_context in it."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from ansible_collections.nebula.provision.plugins.module_utils.storage import demo_image

from .cache import cached, directory
from .sources import archives, codename

LABEL = "NEBULA_INSTALL"
# What it says when the system is on the disk, and when it can't be.
FINISHED = "nebula-install: finished"
FAILED = "nebula-install: failed"
REFUSED = "nebula-install: refused"
# How the installation ends. stay: neither, somebody says so or reads the console; fail: in the middle, and stays.
KINDS = ("poweroff", "reboot", "stay", "fail")
# Where Debian's own ISOs have them.
KERNEL, INITRD = "install.amd/vmlinuz", "install.amd/initrd.gz"
# Raised when the way of building changes what comes out.
BUILDER = 3
SMALLEST = 160  # MiB
EFI_SIZE = 6 << 20
ROOT_PACKAGES = ["base-files", "busybox-static"]
PACKAGES = ["isolinux", "syslinux-common", "extlinux", "grub-efi-amd64-bin"]
PROGRAM = Path(__file__).resolve().parents[3] / "roles/guest_context/files/nebula-context"

# scan=manual: virtio-scsi would ask 256 targets one after the other, which takes seconds when emulated.
MODULES = (
    ("virtio_pci", ""),
    ("scsi_mod", "scan=manual"),
    ("sd_mod", ""),
    ("sr_mod", ""),
    ("virtio_blk", ""),
    ("virtio_scsi", ""),
    ("ata_piix", ""),
    ("xen_blkfront", ""),
    ("xen_netfront", ""),
    ("virtio_net", ""),
    ("virtio_balloon", ""),
    ("isofs", ""),
    ("ext4", ""),
    ("crc32c_generic", ""),
    ("vfat", ""),
    ("nls_cp437", ""),
    ("nls_ascii", ""),
    ("nls_iso8859_1", ""),
    ("button", ""),
    ("evdev", ""),
)
# As in demo_guest.py.
CONSOLES = "console=tty0 console=ttyS0,115200 quiet loglevel=3 net.ifnames=0 mitigations=off no_timer_check"

# Of both, the installer and the system that it installs.
START = r"""#!/bin/sh
PATH=/usr/local/bin:/bin:/sbin:/usr/bin:/usr/sbin
export PATH
/bin/busybox mkdir -p /bin /sbin /usr/bin /usr/sbin /proc /sys /dev /run /tmp /mnt
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
while read -r module options; do
    # shellcheck disable=SC2086
    insmod "/lib/modules/$module.ko" $options
done < /lib/modules/order
for host in /sys/class/scsi_host/host*; do
    case $(cat "$host/proc_name" 2> /dev/null) in
        virtio_scsi) for target in $(seq 0 25); do echo "0 $target -" > "$host/scan"; done ;;
        *) [ ! -e "$host/scan" ] || echo '- - -' > "$host/scan" ;;
    esac
done

# with LABEL: the device that bears it, once there is one.
with() {
    tries=0
    until findfs "LABEL=$1" 2> /dev/null; do
        tries=$((tries + 1))
        [ "$tries" -le 100 ] || return 1
        usleep 100000
    done
}
"""

SYSTEM_INIT = (
    START
    + r"""
root=$(with nebula-root) && mount -o rw "$root" /mnt || { echo 'no root file system: nebula-root'; exec sh; }
mount -o move /dev /mnt/dev
umount /sys /proc
exec switch_root /mnt /sbin/init
"""
)

INSTALLER_INIT = (
    START
    + r"""
end=$(sed -n 's/.*nebula_install\.end=\([a-z]*\).*/\1/p' /proc/cmdline)
force=$(grep -c nebula_install.force /proc/cmdline)
mkdir -p /cdrom /target

say() {
    echo "nebula-install: $*"
    [ ! -c /dev/tty1 ] || echo "nebula-install: $*" > /dev/tty1
}

# Whatever is at the console is kept for whoever looks: nothing is repeated, and nothing is switched off.
stay() { while :; do sleep 3600; done; }
fail() {
    say "failed: $*"
    stay
}
# step COMMAND …: or the installation has failed.
step() {
    "$@" > /run/step 2>&1 || fail "$1: $(tail -n 1 /run/step)"
}

sectors() { cat "/sys/block/$1/size"; }
blank() { [ "$(dd if="/dev/$1" bs=1M count=1 2> /dev/null | tr -d '\000' | head -c 1 | wc -c)" = 0 ]; }
partition() { [ ! -b "/dev/$1$2" ] && echo "/dev/$1p$2" || echo "/dev/$1$2"; }

say "started, end=${end:-poweroff}"
[ ! -e /preseed.cfg ] || say "answers: preseed.cfg in the initrd, $(wc -c < /preseed.cfg) bytes"
for given in CIDATA cidata OEMDRV AUTOYAST; do
    tries=100
    found=$(findfs "LABEL=$given" 2> /dev/null) && say "answers: $given is ${found##*/}"
done

medium=$(with @LABEL@) && mount -t iso9660 -o ro "$medium" /cdrom || fail 'the installation medium is not found'

disk=
seen=
for path in /sys/block/vd* /sys/block/xvd* /sys/block/sd* /sys/block/hd*; do
    [ -e "$path" ] && [ "$(cat "$path/ro")" = 0 ] && [ "$(cat "$path/removable")" = 0 ] || continue
    seen="$seen ${path##*/}"
    if [ "$force" != 0 ] || blank "${path##*/}"; then
        disk=${path##*/}
        break
    fi
done
[ -n "$seen" ] || fail 'there is no disk'
if [ -z "$disk" ]; then
    say "refused: not blank:$seen; with nebula_install.force on the command line the first is overwritten"
    stay
fi
mib=$(($(sectors "$disk") / 2048))
[ "$mib" -ge @SMALLEST@ ] || fail "/dev/$disk is too small: it has $mib MiB, and @SMALLEST@ are needed"

firmware=BIOS
[ ! -d /sys/firmware/efi ] || firmware=UEFI
say "installing on /dev/$disk, $mib MiB, by $firmware"
if [ "$firmware" = UEFI ]; then
    printf 'o\nn\np\n1\n2048\n133119\nt\nef\nn\np\n2\n133120\n\nw\n' > /run/table
    number=2
else
    printf 'o\nn\np\n1\n2048\n\na\n1\nw\n' > /run/table
    number=1
fi
fdisk -u "/dev/$disk" < /run/table > /run/step 2>&1
root=$(partition "$disk" "$number")
tries=0
until [ -b "$root" ]; do
    tries=$((tries + 1))
    [ "$tries" -le 50 ] || fail "fdisk: $(tail -n 1 /run/step)"
    usleep 100000
    root=$(partition "$disk" "$number")
done
say 'partitions are made'

# What extlinux reads.
step /usr/local/bin/mke2fs -q -F -t ext4 -O '^64bit,^metadata_csum' -L nebula-root "$root"
step mount -t ext4 "$root" /target
say 'file system is made'

[ "$end" != fail ] || fail 'as it was told to'
gzip -dc /cdrom/root.tar.gz | tar -xvf - -C /target | awk -v all="$(cat /cdrom/root.entries)" '
    { part = int(NR * 10 / all) }
    part != last { last = part; print "nebula-install: unpacked " part * 10 "%"; fflush() }'
[ -x /target/sbin/init ] || fail 'the root is not unpacked'

if [ "$firmware" = UEFI ]; then
    boot=$(partition "$disk" 1)
    step mkdosfs -n ESP "$boot"
    mkdir -p /target/boot/efi
    step mount -t vfat "$boot" /target/boot/efi
    mkdir -p /target/boot/efi/EFI/BOOT /target/boot/efi/EFI/debian
    step cp /cdrom/boot/loader/grubx64.efi /target/boot/efi/EFI/BOOT/BOOTX64.EFI
    step cp /target/boot/grub.cfg /target/boot/efi/EFI/debian/grub.cfg
    echo 'LABEL=ESP /boot/efi vfat defaults 0 0' >> /target/etc/fstab
    step umount /target/boot/efi
else
    step extlinux --install /target/boot
    step dd if=/cdrom/boot/loader/mbr.bin of="/dev/$disk" bs=440 count=1 conv=notrunc
fi
say 'boot loader is installed'

step umount /target
sync
say finished
case $end in
    reboot) reboot -f ;;
    stay) stay ;;
    *) poweroff -f ;;
esac
stay
"""
)

INITTAB = """\
::sysinit:/etc/init.d/rcS
ttyS0::respawn:/sbin/getty -L ttyS0 115200 vt100
tty1::respawn:/sbin/getty 38400 tty1
::ctrlaltdel:/sbin/reboot
"""
FSTAB = """\
LABEL=nebula-root / ext4 defaults 0 1
proc /proc proc defaults 0 0
sys /sys sysfs defaults 0 0
run /run tmpfs defaults 0 0
"""
EXTLINUX = f"DEFAULT linux\nPROMPT 0\nLABEL linux\n  LINUX vmlinuz\n  INITRD initrd.gz\n  APPEND {CONSOLES}\n"
GRUB = f"""\
search --no-floppy --set=root --label nebula-root
linux /boot/vmlinuz {CONSOLES}
initrd /boot/initrd.gz
boot
"""
RC_S = r"""#!/bin/sh
PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -a
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
hostname -F /etc/hostname
ip link set lo up
acpid -l /run/acpid.log -p /run/acpid.pid
"""
SYSTEM: Mapping[str, tuple[str, int]] = {
    "etc/inittab": (INITTAB, 0o644),
    "etc/init.d/rcS": (RC_S, 0o755),
    "etc/fstab": (FSTAB, 0o644),
    "etc/passwd": ("root:x:0:0:root:/root:/bin/sh\n", 0o644),
    "etc/group": ("root:x:0:\n", 0o644),
    "etc/shadow": ("root:*:19000:0:99999:7:::\n", 0o600),
    "etc/hostname": ("installed\n", 0o644),
    "etc/acpi/PWRF/00000080": ("#!/bin/sh\nsync\nexec /bin/poweroff\n", 0o755),
    "boot/extlinux.conf": (EXTLINUX, 0o644),
    "boot/grub.cfg": (GRUB, 0o644),
}


def build(kind: str = "poweroff") -> Path:
    """The ISO that ends its installation as this kind says, made once."""
    if kind not in KINDS:
        raise ValueError(kind)
    inputs = [
        BUILDER,
        SYSTEM_INIT,
        INSTALLER_INIT,
        SYSTEM,
        MODULES,
        CONSOLES,
        ROOT_PACKAGES,
        PACKAGES,
        LABEL,
        SMALLEST,
        KINDS,
    ]
    return cached("installer", [*inputs, PROGRAM.read_text(), codename()], make) / f"{kind}.iso"


def make(place: Path) -> None:
    packages = directory() / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    unpacked = place / "unpacked"
    names = [demo_image.kernel_package("amd64"), demo_image.BUSYBOX_PACKAGE, *PACKAGES]
    demo_image.unpack(names, packages, unpacked)
    kernel = max(unpacked.glob("boot/vmlinuz-*"))
    modules = modules_of(unpacked)

    tree = place / "tree"
    for name in ("boot/loader", "install.amd"):
        (tree / name).mkdir(parents=True)
    shutil.copy(kernel, tree / KERNEL)
    initrd(tree / INITRD, INSTALLER_INIT, modules, unpacked, {"mke2fs": "/sbin/mke2fs", "extlinux": "usr/bin/extlinux"})

    root = place / "root"
    system(root, place, kernel, modules, unpacked)
    entries = sum(1 for _entry in root.rglob("*"))
    (tree / "root.entries").write_text(f"{entries}\n")
    pack = ["tar", "--sort=name", "--numeric-owner", "--owner=0", "--group=0", "-C", str(root), "-czf"]
    subprocess.run([*pack, str(tree / "root.tar.gz"), "."], check=True)

    shutil.copy(unpacked / "usr/lib/grub/x86_64-efi/monolithic/grubx64.efi", tree / "boot/loader")
    shutil.copy(unpacked / "usr/lib/syslinux/mbr/mbr.bin", tree / "boot/loader")
    for kind in KINDS:
        bootable(place / f"{kind}.iso", tree, unpacked, LABEL, f"{CONSOLES} nebula_install.end={kind}")
    for scratch in (tree, root, unpacked):
        shutil.rmtree(scratch)


def modules_of(unpacked: Path) -> dict[str, demo_image.Entry]:
    sources = {path.stem.replace("-", "_"): path for path in unpacked.glob("lib/modules/*/kernel/**/*.ko")}
    order = demo_image.module_order(MODULES, sources)
    tree = {f"lib/modules/{name}.ko": demo_image.file(sources[name].read_bytes()) for name, _options in order}
    tree["lib/modules/order"] = demo_image.file("".join(f"{name} {options}\n" for name, options in order).encode())
    return tree


def initrd(
    path: Path, init: str, modules: Mapping[str, demo_image.Entry], unpacked: Path, programs: Mapping[str, str]
) -> None:
    init = init.replace("@LABEL@", LABEL).replace("@SMALLEST@", str(SMALLEST))
    tree = {
        "bin": demo_image.directory(),
        "bin/busybox": demo_image.file((unpacked / "bin/busybox").read_bytes(), 0o755),
        "bin/sh": demo_image.link("busybox"),
        "lib": demo_image.directory(),
        "lib/modules": demo_image.directory(),
        "init": demo_image.file(init.encode(), 0o755),
        "usr": demo_image.directory(),
        "usr/local": demo_image.directory(),
        "usr/local/bin": demo_image.directory(),
        **modules,
    }
    for name, source in programs.items():
        # The machine's own, or the one that was unpacked: the same distribution, by codename().
        program = unpacked / source
        tree[f"usr/local/bin/{name}"] = demo_image.file(program.read_bytes(), 0o755)
        linked = subprocess.run(["ldd", str(program)], check=True, capture_output=True, text=True).stdout
        for library in (word for word in linked.split() if word.startswith("/") and not word.endswith(":")):
            for parent in reversed(Path(library.lstrip("/")).parents[:-1]):
                tree.setdefault(str(parent), demo_image.directory())
            tree[library.lstrip("/")] = demo_image.file(Path(library).read_bytes(), 0o755)
    path.write_bytes(gzip.compress(demo_image.cpio(tree), 6, mtime=0))


def system(root: Path, place: Path, kernel: Path, modules: Mapping[str, demo_image.Entry], unpacked: Path) -> None:
    """What is installed: Debian's files, busybox as its init, the context program."""
    hooks = ['rm -rf "$1"/usr/share/doc "$1"/usr/share/man "$1"/usr/share/locale "$1"/var/lib/apt "$1"/var/cache/apt']
    # In a mount namespace of its own: where it is killed, its mounts go with it.
    run = ["unshare", "--mount", "mmdebstrap", "--mode=root", "--variant=extract"]
    run += ["--aptopt=APT::Install-Recommends false"]
    run += [f"--include={','.join(ROOT_PACKAGES)}", *[f"--customize-hook={hook}" for hook in hooks]]
    subprocess.run([*run, codename(), str(root), "-"], input=archives(), check=True, text=True, capture_output=True)
    for name in ("bin", "sbin", "usr/bin", "boot", "dev", "mnt", "proc", "root", "run", "sys", "tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for applet in subprocess.run(["busybox", "--list"], check=True, capture_output=True, text=True).stdout.split():
        if not any(os.path.lexists(root / where / applet) for where in ("bin", "sbin", "usr/bin", "usr/sbin")):
            (root / "bin" / applet).symlink_to("/bin/busybox")
    for name in ("init", "getty", "reboot", "poweroff"):
        if not os.path.lexists(root / "sbin" / name):
            (root / "sbin" / name).symlink_to("/bin/busybox")
    for name, (text, mode) in SYSTEM.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
        (root / name).chmod(mode)
    subprocess.run(["sh", str(PROGRAM), "--root", str(root), "install"], check=True, capture_output=True)
    shutil.copy(kernel, root / "boot/vmlinuz")
    initrd(root / "boot/initrd.gz", SYSTEM_INIT, modules, unpacked, {})


def bootable(iso: Path, tree: Path, unpacked: Path, label: str, append: str) -> None:
    """An ISO of the tree that boots its kernel with this command line, by BIOS and by UEFI. unpacked: PACKAGES."""
    for name in ("isolinux", "boot/grub"):
        (tree / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(unpacked / "usr/lib/ISOLINUX/isolinux.bin", tree / "isolinux")
    shutil.copy(unpacked / "usr/lib/syslinux/modules/bios/ldlinux.c32", tree / "isolinux")
    (tree / "isolinux/isolinux.cfg").write_text(
        f"DEFAULT install\nPROMPT 0\nLABEL install\n  LINUX /{KERNEL}\n  INITRD /{INITRD}\n  APPEND {append}\n"
    )
    menu = f"search --no-floppy --set=root --label {label}\nlinux /{KERNEL} {append}\ninitrd /{INITRD}\nboot\n"
    (tree / "boot/grub/grub.cfg").write_text(menu)
    loader = unpacked / "usr/lib/grub/x86_64-efi/monolithic/gcdx64.efi"
    fat = tree / "boot/grub/efi.img"
    with fat.open("wb") as image:
        image.truncate(EFI_SIZE)
    quiet = {**os.environ, "MTOOLSRC": os.devnull, "MTOOLS_SKIP_CHECK": "1"}

    def write(program: str, *arguments: str) -> None:
        subprocess.run([program, "-i", str(fat), *arguments], check=True, env=quiet, capture_output=True)

    write("mformat", "-h", "16", "-s", "63", "-T", str(EFI_SIZE // 512), "-v", "EFI", "::")
    write("mmd", "::EFI", "::EFI/BOOT", "::boot", "::boot/grub")
    write("mcopy", str(loader), "::EFI/BOOT/BOOTX64.EFI")
    write("mcopy", str(tree / "boot/grub/grub.cfg"), "::boot/grub/grub.cfg")
    make_iso = ["xorriso", "-as", "mkisofs", "-quiet", "-o", str(iso), "-V", label, "-J", "-R"]
    make_iso += ["-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat"]
    make_iso += ["-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"]
    make_iso += ["-eltorito-alt-boot", "-e", "boot/grub/efi.img", "-no-emul-boot", str(tree)]
    subprocess.run(make_iso, check=True, capture_output=True)
