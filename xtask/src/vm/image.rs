//! The first file system of the virtual machine, and its only one: a few tools, this program,
//! evenkeel, their libraries, and the kernel's modules.

use std::{
    collections::BTreeSet,
    env, fs,
    fs::File,
    io::BufWriter,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use xshell::{Shell, cmd};

use super::{archive::Archive, dependencies::Modules, kernel::Kernel, packages::Tools};
use crate::host;

/// What the traffic takes; what these need comes by itself.
const MODULES: [&str; 9] =
    ["virtio_pci", "virtio_net", "veth", "ipip", "ip6_tunnel", "sit", "fou", "fou6", "8021q"];

/// The busybox tools that the guest calls by name.
const APPLETS: [&str; 5] = ["sh", "mount", "insmod", "dmesg", "poweroff"];

/// Those of this machine: busybox's `ip` knows too few tunnels, and its `nsenter` would start no other.
const OWN_TOOLS: [&str; 2] = ["ip", "nsenter"];

/// Where things are in the guest.
const BINARIES: &str = "/bin";
const MODULE_DIRECTORY: &str = "/modules";

/// Builds it at `out`.
pub(super) fn build(
    shell: &Shell,
    kernel: &Kernel,
    tools: &Tools,
    evenkeel: &Path,
    scenarios: &[String],
    out: &Path,
) -> Result<()> {
    let file = File::create(out).with_context(|| format!("create {}", out.display()))?;
    let mut archive = Archive::new(BufWriter::new(file));
    for directory in ["/dev", "/etc/evenkeel", "/proc", "/run", "/sys", "/tmp", "/var/lib"] {
        archive.directory(Path::new(directory))?;
    }
    archive.file(&place(BINARIES, "busybox"), 0o755, &read(&tools.busybox)?)?;
    for applet in APPLETS {
        archive.symlink(&place(BINARIES, applet), "busybox")?;
    }

    let own = env::current_exe().context("find this executable")?;
    let mut programs = vec![("evenkeel", evenkeel.to_owned()), ("xtask", own)];
    for tool in OWN_TOOLS {
        let path = host::find_program(tool).with_context(|| format!("{tool} is not installed"))?;
        programs.push((tool, path));
    }
    let mut libraries = BTreeSet::new();
    for (name, path) in &programs {
        let stripped = out.with_extension("stripped");
        cmd!(shell, "strip -o {stripped} {path}")
            .quiet()
            .run()
            .with_context(|| format!("leave out the debug information of {}", path.display()))?;
        archive.file(&place(BINARIES, name), 0o755, &read(&stripped)?)?;
        fs::remove_file(&stripped)?;
        libraries.extend(libraries_of(shell, path)?);
    }
    for library in &libraries {
        archive.file(library, 0o755, &read(library)?)?;
    }

    let modules = Modules::list(&kernel.modules)?.closure(shell, &MODULES)?;
    let mut order = Vec::new();
    for module in modules {
        let path = place(MODULE_DIRECTORY, &format!("{}.ko", module.name));
        archive.file(&path, 0o644, &module.content)?;
        order.push(path.display().to_string());
    }
    archive.file(Path::new("/init"), 0o755, init(&order, scenarios).as_bytes())?;
    archive.finish().with_context(|| format!("write {}", out.display()))
}

fn place(directory: &str, name: &str) -> PathBuf {
    Path::new(directory).join(name)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("read {}", path.display()))
}

/// The shared libraries that the loader would take for a program, by their absolute paths.
fn libraries_of(shell: &Shell, program: &Path) -> Result<Vec<PathBuf>> {
    let listed = cmd!(shell, "ldd {program}").quiet().read();
    let listed = listed.with_context(|| format!("list the libraries of {}", program.display()))?;
    // `NAME => PATH (ADDRESS)`, or `PATH (ADDRESS)` for the loader itself.
    let words = listed.lines().filter_map(|line| {
        line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from)
    });
    Ok(words.collect())
}

/// The script that the kernel starts. It holds no story: that is told by this program, in there.
fn init(modules: &[String], scenarios: &[String]) -> String {
    let modules = modules.join(" ");
    // Arguments of ours; a quote inside would end the quotes.
    let scenarios: Vec<_> =
        scenarios.iter().map(|name| format!("'{}'", name.replace('\'', "'\\''"))).collect();
    format!(
        "#!/bin/sh\n\
         export PATH={BINARIES}\n\
         mount -t proc proc /proc\n\
         mount -t sysfs sys /sys\n\
         mount -t devtmpfs dev /dev\n\
         mount -t tmpfs run /run\n\
         mount -t tmpfs tmp /tmp\n\
         mount -t bpf bpf /sys/fs/bpf\n\
         for module in {modules}; do insmod $module || echo \"insmod $module failed\"; done\n\
         xtask vm-guest {}\n\
         echo \"the guest ended with exit code $?\"\n\
         poweroff -f\n",
        scenarios.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::init;

    #[test]
    fn init_quotes_what_it_was_told() {
        let script = init(&["/modules/veth.ko".to_owned()], &["it's".to_owned()]);
        assert!(script.contains("for module in /modules/veth.ko; do"));
        assert!(script.contains("xtask vm-guest 'it'\\''s'\n"));
    }
}
