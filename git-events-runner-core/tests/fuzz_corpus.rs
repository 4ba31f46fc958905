//! What the fuzz targets in `fuzz/` have come upon, read again by each build.

use std::{collections::BTreeSet, fs, path::Path};

use git_events_runner_core::git::fuzzing::TARGETS;

#[test]
fn the_corpus_of_each_fuzz_target_is_read_as_it_should_be() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let names = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(fuzz.join(folder)).expect("it is in the repository");
        entries
            .map(|entry| entry.expect("it can be read").path().file_stem().expect("it has a name").to_string_lossy().into_owned())
            .collect()
    };
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(targets, names("corpus"), "each has a corpus");
    assert_eq!(targets, names("fuzz_targets"), "each can be fuzzed");
    for (name, read) in TARGETS {
        let files = fs::read_dir(fuzz.join("corpus").join(name)).expect("it is in the repository");
        let files: Vec<_> = files.map(|file| file.expect("it can be read").path()).collect();
        assert!(files.len() > 2, "{name} has a corpus");
        for file in files {
            println!("{}", file.display());
            read(&fs::read(&file).expect("it can be read"));
        }
    }
}
