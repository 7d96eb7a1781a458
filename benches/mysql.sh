#!/bin/bash
# MySQL as a source, measured on a MariaDB server of its own: the incremental of a one-row change in a database of about
# 500 MB, beside mysqldump > /dev/null; and its restore, beside mariadb < dump.sql. Usage: [VARU=PROGRAM] benches/mysql.sh [MB]
set -euo pipefail
cd "$(dirname "$0")/.."
megabytes=${1:-500}
varu=${VARU:-}
if [[ -z $varu ]]; then
    cargo build --release --quiet
    varu=$PWD/target/release/varu
fi
top=$(mktemp -d "${TMPDIR:-/tmp}/varu-mysql.XXXXXX")
servers=()
finish() {
    for pid in "${servers[@]}"; do kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; done
    rm -rf "$top"
}
trap finish EXIT

server() { # NAME: starts a server with that socket
    mkdir "$top/$1.scratch" # a server that starts removes every temporary table in its folder
    mariadb-install-db --no-defaults --tmpdir="$top/$1.scratch" --auth-root-authentication-method=normal --skip-test-db --user="$(id -un)" \
        --datadir="$top/$1.data" > /dev/null 2>&1
    mariadbd --no-defaults --skip-networking --user="$(id -un)" --datadir="$top/$1.data" --socket="$top/$1" \
        --tmpdir="$top/$1.scratch" --innodb-buffer-pool-size=1G --innodb-log-file-size=256M --innodb-flush-log-at-trx-commit=2 \
        --max-allowed-packet=64M --pid-file="$top/$1.pid" 2> "$top/$1.log" &
    servers+=($!)
    until client "$1" -e 'SELECT 1' > /dev/null 2>&1; do sleep 0.2; done
}
client() { local name=$1; shift; mariadb --no-defaults -u root --socket="$top/$name" "$@"; }
timed() { # WHAT COMMAND…: seconds of the best of three
    local what=$1 best= begin end took; shift
    for _ in 1 2 3; do
        begin=$(date +%s.%N); "$@"; end=$(date +%s.%N)
        took=$(echo "$end - $begin" | bc)
        if [[ -z $best ]] || (( $(echo "$took < $best" | bc) )); then best=$took; fi
    done
    printf '%-58s %8.2f s\n' "$what" "$best"
}

server one
rows=$((megabytes * 1000 / 2))
client one -e "CREATE DATABASE shop; USE shop;
    CREATE TABLE customer (id INT PRIMARY KEY, name VARCHAR(80), street VARCHAR(120), note TEXT, since DATETIME);
    CREATE TABLE orders (id INT PRIMARY KEY, customer INT, at DATETIME, total DECIMAL(10,2), text VARCHAR(400), KEY (customer));
    CREATE TABLE line (id INT PRIMARY KEY, of_order INT, article INT, count INT, price DECIMAL(10,2), text VARCHAR(200), KEY (of_order));
    INSERT INTO customer SELECT seq, CONCAT('Customer ', seq), CONCAT(MD5(seq), ' street ', seq % 997), REPEAT(MD5(seq * 7), 20), '2020-01-01' + INTERVAL seq SECOND FROM seq_1_to_$rows;
    INSERT INTO orders SELECT seq, seq % 5000, '2020-01-01' + INTERVAL seq SECOND, seq % 9973 / 7, REPEAT(MD5(seq), 12) FROM seq_1_to_$((rows * 2));
    INSERT INTO line SELECT seq, seq / 3, seq % 4999, seq % 7, seq % 997 / 3, REPEAT(MD5(seq + 5), 6) FROM seq_1_to_$((rows * 2));"

printf '[repository]\nurl = "%s/vault"\n[sets.shop]\nsource = "mysql"\ndatabases = ["shop"]\noption_file = "%s/one.cnf"\n' "$top" "$top" > "$top/varu.toml"
printf '[client]\nuser=root\nsocket=%s/one\n' "$top" > "$top/one.cnf"
printf '[client]\nuser=root\nsocket=%s/two\n' "$top" > "$top/two.cnf"
export HOME=$top XDG_CONFIG_HOME=$top/config
run() { "$varu" --config "$top/varu.toml" --state "$top/state" --writer-key "$top/w.key" --identity "$top/id.txt" -q "$@"; }
run init > /dev/null 2>&1

dump() { mariadb-dump --no-defaults -u root --socket="$top/one" --single-transaction --order-by-primary --routines --events \
    --triggers --hex-blob --skip-dump-date --databases shop; }
dump > "$top/dump.sql"
printf '%-58s %8d MB\n' "the dump" $(( $(stat -c %s "$top/dump.sql") / 1000000 ))
begin=$(date +%s.%N); run backup shop; end=$(date +%s.%N)
printf '%-58s %8.2f s, %d MB stored\n' "the first backup" "$(echo "$end - $begin" | bc)" $(( $(du -sb "$top/vault" | cut -f1) / 1000000 ))

change() { client one -e "UPDATE shop.orders SET text = CONCAT('changed ', RAND()) WHERE id = $1"; }
for id in 17 "$rows" $((rows + 5)); do
    before=$(du -sb "$top/vault" | cut -f1)
    change "$id"
    run backup shop
    printf '%-58s %8d bytes\n' "an incremental of one changed row stores" $(( $(du -sb "$top/vault" | cut -f1) - before ))
done
dump_away() { dump > /dev/null; }
incremental() { change 42; run backup shop; }
timed "mariadb-dump > /dev/null" dump_away
timed "varu backup shop, one row changed" incremental

server two
load() { client two -e 'DROP DATABASE IF EXISTS shop'; client two < "$top/dump.sql"; }
restore() { client two -e 'DROP DATABASE IF EXISTS shop'; run restore shop --into mysql --yes --option-file "$top/two.cnf"; }
timed "mariadb < dump.sql" load
timed "varu restore shop --into mysql" restore
