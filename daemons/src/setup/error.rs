//! What went wrong, where, and what to do about it.

use backbeat_backends::admin::AdminError;
use backbeat_backends::http::ClientError;
use backbeat_core::request::Side;

use super::{Conflict, side_name};

/// Why the work ended early.
#[derive(Debug, thiserror::Error)]
#[error("{}: {doing}: {trouble}", side_name(*.side))]
pub struct SetupError {
    /// Where.
    pub side: Side,
    /// What was being done.
    pub doing: String,
    /// What went wrong.
    pub trouble: Trouble,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// A server did not do it.
    #[error(transparent)]
    Server(#[from] AdminError),
    /// What is there speaks against it.
    #[error(transparent)]
    Conflict(#[from] Conflict),
}

impl SetupError {
    /// What to do about it.
    pub fn advice(&self) -> String {
        let side = side_name(self.side);
        match &self.trouble {
            Trouble::Conflict(_) => "nothing of it was changed".to_owned(),
            Trouble::Server(AdminError::NoAnswer(ClientError::Invalid { .. })) => {
                format!("look at the endpoints of the {side}")
            }
            Trouble::Server(AdminError::NoAnswer(_)) => format!(
                "does it run? --{side}-endpoint and --{side}-iam-endpoint name other places than the configuration"
            ),
            Trouble::Server(AdminError::Unreadable { .. }) => no_such_service(side),
            Trouble::Server(AdminError::Refused(refused)) => match refused.code.as_str() {
                "InvalidAccessKeyId" | "InvalidClientTokenId" | "SignatureDoesNotMatch" | "ExpiredToken" => {
                    format!("look at the keys of the profile that --{side}-profile names")
                }
                "BucketAlreadyExists" => "somebody else has a bucket of this name: choose another".to_owned(),
                "LimitExceeded" => {
                    "delete older versions of the policy, or other roles and policies".to_owned()
                }
                "MalformedXML" | "InvalidRequest" | "InvalidArgument" => {
                    "does the store know the site that --site-name names?".to_owned()
                }
                "MethodNotAllowed" | "NotImplemented" | "InvalidAction" | "404" | "405" | "501" => {
                    no_such_service(side)
                }
                _ if [401, 403].contains(&refused.status.as_u16()) => {
                    format!("the account of the profile that --{side}-profile names may not do this")
                }
                _ if refused.status.is_server_error() => "look at the server's log".to_owned(),
                _ => format!("look at the endpoints and at the profile of the {side}"),
            },
        }
    }
}

fn no_such_service(side: &str) -> String {
    format!(
        "is that what answers there? --{side}-iam-endpoint names another IAM; where there is none, give the roles with --role"
    )
}
