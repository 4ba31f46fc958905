use git_events_runner_tests::cluster::{Cluster, Mode};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};

use super::*;

fn map(text: &str) -> ConfigMap {
    let metadata = ObjectMeta { name: Some("config".to_owned()), ..ObjectMeta::default() };
    ConfigMap { metadata, data: Some([("runtimeConfig".to_owned(), text.to_owned())].into()), ..ConfigMap::default() }
}

fn slots(slots: u32) -> impl FnMut(&Arc<RuntimeConfig>) -> bool {
    move |config| config.action.max_running_jobs == slots
}

#[tokio::test]
async fn changes_are_taken_over_and_the_last_good_config_stays() {
    let cluster = Cluster::shared(Mode::ControlPlane).await.unwrap();
    let namespace = cluster.namespace().await.unwrap();
    let client = cluster.client().await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let failures = Counter::default();
    let ready = watch::Sender::<Ready>::default();
    let follower = Follower::start(client.clone(), &namespace, "config", failures.clone(), &ready).await;
    let mut config = follower.config();
    assert_eq!(**config.borrow(), RuntimeConfig::default());
    let following = tokio::spawn(follower.follow());

    maps.create(&PostParams::default(), &map("action: {maxRunningJobs: 4}")).await.unwrap();
    config.wait_for(slots(4)).await.unwrap();
    let write = async |text: &str| maps.patch("config", &PatchParams::default(), &Patch::Merge(map(text))).await.unwrap();
    write("action: {maxRunningJobs: 0}").await;
    write("action: {maxJobs: 1}").await;
    write("action: {maxRunningJobs: 5}").await;
    // Each was seen in between, and none of them was used.
    config.changed().await.unwrap();
    assert!(slots(5)(&config.borrow()) && failures.get() == 2, "{:?}: {failures:?}", config.borrow());

    // What starts while the config cannot be used waits for one that can.
    write("action: [").await;
    let starting = Follower::start(client, &namespace, "config", failures.clone(), &ready);
    let mut told = ready.subscribe();
    let corrected = async {
        let is_told = |ready: &Ready| matches!(ready, Ready::No(why) if why.contains(&format!("ConfigMap {namespace}/config: ")));
        told.wait_for(is_told).await.unwrap();
        write("action: {maxRunningJobs: 6}").await;
    };
    let (follower, ()) = tokio::join!(starting, corrected);
    assert!(slots(6)(&follower.config().borrow()));
    maps.delete("config", &Default::default()).await.unwrap();
    config.wait_for(slots(16)).await.unwrap();
    following.abort();
}
