//! Access control lists: what is asked for in headers and documents, and as CloudServer keeps and shows it.

use crate::site::error::{Outcome, Refusal};
use crate::site::headers::header;
use crate::site::metadata::Site;
use backbeat_core::model::ObjectMd;
use http::HeaderMap;
use s3s::dto::{AccessControlPolicy, Grant, Grantee, Owner, Permission, Type};
use serde::{Deserialize, Serialize};

const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
const AUTHENTICATED_USERS: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";
const LOG_DELIVERY: &str = "http://acs.amazonaws.com/groups/s3/LogDelivery";
const GROUPS: [&str; 3] = [ALL_USERS, AUTHENTICATED_USERS, LOG_DELIVERY];
const CANNED: [&str; 7] = [
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
];
/// Only for buckets.
const CANNED_LOG: &str = "log-delivery-write";
/// Grants of one list, as S3 limits them.
const GRANTS_MAX: usize = 100;

/// A list as metadata keeps it: either the name of a usual one, or who has what. The owner is never in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::site) struct Acl {
    #[serde(rename = "Canned")]
    canned: String,
    #[serde(rename = "FULL_CONTROL")]
    full_control: Vec<String>,
    /// Buckets only.
    #[serde(rename = "WRITE", default, skip_serializing_if = "Option::is_none")]
    write: Option<Vec<String>>,
    #[serde(rename = "WRITE_ACP")]
    write_acp: Vec<String>,
    #[serde(rename = "READ")]
    read: Vec<String>,
    #[serde(rename = "READ_ACP")]
    read_acp: Vec<String>,
}

/// What a list is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::site) enum Of {
    Bucket,
    Object,
}

impl Acl {
    /// What is stored where nobody asked for anything.
    pub(in crate::site) fn private(of: Of) -> Self {
        Self::canned(of, "private")
    }

    fn canned(of: Of, name: &str) -> Self {
        Self {
            canned: name.into(),
            full_control: Vec::new(),
            write: (of == Of::Bucket).then(Vec::new),
            write_acp: Vec::new(),
            read: Vec::new(),
            read_acp: Vec::new(),
        }
    }

    pub(in crate::site) fn to_json(&self) -> Outcome<String> {
        serde_json::to_string(self).map_err(|_| Refusal::internal())
    }

    /// What an object's metadata says.
    pub(in crate::site) fn of(md: &ObjectMd) -> Self {
        let stored = md.member("acl").and_then(|json| serde_json::from_str(json.as_str()).ok());
        stored.unwrap_or_else(|| Self::private(Of::Object))
    }

    /// What the headers of a request ask for: a usual list, or grants, or nothing.
    pub(in crate::site) fn asked(site: &Site, headers: &HeaderMap, of: Of) -> Outcome<Option<Self>> {
        let granting = PERMISSIONS.into_iter().filter_map(|permission| {
            let name = format!("x-amz-grant-{}", permission.replace('_', "-").to_ascii_lowercase());
            Some((permission, header(headers, &name)?.to_owned()))
        });
        let granting: Vec<_> = granting.collect();
        match header(headers, "x-amz-acl") {
            Some(_) if !granting.is_empty() => {
                Err(Refusal::invalid_request("Specifying both Canned ACLs and Header Grants is not allowed"))
            }
            Some(name) if CANNED.contains(&name) || (of == Of::Bucket && name == CANNED_LOG) => {
                Ok(Some(Self::canned(of, name)))
            }
            Some(_) => Err(Refusal::invalid_argument()),
            None if granting.is_empty() => Ok(None),
            None => {
                let mut acl = Self::canned(of, "");
                for (permission, list) in granting {
                    for grantee in list.split(',') {
                        let (kind, value) =
                            grantee.trim().split_once('=').ok_or(Refusal::invalid_argument())?;
                        let value = value.trim().trim_matches('"').to_owned();
                        let grantee = match kind.trim().to_ascii_lowercase().as_str() {
                            "id" => Wanting::Id(value),
                            "uri" => Wanting::Group(value),
                            "emailaddress" => Wanting::Address,
                            _ => return Err(Refusal::invalid_argument()),
                        };
                        acl.grant(site, permission, grantee)?;
                    }
                }
                Ok(Some(acl))
            }
        }
    }

    /// What a document asks for.
    pub(in crate::site) fn of_document(
        site: &Site,
        policy: AccessControlPolicy,
        owner: &str,
        of: Of,
    ) -> Outcome<Self> {
        if policy.owner.and_then(|owner| owner.id).is_some_and(|id| id != owner) {
            return Err(Refusal::access_denied());
        }
        let grants = policy.grants.unwrap_or_default();
        if grants.len() > GRANTS_MAX {
            return Err(Refusal::malformed_acl());
        }
        let mut acl = Self::canned(of, "");
        for grant in grants {
            let permission = grant.permission.ok_or(Refusal::malformed_acl())?;
            let permission = PERMISSIONS.into_iter().find(|known| *known == permission.as_str());
            let permission = permission.ok_or(Refusal::malformed_acl())?;
            let wanting = match grant.grantee.ok_or(Refusal::malformed_acl())? {
                Grantee { id: Some(id), .. } => Wanting::Id(id),
                Grantee { uri: Some(uri), .. } => Wanting::Group(uri),
                Grantee { email_address: Some(_), .. } => Wanting::Address,
                _ => return Err(Refusal::malformed_acl()),
            };
            acl.grant(site, permission, wanting)?;
        }
        Ok(acl)
    }

