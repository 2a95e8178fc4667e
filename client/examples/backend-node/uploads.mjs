// Applies each local transaction exactly once.

import { createHash } from 'node:crypto';

import pg from 'pg';

const OPERATIONS_MAX = 10_000;

// One row for each transaction ever sent. Rows may be deleted once no device can still have the
// transaction in its queue.
const TABLE = `CREATE TABLE IF NOT EXISTS tidewater_uploads (
    user_id text NOT NULL,
    client_id text NOT NULL,
    tx_id bigint NOT NULL,
    operations_hash text NOT NULL,
    rejected text,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, client_id, tx_id)
)`;

// The type without its length: a cast to varchar(3) would silently truncate what an assignment refuses.
const COLUMNS = `SELECT attname, format_type(atttypid, -1) AS type FROM pg_attribute
    WHERE attrelid = to_regclass(quote_ident($1)) AND attnum > 0 AND NOT attisdropped
      AND attgenerated = ''`;

// A write that will always fail. Its message is for the user.
class Rejection extends Error {}

const quote = (name) => `"${name.replaceAll('"', '""')}"`;

export class Uploads {
  // Names from an upload reach a statement only if they are columns of these tables. Values are bound.
  static async connect(url, names) {
    const pool = new pg.Pool({ connectionString: url });
    pool.on('error', (error) => console.error(`an idle connection was lost: ${error.message}`));
    await pool.query(TABLE);
    const tables = new Map();
    for (const name of names) {
      const { rows } = await pool.query(COLUMNS, [name]);
      const columns = new Map(rows.map((row) => [row.attname, row.type]));
      if (!columns.has('id')) throw new Error(`there is no table ${name} with a column id`);
      tables.set(name, columns);
    }
    return new Uploads(pool, tables);
  }

  constructor(pool, tables) {
    this.pool = pool;
    this.tables = tables;
  }

  // Applies a transaction, unless it was applied or rejected before. Throws if the database cannot do it now.
  async apply(user, body) {
    const { transaction, problem } = transactionOf(body);
    if (problem) return { malformed: problem };

    const client = await this.pool.connect();
    let broken;
    try {
      await client.query('BEGIN');
      const verdict = await this.#applyWithin(client, user, transaction);
      await client.query('COMMIT');
      return verdict;
    } catch (error) {
      broken = error;
      await client.query('ROLLBACK').then(() => (broken = undefined), () => {});
      throw error;
    } finally {
      // A connection that could not roll back is closed.
      client.release(broken);
    }
  }

  async #applyWithin(client, user, { clientId, number, operations }) {
    // Row-level security policies and triggers can read this setting. They are the place for your rules
    // about who may write which row.
    await client.query("SELECT set_config('app.user_id', $1, true)", [user]);

