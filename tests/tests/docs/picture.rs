//! The picture in `docs/architecture.md` is true: it has every crate and every room, and its arrows are those of the code.
//!
//! A room is a folder below a crate's `src`. An arrow between two rooms of a crate says that one names the other in code
//! that is not a test; an arrow between two crates that one depends on the other. A thick arrow goes into another crate's
//! room: it has to be there in the code as well, but not every such use is drawn. No room is reached from itself.

use backbeat_tests::binary::workspace;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The crates that are divided into rooms, and how code names them.
const HOUSES: [(&str, &str); 4] = [
    ("core", "backbeat_core"),
    ("backends", "backbeat_backends"),
    ("sim", "backbeat_sim"),
    ("daemons", "backbeat"),
];

type Arrows = BTreeSet<(String, String)>;

/// What a page draws, or what is there.
#[derive(Debug, Default, PartialEq, Eq)]
struct Picture {
    /// The crates, with their rooms.
    crates: BTreeMap<String, BTreeSet<String>>,
    /// Who uses whom: rooms of one crate, or crates.
    arrows: Arrows,
    /// Uses of rooms in other crates.
    thick: Arrows,
}

impl Picture {
    /// Reads the first `mermaid` block of a page.
    fn drawn(page: &str) -> Self {
        let mut picture = Self::default();
        let mut inside: Option<String> = None;
        let block = page.split("```mermaid\n").nth(1).and_then(|rest| rest.split("```").next());
        for line in block.expect("the page has a picture").lines().map(str::trim) {
            let name = |text: &str| text.split('[').next().unwrap_or_default().trim().to_owned();
            let arrow = [(" --> ", false), (" ==> ", true)]
                .into_iter()
                .find_map(|(arrow, is_thick)| Some((line.split_once(arrow)?, is_thick)));
            if line.is_empty() || line.starts_with("%%") || line.starts_with("flowchart ") {
            } else if line == "end" {
                inside = None;
            } else if let Some(title) = line.strip_prefix("subgraph ") {
                picture.crates.insert(name(title), BTreeSet::new());
                inside = Some(name(title));
            } else if let Some(((from, to), is_thick)) = arrow {
                let arrows = if is_thick { &mut picture.thick } else { &mut picture.arrows };
                arrows.extend(to.split('&').map(|to| (from.trim().to_owned(), to.trim().to_owned())));
            } else if let Some(house) = &inside {
                picture.crates.entry(house.clone()).or_default().insert(name(line));
            } else {
                picture.crates.insert(name(line), BTreeSet::new());
            }
        }
        picture
    }

    /// Looks at the code.
    fn built() -> Self {
        let mut picture = Self::default();
        for entry in fs::read_dir(workspace()).unwrap() {
            let path = entry.unwrap().path();
            if path.join("Cargo.toml").exists() {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                picture.arrows.extend(dependencies(&path).into_iter().map(|on| (name.clone(), on)));
                picture.crates.insert(name, BTreeSet::new());
            }
        }
        for (house, _) in HOUSES {
            let src = workspace().join(house).join("src");
            let rooms = fs::read_dir(&src).unwrap().map(|entry| entry.unwrap());
            let rooms = rooms.filter(|entry| entry.file_type().unwrap().is_dir());
            let rooms = rooms.map(|entry| entry.file_name().to_string_lossy().into_owned());
            picture.crates.insert(house.to_owned(), rooms.collect());
        }
        for (house, _) in HOUSES {
            for room in picture.crates[house].clone() {
                for (other, used) in uses(&workspace().join(house).join("src"), &room, house) {
                    let is_room = picture.crates[&other].contains(&used);
                    if is_room && other == house && used != room {
                        picture.arrows.insert((room.clone(), used));
                    } else if is_room && other != house {
                        picture.thick.insert((room.clone(), used));
                    }
                }
            }
        }
        picture
    }
}

/// The crates of the workspace that a crate depends on outside of tests.
fn dependencies(folder: &Path) -> BTreeSet<String> {
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    let names = section.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
    let package = |name: &str| HOUSES.iter().find(|(_, code)| *code == name.replace('-', "_"));
    names.filter_map(package).map(|(house, _)| (*house).to_owned()).collect()
}

