// Calls the admin API with PowerSync's own client, which its command line uses. Prints the answers as one
// JSON object.

import { createWebNetworkClient } from '@journeyapps-labs/common-sdk';
import { InstanceClient } from '@powersync/service-client';

const [endpoint, token, syncConfig] = process.argv.slice(2);

const client = new InstanceClient({
  client: createWebNetworkClient({ headers: () => ({ Authorization: `Bearer ${token}` }) }),
  endpoint,
});

console.log(
  JSON.stringify({
    diagnostics: await client.diagnostics({ sync_rules_content: true }),
    schema: await client.getSchema({}),
    validation: await client.validate({ sync_rules: syncConfig }),
    reprocess: await client.reprocess({}),
  }),
);
