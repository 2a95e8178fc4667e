// Controls one database of an official Node SDK for a test. It reads a command from each line of
// standard input, and writes its result to a line of standard output, in the same order. The argument
// is the SDK's package.

import { createInterface } from 'node:readline';

import { commandsOf, reply } from './client.mjs';

const sdk = await import(process.argv[2]);
const commands = commandsOf(
  sdk,
  ({ schema, file }) => new sdk.PowerSyncDatabase({ schema, database: { dbFilename: file } }),
);

// Only results may be on standard output.
for (const level of ['log', 'info', 'debug']) console[level] = console.error;

for await (const line of createInterface({ input: process.stdin })) {
  const answer = await reply(commands, JSON.parse(line));
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit(0);
