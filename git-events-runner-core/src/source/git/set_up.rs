use git2::{ConfigLevel, opts};

/// Keeps the configuration of the user and of the machine out of libgit2, for the whole process: what a checkout is depends on the commit
/// alone, and a configuration that cannot be read hinders nothing.
///
/// To be called once, first thing in `main`, before there is a second thread.
///
/// # Errors
///
/// Out of memory.
#[expect(unsafe_code, reason = "libgit2 keeps these settings in variables of the process, which it does not lock")]
pub fn set_up() -> Result<(), git2::Error> {
    let levels = [ConfigLevel::ProgramData, ConfigLevel::System, ConfigLevel::XDG, ConfigLevel::Global];
    // SAFETY: by what is asked of callers, nothing else uses libgit2 yet.
    unsafe {
        for level in levels {
            opts::set_search_path(level, "")?;
        }
        // Git refuses repositories of other users, since it runs commands that their configuration names. libgit2 runs none.
        opts::set_verify_owner_validation(false)
    }
}
