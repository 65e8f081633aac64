#!/usr/bin/env bash
# Probes bottles on a real smolvm, in a virtual machine that QEMU emulates with its own virtualization: no KVM is needed here.
# Everything is made of Debian's and PyPI's packages, and kept in target/smolvm-rig/; the machine itself is gone at the end.
#
#   ci/smolvm-rig/run.sh [VERSION [WHAT…]]   VERSION of smolvm, 1.32.2 unless given
#
# WHAT: `probes` and `breaches` are the test suites of these names, the first on a sound bottle, the other on that one and one with each
# hole, compared with what the plan lets expect; `killed` are launches that are killed after each of their steps, and what `cleanup`
# finds of them; `started` is a command that is started in a bottle for work; `system` is `breaches` beside the machine's own engine
# instead of a private one, and `loopback` the same as an ordinary user whose packets do not get to that engine's containers, as on a
# Mac with Docker Desktop; anything else is a breach, told attempt by attempt. `probes` alone unless given.
#
# The reports come out as target/smolvm-rig/reports/VERSION/*. A launch that fails is tried again, up to three times: emulated
# machines do not always come up, and the virtual one itself may go away, upon which what it has not finished begins anew, unless
# something in it was red already. A verdict is never asked for twice.
#
# Exit: 0 if every report is as it should be.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."

# How it ends inside where the virtual machine is gone (EX_TEMPFAIL), before anything was red.
LOST=75

# Prints the path of a test binary; without jq, which a machine may lack.
test_binary() {
  cargo test --no-run --test "$1" --message-format=json |
    sed -n '/"reason":"compiler-artifact"/ s/.*"name":"'"$1"'".*"executable":"\([^"]*\)".*/\1/p'
}

if [[ ${1:-} != --inside ]]; then
  version=${1:-1.32.2}
  wanted=("${@:2}")
  ((${#wanted[@]} > 0)) || wanted=(probes)
  export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
  folder=$CARGO_TARGET_DIR/smolvm-rig
  "$here/build.sh" "$folder"
  ci/smolvm.sh "$version"
  [[ -x $CARGO_TARGET_DIR/smolvm/$version/smolvm ]] || { echo "there is no smolvm $version to run" >&2; exit 1; }
  cargo build
  export RIG_PROBES RIG_BREACHES RIG_TESTS
  RIG_PROBES=$(test_binary probes)
  RIG_BREACHES=$(test_binary breaches)
  RIG_TESTS=$(test_binary smolvm)
  boots=3
  while ((boots-- > 0)); do
    code=0
    "$here/boot.sh" "$folder" "$here/run.sh" --inside "$folder" "$version" "${wanted[@]}" || code=$?
    ((code == LOST)) || exit "$code"
    echo 'the virtual machine went away'
    mapfile -t wanted <"$folder/left"
  done
  exit 1
fi

folder=$2 version=$3
wanted=("${@:4}")
target=$CARGO_TARGET_DIR
# shellcheck disable=SC2206 # words
ssh=($RIG_SSH)
rig() { "${ssh[@]}" "$@"; }

# Files are where they are here: tests know where they were built.
for program in "$target/debug/claude-bottle" "$RIG_PROBES" "$RIG_BREACHES" "$RIG_TESTS"; do
  gzip -1 -c "$program" | rig "mkdir -p ${program%/*} && gunzip -c >$program && chmod 0755 $program"
done
rig "mkdir -p $target/smolvm /root/.cache /root/reports" </dev/null
tar -C "$target/smolvm" -cf - "$version" | rig "tar -C $target/smolvm -xf -"
# Packs take longest, and are the same the next time.
cache=$folder/cache/$version
mkdir -p "$cache"
tar -C "$cache" -cf - . | rig 'tar -C /root/.cache -xf -'

# An engine that takes too long to start its containerd gives up.
rig 'for _ in 1 2 3; do
  rm -f /var/run/docker.pid
  (dockerd >/var/log/dockerd.log 2>&1 &)
  for _ in $(seq 120); do
    grep -q "API listen" /var/log/dockerd.log && exit 0
    grep -q "^failed to start" /var/log/dockerd.log && break
    sleep 1
  done
done
cat /var/log/dockerd.log
exit 1' </dev/null

reports=$folder/reports/$version
mkdir -p "$reports"
status=0
in_rig() { # NAME COMMAND
  local name=$1 code=0
  for _ in 1 2 3; do
    code=0
    rig "cd /root && export CARGO_TARGET_DIR=$target CLAUDE_BOTTLE_JUNIT=/root/reports/junit.xml CLAUDE_BOTTLE_SMOLVM_ON_LINUX=1 \
      CLAUDE_BOTTLE_SMOLVM_SLOWNESS=8 SMOLVM_AGENT_READY_TIMEOUT_SECS=170 PATH=$target/smolvm/$version:\$PATH; timeout 3000 $2 2>&1" \
      </dev/null >"$reports/$name.txt" || code=$?
    grep -qE 'no bottle could be launched|cannot launch a bottle on smolmachines|agent did not become ready' "$reports/$name.txt" || break
    echo "$name: no bottle could be launched"
    cp "$reports/$name.txt" "$reports/$name.not-launched.txt"
  done
  cat "$reports/$name.txt"
  if ((code == 255)) && ! rig true </dev/null; then
    cp "$reports/$name.txt" "$reports/$name.lost.txt"
    ! grep -qE 'FAILED|LEAKED|UNREACHED' "$reports/$name.txt" || status=1
    exit "$((status == 0 ? LOST : 1))"
  fi
  printf '%s: exit code %s after %s s\n' "$name" "$code" "$SECONDS"
  ((code == 0)) || status=1
}

for at in "${!wanted[@]}"; do
  printf '%s\n' "${wanted[@]:at}" >"$folder/left"
  what=${wanted[at]}
  case $what in
    probes)
      in_rig probes "$RIG_PROBES smolmachines::"
      rig 'tar -C /root/reports -cf - .' </dev/null | tar -C "$reports" -xf -
      ;;
    breaches) in_rig breaches "$RIG_BREACHES smolmachines::" ;;
    killed) in_rig killed "$RIG_TESTS killed::of_the_real_smolvm_either" ;;
    started) in_rig started "$RIG_TESTS started::on_the_real_smolvm_a_command_is_started" ;;
    system) in_rig system "env CLAUDE_BOTTLE_DOCKER_ENGINE=system $RIG_BREACHES smolmachines::" ;;
    loopback)
      # The engine's proxy, which is root's, still comes to them: so what is published is reached, and nothing else.
      rig 'useradd --create-home rig && cp -r /root/.cache /home/rig && chown -R rig: /home/rig &&
        iptables -I OUTPUT ! -o lo -m owner --uid-owner rig -d 10.210.0.0/16 -j DROP' </dev/null
      in_rig loopback "setpriv --reuid rig --regid rig --groups \$(stat -c %g /var/run/docker.sock) env HOME=/home/rig \
        CLAUDE_BOTTLE_JUNIT=/home/rig/junit.xml CLAUDE_BOTTLE_SMOLVM_LOOPBACK=1 $RIG_BREACHES smolmachines::"
      ;;
    *) in_rig "$what" "$target/debug/claude-bottle probe --backend smolmachines -v --breach $what" ;;
  esac
  rig 'cd /root/.cache && tar -cf - claude-bottle 2>/dev/null || tar -cf - -T /dev/null' </dev/null | tar -C "$cache" -xf -
done
exit "$status"
