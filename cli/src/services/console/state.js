// The state of the deployment: facts, tables, definitions and buckets.
import { byId, bytes, duration, element, number, row } from './page.js';

export function showFacts(state) {
  const worker = state.worker ?? {};
  const slot = state.slot ?? {};
  const store = state.store ?? {};
  const configs = (state.configs ?? []).map((config) =>
    `${config.state.replaceAll('_', ' ')}: generation ${config.generation}, definitions: ${config.definitions}`);
  const facts = {
    'devices had everything': worker.age_ms === undefined ? '' : `${duration(worker.age_ms / 1000)} ago`,
    'run of the worker': number(worker.epoch),
    'error of the worker': worker.error,
    'source': state.source && (state.source.reachable ? 'reachable' : state.source.error),
    'replication slot': slot.name && `${slot.name}, ${slot.active ? 'active' : 'not active'}, ${slot.wal_status}`,
    'WAL budget': bytes(slot.budget_bytes),
    'sync config': configs.join('; '),
    'store': [
      store.database_bytes && `database ${bytes(store.database_bytes)}`,
      store.log_bytes && `its WAL ${bytes(store.log_bytes)}`,
      store.object_bytes && `snapshots ${bytes(store.object_bytes)}`,
    ].filter(Boolean).join(', '),
    'buckets due for a snapshot': number(state.compaction?.due),
  };
  byId('facts').replaceChildren(...Object.entries(facts).flatMap(([name, value]) =>
    value ? [element('dt', name), element('dd', value)] : []));
}

function copyCell(table) {
  const cell = element('td');
  const rows = table.progress?.rows;
  if (table.copy === 'copying' && rows !== undefined) {
    const bar = element('progress');
    // Without statistics the total is unknown, and the bar says so.
    if (table.estimated_rows) {
      bar.max = Math.max(table.estimated_rows, rows);
      bar.value = rows;
    }
    const left = table.progress.seconds_left;
    cell.append(bar, ` ${number(rows)} rows${left === undefined || left === null ? '' : `, ${duration(left)} left`}`);
  } else {
    cell.textContent = table.copy;
  }
  return cell;
}

export function showTables(state) {
  byId('tables').replaceChildren(...(state.tables ?? []).map((table) => row(
    element('td', table.name ?? `table ${table.oid}`),
    copyCell(table),
    element('td', table.estimated_rows === undefined ? '' : `~${number(table.estimated_rows)}`, 'number'),
    element('td', number(table.unsynced_rows), 'number'),
  )));
  byId('definitions').replaceChildren(...(state.definitions ?? []).map((definition) => row(
    element('td', definition.name),
    element('td', number(definition.buckets) + (definition.is_complete ? '' : '+'), 'number'),
    element('td', number(definition.operations) + (definition.is_complete ? '' : '+'), 'number'),
  )));
  byId('buckets').replaceChildren(...(state.largest_buckets ?? []).map((bucket) => {
    const snapshot = bucket.snapshot;
    const text = snapshot
      ? `${number(snapshot.rows)} rows, ${bytes(snapshot.bytes)}, ${duration(snapshot.age_seconds)} old`
      : 'none';
    return row(element('td', bucket.name), element('td', number(bucket.operations), 'number'), element('td', text));
  }));
  const scan = state.bucket_scan;
  byId('scan').textContent = scan && !scan.is_complete ? `of ${number(scan.examined)} buckets that were examined` : '';
}
