#!/usr/bin/env bash
# Runs one of this project's own runners, and sees to it that there is a report of this very run.
#
#   ci/reported.sh NAME VARIABLE
#
# NAME is that of the test program, VARIABLE names its JUnit file; target/NAME/junit.xml unless it is set. The runner itself
# appends a summary to GITHUB_STEP_SUMMARY; where it wrote no report, that is what is appended.
#
# Exit: that of `cargo test`; 3 where it passed and left no report.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

name=$1 variable=$2
junit=${!variable:-${CARGO_TARGET_DIR:-$PWD/target}/$name/junit.xml}
export "$variable=$junit"
rm -f -- "$junit"

status=0
cargo test --test "$name" || status=$?

if [[ ! -s $junit ]]; then
  ((status != 0)) || status=3
  echo "no JUnit report was written to $junit" >&2
  if [[ -n ${GITHUB_STEP_SUMMARY:-} ]]; then
    printf '## claude-bottle: %s\n\nNothing was reported (exit code %s).\n' "$name" "$status" >>"$GITHUB_STEP_SUMMARY"
  fi
fi
exit "$status"
