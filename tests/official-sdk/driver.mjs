// Controls one database of the official Node SDK for a test. It reads a command from each line of
// standard input, and writes its result to a line of standard output, in the same order. The argument
// is the SDK's package.

import { createInterface } from 'node:readline';

const { column, PowerSyncDatabase, Schema, Table } = await import(process.argv[2]);

// The schema of the to-do app in the tests.
const schema = new Schema({
  lists: new Table({ name: column.text, owner_id: column.text }),
  todos: new Table({
    list_id: column.text,
    description: column.text,
    completed: column.integer,
    position: column.integer,
    weight: column.real,
    body: column.text,
  }),
});

let db;
let connector;

// Uploads local transactions to the backend, one at a time, in the format of Tidewater's own client.
class Connector {
  constructor({ sync, backend, token }) {
    this.sync = sync;
    this.backend = backend;
    this.token = token;
  }

  async fetchCredentials() {
    return { endpoint: this.sync, token: this.token };
  }

  async uploadData(database) {
    const client_id = await database.getClientId();
    for (;;) {
      const transaction = await database.getNextCrudTransaction();
      if (!transaction) return;
      const body = {
        client_id,
        transaction_id: transaction.transactionId,
        operations: transaction.crud.map((entry) => ({
          op: entry.op,
          table: entry.table,
          id: entry.id,
          data: entry.opData ?? {},
        })),
      };
      const response = await fetch(this.backend, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${this.token}` },
        body: JSON.stringify(body),
      });
      if (!response.ok) throw new Error(`backend: ${response.status} ${await response.text()}`);
      await transaction.complete();
    }
  }
}

const commands = {
  async open({ file, ...endpoints }) {
    connector = new Connector(endpoints);
    db = new PowerSyncDatabase({ schema, database: { dbFilename: file } });
    await db.init();
  },
  async connect() {
    // Version 0.15 uses a WebSocket by default, which the sync API does not support.
    await db.connect(connector, { connectionMethod: 'http' });
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
    const { connected, hasSynced, dataFlowStatus } = db.currentStatus;
    const text = (error) => (error ? String(error.message ?? error) : null);
    return {
      connected,
      hasSynced: hasSynced ?? false,
      downloadError: text(dataFlowStatus?.downloadError),
      uploadError: text(dataFlowStatus?.uploadError),
      queued: (await db.getUploadQueueStats()).count,
    };
  },
};

// Only results may be on standard output.
for (const level of ['log', 'info', 'debug']) console[level] = console.error;

for await (const line of createInterface({ input: process.stdin })) {
  const { number, ...command } = JSON.parse(line);
  const [[name, parameters]] = Object.entries(command);
  let answer;
  try {
    answer = { number, result: (await commands[name](parameters)) ?? null };
  } catch (error) {
    answer = { number, error: String(error?.stack ?? error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit(0);
