//! Tests of the fixtures that all other tests depend on.

use anyhow::Result;
use tidewater_tests::{
    Auth, CREATE_SQL, Effect, History, Pending, Postgres, PostgresOptions, Table, Writer,
    WriterOptions,
};

/// Verifies the model of the random tests. An error in it would look like an error of Tidewater.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_history_of_concurrent_writers_equals_the_tables() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute(CREATE_SQL).await?;
    let client = postgres.connect().await?;
    let mut history = History::begin(&client).await?;

    for round in 0..3 {
        let writers = (0..3_usize).map(|number| {
            let options = WriterOptions {
                url: postgres.url("postgres"),
                seed: round * 100 + number as u64,
                number,
                pending: history.pending(),
            };
            tokio::spawn(async move { Writer::connect(options).await?.run(60).await })
        });

        for writer in writers.collect::<Vec<_>>() {
            writer.await??;
        }
        history.catch_up(&client).await?;
        history.verify(&client).await?;
    }
    assert!(history.len() > 300, "{} commits", history.len());
    Ok(())
}

#[tokio::test]
async fn the_history_has_no_announced_transaction_that_was_rolled_back() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute(CREATE_SQL).await?;
    let client = postgres.connect().await?;
    let mut history = History::begin(&client).await?;
    let pending: Pending = history.pending();
    for (id, end) in [("1", "ROLLBACK"), ("2", "COMMIT")] {
        client
            .batch_execute(&format!("BEGIN; INSERT INTO audit VALUES ({id}, 'u1', 'did')"))
            .await?;
        let row = client.query_one("SELECT pg_current_xact_id()::text", &[]).await?;
        let xid = row.get::<_, String>(0).parse()?;

        let row = [id, "u1", "did"].map(|value| Some(value.to_owned())).to_vec();
        pending.announce(xid, vec![Effect::Put(Table::Audit, row)]);
        client.batch_execute(end).await?;
    }

    history.catch_up(&client).await?;
    assert_eq!(history.len(), 2);
    history.verify(&client).await
}

#[tokio::test]
async fn a_cluster_can_require_a_password() -> Result<()> {
    let options = PostgresOptions { auth: Auth::Scram, ..PostgresOptions::default() };
    let postgres = Postgres::with(options.set("wal_level", "replica")).await?;
    assert_eq!(postgres.value("SHOW wal_level").await?, "replica");
    let wrong = postgres.url_of("postgres", "wrong", "postgres");
    assert!(tokio_postgres::connect(&wrong, tokio_postgres::NoTls).await.is_err());
    Ok(())
}

#[tokio::test]
async fn postgresql_restarts_after_a_crash_on_the_same_port() -> Result<()> {
    let mut postgres = Postgres::start().await?;
    let before = postgres.port();
    postgres.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)").await?;
    postgres.crash_and_restart().await?;
    assert_eq!(postgres.port(), before);
    assert_eq!(postgres.value("SELECT n FROM kept").await?, "7");
    Ok(())
}
