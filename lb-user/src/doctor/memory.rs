//! Memory: what the configured tables take of the kernel's, against what is free.

use super::{Finding, Level};

/// Parts of the free memory that the tables may take before that is worth a warning.
const HALF: u64 = 2;

/// The tables' needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes that the tables take.
    pub needed: u64,
    /// Whether they are there already.
    pub taken: bool,
    /// Bytes that can be had without swapping.
    pub available: Option<u64>,
}

/// Judges the memory.
pub fn check(memory: &Memory) -> Vec<Finding> {
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let needed = mib(memory.needed);
    let found = |level, message| Finding::new(level, "memory", "", message);
    let smaller = "lower [tables], first of all connections and unconfirmed";
    let tables = match memory.available {
        _ if memory.taken => found(Level::Ok, format!("the tables have their {needed} already")),
        None => found(Level::Unseen, format!("whether the tables' {needed} are free")),
        Some(free) if memory.needed >= free => {
            let message =
                format!("the tables take {needed} of kernel memory, and {} are free", mib(free));
            found(Level::Problem, message).remedy(smaller)
        }
        Some(free) if memory.needed >= free / HALF => {
            let message = format!("the tables take {needed} of the {} that are free", mib(free));
            found(Level::Warning, message).remedy(smaller)
        }
        Some(free) => found(Level::Ok, format!("the tables take {needed}, {} are free", mib(free))),
    };
    // Since Linux 5.11 maps are counted by the control group; we need a later kernel anyway.
    let locked = Finding::new(
        Level::Ok,
        "memory-lock",
        "",
        "RLIMIT_MEMLOCK does not matter: this kernel counts tables by the control group (MemoryMax=)",
    );
    vec![tables, locked]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_free_decides() {
        let level = |needed, taken, available| check(&Memory { needed, taken, available })[0].level;
        let mib = 1_u64 << 20;
        assert_eq!(level(100 * mib, false, Some(1000 * mib)), Level::Ok);
        assert_eq!(level(600 * mib, false, Some(1000 * mib)), Level::Warning);
        assert_eq!(level(1000 * mib, false, Some(1000 * mib)), Level::Problem);
        assert_eq!(level(1000 * mib, true, Some(10 * mib)), Level::Ok);
        assert_eq!(level(1000 * mib, false, None), Level::Unseen);
    }
}
