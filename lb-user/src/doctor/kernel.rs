//! The kernel: whether it takes the program, and how fast it runs it.

use super::{Finding, Level};

/// What is known of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// As `uname -r` tells it.
    pub release: String,
    /// What it lacks by its version.
    pub too_old: Option<String>,
    /// Whether it took the program.
    pub program: Program,
    /// Whether it describes its own types (BTF).
    pub btf: bool,
    /// `net.core.bpf_jit_enable`.
    pub jit: Option<u8>,
    /// `net.core.bpf_jit_harden`.
    pub jit_harden: Option<u8>,
    /// `kernel.unprivileged_bpf_disabled`.
    pub unprivileged: Option<u8>,
    /// The clock that `clock_gettime` reads.
    pub clocksource: Option<String>,
}

/// Whether the kernel took the program when it was asked to, attached nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// It did.
    Loads {
        /// Whether it compiled it.
        compiled: bool,
    },
    /// It did not.
    Refused {
        /// What it said.
        error: String,
        /// The features of the program that it has not.
        lacks: Vec<String>,
    },
    /// We may not load programs.
    NotTried,
}

/// Judges the kernel.
pub fn check(kernel: &Kernel) -> Vec<Finding> {
    let mut found = vec![version(kernel), program(&kernel.program)];
    found.extend(jit(kernel));
    found.push(if kernel.btf {
        Finding::new(Level::Ok, "kernel-btf", "", "the kernel describes its types (BTF)")
    } else {
        let message = "the kernel does not describe its types (/sys/kernel/btf/vmlinux): the balancer \
                       works without, bpftool and perf tell less";
        Finding::new(Level::Note, "kernel-btf", "", message)
    });
    found.extend(unprivileged(kernel.unprivileged));
    found.extend(clock(kernel.clocksource.as_deref()));
    found
}

fn version(kernel: &Kernel) -> Finding {
    match &kernel.too_old {
        None => Finding::new(Level::Ok, "kernel", "", format!("Linux {}", kernel.release)),
        Some(lacks) => Finding::new(Level::Problem, "kernel", "", lacks.clone())
            .remedy("boot a later kernel; distributions offer one as a backport"),
    }
}

fn program(program: &Program) -> Finding {
    let found = |level, message: &str| Finding::new(level, "program", "", message);
    match program {
        Program::Loads { .. } => {
            found(Level::Ok, "the kernel takes the XDP program and its tables")
        }
        Program::NotTried => found(Level::Unseen, "whether the kernel takes the XDP program")
            .remedy("run as root, with CAP_BPF and CAP_NET_ADMIN"),
        Program::Refused { error, lacks } if lacks.is_empty() => {
            found(Level::Problem, &format!("the kernel does not take the XDP program: {error}"))
                .remedy("report it with the kernel's release")
        }
        Program::Refused { error, lacks } => {
            let message = format!(
                "the kernel does not take the XDP program ({error}): it lacks {}",
                lacks.join(", ")
            );
            found(Level::Problem, &message).remedy("boot a kernel that has them")
        }
    }
}

fn jit(kernel: &Kernel) -> Vec<Finding> {
    // Network namespaces of their own do not show the parameter; the program itself does.
    let jit = match (kernel.jit, &kernel.program) {
        (None, Program::Loads { compiled }) => Some(u8::from(*compiled)),
        (jit, _) => jit,
    };
    let mut found = vec![match jit {
        Some(0) => {
            let message =
                "programs are interpreted, which is about ten times slower than compiled ones";
            Finding::new(Level::Warning, "bpf-jit", "", message)
                .remedy("sysctl -w net.core.bpf_jit_enable=1 (before the balancer starts)")
        }
        Some(2) => Finding::new(
            Level::Note,
            "bpf-jit",
            "",
            "compiled programs are written to the kernel's log",
        )
        .remedy("sysctl -w net.core.bpf_jit_enable=1, if nobody debugs the compiler"),
        Some(_) => Finding::new(Level::Ok, "bpf-jit", "", "programs are compiled (JIT)"),
        // The file is root's, or there is no compiler for this processor.
        None => Finding::new(Level::Unseen, "bpf-jit", "", "whether programs are compiled (JIT)")
            .remedy("run as root"),
    }];
    if kernel.jit_harden == Some(2) {
        let message = "the compiler hides every constant, also in root's programs: they run slower";
        found.push(
            Finding::new(Level::Warning, "bpf-jit-harden", "", message).remedy(
                "sysctl -w net.core.bpf_jit_harden=1 hardens other people's programs alone",
            ),
        );
    }
    found
}

