//! The store of one module: a SQLite database.
//!
//! In: buckets, keys, values. Out: the same after a restart, also if the process was killed. Several processes may use one
//! database at the same time: SQLite's write-ahead log allows it. Every function waits for the disk. Must not know: wasm,
//! modules.

use std::fmt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::base::limits;

/// What a database has. `totals` counts, so that the limits are checked without a look at all entries.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS entries (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        bucket TEXT NOT NULL,
        key TEXT NOT NULL,
        value BLOB NOT NULL,
        UNIQUE (bucket, key)
    );
    CREATE TABLE IF NOT EXISTS totals (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        keys INTEGER NOT NULL,
        bytes INTEGER NOT NULL
    );
    INSERT OR IGNORE INTO totals VALUES (1, 0, 0);
    CREATE TRIGGER IF NOT EXISTS entry_added AFTER INSERT ON entries BEGIN
        UPDATE totals SET keys = keys + 1, bytes = bytes + length(CAST(new.bucket AS BLOB))
            + length(CAST(new.key AS BLOB)) + length(new.value);
    END;
    CREATE TRIGGER IF NOT EXISTS entry_changed AFTER UPDATE ON entries BEGIN
        UPDATE totals SET bytes = bytes - length(old.value) + length(new.value);
    END;
    CREATE TRIGGER IF NOT EXISTS entry_removed AFTER DELETE ON entries BEGIN
        UPDATE totals SET keys = keys - 1, bytes = bytes - length(CAST(old.bucket AS BLOB))
            - length(CAST(old.key AS BLOB)) - length(old.value);
    END;
";

const SET: &str = "INSERT INTO entries (bucket, key, value) VALUES (?1, ?2, ?3)
    ON CONFLICT (bucket, key) DO UPDATE SET value = excluded.value";

/// Why a store did not do what it was asked.
#[derive(Debug)]
pub(super) enum Failed {
    /// A bucket, key or value is larger than this.
    TooLarge(&'static str, u64),
    /// The entries that were asked for have more bytes than this together.
    TooMuch(u64),
    /// The store has as many keys or bytes as it may have.
    Full,
    /// The value that is to be incremented is not a number.
    NotNumber,
    /// The number would be too large.
    Overflow,
    Database(rusqlite::Error),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::TooLarge(what, most) => {
                write!(f, "a {what} has more than {}", limits::bytes(*most))
            }
            Failed::TooMuch(most) => write!(f, "the values have more than {}", limits::bytes(*most)),
            Failed::Full => write!(
                f,
                "the store is full: it may have {} keys and {}",
                limits::KEYVALUE_KEYS,
                limits::bytes(limits::KEYVALUE_BYTES)
            ),
            Failed::NotNumber => f.write_str("the value is not a number"),
            Failed::Overflow => f.write_str("the number is too large"),
            // The cause may name paths of the device.
            Failed::Database(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                    f.write_str("another process used the store for too long")
                }
                Some(ErrorCode::DiskFull) => f.write_str("the device has no space for the store"),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                    f.write_str("the store is damaged")
                }
                _ => f.write_str("the store cannot be used"),
            },
        }
    }
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Failed {
        tracing::warn!("a store of keys and values failed: {error}");
        Failed::Database(error)
    }
}

pub(super) type Result<T> = std::result::Result<T, Failed>;

/// An open store. `Send + Sync`; one thread at a time uses it.
pub(super) struct Database(Mutex<Connection>);

impl Database {
    /// Opens a store, and creates it if it does not exist.
    pub fn open(path: &Path) -> Result<Database> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(limits::KEYVALUE_WAIT)?;
        // A change is in the log before it is acknowledged, and the system writes the log even if this process is killed.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "journal_size_limit", limits::KEYVALUE_LOG)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        let made = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        made.execute_batch(SCHEMA)?;
        made.commit()?;
        Ok(Database(Mutex::new(connection)))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes changes, all of them or none.
    fn change<T>(&self, change: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let mut connection = self.connection();
        let all = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let changed = change(&all)?;
        let totals =
            all.query_row("SELECT keys, bytes FROM totals", [], |row| Ok((row.get(0)?, row.get(1)?)));
        let (keys, bytes): (i64, i64) = totals?;
        if keys.unsigned_abs() > limits::KEYVALUE_KEYS || bytes.unsigned_abs() > limits::KEYVALUE_BYTES {
            return Err(Failed::Full);
        }
        all.commit()?;
        Ok(changed)
    }

