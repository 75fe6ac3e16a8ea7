//! `evenkeel decap`, the backends' side of the tunnels: the real program through the kernel's
//! test-run, frame by frame, and the command on a backend that real clients talk to.

#[cfg(test)]
mod command;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod host;
#[cfg(test)]
mod strangers;
#[cfg(test)]
mod tunnel;
