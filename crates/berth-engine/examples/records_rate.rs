//! How long a durable save takes, alone and together with others: `records_rate DIRECTORY`.

use std::time::{Duration, Instant};

use berth_engine::records::Records;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[allow(clippy::print_stdout)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args().nth(1).ok_or("name a directory")?;
    let path = std::path::Path::new(&directory).join("records-rate.db");
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let records = Records::open(&path)?;
        let value = "x".repeat(4000);
        let mut alone = Vec::new();
        for number in 0..200 {
            let began = Instant::now();
            records
                .set_fact(&format!("fact {}", number % 20), &value)
                .await?;
            alone.push(began.elapsed());
        }
        println!("one at a time: {:?}", median(alone));
        let began = Instant::now();
        let mut tasks = Vec::new();
        for number in 0..500 {
            let (records, value) = (records.clone(), value.clone());
            tasks.push(tokio::spawn(async move {
                records.set_fact(&format!("fact {number}"), &value).await
            }));
        }
        for task in tasks {
            task.await??;
        }
        println!("500 at once: {:?} in all", began.elapsed());
        records.close().await;
        Ok::<(), Box<dyn std::error::Error>>(())
    })?;
    std::fs::remove_file(&path)?;
    Ok(())
}
