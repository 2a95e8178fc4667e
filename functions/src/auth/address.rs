//! The addresses from which keys may be fetched.
//!
//! The URL comes from whoever runs the server, never from a token. The risk is a name that resolves to
//! an unexpected host. Over `https` the certificate proves the name; `http` is allowed for this
//! machine only. Private networks are allowed, because identity providers run in some. Loopback and
//! link-local addresses are refused for names of other machines.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The IPv6 address of the AWS instance metadata service. Its IPv4 address is link-local.
const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// The location of a URL's host, decided by its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostLocation {
    /// A loopback address, or `localhost`.
    ThisMachine,
    /// Any other host.
    Elsewhere,
}

impl HostLocation {
    /// Returns whether keys may be fetched from a resolved address.
    fn allows(self, address: IpAddr) -> bool {
        let address = address.to_canonical();

        match self {
            Self::ThisMachine => address.is_loopback(),
            Self::Elsewhere => match address {
                IpAddr::V4(v4) => {
                    let is_refused = v4.is_unspecified() || v4.is_broadcast() || v4.is_multicast();
                    !(is_refused || v4.is_loopback() || v4.is_link_local())
                }
                IpAddr::V6(v6) => {
                    let is_refused = v6.is_unspecified() || v6.is_multicast() || v6 == METADATA;
                    !(is_refused || v6.is_loopback() || v6.is_unicast_link_local())
                }
            },
        }
    }
}

/// Returns a URL for people: without what may be a secret.
pub(super) fn redacted(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else {
        let has_user = text.contains('@');
        let shown = if has_user { "a URL" } else { text.split('?').next().unwrap_or_default() };
        return shown.to_owned();
    };
    // Both fail only if there is no host, and then there is no user either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.to_string()
}

/// Parses the URL of a JWK Set. The error says what would be right.
pub(super) fn parse(text: &str) -> Result<(Url, HostLocation), String> {
    let url = Url::parse(text).map_err(|error| format!("not a URL ({error})"))?;
    let host = url.host_str().ok_or("the URL names no host")?;
    let literal: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    let is_here = literal.map_or(host == "localhost", |ip| ip.to_canonical().is_loopback());
    let location = if is_here { HostLocation::ThisMachine } else { HostLocation::Elsewhere };

    match url.scheme() {
        "https" => {}
        "http" if is_here => {}
        "http" => {
            return Err("http is allowed for this machine only, because anybody on the network \
                        path could insert keys: use https"
                .to_owned());
        }
        _ => return Err("the URL must begin with https://".to_owned()),
    }

    if !url.username().is_empty() || url.password().is_some() {
        return Err("the URL has a user or a password: a JWK Set is public".to_owned());
    }
    if literal.is_some_and(|address| !location.allows(address)) {
        return Err("keys are not fetched from this address: name the host".to_owned());
    }
    Ok((url, location))
}

/// A resolver that asks the system, and drops addresses that the location does not allow.
pub(super) struct GuardedResolver(pub(super) HostLocation);

#[derive(Debug, thiserror::Error)]
#[error("{0} resolves to addresses from which keys are not fetched")]
struct NoAllowedAddress(String);

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let location = self.0;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> =
                found.filter(|address| location.allows(address.ip())).collect();
            if allowed.is_empty() {
                return Err(NoAllowedAddress(name.as_str().to_owned()).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_fetched_over_https_or_from_this_machine() {
        for here in [
            "http://localhost:1/k",
            "http://127.0.0.1/k",
            "http://127.9.9.9/k",
            "http://[::1]:8/k",
            "https://localhost/k",
        ] {
            let (_, location) = parse(here).unwrap();
            assert_eq!(location, HostLocation::ThisMachine, "{here}");
        }

        for elsewhere in [
            "https://ref.supabase.co/auth/v1/.well-known/jwks.json",
            "https://10.0.0.7/k",
            "https://[fd12::7]/k",
            "https://localhost.example/k",
        ] {
            let (_, location) = parse(elsewhere).unwrap();
            assert_eq!(location, HostLocation::Elsewhere, "{elsewhere}");
        }

        for (wrong, says) in [
            ("http://id.example/k", "use https"),
            ("http://localhost.example/k", "use https"),
            ("http://10.0.0.7/k", "use https"),
            ("http://169.254.169.254/latest", "use https"),
            ("https://169.254.169.254/latest", "name the host"),
            ("https://2852039166/latest", "name the host"),
            ("https://[::ffff:169.254.169.254]/", "name the host"),
            ("https://[fd00:ec2::254]/", "name the host"),
            ("https://[fe80::1]/", "name the host"),
            ("https://0.0.0.0/", "name the host"),
            ("https://u:p@id.example/k", "a JWK Set is public"),
            ("ftp://id.example/k", "https://"),
            ("https://", "not a URL"),
        ] {
            let problem = parse(wrong).unwrap_err();
            assert!(problem.contains(says), "{wrong}: {problem}");
        }
    }

    #[test]
    fn a_redacted_url_has_no_secret() {
        assert_eq!(redacted("https://u:p@id.example/k?code=7"), "https://id.example/k");
        assert_eq!(redacted("https://id.example:x/k?code=7"), "https://id.example:x/k");
        assert_eq!(redacted("https://u:p@id.example:x/k"), "a URL");
    }

    #[tokio::test]
    async fn a_name_of_another_machine_may_not_resolve_to_this_one() {
        let resolve =
            async |location| GuardedResolver(location).resolve("localhost".parse().unwrap()).await;
        assert!(
            resolve(HostLocation::ThisMachine).await.is_ok_and(|mut found| found.next().is_some())
        );
        let refused = resolve(HostLocation::Elsewhere).await.map(|_| ()).unwrap_err();
        assert!(refused.to_string().contains("not fetched"), "{refused}");
    }
}
