//! `GET /events`.

use std::collections::BTreeMap;

wire! {
    /// Something that happened.
    pub struct EventMessage {
        /// Before the fields below; still sent for containers and images.
        status: String = "status" omitempty;
        id: String = "id" omitempty;
        from: String = "from" omitempty;
        kind: String = "Type";
        action: String = "Action";
        actor: EventActor = "Actor";
        scope: String = "scope" omitempty;
        /// Seconds since 1970.
        time: i64 = "time" omitempty;
        /// Nanoseconds since 1970.
        time_nano: i64 = "timeNano" omitempty;
    }

    /// What it happened to.
    pub struct EventActor {
        id: String = "ID";
        attributes: Option<BTreeMap<String, String>> = "Attributes";
    }
}
