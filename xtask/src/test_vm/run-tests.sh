#!/bin/sh
# Runs each test of the executables in a directory by itself, with a deadline, some side by side.
#   run-tests.sh DIRECTORY SECONDS SIDE_BY_SIDE PATTERN EXCEPT
# One line for each: `RESULT exit-code seconds executable test`; 124 and 137 are missed deadlines.
# PATTERN (grep -E) selects lines `executable test`; those that match EXCEPT are left out.
set -u
directory=$1 limit=$2 jobs=$3 pattern=$4 except=$5
logs=$(mktemp -d /var/tmp/tests-XXXXXX)

if [ "${6:-}" != one ]; then
  cd "$directory" || exit 1
  for executable in *.test; do
    # A list that cannot be had is a failure of its own.
    ./"$executable" --list > "$logs/list" 2>&1 < /dev/null || echo "RESULT 1 0 ${executable%.test} --list"
    sed -n "s/^\(.*\): test\$/${executable%.test} \1/p" "$logs/list"
    ./"$executable" --list --ignored 2> /dev/null < /dev/null | sed -n "s/^\(.*\): test\$/IGNORED ${executable%.test} \1/p"
  done > "$logs/all"
  grep '^RESULT\|^IGNORED' "$logs/all"
  grep -v '^RESULT\|^IGNORED' "$logs/all" | grep -E -- "$pattern" | grep -v -E -- "$except" > "$logs/chosen"
  echo "CHOSEN $(wc -l < "$logs/chosen")"
  xargs -r -P "$jobs" -L 1 "$0" "$directory" "$limit" "$jobs" "$pattern" "$except" one < "$logs/chosen"
  rm -rf "$logs"
  exit 0
fi

executable=$7 test=$8
start=$(date +%s)
cd "$directory" || exit 1
timeout --kill-after=10 "$limit" ./"$executable.test" "$test" --exact --nocapture \
  > "$logs/output" 2>&1 < /dev/null
code=$?
{
  [ $code = 0 ] || tail -n 60 "$logs/output" | cut -c 1-400 | sed "s/^/    /"
  sed -n "s/^skipped: */SKIPPED $executable $test /p" "$logs/output"
  echo "RESULT $code $(($(date +%s) - start)) $executable $test"
} > "$logs/told"
# In one piece, so that tests side by side do not mix.
cat "$logs/told"
rm -rf "$logs"
