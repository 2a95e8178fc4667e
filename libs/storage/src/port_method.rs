//! The methods of the ports, as a type.

use std::fmt;

macro_rules! methods {
    ($($method:ident $name:literal $writes:literal,)+) => {
        /// A method of the ports.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "each is the method of its name")]
        pub enum PortMethod {
            $($method,)+
        }

        impl PortMethod {
            /// All of them.
            pub const ALL: [Self; [$($name,)+].len()] = [$(Self::$method,)+];

            /// Returns the name in the ports, such as `swap_control`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$method => $name,)+
                }
            }

            /// Returns whether the method waits for a change.
            pub(crate) const fn waits(self) -> bool {
                matches!(self, Self::WaitForControlChange | Self::WaitForTicket)
            }

            /// Returns whether the method changes the store.
            #[must_use]
            pub const fn writes(self) -> bool {
                match self {
                    $(Self::$method => $writes,)+
                }
            }
        }
    };
}

methods! {
    Control "control" false,
    SwapControl "swap_control" true,
    WaitForControlChange "wait_for_control_change" false,
    ArchivedEpochs "archived_epochs" false,
    ArchiveEpochs "archive_epochs" true,
    Generation "generation" false,
    PutGeneration "put_generation" true,
    Records "records" false,
    SourceRows "source_rows" false,
    Write "write" true,
    Segments "segments" false,
    DeleteSegments "delete_segments" true,
    Buckets "buckets" false,
    SwapCatalog "swap_catalog" true,
    LookupRows "lookup_rows" false,
    RegisteredBuckets "registered_buckets" false,
    LastTicket "last_ticket" false,
    TakeTicket "take_ticket" true,
    WaitForTicket "wait_for_ticket" false,
    WriteRequests "write_requests" false,
    SwapWriteRequests "swap_write_requests" true,
    PutObject "put_object" true,
    ObjectRange "object_range" false,
    DeleteObject "delete_object" true,
    PutObjectFile "put_object_file" true,
    ObjectUrl "object_url" false,
    DueTasks "due_tasks" false,
    Complete "complete" true,
    Defer "defer" true,
    Generations "generations" false,
    DeleteBucket "delete_bucket" true,
    DeleteLookup "delete_lookup" true,
    DeleteGeneration "delete_generation" true,
    ProbeAccess "probe_access" false,
}

impl fmt::Display for PortMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
