// The commands of a driver: they control one database of an official SDK. This part is the same in Node
// and in a browser.

// Uploads local transactions to the backend, one at a time.
class Connector {
  // `token` is what the app would get from its sign-in; a test replaces it.
  constructor({ sync, backend, token }) {
    this.sync = sync;
    this.backend = backend;
    this.token = token;
    this.fetches = 0;
    this.rejected = 0;
  }

  async fetchCredentials() {
    this.fetches += 1;
    return { endpoint: this.sync, token: this.token };
  }

  async uploadData(database) {
    const client_id = await database.getClientId();
    for (;;) {
      const transaction = await database.getNextCrudTransaction();
      if (!transaction) return;
      const response = await fetch(this.backend, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${this.token}` },
        body: JSON.stringify({ client_id, crud: transaction.crud }),
      });
      // The backend has a verdict: the same writes would fail again, and block the queue for ever.
      const isRejected = [409, 422].includes(response.status);
      if (isRejected) this.rejected += 1;
      else if (!response.ok) throw new Error(`backend: ${response.status} ${await response.text()}`);
      await transaction.complete();
    }
  }
}

const textOf = (error) => (error ? String(error.message ?? error) : null);

// What a user interface shows of a status.
function shown(status) {
  const progress = status.downloadProgress;
  return {
    connected: status.connected,
    hasSynced: status.hasSynced ?? false,
    downloadError: textOf(status.dataFlowStatus?.downloadError),
    uploadError: textOf(status.dataFlowStatus?.uploadError),
    progress: progress && [progress.downloadedOperations, progress.totalOperations],
    priorities: (status.priorityStatusEntries ?? []).map(({ priority, hasSynced }) => ({
      priority,
      hasSynced: hasSynced ?? false,
    })),
  };
}

// Returns the commands by their names. `sdk` is the SDK's module, and `open` opens its database.
export function commandsOf(sdk, open) {
  // Older versions log nothing unless the app asks for it.
  sdk.createBaseLogger?.().useDefaults();
  const subscriptions = new Map();
  let db;
  let connector;
  // All states that a user interface would have shown, in their order.
  let statuses = [];

  return {
    async open({ file, tables, ...endpoints }) {
      connector = new Connector(endpoints);
      const columns = (types) =>
        Object.fromEntries(Object.entries(types).map(([name, type]) => [name, sdk.column[type]]));
      const schema = new sdk.Schema(
        Object.fromEntries(
          Object.entries(tables).map(([name, types]) => [name, new sdk.Table(columns(types))]),
        ),
      );
      db = open({ schema, file });
      await db.init();
      db.registerListener({ statusChanged: (status) => statuses.push(shown(status)) });
    },
    async connect(options) {
      await db.connect(connector, options);
    },
    async disconnect() {
      await db.disconnect();
    },
    async query({ sql }) {
      return await db.getAll(sql);
    },
    async write({ statements }) {
      await db.writeTransaction(async (transaction) => {
        for (const statement of statements) await transaction.execute(statement);
      });
    },
    async status() {
      const queued = (await db.getUploadQueueStats()).count;
      const { fetches, rejected } = connector;
      return { ...shown(db.currentStatus), queued, fetches, rejected };
    },
    // Returns the states since the last call.
    async statuses() {
      const taken = statuses;
      statuses = [];
      return taken;
    },
    // Sets the token that the app returns the next time that the SDK asks for it.
    async token({ token }) {
      connector.token = token;
    },
    async subscribe({ stream, parameters, ...options }) {
      const subscription = await db.syncStream(stream, parameters).subscribe(options);
      subscriptions.set(JSON.stringify([stream, parameters]), subscription);
    },
    async unsubscribe({ stream, parameters }) {
      subscriptions.get(JSON.stringify([stream, parameters])).unsubscribe();
    },
  };
}

// Runs a command, and returns what a driver writes about it.
export async function reply(commands, { number, ...command }) {
  const [[name, parameters]] = Object.entries(command);
  try {
    return { number, result: (await commands[name](parameters)) ?? null };
  } catch (error) {
    return { number, error: String(error?.stack ?? error) };
  }
}
