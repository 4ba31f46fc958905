//! What is other each time, made alike.

use regex::Regex;

/// What a text says without what is other each time that it is printed: times and how long ago they are, ids and names that were made up,
/// and how wide columns are.
pub fn alike(text: &str) -> String {
    let changing = [
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID"),
        (r"SHA256:[A-Za-z0-9+/]{43}", "FINGERPRINT"),
        (r"\bAAAA[A-Za-z0-9+/=]+", "KEY"),
        (r"(Resource Version: +)\d+", "$1VERSION"),
        // Of a run, and of its Pod.
        (r"-[0-9a-z]{10}\b(-[0-9a-z]{5}\b)?", "-RUN"),
        (r"\b(\d+(d|h|m|s|ms))+\b", "AGO"),
        (r"-{3,}", "---"),
        (r" +", " "),
    ];
    let alike =
        changing.iter().fold(text.to_owned(), |text, (pattern, word)| Regex::new(pattern).unwrap().replace_all(&text, *word).into_owned());
    alike.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn what_is_other_each_time_is_alike_and_nothing_else_is() {
    let one = "NAME                     STATUS     AGE\ncool-trigger-2m1rq5pz0x   Complete   3m10s   \n";
    let other = "NAME              STATUS   AGE\ncool-trigger-0000000000   Complete   9s\n";
    assert_eq!(alike(one), alike(other));
    assert_ne!(alike(one), alike(&other.replace("Complete", "Failed")));
    assert_ne!(alike(one), alike(&other.replace("9s", "<invalid>")));
    assert_ne!(alike(one), alike(&other.replace("cool", "hot")));
}
