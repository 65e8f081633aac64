#!/usr/bin/env bash
# Makes a Debian folder the root of the rig's machine. Usage: prepare.sh ROOT
set -euo pipefail
root=$1
echo rig >"$root/etc/hostname"
printf '127.0.0.1 localhost rig\n::1 localhost\n' >"$root/etc/hosts"
printf '/dev/vda / ext4 rw 0 0\n' >"$root/etc/fstab"
printf 'kvm_amd\nveth\ntun\nfuse\nvhost_vsock\n9pnet_virtio\n9p\nbridge\nbr_netfilter\noverlay\ndummy\n' >"$root/etc/modules-load.d/rig.conf"
# smolvm's machines run as a user of their own.
printf 'KERNEL=="kvm", MODE="0666"\n' >"$root/etc/udev/rules.d/99-rig.rules"
cat >"$root/etc/systemd/system/rig-network.service" <<'UNIT'
[Unit]
Before=ssh.service
[Service]
Type=oneshot
# QEMU's own network, which leads nowhere: `restrict=on`.
ExecStart=/bin/sh -c 'ip link set eth0 up && ip address add 10.0.2.15/24 dev eth0'
[Install]
WantedBy=multi-user.target
UNIT
wanted=$root/etc/systemd/system/multi-user.target.wants
mkdir -p "$wanted"
ln -sf ../rig-network.service "$wanted/rig-network.service"
# The tests start engines of their own.
for unit in docker.service docker.socket containerd.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer; do
  ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
