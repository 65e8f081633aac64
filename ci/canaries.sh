#!/usr/bin/env bash
# What a CI job runs every night: has anything changed that others make and this project relies on?
#
#   CLAUDE_BOTTLE_CANARY_JUNIT=FILE   where the JUnit report goes; target/canaries/junit.xml unless set
#   GITHUB_STEP_SUMMARY=FILE          where a summary in Markdown is appended, as GitHub's and Gitea's runners set it
#
# Exit: that of `cargo test`.
set -euo pipefail
export CLAUDE_BOTTLE_RUN_CANARIES=1
exec "$(dirname "${BASH_SOURCE[0]}")/reported.sh" canaries CLAUDE_BOTTLE_CANARY_JUNIT
