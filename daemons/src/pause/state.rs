//! The state of a site, the commands that change it, and what each does in which state.

use backbeat_core::time::WallTime;
use bytes::Bytes;
use serde_json::{Map, Value};

use crate::timestamp;

/// The member that says whether the site is paused.
const PAUSED: &str = "paused";

/// The member that says when a paused site is resumed.
const SCHEDULED: &str = "scheduledResume";

/// What is stored of a site. Members that are not ours stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PauseState(Map<String, Value>);

impl Default for PauseState {
    fn default() -> Self {
        Self(Map::from_iter([(PAUSED.to_owned(), Value::Bool(false))]))
    }
}

impl PauseState {
    /// Reads a node; nothing if its data is none.
    pub fn parse(data: &[u8]) -> Option<Self> {
        serde_json::from_slice(data).ok().map(Self)
    }

    /// The data of the node.
    pub fn to_data(&self) -> Bytes {
        Bytes::from(serde_json::to_vec(&self.0).expect("members always have a JSON form"))
    }

    /// Whether the site is paused.
    pub fn is_paused(&self) -> bool {
        self.0.get(PAUSED).and_then(Value::as_bool).unwrap_or(false)
    }

    /// When it is resumed, if it is paused and that was ordered. A date that cannot be read is none.
    pub fn resumes(&self) -> Option<WallTime> {
        let date = self.0.get(SCHEDULED).and_then(Value::as_str)?;
        timestamp::parse_any(date).filter(|_| self.is_paused())
    }

    fn with(&self, paused: bool, scheduled: Option<WallTime>) -> Self {
        let mut members = self.0.clone();
        members.insert(PAUSED.to_owned(), Value::Bool(paused));
        let scheduled = scheduled.map_or(Value::Null, |date| Value::String(timestamp::format(date)));
        members.insert(SCHEDULED.to_owned(), scheduled);
        Self(members)
    }

    /// What `command` makes of it; nothing if it stays as it is.
    pub fn after(&self, command: Command, now: WallTime) -> Option<Self> {
        match (command, self.is_paused()) {
            (Command::Pause, false) => Some(self.with(true, None)),
            (Command::Resume { at: Some(at) }, true) if at > now => Some(self.with(true, Some(at))),
            (Command::Resume { .. }, true) => Some(self.with(false, None)),
            (Command::ForgetSchedule, paused) => {
                let has_one = self.0.get(SCHEDULED).is_some_and(|date| !date.is_null());
                has_one.then(|| self.with(paused, None))
            }
            // A schedule of an active site would strike when somebody pauses it later.
            (Command::Pause, true) | (Command::Resume { .. }, false) => None,
        }
    }

    /// What time makes of it: resumed, if its date has come.
    pub fn when_due(&self, now: WallTime) -> Option<Self> {
        self.resumes().filter(|date| *date <= now).map(|_| self.with(false, None))
    }

    /// What a start makes of it: a date that has passed meanwhile is forgotten.
    pub fn at_start(&self, now: WallTime) -> Option<Self> {
        self.when_due(now).map(|mut resumed| {
            resumed.0.remove(SCHEDULED);
            resumed
        })
    }
}

/// What is ordered on the channel of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Copy nothing more.
    Pause,
    /// Go on, now or at this time.
    Resume {
        /// When; a time that has passed means now.
        at: Option<WallTime>,
    },
    /// Do not go on by itself.
    ForgetSchedule,
}

