//! `backbeat replication`: prepare two buckets for replication, look whether they are prepared, and replicate once more what is
//! there already.

mod report;
mod resync;

use std::path::PathBuf;
use std::time::Duration;

use backbeat_backends::admin::{AdminError, Buckets, Iam};
use backbeat_backends::credentials::{Credentials, profile};
use backbeat_backends::http::{ClientError, SignedClient};
use backbeat_core::model::is_bucket_name;
use backbeat_core::request::Side;
use clap::{Args, Subcommand};

use super::{Exit, Failure, Global, config};
use crate::config::Config;
use crate::patience::Patience;
use crate::production;
use crate::setup::{
    Both, Clients, Outcome, Overrides, Place, Places, SetupError, TargetSite, Trouble, Wanted, Work, checks,
    plan, side_name,
};
use report::Report;

/// The region that the source and IAM are signed for: CloudServer and its vault do not compare it.
const REGION: &str = "us-east-1";

/// Prepare two buckets for replication, check whether they are prepared, or replicate existing objects once more.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  backbeat replication setup --config conf/config.json --source-bucket photos --source-profile here --target-bucket photos-copy --target-profile there --dry-run
  backbeat replication validate --config conf/config.json --source-bucket photos --source-profile here --target-bucket photos-copy --target-profile there
  backbeat replication resync s3://photos/2024/ --config conf/config.json --site archive --dry-run")]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make what is not there: buckets that keep versions, roles and their policies, the rule. What is there stays.
    #[command(
        after_help = "Keys are those of the profiles in ~/.aws/credentials, or in the file that AWS_SHARED_CREDENTIALS_FILE names.

Examples:
  backbeat replication setup --config conf/config.json --source-bucket photos --source-profile here --target-bucket photos-copy --target-profile there --dry-run
  backbeat replication setup --config conf/config.json --source-bucket photos --source-profile here --target-bucket photos-copy --site-name cloud
  backbeat replication setup --source-endpoint http://127.0.0.1:8000 --target-endpoint http://127.0.0.1:8001 --role arn:aws:iam::root:role/backbeat --source-bucket photos --source-profile dev --target-bucket photos-copy --target-profile dev"
    )]
    Setup(Setup),
    /// Look whether all of it is as it has to be, and change nothing. Exit code 3 if something is not.
    #[command(after_help = "Example:
  backbeat replication validate --config conf/config.json --source-bucket photos --source-profile here --target-bucket photos-copy --target-profile there")]
    Validate(Pair),
    /// Replicate existing objects once more: by default those that are older than their rule.
    ///
    /// They are written PENDING at the source, and go from there the way of every change.
    #[command(after_help = "Examples:
  backbeat replication resync s3://photos/2024/ --config conf/config.json --site archive --dry-run
  backbeat replication resync s3://photos --config conf/config.json --site archive --status pending,failed --state photos.resync
  backbeat replication resync s3://photos --source-endpoint http://127.0.0.1:8000 --source-profile dev --site site-8001 --default-site site-8001")]
    Resync(resync::Arguments),
}

