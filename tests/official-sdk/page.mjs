// Controls one database of an official web SDK in a browser's page. `sdk` is the SDK's package, and
// `settings` come from the driver; the bundler knows both.

import * as sdk from 'sdk';
import { dbWorker, isUnified, syncWorker, vfs } from 'settings';

import { commandsOf, reply } from './client.mjs';

const commands = commandsOf(sdk, ({ schema, file }) => {
  const open = { dbFilename: file, worker: dbWorker, vfs: sdk.WASQLiteVFS[vfs] };
  // Versions before 2 take such options only in an object that opens the database.
  const database = isUnified ? open : new sdk.WASQLiteOpenFactory(open);
  return new sdk.PowerSyncDatabase({ schema, database, sync: { worker: syncWorker } });
});

globalThis.run = async (line) => JSON.stringify(await reply(commands, JSON.parse(line)));
