//! What a bottle is made of, for reports that are kept.

use std::collections::BTreeMap;

use super::engine::Engine;
use super::error::{DockerError, call};
use super::plan::Plan;

/// The engine and its version, the images and their digests.
pub(in crate::backend) async fn made_of(
    engine: &Engine,
    plan: &Plan,
) -> Result<BTreeMap<String, String>, DockerError> {
    let (agent, bundle) = tokio::join!(
        image(engine, plan.agent.image.as_deref()),
        image(engine, plan.bundle.image.as_deref()),
    );
    let of = |text: &str| if text.is_empty() { "unknown".to_owned() } else { text.to_owned() };
    let engine = format!("Docker {}, API {}", of(&engine.version), of(&engine.api));
    let runtime = plan.agent.host_config.as_ref().and_then(|host| host.runtime.clone());
    let mut made_of = BTreeMap::from([
        ("engine".to_owned(), engine),
        ("agent's image".to_owned(), agent?),
        ("bundle's image".to_owned(), bundle?),
    ]);
    made_of.extend(runtime.map(|runtime| ("runtime".to_owned(), runtime)));
    Ok(made_of)
}

/// A tag, and the digest by which the engine knows what is behind it now.
async fn image(engine: &Engine, tag: Option<&str>) -> Result<String, DockerError> {
    let tag = tag.unwrap_or_default();
    let image = engine.docker.inspect_image(tag).await;
    let image = image.map_err(call(format!("look for the image {tag}")))?;
    Ok(format!("{tag} ({})", image.id.unwrap_or_default()))
}
