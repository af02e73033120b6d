//! What the demo writes: a plan made from a number of objects, the same on every run.
//!
//! It covers what replication finds hard: nothing at all and 64 MiB, one part and many, keys that want escaping, several
//! versions of a key in a row, tags that change while the version is on its way, delete markers and what comes after.

use super::content::{Content, Random};

/// The seed of every run: there is nothing to learn from a demo that differs each time.
const SEED: u64 = 0xBAC2_BEA7;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Keys that have broken some program before: escapes, dots, slashes, the longest one, right-to-left, composed and not.
const AWKWARD_KEYS: [&str; 32] = [
    "with space.txt",
    "plus+sign and%20percent.txt",
    "percent%25%2F.txt",
    "question?mark=1&other=2",
    "hash#fragment",
    "semi;colon:colon,comma",
    "quotes\"single'back`tick",
    "angle<brackets>&amp;.xml",
    "braces{a}[b](c)|pipe^caret~tilde",
    "back\\slash\\path",
    "star*dollar$at@bang!",
    "trailing/slash/",
    "double//slash//inside",
    "./dot/segment",
    "up/../and/down",
    "...",
    " leading space",
    "trailing space ",
    "tab-free   many   spaces",
    "ünïcödé/ärger.txt",
    "e\u{301}-decomposed.txt",
    "\u{e9}-composed.txt",
    "日本語/東京.jpg",
    "한국어/서울.jpg",
    "русский/Москва.jpg",
    "العربية/ملف.txt",
    "emoji/🦀🚀👩‍👩‍👧.bin",
    "math/∑∫√.csv",
    "zero\u{200b}width.txt",
    "UPPER/lower/MiXeD.TXT",
    "0",
    "undefined",
];

/// What a client sends besides bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Headers {
    /// Content headers, `content-type` for example.
    pub(super) content: Vec<(String, String)>,
    /// User metadata, without the `x-amz-meta-` in front.
    pub(super) user: Vec<(String, String)>,
}

/// Tags of a version.
pub(super) type Tags = Vec<(String, String)>;

/// One request of a client, multipart uploads counted as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Writes a new version, in parts of `part_bytes` if given.
    Put { content: Content, part_bytes: Option<u64>, headers: Headers, tags: Tags },
    /// Replaces the tags of the version written last.
    PutTags(Tags),
    /// Takes the tags of the version written last away.
    DeleteTags,
    /// Puts a delete marker.
    Delete,
}

/// One key and what happens to it, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObjectPlan {
    /// The key.
    pub(super) key: String,
    /// What happens to it.
    pub(super) actions: Vec<Action>,
}

impl ObjectPlan {
    /// How many versions it leaves, markers counted.
    pub(super) fn versions(&self) -> usize {
        self.actions.iter().filter(|action| matches!(action, Action::Put { .. } | Action::Delete)).count()
    }
}

/// The plan for `objects` keys.
pub(super) fn plan(objects: usize) -> Vec<ObjectPlan> {
    let mut random = Random::new(SEED);
    (0..objects).map(|number| object(number, &mut random)).collect()
}

fn object(number: usize, random: &mut Random) -> ObjectPlan {
    let (bytes, part_bytes) = size(number, random);
    let put = |bytes, part_bytes, random: &mut Random| Action::Put {
        content: Content::new(random.next(), bytes),
        part_bytes,
        headers: headers(number),
        tags: if number % 6 == 2 { tags(number, "first") } else { Tags::new() },
    };
    let mut actions = vec![put(bytes, part_bytes, random)];
    if number % 6 == 3 {
        actions.push(Action::PutTags(tags(number, "later")));
    }
    if number % 12 == 8 {
        actions.push(Action::DeleteTags);
    }
    if number % 5 == 1 {
        for overwrite in 0..=random.below(3) {
            actions.push(put(random.below(32 * KIB), None, random));
            if overwrite == 1 {
                actions.push(Action::PutTags(tags(number, "overwritten")));
            }
        }
    }
    if number % 9 == 4 {
        actions.push(Action::Delete);
    }
    if number % 18 == 4 {
        actions.push(put(random.below(32 * KIB), None, random));
        actions.push(Action::PutTags(tags(number, "back")));
    }
    ObjectPlan { key: key(number), actions }
}

fn key(number: usize) -> String {
    if number == 5 {
        // The longest key there is, in characters of three bytes.
        return format!("{}x", "長".repeat(341));
    }
    match (number % 8 == 6).then(|| AWKWARD_KEYS.get(number / 8)).flatten() {
        Some(key) => format!("awkward/{key}"),
        None => format!("plain/{:02}/object-{number:05}.bin", number % 16),
    }
}

