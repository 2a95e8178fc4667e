//! Authentication tokens of Amazon RDS and Aurora.
//!
//! A token is a presigned address of the action `connect` of the service `rds-db`, without its scheme. The
//! server takes it as the password of a role that has been granted `rds_iam`, for 15 minutes after it
//! was made. A session that has begun outlives its token.

use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow};
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use futures::FutureExt;
use tidewater_ingest_worker::{Login, Passwords};

use crate::process::clock::unix_time;

/// Time for which a token is accepted: the longest that RDS allows.
const VALID_FOR: Duration = Duration::from_secs(900);

const ADVICE: &str = "check that the role has rds_iam (GRANT rds_iam TO ...), that the IAM policy of this \
    process allows rds-db:connect for it, and for the replication stream that the parameter group has \
    rds.iam_auth_for_replication=1 and the role rds_replication";

/// Returns passwords that are tokens, made with the credentials of the AWS environment.
pub(crate) async fn passwords() -> Passwords {
    let sdk = aws_config::load_defaults(BehaviorVersion::latest()).await;
    Passwords::new(ADVICE, move |login| {
        let sdk = sdk.clone();
        async move { Ok(new_token(&sdk, &login).await?) }.boxed()
    })
}

async fn new_token(sdk: &SdkConfig, login: &Login) -> anyhow::Result<String> {
    let region = region_of(&login.host)
        .map(str::to_owned)
        .or_else(|| sdk.region().map(ToString::to_string))
        .ok_or_else(|| anyhow!("the region of '{}' is not known: set AWS_REGION", login.host))?;
    let provider = sdk.credentials_provider().context("there are no AWS credentials")?;
    // The provider caches credentials, and fetches others before they expire.
    let credentials = provider.provide_credentials().await.context(
        "the AWS credentials cannot be read, which --database-auth rds-iam needs to make a password",
    )?;
    token(login, &region, credentials, SystemTime::UNIX_EPOCH + unix_time()?)
}

/// Returns the region in the name of an instance or cluster. `None` for any other name, such as an alias.
fn region_of(host: &str) -> Option<&str> {
    let (name, domain) = host.split_once(".rds.")?;
    if domain == "amazonaws.com" {
        let (_, region) = name.rsplit_once('.')?;
        return Some(region);
    }
    // In China the region follows.
    domain.strip_suffix(".amazonaws.com.cn")
}

/// Returns the token for a login at a time.
fn token(
    login: &Login,
    region: &str,
    credentials: Credentials,
    now: SystemTime,
) -> anyhow::Result<String> {
    let Login { host, port, user } = login;
    let mut address = url::Url::parse(&format!("https://{host}:{port}/"))
        .with_context(|| format!("'{host}' is not the name of a host"))?;
    // A space is signed as %20, and a form encoder would write it as `+`.
    let user: String = url::form_urlencoded::byte_serialize(user.as_bytes()).collect();
    address.set_query(Some(&format!("Action=connect&DBUser={}", user.replace('+', "%20"))));

    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(VALID_FOR);
    let identity = credentials.into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("rds-db")
        .time(now)
        .settings(settings)
        .build()
        .context("the token cannot be signed")?
        .into();
    let request =
        SignableRequest::new("GET", address.as_str(), std::iter::empty(), SignableBody::Bytes(&[]))
            .context("the token cannot be signed")?;
    let (instructions, _signature) =
        sign(request, &params).context("the token cannot be signed")?.into_parts();
    for (name, value) in instructions.params() {
        address.query_pairs_mut().append_pair(name, value);
    }
    let token = address.as_str();
    Ok(token.strip_prefix("https://").unwrap_or(token).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Returns the address and the parameters of a token, in any order.
    fn parts(token: &str) -> (&str, BTreeSet<&str>) {
        let (address, query) = token.split_once('?').expect("parameters");
        (address, query.split('&').collect())
    }

    /// The expected tokens were made by botocore 1.42.54, with the same credentials and time.
    fn check(user: &str, session_token: Option<&str>, expected: &str) {
        let login = Login {
            host: "app.c1234.eu-west-1.rds.amazonaws.com".to_owned(),
            port: 5432,
            user: user.to_owned(),
        };
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let credentials =
            Credentials::new("AKIDEXAMPLE", secret, session_token.map(str::to_owned), None, "test");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045);
        let token = token(&login, "eu-west-1", credentials, now).unwrap();
        assert_eq!(parts(&token), parts(expected));
    }

    #[test]
    fn a_token_is_the_one_that_another_sdk_makes() {
        check(
            "tidewater",
            None,
            "app.c1234.eu-west-1.rds.amazonaws.com:5432/?Action=connect&DBUser=tidewater\
             &X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=AKIDEXAMPLE%2F20260102%2Feu-west-1%2Frds-db%2Faws4_request\
             &X-Amz-Date=20260102T030405Z&X-Amz-SignedHeaders=host&X-Amz-Expires=900\
             &X-Amz-Signature=0cb48217c04b4ad0e1562b8bb4a6e64961f8874b058c4d74a4acf10268864cdf",
        );
    }

    #[test]
    fn a_session_token_and_a_name_with_special_characters_are_signed_as_they_are_sent() {
        check(
            "a b+c@d",
            Some("IQoJb3JpZ2lu//EXAMPLE+TOKEN=="),
            "app.c1234.eu-west-1.rds.amazonaws.com:5432/?Action=connect&DBUser=a%20b%2Bc%40d\
             &X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=AKIDEXAMPLE%2F20260102%2Feu-west-1%2Frds-db%2Faws4_request\
             &X-Amz-Date=20260102T030405Z&X-Amz-SignedHeaders=host&X-Amz-Expires=900\
             &X-Amz-Security-Token=IQoJb3JpZ2lu%2F%2FEXAMPLE%2BTOKEN%3D%3D\
             &X-Amz-Signature=afff117f8beee4faac2af813b8f5278754369516988eacde0dff03b9f6d26a52",
        );
    }

    #[test]
    fn the_region_is_a_part_of_an_instances_name() {
        for (host, region) in [
            ("app.c1234.eu-west-1.rds.amazonaws.com", Some("eu-west-1")),
            ("app.cluster-c1234.us-gov-west-1.rds.amazonaws.com", Some("us-gov-west-1")),
            ("app.c1234.rds.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("db.example.com", None),
            ("rds.amazonaws.com", None),
            ("10.0.0.7", None),
        ] {
            assert_eq!(region_of(host), region, "{host}");
        }
    }
}
