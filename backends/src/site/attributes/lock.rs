//! Object lock: retention and legal hold of versions, the default of a bucket, and what they forbid.

use crate::site::error::{Outcome, Refusal};
use crate::site::headers::header;
use crate::timestamp::{iso, parse_iso};
use backbeat_core::model::ObjectMd;
use http::HeaderMap;
use s3s::dto::{
    DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockLegalHoldStatus,
    ObjectLockRetentionMode, ObjectLockRule, Timestamp, TimestampFormat,
};
use serde::{Deserialize, Serialize};

const DAY_MS: u64 = 86_400_000;
const DAYS_MAX: i32 = 36_500;
const YEARS_MAX: i32 = 100;
const BYPASS: &str = "x-amz-bypass-governance-retention";

/// How strict a retention is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(in crate::site) enum Mode {
    /// Who may bypass it can end it.
    Governance,
    /// Nobody can.
    Compliance,
}

impl Mode {
    pub(in crate::site) fn parse(text: &str) -> Option<Self> {
        match text {
            "GOVERNANCE" => Some(Self::Governance),
            "COMPLIANCE" => Some(Self::Compliance),
            _ => None,
        }
    }

    pub(in crate::site) fn as_str(self) -> &'static str {
        match self {
            Self::Governance => "GOVERNANCE",
            Self::Compliance => "COMPLIANCE",
        }
    }
}

/// A version must not be deleted before a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::site) struct Retention {
    pub(in crate::site) mode: Mode,
    /// Milliseconds since the epoch.
    pub(in crate::site) until_ms: u64,
}

/// The default of a bucket as its attributes keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::site) struct DefaultLock {
    pub(in crate::site) rule: Option<DefaultRule>,
}

/// Either days or years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::site) struct DefaultRule {
    mode: Mode,
    #[serde(skip_serializing_if = "Option::is_none")]
    days: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    years: Option<i32>,
}

impl DefaultRule {
    /// The rule that a client asks for, if any.
    pub(in crate::site) fn parse(asked: ObjectLockConfiguration) -> Outcome<Option<Self>> {
        if asked.object_lock_enabled.as_ref().map(ObjectLockEnabled::as_str)
            != Some(ObjectLockEnabled::ENABLED)
        {
            return Err(Refusal::malformed_xml());
        }
        let Some(rule) = asked.rule else { return Ok(None) };
        let default = rule.default_retention.ok_or(Refusal::malformed_xml())?;
        let mode = default.mode.as_ref().and_then(|mode| Mode::parse(mode.as_str()));
        let mode = mode.ok_or(Refusal::malformed_xml())?;
        let within = |number: i32, max: i32, name: &str| {
            if number < 1 {
                let message =
                    format!("Default retention period must be a positive integer value for '{name}'");
                return Err(Refusal::invalid_argument().with_message(message));
            }
            if number > max {
                let message = format!("Default retention period in {name} must be less than {max}");
                return Err(Refusal::invalid_argument().with_message(message));
            }
            Ok(())
        };
        match (default.days, default.years) {
            (Some(days), None) => within(days, DAYS_MAX, "days")?,
            (None, Some(years)) => within(years, YEARS_MAX, "years")?,
            (None, None) | (Some(_), Some(_)) => return Err(Refusal::malformed_xml()),
        }
        Ok(Some(Self { mode, days: default.days, years: default.years }))
    }

    /// As S3 shows it.
    pub(in crate::site) fn shown(self) -> ObjectLockRule {
        ObjectLockRule {
            default_retention: Some(DefaultRetention {
                days: self.days,
                mode: Some(ObjectLockRetentionMode::from_static(self.mode.as_str())),
                years: self.years,
            }),
        }
    }

    fn from(self, now_ms: u64) -> Retention {
        let days = self.days.unwrap_or(0).max(0) + 365 * self.years.unwrap_or(0).max(0);
        Retention { mode: self.mode, until_ms: now_ms + u64::from(days.unsigned_abs()) * DAY_MS }
    }
}

/// What protects one version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::site) struct Lock {
    pub(in crate::site) retention: Option<Retention>,
    pub(in crate::site) legal_hold: Option<bool>,
}

