// The picture of a sync config: streams, lookups, buckets and tables in columns, and what leads from one to
// the other. It is one stop of the Tab key; the arrow keys move within it.
import { element, svg } from './page.js';

const WIDTH = 200;
const LINE = 15;
const LINES_MAX = 4;
const CHARS_MAX = 30;
const COLUMN_GAP = 80;
const ROW_GAP = 14;
const HEAD = 28;
const SWEEPS = 4;
const TITLES = { stream: 'streams', lookup: 'lookups', buckets: 'buckets', table: 'tables' };

let pictures = 0;

export class Picture {
  // Shows a picture in `parent`, and its text beside it.
  constructor(parent, data) {
    pictures += 1;
    this.marker = `arrow-${pictures}`;
    this.nodes = data.nodes.map((node, at) => ({ ...node, at, into: [], out: [] }));
    this.edges = data.edges;
    for (const edge of this.edges) {
      this.nodes[edge.from].out.push(edge);
      this.nodes[edge.to].into.push(edge);
    }
    this.arrange();
    this.chosen = element('div', undefined, 'chosen');
    this.chosen.setAttribute('aria-live', 'polite');
    const frame = element('div', undefined, 'picture');
    frame.append(this.draw());
    const parts = [frame, this.chosen, this.text()];
    if (!data.is_complete) {
      parts.unshift(element('p', 'The config is too large for a picture: this is a part of it.', 'warning'));
    }
    parent.replaceChildren(...parts);
  }

  // Puts each node into a column and a row. Lookups that read other lookups are further right.
  arrange() {
    const depth = (node, seen) => {
      if (node.kind !== 'lookup' || seen.has(node)) return 0;
      const before = node.into.map((edge) => depth(this.nodes[edge.from], new Set([...seen, node])));
      return 1 + Math.max(0, ...before);
    };
    const depths = this.nodes.map((node) => depth(node, new Set()));
    const lookups = Math.max(0, ...depths);
    const place = { stream: () => 0, lookup: (node) => depths[node.at], buckets: () => lookups + 1,
      table: () => lookups + 2 };
    this.columns = Array.from({ length: lookups + 3 }, () => []);
    for (const node of this.nodes) {
      node.column = place[node.kind](node);
      node.row = this.columns[node.column].push(node) - 1;
      node.height = 12 + LINE * Math.min(LINES_MAX, node.label.length);
    }
    for (let sweep = 0; sweep < SWEEPS; sweep += 1) this.columns.forEach((column) => this.sort(column));
    for (const [at, column] of this.columns.entries()) {
      let y = HEAD;
      for (const node of column) {
        node.x = at * (WIDTH + COLUMN_GAP) + 2;
        node.y = y;
        y += node.height + ROW_GAP;
      }
    }
  }

  // Sorts a column by the mean row of the neighbours, so that few lines cross.
  sort(column) {
    const mean = (node) => {
      const rows = [
        ...node.into.map((edge) => this.nodes[edge.from]),
        ...node.out.map((edge) => this.nodes[edge.to]),
      ].map((other) => other.row / Math.max(1, this.columns[other.column].length));
      return rows.length === 0 ? node.row : rows.reduce((sum, one) => sum + one, 0) / rows.length;
    };
    const means = new Map(column.map((node) => [node, mean(node)]));
    column.sort((a, b) => means.get(a) - means.get(b) || a.at - b.at);
    column.forEach((node, at) => { node.row = at; });
  }

  draw() {
    const width = this.columns.length * (WIDTH + COLUMN_GAP) - COLUMN_GAP + 4;
    const height = Math.max(...this.nodes.map((node) => node.y + node.height), HEAD) + 4;
    this.svg = svg('svg', { width, height, viewBox: `0 0 ${width} ${height}`, role: 'group',
      'aria-label': 'Picture of the sync config: use the arrow keys' });
    this.svg.append(svg('defs', {}, svg('marker', { id: this.marker, viewBox: '0 0 8 8', refX: 8, refY: 4,
      markerWidth: 7, markerHeight: 7, orient: 'auto-start-reverse' }, svg('path', { d: 'M0 0 8 4 0 8z' }))));
    for (const [at, column] of this.columns.entries()) {
      if (column.length === 0) continue;
      const title = svg('text', { x: at * (WIDTH + COLUMN_GAP) + 2, y: 14, class: 'title' });
      title.textContent = TITLES[column[0].kind];
      this.svg.append(title);
    }
    for (const edge of this.edges) this.svg.append(this.line(edge));
    for (const node of this.nodes) this.svg.append(this.box(node));
    this.reachable(this.columns.flat()[0]);
    this.svg.addEventListener('keydown', (event) => this.onKey(event));
    return this.svg;
  }