#[derive(Debug, Args)]
struct Setup {
    #[command(flatten)]
    pair: Pair,
    /// Only keys that begin so.
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    /// Show what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

/// What is to be replicated where, and whom to ask.
#[derive(Debug, Args)]
struct Pair {
    /// The bucket that clients write to.
    #[arg(long, value_name = "BUCKET")]
    source_bucket: String,
    /// Whose it is: a profile of the shared credentials file.
    #[arg(long, value_name = "PROFILE")]
    source_profile: String,
    /// The bucket that takes the copies.
    #[arg(long, value_name = "BUCKET")]
    target_bucket: String,
    /// Whose it is. Left out, --site-name is a cloud that is reached through the source, where nothing is prepared.
    #[arg(long, value_name = "PROFILE", required_unless_present = "site_name")]
    target_profile: Option<String>,
    /// The site that the rule names; by default none, which is the source's default site.
    #[arg(long, value_name = "SITE", visible_alias = "site")]
    site_name: Option<String>,
    /// The roles, with a comma between them, for stores without IAM or with roles of your own: IAM is not asked.
    #[arg(long, value_name = "ARN[,ARN]")]
    role: Option<String>,
    /// Where the source's S3 is, instead of extensions.replication.source.s3.
    #[arg(long, value_name = "URL")]
    source_endpoint: Option<String>,
    /// Where the source's IAM is, instead of extensions.replication.source.auth.vault.
    #[arg(long, value_name = "URL")]
    source_iam_endpoint: Option<String>,
    /// Where the target's S3 is, instead of the first site with servers in the bootstrap list.
    #[arg(long, value_name = "URL")]
    target_endpoint: Option<String>,
    /// Where the target's IAM is.
    #[arg(long, value_name = "URL")]
    target_iam_endpoint: Option<String>,
    /// Seconds for which anything that may work later is tried again.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    retry_time: u64,
}

pub(super) fn run(arguments: &Arguments, global: &Global) -> Result<Exit, Failure> {
    let (pair, setup) = match &arguments.action {
        Action::Setup(setup) => (&setup.pair, Some(setup)),
        Action::Validate(pair) => (pair, None),
        Action::Resync(arguments) => return resync::run(arguments, global),
    };
    let config = config::load(global)?;
    config::log(&config);
    let prefix = setup.map_or("", |setup| setup.prefix.as_str());
    let (wanted, clients) = prepared(pair, prefix, &config).map_err(|why| Failure::say(Exit::Usage, why))?;
    let patience = Patience::of(Duration::from_secs(pair.retry_time));
    let work = Work { wanted: &wanted, clients: &clients, patience };
    let mut report = Report::new(global.json);
    let ended = super::runtime()?.block_on(async {
        match setup {
            Some(setup) => prepare(&work, setup.dry_run, &mut report).await,
            None => look(&work, &mut report).await,
        }
    });
    report.end(ended.as_ref().err());
    ended.map_err(|error| failure(&error, &report))
}

async fn prepare(work: &Work<'_>, is_dry: bool, report: &mut Report) -> Result<Exit, SetupError> {
    let found = work.look().await?;
    let plan = plan(work.wanted, &found).map_err(|conflict| SetupError {
        side: Side::Source,
        doing: "planning".to_owned(),
        trouble: Trouble::Conflict(conflict),
    })?;
    report.plan(&plan, is_dry);
    if is_dry {
        return Ok(Exit::Done);
    }
    work.carry_out(&plan, &found, |item| report.done(item)).await?;
    look(work, report).await
}

async fn look(work: &Work<'_>, report: &mut Report) -> Result<Exit, SetupError> {
    let checks = checks(work.wanted, &work.see().await?);
    let is_bad = checks.iter().any(|check| matches!(check.outcome, Outcome::Failed { .. }));
    report.checks(checks);
    Ok(if is_bad { Exit::Bad } else { Exit::Done })
}

/// What is wanted and who is asked for it, or what is wrong with the arguments.
fn prepared(pair: &Pair, prefix: &str, config: &Config) -> Result<(Wanted, Clients), String> {
    for (option, bucket) in [("source", &pair.source_bucket), ("target", &pair.target_bucket)] {
        if !is_bucket_name(bucket) {
            return Err(format!("--{option}-bucket: {bucket:?} cannot be the name of a bucket"));
        }
    }
    let is_external = pair.target_profile.is_none();
    let roles = pair.role.as_deref().map(|roles| given_roles(roles, is_external)).transpose()?;
    let overrides = Overrides {
        source: pair.source_endpoint.as_deref(),
        source_iam: pair.source_iam_endpoint.as_deref(),
        target: pair.target_endpoint.as_deref(),
        target_iam: pair.target_iam_endpoint.as_deref(),
    };
    let site = pair.site_name.as_deref();
    let places = Places::of(config, &overrides, site, is_external, roles.is_none())?;
    let keys = Both {
        source: keys(&pair.source_profile)?,
        target: pair.target_profile.as_deref().map(keys).transpose()?,
    };
    let wanted = Wanted {
        source_bucket: pair.source_bucket.clone(),
        target_bucket: pair.target_bucket.clone(),
        target: places.target.as_ref().map_or(TargetSite::External, |target| target.kind),
        prefix: prefix.to_owned(),
        site: pair.site_name.clone(),
        asked_site: places.target.as_ref().and_then(|target| target.site.clone()),
        roles,
    };
    Ok((wanted, clients(config, &places, &keys)?))
}

/// One role stands for both sides.
fn given_roles(roles: &str, is_external: bool) -> Result<Both<String>, String> {
    let roles: Vec<String> = roles.split(',').map(|role| role.trim().to_owned()).collect();
    if let Some(wrong) =
        roles.iter().find(|role| !(role.starts_with("arn:aws:iam::") && role.contains(":role")))
    {
        return Err(format!("--role: {wrong:?} is not like arn:aws:iam::123456789012:role/name"));
    }
    match (roles.as_slice(), is_external) {
        ([source], true) => Ok(Both { source: source.clone(), target: None }),
        ([both], false) => Ok(Both { source: both.clone(), target: Some(both.clone()) }),
        ([source, target], false) => Ok(Both { source: source.clone(), target: Some(target.clone()) }),
        (_, true) => Err("--role: a cloud that is reached through the source has one role".to_owned()),
        (_, false) => Err("--role: there are two roles at most".to_owned()),
    }
}

fn keys(name: &str) -> Result<Credentials, String> {
    let file = match std::env::var_os("AWS_SHARED_CREDENTIALS_FILE").filter(|file| !file.is_empty()) {
        Some(file) => PathBuf::from(file),
        None => match std::env::var_os("HOME") {
            Some(home) => PathBuf::from(home).join(".aws/credentials"),
            None => return Err("neither AWS_SHARED_CREDENTIALS_FILE nor HOME is set".to_owned()),
        },
    };
    profile::read(&file, name).map_err(|error| error.to_string())
}

fn client(
    config: &Config,
    side: Side,
    place: &Place,
    keys: &Credentials,
    region: &str,
) -> Result<SignedClient, String> {
    let certificates = match side {
        Side::Source => production::SOURCE_CERTIFICATES,
        Side::Target => production::CERTIFICATES,
    };
    let transport =
        production::transport(config, place.transport, certificates).map_err(|error| error.to_string())?;
    Ok(SignedClient::over(&transport, place.endpoint.as_str(), keys.into(), region))
}

fn clients(config: &Config, places: &Places, keys: &Both<Credentials>) -> Result<Clients, String> {
    let client = |side, place: &Place, region: &str| -> Result<SignedClient, String> {
        let keys = keys.at(side).ok_or_else(|| format!("--{}-profile is missing", side_name(side)))?;
        client(config, side, place, keys, region)
    };
    let iam =
        |side, place: &Place| Ok::<_, String>(Iam::new(client(side, place, REGION)?, place.path.as_str()));
    let target = places.target.as_ref();
    let buckets = Both {
        source: Buckets::new(client(Side::Source, &places.source, REGION)?),
        target: target
            .map(|target| client(Side::Target, &target.s3, &target.region))
            .transpose()?
            .map(Buckets::new),
    };
    let iam = match &places.source_iam {
        None => None,
        Some(source) => {
            let target = target.and_then(|target| target.iam.as_ref());
            let target = target.map(|place| iam(Side::Target, place)).transpose()?;
            Some(Both { source: iam(Side::Source, source)?, target })
        }
    };
    // CloudServer takes the name of a location there, and has a default; stores of the other kind take the region.
    let location = target.filter(|target| target.kind == TargetSite::Minting && target.region != REGION);
    Ok(Clients { buckets, iam, location: location.map(|target| target.region.clone()) })
}

fn failure(error: &SetupError, report: &Report) -> Failure {
    let exit = match &error.trouble {
        Trouble::Conflict(_) => Exit::Refused,
        Trouble::Server(AdminError::NoAnswer(ClientError::TimedOut { .. })) => Exit::TimedOut,
        Trouble::Server(AdminError::NoAnswer(ClientError::Distrust { .. })) => Exit::NotPermitted,
        Trouble::Server(AdminError::NoAnswer(ClientError::Invalid { .. })) => Exit::Usage,
        Trouble::Server(AdminError::Refused(refused)) if [401, 403].contains(&refused.status.as_u16()) => {
            Exit::NotPermitted
        }
        Trouble::Server(error) if error.may_pass() => Exit::Temporary,
        Trouble::Server(_) => Exit::Error,
    };
    let done = report.what_was_done();
    Failure::say(exit, format_args!("{error}; {}{done}", error.advice()))
}
