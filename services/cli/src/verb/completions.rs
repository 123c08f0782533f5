//! `agentic completions`: the completions of a shell.

use clap::Args;
use clap_complete::Shell;

use crate::error::Error;
use crate::exit::Exit;
use crate::surroundings::Surroundings;

const AFTER_HELP: &str = "\
Examples:
  agentic completions bash > ~/.local/share/bash-completion/completions/agentic
  agentic completions zsh > ~/.zfunc/_agentic
  agentic completions fish > ~/.config/fish/completions/agentic.fish";

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct CompletionsArgs {
    /// Shell.
    shell: Shell,
}

/// Prints the completions.
pub fn run(args: &CompletionsArgs, surroundings: &Surroundings) -> Result<Exit, Error> {
    let mut script = Vec::new();
    clap_complete::generate(
        args.shell,
        &mut crate::arguments::command(),
        "agentic",
        &mut script,
    );
    surroundings.output.bytes(&script)?;
    Ok(Exit::Succeeded)
}
