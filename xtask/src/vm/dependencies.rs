//! Which kernel modules a module needs first, as the modules themselves tell.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use xshell::{Shell, cmd};

/// A kernel module, unpacked.
pub(super) struct Module {
    /// Its name, with `_` where the file's name may have `-`.
    pub(super) name: String,
    /// The content of its `.ko` file.
    pub(super) content: Vec<u8>,
}

/// The modules of one kernel.
pub(super) struct Modules {
    files: HashMap<String, PathBuf>,
    builtin: Vec<String>,
}

impl Modules {
    /// Lists what is below `directory` (`/lib/modules/RELEASE`).
    pub(super) fn list(directory: &Path) -> Result<Self> {
        let mut files = HashMap::new();
        walk(&directory.join("kernel"), &mut files)?;
        let builtin = directory.join("modules.builtin");
        let builtin = fs::read_to_string(&builtin)
            .with_context(|| format!("read {}", builtin.display()))?
            .lines()
            .filter_map(|line| name_of(Path::new(line)))
            .collect();
        Ok(Self { files, builtin })
    }

    /// The wanted modules and all that they need, in the order of loading. What the kernel has built
    /// in is left out.
    pub(super) fn closure(&self, shell: &Shell, wanted: &[&str]) -> Result<Vec<Module>> {
        let mut loaded = Vec::new();
        for name in wanted {
            self.add(shell, name, &mut loaded)?;
        }
        Ok(loaded)
    }

    fn add(&self, shell: &Shell, name: &str, loaded: &mut Vec<Module>) -> Result<()> {
        let name = name.replace('-', "_");
        if self.builtin.contains(&name) || loaded.iter().any(|module| module.name == name) {
            return Ok(());
        }
        let Some(path) = self.files.get(&name) else {
            bail!("this kernel has no module {name}");
        };
        let content = read(shell, path)?;
        let needs =
            depends(&content).with_context(|| format!("{}: no `depends`", path.display()))?;
        for other in needs {
            self.add(shell, &other, loaded)?;
        }
        loaded.push(Module { name, content });
        Ok(())
    }
}

fn walk(directory: &Path, files: &mut HashMap<String, PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, files)?;
        } else if let Some(name) = name_of(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// The module in a file: `ip6_tunnel` of `…/ip6_tunnel.ko.xz`.
fn name_of(path: &Path) -> Option<String> {
    let (name, rest) = path.file_name()?.to_str()?.split_once('.')?;
    matches!(rest, "ko" | "ko.xz").then(|| name.replace('-', "_"))
}

fn read(shell: &Shell, path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_some_and(|extension| extension == "xz") {
        let output = cmd!(shell, "xz --decompress --stdout {path}").quiet().output();
        return Ok(output.with_context(|| format!("unpack {}", path.display()))?.stdout);
    }
    fs::read(path).with_context(|| format!("read {}", path.display()))
}

/// The names in the field `depends` of the module's `.modinfo` section, whose fields end with a NUL.
fn depends(content: &[u8]) -> Option<Vec<String>> {
    const FIELD: &[u8] = b"\0depends=";
    let start = content.windows(FIELD.len()).position(|window| window == FIELD)? + FIELD.len();
    let field = content[start..].split(|&byte| byte == 0).next()?;
    let names = str::from_utf8(field).ok()?.split(',').filter(|name| !name.is_empty());
    Some(names.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{depends, name_of};

    #[test]
    fn a_file_names_its_module() {
        let name = |path: &str| name_of(Path::new(path));
        assert_eq!(name("kernel/net/ipv6/ip6_tunnel.ko").as_deref(), Some("ip6_tunnel"));
        assert_eq!(name("kernel/net/x-y.ko.xz").as_deref(), Some("x_y"));
        assert_eq!(name("kernel/modules.order"), None);
    }

    #[test]
    fn a_module_tells_what_it_needs() {
        let names = |raw: &[u8]| depends(raw);
        let two = names(b"ELF\0license=GPL\0depends=ip_tunnel,tunnel4\0retpoline=Y\0");
        assert_eq!(two, Some(vec!["ip_tunnel".to_owned(), "tunnel4".to_owned()]));
        assert_eq!(names(b"\0depends=\0name=veth\0"), Some(Vec::new()));
        assert_eq!(names(b"\0name=veth\0"), None);
    }
}
