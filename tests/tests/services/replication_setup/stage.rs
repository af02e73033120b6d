//! What the cases work with: profiles and configurations, servers, and those who ask them directly.

use anyhow::{Context as _, Result, ensure};
use backbeat_backends::http::{Body, Credentials, Request, SignedClient};
use backbeat_tests::binary;
use backbeat_tests::client;
use backbeat_tests::dev::{Dev, Place};
use backbeat_tests::services::OwnMoto;
use http::Method;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

const REGION: &str = "us-east-1";
pub(super) const TIME_MAX: Duration = Duration::from_mins(1);
pub(super) const SECRET: &str = "hush-hush-secret";
/// Every request of a moto that asks nobody who they are.
const ALL: u32 = u32::MAX;

/// A folder with profiles and a configuration.
pub(super) struct Desk {
    pub(super) folder: tempfile::TempDir,
}

impl Desk {
    pub(super) fn new(profiles: &[(&str, &str, &str)]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let desk = Self { folder };
        let profile = |(name, access, secret): &(&str, &str, &str)| {
            format!("[{name}]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n")
        };
        let profiles = profiles.iter().map(profile).collect::<Vec<_>>().concat();
        std::fs::write(desk.file("credentials"), profiles)?;
        desk.configure(&json!({}))?;
        Ok(desk)
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn configure(&self, replication: &Value) -> Result<()> {
        let configuration = json!({"extensions": {"replication": replication}});
        Ok(std::fs::write(self.file("config.json"), configuration.to_string())?)
    }

    /// Runs the command; whatever it says, it says no secret.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<Told> {
        let mut command = Command::new(binary::backbeat()?);
        command.arg("replication").args(arguments).arg("--config").arg(self.file("config.json"));
        command.env("AWS_SHARED_CREDENTIALS_FILE", self.file("credentials")).env("RUST_LOG", "trace");
        client::without_own_settings(&mut command);
        let Output { status, stdout, stderr } = command.output().context("failed to start backbeat")?;
        let told = Told {
            code: status.code().context("it was killed")?,
            stdout: String::from_utf8(stdout)?,
            stderr: String::from_utf8(stderr)?,
        };
        for text in [&told.stdout, &told.stderr] {
            ensure!(!text.contains(SECRET), "a secret is told: {text}");
            ensure!(!text.contains("panicked"), "{text}");
        }
        Ok(told)
    }

    /// A command about photos and photos-copy.
    pub(super) fn pair(&self, action: &str, more: &[&str]) -> Result<Told> {
        let buckets = ["--source-bucket", "photos", "--target-bucket", "photos-copy"];
        let profiles = ["--source-profile", "here", "--target-profile", "there", "--retry-time", "1"];
        self.run(&[&[action], &buckets[..], &profiles, more].concat())
    }
}

/// How a command ended and what it said.
pub(super) struct Told {
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Told {
    pub(super) fn ended(self, code: i32) -> Result<Self> {
        ensure!(self.code == code, "ended with {}: {}{}", self.code, self.stdout, self.complaints());
        Ok(self)
    }

    /// What it says itself, without the log.
    fn complaints(&self) -> String {
        let lines =
            self.stderr.lines().filter(|line| line.starts_with("backbeat: ") || line.starts_with("error: "));
        lines.collect::<Vec<_>>().join("\n")
    }

    pub(super) fn says(&self, words: &str) -> Result<()> {
        let all = format!("{}{}", self.stdout, self.stderr);
        ensure!(all.contains(words), "nothing about {words}: {}{}", self.stdout, self.complaints());
        Ok(())
    }

    pub(super) fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("not JSON: {}{}", self.stdout, self.stderr))
    }

    /// The states of the plan's steps, or of the checks.
    pub(super) fn states(&self, list: &str) -> Result<Vec<String>> {
        let document = self.json()?;
        let list = document[list].as_array().with_context(|| format!("no {list} in {document}"))?;
        Ok(list.iter().map(|each| each["state"].as_str().unwrap_or_default().to_owned()).collect())
    }
}

/// Somebody who asks a server directly.
pub(super) struct Asker {
    pub(super) s3: SignedClient,
    pub(super) runtime: tokio::runtime::Runtime,
}

impl Asker {
    pub(super) fn new(address: &str, access: &str, secret: &str) -> Result<Self> {
        let s3 = SignedClient::new(address, Credentials::new(access, secret), REGION);
        Ok(Self { s3, runtime: tokio::runtime::Runtime::new()? })
    }

    pub(super) fn ask(&self, client: &SignedClient, request: Request) -> Result<(u16, String)> {
        let answer = self.runtime.block_on(client.fetch(request, TIME_MAX, 1 << 20))?;
        Ok((answer.status().as_u16(), String::from_utf8(answer.body().to_vec())?))
    }

