//! The Debian package: installed, run, upgraded under load, removed and purged for real, in a root file
//! system of its own. That one is an overlay over this machine's, seen by one thread and its children
//! alone, and gone with them.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context as _, Result, ensure};
use evenkeel_tests::{
    evenkeel::package,
    load::{Load, Pattern},
    netns::{succeeded, unique_name},
    process::Process,
    servers::Nginx,
    settings::{Service, Settings},
    topology::{Family, Lab, Wiring},
    wait::{PATIENCE, eventually},
};
use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change},
    process::Signal,
    thread::{UnshareFlags, unshare_unsafe},
};

const CONFIGURATION: &str = "etc/evenkeel/evenkeel.toml";

/// A root file system in which everything can be changed and nothing is.
struct Root {
    path: PathBuf,
    /// In memory, like the changes to the root.
    scratch: PathBuf,
}

impl Root {
    /// Runs `work` on a thread with mounts of its own, over a fresh root.
    fn with<T: Send>(work: impl FnOnce(&Self) -> T + Send) -> T {
        let base = std::env::temp_dir().join(unique_name());
        fs::create_dir(&base).unwrap();
        let done = thread::scope(|scope| {
            let worker = scope.spawn(|| work(&Self::mount(&base).unwrap()));
            worker.join()
        });
        // Not with what is in it: here it is empty, and in the thread's mounts the machine's /dev was there.
        fs::remove_dir(&base).unwrap();
        done.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked))
    }

    fn mount(base: &Path) -> Result<Self> {
        // SAFETY: only the mounts are taken apart; memory and descriptors stay shared.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.context("make a mount namespace")?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        // An overlay cannot be written to on another one, which a container's root often is.
        mount("tmpfs", base, "tmpfs", MountFlags::empty(), None)?;
        let [upper, work, path] = ["upper", "work", "root"].map(|name| base.join(name));
        for directory in [&upper, &work, &path] {
            fs::create_dir(directory)?;
        }
        fs::set_permissions(&upper, fs::Permissions::from_mode(0o755))?;
        let options = format!("lowerdir=/,upperdir={},workdir={}", upper.display(), work.display());
        let options = std::ffi::CString::new(options)?;
        mount("overlay", &path, "overlay", MountFlags::empty(), options.as_c_str())
            .context("mount an overlay over /")?;
        for tree in ["proc", "sys", "dev"] {
            mount_bind_recursive(Path::new("/").join(tree), path.join(tree))?;
        }
        // Not the machine's own pins.
        mount("bpf", path.join("sys/fs/bpf"), "bpf", MountFlags::empty(), None)?;
        let root = Self { path, scratch: base.to_owned() };
        // Images for containers leave manual pages out.
        for file in fs::read_dir(root.path("etc/dpkg/dpkg.cfg.d")).into_iter().flatten().flatten() {
            fs::remove_file(file.path())?;
        }
        fs::create_dir_all(root.path("run/evenkeel"))?;
        Ok(root)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.path.join(path)
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("chroot");
        command.arg(&self.path).arg(program).args(arguments);
        command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8");
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self.command(program, arguments).output()?;
        succeeded(&format!("{program} {}", arguments.join(" ")), output)
    }

    /// As an unattended upgrade calls it.
    fn dpkg(&self, arguments: &[&str]) -> Result<String> {
        let usual = ["--force-unsafe-io", "--force-confdef", "--force-confold"];
        self.run("dpkg", &[&usual, arguments].concat())
    }

    /// Puts a package where dpkg in there finds it.
    fn bring(&self, package: &Path) -> Result<String> {
        let name = package.file_name().context("a package without a name")?;
        fs::copy(package, self.path("tmp").join(name))?;
        Ok(format!("/tmp/{}", name.display()))
    }
}

/// The same package as if a later version had another default configuration.
fn later(root: &Root, package: &Path) -> PathBuf {
    let (tree, path) = (root.scratch.join("later"), root.scratch.join("later.deb"));
    let dpkg = |arguments: &[&Path]| {
        let output = Command::new("dpkg-deb").args(arguments).output().unwrap();
        succeeded("dpkg-deb", output).unwrap();
    };
    dpkg(&[Path::new("-R"), package, &tree]);
    let control = tree.join("DEBIAN/control");
    let text = fs::read_to_string(&control).unwrap();
    let version = text.lines().find(|line| line.starts_with("Version: ")).unwrap();
    fs::write(&control, text.replace(version, "Version: 99.0.0-1")).unwrap();
    let default = tree.join(CONFIGURATION);
    let text = fs::read_to_string(&default).unwrap();
    fs::write(&default, format!("# of the later version\n{text}")).unwrap();
    // The sums of the files are not looked at by dpkg when it installs.
    dpkg(&[Path::new("-Znone"), Path::new("-b"), &tree, &path]);
    path
}

/// The unit's command, as systemd would start it, in the edge's network namespace.
fn start(root: &Root, lab: &Lab) -> Result<Process> {
    let unit = fs::read_to_string(root.path("usr/lib/systemd/system/evenkeel.service"))?;
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart="));
    let mut command = lab.edge.namespace.command("chroot");
    command.arg(&root.path).args(line.context("no ExecStart")?.split_whitespace());
    let process = Process::start("packaged", command, &root.scratch)?;
    eventually("the packaged daemon answers", PATIENCE, || root.run("evenkeel", &["status"]))
        .with_context(|| process.tail())?;
    Ok(process)
}

