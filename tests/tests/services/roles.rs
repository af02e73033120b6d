//! Roles at an STS that nobody here wrote: moto, which looks at signatures and policies.

use anyhow::{Context as _, Result, ensure};
use backbeat_backends::clock::WallClock;
use backbeat_backends::credentials::renewing::Renewing;
use backbeat_backends::credentials::sts::AssumeRole;
use backbeat_backends::credentials::{CredentialSource as _, CredentialsError};
use backbeat_backends::http::{Credentials, Request, SignedClient};
use backbeat_tests::client;
use backbeat_tests::services::OwnMoto;
use backbeat_tests::suite::Test;
use std::time::Duration;

const REGION: &str = "us-east-1";
const ACCOUNT: &str = "123456789012";
const TIME_MAX: Duration = Duration::from_mins(1);

pub(crate) fn tests() -> Vec<Test> {
    vec![Test::new("roles::a_role_is_assumed_by_whom_it_trusts", client::moto(), assume)]
}

/// One action of IAM, and what it answers.
async fn iam(client: &SignedClient, members: &[(&str, &str)]) -> Result<String> {
    let members: Vec<(&str, &str)> = [members, &[("Version", "2010-05-08")]].concat();
    let request = Request::form("/", &members);
    let answer = client.fetch(request, TIME_MAX, 1 << 20).await?;
    let text = String::from_utf8(answer.body().to_vec())?;
    ensure!(answer.status().is_success(), "{members:?}: {text}");
    Ok(text)
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> Result<&'a str> {
    let rest = text.split(begin).nth(1).with_context(|| format!("no {begin} in {text}"))?;
    rest.split(end).next().context("it does not end")
}

fn assume() -> Result<()> {
    // Whoever makes users and roles need not say who they are; from then on everybody has to.
    let mut moto = OwnMoto::start(4)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let anybody =
            SignedClient::new(moto.address(), Credentials::new("anybody", "anything"), REGION).for_service("iam");
        let trust = format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"arn:aws:iam::{ACCOUNT}:user/backbeat"}},"Action":"sts:AssumeRole"}}]}}"#
        );
        let may = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}]}"#;
        iam(&anybody, &[("Action", "CreateRole"), ("RoleName", "copier"), ("AssumeRolePolicyDocument", &trust)]).await?;
        iam(&anybody, &[("Action", "CreateUser"), ("UserName", "backbeat")]).await?;
        iam(
            &anybody,
            &[("Action", "PutUserPolicy"), ("UserName", "backbeat"), ("PolicyName", "p"), ("PolicyDocument", may)],
        )
        .await?;
        let keys = iam(&anybody, &[("Action", "CreateAccessKey"), ("UserName", "backbeat")]).await?;
        let access = between(&keys, "<AccessKeyId>", "</AccessKeyId>")?;
        let secret = between(&keys, "<SecretAccessKey>", "</SecretAccessKey>")?;

        let role = |secret: &str| {
            let client = SignedClient::new(moto.address(), Credentials::new(access, secret), REGION);
            let arn = format!("arn:aws:iam::{ACCOUNT}:role/copier");
            Renewing::new(AssumeRole::new(client, arn, "backbeat-replication"), WallClock::system())
        };
        let source = role(secret);
        let held = source.current().await?;
        ensure!(held.access_key != access && held.session_token.is_some(), "{held:?}");
        let left = held.expires.context("they end")?.as_millis() - WallClock::system().now().as_millis();
        ensure!((3_500_000..=3_600_000).contains(&left), "they live for another {left} ms");
        ensure!(source.current().await? == held, "they are good for an hour");
        source.reject(&held).await;
        ensure!(source.current().await? != held, "they were rejected");

        let error = role("another-secret").current().await.err().context("anybody may")?;
        ensure!(matches!(error, CredentialsError::Denied(_)), "{error}");
        ensure!(!error.to_string().contains("another-secret"), "{error}");
        anyhow::Ok(())
    })?;
    let role = AssumeRole::new(
        SignedClient::new(moto.address(), Credentials::new("key", "secret"), REGION),
        format!("arn:aws:iam::{ACCOUNT}:role/copier"),
        "backbeat-replication",
    );
    moto.kill()?;
    let error =
        runtime.block_on(Renewing::new(role, WallClock::system()).current()).err().context("it is gone")?;
    ensure!(matches!(error, CredentialsError::Unavailable(_)), "{error}");
    Ok(())
}
