#!/bin/bash
# Uploads and downloads 1 GiB over a loopback sshd, near and through a proxy with 20 and 100 ms round trip, with varu's SFTP
# remote and beside it with OpenSSH's sftp: MB/s. Then backs a dump
# up and restores it, with varu and with restic: seconds. Give round trips in ms to measure others: benches/sftp.sh 0 50
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo bench --quiet --bench sftp -- "$@"
