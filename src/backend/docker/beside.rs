//! A bundle on a network of its own, for a bottle that is no container: the engine's host reaches it.

use bollard::models::ContainerCreateBody;

use super::Spec;
use super::daemons::Daemons;
use super::engine::Engine;
use super::error::{DockerError, call};
use super::image::Image;
use super::launch::{Container, Guard, claim, claim_way_out, connect, create, start};
use super::plan::Plan;
use super::way_out;
use crate::teardown::Teardown;

/// A bundle that runs.
#[derive(Debug)]
pub struct Bundle {
    /// What was carried out of it: the network and the bundle.
    pub plan: Plan,
    /// The tag of the toolbox's image.
    pub image: String,
    /// The bundle.
    pub container: Container,
    /// What runs in it, where something may be reached.
    pub(in crate::backend) daemons: Option<Daemons>,
    /// Removes what there is of it when it is dropped.
    pub(in crate::backend) guard: Guard,
}

/// Makes the network and starts the bundle; each is pushed on `teardown` as soon as it exists. `networked` is called in
/// between.
pub async fn launch(
    engine: &Engine,
    spec: &Spec,
    teardown: &mut Teardown,
    networked: &(dyn Fn() + Send + Sync),
) -> Result<Bundle, DockerError> {
    let spec = &Spec { host_reaches: true, ..spec.clone() };
    let guard = Guard::new(engine, &spec.name);
    let image = Image::of_toolbox()?;
    image.ensure(engine).await?;
    let facts = engine.facts(spec).await?;
    let (network, mut plan) = Box::pin(claim(engine, spec, image.tag(), facts.clone())).await?;
    undo_network(engine, &network, teardown);
    if let Some(out) = Box::pin(claim_way_out(engine, spec, &mut plan, facts)).await? {
        undo_network(engine, &out, teardown);
    }
    networked();
    let body = plan.bundle.clone();
    let (container, daemons) = run(engine, &plan, body, teardown).await?;
    let image = image.tag().to_owned();
    Ok(Bundle { plan, image, container, daemons, guard })
}

impl Bundle {
    /// Puts another one in its place, of which these ports are published on the loopback of the engine's host: the ports there, in
    /// the same order. `spec` is what it was launched by.
    pub(in crate::backend) async fn publish(
        &mut self,
        engine: &Engine,
        spec: &Spec,
        ports: &[u16],
        teardown: &mut Teardown,
    ) -> Result<Vec<u16>, DockerError> {
        self.daemons = None;
        engine.remove_container(&self.container.id).await?;
        if self.plan.way_out.is_none() {
            let facts = engine.facts(spec).await?;
            self.plan.lead_out(spec, &facts)?;
            if let Some(out) = Box::pin(claim_way_out(engine, spec, &mut self.plan, facts)).await? {
                undo_network(engine, &out, teardown);
            }
        }
        let serves = spec.bundle.serves.as_ref();
        let body = way_out::published(self.plan.bundle.clone(), serves, ports);
        (self.container, self.daemons) = run(engine, &self.plan, body, teardown).await?;
        let id = &self.container.id;
        let found = engine.docker.inspect_container(id, None).await;
        let found = found.map_err(call(format!("look at the container {id}")))?;
        let told = found.network_settings.and_then(|settings| settings.ports);
        let at = ports.iter().map(|port| way_out::published_at(told.as_ref(), *port));
        at.collect::<Result<_, _>>().map_err(DockerError::Published)
    }
}

/// Starts a bundle, and waits until its daemons are up.
async fn run(
    engine: &Engine,
    plan: &Plan,
    body: ContainerCreateBody,
    teardown: &mut Teardown,
) -> Result<(Container, Option<Daemons>), DockerError> {
    let id = create(engine, &plan.container("bundle"), body).await?;
    let owned = (engine.clone(), id.clone());
    teardown.push(format!("the container {id}"), move || async move {
        owned.0.remove_container(&owned.1).await
    });
    if let Some(out) = &plan.way_out {
        connect(engine, &out.network.name, out.connection.clone(), &id).await?;
    }
    start(engine, &id).await?;
    let pid = engine.pid(&id).await?;
    let daemons = Daemons::awaited(engine, plan, &id).await?;
    Ok((Container { id, pid }, daemons))
}

/// Pushes how to remove a network.
pub(super) fn undo_network(engine: &Engine, network: &str, teardown: &mut Teardown) {
    let owned = (engine.clone(), network.to_owned());
    teardown.push(format!("the network {network}"), move || async move {
        owned.0.remove_network(&owned.1).await
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::docker::plan::Facts;
    use crate::backend::docker::spec::Serves;
    use crate::bundle::gateway::config;
    use crate::bundle::pipelock::Allowlist;

    fn facts(major: u32) -> Facts {
        Facts { major, runtimes: Vec::new(), ipv6: true, entered: true, taken: Vec::new() }
    }

    #[test]
    fn a_bundle_that_is_led_out_is_as_one_that_was_planned_so() {
        let facts = facts(20);
        let planned = |serves| {
            let mut spec = Spec::new("b");
            spec.bundle.serves = serves;
            (Plan::new(&spec, &facts, "toolbox", "owner", 0).unwrap(), spec)
        };
        let (mut led_out, spec) = planned(None);
        led_out.lead_out(&spec, &facts).unwrap();
        let (serving, _) = planned(Some(Serves::Gateway(config(&Allowlist::default()))));
        assert_eq!(led_out.way_out, serving.way_out);
        assert_eq!(led_out.bundle.host_config, serving.bundle.host_config);
    }

    #[test]
    fn the_host_has_an_address_on_the_network_whatever_the_engine() {
        let facts = facts(28);
        let isolated = |host_reaches| {
            let spec = Spec { host_reaches, ..Spec::new("b") };
            let plan = Plan::new(&spec, &facts, "toolbox", "owner", 0).unwrap();
            let options = plan.network.options.unwrap_or_default();
            options.values().any(|value| value == "isolated")
        };
        assert_eq!((isolated(false), isolated(true)), (true, false));
    }
}
