//! From where keys may be fetched.
//!
//! The URL comes from whoever runs the server, never from a token. What is guarded against is a
//! name that leads somewhere else than it says: over `https` the certificate proves the name, and
//! `http` is for this machine alone. A private network is no obstacle, since identity providers
//! live in some; an address that only this machine, or only its neighbours, can mean is one.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Where AWS answers instances by IPv6; its IPv4 address is a link-local one.
const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Where a URL's host is, which is decided by its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostLocation {
    /// On this machine.
    ThisMachine,
    Elsewhere,
}

impl HostLocation {
    fn allows(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        match self {
            Self::ThisMachine => address.is_loopback(),
            Self::Elsewhere => match address {
                IpAddr::V4(v4) => {
                    let nobody = v4.is_unspecified() || v4.is_broadcast() || v4.is_multicast();
                    !(nobody || v4.is_loopback() || v4.is_link_local())
                }
                IpAddr::V6(v6) => {
                    let nobody = v6.is_unspecified() || v6.is_multicast() || v6 == METADATA;
                    !(nobody || v6.is_loopback() || v6.is_unicast_link_local())
                }
            },
        }
    }
}

/// A URL for people: without what may be a secret.
pub(super) fn redacted(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else {
        let has_user = text.contains('@');
        return if has_user { "a URL" } else { text.split('?').next().unwrap_or_default() }
            .to_owned();
    };
    // Neither fails where there is a host, and without one there is no user either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.to_string()
}

/// Reads the URL of a JWK Set; the error says what would be right.
pub(super) fn parse(text: &str) -> Result<(Url, HostLocation), String> {
    let url = Url::parse(text).map_err(|error| format!("it is not a URL ({error})"))?;
    let host = url.host_str().ok_or("it names no host")?;
    let literal: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    let is_here = literal.map_or(host == "localhost", |ip| ip.to_canonical().is_loopback());
    let location = if is_here { HostLocation::ThisMachine } else { HostLocation::Elsewhere };
    match url.scheme() {
        "https" => {}
        "http" if is_here => {}
        "http" => {
            return Err("http is for this machine alone, since whoever is on the way could put \
                        keys in: use https"
                .to_owned());
        }
        _ => return Err("it must begin with https://".to_owned()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds a user or a password: a JWK Set is public".to_owned());
    }
    if literal.is_some_and(|address| !location.allows(address)) {
        return Err("nobody publishes keys at this address: name the host".to_owned());
    }
    Ok((url, location))
}

/// Resolves names as the system does, and leaves out what their location does not allow.
pub(super) struct GuardedResolver(pub(super) HostLocation);

#[derive(Debug, thiserror::Error)]
#[error("{0} leads to addresses from which keys are not fetched")]
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
    fn keys_come_over_https_or_from_this_machine() {
        let check = |text: &str| parse(text).map(|(_, location)| location);
        for here in [
            "http://localhost:1/k",
            "http://127.0.0.1/k",
            "http://127.9.9.9/k",
            "http://[::1]:8/k",
            "https://localhost/k",
        ] {
            assert_eq!(check(here), Ok(HostLocation::ThisMachine), "{here}");
        }
        for elsewhere in [
            "https://ref.supabase.co/auth/v1/.well-known/jwks.json",
            "https://10.0.0.7/k",
            "https://[fd12::7]/k",
            "https://localhost.example/k",
        ] {
            assert_eq!(check(elsewhere), Ok(HostLocation::Elsewhere), "{elsewhere}");
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
            let problem = check(wrong).unwrap_err();
            assert!(problem.contains(says), "{wrong}: {problem}");
        }
    }

    #[test]
    fn what_is_shown_of_a_url_is_no_secret() {
        assert_eq!(redacted("https://u:p@id.example/k?code=7"), "https://id.example/k");
        assert_eq!(redacted("https://id.example:x/k?code=7"), "https://id.example:x/k");
        assert_eq!(redacted("https://u:p@id.example:x/k"), "a URL");
    }

    #[tokio::test]
    async fn a_name_that_leads_here_is_not_elsewhere() {
        let resolve =
            async |location| GuardedResolver(location).resolve("localhost".parse().unwrap()).await;
        assert!(
            resolve(HostLocation::ThisMachine).await.is_ok_and(|mut found| found.next().is_some())
        );
        let refused = resolve(HostLocation::Elsewhere).await.map(|_| ()).unwrap_err();
        assert!(refused.to_string().contains("not fetched"), "{refused}");
    }
}
