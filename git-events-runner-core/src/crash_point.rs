/// To be called right after the write of this name: where a test can end the process, as `kill -9` would, by the action `return` of the
/// fail point of that name. Without the feature `failpoints` this is nothing.
pub fn written(write: &str) {
    let _ = write;
    fail::fail_point!(write, |_| std::process::abort());
}
