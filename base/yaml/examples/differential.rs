//! Compares this crate with the real library. `differential files WANT` and `differential table WANT` read what
//! `tests/reference/main.go` wrote in the same mode, and print every text that is read differently.

use std::error::Error;
use std::time::Instant;

use serde_json::Value;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, path] = &arguments[..] else {
        return Err("usage: differential files|table WANT.jsonl".into());
    };
    let (mut n_same, mut n_both_refuse, mut n_different, mut n_bytes) = (0, 0, 0, 0);
    let start = Instant::now();
    for line in std::fs::read_to_string(path)?.lines() {
        let row: Value = serde_json::from_str(line)?;
        let name = row["name"].as_str().ok_or("a row has a name")?;
        let text = if mode == "files" { std::fs::read_to_string(name)? } else { name.to_owned() };
        n_bytes += text.len();
        let refused = row["error"].as_str().unwrap_or("");
        let got: Result<Vec<Value>, _> =
            dodai_yaml::parse(&text).and_then(|documents| documents.iter().map(|d| d.to_json()).collect());
        let name = if mode == "files" { name.to_owned() } else { format!("{name:?}") };
        match got {
            Err(_) if !refused.is_empty() => n_both_refuse += 1,
            Err(error) => {
                n_different += 1;
                println!("only we refuse: {}", error.render(&name, &text));
            }
            Ok(_) if !refused.is_empty() => {
                n_different += 1;
                println!("only they refuse: {name}: {refused}");
            }
            Ok(mut got) => {
                got.retain(|value| !value.is_null());
                if mode == "table" {
                    // The library reads the first document only.
                    got.truncate(1);
                }
                let empty = Vec::new();
                let want = row["json"].as_array().unwrap_or(&empty).iter();
                let want: Result<Vec<Value>, _> =
                    want.map(|json| serde_json::from_str(json.as_str().unwrap_or(""))).collect();
                let mut want = want?;
                want.retain(|value| !value.is_null());
                if got == want {
                    n_same += 1;
                } else {
                    n_different += 1;
                    println!("read differently: {name}: {got:?} {want:?}");
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
