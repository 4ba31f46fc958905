use git_events_runner_core::crd;
use git_events_runner_tests::cluster::ApiServer;

#[tokio::test]
async fn established() {
    let server = ApiServer::start().await.unwrap();
    for crd in crd::all() {
        let crd = serde_json::to_value(&crd).unwrap();
        if let Err(e) = server.establish(&crd).await { eprintln!("{e:#}"); }
    }
}
