import GRDB

/// The tables of a run's database. A change is a new migration, never an edit of an old one.
enum RunSchema {
  static var migrator: DatabaseMigrator {
    var migrator = DatabaseMigrator()
    migrator.registerMigration("v1") { db in
      try db.execute(
        sql: """
          CREATE TABLE run (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            runID TEXT NOT NULL,
            seed INTEGER NOT NULL,
            manifest BLOB NOT NULL,
            createdAt TEXT NOT NULL,
            outcome TEXT,
            reason TEXT
          ) STRICT;
          CREATE TABLE client (
            name TEXT PRIMARY KEY,
            isReady INTEGER NOT NULL
          ) STRICT, WITHOUT ROWID;
          CREATE TABLE round (
            number INTEGER PRIMARY KEY,
            attempt INTEGER NOT NULL,
            openedAt TEXT NOT NULL,
            committedAt TEXT,
            updates INTEGER,
            counts TEXT
          ) STRICT;
          CREATE TABLE participant (
            round INTEGER NOT NULL REFERENCES round(number),
            name TEXT NOT NULL,
            attempt INTEGER NOT NULL,
            status TEXT NOT NULL,
            PRIMARY KEY (round, name)
          ) STRICT, WITHOUT ROWID;
          CREATE TABLE "update" (
            round INTEGER NOT NULL REFERENCES round(number),
            name TEXT NOT NULL,
            examples INTEGER NOT NULL,
            digest TEXT NOT NULL,
            storedAt TEXT NOT NULL,
            PRIMARY KEY (round, name)
          ) STRICT, WITHOUT ROWID;
          CREATE TABLE metric (
            round INTEGER NOT NULL,
            name TEXT NOT NULL,
            metric TEXT NOT NULL,
            value REAL NOT NULL,
            PRIMARY KEY (round, name, metric)
          ) STRICT, WITHOUT ROWID;
          CREATE TABLE audit (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            at TEXT NOT NULL,
            round INTEGER NOT NULL,
            name TEXT NOT NULL,
            code TEXT NOT NULL,
            reason TEXT NOT NULL
          ) STRICT;
          """
      )
    }
    migrator.registerMigration("v2: retired clients, private releases") { db in
      try db.execute(
        sql: """
          CREATE TABLE retired (
            name TEXT PRIMARY KEY,
            code TEXT NOT NULL,
            at TEXT NOT NULL
          ) STRICT, WITHOUT ROWID;
          CREATE TABLE release (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            round INTEGER NOT NULL,
            at TEXT NOT NULL
          ) STRICT;
          CREATE TABLE clipping (
            afterRound INTEGER PRIMARY KEY,
            norm REAL NOT NULL
          ) STRICT;
          """
      )
    }
    migrator.registerMigration("v3: asynchronous runs") { db in
      try db.execute(
        sql: """
          ALTER TABLE "update" ADD COLUMN start INTEGER;
          CREATE INDEX updateByStart ON "update"(name, start) WHERE start IS NOT NULL;
          """
      )
    }
    return migrator
  }
}
