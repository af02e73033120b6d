//! What each service is told, in words that the public images and those of `ci/images` understand.

use anyhow::{Context as _, Result, bail, ensure};
use std::env;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use testcontainers::core::WaitFor;
use testcontainers::runners::SyncRunner as _;
use testcontainers::{Container, ContainerRequest, GenericImage, ImageExt as _};

/// How long a server may take to start; what is pulled before comes on top.
const READY_TIME_MAX: Duration = Duration::from_mins(5);

/// Where the image of ZooKeeper looks for its configuration, and where it may write.
const ZOOKEEPER_FILE: &str = "/conf/zoo.cfg";
const ZOOKEEPER_DATA: &str = "/data";
/// Where the image of Kafka may write.
const KAFKA_DATA: &str = "/var/lib/kafka/data";

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Redis,
    ZooKeeper,
    Kafka,
}

impl Service {
    pub(crate) fn named(name: &str) -> Result<Self> {
        match name {
            "redis" => Ok(Self::Redis),
            "zookeeper" => Ok(Self::ZooKeeper),
            "kafka" => Ok(Self::Kafka),
            _ => bail!("no service is called {name}"),
        }
    }

    /// The image that the environment names, or the public one.
    fn image(self) -> Result<GenericImage> {
        let (variable, public) = match self {
            Self::Redis => ("BACKBEAT_TEST_REDIS_IMAGE", "redis:7"),
            Self::ZooKeeper => ("BACKBEAT_TEST_ZOOKEEPER_IMAGE", "zookeeper:3.9"),
            Self::Kafka => ("BACKBEAT_TEST_KAFKA_IMAGE", "apache/kafka:3.9.1"),
        };
        let image = env::var(variable).unwrap_or_else(|_| public.to_owned());
        let (name, tag) = name_and_tag(&image);
        ensure!(!name.is_empty() && !tag.is_empty(), "{variable}: {image:?} is no name of an image");
        Ok(GenericImage::new(name, tag))
    }

    /// Starts one that listens at `port` of loopback and no other address. Redis and Kafka serve when this returns,
    /// ZooKeeper soon after.
    pub(crate) fn start(self, port: u16) -> Result<Container<GenericImage>> {
        let image = self.image()?;
        let request = match self {
            Self::Redis => redis(image, port),
            Self::ZooKeeper => zookeeper(image, port)?,
            Self::Kafka => kafka(image, port)?,
        };
        let request = request.with_network("host").with_startup_timeout(READY_TIME_MAX);
        request.start().with_context(|| format!("{self:?} does not start in a container"))
    }
}

/// Its server is the command `redis-server`.
fn redis(image: GenericImage, port: u16) -> ContainerRequest<GenericImage> {
    let port = port.to_string();
    image.with_wait_for(WaitFor::message_on_stdout("Ready to accept connections")).with_cmd([
        "redis-server",
        "--port",
        &port,
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
    ])
}

/// What it does when it is told nothing is to run with the file.
fn zookeeper(image: GenericImage, port: u16) -> Result<ContainerRequest<GenericImage>> {
    let configuration = configuration("zookeeper", ZOOKEEPER_DATA, port)?;
    Ok(image.with_copy_to(ZOOKEEPER_FILE, configuration.into_bytes()))
}

/// Its configuration are its variables that begin with `KAFKA_`.
fn kafka(image: GenericImage, port: u16) -> Result<ContainerRequest<GenericImage>> {
    let ready = WaitFor::message_on_stdout("Kafka Server started");
    let mut request = image.with_wait_for(ready).with_env_var("KAFKA_HEAP_OPTS", "-Xms64m -Xmx512m");
    for line in configuration("kafka", KAFKA_DATA, port)?.lines() {
        let (name, value) = line.split_once('=').with_context(|| format!("{line} is no property"))?;
        request = request.with_env_var(variable(name)?, value);
    }
    Ok(request)
}

/// The variable that stands for a property of Kafka in its image.
fn variable(property: &str) -> Result<String> {
    let is_plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '.';
    ensure!(property.chars().all(is_plain), "{property} cannot be told by a variable");
    Ok(format!("KAFKA_{}", property.replace('.', "_").to_uppercase()))
}

/// The configuration that the suites want, the same as without containers.
fn configuration(name: &str, data: &str, port: u16) -> Result<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ci/services");
    let mut command = Command::new(&script);
    let output = command.args(["configuration", name, data, &port.to_string()]).output();
    let output = output.with_context(|| format!("failed to run {}", script.display()))?;
    ensure!(output.status.success(), "ci/services: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8(output.stdout)?)
}

/// `latest` if there is no tag; the port of a registry is none.
fn name_and_tag(image: &str) -> (&str, &str) {
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        Some(_) | None => (image, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_with_a_port_is_not_taken_for_a_tag() {
        assert_eq!(name_and_tag("redis:7"), ("redis", "7"));
        assert_eq!(name_and_tag("redis"), ("redis", "latest"));
        assert_eq!(name_and_tag("localhost:5000/redis"), ("localhost:5000/redis", "latest"));
        assert_eq!(name_and_tag("localhost:5000/redis:7"), ("localhost:5000/redis", "7"));
    }

    #[test]
    fn properties_have_variables() {
        assert_eq!(variable("log.dirs").ok().as_deref(), Some("KAFKA_LOG_DIRS"));
        assert!(variable("some_thing").is_err());
    }

    #[test]
    fn the_suites_configuration_can_be_told_to_an_image() -> Result<()> {
        let request = kafka(GenericImage::new("kafka", "1"), 9092)?;
        let told: Vec<_> = request.env_vars().map(|(name, value)| format!("{name}={value}")).collect();
        assert!(told.contains(&format!("KAFKA_LOG_DIRS={KAFKA_DATA}")), "{told:?}");
        assert!(
            told.iter().any(|line| line.starts_with("KAFKA_LISTENERS=PLAINTEXT://127.0.0.1:9092,")),
            "{told:?}"
        );
        Ok(())
    }
}
