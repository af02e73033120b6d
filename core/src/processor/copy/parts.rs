//! Parts under way: what starts, and what their endings mean for the copy.

use std::sync::Arc;

use crate::call::{Ending, Refusal, RefusalKind};
use crate::model::Encryption;
use crate::request::{MovedPart, PartMove, Side, SiteRequest};
use crate::rules::Rules;
use crate::time::Span;

use super::refusal::{not_to_be_had, target_reason};
use super::{Context, CopyConfig, CopyJob, Outcome, Stage};

/// Why no further part starts, once the parts under way are back.
#[derive(Clone, Debug)]
pub(super) enum Stop {
    Trouble { side: Side, reason: String, retry_after: Option<Span>, look_again: bool },
    End(Outcome),
}

impl CopyJob {
    /// Lists the parts that the deposit lacks.
    pub(super) fn plan_parts(&mut self, config: &CopyConfig) {
        let to_bucket = self.target_object().bucket;
        let upload = self.upload();
        let missing =
            self.deposit.layout.iter().filter(|part| !self.deposit.parts.contains_key(&part.number));
        self.parts_todo = missing
            .map(|part| {
                Arc::new(PartMove {
                    from: self.object.clone(),
                    number: part.number,
                    size: part.size,
                    digest: part.md5.clone(),
                    to_bucket: to_bucket.clone(),
                    to_key: self.object.key.clone(),
                    owner: config.owner.clone(),
                    upload: upload.clone(),
                    deadline: config.part_deadline,
                })
            })
            .collect();
        self.parts_stop = None;
    }

    pub(super) fn ask_parts<R: Rules>(&mut self, context: &mut Context<'_, R>) {
        while self.parts_stop.is_none() && self.parts_running.len() < context.config.parts_max {
            let Some(part) = self.parts_todo.pop_front() else { return };
            let id = context.ids.next();
            self.requests.push_back((id, Box::new(SiteRequest::MovePart(part.clone()))));
            self.parts_running.insert(id, part);
        }
    }

    pub(super) fn part_ended<R: Rules>(
        &mut self,
        part: &PartMove,
        side: Side,
        ending: Ending<MovedPart>,
        rules: &R,
    ) {
        let stop = match ending {
            Ending::Applied(moved) => {
                self.heard_from_target = Some(true);
                if rules.accepts_digest(&part.digest, &moved.digest) {
                    self.bytes_moved += part.size;
                    self.deposit.parts.insert(part.number, *moved.location);
                    self.deposit.encryption = moved.encryption.map_or_else(Encryption::default, |it| *it);
                    return;
                }
                if self.minting.is_none() {
                    self.abandoned.push((*moved.location, false));
                }
                trouble(Side::Source, "BadDigest", None, true)
            }
            Ending::Refused(refusal) => match side {
                Side::Source => source_part_refused(&refusal),
                Side::Target => self.target_part_refused(&refusal),
            },
            // The bytes may be stored under a key that nobody learnt: left to an audit. A part of an upload has its number.
            Ending::Unknown => {
                self.heard_from_target = Some(false);
                self.leaked += u32::from(self.minting.is_none());
                trouble(Side::Target, "TargetTimeout", None, false)
            }
        };
        match (&self.parts_stop, &stop) {
            (None, _) | (Some(Stop::Trouble { .. }), Stop::End(_)) => self.parts_stop = Some(stop),
            (Some(_), _) => {}
        }
    }

    pub(super) fn target_part_refused(&mut self, refusal: &Refusal) -> Stop {
        if refusal.kind.is_transient() {
            self.heard_from_target = Some(false);
            return trouble(Side::Target, &refusal.code, refusal.kind.retry_after(), false);
        }
        self.heard_from_target = Some(true);
        if refusal.kind == RefusalKind::NotFound && self.minting.is_some() {
            self.upload_lost();
            return trouble(Side::Target, &refusal.code, None, true);
        }
        if refusal.kind == RefusalKind::BadDigest {
            return trouble(Side::Source, "BadDigest", None, true);
        }
        let source = self.source.clone().expect("parts move after the source was read");
        Stop::End(Outcome::Failed { reason: target_reason(refusal), source })
    }

    /// Goes on when no part is under way any more: to the write, to a wait, or to the end.
    pub(super) fn parts_settled<R: Rules>(&mut self, context: &mut Context<'_, R>) {
        if !self.parts_running.is_empty() {
            return;
        }
        match self.parts_stop.take() {
            None if !self.parts_todo.is_empty() => {}
            None if self.minting.is_some() => self.upload_filled(),
            None => self.prepare_write(context.config),
            Some(stop) => self.stopped(stop, context),
        }
    }

    /// Ends or waits, as trouble with bytes demands.
    pub(super) fn stopped<R: Rules>(&mut self, stop: Stop, context: &mut Context<'_, R>) {
        match stop {
            Stop::End(outcome) => self.end(outcome),
            Stop::Trouble { side, reason, retry_after, look_again } => {
                if look_again {
                    self.stage = Stage::ReadingTarget;
                }
                self.troubled(side, &reason, retry_after, context);
            }
        }
    }
}

pub(super) fn trouble(side: Side, reason: &str, retry_after: Option<Span>, look_again: bool) -> Stop {
    Stop::Trouble { side, reason: reason.to_owned(), retry_after, look_again }
}

pub(super) fn source_part_refused(refusal: &Refusal) -> Stop {
    if let Some(outcome) = not_to_be_had(refusal.kind) {
        return Stop::End(outcome);
    }
    // The part is not what the metadata announced: both sides are looked at again.
    let look_again = matches!(refusal.kind, RefusalKind::BadDigest | RefusalKind::Invalid);
    trouble(Side::Source, &refusal.code, refusal.kind.retry_after(), look_again)
}