/// What the code of a room names: crates and what comes first in them.
fn uses(src: &Path, room: &str, house: &str) -> BTreeSet<(String, String)> {
    let mut files = Vec::new();
    super::sources(&src.join(room), "rs", &mut files);
    let mut found = BTreeSet::new();
    for file in files {
        let path: Vec<String> = file
            .strip_prefix(src)
            .unwrap()
            .components()
            .map(|c| c.as_os_str().to_string_lossy().into())
            .collect();
        if path.iter().any(|part| part == "tests" || part == "tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let text: String =
            text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        for (other, code) in HOUSES {
            found.extend(after(&text, code).into_iter().map(|name| (other.to_owned(), name.to_owned())));
        }
        // How often `super` leads out of the room.
        let depth = path.len() - usize::from(path.last().is_some_and(|last| last == "mod.rs"));
        let out = vec!["super"; depth].join("::");
        for start in ["crate", &out] {
            found.extend(after(&text, start).into_iter().map(|name| (house.to_owned(), name.to_owned())));
        }
    }
    found
}

/// The words that follow `start::` where that is a path of its own, each of a list in braces.
fn after<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let word = |text: &'a str| text.trim_start().split(|c| !is_word(c)).next().unwrap_or_default();
    let start = format!("{start}::");
    let mut found = Vec::new();
    for (at, _) in text.match_indices(&start) {
        let rest = &text[at + start.len()..];
        if text[..at].ends_with(is_word) || text[..at].ends_with("::") {
            continue;
        }
        let Some(list) = rest.strip_prefix('{') else {
            found.push(word(rest));
            continue;
        };
        found.push(word(list));
        let mut depth = 1;
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => found.push(word(&list[at + 1..])),
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

#[test]
fn the_picture_of_the_house_is_true() {
    let page = fs::read_to_string(workspace().join("docs/architecture.md")).unwrap();
    let (drawn, built) = (Picture::drawn(&page), Picture::built());
    assert_eq!(drawn.crates, built.crates, "left: crates and rooms of the picture, right: the folders");
    let superfluous: Vec<_> = drawn.arrows.difference(&built.arrows).collect();
    assert!(superfluous.is_empty(), "arrows of the picture that are not in the code: {superfluous:?}");
    let missing: Vec<_> = built.arrows.difference(&drawn.arrows).collect();
    assert!(missing.is_empty(), "arrows that docs/architecture.md lacks: {missing:?}");
    let untrue: Vec<_> = drawn.thick.difference(&built.thick).collect();
    assert!(
        untrue.is_empty() && !drawn.thick.is_empty(),
        "thick arrows that are not in the code: {untrue:?}"
    );
}

/// What is left of some arrows when whoever uses nothing is taken away again and again: circles, and who uses them.
fn circles(arrows: &Arrows) -> Arrows {
    let mut left = arrows.clone();
    loop {
        let users: BTreeSet<String> = left.iter().map(|(from, _)| from.clone()).collect();
        let kept: Arrows = left.iter().filter(|(_, to)| users.contains(to)).cloned().collect();
        if kept.len() == left.len() {
            return left;
        }
        left = kept;
    }
}

#[test]
fn no_room_leans_on_itself() {
    let arrow = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    let circle: Arrows = [arrow("a", "b"), arrow("b", "a")].into();
    assert_eq!(circles(&[arrow("a", "b"), arrow("b", "a"), arrow("b", "c")].into()), circle);
    let found = circles(&Picture::built().arrows);
    assert!(found.is_empty(), "rooms in a circle, or above one: {found:?}");
}

#[test]
fn a_picture_is_read_as_it_is_drawn() {
    let page = "# P\n```mermaid\nflowchart TB\n  a --> b & c\n  subgraph b [\"b: x\"]\n    d[\"d<br/>y\"]\n  end\n  \
                c[\"c\"]\n  a\n  d ==> e\n```\n";
    let drawn = Picture::drawn(page);
    let set = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let pair = |(from, to): (&str, &str)| (from.to_owned(), to.to_owned());
    let crates = [("a", set(&[])), ("b", set(&["d"])), ("c", set(&[]))];
    assert_eq!(drawn.crates, crates.map(|(name, rooms)| (name.to_owned(), rooms)).into());
    assert_eq!(drawn.arrows, [("a", "b"), ("a", "c")].map(pair).into());
    assert_eq!(drawn.thick, [("d", "e")].map(pair).into());
}

#[test]
fn uses_are_found_by_whole_words() {
    let text = "use crate::api::x; crate::stack; mycrate::no; a::crate::no; super::super::up; super::down; \
                use core_of::{a::{b, c}, d, self}; no, more";
    assert_eq!(after(text, "crate"), ["api", "stack"]);
    assert_eq!(after(text, "super::super"), ["up"]);
    assert_eq!(after(text, "core_of"), ["a", "d", "self"]);
}
