//! `backbeat version-id`: the codec of version ids.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use backbeat_core::model::VersionId;
use clap::{Args, Subcommand};

use super::lines;

/// Translate version ids between the raw and the encoded form, one a line.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    printf '98281999999999999999RG001  \\n' | backbeat version-id encode\n  \
    echo aJ87MPaUKYOz00000000001I4j3QKItW | backbeat version-id decode")]
pub struct VersionIdCommand {
    #[command(subcommand)]
    direction: Direction,
}

#[derive(Subcommand)]
enum Direction {
    /// Raw ids to the form that S3 clients see. Blanks count: they are part of a raw id.
    Encode,
    /// Ids as S3 clients see them to raw ids.
    Decode,
}

impl VersionIdCommand {
    /// Runs the command on standard input and output.
    pub fn run(&self) -> Result<ExitCode> {
        lines::run(|line, output| {
            let translated = match self.direction {
                Direction::Encode => {
                    ensure!(!line.is_empty(), "a raw version id is empty");
                    VersionId::from(line).encode()
                }
                Direction::Decode => VersionId::decode(line)?.to_string(),
            };
            writeln!(output, "{translated}")?;
            Ok(())
        })
    }
}
