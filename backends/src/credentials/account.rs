//! Static accounts: the `conf/authdata.json` of upstream (replication reference 8.1).
//!
//! ```json
//! {"accounts": [{"name": "Bart", "arn": "arn:aws:iam::123456789012:root", "canonicalID": "79a5...",
//!                "displayName": "bart", "keys": {"access": "accessKey1", "secret": "verySecretKey1"}}]}
//! ```

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{CredentialSource, Credentials, CredentialsError};

/// Why an account cannot be used. No message holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The file cannot be read.
    #[error("{path}: cannot be read: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not the JSON it should be.
    #[error("{path}: not valid at line {line}, column {column}: {expected}", path = path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        line: usize,
        /// Where in the line.
        column: usize,
        /// What is wrong there.
        expected: String,
    },
    /// The account is not in the file.
    #[error("{path}: no account is named {name:?}; there are {known}", path = path.display())]
    UnknownAccount {
        /// The file.
        path: PathBuf,
        /// The account asked for.
        name: String,
        /// The accounts there are.
        known: String,
    },
    /// A member is missing or empty.
    #[error("{path}: account {name:?} has no {member}: add it", path = path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The account.
        name: String,
        /// What it lacks.
        member: &'static str,
    },
    /// The ARN has no account id in its fifth field.
    #[error("{path}: account {name:?} has the arn {arn:?}, which should be like arn:aws:iam::123456789012:root", path = path.display())]
    MalformedArn {
        /// The file.
        path: PathBuf,
        /// The account.
        name: String,
        /// Its ARN.
        arn: String,
    },
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name in the configuration.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// The account id: the fifth field of the ARN.
    pub id: String,
    /// Its canonical id: the `owner-id` of objects.
    pub canonical_id: String,
    /// Its display name: the `owner-display-name` of objects.
    pub display_name: String,
}

#[derive(Deserialize)]
struct FileForm {
    #[serde(default)]
    accounts: Vec<AccountForm>,
}

#[derive(Deserialize)]
struct AccountForm {
    #[serde(default)]
    name: String,
    #[serde(default)]
    arn: String,
    #[serde(default, rename = "canonicalID")]
    canonical_id: String,
    #[serde(default, rename = "displayName")]
    display_name: String,
    keys: Option<KeysForm>,
}

/// One pair of keys, or several, of which the first is used (replication reference 8.1: service accounts).
#[derive(Deserialize)]
#[serde(untagged)]
enum KeysForm {
    One(KeyForm),
    Several(Vec<KeyForm>),
}

#[derive(Deserialize)]
struct KeyForm {
    #[serde(default)]
    access: String,
    #[serde(default)]
    secret: String,
}

/// The accounts of one file.
pub struct AccountFile {
    path: PathBuf,
    accounts: Vec<AccountForm>,
}

impl AccountFile {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, AccountError> {
        let text = std::fs::read(path)
            .map_err(|source| AccountError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// Parses the text of a file named `path`.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self, AccountError> {
        let form: FileForm = serde_json::from_slice(text).map_err(|error| AccountError::Invalid {
            path: path.to_owned(),
            line: error.line(),
            column: error.column(),
            // The parser's own text may quote the value it stumbled over, which may be a secret.
            expected: match error.classify() {
                serde_json::error::Category::Eof => "the file ends too early".to_owned(),
                serde_json::error::Category::Data => "a member has another type than it should".to_owned(),
                serde_json::error::Category::Syntax | serde_json::error::Category::Io => {
                    "not JSON".to_owned()
                }
            },
        })?;
        Ok(Self { path: path.to_owned(), accounts: form.accounts })
    }

    /// The account named `name` and its keys, complete.
    pub fn account(&self, name: &str) -> Result<(Account, Credentials), AccountError> {
        let (form, account) = (self.form(name)?, self.identity(name)?);
        let keys = match &form.keys {
            Some(KeysForm::One(keys)) => Some(keys),
            Some(KeysForm::Several(keys)) => keys.first(),
            None => None,
        };
        let (access, secret) = keys.map_or(("", ""), |keys| (&keys.access, &keys.secret));
        self.all_there(name, &[("keys.access", access), ("keys.secret", secret)])?;
        Ok((account, Credentials::lasting(access, secret)))
    }

