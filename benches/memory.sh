#!/usr/bin/env bash
# Peak memory of backup, restore and verify of a stream of 1 GB and of 4 GB: benches/memory.sh FOLDER
#
# Half of each stream is text, half has no pattern; the second backup changes a few bytes in each MB. Needs GNU time and
# openssl. VARU names the program (default: target/release/varu beside this script).
set -euo pipefail
folder=${1:?usage: benches/memory.sh FOLDER}
here=$(cd "$(dirname "$0")/.." && pwd)
varu=${VARU:-$here/target/release/varu}
mkdir -p "$folder"; folder=$(cd "$folder" && pwd)
stream() ( # GIGABYTES SEED: lines of text and of noise, the same for the same arguments
    set +o pipefail # head ends the pipe
    openssl enc -aes-128-ctr -nosalt -pass "pass:varu" -pbkdf2 -in /dev/zero 2>/dev/null | head -c $(($1 * 500000000)) |
        base64 -w 700 | awk -v seed="$2" '{ if (NR % 1400 == seed) print "row changed", seed; print substr($0, 1, 350); print "(" NR ",\x27customer " NR % 7919 "\x27,\x27a street with a name " NR % 977 "\x27," NR * 7 ")" ; for (i = 0; i < 4; i++) print "INSERT INTO orders VALUES (" NR * 4 + i ", 17, \x27paid\x27, \x272026-11-20 01:05:10\x27)" }' |
        head -c $(($1 * 1000000000))
    true
)
peak() { # WHAT COMMAND…
    local what=$1; shift
    /usr/bin/time -f "%M %e %U" -o "$folder/time" "$@" >/dev/null
    awk -v w="$what" '{printf "%-28s peak %6.1f MB  wall %6.1f s  cpu %6.1f s\n", w, $1 * 1024 / 1e6, $2, $3}' "$folder/time"
}
for size in 1 4; do
    rm -rf "$folder/vault" "$folder/state" "$folder/writer.key" "$folder/identity.txt"
    with=("$varu" -q --repo "$folder/vault" --state "$folder/state" --writer-key "$folder/writer.key" --identity "$folder/identity.txt")
    "${with[@]}" init >/dev/null 2>&1
    stream $size 1 | peak "$size GB: full" "${with[@]}" backup --stdin dump
    stream $size 2 | peak "$size GB: incremental" "${with[@]}" backup --stdin dump
    peak "$size GB: restore" "${with[@]}" restore dump --stdout
    peak "$size GB: verify structure" "${with[@]}" verify
    peak "$size GB: verify data" "${with[@]}" verify --level data
done
rm -rf "$folder/vault" "$folder/state"
