//! The official SDKs under test: their versions, implementations, file systems and transports.

use serde_json::{Value, json};

use crate::settings::{Browser, Settings};

/// An official SDK in one version, as an app may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SdkClient {
    /// The SDK.
    pub sdk: Sdk,
    /// The connection method.
    pub transport: Transport,
}

/// A version of an SDK, with the options of an app that change what the server sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sdk {
    /// Name in messages.
    name: &'static str,
    /// Name of the installed npm package.
    pub(crate) package: &'static str,
    pub(crate) platform: Platform,
    /// The value of `clientImplementation`, where an app can select it.
    implementation: Option<&'static str>,
    /// The SDK can number its checkpoint requests itself (`checkpointMode`).
    has_checkpoint_requests: bool,
    /// The SDK can subscribe to streams.
    has_subscriptions: bool,
    /// After a 401 by HTTP, the SDK fetches another token. Those with `@powersync/common` below 1.57.2
    /// send the refused one again.
    fetches_after_401: bool,
    /// The SDK connects by WebSocket unless the app chooses HTTP.
    prefers_web_socket: bool,
    /// The app may disconnect at any moment. `connect` disconnects first, if the app is connected.
    disconnects_cleanly: bool,
    /// The SDK may leave a write queued until the next one. `@powersync/common` 1.43 and 1.45 ignore a write
    /// while an upload runs (`triggerCrudUpload`), even if the upload no longer looks at the queue. 1.54
    /// does not.
    may_forget_writes: bool,
}

/// The environment of an SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Platform {
    /// Node.
    Node,
    /// A page in a browser, with SQLite on this file system.
    Browser(&'static str),
}

/// A connection method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A response to `POST /sync/stream`.
    Http,
    /// RSocket over WebSocket.
    WebSocket,
}

const NODE_1_1: Sdk = Sdk {
    name: "node 1.1.0",
    package: "@powersync/node",
    platform: Platform::Node,
    implementation: None,
    has_checkpoint_requests: true,
    has_subscriptions: true,
    fetches_after_401: true,
    prefers_web_socket: false,
    disconnects_cleanly: true,
    may_forget_writes: false,
};

const NODE_0_15_JAVASCRIPT: Sdk = Sdk {
    name: "node 0.15.2, client in JavaScript",
    package: "powersync-node-0.15",
    platform: Platform::Node,
    implementation: Some("js"),
    has_checkpoint_requests: false,
    has_subscriptions: false,
    fetches_after_401: false,
    prefers_web_socket: true,
    disconnects_cleanly: true,
    may_forget_writes: true,
};

const WEB_2_4_OPFS: Sdk = Sdk {
    name: "web 2.4.0, OPFS",
    package: "@powersync/web",
    platform: Platform::Browser("OPFSCoopSyncVFS"),
    ..NODE_1_1
};

const WEB_1_29_INDEXED_DB: Sdk = Sdk {
    name: "web 1.29.1, IndexedDB, client in JavaScript",
    package: "powersync-web-1.29",
    platform: Platform::Browser("IDBBatchAtomicVFS"),
    // A disconnect closes the sync worker's access to the database (`SharedWASQLiteConnection.close`). A
    // transaction that is open then stays open, and the app's next one fails.
    disconnects_cleanly: false,
    ..NODE_0_15_JAVASCRIPT
};

/// All SDKs under test.
const SDKS: [Sdk; 10] = [
    NODE_1_1,
    Sdk {
        name: "node 0.21.0",
        package: "powersync-node-0.21",
        has_checkpoint_requests: false,
        ..NODE_1_1
    },
    Sdk {
        name: "node 0.18.8",
        package: "powersync-node-0.18",
        has_checkpoint_requests: false,
        fetches_after_401: false,
        prefers_web_socket: true,
        ..NODE_1_1
    },
    NODE_0_15_JAVASCRIPT,
    Sdk {
        name: "node 0.15.2, client in Rust",
        implementation: Some("rust"),
        has_subscriptions: true,
        ..NODE_0_15_JAVASCRIPT
    },
    WEB_2_4_OPFS,
    Sdk {
        name: "web 2.4.0, OPFS with a write-ahead log",
        platform: Platform::Browser("OPFSWriteAheadVFS"),
        ..WEB_2_4_OPFS
    },
    Sdk {
        name: "web 2.4.0, IndexedDB",
        platform: Platform::Browser("IDBBatchAtomicVFS"),
        ..WEB_2_4_OPFS
    },
    WEB_1_29_INDEXED_DB,
    Sdk {
        name: "web 1.29.1, OPFS, client in Rust",
        platform: Platform::Browser("OPFSCoopSyncVFS"),
        implementation: Some("rust"),
        has_subscriptions: true,
        ..WEB_1_29_INDEXED_DB
    },
];

