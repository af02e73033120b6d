//! Looking and carrying out.

use backbeat_backends::admin::{AdminError, Buckets, Iam};
use backbeat_core::model::{ReplicationConfiguration, StoredReplication};
use backbeat_core::request::Side;

use super::{
    Both, Conflict, Found, FoundIam, FoundPolicy, Plan, RoleSeen, Seen, SetupError, Step, Trouble, Wanted,
    policy,
};
use crate::patience::Patience;

/// Those who are asked.
#[derive(Debug)]
pub struct Clients {
    /// The stores.
    pub buckets: Both<Buckets>,
    /// Their IAMs; none if roles are given.
    pub iam: Option<Both<Iam>>,
    /// The region that a bucket of the target is made in, where its store wants that said.
    pub location: Option<String>,
}

impl Clients {
    fn iam_at(&self, side: Side) -> Option<&Iam> {
        self.iam.as_ref().and_then(|iam| iam.at(side))
    }
}

/// Looks and carries out, patiently.
#[derive(Debug)]
pub struct Work<'a> {
    /// What is wanted.
    pub wanted: &'a Wanted,
    /// Who is asked.
    pub clients: &'a Clients,
    /// For how long.
    pub patience: Patience,
}

/// The configuration that does what is wanted with these roles: `there` with our rule in it, or one of our own. `None` if `there`
/// is none.
pub(super) fn replication_document(wanted: &Wanted, there: Option<&str>, roles: &[String]) -> Option<String> {
    let rule = wanted.rule();
    let has_rules =
        |there: &&str| StoredReplication::read(there).is_none_or(|stored| !stored.rules.is_empty());
    if let Some(there) = there.filter(has_rules) {
        return rule.added_to(there);
    }
    let empty = ReplicationConfiguration {
        role: roles.join(","),
        destination: None,
        rules: Vec::new(),
        preferred_read_location: None,
    };
    rule.added_to(&empty.to_xml())
}

