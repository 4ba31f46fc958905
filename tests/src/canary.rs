use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use data_encoding::{BASE64, HEXLOWER};

/// Secrets, and what they look like where they must not be, in whatever case: as they are, encoded, and as the bytes of a debugging output.
#[derive(Clone)]
pub struct Canaries(Vec<(String, Vec<String>)>);

impl Canaries {
    /// Secrets by names under which they are told.
    pub fn new(secrets: &[(&str, &str)]) -> Self {
        Self(secrets.iter().map(|(name, secret)| ((*name).to_owned(), forms(secret))).collect())
    }

    /// The names of those that are in a text.
    pub fn found_in(&self, text: &str) -> Vec<&str> {
        let text = text.to_ascii_lowercase();
        let is_in = |forms: &[String]| forms.iter().any(|form| text.contains(&form.to_ascii_lowercase()));
        self.0.iter().filter(|(_, forms)| is_in(forms)).map(|(name, _)| name.as_str()).collect()
    }

    /// Fails if one of them is in a text; the text itself is not told.
    pub fn assert_not_in(&self, what: &str, text: &str) {
        let found = self.found_in(text);
        assert!(found.is_empty(), "{what} shows {found:?}");
    }

    /// Fails if one of them is in a file of a folder, or in the name of one.
    pub fn assert_not_in_folder(&self, what: &str, folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type());
            self.assert_not_in(what, &path.to_string_lossy());
            if kind.is_ok_and(|kind| kind.is_dir()) {
                self.assert_not_in_folder(what, &path);
            } else {
                self.assert_not_in(&format!("{what}: {}", path.display()), &String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()));
            }
        }
    }

    /// Looks for them again and again in the command lines and environments of all processes of the machine.
    pub fn watch_processes(&self) -> ProcessWatch {
        let (stop, found) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Vec<String>>>::default());
        let (canaries, stopped, shown) = (self.clone(), Arc::clone(&stop), Arc::clone(&found));
        let watch = thread::spawn(move || {
            let mut rounds = 0;
            while !stopped.load(Ordering::SeqCst) {
                for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
                    let read = |file: &str| String::from_utf8_lossy(&fs::read(process.path().join(file)).unwrap_or_default()).into_owned();
                    let texts = ["cmdline", "environ"].map(|file| (file, read(file)));
                    // nginx tells git-http-backend so who has come to it.
                    if texts[1].1.contains("GIT_PROJECT_ROOT=") {
                        continue;
                    }
                    for (file, text) in texts {
                        for name in canaries.found_in(&text) {
                            let program = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                            let line = format!("{name} in the {file} of {}", program.trim());
                            shown.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                        }
                    }
                }
                rounds += 1;
                thread::sleep(Duration::from_millis(20));
            }
            rounds
        });
        ProcessWatch { stop, found, watch }
    }
}

/// Looks at all processes of the machine, until it is asked what it has seen.
pub struct ProcessWatch {
    stop: Arc<AtomicBool>,
    found: Arc<Mutex<Vec<String>>>,
    watch: JoinHandle<usize>,
}

impl ProcessWatch {
    /// Fails if a secret was to be seen.
    pub fn assert_nothing_seen(self) {
        self.stop.store(true, Ordering::SeqCst);
        let rounds = self.watch.join().unwrap_or_default();
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(rounds > 0 && found.is_empty(), "seen in {rounds} rounds: {found:?}");
    }
}

fn forms(secret: &str) -> Vec<String> {
    let bytes = secret.as_bytes();
    let decimal = bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let mut forms = vec![secret.to_owned(), HEXLOWER.encode(bytes), decimal];
    // As base64 of something that it is part of, which may begin at any third byte: without the letters that depend on what is around it.
    for before in 0..3 {
        let encoded = BASE64.encode(&[&vec![0; before], bytes].concat());
        let (from, to) = ((before * 8).div_ceil(6), (before + bytes.len()) * 8 / 6);
        forms.push(encoded[from..to].to_owned());
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_every_form() {
        let canaries = Canaries::new(&[("password", "c4n4ry-s3cret")]);
        for user in ["", "a", "ab", "abc", "x-access-token"] {
            assert_eq!(canaries.found_in(&BASE64.encode(format!("{user}:c4n4ry-s3cret!").as_bytes())), ["password"]);
        }
        for text in ["x c4n4ry-s3cret", &format!("{:?}", b"-c4n4ry-s3cret-".to_vec()), &HEXLOWER.encode(b"-c4n4ry-s3cret")] {
            assert_eq!(canaries.found_in(text), ["password"], "{text}");
        }
        assert!(canaries.found_in("c4n4ry").is_empty());
    }
}