/// Bytes of an object and of its parts.
fn size(number: usize, random: &mut Random) -> (u64, Option<u64>) {
    match number {
        0 => (64 * MIB, None),
        1 => (40 * MIB, Some(8 * MIB)),
        2 => (5 * MIB + 1, Some(5 * MIB)),
        3 => (5 * MIB, Some(5 * MIB)),
        _ if number % 40 == 17 => (10 * MIB + random.below(MIB), Some(5 * MIB)),
        _ if number % 20 == 7 => (MIB + random.below(3 * MIB), None),
        _ if number % 7 == 4 => (0, None),
        _ if number % 7 == 5 => (1 + random.below(3), None),
        _ => (random.below(64 * KIB), None),
    }
}

fn headers(number: usize) -> Headers {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut headers = Headers::default();
    match number % 4 {
        0 => headers.content.push(pair("content-type", "image/jpeg")),
        1 => headers.content.extend([
            pair("content-type", "text/plain; charset=utf-8"),
            pair("cache-control", "max-age=3600, must-revalidate"),
            pair("content-disposition", "attachment; filename=\"a b.txt\""),
        ]),
        2 => headers.content.push(pair("content-encoding", "zstd")),
        _ => {}
    }
    if number.is_multiple_of(3) {
        headers.user.extend([
            pair("number", &number.to_string()),
            pair("sentence", "with spaces; and = signs, \"quoted\""),
            pair("camera-model", "x100"),
        ]);
    }
    headers
}

fn tags(number: usize, round: &str) -> Tags {
    let pair = |name: &str, value: String| (name.to_owned(), value);
    let mut tags = vec![pair("round", round.to_owned()), pair("number", number.to_string())];
    if number.is_multiple_of(2) {
        tags.push(pair("Größe + Art", "a+b = c/d @ è:_.-".to_owned()));
    }
    if number.is_multiple_of(4) {
        tags.push(pair("empty", String::new()));
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn puts(plan: &[ObjectPlan]) -> impl Iterator<Item = (Content, Option<u64>)> {
        plan.iter().flat_map(|object| &object.actions).filter_map(|action| match action {
            Action::Put { content, part_bytes, .. } => Some((*content, *part_bytes)),
            Action::PutTags(_) | Action::DeleteTags | Action::Delete => None,
        })
    }

    #[test]
    fn the_default_plan_covers_what_the_demo_promises() {
        let plan = plan(320);
        let actions = || plan.iter().flat_map(|object| &object.actions);
        assert_eq!(plan.iter().map(|object| &object.key).collect::<BTreeSet<_>>().len(), 320);
        assert!(AWKWARD_KEYS.iter().all(|key| plan.iter().any(|object| object.key.ends_with(key))));
        assert!(puts(&plan).count() >= 300);
        assert!(puts(&plan).any(|(content, _)| content.bytes() == 0));
        assert!(puts(&plan).any(|(content, part_bytes)| content.bytes() == 64 * MIB && part_bytes.is_none()));
        assert!(puts(&plan).filter(|(_, part_bytes)| part_bytes.is_some()).count() >= 8);
        assert!(actions().filter(|action| **action == Action::Delete).count() >= 30);
        assert!(actions().any(|action| *action == Action::DeleteTags));
        assert!(actions().filter(|action| matches!(action, Action::PutTags(_))).count() >= 40);
        assert!(plan.iter().filter(|object| object.versions() > 1).count() >= 80);
        assert!(puts(&plan).map(|(content, _)| content.bytes()).sum::<u64>() < 320 * MIB);
    }

    #[test]
    fn keys_and_parts_stay_within_what_s3_allows() {
        for object in plan(2000) {
            assert!(object.key.len() <= 1024, "{} bytes", object.key.len());
            assert!(matches!(object.actions[0], Action::Put { .. }));
        }
        assert!(plan(6).iter().any(|object| object.key.len() == 1024));
        for (content, part_bytes) in puts(&plan(2000)) {
            assert!(part_bytes.is_none_or(|part| part >= 5 * MIB && part <= content.bytes()));
        }
    }

    #[test]
    fn the_plan_is_the_same_on_every_run() {
        assert_eq!(plan(100), plan(100));
    }

    #[test]
    fn a_part_of_the_plan_is_a_plan() {
        assert_eq!(plan(10), plan(100)[..10]);
    }
}
