#!/usr/bin/env bash
# Makes what the rig needs, once, in FOLDER: QEMU 10 in a folder of Debian 13, and the disk of a virtual machine of it
# with Docker on it. Both are made of Debian's own packages alone, and nothing is installed on this machine.
# Usage: ci/smolvm-rig/build.sh FOLDER
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd)
suite=trixie
mirror=${CLAUDE_BOTTLE_RIG_MIRROR:-http://deb.debian.org/debian}
qemu_packages=qemu-system-x86
# e2fsprogs: smolvm formats a machine's disks with it, or the machine does so itself, which takes longer than smolvm waits.
vm_packages=linux-image-amd64,systemd-sysv,udev,kmod,openssh-server,iproute2,iptables,nftables,procps,docker.io,e2fsprogs,ca-certificates

((EUID == 0)) || { echo "the rig is built as root: debootstrap makes device files" >&2; exit 1; }
exec 9>"$folder/lock"
flock 9

mkdir -p "$folder/packages"

# What it mounts and starts is gone with it: the namespaces are its own.
make() { # FOLDER PACKAGES
  rm -rf "$1.new"
  unshare --mount --pid --fork --kill-child nice -n 10 \
    "$here/../debootstrap.sh" "$folder" --variant=minbase --cache-dir="$folder/packages" --include="$2" "$suite" "$1.new" "$mirror"
  rm -rf "$1"
  mv "$1.new" "$1"
  echo "$2" >"$1.packages"
}

# Made of these packages already.
made() { # FOLDER PACKAGES
  [[ -d $1 && -f $1.packages && $(<"$1.packages") == "$2" ]]
}

made "$folder/qemu" "$qemu_packages" || make "$folder/qemu" "$qemu_packages"
made "$folder/system" "$vm_packages" || make "$folder/system" "$vm_packages"

[[ -f $folder/key ]] || ssh-keygen -q -t ed25519 -N '' -C rig -f "$folder/key"
if [[ ! -f $folder/disk.img || $here/prepare.sh -nt $folder/disk.img || $folder/system.packages -nt $folder/disk.img ]]; then
  # In a copy: what is made of it can be made anew.
  rm -rf "$folder/root"
  cp -a --reflink=auto "$folder/system" "$folder/root"
  install -D -m 600 "$folder/key.pub" "$folder/root/root/.ssh/authorized_keys"
  "$here/prepare.sh" "$folder/root"
  cp "$folder"/root/boot/vmlinuz-* "$folder/vmlinuz"
  cp "$folder"/root/boot/initrd.img-* "$folder/initrd.img"
  rm -f "$folder/disk.new"
  truncate -s 12G "$folder/disk.new"
  mkfs.ext4 -q -F -d "$folder/root" "$folder/disk.new"
  rm -rf "$folder/root"
  mv "$folder/disk.new" "$folder/disk.img"
fi
