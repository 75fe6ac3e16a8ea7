//! An XDP program of two instructions that passes every packet.
//!
//! A veth hands frames sent by `XDP_TX` on only when its *receiving* end has an XDP program: GRO
//! is enough for redirected frames, but `veth_xdp_flush` in the kernel looks for a program. The
//! ends of a one-NIC edge's cable therefore need one. It is loaded by hand, as an object file
//! would need a compiler.

use std::{
    ffi::CString,
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
    ptr,
};

use anyhow::{Context as _, Result};

use crate::netns::Namespace;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_PROG_TYPE_XDP: u32 = 6;

/// `r0 = XDP_PASS; exit`, in the kernel's little-endian instruction encoding.
const PROGRAM: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];

/// The head of the kernel's `union bpf_attr` for `BPF_PROG_LOAD`; it takes the rest as zero.
#[repr(C)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    licence: u64,
}

/// The head of the kernel's `union bpf_attr` for `BPF_OBJ_PIN`.
#[repr(C)]
struct Pin {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Attaches the program to `device` inside `namespace`. It stays until the device goes.
pub fn attach(namespace: &Namespace, device: &str) -> Result<()> {
    let pin = format!("/sys/fs/bpf/{}-pass", namespace.name());
    load(Path::new(&pin)).with_context(|| format!("load the pass program for {device}"))?;
    let attached = namespace.ip(&format!("link set dev {device} xdp pinned {pin}"));
    fs::remove_file(&pin).with_context(|| format!("remove {pin}"))?;
    attached
}

fn load(pin: &Path) -> Result<()> {
    let licence = CString::new("GPL")?;
    let path = CString::new(pin.to_string_lossy().as_bytes())?;
    let load = Load {
        kind: BPF_PROG_TYPE_XDP,
        instructions: u32::try_from(PROGRAM.len())?,
        code: PROGRAM.as_ptr().expose_provenance() as u64,
        licence: licence.as_ptr().expose_provenance() as u64,
    };
    let number = bpf(BPF_PROG_LOAD, &load)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else owns it.
    let program = unsafe { OwnedFd::from_raw_fd(number) };
    let pin = Pin {
        path: path.as_ptr().expose_provenance() as u64,
        fd: u32::try_from(program.as_raw_fd())?,
        flags: 0,
    };
    bpf(BPF_OBJ_PIN, &pin)?;
    Ok(())
}

fn bpf<T>(command: libc::c_int, attribute: &T) -> Result<i32> {
    // SAFETY: `attribute` is the head of a `bpf_attr` of exactly the size that is passed with it,
    // and every address in it points to data that the caller keeps alive over the call.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command, ptr::from_ref(attribute), size_of::<T>()) };
    if answer < 0 {
        return Err(io::Error::last_os_error()).context("bpf system call");
    }
    Ok(i32::try_from(answer)?)
}