impl Lock {
    /// What the headers of a write ask for.
    pub(in crate::site) fn asked(headers: &HeaderMap, now_ms: u64) -> Outcome<Self> {
        let refuse = |message: &'static str| Refusal::invalid_argument().with_message(message);
        let retention = match (
            header(headers, "x-amz-object-lock-mode"),
            header(headers, "x-amz-object-lock-retain-until-date"),
        ) {
            (None, None) => None,
            (Some(mode), Some(until)) => {
                let mode = Mode::parse(mode).ok_or_else(|| refuse("Unknown wormMode directive."))?;
                let until_ms = parse_iso(until)
                    .ok_or_else(|| refuse("The retain until date must be provided in ISO 8601 format"))?;
                if until_ms <= now_ms {
                    return Err(refuse("The retain until date must be in the future!"));
                }
                Some(Retention { mode, until_ms })
            }
            (Some(_), None) | (None, Some(_)) => {
                return Err(refuse(
                    "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied",
                ));
            }
        };
        let legal_hold = match header(headers, "x-amz-object-lock-legal-hold") {
            None => None,
            Some("ON") => Some(true),
            Some("OFF") => Some(false),
            Some(_) => return Err(refuse("Legal hold status must be one of 'ON', 'OFF'")),
        };
        Ok(Self { retention, legal_hold })
    }

    /// What a new version gets in a bucket that has object lock: what was asked for, else the bucket's default.
    pub(super) fn or_default(self, default: Option<DefaultLock>, now_ms: u64) -> Self {
        let default = || default?.rule.map(|rule| rule.from(now_ms));
        Self { retention: self.retention.or_else(default), ..self }
    }

    /// What metadata says.
    pub(in crate::site) fn of(md: &ObjectMd) -> Self {
        let mode = md.text("retentionMode").as_deref().and_then(Mode::parse);
        let until_ms = md.text("retentionDate").as_deref().and_then(parse_iso);
        let legal_hold = md.member("legalHold").map(|json| json.as_str() == "true");
        Self {
            retention: mode.zip(until_ms).map(|(mode, until_ms)| Retention { mode, until_ms }),
            legal_hold,
        }
    }

    /// Whether the version may be removed for good at `now_ms`.
    pub(in crate::site) fn check_delete(self, now_ms: u64, may_bypass: bool) -> Outcome<()> {
        let is_retained = self.retention.is_some_and(|retention| {
            retention.until_ms > now_ms && !(may_bypass && retention.mode == Mode::Governance)
        });
        if is_retained || self.legal_hold == Some(true) {
            return Err(Refusal::access_denied());
        }
        Ok(())
    }

    /// Whether the retention may become another one at `now_ms`: longer in the same mode always; shorter, none or of the
    /// other mode only past it, or where governance is bypassed.
    pub(in crate::site) fn check_change(
        self,
        to: Option<Retention>,
        now_ms: u64,
        may_bypass: bool,
    ) -> Outcome<()> {
        let Some(now) = self.retention.filter(|retention| retention.until_ms > now_ms) else { return Ok(()) };
        let is_longer = to.is_some_and(|to| to.until_ms >= now.until_ms && to.mode == now.mode);
        if is_longer || (now.mode == Mode::Governance && may_bypass) {
            return Ok(());
        }
        Err(Refusal::access_denied())
    }

    /// As headers and answers spell it: mode, end, legal hold.
    pub(in crate::site) fn shown(
        self,
    ) -> (Option<&'static str>, Option<Timestamp>, Option<ObjectLockLegalHoldStatus>) {
        let until = self.retention.and_then(|retention| timestamp(retention.until_ms));
        let hold = self
            .legal_hold
            .map(|is_on| ObjectLockLegalHoldStatus::from_static(if is_on { "ON" } else { "OFF" }));
        (self.retention.map(|retention| retention.mode.as_str()), until, hold)
    }
}

fn timestamp(ms: u64) -> Option<Timestamp> {
    Timestamp::parse(TimestampFormat::DateTime, &iso(ms)).ok()
}

