#!/usr/bin/env bash
# Prints a summary in Markdown of what a test runner wrote.
#
#   ci/summary.sh TITLE STATUS LOG
set -euo pipefail

title=$1 status=$2 log=$3
((status == 0)) && word='passed' || word="failed (exit code $status)"
printf '## %s: %s\n\n' "$title" "$word"
# Four spaces make a block of code, in which nothing is markup and which nothing in it can end.
{ grep -E '^(test |test result: )' -- "$log" || echo 'nothing ran'; } |
  tr -d '\000-\010\013-\037\177' | head -n 500 | sed 's/^/    /'
