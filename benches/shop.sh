#!/usr/bin/env bash
# Daily dumps of a shop that lives in a real MariaDB: benches/shop.sh FOLDER [DAYS] [MEGABYTES]
#
# Starts a server of its own in FOLDER/server, loads about MEGABYTES (400) of customers, products, orders and order lines,
# and dumps it on each of DAYS (28) days to FOLDER/dumps/dump-NN.sql. Between two dumps about 1 % of the customers, products
# and orders change, scattered; a few go; the order tables grow by a hundredth; once a week a column is added or dropped.
set -euo pipefail
folder=${1:?usage: benches/shop.sh FOLDER [DAYS] [MEGABYTES]}
days=${2:-28}
megabytes=${3:-400}
mkdir -p "$folder/dumps" "$folder/server"
folder=$(cd "$folder" && pwd)
socket=$folder/server/sock
as_user=(); [ "$(id -u)" = 0 ] && as_user=(--user=root)
if [ ! -d "$folder/server/data" ]; then
    mariadb-install-db --no-defaults "${as_user[@]}" --auth-root-authentication-method=normal --skip-test-db \
        --datadir="$folder/server/data" >"$folder/server/install.log" 2>&1
fi
mariadbd --no-defaults "${as_user[@]}" --skip-networking --datadir="$folder/server/data" --socket="$socket" \
    --innodb-flush-log-at-trx-commit=0 --innodb-buffer-pool-size=1G --skip-log-bin >"$folder/server/log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" 2>/dev/null || true' EXIT
sql() { mariadb --no-defaults -u root --socket="$socket" -N -B "$@"; }
for _ in $(seq 100); do sql -e 'SELECT 1' >/dev/null 2>&1 && break; sleep 0.2; done

# A row's text comes from its number and version alone, so that two runs make the same bytes.
customers=$((megabytes * 1400)) products=$((megabytes * 280)) orders=$((megabytes * 3400)) lines=$((megabytes * 8400))
words() { echo "CONCAT_WS(' ', ELT(1 + CRC32(CONCAT($1, 'a')) % 8, 'amber','birch','cedar','delta','ember','fjord','grove','harbor'), HEX(CRC32(CONCAT($1, 'b'))), ELT(1 + CRC32(CONCAT($1, 'c')) % 6, 'sent back','as agreed','by courier','paid late','call first','no invoice'), MD5(CONCAT($1, 'd')), ELT(1 + CRC32(CONCAT($1, 'e')) % 4, 'Tallinn','Tartu','Narva','Pärnu'))"; }
sql <<SQL
CREATE DATABASE IF NOT EXISTS shop CHARACTER SET utf8mb4; USE shop;
DROP TABLE IF EXISTS order_line, orders, product, customer;
CREATE TABLE customer (id INT PRIMARY KEY, name VARCHAR(80), address VARCHAR(160), note TEXT, changed DATETIME);
CREATE TABLE product (id INT PRIMARY KEY, sku VARCHAR(20), about TEXT, price DECIMAL(10,2), stock INT);
CREATE TABLE orders (id INT PRIMARY KEY, customer INT, status VARCHAR(10), note VARCHAR(200), placed DATETIME, total DECIMAL(10,2));
CREATE TABLE order_line (id INT PRIMARY KEY, order_id INT, product INT, amount INT, price DECIMAL(10,2));
INSERT INTO customer SELECT seq, $(words seq), CONCAT($(words 'seq + 7'), seq), $(words 'seq * 3'), '2026-01-01' FROM seq_1_to_$customers;
INSERT INTO product SELECT seq, CONCAT('SKU-', seq), CONCAT($(words 'seq * 5'), $(words 'seq * 7'), $(words 'seq * 11')), CRC32(seq) % 10000 / 100, seq % 50 FROM seq_1_to_$products;
INSERT INTO orders SELECT seq, CRC32(seq) % $customers + 1, 'new', $(words 'seq * 13'), '2026-01-01' + INTERVAL seq MINUTE, CRC32(seq * 3) % 100000 / 100 FROM seq_1_to_$orders;
INSERT INTO order_line SELECT seq, seq DIV 3 + 1, CRC32(seq) % $products + 1, seq % 7 + 1, CRC32(seq * 5) % 10000 / 100 FROM seq_1_to_$lines;
SQL
for day in $(seq "$days"); do
    if [ "$day" -gt 1 ]; then
        first_order=$(sql -e 'SELECT MAX(id) + 1 FROM shop.orders') first_line=$(sql -e 'SELECT MAX(id) + 1 FROM shop.order_line')
        sql shop <<SQL
UPDATE customer SET note = $(words "id * 3 + $day"), changed = '2026-01-01' + INTERVAL $day DAY WHERE CRC32(id + $day * 7919) % 100 = 0;
UPDATE product SET price = CRC32(id + $day) % 10000 / 100, stock = $day WHERE CRC32(id + $day * 104729) % 100 = 0;
UPDATE orders SET status = ELT(1 + CRC32(id + $day) % 3, 'paid', 'sent', 'done'), note = CONCAT('day $day ', LEFT(note, 100)) WHERE CRC32(id + $day * 1299709) % 100 = 0;
DELETE FROM orders WHERE CRC32(id + $day * 15485863) % 2000 = 0;
INSERT INTO orders SELECT seq, CRC32(seq) % $customers + 1, 'new', $(words 'seq * 13'), '2026-01-01' + INTERVAL $day DAY, CRC32(seq * 3) % 100000 / 100 FROM seq_${first_order}_to_$((first_order + orders / 100));
INSERT INTO order_line SELECT seq, seq DIV 3 + 1, CRC32(seq) % $products + 1, seq % 7 + 1, CRC32(seq * 5) % 10000 / 100 FROM seq_${first_line}_to_$((first_line + lines / 100));
SQL
        case $((day % 14)) in
        7) sql shop -e 'ALTER TABLE product ADD COLUMN weight INT DEFAULT 1' ;;
        0) sql shop -e 'ALTER TABLE product DROP COLUMN weight' ;;
        esac
    fi
    dump=$(printf '%s/dumps/dump-%02d.sql' "$folder" "$day")
    mariadb-dump --no-defaults -u root --socket="$socket" --single-transaction --order-by-primary --skip-dump-date shop >"$dump"
    echo "$dump $(stat -c %s "$dump") bytes"
done
