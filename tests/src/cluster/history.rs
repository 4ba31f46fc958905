use anyhow::{Context as _, ensure};
use data_encoding::BASE64;
use kube::Resource;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Reads every version of every object of a kind up to the newest one of what is there now, in order.
pub(super) async fn read<K: Resource<DynamicType = ()> + DeserializeOwned>(etcd: u16) -> anyhow::Result<Vec<(u64, K)>> {
    let folder = format!("/registry/{}/{}", K::group(&()), K::plural(&()));
    let (key, end) = (BASE64.encode(format!("{folder}/").as_bytes()), BASE64.encode(format!("{folder}0").as_bytes()));
    let client = reqwest::Client::builder().no_proxy().build()?;
    let send = async |path: &str, body: Value| {
        client.post(format!("http://127.0.0.1:{etcd}/v3/{path}")).body(body.to_string()).send().await?.error_for_status()
    };
    let newest = json!({ "key": key, "range_end": end, "sort_order": "DESCEND", "sort_target": "MOD", "limit": 1, "keys_only": true });
    let newest: Value = serde_json::from_slice(&send("kv/range", newest).await?.bytes().await?)?;
    let Some(newest) = newest["kvs"].get(0) else { return Ok(vec![]) };
    let newest = version(newest)?;

    let from_the_first = json!({ "create_request": { "key": key, "range_end": end, "start_revision": 1 } });
    let mut answer = send("watch", from_the_first).await?;
    let (mut versions, mut lines) = (vec![], vec![]);
    while versions.last().is_none_or(|(version, _)| *version < newest) {
        lines.extend(answer.chunk().await?.context("etcd has ended its answer")?);
        while let Some(end) = lines.iter().position(|byte| *byte == b'\n') {
            let line: Value = serde_json::from_slice(&lines.drain(..=end).collect::<Vec<_>>())?;
            ensure!(line["result"]["canceled"] != true, "etcd does not tell: {line}");
            let events = line["result"]["events"].as_array().into_iter().flatten();
            for written in events.filter(|event| event["type"] != "DELETE").map(|event| &event["kv"]) {
                let object = BASE64.decode(written["value"].as_str().context("no value")?.as_bytes())?;
                versions.push((version(written)?, serde_json::from_slice(&object)?));
            }
        }
    }
    Ok(versions)
}

fn version(written: &Value) -> anyhow::Result<u64> {
    Ok(written["mod_revision"].as_str().context("no mod_revision")?.parse()?)
}
