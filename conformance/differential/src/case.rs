//! A kept case: requests, and what the real server answered to them. Files in `cases/`, one JSON document each.

use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::op::Op;
use crate::play::{Player, Told, differences};
use crate::server::Server;

#[derive(Debug, Serialize, Deserialize)]
pub struct Step {
    #[serde(flatten)]
    pub op: Op,
    pub answer: Told,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Case {
    /// What differed when it was found, and where it comes from (version of the real server, seed).
    pub about: String,
    pub steps: Vec<Step>,
}

impl Case {
    pub fn read(path: &Path) -> anyhow::Result<Case> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("cannot read {}", path.display()))
    }

    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Plays the case; what differs, in words, or nothing.
    pub async fn replay(&self, server: &Server, namespace: &str) -> anyhow::Result<Vec<String>> {
        let mut player = Player::start(server, namespace).await?;
        for (position, step) in self.steps.iter().enumerate() {
            let told = player.play(&step.op).await?;
            let found = differences(&step.answer, &told);
            if !found.is_empty() {
                let lines = found.iter().take(8);
                return Ok(lines
                    .map(|(path, real, ours)| format!("step {position} {path}: {real} is {ours}"))
                    .collect());
            }
        }
        Ok(Vec::new())
    }
}
