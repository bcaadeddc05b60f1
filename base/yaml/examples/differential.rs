//! Compares this crate with the real library over many files. `differential WANT` reads what
//! `tests/reference/main.go files` wrote, and prints every file that is read differently.

use std::error::Error;
use std::time::Instant;

use serde_json::Value;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: differential WANT.jsonl")?;
    let (mut n_same, mut n_both_refuse, mut n_different, mut n_bytes) = (0, 0, 0, 0);
    let start = Instant::now();
    for line in std::fs::read_to_string(path)?.lines() {
        let row: Value = serde_json::from_str(line)?;
        let name = row["name"].as_str().ok_or("a row has a name")?;
        let Ok(text) = std::fs::read_to_string(name) else { continue };
        n_bytes += text.len();
        let refused = row["error"].as_str().unwrap_or("");
        let got: Result<Vec<Value>, _> =
            dodai_yaml::parse(&text).and_then(|documents| documents.iter().map(|d| d.to_json()).collect());
        match got {
            Err(_) if !refused.is_empty() => n_both_refuse += 1,
            Err(error) => {
                n_different += 1;
                println!("only we refuse: {}", error.render(name, &text));
            }
            Ok(_) if !refused.is_empty() => {
                n_different += 1;
                println!("only they refuse: {name}: {refused}");
            }
            Ok(mut got) => {
                got.retain(|value| !value.is_null());
                let empty = Vec::new();
                let want = row["json"].as_array().unwrap_or(&empty).iter();
                let want: Result<Vec<Value>, _> =
                    want.map(|json| serde_json::from_str(json.as_str().unwrap_or(""))).collect();
                if got == want? {
                    n_same += 1;
                } else {
                    n_different += 1;
                    println!("read differently: {name}");
                }
            }
        }
    }
    println!(
        "same {n_same}, refused by both {n_both_refuse}, different {n_different}; {n_bytes} bytes in {:?}",
        start.elapsed()
    );
    Ok(())
}
