//! Why a text is refused.

/// Most bytes of one text of user data. With what makes the machine join it must fit a Secret (1 MiB), and it is kept in
/// every revision of a template.
pub const MAX_BYTES: usize = 64 * 1024;

/// Why a text is not valid user data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is longer than [`MAX_BYTES`].
    #[error("must have at most {MAX_BYTES} bytes, has {0}")]
    TooLong(usize),
    /// cloud-init would not know what it is.
    #[error(
        "must begin with #cloud-config, #cloud-config-archive, #!, #cloud-boothook, #include, ## template: jinja or the headers of a MIME multipart message"
    )]
    UnknownFormat,
    /// A format of other systems, or one that cloud-init has and Steading does not serve.
    #[error("{0} is not supported; write cloud-init user data that begins with #cloud-config")]
    Unsupported(&'static str),
    /// The content breaks its format's rules.
    #[error("{}{message}", line.map(|line| format!("line {line}: ")).unwrap_or_default())]
    Content {
        /// Line of the text, counted from 1, if the fault is on one.
        line: Option<usize>,
        /// What is wrong.
        message: String,
    },
    /// A part of a multipart message or an archive is not valid.
    #[error("part {number}: {fault}")]
    InPart {
        /// Which part, counted from 1.
        number: usize,
        /// What is wrong with it.
        fault: Box<Fault>,
    },
}

impl Fault {
    pub(crate) fn content(message: impl Into<String>) -> Self {
        Self::Content {
            line: None,
            message: message.into(),
        }
    }

    pub(crate) fn at(line: usize, message: impl Into<String>) -> Self {
        Self::Content {
            line: Some(line),
            message: message.into(),
        }
    }

    pub(crate) fn in_part(number: usize, fault: Self) -> Self {
        Self::InPart {
            number,
            fault: Box::new(fault),
        }
    }
}
