// The sync config: an editor that checks as you type, the picture of the text, and its deployment.
import { ask } from './api.js';
import { byId, counted, element } from './page.js';
import { Picture } from './picture.js';

// Pause of typing after which the text is checked.
const PAUSE_MS = 400;

const DIAGNOSTICS = '/api/admin/v1/diagnostics';
const NO_DEPLOYMENT = 'This server has no ingest worker and deploys nothing. Copy the text into the file of '
  + '--sync-config of `tidewater ingest`: with --watch it is used at once, else restart the worker.';

const text = byId('config-text');
let inUse;
let timer;
let check;
// The text that was found valid last.
let valid;

// Reads the config that is deployed last. The text is replaced if nobody has changed it.
async function load() {
  const state = await ask(DIAGNOSTICS, { sync_rules_content: true });
  const rules = state.deploying_sync_rules ?? state.active_sync_rules;
  // The text area has these line ends only.
  const content = (rules?.content ?? '').replaceAll('\r\n', '\n');
  const isUnchanged = inUse === undefined || text.value === inUse;
  const hasMoved = inUse !== undefined && inUse !== content;
  inUse = content;
  if (isUnchanged && text.value !== content) {
    text.value = content;
    await validate();
  }
  byId('config-source').textContent = state.deploying_sync_rules
    ? 'This is the config that is being deployed: its tables are being copied.'
    : 'This is the config in use.';
  byId('cannot-deploy').textContent = state.server?.deploys ? '' : NO_DEPLOYMENT;
  byId('deploy').hidden = !state.server?.deploys;
  showButtons();
  return hasMoved;
}

function showButtons() {
  const isChanged = inUse !== undefined && text.value !== inUse;
  byId('revert').disabled = !isChanged;
  byId('deploy').disabled = !isChanged || valid !== text.value;
}

function onInput() {
  // An answer to a former text would be wrong by now.
  check?.abort();
  clearTimeout(timer);
  timer = setTimeout(validate, PAUSE_MS);
  setVerdict('checking');
  showButtons();
}

function setVerdict(words, className = '') {
  byId('verdict').textContent = words;
  byId('verdict').className = className;
}

async function validate() {
  check?.abort();
  const mine = new AbortController();
  check = mine;
  const content = text.value;
  try {
    const [report, drawn] = await Promise.all([
      ask('/api/admin/v1/validate', { sync_rules: content }, mine.signal),
      ask('/api/admin/v1/picture', { sync_rules: content }, mine.signal),
    ]);
    if (mine.signal.aborted) return;
    showFindings(report.errors, content);
    if (drawn.picture) new Picture(byId('config-picture'), drawn.picture);
  } catch (error) {
    if (!mine.signal.aborted) setVerdict(`not checked: ${error.message}`, 'bad');
  }
}

function showFindings(findings, content) {
  const errors = findings.filter((finding) => finding.level === 'fatal').length;
  valid = errors === 0 ? content : undefined;
  setVerdict(errors === 0 ? 'valid' : counted(errors, 'error'), errors === 0 ? 'good' : 'bad');
  byId('findings').replaceChildren(...findings.map((finding) => {
    const item = element('li', undefined, finding.level === 'fatal' ? 'problem' : 'warning');
    if (finding.line) {
      const button = element('button', finding.message);
      button.type = 'button';
      button.addEventListener('click', () => jumpTo(finding.line, finding.column));
      item.append(button);
    } else {
      item.textContent = finding.message;
    }
    return item;
  }));
  text.setAttribute('aria-invalid', errors > 0);
  showButtons();
}

// Places the cursor at a line and column, which count from 1, and scrolls there.
function jumpTo(line, column) {
  const lines = text.value.split('\n');
  const before = lines.slice(0, line - 1).reduce((length, one) => length + one.length + 1, 0);
  const characters = [...(lines[line - 1] ?? '')].slice(0, column - 1).join('').length;
  text.focus();
  text.setSelectionRange(before + characters, before + characters);
  text.scrollTop = Math.max(0, (text.scrollHeight / Math.max(1, lines.length)) * (line - 4));
  showCursor();
}

function showCursor() {
  const lines = text.value.slice(0, text.selectionStart).split('\n');
  byId('cursor').textContent = `line ${lines.length}, column ${[...lines.at(-1)].length + 1}`;
}

async function confirmDeployment() {
  try {
    const hasMoved = await load();
    byId('deploy-warning').textContent = hasMoved
      ? 'Somebody has deployed another config since you opened this page. Yours replaces it.' : '';
    byId('deploy-dialog').showModal();
  } catch (error) {
    setVerdict(error.message, 'bad');
  }
}

async function deploy() {
  byId('deploy-dialog').close();
  const content = text.value;
  try {
    await ask('/api/sync-rules/v1/deploy', content);
    inUse = content;
    setVerdict('deployed: devices have it when its tables are copied', 'good');
  } catch (error) {
    setVerdict(error.message, 'bad');
  }
  showButtons();
}

text.addEventListener('input', onInput);
document.addEventListener('selectionchange', () => {
  if (document.activeElement === text) showCursor();
});
byId('revert').addEventListener('click', () => {
  text.value = inUse;
  onInput();
});
byId('deploy').addEventListener('click', confirmDeployment);
byId('deploy-now').addEventListener('click', deploy);
byId('deploy-not').addEventListener('click', () => byId('deploy-dialog').close());

export const editor = { refresh: load, intervalMs: 5000 };
