//! Profiles of people: the shared credentials file that AWS's tools read.
//!
//! ```text
//! [paris]
//! aws_access_key_id = accessKey1
//! aws_secret_access_key = verySecretKey1
//! ```

use std::path::{Path, PathBuf};

use super::{Credentials, Secret};

/// Why a profile cannot be used. No message holds what is in the file but names of profiles.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The file cannot be read.
    #[error("{path}: cannot be read: {source}; AWS_SHARED_CREDENTIALS_FILE names another file", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The profile is not in the file.
    #[error("{path}: no profile is named {name:?}; there are {known}", path = path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The profile asked for.
        name: String,
        /// The profiles there are.
        known: String,
    },
    /// A key is missing or empty.
    #[error("{path}: profile {name:?} has no {member}: add it", path = path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The profile.
        name: String,
        /// What it lacks.
        member: &'static str,
    },
}

/// The keys of the profile `name` in the file `path`.
///
/// # Errors
/// [`ProfileError`]
pub fn read(path: &Path, name: &str) -> Result<Credentials, ProfileError> {
    let text =
        std::fs::read(path).map_err(|source| ProfileError::Unreadable { path: path.to_owned(), source })?;
    parse(path, &String::from_utf8_lossy(&text), name)
}

fn parse(path: &Path, text: &str, name: &str) -> Result<Credentials, ProfileError> {
    let (mut access, mut secret, mut token) = (None, None, None);
    let (mut known, mut is_wanted) = (Vec::new(), false);
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.split(']').next()) {
            is_wanted = section.trim() == name;
            known.push(format!("{:?}", section.trim()));
        } else if let (true, Some((key, value))) = (is_wanted, line.split_once('=')) {
            let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
            match key.trim().to_ascii_lowercase().as_str() {
                "aws_access_key_id" => access = value,
                "aws_secret_access_key" => secret = value,
                "aws_session_token" => token = value,
                _ => {}
            }
        }
    }
    if !known.contains(&format!("{name:?}")) {
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(ProfileError::Unknown { path: path.to_owned(), name: name.to_owned(), known });
    }
    let missing = |member| ProfileError::Missing { path: path.to_owned(), name: name.to_owned(), member };
    Ok(Credentials {
        access_key: access.ok_or_else(|| missing("aws_access_key_id"))?,
        secret_key: Secret::new(secret.ok_or_else(|| missing("aws_secret_access_key"))?),
        session_token: token.map(Secret::new),
        expires: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# people\n[default]\naws_access_key_id=a\naws_secret_access_key = hush\n\n [ paris ]\nregion = x\n\
        AWS_ACCESS_KEY_ID = b\naws_secret_access_key = quiet=\naws_session_token = t\n[half]\naws_access_key_id = c\n";

    fn parse(name: &str) -> Result<Credentials, ProfileError> {
        super::parse(Path::new("credentials"), FILE, name)
    }

    #[test]
    fn a_profile_is_read_whole() {
        let keys = parse("default").expect("complete");
        assert_eq!((keys.access_key.as_str(), keys.secret_key.expose()), ("a", "hush"));
        assert_eq!(keys.session_token, None);
        let keys = parse("paris").expect("complete");
        assert_eq!((keys.access_key.as_str(), keys.secret_key.expose()), ("b", "quiet="));
        assert_eq!(keys.session_token, Some(Secret::new("t")));
    }

    #[test]
    fn what_is_missing_is_named_and_nothing_of_the_content() {
        let told = |name| parse(name).expect_err("not usable").to_string();
        assert_eq!(told("half"), "credentials: profile \"half\" has no aws_secret_access_key: add it");
        assert_eq!(
            told("tokyo"),
            "credentials: no profile is named \"tokyo\"; there are \"default\", \"paris\", \"half\""
        );
        let error = read(Path::new("/nonexistent/credentials"), "a").expect_err("not there").to_string();
        assert!(error.starts_with("/nonexistent/credentials: cannot be read"), "{error}");
    }
}
