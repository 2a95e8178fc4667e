//! Compares the deployment's template with the code.

use tidewater_storage_aws::{PARTITION, SORT, Table};

const TEMPLATE: &str = include_str!("../../../infra/template.yaml");

/// Returns a table as the template must declare it.
fn declared(table: Table) -> String {
    let schema = table.schema();
    let keys = [(PARTITION, Some(schema.partition), "HASH"), (SORT, schema.sort, "RANGE")];
    let keys = keys.into_iter().filter_map(|(name, holds, key)| Some((name, holds?, key)));
    let mut lines = vec![
        "    Type: AWS::DynamoDB::Table".to_owned(),
        "    Properties:".to_owned(),
        format!("      TableName: !Sub ${{TablePrefix}}-{}", schema.suffix),
        "      BillingMode: PAY_PER_REQUEST".to_owned(),
        "      AttributeDefinitions:".to_owned(),
    ];
    lines.extend(keys.clone().map(|(name, holds, _)| {
        format!("        - {{ AttributeName: {name}, AttributeType: {} }}", holds.letter())
    }));
    lines.push("      KeySchema:".to_owned());
    lines.extend(
        keys.map(|(name, _, key)| format!("        - {{ AttributeName: {name}, KeyType: {key} }}")),
    );
    if let Some(attribute) = schema.expires_by {
        lines.push("      TimeToLiveSpecification:".to_owned());
        lines.push(format!("        AttributeName: {attribute}"));
        lines.push("        Enabled: true".to_owned());
    }

    lines.push("\n".to_owned()); // Nothing else: an empty line follows.
    lines.join("\n")
}

#[test]
fn the_template_declares_the_tables_of_the_code() {
    for table in Table::ALL {
        let declared = declared(table);
        assert!(TEMPLATE.contains(&declared), "infra/template.yaml lacks:\n{declared}");
    }
}

#[test]
fn the_template_declares_no_other_tables() {
    assert_eq!(TEMPLATE.matches("AWS::DynamoDB::Table").count(), Table::ALL.len());
}

#[test]
fn the_template_sets_every_variable_that_the_functions_read() {
    for name in ["TABLE_PREFIX", "BUCKET", "JWKS", "AUDIENCE", "HOLD", "SNAPSHOT_THRESHOLD"] {
        assert!(TEMPLATE.contains(&format!("TIDEWATER_{name}: !Ref ")), "{name}");
    }
}
