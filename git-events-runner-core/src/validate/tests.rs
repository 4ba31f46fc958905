use super::*;

fn read(mode: Mode, text: &str) -> Reading {
    Reader::new(mode).read("file.yaml", text)
}

fn mistakes(text: &str) -> Vec<String> {
    read(Mode::Cluster, text).mistakes.iter().map(ToString::to_string).collect()
}

const REPO: &str = "apiVersion: git-events-runner.rs/v1alpha1
kind: GitRepo
metadata:
  name: app
spec:
  repoUri: https://git.example.com/app
";

#[test]
fn all_mistakes_are_told_at_once_with_their_places() {
    let text = "apiVersion: git-events-runner.rs/v1alpha1
kind: ScheduleTrigger
metadata:
  name: app
spec:
  sources:
    names: [a, a]
    watchon: {}
  schedule:
    interval: soon
    cron: '* * * * *'
  action:
    kind: action
";
    assert_eq!(
        mistakes(text),
        [
            "file.yaml:7:16: ScheduleTrigger default/app: spec.sources.names[1]: is there twice",
            "file.yaml:8:5: ScheduleTrigger default/app: spec.sources.watchon: there is no such field; did you mean watchOn?",
            "file.yaml:9:3: ScheduleTrigger default/app: spec.schedule: must have exactly one of interval and cron",
            "file.yaml:10:5: ScheduleTrigger default/app: spec.schedule.interval: must be a duration of at least 1s, such as 30s, 5m or 1h 30m",
            "file.yaml:13:5: ScheduleTrigger default/app: spec.action.name: must be there",
            "file.yaml:13:11: ScheduleTrigger default/app: spec.action.kind: must be one of Action, ClusterAction; did you mean Action?",
        ]
    );
}

#[test]
fn documents_after_a_broken_one_are_read_and_a_broken_one_is_known() {
    let reading = read(Mode::Cluster, &format!("{REPO}  timeout: 0s\n---\n{}", REPO.replace("name: app", "name: other")));
    let known: Vec<_> = reading.documents.iter().map(|document| (document.id.name.as_str(), document.object.is_some())).collect();
    assert_eq!(known, [("app", false), ("other", true)]);
    assert_eq!(reading.documents[1].line, 9);
}

#[test]
fn text_that_is_no_yaml_is_a_mistake_and_what_was_read_before_it_stays() {
    let reading = read(Mode::Cluster, &format!("{REPO}---\nkind: [\n"));
    assert_eq!(reading.documents.len(), 1);
    let [mistake] = &reading.mistakes[..] else { panic!("{:?}", reading.mistakes) };
    assert!(mistake.message.starts_with("not YAML: ") && mistake.line >= 8, "{mistake}");
}

#[test]
fn defaults_are_applied_and_null_is_as_good_as_absent() {
    let text = "apiVersion: git-events-runner.rs/v1alpha1
kind: WebhookTrigger
metadata: {name: app, namespace: team}
spec:
  sources: {names: [a], watchOn: null}
  webhook: {authConfig: {secretRef: {name: s}, key: k, header: null}}
  action: {kind: ClusterAction, name: act}
";
    let reading = read(Mode::Cluster, text);
    let Some(Object::WebhookTrigger(trigger)) = &reading.documents[0].object else { panic!("{:?}", reading.mistakes) };
    assert_eq!(trigger.spec.common.sources.watch_on, crd::WatchOn::default());
    assert_eq!(trigger.spec.webhook.auth_config.as_ref().unwrap().auth_type, crd::WebhookAuthType::Header);
    let plan = trigger.plan().unwrap();
    assert_eq!(plan.sources, [ObjectRef::namespaced("GitRepo", "team", "a")]);
    assert_eq!(plan.action, ObjectRef::cluster("ClusterAction", "act"));
}

#[test]
fn a_git_repo_reads_secrets_of_its_own_namespace_only() {
    let with = |namespace: &str| format!("{REPO}  authConfig: {{type: basic, secretRef: {{name: s, namespace: {namespace}}}}}\n");
    assert_eq!(mistakes(&with("default")), [""; 0]);
    assert_eq!(
        mistakes(&with("other")),
        ["file.yaml:7:50: GitRepo default/app: spec.authConfig.secretRef.namespace: a GitRepo reads Secrets of its own namespace only"]
    );
    let cluster = with("other").replace("GitRepo", "ClusterGitRepo");
    assert_eq!(mistakes(&cluster), [""; 0]);
}

