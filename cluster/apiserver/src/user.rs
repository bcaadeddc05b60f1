//! Who asks.

/// An authenticated user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    /// The User-Agent to assume for requests that carry none (in-process clients).
    pub agent: Option<String>,
}

impl User {
    /// A member of `system:masters`, who may do everything.
    pub fn admin(name: &str) -> User {
        User::new(name, &["system:masters", "system:authenticated"])
    }

    pub fn new(name: &str, groups: &[&str]) -> User {
        User {
            name: name.into(),
            uid: String::new(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            agent: None,
        }
    }

    /// Nobody in particular.
    pub fn anonymous() -> User {
        User::new("system:anonymous", &["system:unauthenticated"])
    }

    /// The name under which the fields written by this user's client are tracked.
    pub fn with_agent(mut self, agent: &str) -> User {
        self.agent = Some(agent.into());
        self
    }
}
