//! Whom to ask: from the configuration as upstream has it, and from options over it (replication reference 9).

use backbeat_core::request::Side;
use serde::de::DeserializeOwned;

use super::{TargetSite, side_name};
use crate::config::{BootstrapSite, Config, HostAndPort, S3_SITE, Transport};

const SOURCE: &str = "/extensions/replication/source";
const DESTINATION: &str = "/extensions/replication/destination";

/// Where the front of a site hands on what is for its IAM (replication reference 8.3).
const IAM_PATH: &str = "/_/backbeat/iam";

/// The region of requests where none is configured: CloudServer does not compare it.
const REGION: &str = "us-east-1";

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// How it is spoken to.
    pub transport: Transport,
    /// `host:port`.
    pub endpoint: String,
    /// The path that requests begin with.
    pub path: String,
}

/// Places that options name, over the configuration.
#[derive(Clone, Debug, Default)]
pub struct Overrides<'a> {
    /// The source's S3.
    pub source: Option<&'a str>,
    /// The source's IAM.
    pub source_iam: Option<&'a str>,
    /// The target's S3.
    pub target: Option<&'a str>,
    /// The target's IAM.
    pub target_iam: Option<&'a str>,
}

/// Everybody who is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The source's S3.
    pub source: Place,
    /// The source's IAM; none if roles are given.
    pub source_iam: Option<Place>,
    /// The target; none if it is a cloud.
    pub target: Option<TargetPlaces>,
}

/// The target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetPlaces {
    /// Its name in the bootstrap list, if it is from there.
    pub site: Option<String>,
    /// What kind of site it is.
    pub kind: TargetSite,
    /// Its S3.
    pub s3: Place,
    /// Its IAM; none if roles are given.
    pub iam: Option<Place>,
    /// The region that is signed for.
    pub region: String,
}

impl Places {
    /// The places for a target named `site`, if a name is given, that is prepared or `is_external`. Without IAM where roles are
    /// given.
    ///
    /// # Errors
    /// What is missing or wrong, and what to do.
    pub fn of(
        config: &Config,
        overrides: &Overrides<'_>,
        site: Option<&str>,
        is_external: bool,
        with_iam: bool,
    ) -> Result<Self, String> {
        let source = Place::of_source(config, overrides.source)?;
        let transport = transport(config, SOURCE);
        let source_iam = if with_iam {
            let named = Place::named("--source-iam-endpoint", overrides.source_iam, transport)?;
            let place = named.or_else(|| vault(config, SOURCE, transport));
            Some(place.ok_or_else(|| no_iam(Side::Source))?)
        } else {
            None
        };
        let target = if is_external {
            external(config, site)?
        } else {
            Some(target(config, overrides, site, with_iam)?)
        };
        Ok(Self { source, source_iam, target })
    }
}

impl Place {
    /// The source's S3, as an option names it or as it is configured.
    ///
    /// # Errors
    /// What is missing or wrong, and what to do.
    pub fn of_source(config: &Config, named: Option<&str>) -> Result<Self, String> {
        let transport = transport(config, SOURCE);
        let configured = || at(config, &format!("{SOURCE}/s3"));
        let configured = || configured().map(|s3: HostAndPort| Self::of(transport, s3.endpoint(), "/"));
        let place = Self::named("--source-endpoint", named, transport)?.or_else(configured);
        place.ok_or_else(|| {
            "extensions.replication.source.s3: missing; name a configuration with --config, or the place with --source-endpoint".to_owned()
        })
    }

    fn of(transport: Transport, endpoint: String, path: &str) -> Self {
        Self { transport, endpoint, path: path.to_owned() }
    }

    /// The place that an option names, if it is there.
    fn named(option: &str, text: Option<&str>, transport: Transport) -> Result<Option<Self>, String> {
        let place = text.map(|text| Self::parse(text, transport)).transpose();
        place.map_err(|why| format!("{option}: {why}"))
    }

    /// Reads `[http[s]://]host[:port][/path]`.
    fn parse(text: &str, transport: Transport) -> Result<Self, String> {
        let (transport, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Transport::Http, rest),
            Some(("https", rest)) => (Transport::Https, rest),
            Some((scheme, _)) => return Err(format!("{scheme} is not spoken: use http or https")),
            None => (transport, text),
        };
        let (endpoint, path) = rest.split_once('/').unwrap_or((rest, ""));
        // Not told what was there: it may be a secret.
        if rest.contains(['@', '?', '#', ' ']) {
            return Err("no more than scheme, host, port and path; keys come from profiles".to_owned());
        }
        let (host, port) = match endpoint.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| format!("{port} is no port"))?)
            }
            _ => (endpoint, transport.port_default()),
        };
        if host.is_empty() {
            return Err("there is no host".to_owned());
        }
        Ok(Self::of(transport, format!("{host}:{port}"), &format!("/{}", path.trim_end_matches('/'))))
    }
}