#[test]
fn local_mode_takes_local_repositories_and_nothing_else_in_addition() {
    for (uri, local) in [
        ("https://git.example.com/app", true),
        ("git@git.example.com:app", true),
        (".", true),
        ("../app", true),
        ("/srv/a b:c.git", true),
        ("file:///srv/app.git", true),
        ("file://host/app", false),
        ("ext::sh -c id", false),
        ("-app", false),
        ("https://user:secret@git.example.com/app", false),
    ] {
        let text = REPO.replace("https://git.example.com/app", &format!("{uri:?}"));
        assert_eq!(read(Mode::Local, &text).mistakes.is_empty(), local, "{uri}");
        let cluster = uri.starts_with("https://git.") || uri.starts_with("git@");
        assert_eq!(read(Mode::Cluster, &text).mistakes.is_empty(), cluster, "{uri}");
    }
}

#[test]
fn what_only_a_controller_checks_is_checked_too() {
    let with = |schedule: &str| {
        format!(
            "apiVersion: git-events-runner.rs/v1alpha1\nkind: ScheduleTrigger\nmetadata: {{name: t}}\nspec:\n  sources: {{names: [a]}}\n  \
             action: {{kind: Action, name: b}}\n  schedule: {schedule}\n"
        )
    };
    for (schedule, field) in [
        ("{cron: '0 0 30 2 *'}", "spec.schedule.cron"),
        ("{cron: '60 * * * *'}", "spec.schedule.cron"),
        ("{cron: '@sometimes'}", "spec.schedule.cron"),
        ("{cron: '* * * * *', timeZone: Europe/Atlantis}", "spec.schedule.timeZone"),
    ] {
        let fields: Vec<_> = read(Mode::Cluster, &with(schedule)).mistakes.into_iter().map(|mistake| mistake.field).collect();
        assert_eq!(fields, [field], "{schedule}");
    }
}

#[test]
fn a_list_is_read_as_its_items() {
    let item = REPO.replace('\n', "\n  ");
    let reading = read(Mode::Cluster, &format!("apiVersion: v1\nkind: List\nitems:\n- {item}\n- {}", item.replace("name: app", "name: b")));
    assert_eq!(reading.documents.iter().map(|document| document.line).collect::<Vec<_>>(), [4, 11]);
    assert_eq!(reading.mistakes, []);
}

