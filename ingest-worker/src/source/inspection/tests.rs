use super::*;
use crate::source::database::Database;

fn report(findings: &[bool], diagnostics: &[&str]) -> SourceReport {
    let finding =
        |&is_fatal: &bool| Finding { is_fatal, problem: "slow".into(), fix: "mend it".into() };
    let text =
        |query: &&str| format!("config: {{edition: 3}}\nstreams:\n  s: {{query: '{query}'}}\n");
    let compiled = |query: &&str| SyncConfig::compile(&text(query)).unwrap_err();
    SourceReport {
        findings: findings.iter().map(finding).collect(),
        diagnostics: diagnostics.iter().flat_map(compiled).collect(),
        tables: Vec::new(),
    }
}

#[test]
fn a_source_is_ready_if_nothing_keeps_a_worker_from_starting() {
    assert!(report(&[], &[]).is_ready());
    assert!(report(&[false], &[]).is_ready(), "advice keeps nobody from starting");
    assert!(!report(&[false, true], &[]).is_ready());
    assert!(!report(&[], &["SELEC"]).is_ready());
}

/// Port 1 of this machine: nobody listens there.
#[tokio::test]
async fn a_database_that_cannot_be_reached_is_an_error_of_the_connection() {
    let url = "postgres://u@127.0.0.1:1/app?sslmode=disable";
    let config = crate::test_support::compiled();
    let checked = check_source(&Database::new(url), "p", None, &config).await;
    assert!(matches!(checked, Err(ReadingError::Connect(ConnectError::Refused { .. }))));
}
