//! A bundle on a network of its own, for a bottle that is no container: the engine's host reaches it.

use super::Spec;
use super::engine::Engine;
use super::error::DockerError;
use super::image::Image;
use super::launch::{Container, Guard, claim, create, start};
use super::plan::Plan;
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
    let facts = engine.facts().await?;
    let (network, plan) = Box::pin(claim(engine, spec, image.tag(), facts)).await?;
    let owned = (engine.clone(), network.clone());
    teardown.push(format!("the network {network}"), move || async move {
        owned.0.remove_network(&owned.1).await
    });
    networked();
    let id = create(engine, &plan.container("bundle"), plan.bundle.clone()).await?;
    let owned = (engine.clone(), id.clone());
    teardown.push(format!("the container {id}"), move || async move {
        owned.0.remove_container(&owned.1).await
    });
    start(engine, &id).await?;
    let pid = engine.pid(&id).await?;
    let image = image.tag().to_owned();
    Ok(Bundle { plan, image, container: Container { id, pid }, guard })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::docker::plan::Facts;

    #[test]
    fn the_host_has_an_address_on_the_network_whatever_the_engine() {
        let facts =
            Facts { major: 28, runtimes: Vec::new(), ipv6: true, entered: true, taken: Vec::new() };
        let isolated = |host_reaches| {
            let spec = Spec { host_reaches, ..Spec::new("b") };
            let plan = Plan::new(&spec, &facts, "toolbox", "owner", 0).unwrap();
            let options = plan.network.options.unwrap_or_default();
            options.values().any(|value| value == "isolated")
        };
        assert_eq!((isolated(false), isolated(true)), (true, false));
    }
}
