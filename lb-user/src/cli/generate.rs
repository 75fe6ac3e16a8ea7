//! What shells and `man` are given: completions and manual pages, made from the arguments themselves,
//! so that neither can say anything else.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, output};

/// Which manual page, and where it goes.
#[derive(clap::Args, Debug)]
pub struct ManArgs {
    /// Directory to write a page for every command to, as evenkeel-COMMAND.1; without one the page of
    /// `evenkeel` itself is printed
    directory: Option<PathBuf>,
}

/// Prints a shell's completions.
pub fn completions(shell: Shell) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "evenkeel", &mut text);
    output::print(std::str::from_utf8(&text)?)
}

/// Prints the manual page of the whole, or writes every command's into a directory.
pub fn man(args: &ManArgs) -> Result<()> {
    let Some(directory) = &args.directory else {
        let mut page = Vec::new();
        Man::new(Cli::command()).render(&mut page)?;
        return output::print(std::str::from_utf8(&page)?);
    };
    write_pages(directory).with_context(|| format!("write manual pages to {}", directory.display()))
}

fn write_pages(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    clap_mangen::generate_to(Cli::command(), directory)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_a_page() {
        let directory = tempfile::tempdir().unwrap();
        write_pages(directory.path()).unwrap();
        for (page, says) in [
            ("evenkeel.1", "evenkeel\\-doctor(1)"),
            ("evenkeel-backend-drain.1", "\\-\\-reason"),
            ("evenkeel-run.1", "log\\-drops"),
        ] {
            let text = fs::read_to_string(directory.path().join(page)).unwrap();
            assert!(text.contains(says), "{page} lacks {says}: {text}");
        }
    }
}
