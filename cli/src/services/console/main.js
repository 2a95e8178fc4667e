// The console: signs in, and refreshes the view that is shown.
import { Refused, ask, forgetToken, keepToken, token } from './api.js';
import { showCharts } from './charts.js';
import { editor } from './editor.js';
import { byId, element } from './page.js';
import { showFacts, showTables } from './state.js';

// The state is in the header of every view, so it is always asked for.
const STATE_INTERVAL_MS = 2000;
const VIEWS = { state: undefined, config: editor };

let timers = [];
let starts = 0;

function viewName() {
  const name = location.hash.slice(1);
  return name in VIEWS ? name : 'state';
}

function showView() {
  const shown = viewName();
  for (const name of Object.keys(VIEWS)) {
    byId(`view-${name}`).hidden = name !== shown;
    const link = byId(`link-${name}`);
    if (name === shown) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
}

function setState(text, className = '') {
  byId('state').textContent = text;
  byId('state').className = className;
}

function showState(state) {
  setState(state.healthy ? 'healthy' : 'not healthy', state.healthy ? 'good' : 'bad');
  byId('problems').replaceChildren(
    ...(state.problems ?? []).map((text) => element('li', text, 'problem')),
    ...(state.warnings ?? []).map((text) => element('li', text, 'warning')),
  );
  showCharts(state);
  showFacts(state);
  showTables(state);
}

async function refreshState() {
  showState((await ask('/api/admin/v1/diagnostics')).tidewater);
}

// Repeats a refresh until the page is left or the token is refused.
function repeat(refresh, intervalMs) {
  const state = { timer: undefined, isOver: false };
  timers.push(state);
  const run = async () => {
    try {
      await refresh();
    } catch (error) {
      if (state.isOver) return;
      if (error instanceof Refused) {
        askForToken(error.message);
        return;
      }
      setState(`no answer: ${error.message}`, 'bad');
    }
    if (!state.isOver) state.timer = setTimeout(run, intervalMs);
  };
  return run();
}

function stop() {
  for (const state of timers) {
    state.isOver = true;
    clearTimeout(state.timer);
  }
  timers = [];
}

function askForToken(reason) {
  stop();
  forgetToken();
  byId('report').hidden = true;
  byId('views').hidden = true;
  byId('sign-in').hidden = false;
  byId('refused').textContent = reason;
  setState('signed out');
  byId('token').focus();
}

async function start() {
  stop();
  starts += 1;
  const mine = starts;
  if (!token()) {
    askForToken('');
    return;
  }
  await repeat(refreshState, STATE_INTERVAL_MS);
  // Another view may have been chosen meanwhile.
  if (mine !== starts || !token()) return;
  byId('sign-in').hidden = true;
  byId('report').hidden = false;
  byId('views').hidden = false;
  showView();
  const view = VIEWS[viewName()];
  if (view) repeat(view.refresh, view.intervalMs);
}

byId('sign-in').addEventListener('submit', (event) => {
  event.preventDefault();
  keepToken(byId('token').value);
  byId('token').value = '';
  start();
});
addEventListener('hashchange', start);
start();