impl Work<'_> {
    /// Tries something until it is done.
    async fn ask<T>(
        &self,
        side: Side,
        doing: &str,
        attempt: impl AsyncFnMut() -> Result<T, AdminError>,
    ) -> Result<T, SetupError> {
        let answer = self.patience.with(doing, attempt).await;
        answer.map_err(|error| failure(side, doing, error))
    }

    fn buckets(&self, side: Side) -> Result<&Buckets, SetupError> {
        self.clients.buckets.at(side).ok_or_else(|| nobody(side))
    }

    fn iam(&self, side: Side) -> Result<&Iam, SetupError> {
        self.clients.iam_at(side).ok_or_else(|| nobody(side))
    }

    /// What there is for a plan.
    ///
    /// # Errors
    /// [`SetupError`]
    pub async fn look(&self) -> Result<Found, SetupError> {
        let (buckets, replication) = self.look_at_buckets().await?;
        let iam = if self.clients.iam.is_some() {
            let source = self.look_at_iam(Side::Source).await?;
            let has_target = self.wanted.sides().contains(&Side::Target);
            let target = if has_target { Some(self.look_at_iam(Side::Target).await?) } else { None };
            Some(Both { source, target })
        } else {
            None
        };
        Ok(Found { buckets, replication, iam })
    }

    /// What there is for the checks.
    ///
    /// # Errors
    /// [`SetupError`]: what has to be known was not said.
    pub async fn see(&self) -> Result<Seen, SetupError> {
        let (buckets, replication) = self.look_at_buckets().await?;
        let stored = replication.as_deref().and_then(StoredReplication::read).unwrap_or_default();
        let mut roles = Both { source: RoleSeen::NotAsked, target: Some(RoleSeen::NotAsked) };
        for (&side, arn) in self.wanted.sides().iter().zip(&stored.roles) {
            if let (Some(iam), Some(role)) = (self.clients.iam_at(side), roles.at_mut(side)) {
                *role = self.see_role(side, iam, arn).await?;
            }
        }
        Ok(Seen { buckets, replication, roles })
    }

    async fn look_at_buckets(
        &self,
    ) -> Result<(Both<Option<backbeat_backends::objects::Versioning>>, Option<String>), SetupError> {
        let mut found = Both { source: None, target: Some(None) };
        for &side in self.wanted.sides() {
            let (buckets, bucket) = (self.buckets(side)?, self.wanted.bucket(side));
            let doing = format!("looking at the bucket {bucket}");
            let versioning = self.ask(side, &doing, async || buckets.versioning(bucket).await).await?;
            if let Some(place) = found.at_mut(side) {
                *place = versioning;
            }
        }
        let replication = if found.source.is_some() { self.replication().await? } else { None };
        Ok((found, replication))
    }

    async fn replication(&self) -> Result<Option<String>, SetupError> {
        let bucket = &self.wanted.source_bucket;
        let doing = format!("looking at the replication configuration of {bucket}");
        let buckets = &self.clients.buckets.source;
        self.ask(Side::Source, &doing, async || buckets.replication(bucket).await).await
    }

    async fn look_at_iam(&self, side: Side) -> Result<FoundIam, SetupError> {
        let (iam, name) = (self.iam(side)?, self.wanted.name(side));
        let role =
            self.ask(side, &format!("looking at the role {name}"), async || iam.role(&name).await).await?;
        let doing = format!("looking at the policy {name}");
        let policy = self.ask(side, &doing, async || iam.policy(&name).await).await?;
        let policy = match policy {
            None => None,
            Some(policy) => {
                let document = self.ask(side, &doing, async || iam.document(&policy.arn).await).await?;
                Some(FoundPolicy { arn: policy.arn, document })
            }
        };
        let is_attached = match (&role, &policy) {
            (Some(_), Some(policy)) => {
                let doing = format!("looking at the policies of the role {name}");
                let attached = self.ask(side, &doing, async || iam.attached(&name).await).await?;
                attached.iter().any(|each| each.arn == policy.arn)
            }
            _ => false,
        };
        Ok(FoundIam { role, policy, is_attached })
    }

    async fn see_role(&self, side: Side, iam: &Iam, arn: &str) -> Result<RoleSeen, SetupError> {
        let name = arn.rsplit('/').next().unwrap_or(arn);
        let doing = format!("looking at the role {name}");
        let answer = self.patience.with(&doing, async || iam.role(name).await).await;
        let arn = match refusal(side, &doing, answer)? {
            Ok(Some(arn)) => arn,
            Ok(None) => return Ok(RoleSeen::Absent),
            Err(code) => return Ok(RoleSeen::Refused(code)),
        };
        let doing = format!("looking at the policies of the role {name}");
        let answer = self.patience.with(&doing, async || documents(iam, name).await).await;
        Ok(RoleSeen::There { arn, documents: refusal(side, &doing, answer)? })
    }

    /// Does what has something to do in `plan`, in its order, and tells `done` after each step.
    ///
    /// # Errors
    /// [`SetupError`]; what was told before is done and stays.
    pub async fn carry_out(
        &self,
        plan: &Plan,
        found: &Found,
        mut done: impl FnMut(&super::Item),
    ) -> Result<(), SetupError> {
        let iam = |side: Side| found.iam.as_ref().and_then(|iam| iam.at(side));
        let given = |side: Side| self.wanted.roles.as_ref().and_then(|roles| roles.at(side)).cloned();
        let known_role = |side| given(side).or_else(|| iam(side)?.role.clone());
        let known_policy = |side| Some(iam(side)?.policy.as_ref()?.arn.clone());
        let mut roles = Both { source: known_role(Side::Source), target: Some(known_role(Side::Target)) };
        let mut policies =
            Both { source: known_policy(Side::Source), target: Some(known_policy(Side::Target)) };
        for item in plan.to_do() {
            let side = item.step.side();
            let doing = &item.what;
            let name = self.wanted.name(side);
            let bucket = self.wanted.bucket(side);
            let policy_of = |side| policies.at(side).cloned().flatten().ok_or_else(|| nobody(side));
            match item.step {
                Step::CreateBucket(side) => {
                    let location = self.clients.location.as_deref().filter(|_| side == Side::Target);
                    let buckets = self.buckets(side)?;
                    self.ask(side, doing, async || buckets.create(bucket, location).await).await?;
                }
                Step::CreateRole(side) => {
                    let (iam, trust) = (self.iam(side)?, policy::trust());
                    let arn = self.ask(side, doing, async || iam.create_role(&name, &trust).await).await?;
                    roles.at_mut(side).map(|role| role.replace(arn));
                }
                Step::CreatePolicy(side) => {
                    let (iam, document) = (self.iam(side)?, policy::document(&self.wanted.rights(side)));
                    let arn =
                        self.ask(side, doing, async || iam.create_policy(&name, &document).await).await?;
                    policies.at_mut(side).map(|policy| policy.replace(arn));
                }
                Step::ChangePolicy(side) => {
                    let (iam, document) = (self.iam(side)?, policy::document(&self.wanted.rights(side)));
                    let arn = policy_of(side)?;
                    self.ask(side, doing, async || iam.change_policy(&arn, &document).await).await?;
                }
                Step::EnableVersioning(side) => {
                    let buckets = self.buckets(side)?;
                    self.ask(side, doing, async || buckets.enable_versioning(bucket).await).await?;
                }
                Step::AttachPolicy(side) => {
                    let (iam, arn) = (self.iam(side)?, policy_of(side)?);
                    self.ask(side, doing, async || iam.attach(&name, &arn).await).await?;
                }
                Step::PutReplication => {
                    let role = |&side: &Side| roles.at(side).cloned().flatten();
                    let roles: Option<Vec<String>> = self.wanted.sides().iter().map(role).collect();
                    let roles = roles.ok_or_else(|| nobody(Side::Source))?;
                    self.put_replication(doing, found.replication.as_deref(), &roles).await?;
                }
            }
            done(item);
        }
        Ok(())
    }

    async fn put_replication(
        &self,
        doing: &str,
        found: Option<&str>,
        roles: &[String],
    ) -> Result<(), SetupError> {
        let conflict =
            |why: &str| failure(Side::Source, doing, Conflict(format!("{why}: run the same command again")));
        // S3 knows no condition for this write: what came in between is at least looked for.
        if self.replication().await?.as_deref() != found {
            return Err(conflict("the replication configuration was changed meanwhile"));
        }
        let document = replication_document(self.wanted, found, roles)
            .ok_or_else(|| conflict("the replication configuration is not understood"))?;
        let (buckets, bucket) = (&self.clients.buckets.source, &self.wanted.source_bucket);
        self.ask(Side::Source, doing, async || buckets.put_replication(bucket, &document).await).await
    }
}

