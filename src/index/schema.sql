-- The index of one repository. A change of it is another number in `index/mod.rs`: an index of another number is put aside and
-- made again. What decides has a check, the first 16 bytes of a BLAKE3 of its row, so that a flipped bit isn't taken for what was
-- written. All but `operation`, `service_name`, `verification`, `drill`, `local_state`, `trusted_snapshot` and `trusted_pack` can be rebuilt from the
-- repository.

-- What is known of the repository as a whole, and of this machine's part in it.
CREATE TABLE local_state (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL,
    row_check BLOB NOT NULL
) STRICT;

CREATE TABLE chain (
    id       BLOB PRIMARY KEY,
    set_name TEXT NOT NULL
) STRICT;

CREATE TABLE snapshot (
    id          BLOB PRIMARY KEY,
    sequence    INTEGER NOT NULL,
    chain       BLOB NOT NULL REFERENCES chain (id),
    set_name    TEXT NOT NULL,
    size        INTEGER NOT NULL,           -- bytes of the object
    header      BLOB NOT NULL,              -- the clear header, as stored
    about       BLOB NOT NULL,              -- the short part of the body, which is read of all at once
    row_check   BLOB NOT NULL
) STRICT;
CREATE INDEX snapshot_by_sequence ON snapshot (sequence);
CREATE INDEX snapshot_by_set ON snapshot (set_name, sequence);

CREATE TABLE body (
    snapshot BLOB PRIMARY KEY REFERENCES snapshot (id) ON DELETE CASCADE,
    bytes    BLOB NOT NULL,                 -- the body without its recipe: its length, 4 bytes little-endian, and a zstd frame
    row_check BLOB NOT NULL
) STRICT;

CREATE TABLE recipe (
    snapshot BLOB PRIMARY KEY REFERENCES snapshot (id) ON DELETE CASCADE,
    bytes    BLOB NOT NULL,                 -- whole for a full, an edit for an incremental
    row_check BLOB NOT NULL
) STRICT;

-- The whole recipe of a snapshot that is lost, from the copy in a pack. Later ones of its chain stand on it.
CREATE TABLE recovered_recipe (
    snapshot BLOB PRIMARY KEY,
    bytes    BLOB NOT NULL,
    row_check BLOB NOT NULL
) STRICT;

-- What is known of snapshots that somebody took away or that are damaged. They can be stored again while their packs are there.
CREATE TABLE lost_snapshot (
    id        BLOB PRIMARY KEY,
    size      INTEGER NOT NULL,
    header    BLOB NOT NULL,
    about     BLOB NOT NULL,
    row_check BLOB NOT NULL,
    body      BLOB NOT NULL,
    body_check BLOB NOT NULL,
    bytes     BLOB NOT NULL,                -- the recipe
    recipe_check BLOB NOT NULL
) STRICT;

CREATE TABLE pack (
    number          INTEGER PRIMARY KEY AUTOINCREMENT,
    id              BLOB NOT NULL UNIQUE,
    set_name        TEXT NOT NULL,
    generation      BLOB NOT NULL,
    size            INTEGER NOT NULL,       -- bytes of the object
    header_length   INTEGER NOT NULL,       -- bytes before the first segment
    directory_check BLOB NOT NULL,
    stored_time     INTEGER,                -- ns since 1970 UTC; NULL where another index wrote it
    whole           INTEGER NOT NULL,       -- 0 while the upload's end is not known
    directory       BLOB NOT NULL,
    directory_hash  BLOB NOT NULL,          -- the first 16 bytes of its BLAKE3
    row_check       BLOB NOT NULL           -- of all but `whole` and the directory itself
) STRICT;

CREATE TABLE segment (
    pack    INTEGER NOT NULL REFERENCES pack (number) ON DELETE CASCADE,
    number  INTEGER NOT NULL,
    offset  INTEGER NOT NULL,               -- bytes from the start of the pack
    sealed  INTEGER NOT NULL,               -- bytes, tag included
    plain   INTEGER NOT NULL,               -- bytes
    chunks  INTEGER NOT NULL,
    depth   INTEGER NOT NULL,
    PRIMARY KEY (pack, number)
) STRICT, WITHOUT ROWID;

-- What this machine knows by itself. It outlives a rebuild: no object on the remote can make its way in here.
CREATE TABLE trusted_snapshot (
    id BLOB PRIMARY KEY                     -- this machine made it
) STRICT, WITHOUT ROWID;

CREATE TABLE trusted_pack (
    id              BLOB PRIMARY KEY,       -- this machine wrote it, or opened every segment of it since
    directory_check BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- The journal of this machine.
CREATE TABLE operation (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    kind     TEXT NOT NULL CHECK (kind IN ('backup', 'restore', 'restore-into-service', 'restore-in-place', 'drill', 'verify',
                                           'prune', 'dump')),
    set_name TEXT,
    started  INTEGER NOT NULL,              -- ns since 1970 UTC
    ended    INTEGER,                       -- NULL while it runs, or where it was killed
    outcome  TEXT CHECK (outcome IN ('done', 'warnings', 'failed', 'interrupted')),
    about    TEXT,                          -- what it works on and who asked for it
    message  TEXT,                          -- the error or the first warning
    snapshot BLOB,                          -- that it made or restored
    read     INTEGER NOT NULL DEFAULT 0,    -- bytes
    new      INTEGER NOT NULL DEFAULT 0,    -- bytes
    stored   INTEGER NOT NULL DEFAULT 0,    -- bytes
    request  TEXT,                          -- what a restore was asked for, where a later one needn't do the same once more
    standing TEXT                           -- what stood where it wrote when it had ended, as a hash
) STRICT;

-- What restores into services have made there, so that one that was killed is known again.
CREATE TABLE service_name (
    operation INTEGER NOT NULL REFERENCES operation (number),
    kind      TEXT NOT NULL CHECK (kind IN ('target', 'leftover')),
    server    TEXT NOT NULL,
    name      TEXT NOT NULL,
    row_check BLOB NOT NULL,
    PRIMARY KEY (operation, kind, server, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE verification (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    operation INTEGER NOT NULL REFERENCES operation (number),
    level     TEXT NOT NULL,
    snapshots INTEGER NOT NULL,
    damaged   INTEGER NOT NULL
) STRICT;

CREATE TABLE drill (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    operation INTEGER NOT NULL REFERENCES operation (number),
    snapshot  BLOB NOT NULL,
    seconds   REAL NOT NULL,
    passed    INTEGER NOT NULL
) STRICT;