fn unprivileged(disabled: Option<u8>) -> Option<Finding> {
    let finding = match disabled? {
        0 => {
            let message = "every user may load BPF programs; the balancer does not need that";
            Finding::new(Level::Note, "unprivileged-bpf", "", message)
                .remedy("sysctl -w kernel.unprivileged_bpf_disabled=1")
        }
        _ => Finding::new(Level::Ok, "unprivileged-bpf", "", "only root may load BPF programs"),
    };
    Some(finding)
}

/// The data path counts jiffies; only the daemon reads this clock.
fn clock(source: Option<&str>) -> Option<Finding> {
    let source = source?;
    let slow = matches!(source, "hpet" | "acpi_pm" | "jiffies" | "refined-jiffies");
    Some(if slow {
        let message = format!(
            "the clock is {source}, which is slow to read or coarse: it costs the daemon time, and packets nothing"
        );
        Finding::new(Level::Note, "clocksource", "", message).remedy(
            "see why the kernel gave up the processor's clock: `dmesg | grep -i clocksource`",
        )
    } else {
        Finding::new(Level::Ok, "clocksource", "", format!("the clock is {source}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Kernel {
        Kernel {
            release: "6.12.1".to_owned(),
            too_old: None,
            program: Program::Loads { compiled: true },
            btf: true,
            jit: Some(1),
            jit_harden: Some(0),
            unprivileged: Some(2),
            clocksource: Some("tsc".to_owned()),
        }
    }

    fn worst(kernel: &Kernel) -> (Level, &'static str) {
        let found = check(kernel);
        let worst = found.iter().max_by_key(|finding| finding.level).unwrap();
        assert!(worst.level < Level::Warning || worst.remedy.is_some(), "{worst:?}");
        (worst.level, worst.check)
    }

    #[test]
    fn a_good_kernel_is_good() {
        assert!(check(&good()).iter().all(|finding| finding.level == Level::Ok));
    }

    #[test]
    fn each_flaw_is_named() {
        let refused = |lacks: &[&str]| Program::Refused {
            error: "EINVAL".to_owned(),
            lacks: lacks.iter().map(ToString::to_string).collect(),
        };
        for (kernel, expected) in [
            (Kernel { too_old: Some("too old".into()), ..good() }, (Level::Problem, "kernel")),
            (Kernel { program: refused(&[]), ..good() }, (Level::Problem, "program")),
            (Kernel { program: Program::NotTried, ..good() }, (Level::Unseen, "program")),
            (Kernel { jit: Some(0), ..good() }, (Level::Warning, "bpf-jit")),
            (
                Kernel { jit: None, program: Program::Loads { compiled: false }, ..good() },
                (Level::Warning, "bpf-jit"),
            ),
            (Kernel { jit_harden: Some(2), ..good() }, (Level::Warning, "bpf-jit-harden")),
            (Kernel { unprivileged: Some(0), ..good() }, (Level::Note, "unprivileged-bpf")),
            (Kernel { btf: false, ..good() }, (Level::Note, "kernel-btf")),
            (Kernel { clocksource: Some("hpet".into()), ..good() }, (Level::Note, "clocksource")),
        ] {
            assert_eq!(worst(&kernel), expected);
        }
        let kernel = Kernel { program: refused(&["helper bpf_check_mtu"]), ..good() };
        let found = check(&kernel);
        assert!(found.iter().any(|finding| finding.message.contains("bpf_check_mtu")), "{found:?}");
    }
}
