//! Who asks.

use std::collections::BTreeMap;

/// An authenticated user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    /// What else the authenticator knows, such as the Pod that a token is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
    /// The User-Agent to assume for requests that carry none (in-process clients).
    pub agent: Option<String>,
}

/// Its members may do everything.
pub(crate) const MASTERS: &str = "system:masters";
pub(crate) const AUTHENTICATED: &str = "system:authenticated";
pub(crate) const UNAUTHENTICATED: &str = "system:unauthenticated";
pub(crate) const ANONYMOUS: &str = "system:anonymous";

impl User {
    /// A member of `system:masters`, who may do everything.
    pub fn admin(name: &str) -> User {
        User::new(name, &[MASTERS, AUTHENTICATED])
    }

    pub fn new(name: &str, groups: &[&str]) -> User {
        User {
            name: name.into(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..User::default()
        }
    }

    /// Nobody in particular.
    pub fn anonymous() -> User {
        User::new(ANONYMOUS, &[UNAUTHENTICATED])
    }

    /// A service account, with the groups that all of them have.
    pub fn service_account(namespace: &str, name: &str) -> User {
        let name = format!("system:serviceaccount:{namespace}:{name}");
        let own = format!("system:serviceaccounts:{namespace}");
        User::new(&name, &["system:serviceaccounts", &own, AUTHENTICATED])
    }

    /// The name under which the fields written by this user's client are tracked.
    pub fn with_agent(mut self, agent: &str) -> User {
        self.agent = Some(agent.into());
        self
    }

    pub(crate) fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|known| known == group)
    }
}

/// Namespace and name of the service account behind a user name.
pub(crate) fn split_service_account(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("system:serviceaccount:")?.split_once(':').filter(|(_, name)| !name.contains(':'))
}
