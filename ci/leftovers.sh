#!/usr/bin/env bash
# What did a run leave behind on this machine?
#
#   ci/leftovers.sh snapshot FILE
#   ci/leftovers.sh compare FILE [--within SECONDS] [--ignore REGEX]… [--only REGEX]…
#
# `snapshot` records the processes, mounts, net namespaces, things of Docker (if it answers), and the files in
# ${TMPDIR:-/tmp} and /dev/shm. `compare` prints whatever is there now and was not then, one a line. It looks again
# until nothing is left, for at most SECONDS (0: once). Lines that match an `--ignore` are left out, and so are those
# that match no `--only`, if any is given; a REGEX is one of bash (POSIX extended), against the line as printed.
#
# Exit: 0 nothing is left, 1 something is, 2 it cannot be told.
#
# Never reported: this script, its ancestors and its children, kernel threads, and zombies (they have ended; whether
# they are reaped is up to their parent). Needs bash, coreutils, findutils, awk and /proc; no root, though without it
# other users' namespaces are not seen.
set -euo pipefail
export LC_ALL=C

die() {
  printf 'leftovers: %s\n' "$1" >&2
  exit 2
}

usage() {
  die 'usage: leftovers.sh snapshot FILE | compare FILE [--within SECONDS] [--ignore REGEX]… [--only REGEX]…'
}

# Each of the functions below prints lines of: kind, identity, description, with tabs between them.

