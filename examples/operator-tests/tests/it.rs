//! Tests of the operator: on a server of their own each, in milliseconds; and a simulation that finds what they do not.

use std::time::Duration;

use dodai_apiserver::testing::{Change, Fault, Faults, Instance, Scenario, Sim, Step, Suite, TestEnv, World};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams};
use kube::{Client, CustomResourceExt};
use operator_tests::{COUNTER, Counting, Ticket, TicketSpec, run};

// Runs of a simulation can be had again only if the randomness of this program follows from the seed.
dodai_apiserver::seeded_getrandom!();

async fn env() -> TestEnv {
    TestEnv::builder().crd::<Ticket>().start().await.unwrap()
}

async fn ask(client: &Client, name: &str) {
    let tickets: Api<Ticket> = Api::default_namespaced(client.clone());
    let ticket = Ticket::new(name, TicketSpec { holder: "somebody".to_owned() });
    tickets.create(&PostParams::default(), &ticket).await.unwrap();
}

async fn number(client: &Client, name: &str) -> Option<u32> {
    let tickets: Api<Ticket> = Api::default_namespaced(client.clone());
    tickets.get(name).await.ok()?.status?.number
}

#[tokio::test(start_paused = true)]
async fn a_ticket_gets_a_number_and_then_all_is_quiet() {
    let env = env().await;
    let operator = tokio::spawn(run(env.client(), Counting::Guarded));
    ask(&env.client(), "a").await;
    ask(&env.client(), "b").await;
    let client = env.client();
    env.await_that("both have a number", || async {
        number(&client, "a").await.is_some() && number(&client, "b").await.is_some()
    })
    .await
    .unwrap();
    assert_ne!(number(&client, "a").await, number(&client, "b").await);
    env.nothing_is_written_for(Duration::from_secs(3600)).await.unwrap();
    operator.abort();
}

#[tokio::test(start_paused = true)]
async fn a_number_that_was_taken_but_not_written_down_is_not_given_twice() {
    let env = env().await;
    let faults = Faults::seeded(1);
    faults.next(Fault::Reset, |call| call.named().subresource == "status");
    let operator = tokio::spawn(run(env.client_with(&faults), Counting::Guarded));
    ask(&env.client(), "a").await;
    let client = env.client();
    env.await_that("a has a number", || async { number(&client, "a").await == Some(2) }).await.unwrap();
    assert_eq!(faults.met(), 1);
    operator.abort();
}

#[tokio::test(start_paused = true)]
async fn the_operator_needs_these_rights_and_no_others() {
    let env = env().await;
    let rights: [(&[&str], &[&str]); 3] = [
        (&["list", "watch"], &["tickets.example.dev"]),
        (&["patch"], &["tickets.example.dev/status"]),
        (&["get", "create", "update"], &["configmaps"]),
    ];
    for (verbs, resources) in rights {
        env.allow("operator", verbs, resources, "default").await.unwrap();
    }
    let operator = tokio::spawn(run(env.client_as("operator", &[]), Counting::Guarded));
    ask(&env.client(), "a").await;
    let client = env.client();
    env.await_that("a has a number", || async { number(&client, "a").await.is_some() }).await.unwrap();
    let maps: Api<ConfigMap> = Api::default_namespaced(env.client());
    assert_eq!(maps.get(COUNTER).await.unwrap().data.unwrap()["last"], "1");
    operator.abort();
}

/// What the simulation plays: two operators at once, three Tickets.
struct Tickets(Counting);

impl Scenario for Tickets {
    fn set_up(&self, sim: &Sim) -> BoxFuture<'static, Result<(), String>> {
        let client = sim.admin();
        async move {
            let definitions = Api::all(client);
            let made = definitions.create(&PostParams::default(), &Ticket::crd()).await;
            made.map(drop).map_err(|error| error.to_string())
        }
        .boxed()
    }

    fn start(&self, _: &Sim, client: Client) -> Instance {
        Box::pin(run(client, self.0))
    }

    fn script(&self, _: &Sim) -> Vec<Step> {
        let asking = |name: &'static str| {
            Step::new(name, move |sim: Sim| async move {
                ask(&sim.admin(), name).await;
                Ok(())
            })
        };
        vec![asking("a"), asking("b"), asking("c")]
    }

    fn always(&self, change: &Change<'_>) -> Result<(), String> {
        let numbers = numbers(change.after);
        let distinct: std::collections::BTreeSet<u64> = numbers.iter().copied().collect();
        match distinct.len() == numbers.len() {
            true => Ok(()),
            false => Err(format!("two tickets have the same number: {numbers:?}")),
        }
    }

    fn finally(&self, world: &World) -> Result<(), String> {
        match numbers(world).len() {
            3 => Ok(()),
            n => Err(format!("{n} of 3 tickets have a number")),
        }
    }
}

fn numbers(world: &World) -> Vec<u64> {
    world.all("tickets.example.dev").filter_map(|ticket| ticket["status"]["number"].as_u64()).collect()
}

#[test]
fn no_number_is_given_twice_whatever_fails() {
    Suite::new("tickets", || Tickets(Counting::Guarded)).seeds(4).sweep(false).check();
}

#[test]
fn the_simulation_finds_the_operator_that_counts_blindly() {
    // The tests above pass with `Counting::Blind`, too.
    let found = Suite::new("tickets", || Tickets(Counting::Blind)).seeds(50).sweep(false).run();
    let failure = found.unwrap_err();
    assert!(failure.message.contains("the same number"), "{failure}");
}
