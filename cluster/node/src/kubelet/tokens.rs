//! Tokens of service accounts for Pods: asked for when a Pod first needs one, kept in memory, and asked for anew when
//! four fifths of its life are over. The API server lets one end with its Pod.

use std::collections::HashMap;
use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};

use crate::error::{Error, Result};

/// Tokens that are kept. Beyond that those whose time is over go, and then all: they are asked for again.
const TOKENS_MAX: usize = 4096;
/// Life of a token that asks for none, seconds.
const LIFE_SECONDS: i64 = 3600;

/// Uid of the Pod, audience, life.
type Wanted = (String, String, i64);

struct Token {
    text: String,
    /// When a new one is asked for.
    renew_at: Timestamp,
}

/// The tokens of this node's Pods.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<HashMap<Wanted, Token>>);

impl Tokens {
    /// The token that a Pod's projection asks for.
    pub(crate) async fn get(
        &self,
        client: &Client,
        pod: &Pod,
        asked: &ServiceAccountTokenProjection,
    ) -> Result<String> {
        let audience = asked.audience.clone().unwrap_or_default();
        let life_s = asked.expiration_seconds.unwrap_or(LIFE_SECONDS);
        let wanted = (pod.uid().unwrap_or_default(), audience.clone(), life_s);
        let now = Timestamp::now();
        if let Some(known) = self.lock().get(&wanted).filter(|known| known.renew_at > now) {
            return Ok(known.text.clone());
        }
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(audience)
                    .filter(|audience| !audience.is_empty())
                    .map(|audience| vec![audience]),
                expiration_seconds: Some(life_s),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_string()),
                    kind: Some("Pod".to_string()),
                    name: Some(pod.name_any()),
                    uid: pod.uid(),
                }),
            }),
            ..TokenRequest::default()
        };
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
        let account = account.unwrap_or_else(|| "default".to_string());
        let api: Api<ServiceAccount> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        let answer = api.create_token_request(&account, &PostParams::default(), &request).await;
        let status = answer.map_err(Error::api("ask for a service account's token"))?.status;
        let given = status.and_then(|status| Some((status.token?, status.expiration_timestamp?)));
        let (text, expires) = given.ok_or_else(|| Error::Config {
            reason: "CreateContainerConfigError",
            message: format!("the API server gave no token for service account `{account}`"),
        })?;
        let left_s = expires.0.duration_since(now).as_secs().max(0);
        let renew_at = now.checked_add(SignedDuration::from_secs(left_s * 4 / 5)).unwrap_or(now);
        let mut tokens = self.lock();
        if tokens.len() >= TOKENS_MAX {
            tokens.retain(|_, token| token.renew_at > now);
        }
        if tokens.len() >= TOKENS_MAX {
            tokens.clear();
        }
        tokens.insert(wanted, Token { text: text.clone(), renew_at });
        Ok(text)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Wanted, Token>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
