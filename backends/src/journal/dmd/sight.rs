//! What the log has from a position on, found out with questions that name the number of their first record only.

use backbeat_core::id::Seq;
use serde_json::value::RawValue;

use super::connection::{CallError, Connection};

/// What is there from a position on.
pub(super) enum Sight {
    /// Records that follow each other, the first one at the position.
    Records(Vec<Box<RawValue>>),
    /// Nothing yet.
    Nothing,
    /// Nothing until this number, which has a record.
    Hole(Seq),
    /// Nothing, and nothing at the position before: the log ends further back.
    WentBack,
}

/// Records that follow each other.
pub(super) struct Run {
    /// The number of the first one.
    pub(super) first: Seq,
    /// As text.
    pub(super) records: Vec<Box<RawValue>>,
    /// There is a number behind the last record that has none, and is not the end of the log.
    is_cut: bool,
}

/// The first number at or after `seq` that has a record.
pub(super) async fn first_from(connection: &mut Connection, seq: Seq) -> Result<Option<Seq>, CallError> {
    Ok(connection.records(seq, None).await?.map(|page| page.first))
}

/// Records from the first one at or after `start` on that follow each other, at most `count`, all with numbers less than
/// `start` and `count`. Less is asked for as long as there is a hole among them, or they are too large.
pub(super) async fn follow(
    connection: &mut Connection,
    start: Seq,
    count: usize,
) -> Result<Option<Run>, CallError> {
    let mut count = u64::try_from(count).unwrap_or(u64::MAX).max(1);
    loop {
        let end = Seq(start.0.saturating_add(count - 1));
        let Some(page) = connection.records(start, Some(end)).await? else { return Ok(None) };
        if page.is_whole() || page.records.len() == 1 {
            let is_cut = !page.is_whole();
            return Ok(Some(Run { first: page.first, records: page.records, is_cut }));
        }
        if count <= 2 {
            let (first, end) = (page.first.0, page.end.0);
            let told = format!("{} records from {first} to {end}", page.records.len());
            return Err(CallError::Strange(told));
        }
        count = count.div_ceil(2);
    }
}

/// What is there from `from` on, at most `limit` records. Reads one record more, the one before: it shows that the log did
/// not go back.
pub(super) async fn look(connection: &mut Connection, from: Seq, limit: usize) -> Result<Sight, CallError> {
    let before = Seq(from.0.saturating_sub(1).max(1));
    let count = limit + usize::from(before < from);
    let Some(Run { first, mut records, is_cut }) = follow(connection, before, count.max(2)).await? else {
        return Ok(match first_from(connection, before).await? {
            Some(next) => Sight::Hole(next),
            None if from <= Seq(1) => Sight::Nothing,
            None => Sight::WentBack,
        });
    };
    if first > from {
        return Ok(Sight::Hole(first));
    }
    if first < from {
        records.remove(0);
    }
    records.truncate(limit);
    if !records.is_empty() {
        return Ok(Sight::Records(records));
    }
    let next = if is_cut { first_from(connection, from).await? } else { None };
    Ok(next.filter(|next| *next > from).map_or(Sight::Nothing, Sight::Hole))
}

/// One past the last record. Looks from `known` on, in steps that double, and between the last two of them.
pub(super) async fn find_end(connection: &mut Connection, known: Seq) -> Result<Seq, CallError> {
    // There is a record at `last`, unless it is 0, and none at or after `none`.
    let (mut last, mut step, mut asked) = (0, 1_u64, known.0.max(1));
    let mut none = loop {
        match first_from(connection, Seq(asked)).await? {
            Some(found) => {
                last = found.0;
                asked = last.saturating_add(step);
                step = step.saturating_mul(2);
            }
            None => break asked,
        }
    };
    while last + 1 < none {
        let middle = last + (none - last) / 2;
        match first_from(connection, Seq(middle)).await? {
            Some(found) => last = found.0,
            None => none = middle,
        }
    }
    Ok(Seq(last + 1))
}
