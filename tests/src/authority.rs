//! Certificates of a test's own.

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use std::fs;
use std::path::{Path, PathBuf};

/// One who issues certificates, and the folder where they are written to.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
    name: String,
}

/// A certificate and its key, as files.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: PathBuf,
    /// The key, in the form PKCS #8.
    pub key: PathBuf,
    /// The key and the certificate in one, as Java's servers want it.
    pub both: PathBuf,
}

impl Authority {
    /// A new one called `name`, which writes into `folder`.
    ///
    /// # Errors
    /// If nothing can be written there.
    pub fn new(folder: &Path, name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let authority = Self { issuer, folder: folder.to_path_buf(), name: name.to_owned() };
        fs::write(authority.file(), authority.issuer.pem()).context("the authority")?;
        Ok(authority)
    }

    /// Its own certificate.
    pub fn file(&self) -> PathBuf {
        self.folder.join(format!("{}.pem", self.name))
    }

    /// A certificate for `who` on this machine.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn issue(&self, who: &str) -> Result<Issued> {
        self.issue_with(who, |_| {})
    }

    /// One that was good until long ago.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn issue_expired(&self, who: &str) -> Result<Issued> {
        self.issue_with(who, |params| {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        })
    }

    fn issue_with(&self, who: &str, change: impl FnOnce(&mut CertificateParams)) -> Result<Issued> {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, who);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        let key = key.serialize_pem();
        let file = |kind: &str| self.folder.join(format!("{}-{who}-{kind}.pem", self.name));
        let issued = Issued { certificate: file("certificate"), key: file("key"), both: file("both") };
        fs::write(&issued.certificate, &certificate)?;
        fs::write(&issued.key, &key)?;
        fs::write(&issued.both, key + &certificate)?;
        Ok(issued)
    }
}
