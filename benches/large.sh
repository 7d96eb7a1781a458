#!/usr/bin/env bash
# One large stream through standard input: benches/large.sh FOLDER [GIGABYTES…]
#
# For each of GIGABYTES (1 10): a full of a stream of lines of 111 bytes, then incrementals where one line of a thousand has other
# values. For each: wall and CPU seconds, peak memory, MB stored, MB that the state folder takes on its disk, and how many of
# these are the base cache. BASE_CACHE_MAX ("512 MiB", say) goes into the configuration, ROUNDS (2) is the number of
# incrementals, of which the last changes nothing. Needs GNU time and a C compiler. VARU names the program (default:
# target/release/varu beside this script).
set -euo pipefail
folder=${1:?usage: benches/large.sh FOLDER [GIGABYTES…]}; shift
here=$(cd "$(dirname "$0")/.." && pwd)
varu=${VARU:-$here/target/release/varu}
rounds=${ROUNDS:-2}
mkdir -p "$folder"; folder=$(cd "$folder" && pwd)
cat >"$folder/lines.c" <<'C'
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
static uint64_t mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15ULL;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}
/* lines BYTES ROUND: in each round but the first, one line of a thousand differs from what it was in the first. */
int main(int count, char **words) {
    static char buffer[1 << 20], line[256];
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    uint64_t left = count > 1 ? strtoull(words[1], 0, 0) : 0, round = count > 2 ? strtoull(words[2], 0, 0) : 0;
    for (uint64_t number = 0; left > 0; number++) {
        uint64_t version = round && mix(number ^ round << 40) % 1000 == 0 ? round : 0, value = mix(number * 31 + version * 1000003);
        uint64_t length = snprintf(line, sizeof line,
            "INSERT INTO t VALUES (%09llu,'customer %06llu','street %05llu','card',%07llu,'2026-11-20 01:05:10','note %04llu');\n",
            (unsigned long long)number, (unsigned long long)(value % 999983), (unsigned long long)((value >> 20) % 99991),
            (unsigned long long)((value >> 30) % 9999991), (unsigned long long)((value >> 50) % 9973));
        if (length > left) length = left;
        if (fwrite(line, 1, length, stdout) != length) return 1;
        left -= length;
    }
    return fflush(stdout) != 0;
}
C
cc -O2 -o "$folder/lines" "$folder/lines.c"
on_disk() { du -s -B1 "$@" 2>/dev/null | awk '{ bytes += $1 } END { print bytes + 0 }'; }
for size in "${@:-1}"; do
    rm -rf "$folder/vault" "$folder/state" "$folder/writer.key" "$folder/identity.txt"
    : >"$folder/varu.toml"
    [ -z "${BASE_CACHE_MAX:-}" ] || printf '[repository]\nbase_cache_max = "%s"\n' "$BASE_CACHE_MAX" >"$folder/varu.toml"
    with=("$varu" -q --config "$folder/varu.toml" --repo "$folder/vault" --state "$folder/state" --writer-key "$folder/writer.key" --identity "$folder/identity.txt")
    "${with[@]}" init >/dev/null 2>&1
    before=0
    for round in $(seq 0 "$rounds"); do
        kind=--incremental what="incremental $round" changed=$round
        [ "$round" != 0 ] || { kind=--full what=full; }
        [ "$round" != "$rounds" ] || { what="nothing changed" changed=$((rounds - 1)); }
        status=0
        "$folder/lines" $((size * 1000000000)) "$changed" |
            /usr/bin/time -f "%M %e %U %S" -o "$folder/time" "${with[@]}" backup "$kind" --stdin dump >"$folder/log" 2>&1 || status=$?
        # A warning is status 3.
        [ "$status" = 0 ] || [ "$status" = 3 ] || { cat "$folder/log" >&2; exit 1; }
        after=$(on_disk "$folder/vault")
        tail -1 "$folder/time" | awk -v n="$size GB, $what" -v b="$before" -v a="$after" -v s="$(on_disk "$folder/state")" \
            -v c="$(on_disk "$folder"/state/*/base-*)" -v e="$status" '{
            printf "%-24s wall %6.1f  cpu %6.1f s  peak %5.1f MB  stored %8.2f  state %7.1f  cache %7.1f MB  status %d\n",
                n, $2, $3 + $4, $1 * 1024 / 1e6, (a - b) / 1e6, s / 1e6, c / 1e6, e }'
        before=$after
    done
    grep -h warning "$folder/log" || true
done
rm -rf "$folder/vault" "$folder/state"
