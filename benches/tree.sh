#!/usr/bin/env bash
# A tree of many small files, beside restic: benches/tree.sh FOLDER [FILES…]
#
# For each of FILES (100000 1000000): a tree of 1,000 folders with files of 655 bytes on the mean, then, by each tool that is
# there, in turn: a full, a backup with nothing changed, one after 1,000 files changed, ls of all and of one folder, diff of the
# last two snapshots, a check of the structure, one file restored, all restored. For each: wall and CPU seconds, peak memory. Last
# the sizes of repository and state or cache. TOOLS ("varu restic") names the tools, LIMIT ("256M", say) runs each command
# in a memory cgroup of that size without swap (it counts the page cache, too, and needs systemd). Needs GNU time and python3.
# VARU names the program (default: target/release/varu beside this script).
set -euo pipefail
folder=${1:?usage: benches/tree.sh FOLDER [FILES…]}; shift
here=$(cd "$(dirname "$0")/.." && pwd)
varu=${VARU:-$here/target/release/varu}
tools=${TOOLS:-varu restic}
mkdir -p "$folder"; folder=$(cd "$folder" && pwd)
cat >"$folder/tree.py" <<'PY'
import os, random, sys
top, files, version = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
each = files // 1000
words = ["alpha", "beta", "gamma", "delta", "order", "customer", "street", "invoice", "paid", "open", "note", "total"]
def content(number):
    dice = random.Random(number * 7 + version)
    length = dice.randrange(100, 1210)
    text = []
    while sum(map(len, text)) + len(text) < length:
        text.append(dice.choice(words) if dice.random() < 0.5 else "%x" % dice.getrandbits(32))
    return " ".join(text)[:length].encode()
for number in range(files):
    if version and number % each != each // 2:
        continue
    below = "%s/d%03d" % (top, number // each)
    os.makedirs(below, exist_ok=True)
    with open("%s/f%06d" % (below, number % each), "wb") as file:
        file.write(content(number))
PY
measure() {
    local what=$1; shift
    local status=0 before=()
    [ -z "${LIMIT:-}" ] || before=(systemd-run --quiet --scope -p "MemoryMax=$LIMIT" -p MemorySwapMax=0)
    "${before[@]}" /usr/bin/time -f "%M %e %U %S" -o "$folder/time" "$@" >"$folder/log" 2>&1 || status=$?
    [ "$status" = 0 ] || { tail -5 "$folder/log" >&2; }
    tail -1 "$folder/time" | awk -v what="$what" -v status="$status" '{
        printf "%-28s wall %7.2f  cpu %7.2f s  peak %7.1f MB  status %d\n", what, $2, $3 + $4, $1 * 1024 / 1e6, status }'
}
size() { du -s -B1 "$@" 2>/dev/null | awk '{ bytes += $1 } END { printf "%.1f", bytes / 1e6 }'; }
for files in "${@:-100000 1000000}"; do
    for count in $files; do
        for tool in $tools; do
            command -v "$tool" >/dev/null || [ "$tool" = varu ] || { echo "$tool: not there"; continue; }
            rm -rf "$folder/tree" "$folder/$tool" "$folder/one" "$folder/all"
            mkdir -p "$folder/$tool"
            python3 "$folder/tree.py" "$folder/tree" "$count" 0
            export RESTIC_REPOSITORY=$folder/restic/vault RESTIC_PASSWORD=x RESTIC_CACHE_DIR=$folder/restic/state
            : >"$folder/varu.toml"
            with=("$varu" -q --config "$folder/varu.toml" --repo "$folder/varu/vault" --state "$folder/varu/state"
                --writer-key "$folder/writer.key" --identity "$folder/identity.txt")
            echo "$tool, $count files: $([ "$tool" = varu ] && "$varu" --version || "$tool" version)"
            one=$folder/tree/d500/f000007
            case $tool in
            varu)
                rm -f "$folder/writer.key" "$folder/identity.txt"
                "${with[@]}" init >/dev/null 2>&1
                backup=("${with[@]}" backup --set tree "$folder/tree") ;;
            restic) restic -q init; backup=(restic -q backup "$folder/tree") ;;
            esac
            measure full "${backup[@]}"
            measure "nothing changed" "${backup[@]}"
            python3 "$folder/tree.py" "$folder/tree" "$count" 1
            before=$(size "$folder/$tool/vault")
            measure "1,000 files changed" "${backup[@]}"
            echo "stored $(awk -v a="$(size "$folder/$tool/vault")" -v b="$before" 'BEGIN { printf "%.2f", a - b }') MB for that"
            case $tool in
            varu)
                measure "ls" "${with[@]}" ls latest
                measure "ls of a folder" "${with[@]}" ls latest "$folder/tree/d500"
                ids=$("${with[@]}" --json list | tail -1 | python3 -c '
import json, sys
print(*[row["id"] for row in sorted(json.load(sys.stdin)["snapshots"], key=lambda row: row["sequence"])])')
                set -- $ids
                measure "diff" "${with[@]}" diff "$2" "$3"
                measure "check of the structure" "${with[@]}" verify
                measure "one file" "${with[@]}" restore tree --path "$one" --to "$folder/one"
                measure "all" "${with[@]}" restore tree --to "$folder/all" ;;
            *)
                measure "ls" "$tool" ls latest
                measure "ls of a folder" "$tool" ls latest "$folder/tree/d500"
                measure "check of the structure" "$tool" check
                measure "one file" "$tool" restore latest --include "$one" --target "$folder/one"
                measure "all" "$tool" restore latest --target "$folder/all" ;;
            esac
            diff -r "$folder/tree" "$folder/all$folder/tree" >/dev/null && echo "all is as it was" || echo "all DIFFERS"
            echo "repository $(size "$folder/$tool/vault") MB, state $(size "$folder/$tool/state") MB"
            rm -rf "$folder/tree" "$folder/$tool" "$folder/one" "$folder/all"
        done
    done
done
