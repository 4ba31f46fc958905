use tokio::time;

use super::*;

async fn ask(method: &str, path: &str, pulse: &Pulse, ready: Ready) -> (u16, String) {
    let (_sender, ready) = watch::channel(ready);
    let page = Page::new(watch::Sender::new(None).subscribe());
    let routes = routes(pulse.clone(), ready, Metrics::new("runner"), page);
    let response = warp::test::request().method(method).path(path).reply(&routes).await;
    (response.status().as_u16(), String::from_utf8_lossy(response.body()).into_owned())
}

#[tokio::test]
async fn the_port_tells_whether_the_process_lives_is_ready_and_what_it_has_measured() {
    let pulse = Pulse::new();
    assert_eq!(ask("GET", "/alive", &pulse, Ready::default()).await, (200, "alive".to_owned()));
    assert_eq!(ask("GET", "/ready", &pulse, Ready::default()).await, (503, "not ready".to_owned()));
    assert_eq!(ask("HEAD", "/ready", &pulse, Ready::Yes).await.0, 200);
    let (code, metrics) = ask("GET", "/metrics", &pulse, Ready::Yes).await;
    assert!(code == 200 && metrics.contains("runner_leader 0"), "{metrics}");
    assert_eq!(ask("GET", "/", &pulse, Ready::default()).await, (503, "not ready".to_owned()));
    assert_eq!(ask("POST", "/metrics", &pulse, Ready::Yes).await.0, 405);
    assert_eq!(ask("GET", "/else", &pulse, Ready::Yes).await.0, 404);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_stuck_is_not_alive() {
    let pulse = Pulse::new();
    time::timeout(10 * MISSING, pulse.beat()).await.unwrap_err();
    assert_eq!(ask("GET", "/alive", &pulse, Ready::Yes).await.0, 200);
    time::advance(2 * MISSING).await;
    assert_eq!(ask("GET", "/alive", &pulse, Ready::Yes).await, (503, "stuck".to_owned()));
}
