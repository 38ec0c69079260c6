//! Fields whose text has a meaning of its own. The contracts say so in words; the tests hold these lists to them.

use prost_reflect::FieldDescriptor;

/// What the text of a field says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// A Kubernetes quantity.
    Quantity,
    /// A number or a percentage (Kubernetes' `IntOrString`).
    CountOrPercentage,
}

/// Names of fields that hold quantities, in whatever message.
const QUANTITIES: [&str; 12] = [
    "capacity",
    "cpu",
    "local_storage",
    "machine_memory",
    "max_guest_memory",
    "max_size",
    "memory",
    "min_size",
    "restore_size",
    "root_disk_size",
    "size",
    "storage",
];
const COUNTS_OR_PERCENTAGES: [&str; 2] = ["max_surge", "max_unavailable"];

/// What the text of that field says, where it is not just text.
pub fn of(field: &FieldDescriptor) -> Option<Text> {
    if !matches!(field.kind(), prost_reflect::Kind::String) {
        return None;
    }
    if QUANTITIES.contains(&field.name()) {
        Some(Text::Quantity)
    } else if COUNTS_OR_PERCENTAGES.contains(&field.name()) {
        Some(Text::CountOrPercentage)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::Kind;

    use super::*;
    use crate::client::contracts;

    /// What the contract says about a field.
    fn comment(field: &FieldDescriptor) -> String {
        let file = field.parent_file().file_descriptor_proto().clone();
        let locations = file.source_code_info.map(|info| info.location).unwrap_or_default();
        let own = locations.into_iter().find(|location| location.path == field.path());
        own.map(|location| location.leading_comments().to_owned())
            .unwrap_or_default()
    }

    #[test]
    fn the_lists_are_those_of_the_contracts() {
        let pool = contracts().unwrap();
        let ours = pool.all_messages().filter(|m| m.full_name().starts_with("steading."));
        let fields: Vec<FieldDescriptor> = ours.flat_map(|message| message.fields().collect::<Vec<_>>()).collect();
        let texts = fields.iter().filter(|field| matches!(field.kind(), Kind::String));
        let mut seen = 0;
        for field in texts {
            let comment = comment(field);
            let says = if comment.contains("Kubernetes quantity") {
                Some(Text::Quantity)
            } else if comment.contains("a number or a percentage") {
                Some(Text::CountOrPercentage)
            } else {
                None
            };
            if says.is_some() {
                assert_eq!(of(field), says, "{}: {comment}", field.full_name());
                seen += 1;
            }
        }
        assert!(seen > 20, "the contracts carry no comments");
    }
}
