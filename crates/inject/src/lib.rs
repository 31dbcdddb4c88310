//! The library that is injected into a CUDA program to record what it runs on the GPU.
//!
//! The CUDA driver loads the library that `CUDA_INJECTION64_PATH` names while it initialises and calls
//! [`InitializeInjection`]. With `COTENANT_TRACE=<folder>` in the environment this creates `<folder>/<pid>.trace`
//! (`docs/timeline-format.md`) and starts one thread, which sleeps until the controlling side asks for something
//! through the file's header page. Recording uses CUPTI's activity interface, which is loaded at run time and is
//! switched off until asked for. Why it is made so: `docs/design/injection.md`.
//!
//! Rules of this crate, since it lives in other people's programs: no panic leaves it (each function that others
//! call catches them), it never writes to standard output, it says what is wrong once on standard error and in the
//! header page, and whatever fails leaves the program running without recording.

mod buffers;
mod cupti;
mod recorder;
mod search;
mod spool;
mod sys;

use cotenant_timeline::page::{Request, State};
use recorder::Recorder;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

static RECORDER: OnceLock<Recorder> = OnceLock::new();

/// The recorder, in the process that created it: not before, and not in children that it forked.
fn recorder() -> Option<&'static Recorder> {
    RECORDER.get().filter(|recorder| recorder.pid == std::process::id())
}

/// Runs what others call; a panic within ends recording, not the program.
fn guarded<T>(otherwise: T, work: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(value) => value,
        Err(_) => {
            let _ = catch_unwind(|| {
                if let Some(recorder) = recorder() {
                    recorder.disable("an internal error of the library");
                }
            });
            otherwise
        }
    }
}

/// Says something on standard error; a closed or full one is no reason to fail.
fn say(text: &str) {
    use std::io::Write;
    let _ =
        std::io::stderr().write_all(format!("cotenant: kernel times are not recorded: {text}\n").as_bytes());
}

/// Called by the CUDA driver during its initialisation. Always tells it to go on.
#[unsafe(no_mangle)]
pub extern "C" fn InitializeInjection() -> c_int {
    guarded((), initialise);
    1
}

fn initialise() {
    let Some(folder) = std::env::var_os(cotenant_timeline::ENV_FOLDER) else { return };
    if RECORDER.get().is_some() {
        return;
    }
    let path = PathBuf::from(folder).join(format!("{}.trace", std::process::id()));
    let created = match Recorder::create(&path) {
        Ok(created) => created,
        Err(error) => return say(&format!("cannot create {}: {error}", path.display())),
    };
    if RECORDER.set(created).is_err() {
        return;
    }
    let Some(recorder) = recorder() else { return };
    if std::env::var_os(cotenant_timeline::ENV_START).is_some_and(|value| value == "on") {
        recorder.start();
        let _ = recorder.carry_out(Request::On);
    }
    if let Err(error) = sys::spawn_quietly(c"cotenant-trace", || guarded((), serve)) {
        recorder.disable(&format!("cannot start a thread: {error}"));
        return;
    }
    sys::at_exit(at_exit);
}

/// The library's thread: does what the request word asks for, and sleeps.
fn serve() {
    let Some(recorder) = recorder() else { return };
    recorder.start();
    let page = recorder.page;
    let mut last = 0;
    loop {
        let word = page.request.load(Ordering::Acquire);
        if word == last {
            recorder.leave_if_failed();
            sys::futex_wait(&page.request, last);
            continue;
        }
        let outcome = recorder.carry_out(Request::of_word(word));
        last = word;
        page.outcome.store(outcome as u32, Ordering::Release);
        page.answer.store(word, Ordering::Release);
        sys::futex_wake(&page.answer);
    }
}

extern "C" fn at_exit() {
    guarded((), || {
        if let Some(recorder) = recorder() {
            recorder.end();
        }
    });
}

/// Stores a state and wakes whoever waits for it to change.
fn set_state(page: &cotenant_timeline::page::Page, state: State) {
    page.state.store(state as u32, Ordering::Release);
    sys::futex_wake(&page.state);
}