impl Sdk {
    /// Returns the SDK with each transport of the tests.
    fn clients(self) -> impl Iterator<Item = SdkClient> {
        let web_socket = self.prefers_web_socket.then_some(Transport::WebSocket);
        let transports = [Transport::Http].into_iter().chain(web_socket);
        transports.map(move |transport| SdkClient { sdk: self, transport })
    }
}

impl SdkClient {
    /// The newest Node SDK.
    pub const NEWEST: Self = Self { sdk: NODE_1_1, transport: Transport::Http };

    /// The oldest Node SDK under test, of 2025, with its client in JavaScript. Devices keep the SDK of
    /// the app release that they installed.
    pub const OLDEST: Self = Self { sdk: NODE_0_15_JAVASCRIPT, transport: Transport::Http };

    /// Returns all clients under test, without those in a browser if the settings leave them out. Each SDK
    /// uses HTTP, and those that prefer WebSocket use that as well.
    #[must_use]
    pub fn all(settings: &Settings) -> Vec<Self> {
        let sdks = SDKS
            .into_iter()
            .filter(|sdk| sdk.platform == Platform::Node || settings.browser != Browser::LeftOut);
        sdks.flat_map(Sdk::clients).collect()
    }

    /// Returns the clients for tests of single properties: the newest and the oldest, or all of them.
    #[must_use]
    pub fn chosen(settings: &Settings) -> Vec<Self> {
        let mut clients = Self::all(settings);
        if !settings.all_sdks {
            clients.retain(|client| client.sdk == NODE_1_1 || client.sdk == NODE_0_15_JAVASCRIPT);
        }
        clients
    }

    /// Returns the name for messages.
    #[must_use]
    pub fn name(&self) -> String {
        let transport = match self.transport {
            Transport::Http => "HTTP",
            Transport::WebSocket => "WebSocket",
        };
        format!("{}, {transport}", self.sdk.name)
    }

    /// Returns whether the SDK can number its checkpoint requests itself.
    #[must_use]
    pub fn has_checkpoint_requests(&self) -> bool {
        self.sdk.has_checkpoint_requests
    }

    /// Returns whether it runs in Node.
    #[must_use]
    pub fn is_node(&self) -> bool {
        self.sdk.platform == Platform::Node
    }

    /// Returns whether the SDK can subscribe to streams.
    #[must_use]
    pub fn has_subscriptions(&self) -> bool {
        self.sdk.has_subscriptions
    }

    /// Returns whether the SDK fetches another token by itself after a 401.
    #[must_use]
    pub fn fetches_after_401(&self) -> bool {
        self.sdk.fetches_after_401 || self.transport == Transport::WebSocket
    }

    /// Returns whether an app may disconnect at any moment without a fault of the SDK.
    #[must_use]
    pub fn disconnects_cleanly(&self) -> bool {
        self.sdk.disconnects_cleanly
    }

    /// Returns whether the SDK may leave a write queued until the app writes again.
    pub(crate) fn may_forget_writes(&self) -> bool {
        self.sdk.may_forget_writes
    }

    /// Returns the SDK's options for a connection.
    ///
    /// The delays are shorter than an SDK's own, which are 5 s and 1 s, so that tests need not wait.
    pub(crate) fn connection_options(&self) -> Value {
        let method = match self.transport {
            Transport::Http => "http",
            Transport::WebSocket => "web-socket",
        };
        let mut options = json!({
            "connectionMethod": method, "retryDelayMs": 500, "crudUploadThrottleMs": 100,
        });
        if let Some(implementation) = self.sdk.implementation {
            options["clientImplementation"] = implementation.into();
        }
        options
    }
}
