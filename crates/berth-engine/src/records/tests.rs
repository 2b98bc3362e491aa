use super::*;
use crate::containers::record::ContainerRecord;
use crate::containers::test_support::record;

fn open(directory: &tempfile::TempDir) -> Records {
    Records::open(&directory.path().join("state.db")).expect("records open")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_saved_is_there_after_reopening() {
    let directory = tempfile::tempdir().expect("a directory");
    let records = open(&directory);
    let mut wanted: Vec<ContainerRecord> = (0..20).map(|n| record(n, "web")).collect();
    for record in &wanted {
        let ticket = records.insert(record, &[]).await.expect("saved");
        ticket.durable().await.expect("durable");
    }
    let gone = wanted.remove(3);
    let ticket = records.remove(&gone.id).await.expect("removed");
    ticket.durable().await.expect("durable");
    records.close().await;
    drop(records);

    let (mut found, damaged) = open(&directory).load().expect("loaded");
    assert!(damaged.is_empty());
    found.sort_by(|a, b| a.id.cmp(&b.id));
    wanted.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(found, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_savers_share_flushes_and_the_last_value_wins() {
    let directory = tempfile::tempdir().expect("a directory");
    let records = open(&directory);
    let mut tasks = Vec::new();
    for n in 0..50 {
        let records = records.clone();
        tasks.push(tokio::spawn(async move {
            for round in 0..10 {
                let mut record = record(n, "web");
                record.restart_count = round;
                let ticket = records.save(&record).await.expect("saved");
                if round == 9 {
                    ticket.durable().await.expect("durable");
                }
            }
        }));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    let (found, _) = records.load().expect("loaded");
    assert_eq!(found.len(), 50);
    assert!(found.iter().all(|r| r.restart_count == 9));
}

#[test]
fn newer_and_damaged_records_are_told_apart() {
    let good = schema::encode(&record(1, "a")).expect("encoded");
    assert!(schema::decode(&good).is_ok());
    let newer = String::from_utf8(good.clone())
        .expect("text")
        .replace(&format!("\"schema\":{SCHEMA}"), "\"schema\":99");
    assert!(matches!(
        schema::decode(newer.as_bytes()),
        Err(SchemaError::Newer { found: 99, .. })
    ));
    assert!(matches!(
        schema::decode(&good[..good.len() / 2]),
        Err(SchemaError::Damaged(_))
    ));
}

#[test]
fn a_record_of_the_first_schema_gets_its_networks() {
    let record = record(1, "a");
    let mut stored: serde_json::Value =
        serde_json::from_slice(&schema::encode(&record).expect("encodes")).expect("JSON");
    stored["schema"] = 1.into();
    stored["record"]
        .as_object_mut()
        .expect("an object")
        .remove("networks");
    let lifted = |mode: &str| {
        let mut stored = stored.clone();
        stored["record"]["spec"]["host"]["network_mode"] = mode.into();
        let bytes = serde_json::to_vec(&stored).expect("JSON");
        let record = schema::decode(&bytes).expect("lifted");
        record.networks.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(lifted("default"), ["bridge"]);
    assert_eq!(lifted("none"), ["none"]);
    assert_eq!(lifted("container:abc"), Vec::<String>::new());
}
