//! Create, read, update and delete of plain objects, and what is refused.

use anyhow::Result;
use serde_json::{Value, json};

use crate::conformance::{Area, Lab, Transcript, cases};

cases! { Area::ApiMachinery,
    "an-object-lives-from-create-to-delete" => lives,
}

fn mk_config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

async fn lives(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let (all, one) = (lab.path("configmaps"), lab.path("configmaps/a"));
    t.note("create", &lab.post(&all, &mk_config_map("a", json!({"k": "1"}))).await?);
    t.note("get", &lab.get(&one).await?);
    t.note("create again", &lab.post(&all, &mk_config_map("a", json!({}))).await?);
    t.note("update", &lab.put(&one, &mk_config_map("a", json!({"k": "2"}))).await?);
    t.note("delete", &lab.delete(&one).await?);
    t.note("get what is gone", &lab.get(&one).await?);
    t.note("delete what is gone", &lab.delete(&one).await?);
    t.note(
        "update what is gone",
        &lab.put(&one, &mk_config_map("a", json!({}))).await?,
    );
    Ok(())
}