impl Command {
    /// Reads a message; an error says why it is none.
    pub fn parse(message: &[u8]) -> Result<Self, &'static str> {
        let message: Map<String, Value> =
            serde_json::from_slice(message).map_err(|_| "it is no JSON object")?;
        match message.get("action").and_then(Value::as_str) {
            Some("pauseService") => Ok(Self::Pause),
            Some("resumeService") => match message.get("date") {
                None | Some(Value::Null) => Ok(Self::Resume { at: None }),
                Some(date) => {
                    // To resume at once because of a date that cannot be read would be the contrary of what was wanted.
                    let date = date.as_str().and_then(timestamp::parse_any);
                    date.map(|at| Self::Resume { at: Some(at) }).ok_or("its date cannot be read")
                }
            },
            Some("deleteScheduledResumeService") => Ok(Self::ForgetSchedule),
            _ => Err("its action is unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime::from_millis(1_739_259_000_000);
    const LATER: &str = "2025-02-11T08:30:00.000Z";

    fn state(json: &str) -> PauseState {
        PauseState::parse(json.as_bytes()).expect("it is a state")
    }

    fn after(json: &str, command: &str) -> Option<String> {
        let command = Command::parse(command.as_bytes()).expect("it is a command");
        state(json).after(command, NOW).map(|state| String::from_utf8_lossy(&state.to_data()).into_owned())
    }

    #[test]
    fn every_command_does_in_every_state_what_upstream_does() {
        const ACTIVE: &str = r#"{"paused":false}"#;
        const PAUSED: &str = r#"{"paused":true,"scheduledResume":null}"#;
        const RESUMED: &str = r#"{"paused":false,"scheduledResume":null}"#;
        let scheduled = format!(r#"{{"paused":true,"scheduledResume":"{LATER}"}}"#);
        let later = format!(r#"{{"action":"resumeService","date":"{LATER}"}}"#);
        let latest = later.replace("08:30", "09:30");
        let past = later.replace("2025", "2024");
        let (pause, resume) = (r#"{"action":"pauseService"}"#, r#"{"action":"resumeService"}"#);
        let forget = r#"{"action":"deleteScheduledResumeService"}"#;
        for (before, command, expected) in [
            (ACTIVE, pause, Some(PAUSED)),
            (PAUSED, pause, None),
            (&scheduled, pause, None),
            (ACTIVE, resume, None),
            (ACTIVE, &later, None),
            (ACTIVE, &past, None),
            (PAUSED, &later, Some(&*scheduled)),
            (&scheduled, &latest, Some(&*scheduled.replace("08:30", "09:30"))),
            (PAUSED, resume, Some(RESUMED)),
            (PAUSED, &past, Some(RESUMED)),
            (&scheduled, resume, Some(RESUMED)),
            (&scheduled, forget, Some(PAUSED)),
            (PAUSED, forget, None),
            (ACTIVE, forget, None),
        ] {
            assert_eq!(after(before, command).as_deref(), expected, "{before} {command}");
        }
    }

    #[test]
    fn a_date_that_has_come_resumes_and_members_of_others_stay() {
        let date = |date: &str| state(&format!(r#"{{"paused":true,"scheduledResume":"{date}","theirs":1}}"#));
        assert_eq!(date(LATER).when_due(NOW), None);
        let text = |state: Option<PauseState>| {
            state.map(|state| String::from_utf8_lossy(&state.to_data()).into_owned())
        };
        // As dates are written where they become text by themselves, for example.
        for passed in ["2025-02-11T07:30:00.000Z", "Tue Feb 11 2025 08:30:00 GMT+0100 (CET)"] {
            let resumed = text(date(passed).when_due(NOW));
            assert_eq!(resumed.as_deref(), Some(r#"{"paused":false,"scheduledResume":null,"theirs":1}"#));
            assert_eq!(text(date(passed).at_start(NOW)).as_deref(), Some(r#"{"paused":false,"theirs":1}"#));
        }
        assert_eq!(date("some day").when_due(NOW), None);
        assert_eq!(state(r#"{"paused":false,"scheduledResume":null}"#).at_start(NOW), None);
    }

    #[test]
    fn what_is_no_command_is_said_to_be_none() {
        for message in ["", "[]", "{}", r#"{"action":"stop"}"#, r#"{"action":"resumeService","date":"soon"}"#]
        {
            assert!(Command::parse(message.as_bytes()).is_err(), "{message}");
        }
        assert_eq!(PauseState::parse(b"paused"), None);
    }
}
