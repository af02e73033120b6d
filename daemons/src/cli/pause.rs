//! `backbeat pause` and `backbeat resume`.

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::client::Api;
use super::{Exit, Failure, Global};

/// What both take.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// The site; `all` for every one.
    #[arg(value_name = "SITE", default_value = "all")]
    site: String,
    #[command(flatten)]
    api: Api,
}

/// Stop replicating to a site until it is resumed. What is being copied ends normally; a restart keeps the pause.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backbeat pause site-8001")]
pub(super) struct Pause {
    #[command(flatten)]
    target: Target,
}

/// Go on replicating to a site.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backbeat resume site-8001")]
pub(super) struct Resume {
    #[command(flatten)]
    target: Target,
}

pub(super) fn pause(arguments: &Pause, global: &Global) -> Result<Exit, Failure> {
    tell(&arguments.target, "pause", global)
}

pub(super) fn resume(arguments: &Resume, global: &Global) -> Result<Exit, Failure> {
    tell(&arguments.target, "resume", global)
}

fn tell(target: &Target, action: &str, global: &Global) -> Result<Exit, Failure> {
    let Target { site, api } = target;
    api.ask::<Value>(Method::POST, &format!("/_/crr/{action}/{site}"), &[], None)?;
    let states: Value = api.ask(Method::GET, &format!("/_/crr/status/{site}"), &[], None)?;
    if global.json {
        println!("{}", json!(states));
        return Ok(Exit::Done);
    }
    for (site, state) in states.as_object().into_iter().flatten() {
        println!("{site}: {}", if state == "disabled" { "paused" } else { "running" });
    }
    Ok(Exit::Done)
}