    /// The account named `name`, which need have no keys.
    pub fn identity(&self, name: &str) -> Result<Account, AccountError> {
        let form = self.form(name)?;
        let members =
            [("arn", &*form.arn), ("canonicalID", &*form.canonical_id), ("displayName", &*form.display_name)];
        self.all_there(name, &members)?;
        let id = form.arn.split(':').nth(4).filter(|id| !id.is_empty());
        let malformed = || AccountError::MalformedArn {
            path: self.path.clone(),
            name: name.to_owned(),
            arn: form.arn.clone(),
        };
        Ok(Account {
            name: form.name.clone(),
            arn: form.arn.clone(),
            id: id.ok_or_else(malformed)?.to_owned(),
            canonical_id: form.canonical_id.clone(),
            display_name: form.display_name.clone(),
        })
    }

    fn form(&self, name: &str) -> Result<&AccountForm, AccountError> {
        let known = || {
            let known: Vec<String> = self.accounts.iter().map(|form| format!("{:?}", form.name)).collect();
            if known.is_empty() { "none".to_owned() } else { known.join(", ") }
        };
        self.accounts.iter().find(|form| form.name == name).ok_or_else(|| AccountError::UnknownAccount {
            path: self.path.clone(),
            name: name.to_owned(),
            known: known(),
        })
    }

    fn all_there(&self, name: &str, members: &[(&'static str, &str)]) -> Result<(), AccountError> {
        match members.iter().find(|(_, value)| value.is_empty()) {
            None => Ok(()),
            Some(&(member, _)) => {
                Err(AccountError::Missing { path: self.path.clone(), name: name.to_owned(), member })
            }
        }
    }
}

/// The keys of an account: they are what they are.
#[derive(Clone, Debug)]
pub struct StaticCredentials(Credentials);

impl StaticCredentials {
    /// Always these.
    pub fn new(credentials: Credentials) -> Self {
        Self(credentials)
    }
}

impl CredentialSource for StaticCredentials {
    async fn current(&self) -> Result<Credentials, CredentialsError> {
        Ok(self.0.clone())
    }

    async fn reject(&self, _rejected: &Credentials) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::credentials_conformance!(
        account,
        StaticCredentials::new(Credentials::lasting("key", "hush-hush"))
    );

    const FILE: &str = r#"{"accounts": [
        {"name": "Bart", "arn": "arn:aws:iam::123456789012:root", "canonicalID": "79a5", "displayName": "bart",
         "keys": {"access": "accessKey1", "secret": "verySecretKey1"}, "users": []},
        {"name": "Lisa", "arn": "aws::iam:123456789013:root", "canonicalID": "79a6", "displayName": "lisa",
         "keys": {"access": "accessKey2"}},
        {"name": "Maggie", "arn": "arn:aws:iam", "canonicalID": "79a7", "displayName": "maggie",
         "keys": {"access": "accessKey3", "secret": "verySecretKey3"}}]}"#;

    fn parse(text: &str) -> Result<AccountFile, AccountError> {
        AccountFile::parse(Path::new("conf/authdata.json"), text.as_bytes())
    }

    #[test]
    fn an_account_is_read_with_its_id_from_the_arn() {
        let (account, keys) = parse(FILE).expect("valid").account("Bart").expect("complete");
        assert_eq!((account.id.as_str(), account.canonical_id.as_str()), ("123456789012", "79a5"));
        assert_eq!(keys.access_key, "accessKey1");
        assert!(!format!("{account:?} {keys:?}").contains("verySecretKey1"));
        // A role is assumed in the name of an account that has no keys of its own.
        let account = parse(FILE).expect("valid").identity("Lisa").expect("it has all that names it");
        assert_eq!(account.canonical_id, "79a6");
    }

    #[test]
    fn errors_name_the_file_the_account_and_what_is_missing() {
        let file = parse(FILE).expect("valid");
        let message = |name| file.account(name).expect_err("not usable").to_string();
        assert_eq!(message("Lisa"), "conf/authdata.json: account \"Lisa\" has no keys.secret: add it");
        assert_eq!(
            message("Homer"),
            "conf/authdata.json: no account is named \"Homer\"; there are \"Bart\", \"Lisa\", \"Maggie\""
        );
        assert!(message("Maggie").contains("arn:aws:iam::123456789012:root"));
    }

    #[test]
    fn a_broken_file_is_named_with_the_place_and_without_its_content() {
        let error = parse("{\"accounts\": [\n{\"keys\": \"hush-hush\"}]}").err().expect("not valid");
        let message = error.to_string();
        assert!(message.starts_with("conf/authdata.json: not valid at line 2"), "{message}");
        assert!(!message.contains("hush-hush"), "{message}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = AccountFile::read(Path::new("/nonexistent/authdata.json")).err().expect("not there");
        assert!(error.to_string().starts_with("/nonexistent/authdata.json: cannot be read"), "{error}");
    }
}
