#!/usr/bin/env bash
# Two versions of varu on the same dumps, in turn: benches/versions.sh FOLDER PROGRAM_A PROGRAM_B FILE…
#
# Each FILE is one day. Both programs back each day up into a repository of their own (a full each seventh day), the one first
# on odd days and the other on even ones; then each restores the last day three times, which is compared with it. For each: wall
# seconds, CPU seconds, peak memory in kB, MB of the repository.
set -euo pipefail
folder=${1:?usage: benches/versions.sh FOLDER PROGRAM_A PROGRAM_B FILE…} a=$2 b=$3; shift 3
mkdir -p "$folder/data" "$folder/home"; folder=$(cd "$folder" && pwd)
export HOME=$folder/home
data=$folder/data/dump.sql
rm -rf "$folder"/[ab]-*

varu() {
    local which=$1; shift
    local program=$a; [ "$which" = a ] || program=$b
    "$program" -q --repo "$folder/$which-repo" --state "$folder/$which-state" --writer-key "$folder/$which-writer.key" \
        --identity "$folder/$which-identity.txt" "$@"
}
timed() {
    local which=$1; shift
    export -f varu; export a b folder
    # What a shell adds is the same for both.
    /usr/bin/time -f '%e s  %U+%S CPU s  %M kB' -o "$folder/time" bash -c 'varu "$@"' bash "$which" "$@" >/dev/null
    cat "$folder/time"
}
varu a init >/dev/null; varu b init >/dev/null
day=0
for file in "$@"; do
    day=$((day + 1)); cp "$file" "$data"
    kind=--incremental; [ $(((day - 1) % 7)) = 0 ] && kind=--full
    order="a b"; [ $((day % 2)) = 0 ] && order="b a"
    for which in $order; do
        echo "day $day, $which ${kind#--}: $(timed $which backup $kind "$data"), $(du -sm "$folder/$which-repo" | cut -f1) MB"
    done
done
for _ in 1 2 3; do
    for which in a b; do
        rm -rf "$folder/out"
        echo "restore, $which: $(timed $which restore files --to "$folder/out")"
        cmp "$folder/out$data" "$data"
    done
done
