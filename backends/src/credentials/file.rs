//! The keys of an account in a file that may change: whoever rotates them need not start anything again.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use tokio::time::{Duration, Instant};

use super::account::{Account, AccountError, AccountFile};
use super::{CredentialSource, Credentials, CredentialsError};

/// How often the file is looked at, at most.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The keys of one account, as its file has them now.
#[derive(Debug)]
pub struct FileCredentials {
    file: PathBuf,
    account: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    credentials: Credentials,
    /// When the file was changed, as far as it is known.
    changed: Option<SystemTime>,
    looked: Instant,
}

impl FileCredentials {
    /// The account named `account`, as `file` has it now, and its keys from now on.
    ///
    /// # Errors
    /// [`AccountError`] if there is no such account that is complete. Later that changes nothing.
    pub fn open(file: PathBuf, account: &str) -> Result<(Account, Self), AccountError> {
        let changed = changed(&file);
        let (found, credentials) = AccountFile::read(&file)?.account(account)?;
        let state = State { credentials, changed, looked: Instant::now() };
        Ok((found, Self { file, account: account.to_owned(), state: Mutex::new(state) }))
    }

    fn look(&self, is_urgent: bool) -> Credentials {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_urgent && state.looked.elapsed() < LOOK_INTERVAL {
            return state.credentials.clone();
        }
        state.looked = Instant::now();
        let changed = changed(&self.file);
        if changed != state.changed || is_urgent {
            match AccountFile::read(&self.file).and_then(|file| file.account(&self.account)) {
                Ok((_, credentials)) if credentials != state.credentials => {
                    tracing::info!(file = %self.file.display(), account = self.account, "the keys changed");
                    state.credentials = credentials;
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the keys stay as they were"),
            }
            state.changed = changed;
        }
        state.credentials.clone()
    }
}

fn changed(file: &PathBuf) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}

impl CredentialSource for FileCredentials {
    async fn current(&self) -> Result<Credentials, CredentialsError> {
        Ok(self.look(false))
    }

    async fn reject(&self, rejected: &Credentials) {
        let is_held = self.state.lock().unwrap_or_else(PoisonError::into_inner).credentials == *rejected;
        if is_held {
            self.look(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::credentials_conformance!(file, written("one").1);

    fn text(number: &str) -> String {
        format!(
            r#"{{"accounts":[{{"name":"Bart","arn":"arn:aws:iam::123456789012:root","canonicalID":"79a5",
               "displayName":"bart","keys":{{"access":"key-{number}","secret":"hush-{number}"}}}}]}}"#
        )
    }

    fn written(number: &str) -> (tempfile::TempDir, FileCredentials) {
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("authdata.json");
        std::fs::write(&file, text(number)).expect("written");
        let (account, source) = FileCredentials::open(file, "Bart").expect("complete");
        assert_eq!(account.id, "123456789012");
        (folder, source)
    }

    async fn key(source: &FileCredentials) -> String {
        source.current().await.expect("there are always some").access_key
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_are_rotated_are_taken_without_a_restart() {
        let (folder, source) = written("one");
        let file = folder.path().join("authdata.json");
        assert_eq!(key(&source).await, "key-one");
        std::fs::write(&file, text("two")).expect("written");
        let later = SystemTime::now() + Duration::from_secs(5);
        std::fs::File::options()
            .write(true)
            .open(&file)
            .and_then(|file| file.set_modified(later))
            .expect("set");
        tokio::time::advance(LOOK_INTERVAL).await;
        assert_eq!(key(&source).await, "key-two");
        // What cannot be used changes nothing.
        std::fs::write(&file, "{").expect("written");
        tokio::time::advance(LOOK_INTERVAL).await;
        assert_eq!(key(&source).await, "key-two");
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_a_server_refuses_are_looked_up_at_once() {
        let (folder, source) = written("one");
        let refused = source.current().await.expect("there are always some");
        std::fs::write(folder.path().join("authdata.json"), text("two")).expect("written");
        source.reject(&refused).await;
        assert_eq!(key(&source).await, "key-two");
    }
}
