#!/usr/bin/env bash
# varu beside its peers on the same dumps: benches/compare.sh FOLDER FILE…
#
# Each FILE is one day of FOLDER/data/dump.sql. Every tool that is installed backs each day up in turn (varu with a full each
# seventh day), then restores the last one. For each tool and day: wall seconds, CPU seconds, MB added to its repository; at
# the end what `zstd -3 --long=30 --patch-from=YESTERDAY` makes of the same files. Repositories go to FOLDER and are removed
# first. VARU names the program (default: target/release/varu beside this script), TOOLS the tools.
set -euo pipefail
folder=${1:?usage: benches/compare.sh FOLDER FILE…}; shift
here=$(cd "$(dirname "$0")/.." && pwd)
varu=${VARU:-$here/target/release/varu}
mkdir -p "$folder/data"; folder=$(cd "$folder" && pwd)
all=(varu rustic restic borg borg-tuned duplicity)
read -ra tools <<<"${TOOLS:-${all[*]}}"
data=$folder/data/dump.sql
export RESTIC_PASSWORD=x RESTIC_CACHE_DIR=$folder/cache-restic RUSTIC_PASSWORD=x RUSTIC_NO_CACHE=true
export BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes BORG_PASSPHRASE=x BORG_BASE_DIR=$folder/cache-borg PASSPHRASE=x
export HOME=$folder/home; mkdir -p "$HOME"

installed() { case $1 in varu) [ -x "$varu" ] ;; borg-tuned) command -v borg >/dev/null ;; *) command -v "$1" >/dev/null ;; esac; }
varu_() { "$varu" -q --repo "$folder/repo-varu" --state "$folder/state" --writer-key "$folder/writer.key" --identity "$folder/identity.txt" "$@"; }
start() {
    case $1 in
    varu) varu_ init ;;
    rustic) rustic -r "$folder/repo-rustic" init ;;
    restic) restic -r "$folder/repo-restic" init ;;
    borg | borg-tuned) borg init -e repokey-blake2 "$folder/repo-$1" ;;
    esac
}
backup() {
    case $1 in
    varu) varu_ backup "$([ $((($2 - 1) % 7)) = 0 ] && echo --full || echo --incremental)" "$data" ;;
    rustic) rustic -r "$folder/repo-rustic" backup "$data" ;;
    restic) restic -r "$folder/repo-restic" backup --compression auto "$data" ;;
    borg) borg create -C zstd,3 "$folder/repo-borg::$2" "$data" ;;
    borg-tuned) borg create -C zstd,3 --chunker-params buzhash,10,16,13,4095 "$folder/repo-borg-tuned::$2" "$data" ;;
    duplicity) duplicity "$([ $((($2 - 1) % 7)) = 0 ] && echo full || echo incremental)" --archive-dir "$folder/cache-duplicity" "$folder/data" "file://$folder/repo-duplicity" ;;
    esac
}
restore() {
    rm -rf "$folder/out"; mkdir "$folder/out"; cd "$folder/out"
    case $1 in
    varu) varu_ restore files --to "$folder/out" ;;
    rustic) rustic -r "$folder/repo-rustic" restore latest "$folder/out" ;;
    restic) restic -r "$folder/repo-restic" restore latest --target "$folder/out" ;;
    borg | borg-tuned) borg extract "$folder/repo-$1::$days" ;;
    duplicity) duplicity restore --force --archive-dir "$folder/cache-duplicity" "file://$folder/repo-duplicity" "$folder/out" ;;
    esac
}
size() { du -sb "$folder/repo-$1" 2>/dev/null | cut -f1 || true; }
TIMEFORMAT='%R %U %S'
timed() { # TOOL WHAT COMMAND…: a line with wall and CPU seconds
    local tool=$1 what=$2; shift 2
    local before after times
    before=$(size "$tool"); sync
    times=$( { time "$@" >"$folder/log-$tool" 2>&1 || { tail -3 "$folder/log-$tool" >&2; false; }; } 2>&1 | tail -1)
    after=$(size "$tool")
    awk -v t="$tool" -v w="$what" -v b="${before:-0}" -v a="${after:-0}" '{printf "%-11s %-8s wall %6.2f  cpu %6.2f  added %9.3f MB\n", t, w, $1, $2 + $3, (a - b) / 1e6}' <<<"$times"
}

rm -rf "$folder"/{repo-*,cache-*,state,writer.key,identity.txt,out,data}; mkdir "$folder/data"
present=(); for tool in "${tools[@]}"; do if installed "$tool"; then present+=("$tool"); else echo "$tool is not installed"; fi; done
for tool in "${present[@]}"; do start "$tool" >/dev/null 2>&1; done
days=0 before=
for file in "$@"; do
    days=$((days + 1))
    cp "$file" "$data"; cat "$data" >/dev/null
    for tool in "${present[@]}"; do timed "$tool" "day $days" backup "$tool" "$days"; done
    patched=$(zstd -3 --long=30 -q -c ${before:+"--patch-from=$before"} "$file" | wc -c)
    awk -v d="day $days" -v b="$patched" 'BEGIN {printf "%-11s %-8s %33.3f MB\n", "patch-from", d, b / 1e6}'
    before=$folder/before.sql
    cp "$file" "$before"
done
for tool in "${present[@]}"; do
    timed "$tool" restore restore "$tool"
    find "$folder/out" -name dump.sql -exec cmp "$data" {} \; | head -1
done
for tool in "${present[@]}"; do awk -v t="$tool" -v s="$(size "$tool")" 'BEGIN {printf "%-11s holds %.1f MB\n", t, s / 1e6}'; done
