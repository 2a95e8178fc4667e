// An example of an app's backend: it applies the uploads of devices to PostgreSQL, each local transaction
// as a whole and once. Copy it, and add your rules.

import { createServer } from 'node:http';

import { readKeys } from './tokens.mjs';
import { Uploads } from './uploads.mjs';

const BODY_BYTES_MAX = 16 << 20;

function setting(name, fallback) {
  const value = process.env[name] ?? fallback;
  if (value === undefined) {
    console.error(`error: set ${name} (README.md lists the settings)`);
    process.exit(2);
  }
  return value;
}

async function read(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > BODY_BYTES_MAX) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

// Returns the status and the body of the answer. Only `outcome: "rejected"` rejects a transaction: anything
// else that is no success makes the device send it again.
async function answer(request, userOf, uploads) {
  if (request.method !== 'POST' || request.url !== '/upload') {
    return [404, { reason: 'send POST /upload' }];
  }
  const user = userOf(request.headers.authorization);
  if (user === null) return [401, { reason: 'the token is not valid' }];

  const text = await read(request);
  if (text === null) {
    return [413, { outcome: 'rejected', reason: `more than ${BODY_BYTES_MAX} bytes` }];
  }
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    return [400, { reason: 'the body is not JSON' }];
  }

  try {
    const verdict = await uploads.apply(user, body);
    if (verdict.malformed) return [400, { reason: verdict.malformed }];
    if (verdict.reused) {
      return [422, { outcome: 'rejected', reason: 'the number was used for another transaction' }];
    }
    if (verdict.rejected !== undefined) {
      // The reason may have values of rows, so the log has the code of PostgreSQL's error.
      console.error(`rejected: client ${body.client_id}: ${verdict.code ?? 'as before'}`);
      return [409, { outcome: 'rejected', reason: verdict.rejected }];
    }
    console.error(`applied: client ${body.client_id}: ${verdict.rows} rows`);
    return [200, { outcome: 'applied' }];
  } catch (error) {
    console.error(`not applied, to be sent again: ${error.message}`);
    return [503, { reason: 'the database cannot do it now' }];
  }
}

const userOf = readKeys(setting('JWKS'), setting('AUDIENCE'));
const tables = setting('TABLES').split(',');
const uploads = await Uploads.connect(setting('DATABASE_URL'), tables);

const server = createServer((request, response) => {
  answer(request, userOf, uploads)
    .catch((error) => {
      console.error(`failed: ${error.message}`);
      return [500, { reason: 'the backend failed: its log says why' }];
    })
    .then(([status, body]) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(body));
    });
});
const [host, port] = setting('LISTEN', '127.0.0.1:3000').split(':');
server.listen(Number(port), host, () => {
  const { address, port: bound } = server.address();
  console.log(`listening on http://${address}:${bound}`);
});
