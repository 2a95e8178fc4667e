//! The flags for limits on clients.

use clap::Args;
use tidewater_functions::{BUCKETS_MAX, DEFAULT_BUCKETS_MAX, Network, Quotas, Rate};

/// Number of connections and streams by default: what a process with 512 MB serves.
const CONNECTIONS_MAX: usize = 10_000;

/// Number of streams of a user by default. Apps may share one user id among many devices.
const USER_STREAMS_MAX: usize = 1_000;

/// Requests of a user per second by default: a hundred devices that write once a second.
const USER_REQUESTS: u32 = 100;

/// Requests from an address per second by default. Thousands of devices may be behind one.
const ADDRESS_REQUESTS: u32 = 1_000;

/// The flags for limits on clients. docs/limits.md describes them.
#[derive(Args, Clone, Debug)]
pub(crate) struct LimitArgs {
    /// Connections that are served at a time. Probes have some more. The limit on open files is raised
    /// to the hard one, and bounds this number
    #[arg(long, env = "TIDEWATER_MAX_CONNECTIONS", value_name = "N",
          default_value_t = CONNECTIONS_MAX, value_parser = parse_count)]
    pub(crate) max_connections: usize,
    /// Buckets that one client may read, each counted once: 1 to 50000
    #[arg(long, env = "TIDEWATER_MAX_BUCKETS", value_name = "N",
          default_value_t = DEFAULT_BUCKETS_MAX, value_parser = parse_buckets)]
    max_buckets: usize,
    /// Streams that one user may have open at a time
    #[arg(long, env = "TIDEWATER_MAX_STREAMS_PER_USER", value_name = "N",
          default_value_t = USER_STREAMS_MAX, value_parser = parse_count)]
    max_streams_per_user: usize,
    /// Requests of one user per second, and twenty times as many at once. 0 for any number
    #[arg(long, env = "TIDEWATER_MAX_REQUESTS_PER_USER", value_name = "N",
          default_value_t = USER_REQUESTS)]
    max_requests_per_user: u32,
    /// Requests from one public address per second, and twenty times as many at once. 0 for any number
    #[arg(long, env = "TIDEWATER_MAX_REQUESTS_PER_ADDRESS", value_name = "N",
          default_value_t = ADDRESS_REQUESTS)]
    max_requests_per_address: u32,
    /// Networks of proxies whose X-Forwarded-For names the client's address. Repeatable
    #[arg(long, env = "TIDEWATER_TRUSTED_PROXIES", value_name = "CIDR", value_delimiter = ',')]
    trusted_proxies: Vec<Network>,
}

impl Default for LimitArgs {
    fn default() -> Self {
        Self {
            max_connections: CONNECTIONS_MAX,
            max_buckets: DEFAULT_BUCKETS_MAX,
            max_streams_per_user: USER_STREAMS_MAX,
            max_requests_per_user: USER_REQUESTS,
            max_requests_per_address: ADDRESS_REQUESTS,
            trusted_proxies: Vec::new(),
        }
    }
}

impl LimitArgs {
    /// Returns the quotas of the sync API.
    pub(crate) fn quotas(&self) -> Quotas {
        let rate = |per_second| (per_second > 0).then(|| Rate::per_second(per_second));
        Quotas {
            connections_max: self.max_connections,
            user_streams_max: self.max_streams_per_user,
            user_rate: rate(self.max_requests_per_user),
            address_rate: rate(self.max_requests_per_address),
            trusted_proxies: self.trusted_proxies.clone(),
            ..Quotas::for_buckets(self.max_buckets)
        }
    }
}

fn parse_buckets(text: &str) -> Result<usize, String> {
    match parse_count(text) {
        Ok(count) if count <= BUCKETS_MAX => Ok(count),
        Ok(_) | Err(_) => Err(format!("it must be a number from 1 to {BUCKETS_MAX}")),
    }
}

fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        Ok(_) | Err(_) => Err("it must be a number from 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_sync_api() {
        let quotas = LimitArgs::default().quotas();
        let defaults = Quotas::default();
        assert_eq!(format!("{quotas:?}"), format!("{defaults:?}"));
    }

    #[test]
    fn more_buckets_allow_larger_requests() {
        let quotas = LimitArgs { max_buckets: BUCKETS_MAX, ..LimitArgs::default() }.quotas();
        assert_eq!((quotas.buckets_max, quotas.lookup_rows_max), (50_000, 50_000));
        assert!(quotas.body_bytes_max > 20 << 20);

        assert_eq!(parse_buckets("50000"), Ok(50_000));
        for invalid in ["0", "50001", "-1", "many"] {
            assert!(parse_buckets(invalid).is_err(), "{invalid}");
        }
    }

    #[test]
    fn a_rate_of_zero_is_no_limit() {
        let args = LimitArgs { max_requests_per_user: 0, ..LimitArgs::default() };
        assert_eq!(args.quotas().user_rate, None);
        assert_eq!(args.quotas().address_rate, Some(Rate { per_second: 1_000, burst: 20_000 }));
    }
}