fn installed(root: &Root) -> bool {
    root.run("dpkg-query", &["-W", "-f", "${db:Status-Status}", "evenkeel"])
        .is_ok_and(|status| status == "installed")
}

/// What the package brings is there and works, before anything is configured.
fn examine(root: &Root) -> Result<()> {
    root.run("getent", &["group", "evenkeel"])?;
    root.run("getent", &["group", "evenkeel-admin"])?;
    let enabled = root.path("etc/systemd/system/multi-user.target.wants/evenkeel.service");
    ensure!(fs::symlink_metadata(enabled).is_err(), "installing enabled the service");
    let version = root.run("evenkeel", &["--version"])?;
    ensure!(version.starts_with("evenkeel "), "{version}");
    let checked = root.run("evenkeel", &["check"])?;
    ensure!(checked.contains("valid: 0 services, 0 backends, 0 warnings"), "{checked}");
    for page in ["evenkeel", "evenkeel-run", "evenkeel-doctor", "evenkeel-backend-drain"] {
        let file = format!("/usr/share/man/man1/{page}.1.gz");
        let text = root.run("man", &["--warnings=all", "-P", "cat", "-l", &file])?;
        ensure!(text.contains("SYNOPSIS") && text.contains(page), "{page}: {text}");
    }
    let script = "set -eu; . /usr/share/bash-completion/completions/evenkeel; complete -p evenkeel";
    let complete = root.run("bash", &["-c", script])?;
    ensure!(complete.contains("_evenkeel"), "{complete}");
    for file in [
        "usr/share/zsh/vendor-completions/_evenkeel",
        "usr/share/fish/vendor_completions.d/evenkeel.fish",
        "usr/share/doc/evenkeel/copyright",
        "usr/share/doc/evenkeel/changelog.Debian.gz",
        "usr/share/doc/evenkeel/prometheus/evenkeel.rules.yml",
        "usr/share/doc/evenkeel/grafana/evenkeel.json",
    ] {
        ensure!(fs::metadata(root.path(file))?.len() > 0, "{file} is empty");
    }
    Ok(())
}

#[test]
fn the_package_is_installed_upgraded_under_load_removed_and_purged() {
    let lab = Lab::new(Wiring::Switched, 2).unwrap();
    let files = tempfile::tempdir().unwrap();
    let serve = |host| Nginx::start(host, files.path(), files.path()).unwrap();
    let nginx: Vec<_> = lab.backends.iter().map(serve).collect();
    Root::with(|root| {
        let package = package().unwrap();
        let said = root.dpkg(&["-i", &root.bring(&package).unwrap()]).unwrap();
        assert!(said.contains("evenkeel is not started"), "{said}");
        examine(root).unwrap();

        // Somebody configures it and starts the service.
        let own =
            Settings::new(&lab).with(Service::web("web", Family::V4).backends(&lab)).to_string();
        fs::write(root.path(CONFIGURATION), &own).unwrap();
        let mut daemon = start(root, &lab).unwrap();
        let service = Family::V4.service(80);
        let load = Load::start(&lab.client.namespace, service, Pattern::default()).unwrap();
        load.proceed(100).unwrap();

        // An upgrade: new files under the old daemon, then the service is restarted.
        let later = later(root, &package);
        root.dpkg(&["-i", &root.bring(&later).unwrap()]).unwrap();
        assert_eq!(fs::read_to_string(root.path(CONFIGURATION)).unwrap(), own, "an edit is lost");
        let offered = root.path("etc/evenkeel/evenkeel.toml.dpkg-dist");
        assert!(fs::read_to_string(offered).unwrap().starts_with("# of the later version"));
        load.proceed(100).unwrap();
        daemon.signal(Signal::TERM).unwrap();
        assert!(daemon.wait(PATIENCE).unwrap().success(), "{}", daemon.tail());
        let mut daemon = start(root, &lab).unwrap();
        load.proceed(100).unwrap();

        // The daemon would bring the data path back: it has to be stopped first, as systemd does.
        let refused = root.dpkg(&["-r", "evenkeel"]).unwrap_err().to_string();
        assert!(refused.contains("stop it first"), "{refused}");
        assert!(installed(root), "a removal that was refused is none");
        load.proceed(100).unwrap();
        load.stop().unwrap().flawless().unwrap();
        daemon.signal(Signal::TERM).unwrap();
        daemon.wait(PATIENCE).unwrap();
        assert!(root.path("sys/fs/bpf/evenkeel/program").exists(), "it outlives its daemon");

        root.dpkg(&["-r", "evenkeel"]).unwrap();
        assert!(!installed(root) && !root.path("usr/bin/evenkeel").exists());
        assert!(!root.path("sys/fs/bpf/evenkeel").exists(), "nobody could control it any more");
        assert_eq!(fs::read_to_string(root.path(CONFIGURATION)).unwrap(), own);
        assert!(root.path("var/lib/evenkeel").is_dir(), "removing is not purging");

        root.dpkg(&["-P", "evenkeel"]).unwrap();
        assert!(!root.path("var/lib/evenkeel").exists() && !root.path("etc/evenkeel").exists());
    });
    drop(nginx);
}
