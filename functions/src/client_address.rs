//! The address of a client, also behind proxies.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use axum::http::HeaderMap;

/// The header to which each proxy appends the address that it was called from.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// A range of addresses, such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl FromStr for Network {
    type Err = String;

    /// Parses a network, or one address.
    fn from_str(text: &str) -> Result<Self, String> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let invalid = || format!("'{text}' is not a network such as 10.0.0.0/8 or an address");
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| invalid())?,
            None => longest,
        };
        if prefix > longest { Err(invalid()) } else { Ok(Self { address, prefix }) }
    }
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differs = u32::from(own) ^ u32::from(other);
                differs.checked_shr(32 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differs = u128::from(own) ^ u128::from(other);
                differs.checked_shr(128 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// Returns the address whose requests are counted; `None` for a private one, which belongs to a proxy
/// that is not declared, or to the same site.
///
/// `peer` is at the other end of the connection. Only trusted proxies are believed. Each of them
/// appends an address, so the last one that is no trusted proxy is the client's: what stands before
/// it is the client's own invention.
pub(crate) fn limited_address(
    peer: IpAddr,
    headers: &HeaderMap,
    trusted: &[Network],
) -> Option<IpAddr> {
    let is_trusted = |address| trusted.iter().any(|network| network.contains(address));
    let mut address = peer.to_canonical();

    let forwarded = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
    let mut forwarded = forwarded.flat_map(|value| value.split(',')).collect::<Vec<_>>();
    while is_trusted(address)
        && let Some(before) = forwarded.pop()
    {
        match before.trim().parse::<IpAddr>() {
            Ok(before) => address = before.to_canonical(),
            // A proxy may append `unknown`. There is nobody to count then.
            Err(_) => return None,
        }
    }
    (!is_private(address)).then(|| site(address))
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Returns the address, or the network of an IPv6 address: one site has 2^64 addresses.
fn site(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from(u32::from(v4))),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(peer: &str, forwarded: &[&str], trusted: &[&str], expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, value.parse().unwrap());
        }
        let trusted: Vec<Network> = trusted.iter().map(|one| one.parse().unwrap()).collect();
        let found = limited_address(peer.parse().unwrap(), &headers, &trusted);
        let expected = expected.map(|one| one.parse().unwrap());
        assert_eq!(found, expected, "{peer} {forwarded:?} {trusted:?}");
    }

    #[test]
    fn the_address_of_a_direct_client_is_that_of_its_connection() {
        check("203.0.113.9", &[], &[], Some("203.0.113.9"));
        check("::ffff:203.0.113.9", &[], &[], Some("203.0.113.9"));
        check("2001:db8:1:2:3::4", &[], &[], Some("2001:db8:1:2::"));
        // Nobody vouches for the header.
        check("203.0.113.9", &["198.51.100.1"], &[], Some("203.0.113.9"));
        check("203.0.113.9", &["198.51.100.1"], &["10.0.0.0/8"], Some("203.0.113.9"));
    }

    #[test]
    fn trusted_proxies_are_believed_up_to_the_first_stranger() {
        let trusted = &["10.0.0.0/8", "203.0.113.9"];
        check("10.1.2.3", &["198.51.100.1"], trusted, Some("198.51.100.1"));
        check("10.1.2.3", &["198.51.100.1, 203.0.113.9"], trusted, Some("198.51.100.1"));
        check("10.1.2.3", &["198.51.100.1", "10.9.9.9"], trusted, Some("198.51.100.1"));
        check("10.1.2.3", &["192.0.2.7, 198.51.100.1"], trusted, Some("198.51.100.1"));
        check("10.1.2.3", &["192.0.2.7, unknown"], trusted, None);
    }

    #[test]
    fn private_addresses_are_not_limited() {
        for peer in
            ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "::1", "fd00::1", "fe80::1"]
        {
            check(peer, &[], &[], None);
            check(peer, &["198.51.100.1"], &[], None);
        }
        check("10.1.2.3", &[], &["10.0.0.0/8"], None);
    }

    #[test]
    fn networks_are_parsed_and_compared() {
        let contains = |network: &str, address: &str| {
            network.parse::<Network>().unwrap().contains(address.parse().unwrap())
        };
        assert!(contains("10.0.0.0/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("0.0.0.0/0", "8.8.8.8") && !contains("0.0.0.0/0", "::1"));
        assert!(contains("fd00::/8", "fdff::1") && !contains("fd00::/8", "fe80::1"));
        assert!(contains("::1", "::1") && !contains("1.2.3.4", "1.2.3.5"));
        for invalid in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "host", "10.0.0.0/-1"] {
            assert!(invalid.parse::<Network>().is_err(), "{invalid}");
        }
    }
}