fn at<T: DeserializeOwned>(config: &Config, pointer: &str) -> Option<T> {
    T::deserialize(config.value(pointer)?).ok()
}

fn transport(config: &Config, section: &str) -> Transport {
    at(config, &format!("{section}/transport")).unwrap_or_default()
}

/// `auth.vault`, where people make roles.
fn vault(config: &Config, section: &str, transport: Transport) -> Option<Place> {
    let host: String = at(config, &format!("{section}/auth/vault/host"))?;
    let port: u16 = at(config, &format!("{section}/auth/vault/adminPort"))?;
    Some(Place::of(transport, format!("{host}:{port}"), "/"))
}

fn no_iam(side: Side) -> String {
    let (section, side) = match side {
        Side::Source => ("source", side_name(side)),
        Side::Target => ("destination", side_name(side)),
    };
    format!(
        "extensions.replication.{section}.auth.vault: host or adminPort is missing; name the IAM with --{side}-iam-endpoint, or, where there is none, the roles with --role"
    )
}

fn bootstrap_list(config: &Config) -> Vec<BootstrapSite> {
    at(config, &format!("{DESTINATION}/bootstrapList")).unwrap_or_default()
}

fn is_cloud(site: &BootstrapSite) -> bool {
    site.kind.as_deref().is_some_and(|kind| kind != S3_SITE)
}

fn unknown_site(name: &str, list: &[BootstrapSite]) -> String {
    let known: Vec<&str> = list.iter().map(|site| site.site.as_str()).collect();
    format!("the bootstrap list has no site {name}; it has: {}", known.join(", "))
}

/// There is nobody to ask at a cloud; that it is one is looked up.
fn external(config: &Config, name: Option<&str>) -> Result<Option<TargetPlaces>, String> {
    let list = bootstrap_list(config);
    let name = name.unwrap_or_default();
    match list.iter().find(|site| site.site == name) {
        Some(site) if !is_cloud(site) => Err(format!(
            "the site {name} has servers of its own: name whose bucket it is with --target-profile"
        )),
        None if !list.is_empty() => Err(unknown_site(name, &list)),
        Some(_) | None => Ok(None),
    }
}

fn target(
    config: &Config,
    overrides: &Overrides<'_>,
    name: Option<&str>,
    with_iam: bool,
) -> Result<TargetPlaces, String> {
    let list = bootstrap_list(config);
    let site = match name {
        Some(name) => {
            let found = list.iter().find(|site| site.site == name);
            if found.is_none() && (overrides.target.is_none() || !list.is_empty()) {
                return Err(unknown_site(name, &list));
            }
            if found.is_some_and(is_cloud) {
                return Err(format!(
                    "the site {name} is a cloud that is reached through the source: leave --target-profile out"
                ));
            }
            found
        }
        None => list.iter().find(|site| !is_cloud(site) && !site.servers.is_empty()),
    };
    let options = site.map(|site| &site.s3);
    let transport =
        options.and_then(|options| options.transport).unwrap_or_else(|| transport(config, DESTINATION));
    let s3 = match (Place::named("--target-endpoint", overrides.target, transport)?, site) {
        (Some(place), _) => place,
        (None, Some(site)) => {
            let server = site.endpoints(transport.port_default()).into_iter().next();
            Place::of(transport, server.ok_or_else(|| format!("the site {} has no servers", site.site))?, "/")
        }
        (None, None) => {
            return Err("extensions.replication.destination.bootstrapList: no site has servers; name a configuration with --config, or the place with --target-endpoint".to_owned());
        }
    };
    let kind = match site.and_then(|site| site.kind.as_deref()) {
        Some(S3_SITE) => TargetSite::Minting,
        Some(_) | None => TargetSite::Keeping,
    };
    let iam = if with_iam {
        let named = Place::named("--target-iam-endpoint", overrides.target_iam, transport)?;
        let behind_the_front = || Place { path: IAM_PATH.to_owned(), ..s3.clone() };
        let place = named
            .or_else(|| vault(config, DESTINATION, transport))
            .or_else(|| (kind == TargetSite::Keeping).then(behind_the_front));
        Some(place.ok_or_else(|| no_iam(Side::Target))?)
    } else {
        None
    };
    let region = options.and_then(|options| options.region.clone()).unwrap_or_else(|| REGION.to_owned());
    Ok(TargetPlaces { site: site.map(|site| site.site.clone()), kind, s3, iam, region })
}

#[cfg(test)]
mod tests;
