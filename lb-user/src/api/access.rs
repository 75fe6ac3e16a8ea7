//! Who may do what over the socket: root everything, members of the group `evenkeel-admin` everything,
//! members of the group `evenkeel` read.
//!
//! The socket's owner, mode and access list keep everybody else from connecting; each request is
//! judged again, by the groups that the kernel noted of the process that connected.

use std::{io, os::unix::fs::chown, path::Path};

use anyhow::{Context as _, Result};
use axum::{
    extract::{ConnectInfo, Request, State},
    http::{Method, StatusCode},
    middleware::Next,
    response::Response,
};
use nix::{
    errno::Errno,
    unistd::{Gid, Group, Uid},
};
use rustix::fs::XattrFlags;
use tracing::warn;

use super::{Problem, peer::Credentials};

/// The group that may read.
pub const READERS: &str = "evenkeel";
/// The group that may change, too.
pub const ADMINS: &str = "evenkeel-admin";

/// The groups that this host has, and who the daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    owner: Uid,
    readers: Option<Gid>,
    admins: Option<Gid>,
}

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Right {
    Nothing,
    Read,
    Change,
}

impl Access {
    /// By the groups that the host has now. Where they cannot be looked up there are none.
    #[must_use]
    pub fn of_host() -> Self {
        let group = |name: &str| match Group::from_name(name) {
            Ok(found) => found.map(|group| group.gid),
            // Errors by which databases say that there is no such group (getgrnam(3)).
            Err(Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM) => None,
            Err(error) => {
                warn!(
                    "cannot look up group {name}, nobody has its rights until a restart: {error}"
                );
                None
            }
        };
        Self { owner: Uid::effective(), readers: group(READERS), admins: group(ADMINS) }
    }

    /// Lets the members of the groups connect to a socket, whose mode is 0660 already.
    ///
    /// # Errors
    ///
    /// Where the socket cannot be given to the group.
    pub fn share(&self, socket: &Path) -> Result<()> {
        let Some(group) = self.readers.or(self.admins) else { return Ok(()) };
        chown(socket, None, Some(group.as_raw()))
            .with_context(|| format!("give {} to group {group}", socket.display()))?;
        if let Some(admins) = self.admins.filter(|admins| *admins != group)
            && let Err(error) = let_in(socket, admins)
        {
            warn!(
                "{} takes no access list ({error}): members of {ADMINS} have to be members of \
                 {READERS}, too",
                socket.display()
            );
        }
        Ok(())
    }

    fn right(&self, peer: &Credentials) -> Right {
        let is_in = |group: Option<Gid>| group.is_some_and(|group| peer.is_in(group.as_raw()));
        match peer.uid {
            Some(uid) if uid == 0 || uid == self.owner.as_raw() => Right::Change,
            Some(_) if is_in(self.admins) => Right::Change,
            Some(_) if is_in(self.readers) => Right::Read,
            _ => Right::Nothing,
        }
    }
}

/// Adds a group that may connect to a file's access list (acl(5)). What the kernel takes is the
/// list's entries, each a tag, permissions and a number (`include/uapi/linux/posix_acl_xattr.h`).
fn let_in(socket: &Path, group: Gid) -> io::Result<()> {
    const VERSION: u32 = 2;
    const NOBODY: u32 = u32::MAX;
    const READ_WRITE: u16 = 6;
    let entries: [(u16, u16, u32); 5] = [
        (0x01, READ_WRITE, NOBODY),
        (0x04, READ_WRITE, NOBODY),
        (0x08, READ_WRITE, group.as_raw()),
        (0x10, READ_WRITE, NOBODY),
        (0x20, 0, NOBODY),
    ];
    let mut list = VERSION.to_le_bytes().to_vec();
    for (tag, permissions, number) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(permissions.to_le_bytes());
        list.extend(number.to_le_bytes());
    }
    rustix::fs::setxattr(socket, "system.posix_acl_access", &list, XattrFlags::empty())?;
    Ok(())
}

/// Lets a request through where its peer has the right: to change for whatever is not `GET`.
pub(super) async fn guard(
    State(access): State<Access>,
    ConnectInfo(peer): ConnectInfo<Credentials>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let needed = if reads { Right::Read } else { Right::Change };
    if access.right(&peer) >= needed {
        return Ok(next.run(request).await);
    }
    let who = peer.uid.map_or_else(|| "an unknown user".to_owned(), |uid| format!("uid {uid}"));
    let detail = if reads {
        format!("{who} may not read: be root, or a member of group {READERS} or {ADMINS}")
    } else {
        format!("{who} may read, but change nothing: be root, or a member of group {ADMINS}")
    };
    Err(Problem::new(StatusCode::FORBIDDEN, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    const READER: u32 = 701;
    const ADMIN: u32 = 702;

    fn right(uid: Option<u32>, groups: &[u32], access: Access) -> Right {
        access.right(&Credentials::new(uid, groups))
    }

    #[test]
    fn rights_follow_from_who_asks() {
        let gid = |gid| Some(Gid::from_raw(gid));
        let access = Access { owner: Uid::from_raw(0), readers: gid(READER), admins: gid(ADMIN) };
        assert_eq!(right(Some(0), &[], access), Right::Change);
        assert_eq!(right(Some(1000), &[ADMIN], access), Right::Change);
        assert_eq!(right(Some(1000), &[READER, ADMIN], access), Right::Change);
        assert_eq!(right(Some(1000), &[5, READER], access), Right::Read);
        assert_eq!(right(Some(1000), &[5], access), Right::Nothing);
        assert_eq!(right(Some(1000), &[0], access), Right::Nothing, "root's group is not root");
        assert_eq!(right(None, &[ADMIN], access), Right::Nothing);
        let bare = Access { readers: None, admins: None, ..access };
        assert_eq!(right(Some(0), &[], bare), Right::Change);
        assert_eq!(right(Some(1000), &[READER, ADMIN], bare), Right::Nothing);
        let own = Access { owner: Uid::from_raw(1000), ..bare };
        assert_eq!(right(Some(1000), &[], own), Right::Change, "the daemon's own user");
    }
}