    pub fn get(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>> {
        let connection = self.connection();
        let mut find =
            connection.prepare_cached("SELECT value FROM entries WHERE bucket = ?1 AND key = ?2")?;
        Ok(find.query_row([bucket, key], |row| row.get(0)).optional()?)
    }

    /// Returns the values of all the keys at one point in time.
    pub fn get_many(&self, bucket: &str, keys: Vec<String>) -> Result<Vec<Option<(String, Vec<u8>)>>> {
        let mut connection = self.connection();
        let all = connection.transaction()?;
        let mut find = all.prepare_cached("SELECT value FROM entries WHERE bucket = ?1 AND key = ?2")?;
        let mut bytes = 0;
        let mut found = Vec::new();
        for key in keys {
            let value: Option<Vec<u8>> = find.query_row([bucket, &key], |row| row.get(0)).optional()?;
            bytes += value.as_ref().map_or(0, |value| value.len() as u64);
            if bytes > limits::KEYVALUE_BATCH {
                return Err(Failed::TooMuch(limits::KEYVALUE_BATCH));
            }
            found.push(value.map(|value| (key, value)));
        }
        Ok(found)
    }

    pub fn exists(&self, bucket: &str, key: &str) -> Result<bool> {
        let connection = self.connection();
        let mut find = connection.prepare_cached("SELECT 1 FROM entries WHERE bucket = ?1 AND key = ?2")?;
        Ok(find.exists([bucket, key])?)
    }

    pub fn set_many(&self, bucket: &str, entries: &[(String, Vec<u8>)]) -> Result<()> {
        for (key, value) in entries {
            check("key", key.len(), limits::KEYVALUE_KEY)?;
            check("value", value.len(), limits::KEYVALUE_VALUE)?;
        }
        self.change(|all| {
            let mut set = all.prepare_cached(SET)?;
            for (key, value) in entries {
                set.execute(params![bucket, key, value])?;
            }
            Ok(())
        })
    }

    pub fn delete_many(&self, bucket: &str, keys: &[String]) -> Result<()> {
        self.change(|all| {
            let mut delete = all.prepare_cached("DELETE FROM entries WHERE bucket = ?1 AND key = ?2")?;
            for key in keys {
                delete.execute([bucket, key])?;
            }
            Ok(())
        })
    }

    /// Returns some keys, those after `cursor` in the order in which they were added; and the next cursor, if there are more.
    pub fn keys(&self, bucket: &str, cursor: Option<u64>) -> Result<(Vec<String>, Option<u64>)> {
        let connection = self.connection();
        let mut find = connection.prepare_cached(
            "SELECT id, key FROM entries WHERE bucket = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
        )?;
        // An id is at most 2^63 - 1, so nothing comes after a larger cursor.
        let after = i64::try_from(cursor.unwrap_or_default()).unwrap_or(i64::MAX);
        let page = limits::KEYVALUE_PAGE;
        let rows = find.query_map(params![bucket, after, page as i64], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
        })?;
        let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        let next = rows.last().filter(|_| rows.len() == page).map(|(id, _)| id.unsigned_abs());
        Ok((rows.into_iter().map(|(_, key)| key).collect(), next))
    }

    /// Adds to a number, which is in decimal digits, and returns it. A key without a value counts as 0.
    pub fn increment(&self, bucket: &str, key: &str, delta: u64) -> Result<u64> {
        check("key", key.len(), limits::KEYVALUE_KEY)?;
        self.change(|all| {
            let mut find = all.prepare_cached("SELECT value FROM entries WHERE bucket = ?1 AND key = ?2")?;
            let value: Option<Vec<u8>> = find.query_row([bucket, key], |row| row.get(0)).optional()?;
            let before = match value {
                None => 0,
                Some(digits) => {
                    let number = str::from_utf8(&digits).ok().and_then(|digits| digits.parse().ok());
                    number.ok_or(Failed::NotNumber)?
                }
            };
            let after: u64 = delta.checked_add(before).ok_or(Failed::Overflow)?;
            all.prepare_cached(SET)?.execute(params![bucket, key, after.to_string().into_bytes()])?;
            Ok(after)
        })
    }
}

