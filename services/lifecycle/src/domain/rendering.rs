//! A machine template rendered for a pool, and how a machine is made from it.

use jiff::Timestamp;
use serde_json::Value;

/// A template rendered for a pool with [`PLACEHOLDER`] as the machine's name.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendering {
    /// What it was rendered from: a change of it makes another rendering.
    pub source: String,
    /// Hash that machines made from it carry.
    pub revision: String,
    /// Revision of the template.
    pub template_revision: String,
    /// The VirtualMachine.
    pub virtual_machine: Value,
    /// JSON pointers to the strings that carry the machine's name.
    pub name_paths: Vec<String>,
    /// The template's part of the user data.
    pub user_data: String,
    /// vCPUs of a machine.
    pub vcpus: i32,
    /// Memory of a machine, a quantity.
    pub memory: String,
    /// Size of all its disks, a quantity.
    pub storage: String,
    /// Instance type, if one was used.
    pub instance_type: String,
    /// When it was made; placement is asked for anew after a while.
    pub made: Timestamp,
}

/// Name that a rendering has in the place of the machine's.
pub fn placeholder(pool: &str) -> String {
    format!("{pool}-xxxxx")
}

impl Rendering {
    /// The VirtualMachine of one machine.
    pub fn machine(&self, pool: &str, machine: &str) -> Value {
        let placeholder = placeholder(pool);
        let mut vm = self.virtual_machine.clone();
        for path in &self.name_paths {
            if let Some(Value::String(text)) = vm.pointer_mut(path) {
                *text = text.replace(&placeholder, machine);
            }
        }
        vm
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_named_strings_change() {
        let rendering = Rendering {
            source: String::new(),
            revision: "r".into(),
            template_revision: "1".into(),
            virtual_machine: json!({"metadata": {"name": "w-xxxxx"}, "volumes": [{"name": "w-xxxxx-root"}], "note": "w-xxxxx"}),
            name_paths: vec!["/metadata/name".into(), "/volumes/0/name".into(), "/not/there".into()],
            user_data: String::new(),
            vcpus: 1,
            memory: "1Gi".into(),
            storage: "1Gi".into(),
            instance_type: String::new(),
            made: Timestamp::UNIX_EPOCH,
        };
        let vm = rendering.machine("w", "w-abcde");
        assert_eq!(
            vm,
            json!({"metadata": {"name": "w-abcde"}, "volumes": [{"name": "w-abcde-root"}], "note": "w-xxxxx"})
        );
    }
}