#[test]
fn patterns_that_cannot_be_meant_are_mistakes() {
    let mistakes = |files: &[&str]| {
        let text = format!(
            "apiVersion: git-events-runner.rs/v1alpha1\nkind: ScheduleTrigger\nmetadata: {{name: t}}\nspec:\n  \
             sources: {{names: [a], watchOn: {{files: {files:?}}}}}\n  action: {{kind: Action, name: b}}\n  schedule: {{interval: 1m}}\n"
        );
        let found = read(Mode::Cluster, &text).mistakes.into_iter();
        found.map(|mistake| format!("{}: {}", mistake.field, mistake.message)).collect::<Vec<_>>()
    };
    assert_eq!(mistakes(&["*.md", "!docs/", "charts/{a,b}/**", "[x", r"\#a", "a b ", "!#", "ü?", "/"]).len(), 1, "the last one");
    let long: Vec<_> = (0..40).map(|_| "x".repeat(1000)).collect();
    let long: Vec<_> = long.iter().map(String::as_str).collect();
    for (files, mistake) in [
        (["a", "# b"].as_slice(), r"files[1] begins with #, as comments do: write \# for a name that does so"),
        (&["a", "!/ "], "files[1] is empty: write `*` for all files"),
        (&["{a,b"], "files[0] cannot be read: unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)"),
        (&[r"a\"], r"files[0] cannot be read: dangling '\'"),
        (&["a\nb"], "files[0] has a line end: write one pattern an item"),
        (&["!a", "!b"], "they only exclude, so that no file matches: begin with one that includes, such as `*`"),
        (&long, "they have 40000 bytes together, where 32768 are accepted"),
    ] {
        assert_eq!(mistakes(files), [format!("spec.sources.watchOn.files: {mistake}")]);
    }
}

#[test]
fn the_second_of_two_objects_of_one_name_is_a_mistake_across_files() {
    let reader = Reader::new(Mode::Cluster);
    let mut reading = reader.read("one.yaml", REPO);
    reading.extend(reader.read("two.yaml", REPO));
    reading.extend(reader.read("three.yaml", &REPO.replace("name: app", "name: other")));
    let told: Vec<_> = reading.mistakes.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["two.yaml:1:1: GitRepo default/app: metadata.name: is there already, in one.yaml:1"]);
    assert_eq!(reading.documents.iter().map(|document| document.object.is_some()).collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn a_secret_has_its_texts_in_its_data_and_no_mistake_shows_a_value() {
    let secret = |data: &str| format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\n{data}\n");
    let reading = read(Mode::Cluster, &secret("stringData: {a: text}\ndata: {a: b2xk, b: Ynl0ZXM=}"));
    let Some(Object::Secret(read)) = &reading.documents[0].object else { panic!("{:?}", reading.mistakes) };
    let data: Vec<_> = read.data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice())).collect();
    assert_eq!(data, [("a", &b"text"[..]), ("b", &b"bytes"[..])]);

    for broken in [
        "data: {a: hunter2!}",
        "stringData: {a: [hunter2]}",
        "stringData: {a: {hunter: hunter2}}",
        "data: hunter2",
        "stringData: {a: \"hunter2",
    ] {
        let told = mistakes(&secret(broken)).join("\n");
        assert!(!told.is_empty() && !told.contains("hunter2"), "{broken}: {told}");
    }
}

#[test]
fn other_kinds_are_refused_with_those_that_are_read() {
    let told = mistakes("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n");
    assert!(told[0].starts_with("file.yaml:2:1: kind: `Deployment` is not read here, only GitRepo, "), "{told:?}");
    let told = mistakes(&REPO.replace("v1alpha1", "v1"));
    assert_eq!(told, ["file.yaml:1:1: apiVersion: must be git-events-runner.rs/v1alpha1 for a GitRepo"]);
    assert_eq!(mistakes("just text").len(), 1);
}

#[test]
fn a_runtime_config_is_checked() {
    let config =
        |config: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c}}\ndata:\n  runtimeConfig: |\n    {config}\n");
    assert_eq!(mistakes(&config("action: {maxRunningJobs: 2}")), [""; 0]);
    let told = mistakes(&config("action: {maxRuningJobs: 2}"));
    assert!(told[0].contains("data.runtimeConfig") && told[0].contains("maxRuningJobs"), "{told:?}");
    let told = mistakes(&config("action: {maxRunningJobs: 0}"));
    assert!(told[0].contains("data.runtimeConfig: action.maxRunningJobs: must be at least 1"), "{told:?}");
}

#[test]
fn bombs_are_refused_quickly() {
    let aliases = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned()
        + &(0..9u8)
            .map(|n| {
                format!("{0}: &{0} [*{1}, *{1}, *{1}, *{1}, *{1}, *{1}, *{1}, *{1}, *{1}]\n", char::from(b'b' + n), char::from(b'a' + n))
            })
            .collect::<String>();
    for bomb in [aliases, "[".repeat(100_000), format!("a: {}", "x".repeat(MAX_FILE))] {
        let reading = read(Mode::Cluster, &bomb);
        assert!(reading.documents.is_empty() && reading.mistakes.len() == 1, "{:?}", reading.mistakes);
    }
}

#[test]
fn an_object_that_is_repeated_in_its_own_file_and_another_is_told_once_each() {
    let reader = Reader::new(Mode::Cluster);
    let mut reading = reader.read("one.yaml", REPO);
    reading.extend(reader.read("two.yaml", &format!("{REPO}---\n{REPO}")));
    let told: Vec<_> = reading.mistakes.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "two.yaml:8:1: GitRepo default/app: metadata.name: is there already, in two.yaml:1",
            "two.yaml:1:1: GitRepo default/app: metadata.name: is there already, in one.yaml:1",
        ]
    );
}

#[test]
fn a_hundred_thousand_objects_are_compared_in_no_time() {
    let mut reading = Reading::default();
    let begun = std::time::Instant::now();
    for file in 0..1_000_u64 {
        let mut other = Reading::default();
        for line in 1..=100 {
            let id = ObjectRef::namespaced("GitRepo", DEFAULT_NAMESPACE, &format!("r{}", file * 100 + line));
            other.add(Document { file: file.to_string(), line, id, object: None });
        }
        reading.extend(other);
    }
    assert_eq!((reading.documents.len(), reading.mistakes.len()), (100_000, 0));
    assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
}
