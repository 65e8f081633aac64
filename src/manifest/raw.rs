//! The manifest, field by field. The comments are what the JSON Schema says of each.

use crate::written::named::{Count, Key, Named, ShortOr};
use crate::written::read::Written;
use crate::written::values::{Line, List, Name, Text, is_kebab_case, strings};
use crate::written::verbatim::{Literal, Words};
use crate::written::{table, words};

table! {
    /// Bottles, and the agents that work in them.
    pub(crate) struct Manifest {
        /// The bottles by name: lower-case words joined by `-`.
        pub(crate) bottles: Written<Named<ByName, Bottle>>,
        /// The agents by name: lower-case words joined by `-`.
        pub(crate) agents: Written<Named<ByName, Agent>>,
    }
}

table! {
    /// A sandbox.
    pub(crate) struct Bottle {
        /// The image, for backends that run containers.
        pub(crate) image: Option<Written<Line>>,
        /// The container runtime, for backends that run containers; left out: `runc`.
        pub(crate) runtime: Option<Written<Runtime>>,
        /// Variables: a text, or from where on the host it is taken.
        pub(crate) env: Option<Written<Named<ByVariable, ShortOr<Literal, FromHost>>>>,
        /// What may be reached: a host at ports 80 and 443, or a host and its ports.
        pub(crate) egress: Option<Written<List<ShortOr<HostText, HostAndPorts>>>>,
        /// Hosts that may be reached by SSH: at port 22, or at other ports.
        pub(crate) ssh: Option<Written<List<ShortOr<HostText, HostAndPorts>>>>,
        /// The image of the bundle, in which daemons other than `gateway` and `supervise` are; for backends that run containers.
        pub(crate) bundle_image: Option<Written<Line>>,
        /// The daemons in the bundle; left out: `gateway`.
        pub(crate) daemons: Option<Written<List<Name>>>,
        /// How much of the host the bottle may take, for backends that can limit it.
        pub(crate) limits: Option<Written<Limits>>,
        /// Folders and files of the host that the bottle shows.
        pub(crate) mounts: Option<Written<List<Mount>>>,
    }
}

table! {
    /// A variable that has the value of one of the host's.
    pub(crate) struct FromHost {
        /// The host's variable. Its value is never shown.
        pub(crate) from: Written<Variable>,
    }
}

table! {
    /// A host, or several, at ports.
    pub(crate) struct HostAndPorts {
        /// A name, a wildcard such as `*.example.com`, an address, or a range of addresses.
        pub(crate) host: Written<HostText>,
        /// The ports.
        pub(crate) ports: Written<List<Count<65_535>>>,
    }
}

table! {
    /// How much of the host a bottle may take.
    pub(crate) struct Limits {
        /// Memory, in MiB.
        pub(crate) memory_mib: Option<Written<Count<16_777_216>>>,
        /// Processors.
        pub(crate) cpus: Option<Written<Count<4096>>>,
        /// Processes and threads.
        pub(crate) processes: Option<Written<Count<4_194_304>>>,
    }
}

table! {
    /// A folder or file of the host, shown in the bottle.
    pub(crate) struct Mount {
        /// The path on the host: absolute, from the manifest's folder, or from the home folder (`~/…`).
        pub(crate) source: Written<Line>,
        /// The absolute path in the bottle.
        pub(crate) target: Written<Target>,
        /// Whether the bottle may write there; left out: no.
        pub(crate) writable: Option<Written<bool>>,
    }
}

table! {
    /// Somebody who works in a bottle.
    pub(crate) struct Agent {
        /// The bottle's name.
        pub(crate) bottle: Written<Name>,
        /// The program and its arguments; left out: `claude`.
        pub(crate) command: Option<Written<Words>>,
        /// What it is told first, as its last argument: a text, or a file that has it.
        pub(crate) prompt: Option<Written<ShortOr<Text, PromptFile>>>,
        /// Folders with skills, from the manifest's folder; copied into the bottle.
        pub(crate) skills: Option<Written<List<Line>>>,
    }
}

table! {
    /// A file with a prompt.
    pub(crate) struct PromptFile {
        /// The path, from the manifest's folder.
        pub(crate) file: Written<Line>,
    }
}

words! {
    #[what("runtime")]
    /// A container runtime.
    pub enum Runtime {
        /// Shares the host's kernel.
        Runc = "runc",
        /// gVisor: a kernel of its own, in user space.
        Runsc = "runsc",
    }
}

strings! {
    /// A host, or several.
    HostText: "a host", |_| true, { "type": "string", "pattern": "^[^\\s:@%\\[\\]]+$|^[0-9A-Fa-f:.]+(/[0-9]+)?$" };
    /// A path in the bottle.
    Target: "an absolute path without `..`",
        |text| text.starts_with('/') && text.len() > 1 && !text.chars().any(char::is_control)
            && !text.split('/').any(|part| part == ".." || part == "."),
        { "type": "string", "pattern": "^/[^\\u0000-\\u001f\\u007f]+$" };
    /// A variable's name.
    Variable: "letters, digits and `_`, no digit first", is_variable,
        { "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" };
}

/// Names of bottles and agents.
#[derive(Debug)]
pub(crate) struct ByName;

impl Key for ByName {
    const EXPECTED: &'static str = "names of lower-case words joined by `-`";
    const PATTERN: &'static str = "^[a-z][a-z0-9]*(-[a-z0-9]+)*$";

    fn is_right(key: &str) -> bool {
        is_kebab_case(key)
    }
}

/// Names of variables.
#[derive(Debug)]
pub(crate) struct ByVariable;

impl Key for ByVariable {
    const EXPECTED: &'static str = "names of letters, digits and `_`, no digit first";
    const PATTERN: &'static str = "^[A-Za-z_][A-Za-z0-9_]*$";

    fn is_right(key: &str) -> bool {
        is_variable(key)
    }
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
