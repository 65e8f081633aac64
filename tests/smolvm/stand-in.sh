#!/bin/sh
# Stands in for smolvm where no machine can boot: it answers as the real one does, and keeps in $SMOLVM_STAND_IN what it was told. A
# machine is a folder, and a command in it a process of this host's with that folder as its root: nothing is isolated, and nothing
# about isolation is shown.
set -eu
cd "$SMOLVM_STAND_IN"
printf '%s\n' "$*" >>asked

fail() { echo "Error: $1" >&2; exit 1; }

[ "$1" != --version ] || { echo "smolvm $SMOLVM_STAND_IN_VERSION"; exit; }
verb="$1 $2"
shift 2
name='' labels='' allowed='' mode=644 from='' output='' variables='' volumes=''
while [ $# -gt 0 ]; do
  case $1 in
    --name) name=$2; shift 2 ;;
    --label) labels="$labels,\"${2%%=*}\":\"${2#*=}\""; shift 2 ;;
    --allow-cidr) allowed="$allowed,\"$2\""; shift 2 ;;
    --mode) mode=$2; shift 2 ;;
    --from | --image) from=$2; shift 2 ;;
    --output) output=$2; shift 2 ;;
    -e) variables="$variables$2
"; shift 2 ;;
    --volume) volumes="$volumes$2
"; shift 2 ;;
    --cpus | --mem) shift 2 ;;
    --json | --force | -i | --stream) shift ;;
    --) shift; break ;;
    *) break ;;
  esac
done

case $verb in
  'machine create')
    # An image of one layer, as `docker save` writes it.
    layer=$(tar -xOf "$from" manifest.json | sed 's/.*"Layers":\["\([^"]*\)".*/\1/')
    mkdir "$name" || fail "machine '$name' already exists"
    mkdir "$name/root"
    tar -xOf "$from" "$layer" | tar -xf - -C "$name/root"
    printf '"name":"%s","labels":{%s},"allowed_cidrs":[%s],"network":true' "$name" "${labels#,}" "${allowed#,}" >"$name/about"
    printf %s "$variables" >"$name/variables"
    printf %s "$volumes" >"$name/volumes"
    echo created >"$name/state"
    ;;
  'machine ls')
    all=''
    for machine in */; do
      [ -e "$machine/state" ] || continue
      all="$all,{$(cat "$machine/about"),\"state\":\"$(cat "$machine/state")\",\"created_at\":$(stat -c %Y "$machine/about")}"
    done
    echo "[${all#,}]"
    ;;
  'machine start')
    # As where a machine is too slow: smolvm gives it up, and its monitor, which goes on, holds the disks.
    [ ! -e "$name/held" ] || fail 'start vm: krun_start_enter returned: -22'
    if [ -e ../does-not-come-up ]; then
      rm ../does-not-come-up
      : >"$name/held"
      fail 'agent did not become ready within 30 seconds'
    fi
    echo running >"$name/state"
    ;;
  'machine stop')
    rm -f "$name/held"
    echo stopped >"$name/state"
    ;;
  'machine delete') rm -r "$name" || fail "vm not found: $name" ;;
  'machine cp')
    machine=${2%%:*}
    install -D -m "$mode" "$1" "$machine/root${2#*:}"
    ;;
  'machine exec')
    # shellcheck disable=SC2016 # for the shell in there
    exec unshare --mount --propagation private /bin/sh -euc '
      machine=$1 root=$1/root
      shift
      mkdir -p "$root/proc" "$root/dev"
      mount --rbind /proc "$root/proc"
      mount --rbind /dev "$root/dev"
      while IFS=: read -r source target how; do
        mkdir -p "$root$target"
        mount --bind "$source" "$root$target"
        [ "$how" != ro ] || mount -o remount,bind,ro "$root$target"
      done <"$machine/volumes"
      set -- chroot "$root" "$@"
      while read -r variable; do
        set -- "$variable" "$@"
      done <"$machine/variables"
      exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
    ' stand-in "$name" "$@"
    ;;
  'pack create')
    cp "$from" "$output.smolmachine"
    : >"$output"
    ;;
  *) fail "the stand-in does not know: $verb" ;;
esac
