//! Compares the deployment's template with the code.

use tidewater_storage_aws::{PARTITION, SORT, Table};

const TEMPLATE: &str = concat!(
    include_str!("../../../infra/template/10-parameters.yaml"),
    include_str!("../../../infra/template/20-store.yaml"),
    include_str!("../../../infra/template/30-functions.yaml"),
    include_str!("../../../infra/template/40-worker.yaml"),
    include_str!("../../../infra/template/50-edge.yaml"),
    include_str!("../../../infra/template/60-monitoring.yaml"),
    include_str!("../../../infra/template/90-outputs.yaml"),
);

/// Returns a table as the template must declare it.
fn declared(table: Table) -> String {
    let schema = table.schema();
    let keys = [(PARTITION, Some(schema.partition), "HASH"), (SORT, schema.sort, "RANGE")];
    let keys = keys.into_iter().filter_map(|(name, holds, key)| Some((name, holds?, key)));
    let mut lines = vec![
        "    Type: AWS::DynamoDB::Table".to_owned(),
        "    DeletionPolicy: Delete".to_owned(),
        "    UpdateReplacePolicy: Retain".to_owned(),
        "    Properties:".to_owned(),
        format!("      TableName: !Sub ${{AWS::StackName}}-{}", schema.suffix),
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

    lines.push("      DeletionProtectionEnabled: !Ref Protect".to_owned());
    lines.join("\n")
}

#[test]
fn the_template_declares_the_tables_of_the_code() {
    for table in Table::ALL {
        let declared = declared(table);
        assert!(TEMPLATE.contains(&declared), "infra/template lacks:\n{declared}");
    }
}

#[test]
fn the_template_declares_no_other_tables() {
    assert_eq!(TEMPLATE.matches("AWS::DynamoDB::Table").count(), Table::ALL.len());
}

#[test]
fn the_template_sets_every_variable_that_the_functions_read() {
    let names =
        ["TABLE_PREFIX", "BUCKET", "JWKS", "AUDIENCE", "HOLD", "INVOKE_MODE", "SNAPSHOT_THRESHOLD"];
    for name in names {
        assert!(TEMPLATE.contains(&format!("TIDEWATER_{name}: !")), "{name}");
    }
}

/// Without it, S3 answers 403 for an object that was deleted, as if the right to read were missing.
#[test]
fn who_may_read_objects_may_list_the_s3_bucket() {
    // The worker reads its sync config in another bucket, by its exact key.
    let readers = TEMPLATE.matches("s3:GetObject").count() - 1;
    assert_eq!(readers, 3, "the sync API, the snapshot builder and the worker");
    let listing = TEMPLATE.lines().zip(TEMPLATE.lines().skip(1)).filter(|(action, resource)| {
        action.trim() == "Action: s3:ListBucket"
            && resource.trim() == "Resource: !GetAtt Objects.Arn"
    });
    assert_eq!(listing.count(), readers);
}
