// Opens a database of the official Node SDK with a schema in TypeScript, and prints its tables with their
// columns as SQLite has them. The argument is the file of the schema.

import { readFile, writeFile } from 'node:fs/promises';

import { PowerSyncDatabase } from '@powersync/node';
import { transform } from 'esbuild';

const source = await readFile(process.argv[2], 'utf8');
const { code } = await transform(source, { loader: 'ts', format: 'esm' });
await writeFile('schema-under-test.mjs', code);
const { AppSchema } = await import('./schema-under-test.mjs');

// Only the result may be on standard output.
for (const level of ['log', 'info', 'debug']) console[level] = console.error;

AppSchema.validate();
const database = new PowerSyncDatabase({ schema: AppSchema, database: { dbFilename: 'app.sqlite' } });
await database.init();
const tables = {};
for (const { name } of AppSchema.tables) {
  const columns = await database.getAll('SELECT name, type FROM pragma_table_info(?)', [name]);
  tables[name] = Object.fromEntries(columns.map((column) => [column.name, column.type]));
}
await database.close();
process.stdout.write(JSON.stringify(tables));
process.exit(0);
