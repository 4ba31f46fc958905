//! What the fuzz targets in `fuzz/` have come upon, read again by each build, and changes to it at random: `FUZZ_SECONDS` says for how long, for
//! each target.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    time::{Duration, Instant},
};

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
        let mut inputs = vec![];
        for file in files {
            println!("{}", file.display());
            inputs.push(fs::read(&file).expect("it can be read"));
            read(&inputs[inputs.len() - 1]);
        }
        change(name, read, &inputs);
    }
}

/// Reads what is made of these by a few changes at random, which are the same ones each time.
fn change(name: &str, read: fn(&[u8]), inputs: &[Vec<u8>]) {
    let seconds = std::env::var("FUZZ_SECONDS").map_or(0, |seconds| seconds.parse().expect("a number of seconds"));
    // If one fails, this is what it was.
    let file = std::env::temp_dir().join(format!("fuzz-{name}-{}", std::process::id()));
    let (end, mut random, mut count) = (Instant::now() + Duration::from_secs(seconds), 0x9e37_79b9_7f4a_7c15_u64, 0);
    while count < 200 || Instant::now() < end {
        let mut below = |limit: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random % limit.max(1) as u64).unwrap_or_default()
        };
        let mut input = inputs[below(inputs.len())].clone();
        for _ in 0..=below(4) {
            let (at, other) = (below(input.len()), &inputs[below(inputs.len())]);
            match below(6) {
                0 => input.truncate(at),
                1 => input.insert(at, u8::try_from(below(256)).unwrap_or_default()),
                2 if !input.is_empty() => drop(input.remove(at)),
                3 if !input.is_empty() => input[at] ^= 1 << below(8),
                4 if !input.is_empty() => input[at] = [0, 0xff, b'0', b'\n', 0x7f, 0x80][below(6)],
                _ => {
                    let from = below(other.len());
                    let piece = &other[from..from + below(other.len() - from)];
                    input.splice(at..at, piece.iter().copied());
                }
            }
        }
        fs::write(&file, &input).expect("it can be written");
        read(&input);
        count += 1;
    }
    fs::remove_file(file).expect("it was written");
    println!("{name}: {count} changes");
}