/// What the policies of a role say.
async fn documents(iam: &Iam, role: &str) -> Result<Vec<String>, AdminError> {
    let mut documents = Vec::new();
    for policy in iam.attached(role).await? {
        documents.push(iam.document(&policy.arn).await?);
    }
    match iam.own_documents(role).await {
        Ok(own) => documents.extend(own),
        // Not every IAM has policies that belong to one role.
        Err(AdminError::Refused(refused))
            if !refused.status.is_server_error() || refused.status.as_u16() == 501 => {}
        Err(error) => return Err(error),
    }
    Ok(documents)
}

/// A refusal for good is an answer; everything else ends the work.
fn refusal<T>(
    side: Side,
    doing: &str,
    answer: Result<T, AdminError>,
) -> Result<Result<T, String>, SetupError> {
    match answer {
        Ok(answer) => Ok(Ok(answer)),
        Err(AdminError::Refused(refused)) if !refused.status.is_server_error() => Ok(Err(refused.code)),
        Err(error) => Err(failure(side, doing, error)),
    }
}

fn failure(side: Side, doing: &str, trouble: impl Into<Trouble>) -> SetupError {
    SetupError { side, doing: doing.to_owned(), trouble: trouble.into() }
}

/// A plan asks for somebody whom it was not made for.
fn nobody(side: Side) -> SetupError {
    failure(side, "following the plan", Conflict("there is nobody to ask for this".to_owned()))
}
