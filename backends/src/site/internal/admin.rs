//! `/_/metadata/admin/...`: what CloudServer hands on to bucketd (wire reference 1.13). This site answers with its own
//! journal, as the log of raft session 1.

use super::request::header;
use crate::site::config::Account;
use crate::site::error::{Outcome, Refusal};
use crate::site::metadata::Site;
use crate::site::raft_log::{self, WAIT};
use crate::site::uri::query;
use http::StatusCode;
use s3s::{Body, S3Request, S3Response};

const ADMIN: &str = "/_/metadata/admin/";
/// A site that stops lets requests end: a reader must not hold it up.
const WAIT_MS_MAX: u64 = 5_000;

/// Answers, to service accounts and the owner of the site: a journal tells of everybody's objects.
pub(super) async fn answer(
    site: &Site,
    request: &S3Request<Body>,
    account: &Account,
) -> Outcome<S3Response<Body>> {
    // Everything else is asked of a metadata server that this site does not have.
    let rest = request.uri.path().strip_prefix(ADMIN).ok_or(Refusal::service_unavailable())?;
    let is_owner = site.config().accounts.first().is_some_and(|first| first.access_key == account.access_key);
    if !is_owner && !account.is_service() {
        return Err(Refusal::access_denied());
    }
    match rest.split('/').nth(2) {
        Some("log") => {}
        Some("bucket" | "id") => return Err(Refusal::service_unavailable()),
        _ => return Err(Refusal::not_implemented()),
    }
    let wait = header(&request.headers, WAIT).and_then(|wait| wait.parse::<u64>().ok());
    let wait = wait.map(|wait| wait.min(WAIT_MS_MAX).to_string());
    let path = format!("/_/{rest}");
    let answered =
        raft_log::answer(site.journal(), &request.method, &path, query(&request.uri), wait.as_deref()).await;
    match answered.status {
        StatusCode::OK | StatusCode::RANGE_NOT_SATISFIABLE => {
            Ok(super::answer::json(answered.status, answered.body))
        }
        StatusCode::BAD_REQUEST => Err(Refusal::bad_request("")),
        StatusCode::METHOD_NOT_ALLOWED => Err(Refusal::method_not_allowed()),
        StatusCode::NOT_FOUND => Err(Refusal {
            status: StatusCode::NOT_FOUND,
            code: "RaftSessionNotFound",
            ..Refusal::invalid_argument()
        }),
        _ => Err(Refusal::service_unavailable()),
    }
}