pub(in crate::site) fn milliseconds(timestamp: &Timestamp) -> Option<u64> {
    let mut text = Vec::new();
    timestamp.format(TimestampFormat::DateTime, &mut text).ok()?;
    parse_iso(std::str::from_utf8(&text).ok()?)
}

/// True if a request says that it may end a retention of mode governance.
pub(in crate::site) fn may_bypass(headers: &HeaderMap) -> bool {
    header(headers, BYPASS).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// The refusal where a bucket has no object lock.
pub(in crate::site) fn no_configuration() -> Refusal {
    Refusal::invalid_request("Bucket is missing ObjectLockConfiguration")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_192_705_760;

    fn retained(mode: Mode, until_ms: u64) -> Lock {
        Lock { retention: Some(Retention { mode, until_ms }), legal_hold: None }
    }

    #[test]
    fn a_retention_forbids_deletion_until_its_end_and_governance_may_be_bypassed() {
        for (mode, may_bypass, is_allowed) in [
            (Mode::Governance, false, false),
            (Mode::Governance, true, true),
            (Mode::Compliance, false, false),
            (Mode::Compliance, true, false),
        ] {
            assert_eq!(retained(mode, NOW + 1).check_delete(NOW, may_bypass).is_ok(), is_allowed, "{mode:?}");
            retained(mode, NOW).check_delete(NOW, false).unwrap();
        }
        let held = Lock { retention: None, legal_hold: Some(true) };
        assert_eq!(held.check_delete(NOW, true).unwrap_err().code, "AccessDenied");
        Lock { legal_hold: Some(false), ..held }.check_delete(NOW, false).unwrap();
    }

    #[test]
    fn a_retention_grows_but_shrinks_only_where_it_may_be_bypassed() {
        let to = |mode, until_ms| Some(Retention { mode, until_ms });
        let (governance, compliance) =
            (retained(Mode::Governance, NOW + 9), retained(Mode::Compliance, NOW + 9));
        governance.check_change(to(Mode::Governance, NOW + 10), NOW, false).unwrap();
        governance.check_change(to(Mode::Compliance, NOW + 10), NOW, false).unwrap_err();
        governance.check_change(to(Mode::Compliance, NOW + 10), NOW, true).unwrap();
        governance.check_change(None, NOW, false).unwrap_err();
        governance.check_change(None, NOW, true).unwrap();
        governance.check_change(to(Mode::Governance, NOW + 1), NOW, false).unwrap_err();
        governance.check_change(to(Mode::Governance, NOW + 1), NOW, true).unwrap();
        compliance.check_change(to(Mode::Compliance, NOW + 10), NOW, false).unwrap();
        compliance.check_change(to(Mode::Governance, NOW + 10), NOW, true).unwrap_err();
        compliance.check_change(to(Mode::Compliance, NOW + 8), NOW, true).unwrap_err();
        compliance.check_change(None, NOW, true).unwrap_err();
        compliance.check_change(None, NOW + 9, false).unwrap();
    }

    #[test]
    fn headers_say_both_mode_and_end_or_neither() {
        let asked = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            Lock::asked(&headers, NOW)
        };
        let (mode, until) = ("x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date");
        assert_eq!(asked(&[]).unwrap(), Lock::default());
        let lock = asked(&[(mode, "GOVERNANCE"), (until, "2100-02-28T23:59:59Z")]).unwrap();
        assert_eq!(lock.retention.unwrap().until_ms, 4_107_542_399_000);
        asked(&[(mode, "GOVERNANCE")]).unwrap_err();
        asked(&[(until, "2100-02-28T23:59:59Z")]).unwrap_err();
        asked(&[(mode, "STRICT"), (until, "2100-02-28T23:59:59Z")]).unwrap_err();
        asked(&[(mode, "GOVERNANCE"), (until, "2001-01-01T00:00:00Z")]).unwrap_err();
        asked(&[(mode, "GOVERNANCE"), (until, "tomorrow")]).unwrap_err();
        asked(&[("x-amz-object-lock-legal-hold", "MAYBE")]).unwrap_err();
    }
}
