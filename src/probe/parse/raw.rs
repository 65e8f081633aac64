//! A probe's file, field by field. The comments are what the JSON Schema says of each.

use claude_bottle_protocol::prober::How;

use crate::probe::definition::{BackendName, Expect, Method, Severity, Site};
use crate::written::read::Written;
use crate::written::table;
use crate::written::values::{
    Header, Line, List, Name, OneOf, OneOrMany, PerWord, Port, RequestLine, Spelling, Tables, Text,
};

table! {
    /// One property of a bottle. The file's stem is the probe's name: lower-case words joined by `-`.
    pub(crate) struct Probe {
        /// The property in one line, as reports show it.
        pub(crate) title: Written<Line>,
        /// Why the property matters: what an agent could do without it.
        pub(crate) why: Written<Text>,
        /// How bad a leak would be.
        pub(crate) severity: Written<Severity>,
        /// Words for selection, such as `tcp`, `bundle` or `slow`.
        pub(crate) tags: Option<Written<List<Name>>>,
        /// Where the technique is described: CVEs, RFCs, man pages, URLs.
        pub(crate) references: Option<Written<List<Line>>>,
        /// Breaches under which this probe must report a leak (or, for what must be reached, that it is not).
        pub(crate) proven_by: Written<List<Name>>,
        /// What the host must have besides what the backend needs, such as `vsock-loopback`.
        pub(crate) needs: Option<Written<List<Name>>>,
        /// What is tried.
        pub(crate) attempt: Written<Tables<Attempt>>,
        /// What is different on a backend.
        pub(crate) on: Option<Written<PerWord<BackendName, On>>>,
    }
}

table! {
    /// Attempts: one per method, port and spelling, in this order.
    pub(crate) struct Attempt {
        /// By which means.
        pub(crate) method: Written<OneOrMany<Method>>,
        /// Where to; left out for methods that go nowhere, such as `exec`.
        pub(crate) to: Option<Written<To>>,
        /// With method `http`: the request's method and path; left out: `GET /`.
        pub(crate) request: Option<Written<RequestLine>>,
        /// With method `http`: headers of the request.
        pub(crate) headers: Option<Written<List<Header>>>,
        /// What must come of it.
        pub(crate) expect: Written<Expect>,
        /// How it must fail; left out: in any way. Only where `contained` is expected.
        #[schemars(with = "Option<OneOrMany<OneOf<How>>>")]
        pub(crate) how: Option<Written<OneOrMany<How>>>,
        /// The backends on which it is made; left out: on all of them.
        pub(crate) only_on: Option<Written<OneOrMany<BackendName>>>,
    }
}

table! {
    /// Where an attempt goes.
    pub(crate) struct To {
        /// The place.
        pub(crate) site: Written<Site>,
        /// The port: a name that the site has, or a number where the site takes numbers.
        pub(crate) port: Written<OneOrMany<Port>>,
        /// The address or name as a client writes it; left out: each address that the site has.
        pub(crate) spelled: Option<Written<OneOrMany<Spelling>>>,
    }
}

table! {
    /// What is different on one backend: another expectation, or none at all.
    pub(crate) struct On {
        /// What must come of every attempt there instead.
        pub(crate) expect: Option<Written<Expect>>,
        /// `true`: the probe is not run there.
        pub(crate) skip: Option<Written<bool>>,
        /// Why it is different there.
        pub(crate) because: Written<Text>,
        /// Where that is documented; required where `leaks` is expected.
        pub(crate) reference: Option<Written<Line>>,
    }
}