    /// Adds one grant, to somebody whom the site knows.
    fn grant(&mut self, site: &Site, permission: &str, wanting: Wanting) -> Outcome<()> {
        let grantee = match wanting {
            Wanting::Address => {
                return Err(Refusal {
                    code: "UnresolvableGrantByEmailAddress",
                    ..Refusal::invalid_argument()
                }
                .with_message("The e-mail address you provided does not match any account on record."));
            }
            Wanting::Id(id) if site.config().accounts.iter().any(|account| account.canonical_id == id) => id,
            Wanting::Group(uri) if GROUPS.contains(&uri.as_str()) => uri,
            Wanting::Id(_) => return Err(Refusal::invalid_argument().with_message("Invalid id")),
            Wanting::Group(_) => return Err(Refusal::invalid_argument().with_message("Invalid group uri")),
        };
        let list = match permission {
            "FULL_CONTROL" => &mut self.full_control,
            "WRITE_ACP" => &mut self.write_acp,
            "READ" => &mut self.read,
            "READ_ACP" => &mut self.read_acp,
            // Who may write an object is a matter of its bucket: a grant that S3 takes and ignores.
            _ => match &mut self.write {
                Some(list) => list,
                None => return Ok(()),
            },
        };
        if !list.contains(&grantee) {
            list.push(grantee);
        }
        Ok(())
    }

    /// The grants of a list in full.
    pub(in crate::site) fn grants(&self, site: &Site, owner: &Owner, bucket_owner: &str) -> Vec<Grant> {
        let named = |grantee: &str, permission: &'static str| grant_to(site, grantee, permission);
        let mut grants = vec![Grant {
            grantee: Some(user(owner.id.clone().unwrap_or_default(), owner.display_name.clone())),
            permission: Some(Permission::from_static("FULL_CONTROL")),
        }];
        let canned: &[(&str, &'static str)] = match self.canned.as_str() {
            "public-read" => &[(ALL_USERS, "READ")],
            "public-read-write" => &[(ALL_USERS, "READ"), (ALL_USERS, "WRITE")],
            "authenticated-read" => &[(AUTHENTICATED_USERS, "READ")],
            CANNED_LOG => &[(LOG_DELIVERY, "WRITE"), (LOG_DELIVERY, "READ_ACP")],
            "bucket-owner-read" => &[(bucket_owner, "READ")],
            "bucket-owner-full-control" => &[(bucket_owner, "FULL_CONTROL")],
            _ => &[],
        };
        let others = canned.iter().filter(|(grantee, _)| owner.id.as_deref() != Some(grantee));
        grants.extend(others.map(|(grantee, permission)| named(grantee, permission)));
        if !self.canned.is_empty() {
            return grants;
        }
        grants.clear();
        let none = Vec::new();
        let lists = [
            (&self.full_control, "FULL_CONTROL"),
            (self.write.as_ref().unwrap_or(&none), "WRITE"),
            (&self.write_acp, "WRITE_ACP"),
            (&self.read, "READ"),
            (&self.read_acp, "READ_ACP"),
        ];
        for (list, permission) in lists {
            grants.extend(list.iter().map(|grantee| named(grantee, permission)));
        }
        grants
    }
}

const PERMISSIONS: [&str; 5] = ["FULL_CONTROL", "READ", "WRITE", "READ_ACP", "WRITE_ACP"];

/// Whom a request wants to grant something.
enum Wanting {
    Id(String),
    Group(String),
    Address,
}

fn user(id: String, display_name: Option<String>) -> Grantee {
    Grantee {
        display_name,
        email_address: None,
        id: Some(id),
        type_: Type::from_static(Type::CANONICAL_USER),
        uri: None,
    }
}

fn grant_to(site: &Site, grantee: &str, permission: &'static str) -> Grant {
    let grantee = if GROUPS.contains(&grantee) {
        Grantee {
            display_name: None,
            email_address: None,
            id: None,
            type_: Type::from_static(Type::GROUP),
            uri: Some(grantee.to_owned()),
        }
    } else {
        let account = site.config().accounts.iter().find(|account| account.canonical_id == grantee);
        user(grantee.to_owned(), account.map(|account| account.display_name.clone()))
    };
    Grant { grantee: Some(grantee), permission: Some(Permission::from_static(permission)) }
}
