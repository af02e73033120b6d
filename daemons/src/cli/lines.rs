//! Commands that turn lines of standard input into lines of standard output.

use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};

/// Turns every line of standard input into lines of standard output. A line that cannot be turned is named on standard error with its
/// number and skipped; then the exit code is 1 at the end. An output that nobody reads any more ends the work quietly.
pub(super) fn run(turn: impl FnMut(&str, &mut dyn Write) -> Result<()>) -> Result<ExitCode> {
    let (input, output) = (io::stdin().lock(), io::BufWriter::new(io::stdout().lock()));
    match turn_all(input, output, &mut io::stderr().lock(), turn) {
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        Ok(0) => Ok(ExitCode::SUCCESS),
        Ok(_) => Ok(ExitCode::FAILURE),
        Err(error) => Err(error),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The work of [`run`] on given streams; says how many lines were skipped.
fn turn_all(
    mut input: impl BufRead,
    mut output: impl Write,
    complaints: &mut impl Write,
    mut turn: impl FnMut(&str, &mut dyn Write) -> Result<()>,
) -> Result<u64> {
    let (mut number, mut skipped) = (0_u64, 0_u64);
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line).context("standard input cannot be read")? == 0 {
            break;
        }
        number += 1;
        if line.ends_with(b"\n") {
            line.pop();
        }
        if line.ends_with(b"\r") {
            line.pop();
        }
        let turned = match std::str::from_utf8(&line) {
            Ok(text) => turn(text, &mut output),
            Err(error) => Err(error.into()),
        };
        match turned {
            Ok(()) => {}
            Err(error) if is_broken_pipe(&error) => return Err(error),
            Err(error) => {
                skipped += 1;
                writeln!(complaints, "line {number}: {error:#}")?;
            }
        }
    }
    output.flush()?;
    Ok(skipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_lines_are_named_and_the_others_turned() {
        let (mut output, mut complaints) = (Vec::new(), Vec::new());
        let turn = |line: &str, output: &mut dyn Write| {
            anyhow::ensure!(line != "bad", "it is bad");
            writeln!(output, "<{line}>")?;
            Ok(())
        };
        let skipped =
            turn_all(&b"a\r\nbad\n\xff\nb"[..], &mut output, &mut complaints, turn).expect("in memory");
        assert_eq!(skipped, 2);
        assert_eq!(String::from_utf8_lossy(&output), "<a>\n<b>\n");
        let complaints = String::from_utf8_lossy(&complaints).into_owned();
        assert!(complaints.starts_with("line 2: it is bad\nline 3: "), "{complaints}");
    }
}
