//! The probe servers of daemons.

use anyhow::{Context, Result};
use serde::Deserialize as _;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::StartError;
use super::services::Services;
use crate::config::{ProbePlace, ProbeServer};
use crate::probe::{self, Health, ProbeAddress, Probes};

/// Serves the probes of a daemon as its section `probeServer` says; none if there is no section. What is asked is the
/// health of the whole daemon, or of the part for a site that has a server of its own.
pub(super) async fn serve<H: Health>(
    services: &Services,
    section: Option<&Value>,
    stopped: &watch::Receiver<bool>,
    tasks: &mut JoinSet<Result<()>>,
    health: impl Fn(Option<&str>) -> H,
) -> Result<(), StartError> {
    let Some(section) = section else { return Ok(()) };
    let places = match ProbeServer::deserialize(section) {
        Ok(ProbeServer::One(place)) => vec![place],
        Ok(ProbeServer::BySite(places)) => places,
        Err(error) => return Err(StartError::Configuration(format!("probeServer: {error}"))),
    };
    for ProbePlace { bind_address, port, site } in places {
        let listener = probe::listen(&ProbeAddress { bind_address, port })
            .await
            .map_err(|error| StartError::Configuration(error.to_string()))?;
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "probes and metrics");
        }
        let probes = Probes {
            health: health(site.as_deref()),
            metrics: services.metrics.clone(),
            log: Some(services.log.clone()),
        };
        let stopped = stopped.clone();
        tasks.spawn(async move {
            probe::serve(listener, probes, stopped).await.context("the probe server ended")
        });
    }
    Ok(())
}