/// Checks the size of a part of an entry.
pub(super) fn check(what: &'static str, size: usize, most: u64) -> Result<()> {
    if size as u64 > most { Err(Failed::TooLarge(what, most)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> (tempfile::TempDir, Database) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("store")).unwrap();
        (folder, database)
    }

    fn set(database: &Database, key: &str, value: &[u8]) -> Result<()> {
        database.set_many("", &[(key.to_owned(), value.to_vec())])
    }

    #[test]
    fn values_are_kept_by_bucket_and_key() {
        let (folder, database) = opened();
        set(&database, "a", b"1").unwrap();
        set(&database, "a\0b", b"2").unwrap();
        database.set_many("other", &[("a".into(), b"3".into())]).unwrap();
        let again = Database::open(&folder.path().join("store")).unwrap();
        for database in [&database, &again] {
            assert_eq!(database.get("", "a").unwrap().unwrap(), b"1");
            assert_eq!(database.get("", "a\0b").unwrap().unwrap(), b"2");
            assert_eq!(database.get("other", "a").unwrap().unwrap(), b"3");
            assert_eq!(database.get("other", "a\0b").unwrap(), None);
            assert!(database.exists("", "a").unwrap() && !database.exists("", "b").unwrap());
        }
        let found = again.get_many("", vec!["x".into(), "a".into()]).unwrap();
        assert_eq!(found, [None, Some(("a".to_owned(), b"1".to_vec()))]);
        again.delete_many("", &["a".into(), "x".into()]).unwrap();
        assert_eq!(database.get("", "a").unwrap(), None);
    }

    #[test]
    fn numbers_are_incremented_in_any_process() {
        let (folder, database) = opened();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let path = folder.path().join("store");
                std::thread::spawn(move || {
                    let own = Database::open(&path).unwrap();
                    for _ in 0..50 {
                        own.increment("", "n", 2).unwrap();
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(database.increment("", "n", 0).unwrap(), 400);
        assert_eq!(database.get("", "n").unwrap().unwrap(), b"400");
        set(&database, "word", b"many").unwrap();
        assert!(matches!(database.increment("", "word", 1), Err(Failed::NotNumber)));
        set(&database, "large", u64::MAX.to_string().as_bytes()).unwrap();
        assert!(matches!(database.increment("", "large", 1), Err(Failed::Overflow)));
        assert_eq!(database.get("", "large").unwrap().unwrap(), u64::MAX.to_string().as_bytes());
    }

    #[test]
    fn keys_come_in_pages() {
        let (_folder, database) = opened();
        let all: Vec<_> = (0..limits::KEYVALUE_PAGE + 7).map(|at| (format!("k{at}"), Vec::new())).collect();
        database.set_many("b", &all).unwrap();
        let (first, cursor) = database.keys("b", None).unwrap();
        let (second, end) = database.keys("b", cursor).unwrap();
        assert_eq!((first.len(), second.len(), end), (limits::KEYVALUE_PAGE, 7, None));
        let both: Vec<_> = first.into_iter().chain(second).collect();
        assert!(both.iter().eq(all.iter().map(|(key, _)| key)));
        assert_eq!(database.keys("b", Some(u64::MAX)).unwrap(), (Vec::new(), None));
        assert_eq!(database.keys("", None).unwrap(), (Vec::new(), None));
    }

    #[test]
    fn a_store_has_limits() {
        let (_folder, database) = opened();
        let key = "k".repeat(limits::KEYVALUE_KEY as usize);
        let value = vec![0; limits::KEYVALUE_VALUE as usize];
        set(&database, &key, &value).unwrap();
        assert!(matches!(set(&database, &(key + "k"), b""), Err(Failed::TooLarge("key", _))));
        assert!(matches!(
            set(&database, "k", &[value.clone(), vec![0]].concat()),
            Err(Failed::TooLarge("value", _))
        ));
        // To replace a value adds nothing.
        let most = limits::KEYVALUE_BYTES / limits::KEYVALUE_VALUE + 2;
        (0..most).for_each(|_| set(&database, "same", &value).unwrap());
        let mut count = 0;
        let full = loop {
            match set(&database, &format!("v{count}"), &value) {
                Ok(()) => count += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(full, Failed::Full), "{full}");
        assert!(count > 2 && count < most, "{count}");
        // What did not fit is not there, and there is room again after something is removed.
        assert!(!database.exists("", &format!("v{count}")).unwrap());
        database.delete_many("", &["same".into()]).unwrap();
        set(&database, "again", &value).unwrap();
        // Together too large for one answer.
        let keys = (0..count).map(|at| format!("v{at}")).collect();
        assert!(matches!(database.get_many("", keys), Err(Failed::TooMuch(_))));
    }
}
