//! One rule of a role.

use serde_json::{Value, json};

use crate::request::Attributes;
use crate::status::quote;

/// A `PolicyRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    pub verbs: Vec<String>,
    pub api_groups: Vec<String>,
    pub resources: Vec<String>,
    pub resource_names: Vec<String>,
    pub non_resource_urls: Vec<String>,
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|known| known == wanted)
}

fn has_all(list: &[String], wanted: &[String]) -> bool {
    wanted.iter().all(|wanted| has(list, wanted))
}

fn all(list: &[String]) -> bool {
    has(list, "*")
}

fn url_matches(pattern: &str, path: &str) -> bool {
    pattern == "*" || pattern == path || pattern.strip_suffix('*').is_some_and(|head| path.starts_with(head))
}

impl Rule {
    pub(crate) fn read(value: &Value) -> Rule {
        let list = |field: &str| -> Vec<String> {
            let items = value[field].as_array().into_iter().flatten();
            items.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Rule {
            verbs: list("verbs"),
            api_groups: list("apiGroups"),
            resources: list("resources"),
            resource_names: list("resourceNames"),
            non_resource_urls: list("nonResourceURLs"),
        }
    }

    pub(crate) fn read_all(rules: &Value) -> Vec<Rule> {
        rules.as_array().into_iter().flatten().map(Rule::read).collect()
    }

    /// Whether the rule allows a request.
    pub(crate) fn allows(&self, request: &Attributes) -> bool {
        if !(all(&self.verbs) || has(&self.verbs, &request.verb)) {
            return false;
        }
        if request.resource.is_empty() {
            return self.non_resource_urls.iter().any(|pattern| url_matches(pattern, &request.path));
        }
        let group = all(&self.api_groups) || has(&self.api_groups, &request.group);
        let named = self.resource_names.is_empty() || has(&self.resource_names, &request.name);
        let whole = match request.subresource.as_str() {
            "" => request.resource.clone(),
            subresource => format!("{}/{subresource}", request.resource),
        };
        group && named && self.covers_resource(&whole)
    }

    fn covers_resource(&self, resource: &str) -> bool {
        let any =
            || resource.split_once('/').is_some_and(|(_, sub)| has(&self.resources, &format!("*/{sub}")));
        all(&self.resources) || has(&self.resources, resource) || any()
    }

    /// Whether everything that `other` allows is allowed by this rule.
    pub(crate) fn covers(&self, other: &Rule) -> bool {
        let verbs = all(&self.verbs) || has_all(&self.verbs, &other.verbs);
        let groups = all(&self.api_groups) || has_all(&self.api_groups, &other.api_groups);
        let resources = other.resources.iter().all(|resource| self.covers_resource(resource));
        let urls = other
            .non_resource_urls
            .iter()
            .all(|url| self.non_resource_urls.iter().any(|pattern| url_matches(pattern, url)));
        let names = self.resource_names.is_empty()
            || !other.resource_names.is_empty() && has_all(&self.resource_names, &other.resource_names);
        verbs && groups && resources && urls && names
    }

    /// The rule as rules of one verb, group, resource and name each.
    pub(crate) fn split(&self) -> Vec<Rule> {
        let one = |item: &String| vec![item.clone()];
        let mut rules = Vec::new();
        for verb in &self.verbs {
            for url in &self.non_resource_urls {
                rules.push(Rule { verbs: one(verb), non_resource_urls: one(url), ..Rule::default() });
            }
            for group in &self.api_groups {
                for resource in &self.resources {
                    let plain = Rule {
                        verbs: one(verb),
                        api_groups: one(group),
                        resources: one(resource),
                        ..Rule::default()
                    };
                    if self.resource_names.is_empty() {
                        rules.push(plain);
                        continue;
                    }
                    rules.extend(
                        self.resource_names
                            .iter()
                            .map(|name| Rule { resource_names: one(name), ..plain.clone() }),
                    );
                }
            }
        }
        rules
    }

    /// `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
    pub(crate) fn compact(&self) -> String {
        let parts: Vec<String> = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ]
        .into_iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| format!("{name}:{}", quoted(list)))
        .collect();
        format!("{{{}}}", parts.join(", "))
    }

    /// As a `ResourceRule` of a SelfSubjectRulesReview.
    pub(crate) fn resource_rule(&self) -> Value {
        let mut rule =
            json!({ "verbs": self.verbs, "apiGroups": self.api_groups, "resources": self.resources });
        if !self.resource_names.is_empty() {
            rule["resourceNames"] = self.resource_names.clone().into();
        }
        rule
    }
}

