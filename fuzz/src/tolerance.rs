//! A library that is known to panic over bad input, and to ask for more memory than there is: the code around it has to catch
//! what can be caught, and is what is tried.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::thread;

/// Bytes that code on a thread of [`run`] may ask for at once.
const ONCE_MAX: usize = 64 << 20;

thread_local!(static WAITING: RefCell<Option<Sender<bool>>> = const { RefCell::new(None) });

/// Gives up the thread that [`run`] started, if this is one: it stays here for good, as nothing can unwind it.
fn give_up() {
    // Another borrow is under way only where the thread ends anyhow.
    let waiting =
        WAITING.try_with(|waiting| waiting.try_borrow_mut().ok().and_then(|mut waiting| waiting.take()));
    if let Ok(Some(waiting)) = waiting {
        waiting.send(false).unwrap_or_default();
        loop {
            thread::park();
        }
    }
}

/// Lets panics pass that start in a library. All others end the process.
pub(crate) fn tolerate(library: &'static str) {
    let ends = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(|place| place.file()).unwrap_or_default();
        if place.contains(&format!("/{library}-")) {
            return;
        }
        // A panic while another one cleans up ends the process, and nothing around it can catch that.
        if place.ends_with("core/src/panicking.rs") {
            give_up();
        }
        // Arithmetic that the library left to the standard library panics there.
        if place.starts_with("/rustc/") && is_called_by(library) {
            return;
        }
        ends(panic);
    }));
}

/// Whether a library is closer to the top of the stack than code of this repository.
fn is_called_by(library: &str) -> bool {
    let (library, own) = (format!("{library}::"), module_path!());
    let stack = Backtrace::force_capture().to_string();
    let mut frames = stack.lines().filter(|frame| !frame.contains(own));
    frames
        .find(|frame| frame.contains(&library) || frame.contains("backbeat"))
        .is_some_and(|frame| frame.contains(&library))
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

/// The system's allocator. A thread of [`run`] that asks for too much at once is given up before it has the memory: a damaged
/// page number makes the database ask for 4 GiB, all of which it fills before it looks whether the file is that long.
struct Bounded;

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

// SAFETY: every call goes to the system's allocator as it came, or never returns.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > ONCE_MAX {
            give_up();
        }
        // SAFETY: what the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() > ONCE_MAX {
            give_up();
        }
        // SAFETY: what the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > ONCE_MAX {
            give_up();
        }
        // SAFETY: what the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: what the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}
