//! `backbeat completion`: what a shell needs to complete this command line.

use std::io::Write as _;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, Exit, Failure};

/// Print the completion script of a shell.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  backbeat completion bash > /usr/share/bash-completion/completions/backbeat
  backbeat completion zsh > ~/.zfunc/_backbeat
  backbeat completion fish > ~/.config/fish/completions/backbeat.fish")]
pub(super) struct Arguments {
    /// Which shell.
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "backbeat", &mut script);
    // Whoever reads may have heard enough.
    std::io::stdout().write_all(&script)?;
    Ok(Exit::Done)
}
