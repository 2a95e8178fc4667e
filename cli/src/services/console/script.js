// The console: asks the admin API for the state every two seconds, and shows it. Everything that comes
// from the server is set as text, never as HTML.
'use strict';

const INTERVAL_MS = 2000;
// Ten minutes.
const POINTS_MAX = 300;
const byId = (id) => document.getElementById(id);

// The token is in the fragment of the address that `tidewater dev` prints: fragments are not sent. It
// lives as long as the tab.
function token() {
  const given = new URLSearchParams(location.hash.slice(1)).get('token');
  if (given) {
    sessionStorage.setItem('token', given);
    history.replaceState(null, '', location.pathname);
  }
  return sessionStorage.getItem('token');
}

function element(name, text, className) {
  const created = document.createElement(name);
  if (text !== undefined) created.textContent = text;
  if (className) created.className = className;
  return created;
}

const number = (value) => (value === undefined || value === null ? '' : value.toLocaleString('en'));

function bytes(value) {
  if (value === undefined || value === null) return '';
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value < 10 && unit > 0 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

function duration(seconds) {
  if (seconds === undefined || seconds === null) return '';
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

// A position in the WAL, as a number: `0/1A2B3C4`.
function position(lsn) {
  if (!lsn) return undefined;
  const [high, low] = lsn.split('/').map((part) => parseInt(part, 16));
  return high * 2 ** 32 + low;
}

class Chart {
  constructor(title, format) {
    this.format = format;
    this.points = [];
    this.value = element('strong');
    this.svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    this.svg.setAttribute('viewBox', `0 0 ${POINTS_MAX} 100`);
    this.svg.setAttribute('preserveAspectRatio', 'none');
    this.svg.setAttribute('aria-hidden', 'true');
    this.line = document.createElementNS('http://www.w3.org/2000/svg', 'polyline');
    this.svg.append(this.line);
    const figure = element('figure');
    figure.append(element('figcaption', title), this.value, this.svg);
    byId('charts').append(figure);
  }

  add(value) {
    this.points.push(value);
    if (this.points.length > POINTS_MAX) this.points.shift();
    this.value.textContent = value === undefined ? 'unknown' : this.format(value);
    const known = this.points.filter((point) => point !== undefined);
    const top = Math.max(1, ...known);
    const start = POINTS_MAX - this.points.length;
    const places = this.points.flatMap((point, at) =>
      point === undefined ? [] : [`${start + at},${(98 - (point / top) * 94).toFixed(1)}`]);
    this.line.setAttribute('points', places.join(' '));
  }
}

const charts = {
  behind: new Chart('WAL that devices do not have yet', bytes),
  rate: new Chart('WAL processed per second', (value) => `${bytes(value)}/s`),
  retained: new Chart('WAL that the slot retains', bytes),
  streams: new Chart('open streams', number),
};
let former;

function showCharts(state) {
  const at = performance.now();
  const lsn = position(state.worker?.committed_lsn);
  let rate;
  if (former && lsn !== undefined && former.lsn !== undefined) {
    rate = Math.max(0, (lsn - former.lsn) / ((at - former.at) / 1000));
  }
  former = { at, lsn };
  charts.behind.add(state.slot?.lag_bytes);
  charts.rate.add(rate);
  charts.retained.add(state.slot?.retained_bytes);
  charts.streams.add(state.streams);
}

function showFacts(state) {
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

function row(...cells) {
  const created = element('tr');
  created.append(...cells);
  return created;
}

function showTables(state) {
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

function show(state) {
  byId('sign-in').hidden = true;
  byId('report').hidden = false;
  setState(state.healthy ? 'healthy' : 'not healthy', state.healthy ? 'good' : 'bad');
  byId('problems').replaceChildren(
    ...(state.problems ?? []).map((text) => element('li', text, 'problem')),
    ...(state.warnings ?? []).map((text) => element('li', text, 'warning')),
  );
  showCharts(state);
  showFacts(state);
  showTables(state);
}

function setState(text, className = '') {
  byId('state').textContent = text;
  byId('state').className = className;
}

function askForToken(reason) {
  sessionStorage.removeItem('token');
  byId('report').hidden = true;
  byId('sign-in').hidden = false;
  byId('refused').textContent = reason;
  setState('signed out');
  byId('token').focus();
}

async function refresh() {
  const current = token();
  if (!current) return askForToken('');
  try {
    const response = await fetch('/api/admin/v1/diagnostics', {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Token ${current}` },
      body: '{}',
      cache: 'no-store',
    });
    if (response.status === 401 || response.status === 429) {
      return askForToken('This server does not accept the token.');
    }
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    show((await response.json()).data.tidewater);
  } catch (error) {
    setState(`no answer: ${error.message}`, 'bad');
  }
  setTimeout(refresh, INTERVAL_MS);
}

byId('sign-in').addEventListener('submit', (event) => {
  event.preventDefault();
  sessionStorage.setItem('token', byId('token').value);
  byId('token').value = '';
  refresh();
});
addEventListener('hashchange', () => {
  if (!sessionStorage.getItem('token')) refresh();
});
refresh();