  line(edge) {
    const from = this.nodes[edge.from];
    const to = this.nodes[edge.to];
    const isRight = to.column > from.column;
    const start = [isRight ? from.x + WIDTH : from.x, from.y + from.height / 2];
    const end = [isRight ? to.x : to.x + WIDTH, to.y + to.height / 2];
    const bend = (isRight ? 1 : -1) * COLUMN_GAP * 0.6;
    edge.path = svg('path', {
      d: `M${start} C${start[0] + bend} ${start[1]} ${end[0] - bend} ${end[1]} ${end}`,
      class: edge.is_absence ? 'edge absence' : 'edge',
      'marker-end': `url(#${this.marker})`,
    });
    return edge.path;
  }

  box(node) {
    const group = svg('g', { class: `node ${node.kind}`, tabindex: -1, role: 'img',
      'aria-label': node.label.join(', '), transform: `translate(${node.x} ${node.y})` });
    group.append(svg('rect', { width: WIDTH, height: node.height, rx: node.kind === 'stream' ? 16 : 3 }));
    node.label.slice(0, LINES_MAX).forEach((line, at) => {
      const text = svg('text', { x: 10, y: 18 + at * LINE, class: at === 0 ? 'name' : '' });
      text.textContent = line.length > CHARS_MAX ? `${line.slice(0, CHARS_MAX - 1)}…` : line;
      group.append(text);
    });
    group.addEventListener('focus', () => this.choose(node));
    group.addEventListener('click', () => group.focus());
    node.group = group;
    return group;
  }

  // Makes one node the stop of the Tab key.
  reachable(node) {
    for (const other of this.nodes) other.group.setAttribute('tabindex', other === node ? 0 : -1);
  }

  onKey(event) {
    const node = this.nodes.find((one) => one.group === document.activeElement);
    if (!node) return;
    const steps = { ArrowDown: 1, ArrowUp: -1 };
    const sides = { ArrowRight: 1, ArrowLeft: -1 };
    let next;
    if (event.key in steps) next = this.columns[node.column][node.row + steps[event.key]];
    if (event.key in sides) next = this.beside(node, sides[event.key]);
    if (!next) return;
    event.preventDefault();
    next.group.focus();
  }

  // Returns the nearest neighbour on a side: a connected one if there is one.
  beside(node, side) {
    const isThere = (other) => Math.sign(other.column - node.column) === side;
    const connected = [
      ...node.out.map((edge) => this.nodes[edge.to]),
      ...node.into.map((edge) => this.nodes[edge.from]),
    ].filter(isThere);
    const distance = (other) =>
      Math.abs(other.column - node.column) * 10000 + Math.abs(other.y - node.y);
    const candidates = connected.length > 0 ? connected : this.nodes.filter(isThere);
    return candidates.sort((a, b) => distance(a) - distance(b))[0];
  }

  // Shows what leads to a node and what follows from it, and says it.
  choose(node) {
    this.reachable(node);
    const lit = new Set();
    const walk = (at, edgesOf, endOf) => {
      for (const edge of edgesOf(at)) {
        if (lit.has(edge)) continue;
        lit.add(edge);
        walk(this.nodes[endOf(edge)], edgesOf, endOf);
      }
    };
    walk(node, (one) => one.into, (edge) => edge.from);
    walk(node, (one) => one.out, (edge) => edge.to);
    const nodes = new Set([node, ...[...lit].flatMap((edge) => [this.nodes[edge.from], this.nodes[edge.to]])]);
    this.svg.classList.add('has-choice');
    for (const edge of this.edges) edge.path.classList.toggle('lit', lit.has(edge));
    for (const other of this.nodes) other.group.classList.toggle('lit', nodes.has(other));
    this.chosen.replaceChildren(element('strong', node.label.join(', ')), this.list(node));
  }

  // Returns the edges of a node in words.
  list(node) {
    const list = element('ul');
    const name = (at) => this.nodes[at].label[0];
    const words = (edge) => (edge.label.length > 0 ? `: ${edge.label.join(', ')}` : '');
    for (const edge of node.into) list.append(element('li', `from ${name(edge.from)}${words(edge)}`));
    for (const edge of node.out) list.append(element('li', `to ${name(edge.to)}${words(edge)}`));
    return list;
  }

  // Returns the whole picture in words.
  text() {
    const details = element('details');
    details.append(element('summary', 'The picture in words'));
    const list = element('ul');
    for (const node of this.columns.flat()) {
      const item = element('li', node.label.join(', '));
      item.append(this.list(node));
      list.append(item);
    }
    details.append(list);
    return details;
  }
}
