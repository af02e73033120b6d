//! Which database file a thread is using. The database library panics over damaged pages, and over some of them once more
//! while the first panic cleans up, which ends the process: what it says names places in its code, operators need the file.

use std::cell::RefCell;
use std::panic::{Location, PanicHookInfo, set_hook, take_hook};
use std::path::Path;
use std::sync::Arc;

thread_local!(static IN_USE: RefCell<Option<Arc<Path>>> = const { RefCell::new(None) });

/// While it is there, this thread uses a file.
#[derive(Debug)]
pub(super) struct InUse {
    before: Option<Arc<Path>>,
}

impl InUse {
    pub(super) fn new(file: &Arc<Path>) -> Self {
        // A thread that is ending may have nothing left to remember it in: what its own thread-locals held is closed then.
        let before = IN_USE.try_with(|before| before.replace(Some(Arc::clone(file))));
        Self { before: before.ok().flatten() }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let before = self.before.take();
        IN_USE.try_with(|file| file.replace(before)).ok();
    }
}

/// From now on, what is said on standard error about a panic of the database library ends with the name of the file that it
/// was using. For the start of a program: it is about the whole process.
pub fn name_damaged_files() {
    let before = take_hook();
    set_hook(Box::new(move |panic: &PanicHookInfo<'_>| {
        before(panic);
        let file = IN_USE.try_with(|file| file.try_borrow().ok().and_then(|file| file.clone()));
        if let Ok(Some(file)) = file
            && panic.location().is_some_and(is_of_library)
        {
            let file = file.display();
            eprintln!(
                "backbeat: {file} is damaged: restore the data directory from a copy, or check it while nothing runs"
            );
        }
    }));
}

/// True for the database library, and for the standard library, where its arithmetic and a panic in a clean-up are at home.
fn is_of_library(place: &Location<'_>) -> bool {
    place.file().contains("redb") || place.file().contains("library/core/")
}
