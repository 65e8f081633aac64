#!/usr/bin/env bash
# What a CI job runs on every push: every probe that can run here, as tests. What cannot is skipped, with its reason.
#
#   CLAUDE_BOTTLE_JUNIT=FILE   where the JUnit report goes; target/probes/junit.xml unless set
#   GITHUB_STEP_SUMMARY=FILE   where a summary in Markdown is appended, as GitHub's and Gitea's runners set it
#
# Exit: that of `cargo test`. The summary is written whatever it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

export CLAUDE_BOTTLE_JUNIT=${CLAUDE_BOTTLE_JUNIT:-${CARGO_TARGET_DIR:-$PWD/target}/probes/junit.xml}
rm -f -- "$CLAUDE_BOTTLE_JUNIT"
log=$(mktemp)
trap 'rm -f -- "$log"' EXIT

status=0
cargo test --test probes 2>&1 | tee "$log" || status=$?

if [[ -n ${GITHUB_STEP_SUMMARY:-} ]]; then
  ci/summary.sh 'Probes' "$status" "$log" >>"$GITHUB_STEP_SUMMARY"
fi
if [[ ! -s $CLAUDE_BOTTLE_JUNIT ]]; then
  echo "no JUnit report was written to $CLAUDE_BOTTLE_JUNIT" >&2
  ((status != 0)) || status=3
fi
exit "$status"
