//! The `evenkeel` command as its next version might be: the same source, with another layout of the maps
//! by the feature `next-layout`. Tests upgrade to it and go back from it; nobody installs it.

#[path = "main.rs"]
mod evenkeel;

fn main() -> std::process::ExitCode {
    evenkeel::main()
}