/// A list of texts as Go's `%q` shows it.
pub(crate) fn quoted(list: &[String]) -> String {
    let items: Vec<String> = list.iter().map(|item| quote(item)).collect();
    format!("[{}]", items.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        Rule::read(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn a_request_is_compared_with_all_parts_of_a_rule() {
        let request = |verb: &str, resource: &str, subresource: &str, name: &str| Attributes {
            verb: verb.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            name: name.into(),
            ..Attributes::default()
        };
        let scale = rule(r#"{"verbs":["get"],"apiGroups":[""],"resources":["*/scale","pods"]}"#);
        assert!(scale.allows(&request("get", "pods", "", "a")));
        assert!(scale.allows(&request("get", "replicationcontrollers", "scale", "a")));
        assert!(!scale.allows(&request("get", "pods", "log", "a")));
        assert!(!scale.allows(&request("list", "pods", "", "")));
        let named = rule(r#"{"verbs":["*"],"apiGroups":["*"],"resources":["*"],"resourceNames":["a"]}"#);
        assert!(named.allows(&request("get", "pods", "log", "a")));
        assert!(!named.allows(&request("create", "pods", "", "")));
        let path = |path: &str| Attributes { verb: "get".into(), path: path.into(), ..Attributes::default() };
        let urls = rule(r#"{"verbs":["get"],"nonResourceURLs":["/x/*","/metrics"]}"#);
        assert!(urls.allows(&path("/x/y")) && urls.allows(&path("/metrics")));
        assert!(!urls.allows(&path("/x")) && !urls.allows(&path("/metrics/a")));
    }

    #[test]
    fn a_rule_covers_another_only_if_it_allows_all_of_it() {
        let big = rule(r#"{"verbs":["get","list"],"apiGroups":[""],"resources":["pods","*/status"]}"#);
        let small = rule(r#"{"verbs":["get"],"apiGroups":[""],"resources":["pods","nodes/status"]}"#);
        assert!(big.covers(&small) && !small.covers(&big));
        let named = Rule { resource_names: vec!["a".into()], ..small.clone() };
        assert!(big.covers(&named) && !named.covers(&small));
        assert_eq!(small.split().len(), 2);
    }

    /// Some of a few words, with a seed that can be repeated.
    fn some(random: &mut fastrand::Rng, words: &[&str]) -> Vec<String> {
        words.iter().filter(|_| random.u8(..) < 90).map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn whoever_covers_a_rule_may_what_it_allows() {
        let seed =
            std::env::var("DODAI_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x7262_6163);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let (verbs, groups) = (["get", "list", "*"], ["", "apps", "*"]);
        let resources = ["pods", "pods/log", "*/log", "nodes", "*"];
        let (names, urls) = (["a", "b"], ["/x", "/x/*", "*"]);
        for _ in 0..20_000 {
            let mut rule = || Rule {
                verbs: some(&mut random, &verbs),
                api_groups: some(&mut random, &groups),
                resources: some(&mut random, &resources),
                resource_names: some(&mut random, &names),
                non_resource_urls: some(&mut random, &urls),
            };
            let (held, wanted) = (rule(), rule());
            let resource = random.choice(["pods", "nodes", ""]).unwrap_or_default();
            let request = Attributes {
                verb: random.choice(["get", "list"]).unwrap_or_default().into(),
                group: random.choice(["", "apps"]).unwrap_or_default().into(),
                resource: resource.into(),
                subresource: random.choice(["", "log"]).unwrap_or_default().into(),
                name: random.choice(["", "a", "b"]).unwrap_or_default().into(),
                path: random.choice(["/x", "/x/y", "/"]).unwrap_or_default().into(),
                ..Attributes::default()
            };
            let parts = wanted.split();
            let by_parts = parts.iter().any(|part| part.allows(&request));
            assert_eq!(wanted.allows(&request), by_parts, "{wanted:?} {request:?}");
            let covered = parts.iter().all(|part| held.covers(part));
            assert!(!(covered && by_parts) || held.allows(&request), "{held:?} {wanted:?} {request:?}");
        }
    }
}
