//! The plan of faults: the calls that fail, and how.

use std::str::FromStr;
use std::time::Duration;

use crate::port_method::PortMethod;

/// An effect on a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call has no effect and fails with `Unavailable` (`fail`).
    Fail,
    /// The call has no effect and fails with `Refused` (`refuse`).
    Refuse,
    /// The call has no effect and fails with `Full` (`full`).
    Full,
    /// The call succeeds, but a write returns `Unknown` and a read `Unavailable` (`lose_reply`).
    LoseReply,
    /// The call is delayed (`delay_50ms`).
    Delay(Duration),
    /// The process is killed before the call (`kill_before`).
    KillBefore,
    /// The process is killed after the call (`kill_after`).
    KillAfter,
}

/// A fault of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedFault {
    /// The method.
    pub method: PortMethod,
    /// The number of the call; the first is 1.
    pub nth: u64,
    /// The effect.
    pub fault: Fault,
}

/// A plan of faults: faults of given calls, and random ones.
///
/// Its text form is `write:1:lose_reply,swap_control:3:kill_before,random:SEED:PER_MILLE`. A random
/// fault depends on the seed, the method and the number of the call alone. So a run whose calls overlap
/// meets the same faults again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan {
    cues: Vec<PlannedFault>,
    random: Option<Random>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Random {
    seed: u64,
    per_mille: u64,
}

/// An error of parsing a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a fault: expected METHOD:NTH:FAULT (fail, refuse, full, lose_reply, delay_<n>ms, \
     kill_before, kill_after) or random:SEED:PER_MILLE"
)]
pub struct FaultPlanError(String);

impl FaultPlan {
    /// Returns the plan with one more fault.
    #[must_use]
    pub fn with(mut self, method: PortMethod, nth: u64, fault: Fault) -> Self {
        self.cues.push(PlannedFault { method, nth, fault });
        self
    }

    /// Returns the plan with random faults: of a thousand calls, `per_mille` fail, with or without an
    /// effect.
    #[must_use]
    pub fn with_random(mut self, seed: u64, per_mille: u64) -> Self {
        self.random = Some(Random { seed, per_mille });
        self
    }

    pub(super) fn fault(&self, method: PortMethod, nth: u64) -> Option<Fault> {
        let cue = self.cues.iter().find(|cue| cue.method == method && cue.nth == nth);
        cue.map(|cue| cue.fault).or_else(|| self.random?.fault(method, nth))
    }
}

impl Random {
    fn fault(self, method: PortMethod, nth: u64) -> Option<Fault> {
        let bits = mixed(mixed(self.seed ^ mixed(method as u64)) ^ nth);
        if bits % 1_000 >= self.per_mille {
            return None;
        }
        Some(if bits >> 63 == 0 { Fault::Fail } else { Fault::LoseReply })
    }
}

/// Mixes bits with the finaliser of SplitMix64: each bit of the result depends on each input bit.
const fn mixed(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

impl FromStr for FaultPlan {
    type Err = FaultPlanError;

    fn from_str(text: &str) -> Result<Self, FaultPlanError> {
        let mut plan = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            plan = plan.with_part(part).ok_or_else(|| FaultPlanError(part.to_owned()))?;
        }
        Ok(plan)
    }
}

impl FaultPlan {
    fn with_part(self, part: &str) -> Option<Self> {
        let (name, rest) = part.split_once(':')?;
        let (number, what) = rest.split_once(':')?;
        let number = number.parse().ok()?;
        if name == "random" {
            return Some(self.with_random(number, what.parse().ok()?));
        }
        let method = PortMethod::ALL.into_iter().find(|method| method.name() == name)?;
        // Calls are counted from one, so a fault of call 0 would never occur.
        (number > 0).then_some(())?;
        Some(self.with(method, number, fault(what)?))
    }
}

fn fault(name: &str) -> Option<Fault> {
    Some(match name {
        "fail" => Fault::Fail,
        "refuse" => Fault::Refuse,
        "full" => Fault::Full,
        "lose_reply" => Fault::LoseReply,
        "kill_before" => Fault::KillBefore,
        "kill_after" => Fault::KillAfter,
        _ => {
            let milliseconds = name.strip_prefix("delay_")?.strip_suffix("ms")?;
            Fault::Delay(Duration::from_millis(milliseconds.parse().ok()?))
        }
    })
}
