//! Running the benchmarks of `benches/`.

use lexopt::prelude::*;

use crate::{Result, cmd, counts};

/// `bench [NAME] [-- ARG...]`
pub(crate) fn run(mut args: lexopt::Parser) -> Result<()> {
    let mut name = None;
    let mut rest = Vec::new();
    while let Some(arg) = args.next().map_err(|e| e.to_string())? {
        match arg {
            Value(value) if name.is_none() => {
                name = Some(value.to_string_lossy().into_owned());
                // Everything behind the name, with or without `--`, is the benchmark's.
                let raw = args.raw_args().map_err(|e| e.to_string())?;
                rest = raw.collect();
                rest.retain(|a| a != "--");
            }
            other => return Err(other.unexpected().to_string()),
        }
    }
    let known = names()?;
    let Some(name) = name else {
        if known.is_empty() {
            println!("benches/ has no benchmark yet");
        }
        for name in known {
            println!("cargo xtask bench {name}");
        }
        return Ok(());
    };
    if !known.contains(&name) {
        return Err(format!(
            "no benchmark is called {name}; there are: {}",
            known.join(", ")
        ));
    }
    if name == "counts" {
        return counts::run(lexopt::Parser::from_args(rest));
    }
    let mut command = cmd::cargo(["bench", "-p", "net-benches", "--bench", &name]);
    if !rest.is_empty() {
        command.arg("--").args(rest);
    }
    cmd::run(&mut command)
}

/// The benchmarks that `benches/Cargo.toml` declares.
fn names() -> Result<Vec<String>> {
    let text = cmd::output(&mut cmd::cargo([
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
    ]))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| format!("cargo metadata: {e}"))?;
    let packages = metadata["packages"].as_array();
    let benches = packages
        .into_iter()
        .flatten()
        .find(|p| p["name"] == "net-benches");
    let targets = benches.and_then(|p| p["targets"].as_array());
    let is_bench = |t: &&serde_json::Value| {
        t["kind"]
            .as_array()
            .is_some_and(|kinds| kinds.iter().any(|k| k == "bench"))
    };
    let found = targets
        .into_iter()
        .flatten()
        .filter(is_bench)
        .filter_map(|t| t["name"].as_str());
    Ok(found.map(str::to_owned).collect())
}
