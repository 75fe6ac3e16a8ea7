//! Commands of the documentation, as tests run them: a block of a page that follows the line
//! `<!-- run: NAME -->`. What the page says and what is tested are one text.

use anyhow::{Context as _, Result, ensure};

use crate::{netns::succeeded, topology::Host};

/// How backends are set up for each forwarding mode.
const FORWARDING: &str = include_str!("../../docs/forwarding.md");

/// The commands of the block `name` of the page on forwarding, without comments.
pub fn forwarding(name: &str) -> Result<Vec<String>> {
    let mark = format!("<!-- run: {name} -->\n```sh\n");
    let (_, rest) = FORWARDING.split_once(&mark).with_context(|| format!("no block {name}"))?;
    let (block, _) = rest.split_once("\n```").with_context(|| format!("{name} has no end"))?;
    let commands = block.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let commands: Vec<_> = commands.map(str::to_owned).collect();
    ensure!(!commands.is_empty(), "the block {name} is empty");
    Ok(commands)
}

/// Runs the block `name` of that page on `host`, as an operator would.
pub fn follow_forwarding(host: &Host, name: &str) -> Result<()> {
    for line in forwarding(name)? {
        let mut command = host.namespace.command("sh");
        command.args(["-c", &line]);
        let what = format!("{line} (of docs/forwarding.md) on {}", host.name);
        succeeded(&what, command.output().context("run sh")?)?;
    }
    Ok(())
}
