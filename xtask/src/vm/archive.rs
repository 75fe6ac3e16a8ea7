//! Writing a `cpio` archive in the format that the kernel unpacks as its first file system ("newc",
//! Documentation/driver-api/early-userspace/buffer-format.rst).

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::{Component, Path, PathBuf},
};

const DIRECTORY: u32 = 0o040_755;
const SYMLINK: u32 = 0o120_777;
const REGULAR: u32 = 0o100_000;

/// Names and contents are padded to this.
const ALIGNMENT: usize = 4;

/// An archive that grows into `out`. Paths are absolute; directories above them come by themselves.
pub(super) struct Archive<W> {
    out: W,
    entries: u32,
    directories: BTreeSet<PathBuf>,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, entries: 0, directories: BTreeSet::new() }
    }

    /// A file with its permissions, as in `0o755`.
    pub(super) fn file(&mut self, path: &Path, permissions: u32, content: &[u8]) -> io::Result<()> {
        self.parents(path)?;
        self.entry(path, REGULAR | permissions, content)
    }

    /// A symbolic link to `to`.
    pub(super) fn symlink(&mut self, path: &Path, to: &str) -> io::Result<()> {
        self.parents(path)?;
        self.entry(path, SYMLINK, to.as_bytes())
    }

    /// A directory, which may be there already.
    pub(super) fn directory(&mut self, path: &Path) -> io::Result<()> {
        self.parents(path)?;
        if self.directories.insert(path.to_owned()) {
            self.entry(path, DIRECTORY, &[])?;
        }
        Ok(())
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.entry(Path::new("TRAILER!!!"), 0, &[])?;
        self.out.flush()
    }

    fn parents(&mut self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(parent) if parent.components().any(|part| part != Component::RootDir) => {
                self.directory(parent)
            }
            _ => Ok(()),
        }
    }

    fn entry(&mut self, path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
        let path = path.strip_prefix("/").unwrap_or(path);
        let name = path.as_os_str().as_encoded_bytes();
        let size = u32::try_from(content.len())
            .map_err(|_| io::Error::other(format!("{} is too big", path.display())))?;
        let name_size = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        self.entries += 1;
        // Inode, mode, owner, group, links, time, size, device (4 numbers), name's size, checksum.
        let header = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        let mut head = b"070701".to_vec();
        for field in header {
            write!(head, "{field:08x}")?;
        }
        head.extend_from_slice(name);
        head.push(0);
        self.padded(&head)?;
        self.padded(content)
    }

    fn padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        let missing = bytes.len().next_multiple_of(ALIGNMENT) - bytes.len();
        self.out.write_all(&[0; ALIGNMENT][..missing])
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Archive;

    #[test]
    fn an_archive_is_what_the_format_says() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.file(Path::new("/bin/a"), 0o755, b"hello").unwrap();
        archive.symlink(Path::new("/bin/b"), "a").unwrap();
        archive.finish().unwrap();
        let header = |inode: u32, mode: u32, size: u32, name: u32| {
            format!(
                "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{1:08x}{0:08x}{size:08x}{0:08x}{0:08x}{0:08x}\
                 {0:08x}{name:08x}{0:08x}",
                0, 1
            )
        };
        let expected = [
            format!("{}bin\0\0\0", header(1, 0o040_755, 0, 4)),
            format!("{}bin/a\0hello\0\0\0", header(2, 0o100_755, 5, 6)),
            format!("{}bin/b\0a\0\0\0", header(3, 0o120_777, 1, 6)),
            format!("{}TRAILER!!!\0\0\0\0", header(4, 0, 0, 11)),
        ];
        assert_eq!(String::from_utf8(bytes).unwrap(), expected.concat());
    }
}