    pub(super) fn iam(&self, members: &[(&str, &str)]) -> Result<String> {
        let members = [members, &[("Version", "2010-05-08")]].concat();
        let (status, text) = self.ask(&self.s3.clone().for_service("iam"), Request::form("/", &members))?;
        ensure!(status == 200, "{members:?}: {text}");
        Ok(text)
    }

    pub(super) fn s3(
        &self,
        method: Method,
        path: &str,
        query: Option<&str>,
        body: &str,
    ) -> Result<(u16, String)> {
        let mut request = Request::new(method, path).body(Body::full(body.to_owned()));
        if let Some(query) = query {
            request = request.query(query, "");
        }
        self.ask(&self.s3, request)
    }

    pub(super) fn put(&self, path: &str, query: Option<&str>, body: &str) -> Result<()> {
        let (status, text) = self.s3(Method::PUT, path, query, body)?;
        ensure!(status == 200, "{path} {query:?}: {status} {text}");
        Ok(())
    }

    pub(super) fn replication(&self) -> Result<String> {
        Ok(self.s3(Method::GET, "/photos", Some("replication"), "")?.1)
    }

    pub(super) fn versioning(&self, bucket: &str, status: &str) -> Result<()> {
        let body = format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>");
        self.put(&format!("/{bucket}"), Some("versioning"), &body)
    }

    /// How many roles and policies there are.
    pub(super) fn counts(&self) -> Result<(usize, usize)> {
        let roles = self.iam(&[("Action", "ListRoles")])?.matches("<RoleName>").count();
        let policies = self.iam(&[("Action", "ListPolicies"), ("Scope", "Local")])?;
        Ok((roles, policies.matches("<PolicyName>").count()))
    }

    /// The name of the one role there is.
    pub(super) fn role(&self) -> Result<String> {
        Ok(between(&self.iam(&[("Action", "ListRoles")])?, "RoleName")?.to_owned())
    }
}

pub(super) fn between<'a>(text: &'a str, name: &str) -> Result<&'a str> {
    let rest = text.split(&format!("<{name}>")).nth(1).with_context(|| format!("no {name} in {text}"))?;
    rest.split('<').next().context("it does not end")
}

pub(super) fn server(address: &str) -> Result<(String, u16)> {
    let (host, port) = address.rsplit_once(':').context("a port")?;
    Ok((host.to_owned(), port.parse()?))
}

/// Two stores, each with an IAM, and a configuration as upstream has it.
pub(super) struct Stage {
    pub(super) desk: Desk,
    pub(super) source: Asker,
    pub(super) target: Asker,
    pub(super) _servers: [OwnMoto; 2],
}

impl Stage {
    pub(super) fn new() -> Result<Self> {
        let servers = [OwnMoto::start(ALL)?, OwnMoto::start(ALL)?];
        let [source, target] = [servers[0].address(), servers[1].address()];
        let desk = Desk::new(&[("here", "key-one", SECRET), ("there", "key-two", SECRET)])?;
        let vault = |address: &str| -> Result<Value> {
            let (host, port) = server(address)?;
            Ok(json!({"type": "role", "vault": {"host": host, "port": 1, "adminPort": port}}))
        };
        let (host, port) = server(&source)?;
        desk.configure(&json!({
            "source": {"s3": {"host": host, "port": port}, "auth": vault(&source)?},
            "destination": {"auth": vault(&target)?, "bootstrapList": [
                {"site": "cloud", "type": "aws_s3"}, {"site": "paris", "servers": [target]}]},
        }))?;
        let asker = |address: &str| Asker::new(address, "anybody", "anything");
        Ok(Self { desk, source: asker(&source)?, target: asker(&target)?, _servers: servers })
    }
}

/// A `dev` and the arguments for its sites.
pub(super) fn running() -> Result<(Desk, Dev, Asker, Asker, Vec<String>)> {
    let desk = Desk::new(&[
        ("here", "backbeat-dev", "backbeat-dev-secret"),
        ("there", "backbeat-dev", "backbeat-dev-secret"),
    ])?;
    let mut place = Place::new(desk.folder.path());
    let dev = place.start_ready()?;
    let addresses = place.addresses()?;
    let paris = &addresses.targets.first().context("a target")?.1;
    let arguments = ["--source-endpoint", &addresses.source, "--target-endpoint", paris];
    let arguments = arguments.iter().map(ToString::to_string).collect();
    let asker = |address: &str| Asker::new(address, "backbeat-dev", "backbeat-dev-secret");
    let (source, target) = (asker(&addresses.source)?, asker(paris)?);
    Ok((desk, dev, source, target, arguments))
}
