#!/usr/bin/env bash
# What a CI job runs on every push: every probe that can run here, as tests. What cannot is skipped, with its reason.
#
#   CLAUDE_BOTTLE_JUNIT=FILE   where the JUnit report goes; target/probes/junit.xml unless set
#   GITHUB_STEP_SUMMARY=FILE   where a summary in Markdown is appended, as GitHub's and Gitea's runners set it
#
# Exit: that of `cargo test`.
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/reported.sh" probes CLAUDE_BOTTLE_JUNIT
