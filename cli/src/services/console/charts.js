// Charts of the last ten minutes. They begin when the page is opened.
import { byId, bytes, element, number, svg } from './page.js';

// Ten minutes.
const POINTS_MAX = 300;

class Chart {
  constructor(title, format) {
    this.format = format;
    this.points = [];
    this.value = element('strong');
    this.line = svg('polyline');
    const picture = svg('svg', {
      viewBox: `0 0 ${POINTS_MAX} 100`,
      preserveAspectRatio: 'none',
      'aria-hidden': 'true',
    }, this.line);
    const figure = element('figure');
    figure.append(element('figcaption', title), this.value, picture);
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

// A position in the WAL, as a number: `0/1A2B3C4`.
function position(lsn) {
  if (!lsn) return undefined;
  const [high, low] = lsn.split('/').map((part) => parseInt(part, 16));
  return high * 2 ** 32 + low;
}

export function showCharts(state) {
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
