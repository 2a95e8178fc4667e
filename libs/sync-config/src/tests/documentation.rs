//! The sync configs in the documentation compile.

use super::compile;

#[test]
fn every_sync_config_in_the_documentation_compiles() {
    let pages = [
        include_str!("../../../../docs/sync-config.md"),
        include_str!("../../../../docs/getting-started.md"),
    ];
    let mut count = 0;
    for page in pages {
        for block in page.split("```yaml\n").skip(1) {
            let (yaml, _) = block.split_once("```").unwrap();
            compile(yaml);
            count += 1;
        }
    }
    assert!(count > 10, "only {count} were found");
}
