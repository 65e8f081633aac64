#!/usr/bin/env bash
# Installs what the wider tests use besides Rust, a C linker and util-linux, where that can be done: on Debian and its
# kin, as root. Whatever is missing afterwards is no failure: the tests that need it say so and are skipped.
set -euo pipefail

# The program that tests call, and the package that brings it.
declare -A package=(
  [bwrap]=bubblewrap
  [chromium]=chromium
  [docker-registry]=docker-registry
  [dockerd]=docker.io
  [firejail]=firejail
  [ip]=iproute2
  [iptables]=iptables
  [nft]=nftables
  [podman]=podman
  [busybox]=busybox-static
  [sshd]=openssh-server
  [xmllint]=libxml2-utils
)

missing=()
for program in "${!package[@]}"; do
  command -v "$program" >/dev/null || missing+=("${package[$program]}")
done

if ((${#missing[@]} == 0)); then
  echo 'everything is installed'
  exit 0
fi

give_up() {
  printf 'not installed: %s (%s); tests that need it are skipped\n' "${missing[*]}" "$1"
  exit 0
}

command -v apt-get >/dev/null || give_up 'no apt-get here'
((EUID == 0)) || give_up 'only root can install'

# A run level in which the services that packages bring are not started: the tests start what they need.
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1

# Shows what apt-get says only where it fails.
apt() {
  local said
  said=$(timeout 600 apt-get -qq -o DPkg::Lock::Timeout=60 -o Acquire::Retries=2 "$@" </dev/null 2>&1) || {
    printf '%s\napt-get %s failed\n' "$said" "$1"
    return 1
  }
}

# The lists of packages may be missing or old. If they cannot be had, those that are there may do.
apt update || true
apt install --yes --no-install-recommends "${missing[@]}" || give_up 'apt-get failed'
printf 'installed: %s\n' "${missing[*]}"
