#!/usr/bin/env bash
# Boots the rig's machine from the disk in FOLDER, which stays as it is, and runs COMMAND while it is up; then ends it.
# COMMAND finds in RIG_SSH the words of an ssh command that leads into it as root.
#
# The machine has no network but QEMU's own, which leads nowhere: only this machine's loopback gets in, by ssh.
#
# Usage: ci/smolvm-rig/boot.sh FOLDER COMMAND…
set -euo pipefail
folder=$(cd "$1" && pwd)
shift
memory=${CLAUDE_BOTTLE_RIG_MEMORY:-6144}
scratch=$(mktemp -d -p "$folder" run.XXXXXXXX)
machine=''

stop() {
  if [[ -n $machine ]] && kill -0 "$machine" 2>/dev/null; then
    # unshare(1) ignores SIGTERM while it waits; its child goes with it, and so does everything in that one's PID namespace.
    kill -KILL "$machine" 2>/dev/null || true
    wait "$machine" 2>/dev/null || true
  fi
  machine=''
}

end() {
  stop
  rm -rf -- "$scratch"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Some do not come up in emulation: its clocks stop, and the kernel with them. Nothing has been tried in one by then.
boots=3

boot() {
  port=$((20000 + RANDOM % 30000))
  # QEMU and its libraries are those of the folder; the mounts are in a namespace of its own, and gone with it.
  # shellcheck disable=SC2016 # for the shell in there
  unshare --mount --pid --fork --kill-child --propagation private bash -euc '
    folder=$1 scratch=$2 port=$3 memory=$4
    root=$folder/qemu
    mkdir -p "$root/rig" "$root/scratch"
    mount --bind "$folder" "$root/rig"
    mount --bind "$scratch" "$root/scratch"
    mount -t proc proc "$root/proc"
    mount --bind /dev "$root/dev"
    exec chroot "$root" /usr/bin/env TMPDIR=/scratch qemu-system-x86_64 \
      -machine q35 -accel tcg,thread=multi,tb-size=1024 -cpu max -m "$memory" -smp 2 \
      -kernel /rig/vmlinuz -initrd /rig/initrd.img \
      -append "root=/dev/vda rw rootfstype=ext4 console=ttyS0 mitigations=off nokaslr tsc=reliable net.ifnames=0" \
      -drive file=/rig/disk.img,format=raw,if=virtio,cache=unsafe,discard=unmap,snapshot=on \
      -device virtio-rng-pci -nic "user,model=virtio-net-pci,restrict=on,hostfwd=tcp:127.0.0.1:$port-:22" \
      -display none -monitor none -serial file:/scratch/console.log -no-reboot
  ' rig "$folder" "$scratch" "$port" "$memory" >"$scratch/qemu.log" 2>&1 &
  machine=$!
  ssh=(ssh -i "$folder/key" -p "$port" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR
    -o ConnectTimeout=20 -o ServerAliveInterval=30 -o ServerAliveCountMax=20 root@127.0.0.1)
  for _ in $(seq 150); do
    kill -0 "$machine" 2>/dev/null || return 1
    ! "${ssh[@]}" true 2>/dev/null </dev/null || return 0
    sleep 2
  done
  return 1
}

until boot; do
  cat "$scratch/qemu.log" >&2
  tail -n 40 "$scratch/console.log" >&2 || true
  echo 'the machine did not come up' >&2
  stop
  ((--boots > 0)) || exit 1
done
printf 'the machine is up after %s s\n' "$SECONDS"
export RIG_SSH=${ssh[*]}
status=0
"$@" || status=$?
exit "$status"
