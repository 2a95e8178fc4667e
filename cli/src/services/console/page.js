// What all parts of the page use: elements, and how figures are written. Everything that comes from the
// server is set as text, never as HTML.
const SVG = 'http://www.w3.org/2000/svg';

export const byId = (id) => document.getElementById(id);

export function element(name, text, className) {
  const created = document.createElement(name);
  if (text !== undefined && text !== null) created.textContent = text;
  if (className) created.className = className;
  return created;
}

export function svg(name, attributes = {}, ...children) {
  const created = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) created.setAttribute(key, value);
  created.append(...children);
  return created;
}

export function row(...cells) {
  const created = element('tr');
  created.append(...cells);
  return created;
}

export const number = (value) =>
  (value === undefined || value === null ? '' : value.toLocaleString('en'));

export const counted = (value, word) => `${number(value)} ${word}${value === 1 ? '' : 's'}`;

export function bytes(value) {
  if (value === undefined || value === null) return '';
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value < 10 && unit > 0 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

export function duration(seconds) {
  if (seconds === undefined || seconds === null) return '';
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}
