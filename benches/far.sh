#!/bin/bash
# A fresh machine and a far host: a repository of 10 snapshots and of 501 behind a loopback sshd and a proxy of 100 ms round
# trip and 1.25 MB/s each way. Prints the seconds, the round trips on the longest path, and the kB in both directions of the
# first listing, a second one, a restore of one file of 260 kB on a fresh machine, `verify`, `index rebuild`, and a backup with
# nothing new. Give other numbers of snapshots as arguments, and VARU=/path/to/varu to measure another program.
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo bench --quiet --bench far -- "$@"
