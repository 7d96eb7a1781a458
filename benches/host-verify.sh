#!/usr/bin/env bash
# `varu host verify` beside `b3sum` on the same files: benches/host-verify.sh FOLDER [MEGABYTES]
#
# Backs MEGABYTES (2000) without any pattern up, accepts them as a backup host does, and reads all of it five times with each, in
# turn: first cold (root only: the page cache is emptied before), then warm. Says MB/s, peak memory, and what share of b3sum's
# rate the median of host verify's is. Needs b3sum, openssl and GNU time. VARU names the program (default:
# target/release/varu beside this script).
set -euo pipefail
folder=${1:?usage: benches/host-verify.sh FOLDER [MEGABYTES]}
megabytes=${2:-2000}
here=$(cd "$(dirname "$0")/.." && pwd)
varu=${VARU:-$here/target/release/varu}
mkdir -p "$folder"; folder=$(cd "$folder" && pwd)
repo=$folder/srv/bench/repo
rm -rf "$folder/srv" "$folder/state" "$folder/ledgers" "$folder"/*.key "$folder"/*.txt
mkdir -p "$folder/srv/bench"
host() { local what=$1; shift; "$varu" -q host "$what" --root "$folder/srv" --ledgers "$folder/ledgers" "$@"; }
with=("$varu" -q --repo "$repo" --state "$folder/state" --writer-key "$folder/writer.key" --identity "$folder/identity.txt")
"${with[@]}" init >/dev/null 2>&1
{ openssl enc -aes-128-ctr -nosalt -pass pass:varu -pbkdf2 -in /dev/zero 2>/dev/null || true; } |
    head -c "$((megabytes * 1000000))" | "${with[@]}" backup --stdin data >/dev/null
# As `host prepare` makes it.
chmod 755 "$folder/srv" "$folder/srv/bench" "$repo"
chmod 1770 "$repo"/*/
host accept >/dev/null
bytes=$(cat "$repo"/{info,keys,packs,snapshots}/* | wc -c)
echo "$(find "$repo" -type f | wc -l) files, $((bytes / 1000000)) MB, $(nproc) cores"

read_all() { # TOOL: wall seconds and peak KiB
    case $1 in
    varu) /usr/bin/time -f "%e %M" -o "$folder/time" "$varu" -q host verify --root "$folder/srv" --ledgers "$folder/ledgers" >/dev/null ;;
    b3sum) /usr/bin/time -f "%e %M" -o "$folder/time" b3sum "$repo"/{info,keys,packs,snapshots}/* >/dev/null ;;
    esac
    cat "$folder/time"
}
for cache in cold warm; do
    if [ $cache = cold ] && [ ! -w /proc/sys/vm/drop_caches ]; then echo "cold: not root"; continue; fi
    for _ in 1 2 3 4 5; do
        for tool in b3sum varu; do
            if [ $cache = cold ]; then sync; echo 3 >/proc/sys/vm/drop_caches; else cat "$repo"/*/* >/dev/null; fi
            echo "$tool $(read_all $tool)"
        done
    done | sort -k1,1 -k2,2n | awk -v bytes="$bytes" -v cache=$cache '
        { seconds[$1, ++n[$1]] = $2; if ($3 > peak[$1]) peak[$1] = $3 }
        END {
            for (tool in n) {
                rate[tool] = bytes / 1e6 / seconds[tool, int((n[tool] + 1) / 2)]
                printf "%-5s %-6s median %7.0f MB/s, peak %6.1f MB\n", cache, tool, rate[tool], peak[tool] * 1024 / 1e6
            }
            printf "%-5s varu reads at %.0f %% of what b3sum reads\n", cache, rate["varu"] / rate["b3sum"] * 100
        }'
done
rm -rf "$folder/srv" "$folder/state" "$folder/ledgers" "$folder/time"