    // Takes the number. Waits here while another request with the same number is in flight.
    const hash = createHash('sha256').update(JSON.stringify(operations)).digest('hex');
    const key = [user, clientId, number];
    const taken = await client.query(
      `INSERT INTO tidewater_uploads (user_id, client_id, tx_id, operations_hash)
       VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
      [...key, hash],
    );
    if (taken.rowCount === 0) {
      const { rows } = await client.query(
        `SELECT operations_hash, rejected FROM tidewater_uploads
         WHERE user_id = $1 AND client_id = $2 AND tx_id = $3`,
        key,
      );
      if (rows[0].operations_hash !== hash) return { reused: true };
      return rows[0].rejected === null ? { rows: 0 } : { rejected: rows[0].rejected };
    }

    // The savepoint lets a rejection be recorded while its operations are rolled back.
    await client.query('SAVEPOINT operations');
    try {
      if (operations.length > OPERATIONS_MAX) throw new Rejection(`more than ${OPERATIONS_MAX} operations`);
      for (const operation of operations) await this.#execute(client, operation);
      // Deferred constraints are part of the verdict.
      await client.query('SET CONSTRAINTS ALL IMMEDIATE');
      return { rows: operations.length };
    } catch (error) {
      if (!isFinal(error)) throw error;
      await client.query('ROLLBACK TO SAVEPOINT operations');
      await client.query(
        `UPDATE tidewater_uploads SET rejected = $4
         WHERE user_id = $1 AND client_id = $2 AND tx_id = $3`,
        [...key, error.message],
      );
      return { rejected: error.message, code: error.code ?? 'not allowed' };
    }
  }

  async #execute(client, { op, table, id, data }) {
    const columns = this.tables.get(table);
    if (!columns) throw new Rejection(`table '${table}' cannot be written to`);
    const names = Object.keys(data).filter((name) => name !== 'id');
    const values = [id, ...names.map((name) => textOf(data[name]))];
    const cast = (name, at) => {
      if (!columns.has(name)) throw new Rejection(`there is no column '${name}'`);
      return `$${at}::text::${columns.get(name)}`;
    };
    const key = cast('id', 1);

    if (op === 'DELETE') {
      await client.query(`DELETE FROM ${quote(table)} WHERE "id" = ${key}`, [id]);
    } else if (op === 'PATCH') {
      if (names.length === 0) return;
      const sets = names.map((name, at) => `${quote(name)} = ${cast(name, at + 2)}`);
      const update = `UPDATE ${quote(table)} SET ${sets.join(', ')} WHERE "id" = ${key}`;
      const { rowCount } = await client.query(update, values);
      // Somebody else deleted the row. Your app may prefer to ignore that.
      if (rowCount === 0) throw new Rejection(`there is no row '${id}' in '${table}'`);
    } else {
      const casts = [key, ...names.map((name, at) => cast(name, at + 2))];
      const sets = names.map((name) => `${quote(name)} = excluded.${quote(name)}`);
      const action = sets.length === 0 ? 'NOTHING' : `UPDATE SET ${sets.join(', ')}`;
      const into = ['id', ...names].map(quote).join(', ');
      await client.query(
        `INSERT INTO ${quote(table)} (${into}) VALUES (${casts.join(', ')})
         ON CONFLICT ("id") DO ${action}`,
        values,
      );
    }
  }
}

// Returns the transaction of Tidewater's client or of an official SDK, or the problem of a malformed body.
function transactionOf(body) {
  if (typeof body?.client_id !== 'string') return { problem: '`client_id` is missing' };
  const isOfSdk = Array.isArray(body.crud);
  const entries = isOfSdk ? body.crud : body.operations;
  if (!Array.isArray(entries)) return { problem: '`crud` or `operations` is missing' };

  // A batch may end within a transaction, and has another end when it is sent again. So it could not be
  // applied as a whole, and once.
  const number = isOfSdk ? entries[0]?.tx_id : body.transaction_id;
  const isOne = !isOfSdk || entries.every((entry) => entry.tx_id === number);
  if (!Number.isSafeInteger(number) || !isOne) {
    return { problem: '`crud` has to be one transaction: send getNextCrudTransaction(), not getCrudBatch()' };
  }

  const operations = entries.map((entry) => ({
    op: String(entry?.op).toUpperCase(),
    table: isOfSdk ? entry?.type : entry?.table,
    id: entry?.id,
    data: entry?.data ?? {},
  }));
  const isWellFormed = ({ op, table, id, data }) =>
    ['PUT', 'PATCH', 'DELETE'].includes(op) &&
    typeof table === 'string' &&
    typeof id === 'string' &&
    typeof data === 'object';
  if (!operations.every(isWellFormed)) return { problem: 'an operation is not well-formed' };
  return { transaction: { clientId: body.client_id, number, operations } };
}

// Returns a value as text for PostgreSQL.
function textOf(value) {
  if (value === null || value === undefined) return null;
  return typeof value === 'string' ? value : JSON.stringify(value);
}

// Anything that the data or a rule of the database forbids is final. Anything else may pass.
function isFinal(error) {
  if (error instanceof Rejection) return true;
  const code = typeof error.code === 'string' ? error.code : '';
  // Malformed values, constraints, check options of views, row-level security, RAISE EXCEPTION.
  return /^(22|23|44)...$/.test(code) || code === '42501' || code === 'P0001';
}