# Leaves in `REPLY` a process's command line: one printable line of at most 200 characters, empty once it is gone.
command_line() {
  local -a args=()
  { mapfile -d '' -t args <"/proc/$1/cmdline" || true; } 2>/dev/null
  REPLY=${args[*]}
  REPLY=${REPLY//[[:cntrl:]]/?}
  REPLY=${REPLY:0:200}
}

processes() {
  local -A parent=() text=() ancestor=()
  local -a fields
  local folder pid stat above
  for folder in /proc/[0-9]*; do
    pid=${folder#/proc/} stat=''
    { IFS= read -r -d '' stat <"$folder/stat" || true; } 2>/dev/null
    [[ -n $stat ]] || continue
    # See proc_pid_stat(5). A command's name may hold anything, so that fields count from its last parenthesis:
    # 3 is the state, 4 the parent, 9 the flags (PF_KTHREAD), 22 the start time.
    read -r -a fields <<<"${stat##*) }"
    parent[$pid]=${fields[1]}
    if [[ ${fields[0]} == Z ]] || ((fields[6] & 0x00200000)); then
      continue
    fi
    command_line "$pid"
    printf -v "text[$pid]" '%s:%s\t%s: %s' "$pid" "${fields[19]}" "$pid" "$REPLY"
  done
  above=$$
  while [[ -n $above && $above != 0 ]]; do
    ancestor[$above]=1
    above=${parent[$above]:-}
  done
  for pid in "${!text[@]}"; do
    [[ -z ${ancestor[$pid]:-} ]] || continue
    above=$pid
    while [[ -n $above && $above != 0 && $above != "$$" ]]; do
      above=${parent[$above]:-}
    done
    [[ $above == "$$" ]] || printf 'process\t%s\n' "${text[$pid]}"
  done
}

mounts() {
  # See proc_pid_mountinfo(5): the type follows the field `-`.
  awk '{
    for (i = 7; $i != "-"; i++);
    printf "mount\t%s %s\t%s (%s, its folder %s)\n", $1, $5, $5, $(i + 1), $4
  }' /proc/self/mountinfo
}

net_namespaces() {
  local -A seen=()
  local line pid inode
  while read -r line; do
    [[ $line =~ /proc/([0-9]+)/ns/net.*net:\[([0-9]+)\] ]] || continue
    pid=${BASH_REMATCH[1]} inode=${BASH_REMATCH[2]}
    [[ -z ${seen[$inode]:-} ]] || continue
    seen[$inode]=1
    command_line "$pid"
    printf 'net namespace\t%s\t%s, of process %s: %s\n' "$inode" "$inode" "$pid" "$REPLY"
  done < <(stat -c %N /proc/[0-9]*/ns/net 2>/dev/null || true)
}

# Prints, if Docker answers, a line that says so and then what it has.
docker_things() {
  if ! command -v docker >/dev/null || ! timeout 10 docker version >/dev/null 2>&1; then
    return 0
  fi
  printf 'docker\tanswers\t\n'
  docker_list container ls --all --no-trunc --format $'{{.ID}}\t{{.Names}} ({{.Image}}, {{.Status}})'
  docker_list network ls --no-trunc --format $'{{.ID}}\t{{.Name}}'
  docker_list volume ls --format $'{{.Name}}\t{{.Name}}'
  docker_list image ls --all --no-trunc --format $'{{.ID}}\t{{.Repository}}:{{.Tag}} {{.ID}}'
}

docker_list() {
  local lines line
  lines=$(timeout 30 docker "$@") || die "docker $1 ls failed"
  while IFS= read -r line; do
    [[ -z $line ]] || printf 'docker %s\t%s\n' "$1" "$line"
  done <<<"$lines"
}

# Takes the folders to look into. A folder comes before what is in it.
files() {
  find "$@" -xdev -mindepth 1 -print0 2>/dev/null |
    tr '\t\n\0' '??\n' |
    awk '{ printf "file\t%s\t%s\n", $0, $0 }' || true
}

# Takes the folder for temporary files.
everything() {
  processes
  mounts
  net_namespaces
  docker_things
  files "$1" /dev/shm
}

# Prints what is there and was not, of a folder that is new only the folder. Takes what is there.
new_since() {
  awk -F '\t' '
    NR == FNR { seen[$1 FS $2]; next }
    ($1 FS $2) in seen { next }
    $1 == "docker" { next }
    $1 ~ /^docker / && !(("docker" FS "answers") in seen) { next }
    $1 == "file" {
      fresh[$2]
      above = $2
      sub("/[^/]*$", "", above)
      if (above in fresh) next
    }
    { print $1 " " $3 }
  ' "$file" <(printf '%s\n' "$1")
}

matches_any() {
  local line=$1 regex
  shift
  for regex; do
    [[ ! $line =~ $regex ]] || return 0
  done
  return 1
}

# Leaves in `left` what is to be reported. Takes the folder for temporary files.
look() {
  local now line
  now=$(everything "$1")
  if grep -q $'^docker\t' "$file" && ! grep -q $'^docker\t' <<<"$now"; then
    die 'docker answered when the snapshot was taken, and does not now'
  fi
  left=()
  while IFS= read -r line; do
    ((${#only[@]} == 0)) || matches_any "$line" "${only[@]}" || continue
    ((${#ignore[@]} == 0)) || ! matches_any "$line" "${ignore[@]}" || continue
    left+=("$line")
  done < <(new_since "$now")
}

# A regular expression that is broken, or that matches everything, would turn any comparison green.
checked() {
  local status=0
  grep -E -q -- "$1" <<<'' 2>/dev/null || status=$?
  ((status == 1)) || die "a regular expression that is broken or matches an empty line: $1"
}

snapshot() {
  (($# == 0)) || usage
  local temporary now
  temporary=$(realpath -e -- "${TMPDIR:-/tmp}") || die 'no folder for temporary files'
  now=$(everything "$temporary")
  {
    printf 'leftovers\t1\t%s\n' "$temporary"
    printf '%s\n' "$now"
  } >"$file"
}

compare() {
  local within=0
  local -a ignore=() only=() left=()
  while (($# > 0)); do
    (($# > 1)) || usage
    case $1 in
      --within) within=$2 ;;
      --ignore) checked "$2" && ignore+=("$2") ;;
      --only) checked "$2" && only+=("$2") ;;
      *) usage ;;
    esac
    shift 2
  done
  [[ $within =~ ^[0-9]+$ ]] || usage

  local magic version temporary
  IFS=$'\t' read -r magic version temporary <"$file" || die "$file is empty"
  [[ $magic == leftovers && $version == 1 ]] || die "$file is no snapshot"

  local end=$((SECONDS + within))
  look "$temporary"
  while ((${#left[@]} > 0 && SECONDS < end)); do
    sleep 0.2
    look "$temporary"
  done
  ((${#left[@]} > 0)) || return 0
  printf 'left behind: %s\n' "${left[@]}"
  return 1
}

(($# >= 2)) || usage
verb=$1
file=$2
shift 2
case $verb in
  snapshot)
    # First of all, so that the snapshot knows of itself.
    : >"$file" || die "cannot write $file"
    file=$(realpath -- "$file")
    snapshot "$@"
    ;;
  compare)
    [[ -r $file ]] || die "cannot read $file"
    file=$(realpath -- "$file")
    compare "$@"
    ;;
  *) usage ;;
esac
