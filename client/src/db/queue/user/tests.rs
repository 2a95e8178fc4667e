use tempfile::TempDir;

use super::super::{head, verdict};
use super::*;
use crate::db::database::Database;
use crate::schema::Schema;

fn database() -> (TempDir, Database) {
    let dir = TempDir::new().unwrap();
    let schema = Schema::parse("CREATE TABLE t (id TEXT PRIMARY KEY, a)").unwrap();
    let database = Database::open(&dir.path().join("app.db"), &schema).unwrap();
    (dir, database)
}

fn write(database: &Database, id: &str) {
    let written = database.writers().write(|tx| tx.execute("INSERT INTO t VALUES (?1, 1)", [id]));
    written.unwrap();
}

fn admitted(database: &Database, user: &str) -> Admission {
    admit(&mut database.writers().sync, user).unwrap()
}

fn refused(waiting: u64) -> Admission {
    Admission::Refused { owner: "u1".to_owned(), waiting }
}

#[test]
fn a_user_is_admitted_unless_writes_of_another_wait() {
    let (_dir, database) = database();
    // Nobody was signed in yet: the first user takes the writes over.
    write(&database, "r1");
    assert_eq!(admitted(&database, "u1"), Admission::Admitted);
    assert_eq!(admitted(&database, "u2"), refused(1));
    write(&database, "r2");
    assert_eq!(admitted(&database, "u2"), refused(2));
    assert_eq!(admitted(&database, "u1"), Admission::Admitted);

    let writers = &mut *database.writers();
    for _ in 0..2 {
        let sent = head(&mut writers.sync).unwrap().unwrap();
        assert_eq!(sent.user_id.as_deref(), Some("u1"));
        verdict::finish(&mut writers.sync, sent.transaction_id, None).unwrap();
    }
    assert_eq!(admit(&mut writers.sync, "u2").unwrap(), Admission::Admitted);
    assert_eq!(admit(&mut writers.sync, "u1").unwrap(), Admission::Admitted, "nothing waits");
}

#[test]
fn the_next_user_requests_a_write_checkpoint_of_his_own() {
    let (_dir, database) = database();
    admitted(&database, "u1");
    let gate = |value: i64| {
        let writers = database.writers();
        writers.sync.execute("UPDATE _tw_state SET gate = ?1", [value]).unwrap();
    };
    let stored = || -> i64 {
        let sql = "SELECT gate FROM _tw_state";
        database.writers().sync.query_row(sql, [], |row| row.get(0)).unwrap()
    };

    admitted(&database, "u2");
    assert_eq!(stored(), 0, "no uploads were pending");
    gate(7);
    admitted(&database, "u2");
    assert_eq!(stored(), 7);
    admitted(&database, "u1");
    assert_eq!(stored(), WRITE_CHECKPOINT_UNKNOWN);
}
