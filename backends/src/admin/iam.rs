//! Roles and policies, by the query protocol of IAM.

use bytes::Bytes;

use super::{AdminError, absent, ask};
use crate::http::{Request, SignedClient, percent_decode};
use crate::xml;

/// Answers come in pages; more of them than this are no list of roles or policies.
const PAGES_MAX: usize = 1_000;

/// An IAM.
#[derive(Clone, Debug)]
pub struct Iam {
    client: SignedClient,
    path: String,
}

/// A managed policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
}

impl Iam {
    /// The one that `client` reaches at `path`.
    pub fn new(client: SignedClient, path: impl Into<String>) -> Self {
        Self { client: client.for_service("iam"), path: path.into() }
    }

    /// Host and port.
    pub fn endpoint(&self) -> &str {
        self.client.endpoint()
    }

    /// The ARN of a role; `None` if there is no such role.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn role(&self, name: &str) -> Result<Option<String>, AdminError> {
        let answer = absent(self.ask("GetRole", &[("RoleName", name)]).await, NONE)?;
        answer.map(|answer| self.text(&answer, "/Role/Arn", "a role")).transpose()
    }

    /// Makes a role that `trust` (a JSON document) says who may assume, and answers its ARN. One that is there already is
    /// left as it is.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn create_role(&self, name: &str, trust: &str) -> Result<String, AdminError> {
        let members = [("RoleName", name), ("Path", "/"), ("AssumeRolePolicyDocument", trust)];
        match absent(self.ask("CreateRole", &members).await, EXISTS)? {
            Some(answer) => self.text(&answer, "/Role/Arn", "a role"),
            None => self.role(name).await?.ok_or_else(|| self.unreadable("a role")),
        }
    }

    /// A managed policy of the account; `None` if there is none of this name.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn policy(&self, name: &str) -> Result<Option<Policy>, AdminError> {
        let listed = self.policies("ListPolicies", "Arn", ("Scope", "Local")).await?;
        Ok(listed.into_iter().find(|policy| policy.name == name))
    }

    /// Makes a managed policy and answers its ARN. One that is there already is left as it is.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn create_policy(&self, name: &str, document: &str) -> Result<String, AdminError> {
        let members = [("PolicyName", name), ("Path", "/"), ("PolicyDocument", document)];
        if let Some(answer) = absent(self.ask("CreatePolicy", &members).await, EXISTS)? {
            return self.text(&answer, "/Policy/Arn", "a policy");
        }
        let found = self.policy(name).await?;
        found.map(|policy| policy.arn).ok_or_else(|| self.unreadable("a policy"))
    }

    /// What a managed policy says now.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn document(&self, arn: &str) -> Result<String, AdminError> {
        let answer = self.ask("GetPolicy", &[("PolicyArn", arn)]).await?;
        let version = self.text(&answer, "/Policy/DefaultVersionId", "a policy")?;
        let members = [("PolicyArn", arn), ("VersionId", &version)];
        let answer = self.ask("GetPolicyVersion", &members).await?;
        let document = self.text(&answer, "/PolicyVersion/Document", "a version of a policy")?;
        Ok(plain(&document))
    }

    /// Has a managed policy say something else from now on; what it said is kept as an older version.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn change_policy(&self, arn: &str, document: &str) -> Result<(), AdminError> {
        let members = [("PolicyArn", arn), ("PolicyDocument", document), ("SetAsDefault", "true")];
        self.ask("CreatePolicyVersion", &members).await.map(|_| ())
    }

    /// The managed policies of a role.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn attached(&self, role: &str) -> Result<Vec<Policy>, AdminError> {
        self.policies("ListAttachedRolePolicies", "PolicyArn", ("RoleName", role)).await
    }

    /// What the policies say that a role has of its own.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn own_documents(&self, role: &str) -> Result<Vec<String>, AdminError> {
        let mut documents = Vec::new();
        let listed = self.pages("ListRolePolicies", ("RoleName", role)).await?;
        for (_, name) in listed.into_iter().filter(|(path, _)| path.ends_with("/PolicyNames/member")) {
            let members = [("RoleName", role), ("PolicyName", &name)];
            let answer = self.ask("GetRolePolicy", &members).await?;
            documents.push(plain(&self.text(&answer, "/PolicyDocument", "a policy of a role")?));
        }
        Ok(documents)
    }

    /// Gives a role a managed policy; one that it has already is fine.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn attach(&self, role: &str, policy: &str) -> Result<(), AdminError> {
        let members = [("RoleName", role), ("PolicyArn", policy)];
        self.ask("AttachRolePolicy", &members).await.map(|_| ())
    }

    /// All policies that `action` lists, whose ARNs are in members called `arn`.
    async fn policies(&self, action: &str, arn: &str, of: (&str, &str)) -> Result<Vec<Policy>, AdminError> {
        let (mut policies, mut name) = (Vec::new(), None);
        for (path, text) in self.pages(action, of).await? {
            if path.ends_with("/member/PolicyName") {
                name = Some(text);
            } else if path.ends_with(&format!("/member/{arn}")) {
                policies.push((name.take(), text));
            } else if let (true, Some((named @ None, _))) = (path.ends_with("/member"), policies.last_mut()) {
                // Members come in any order.
                *named = name.take();
            }
        }
        let policy = |(name, arn): (Option<String>, String)| Some(Policy { name: name?, arn });
        let policies: Option<Vec<Policy>> = policies.into_iter().map(policy).collect();
        policies.ok_or_else(|| self.unreadable("a list of policies"))
    }

    /// The elements of all pages of a list.
    async fn pages(&self, action: &str, of: (&str, &str)) -> Result<Vec<(String, String)>, AdminError> {
        let (mut all, mut marker) = (Vec::new(), None::<String>);
        for _ in 0..PAGES_MAX {
            let mut members = vec![of];
            members.extend(marker.as_deref().map(|marker| ("Marker", marker)));
            let answer = self.ask(action, &members).await?;
            let elements = xml::elements(&answer).ok_or_else(|| self.unreadable("a list"))?;
            let text = |end: &str| {
                elements.iter().find(|(path, _)| path.ends_with(end)).map(|(_, text)| text.trim())
            };
            let next = text("Result/Marker").filter(|_| text("Result/IsTruncated") == Some("true"));
            marker = next.map(str::to_owned);
            all.extend(elements);
            if marker.is_none() {
                return Ok(all);
            }
        }
        Err(self.unreadable("the end of a list"))
    }

    async fn ask(&self, action: &str, members: &[(&str, &str)]) -> Result<Bytes, AdminError> {
        let members = [&[("Action", action), ("Version", "2010-05-08")], members].concat();
        ask(&self.client, Request::form(self.path.as_str(), &members)).await
    }

    /// The text of the element whose path ends with `end`.
    fn text(&self, answer: &[u8], end: &str, what: &'static str) -> Result<String, AdminError> {
        let elements = xml::elements(answer).unwrap_or_default();
        let found = elements.into_iter().find(|(path, _)| path.ends_with(end));
        found.map(|(_, text)| text.trim().to_owned()).ok_or_else(|| self.unreadable(what))
    }

    fn unreadable(&self, what: &'static str) -> AdminError {
        AdminError::Unreadable { endpoint: self.endpoint().to_owned(), what }
    }
}

/// What IAM calls what is not there.
const NONE: &str = "NoSuchEntity";

/// What IAM says of what is there already.
const EXISTS: &str = "EntityAlreadyExists";

/// A document as IAM answers it: percent-encoded, by the book.
fn plain(document: &str) -> String {
    if document.starts_with('{') { document.to_owned() } else { percent_decode(document) }
}
