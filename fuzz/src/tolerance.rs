//! A library that is known to panic over bad input: the code around it has to catch that, and is what is tried.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::thread;

thread_local!(static WAITING: RefCell<Option<Sender<bool>>> = const { RefCell::new(None) });

/// Lets panics pass that start in a library. All others end the process.
pub(crate) fn tolerate(library: &'static str) {
    let ends = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(|place| place.file()).unwrap_or_default();
        if place.contains(library) {
            return;
        }
        // A panic while another one cleans up ends the process, and nothing around it can catch that. The thread is given
        // up instead: it stays here for good.
        if place.ends_with("core/src/panicking.rs")
            && let Some(waiting) = WAITING.with(|waiting| waiting.borrow_mut().take())
        {
            waiting.send(false).unwrap_or_default();
            loop {
                thread::park();
            }
        }
        ends(panic);
    }));
}

/// Runs something on a thread of its own, until it ends or is given up. A panic of its own ends the process.
pub(crate) fn run(what: impl FnOnce() + Send + 'static) {
    let (ended, waiting) = channel();
    let thread = thread::spawn(move || {
        WAITING.with(|own| *own.borrow_mut() = Some(ended.clone()));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(what)) {
            let text =
                panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            eprintln!("panicked at: {}", text.unwrap_or("something without a text"));
            std::process::abort();
        }
        ended.send(true).unwrap_or_default();
    });
    if waiting.recv().expect("the thread says how it ended") {
        thread.join().expect("its panics were caught");
    }
}
